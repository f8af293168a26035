/**
 * An owner's life with the volume mounted on it: the real volume layer over the real log, a
 * workload of small files, checkpoints and cleaning. After each takeover the files must be a prefix
 * of the calls with all that was fsynced (15); nothing that lives is given up (13); root and log
 * give the live state (14).
 */
import type { BatchEntry } from '../../src/block/wire/batch.js';
import { crc32 } from '../../src/core/checksum.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { KIB } from '../../src/core/units.js';
import type { VolumeOwner } from '../../src/replication/owner-api.js';
import type { AppendDone } from '../../src/replication/service.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import { FsError } from '../../src/volume/filesystem-api.js';
import { logRoots } from '../../src/volume/log-roots.js';
import { mountVolume } from '../../src/volume/mount.js';
import { compareWithLog } from '../fixtures/compare-with-log.js';
import type { FileWorkload } from '../fixtures/file-workload.js';
import type { OwnerProcess } from './owner-process.js';
import { short, Violation } from './violation.js';

const LOG_BYTES = 600 * KIB;
const COMMIT_INTERVAL_MS = 400;
const SIZE_BYTES = 1 << 30;
/** After so many steps of a volume its owners take ten times as long for one. */
const STEPS_BEFORE_SLOWING = 300;

type Done = (error: FsError | HoldfastError | null) => void;

export class MountedLife {
  readonly #process: OwnerProcess;
  readonly #files: FileWorkload;
  readonly #epoch: number;
  #fs: VolumeFilesystem | null = null;
  /** Mounted, and the files were found as they should be. */
  #ready = false;
  #ended = false;

  constructor(process: OwnerProcess, files: FileWorkload, epoch: number) {
    this.#process = process;
    this.#files = files;
    this.#epoch = epoch;
  }

  begin(): void {
    const { world, owner, process } = this.#process;
    const options = {
      owner: this.#observed(),
      roots: logRoots(owner),
      clock: process.clock,
      sizeBytes: SIZE_BYTES,
      checkpointLimits: { logBytes: LOG_BYTES },
      commitIntervalMs: COMMIT_INTERVAL_MS,
      cachePages: 16,
    };
    mountVolume(options, (error, fs) => {
      world.hit(`mount.${error === null ? 'ok' : error.code}`);
      if (fs === null) {
        this.#failed(error);
        return;
      }
      this.#fs = fs;
      this.#recover(fs);
    });
  }

  /** The owner as the volume sees it; what it acknowledges goes to the checkers. */
  #observed(): VolumeOwner {
    const { world, owner, volume } = this.#process;
    const append = (entry: BatchEntry, done: AppendDone): boolean => {
      const crc = crc32(entry.record);
      return owner.append(entry, (error, appended) => {
        if (appended !== null) {
          world.hit('acks');
          const { now } = world.scheduler;
          world.checkers.acknowledged(volume.id, this.#epoch, crc, appended, now);
          world.moment('ack');
        }
        done(error, appended);
      });
    };
    return new Proxy<VolumeOwner>(owner, {
      get: (target, name) => {
        if (name === 'append') return append;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  #recover(fs: VolumeFilesystem): void {
    const { world, volume } = this.#process;
    if (this.#epoch < volume.filesEpoch) return;
    volume.filesEpoch = this.#epoch;
    this.#files.recovered(fs, (error) => {
      if (error !== null) {
        this.#failed(error);
        return;
      }
      world.hit('filesystem.recovered');
      this.#ready = true;
      this.#schedule();
    });
  }

  /** A fault of the moment: another owner tries again. What was deleted must not be missed. */
  #failed(error: FsError | HoldfastError | null): void {
    const { world, name } = this.#process;
    this.#ended = true;
    const code = error instanceof HoldfastError ? error.code : null;
    if (code === 'NOT_FOUND' || code === 'MALFORMED' || code === 'INCONSISTENT') {
      const invariant = code === 'NOT_FOUND' ? 13 : 14;
      world.checkers.fail(new Violation(invariant, `${name} cannot mount: ${error?.message}`));
    }
    this.#process.kill();
  }

  /** A newer owner goes on with the files: this one must not, though it may not know yet. */
  get #isCurrent(): boolean {
    return this.#ready && !this.#ended && this.#epoch === this.#process.volume.filesEpoch;
  }

  #schedule(): void {
    const { world, volume, process, random } = this.#process;
    const fast = volume.nextOp < STEPS_BEFORE_SLOWING && world.chaos;
    process.after(random.exponential(world.spec.appendMs * (fast ? 1 : 10)), () => {
      if (!this.#process.serving || !this.#isCurrent) return;
      volume.nextOp += 1;
      this.#step(() => this.#schedule());
    });
  }

  #step(done: Done): void {
    this.#guarded(done, (fs) => this.#files.step(fs, done));
  }

  #guarded(done: Done, call: (fs: VolumeFilesystem) => void): void {
    try {
      if (this.#fs !== null && this.#isCurrent) call(this.#fs);
      else done(new HoldfastError('CLOSED', 'not mounted'));
    } catch (thrown) {
      if (!(thrown instanceof FsError)) throw thrown;
      done(thrown);
    }
  }

  /** For the liveness checks: calls back when something new was fsynced. */
  fsyncOnce(done: () => void): void {
    const ended: Done = (error) => {
      if (error === null) done();
    };
    this.#guarded(ended, (fs) => this.#files.fsync(fs, ended));
  }

  /** Whether this mount has something in the segment. */
  holds(segment: SegmentId): boolean {
    const segments = this.#fs?.state.segments;
    const use = segments?.at(segments.known(segment)) ?? null;
    return this.#isCurrent && use !== null && use.livePages + use.imageBytes > 0;
  }

  /** Compares the live state with what root and log give. */
  verify(done: Done): void {
    const { world, owner, name } = this.#process;
    this.#guarded(done, (fs) => {
      const { scheduler } = world;
      const live = { scheduler, fs, owner, roots: logRoots(owner), sizeBytes: SIZE_BYTES };
      compareWithLog(live, (error, same) => {
        if (error === null && !same) {
          world.checkers.fail(new Violation(14, `root and log do not give ${name}'s state`));
        }
        if (error === null) world.hit('filesystem.verified');
        done(error);
      });
    });
  }

  /** Commits and lets go. */
  release(done: () => void): void {
    this.#guarded(done, (fs) =>
      fs.commit(() => {
        this.#ended = true;
        done();
      }),
    );
  }

  /** A swap gives these segments up. */
  givesUp(segments: readonly SegmentId[]): void {
    for (const segment of segments) {
      if (!this.holds(segment)) continue;
      const what = `${short(segment)} is given up, ${this.#process.name} has pages in it`;
      this.#process.world.checkers.fail(new Violation(13, what));
    }
  }
}
