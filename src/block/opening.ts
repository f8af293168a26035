/**
 * Opens a disk: reads superblock, index and journal, replays the journal into the segment files,
 * walks what lies beyond, and leaves a fresh index, so that the journal starts empty. The decisions
 * are recovery.ts and the table in ARCHITECTURE.md; here is the I/O.
 *
 * INVARIANT: what was found is flushed before it is reported as durable.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import type { ClusterId, Incarnation, NodeId, SegmentId } from '../core/ids.js';
import type { Disk, DiskFile } from '../io/disk.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { assertBadSectors } from './disk-steps.js';
import { abandonDisk, completeForming, writeSuperblock } from './forming.js';
import { readIndex, writeIndex } from './index-file.js';
import { encodeIndex, type Index } from './index-snapshot.js';
import { scanJournal } from './journal-scan.js';
import { Replay } from './replay.js';
import type { Segment } from './replica-state.js';
import { SegmentFiles } from './segment-files.js';
import { readSuperblock, type Superblock } from './superblock.js';

export interface OpenOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly log: Log;
  readonly cluster: ClusterId;
  readonly node: NodeId;
  readonly openFiles: { readonly files: number; readonly tables: number };
  /** A background flush failed. */
  readonly onFailure: (error: HoldfastError) => void;
}

/** A disk that is ready to serve. */
export interface Recovered {
  readonly superblock: Superblock;
  readonly segments: Map<SegmentId, Segment>;
  readonly files: SegmentFiles;
  readonly journalFile: DiskFile;
  readonly amnesia: boolean;
  /** The journal's next lap and sequence. */
  readonly lap: number;
  readonly sequence: number;
  /** The index slot to write next. */
  readonly slot: 0 | 1;
}

/**
 * `incarnation` is that of a disk which is known to be the one meant although it cannot be opened
 * now; null when it is not known, and when it was opened.
 */
type Done = (
  error: HoldfastError | null,
  recovered: Recovered | null,
  incarnation: Incarnation | null,
) => void;

/**
 * Opens a disk; one bad copy of superblock or index is written anew. NOT_FOUND when it was never
 * formatted, WRONG_CLUSTER, WRONG_NODE, MALFORMED (both
 * copies of the superblock are bad), VERSION, or what the disk says; nothing has been changed then
 * but by a replay that the next attempt repeats.
 */
export function openDisk(options: OpenOptions, done: Done): void {
  new Opening(options, done).start();
}

class Opening {
  readonly #options: OpenOptions;
  readonly #done: Done;
  readonly #files: SegmentFiles;
  #journal: DiskFile | null = null;
  /** The superblock, once it is known to be that of the disk meant. */
  #found: Superblock | null = null;

  constructor(options: OpenOptions, done: Done) {
    this.#options = options;
    this.#done = done;
    this.#files = new SegmentFiles(options.disk, options.openFiles, options.onFailure);
  }

  start(): void {
    this.#guard(() => {
      const { disk, cluster, node, log } = this.#options;
      if (!disk.exists('superblock')) {
        const hint = 'Format it first: holdfast disk format.';
        throw new HoldfastError('NOT_FOUND', `${disk.name} is not a formatted disk`, { hint });
      }
      const { block, damaged } = this.#readSuperblock();
      if (block.cluster !== cluster) {
        throw new HoldfastError(
          'WRONG_CLUSTER',
          `${disk.name} belongs to cluster ${block.cluster}`,
        );
      }
      if (block.node !== node) {
        throw new HoldfastError('WRONG_NODE', `${disk.name} belongs to node ${block.node}`);
      }
      this.#found = block;
      if (!damaged) return this.#superblock(block);
      log.warn({ disk: disk.name }, 'one copy of the superblock was bad; it is written anew');
      writeSuperblock(disk, block, (error) => this.#then(error, () => this.#superblock(block)));
    });
  }

  #readSuperblock(): ReturnType<typeof readSuperblock> {
    const file = this.#options.disk.open('superblock', 'never');
    try {
      return readSuperblock((into, position) => file.readSync(into, position));
    } finally {
      file.close();
    }
  }

  #superblock(block: Superblock): void {
    this.#found = block;
    if (!block.forming) {
      this.#index(block);
      return;
    }
    completeForming(this.#options.disk, block, (error) =>
      this.#then(error, () => this.#index({ ...block, forming: false })),
    );
  }

  #index(block: Superblock): void {
    const { disk } = this.#options;
    const found = readIndex(disk, block.incarnation);
    if (found === null) {
      this.#lost(block, 'both copies of the index are bad');
      return;
    }
    if (!disk.exists('journal')) {
      this.#lost(block, 'the journal is missing');
      return;
    }
    const journal = disk.open('journal', 'never');
    this.#journal = journal;
    if (journal.size() < block.journalBytes) {
      this.#lost(block, 'the journal is cut short');
      return;
    }
    this.#scan(block, found.index, found.slot, journal);
  }

  /** Index or journal are lost: a new life, with the old files kept aside. */
  #lost(block: Superblock, reason: string): void {
    const { disk, random, log } = this.#options;
    log.error(
      { disk: disk.name, incarnation: block.incarnation, reason },
      'disk has lost its data',
    );
    this.#journal?.close();
    abandonDisk(disk, block, random, (error, next) =>
      this.#then(error, () => this.#superblock(next)),
    );
  }

  #scan(block: Superblock, index: Index, slot: 0 | 1, file: DiskFile): void {
    const { incarnation, journalBytes } = block;
    const scan = {
      file,
      incarnation,
      journalBytes,
      fromLap: index.lap,
      fromSequence: index.sequence,
    };
    scanJournal(scan, (error, found) =>
      this.#then(error, () => {
        if (found === null) return;
        const { disk, log } = this.#options;
        if (found.unreadable.length > 0) assertBadSectors(disk, file, found.unreadable);
        const replay = new Replay({
          disk,
          log,
          files: this.#files,
          index,
          journal: file,
          journalBytes,
          ...found,
        });
        replay.run((failure) => this.#then(failure, () => this.#settle(block, slot, replay)));
      }),
    );
  }

  #settle(superblock: Superblock, slot: 0 | 1, replay: Replay): void {
    this.#files.settleAll((error) =>
      this.#then(error, () => {
        const { incarnation } = superblock;
        const { lap, sequence, amnesia, segments } = replay;
        const head = { incarnation, lap, sequence, amnesia };
        const parts = encodeIndex(head, segments.values());
        writeIndex(this.#options.disk, slot, parts, (failure) =>
          this.#then(failure, () => {
            const journalFile = this.#journal;
            if (journalFile === null) return;
            const next = slot === 0 ? 1 : 0;
            const files = this.#files;
            replay.removeDeleted();
            const facts = { superblock, segments, files, journalFile, amnesia, lap, sequence };
            this.#done(null, { ...facts, slot: next }, null);
          }),
        );
      }),
    );
  }

  #then(error: HoldfastError | null, next: () => void): void {
    if (error === null) this.#guard(next);
    else this.#fail(error);
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      this.#fail(error);
    }
  }

  #fail(error: HoldfastError): void {
    this.#journal?.close();
    this.#files.close();
    this.#done(asFault(error, 'DISK_FAILED'), null, this.#found?.incarnation ?? null);
  }
}
