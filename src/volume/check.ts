/**
 * Verifies a volume whose log is owned, without changing anything: loads the newest checkpoint,
 * checks the state, replays what follows, checks the state again, compares it with a replay of the
 * whole log where the log still reaches back to its beginning, and reads every page of every copy.
 * Neither formats nor ends orphans nor takes a checkpoint. What it finds is data
 * (check-findings.ts); a volume that cannot be loaded is a finding as well.
 */
import type { HoldfastError } from '../core/errors.js';
import { lsn, PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { ReplayedRecord, VolumeOwner } from '../replication/owner-api.js';
import { checkData, type SegmentEnds } from './check-data.js';
import { type Finding, Findings } from './check-findings.js';
import { type CheckedSegment, checkLost, checkPages, type PagesChecked } from './check-pages.js';
import { checkNamespace, checkTrees } from './check-state.js';
import { loadCheckpoint } from './checkpoint-loader.js';
import { Field, ROOT_SLOT } from './inode-table.js';
import { isDirectory } from './mode.js';
import { replayInto } from './mount.js';
import type { CheckpointRoot } from './root-store.js';
import { digest, VolumeState } from './state.js';

export interface CheckSource {
  /** In the state `serving`. */
  readonly owner: VolumeOwner;
  readonly clock: Clock;
  readonly root: CheckpointRoot | null;
  /** All segments of the log that hold records, in its order. */
  readonly segments: readonly CheckedSegment[];
  /** Only the structures: pages are not read, apart from those of checkpoint and records. */
  readonly withoutPages?: boolean;
  readonly onProgress?: (progress: CheckProgress) => void;
}

export type CheckProgress =
  | { readonly step: 'checkpoint' | 'structures' | 'replay' | 'history' }
  | { readonly step: 'pages'; readonly bytes: number; readonly ofBytes: number };

export interface CheckReport {
  readonly findings: readonly Finding[];
  /** Findings that the list had no room for. */
  readonly more: number;
  readonly files: number;
  readonly directories: number;
  readonly orphans: number;
  /** Space that files take, as the size limit counts it. */
  readonly usedBytes: number;
  readonly segments: number;
  /** Records behind the checkpoint. */
  readonly records: number;
  /** Read and verified, of all copies. */
  readonly bytesRead: number;
  /** Whether the log reaches back far enough to compare the checkpoint with all of it. */
  readonly comparedWithHistory: boolean;
}

type Checked = (error: HoldfastError | null, report: CheckReport | null) => void;

/** Pieces of work in one turn of the event loop. */
const PIECES_A_TURN = 4;

/**
 * `done` gets a report, or the owner's end (FENCED, CLOSED), or UNAVAILABLE when the log cannot be
 * read now: then nothing is known.
 */
export function checkVolume(source: CheckSource, done: Checked): void {
  new VolumeCheck(source, done).run();
}

class VolumeCheck {
  readonly #source: CheckSource;
  readonly #done: Checked;
  readonly #findings = new Findings();
  readonly #ends: SegmentEnds;
  #state = new VolumeState();
  #records = 0;
  #comparedWithHistory = false;

  constructor(source: CheckSource, done: Checked) {
    this.#source = source;
    this.#done = done;
    this.#ends = new Map(source.segments.map(({ segment, pages }) => [segment, pages]));
  }

  run(): void {
    const { owner, clock, root } = this.#source;
    this.#progress({ step: 'checkpoint' });
    loadCheckpoint({ owner, clock, root }, (error, loaded) => {
      if (error !== null || loaded === null) {
        this.#unloadable('the checkpoint', error);
        return;
      }
      this.#state = loaded.state;
      this.#checkImages();
      const replay = (): void => this.#replay(loaded.replayFrom);
      if (root === null) replay();
      else this.#structures(replay);
    });
  }

  #progress(progress: CheckProgress): void {
    this.#source.onProgress?.(progress);
  }

  /** Damage is a finding; that the log cannot be read now is not. */
  #unloadable(what: string, error: HoldfastError | null): void {
    const isDamage =
      error?.code === 'MALFORMED' ||
      error?.code === 'INCONSISTENT' ||
      error?.code === 'DATA_LOST' ||
      error?.code === 'NOT_FOUND';
    if (error === null || !isDamage) {
      this.#done(error, null);
      return;
    }
    this.#findings.add('checkpoint', `${what} cannot be loaded: ${error.message}`);
    this.#pages();
  }

  /** Every image stands in a segment of the log. */
  #checkImages(): void {
    const { segments } = this.#state;
    for (let slot = 1; slot < segments.slots; slot++) {
      const use = segments.at(slot);
      if (use === null || use.imageBytes === 0 || this.#ends.has(use.segment)) continue;
      this.#findings.add('checkpoint', `images in segment ${use.segment}, not in the log`);
    }
  }

  #structures(then: () => void): void {
    this.#progress({ step: 'structures' });
    const [state, findings, ends] = [this.#state, this.#findings, this.#ends];
    function* all(): Generator<void> {
      yield* checkTrees(state, findings);
      yield* checkNamespace(state, findings);
      yield* checkData(state, ends, findings);
    }
    this.#work(all(), then);
  }

  /** Runs a generator to its end, some pieces a turn. */
  #work(pieces: Generator<void>, then: () => void): void {
    for (let left = PIECES_A_TURN; left > 0; left--) {
      if (pieces.next().done !== true) continue;
      this.#source.clock.soon(then);
      return;
    }
    this.#source.clock.soon(() => this.#work(pieces, then));
  }

  #replay(from: ReturnType<typeof lsn>): void {
    this.#progress({ step: 'replay' });
    const { owner } = this.#source;
    const ended = (error: HoldfastError | null): void => {
      if (error !== null) {
        this.#unloadable('the log behind the checkpoint', error);
        return;
      }
      this.#structures(() => this.#history());
    };
    replayInto(this.#state, owner, from, ended, (_record: ReplayedRecord) => {
      this.#records += 1;
    });
  }

  /** As long as nothing was deleted the checkpoint must be what the whole log gives. */
  #history(): void {
    const { owner, root } = this.#source;
    if (root === null) {
      this.#pages();
      return;
    }
    this.#progress({ step: 'history' });
    const whole = new VolumeState();
    replayInto(whole, owner, lsn(0), (error) => {
      if (error === null) {
        this.#comparedWithHistory = true;
        if (digest(whole) !== digest(this.#state)) {
          this.#findings.add('checkpoint', 'is not what the whole log gives');
        }
      } else if (error.code !== 'INCONSISTENT') {
        // Older segments are gone: INCONSISTENT says only that.
        this.#unloadable('the log', error);
        return;
      }
      this.#pages();
    });
  }

  #pages(): void {
    const { segments, withoutPages } = this.#source;
    if (withoutPages === true) {
      this.#end({ bytes: 0, lost: new Map() });
      return;
    }
    let ofBytes = 0;
    for (const { pages, copies } of segments) ofBytes += pages * PAGE_BYTES * copies.length;
    const onProgress = (bytes: number): void => this.#progress({ step: 'pages', bytes, ofBytes });
    checkPages(segments, this.#findings, onProgress, (error, checked) => {
      if (checked === null) {
        this.#done(error, null);
        return;
      }
      const { lost } = checked;
      this.#work(checkLost(this.#state, lost, this.#findings), () => this.#end(checked));
    });
  }

  #end({ bytes }: PagesChecked): void {
    const { inodes, orphans, usedBytes } = this.#state;
    let directories = 0;
    for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
      if (isDirectory(inodes.get(slot, Field.mode))) directories += 1;
    }
    this.#done(null, {
      findings: this.#findings.all,
      more: this.#findings.more,
      files: inodes.count - directories,
      directories,
      orphans: orphans.size,
      usedBytes,
      segments: this.#source.segments.length,
      records: this.#records,
      bytesRead: bytes,
      comparedWithHistory: this.#comparedWithHistory,
    });
  }
}
