/**
 * Forms a disk: superblock, zero-filled journal, empty index; and gives up a disk whose journal or
 * index is lost, by a new incarnation with the old files kept aside. Never on the write path.
 *
 * INVARIANT: a superblock that says `forming` is durable before anything else is touched, and says
 * `ready` only when everything else is durable; a start finishes what a crash cut short.
 */
import { asFault, HoldfastError, invalid } from '../core/errors.js';
import { type Incarnation, idFromBytes } from '../core/ids.js';
import { JOURNAL_MIN_BYTES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Disk, DiskDone } from '../io/disk.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { syncDirectories, withFile, zeroFill } from './disk-steps.js';
import { INDEX_PATHS, writeIndex } from './index-file.js';
import { encodeIndex } from './index-snapshot.js';
import {
  DISK_FORMAT_MIN,
  encodeSuperblock,
  isUnfinishedSuperblock,
  SUPERBLOCK_BYTES,
  type Superblock,
} from './superblock.js';

const SUPERBLOCK = 'superblock';
const JOURNAL = 'journal';
/** What stands beside a superblock that was durable once. */
const FORMED = [JOURNAL, ...INDEX_PATHS, 'segments', 'lost'] as const;
const FIRST_LAP = 1;
const FIRST_SEQUENCE = 1;

export function newIncarnation(random: Random): Incarnation {
  return idFromBytes<Incarnation>(random.bytes(16));
}

/**
 * Forms an empty disk, or one on which a power cut left nothing but the beginning of that.
 * ALREADY_EXISTS when anything else of ours is there.
 */
export function formatDisk(
  disk: Disk,
  identity: Pick<Superblock, 'cluster' | 'node' | 'journalBytes'>,
  random: Random,
  done: (error: HoldfastError | null, incarnation: Incarnation | null) => void,
): void {
  const { journalBytes } = identity;
  if (journalBytes < JOURNAL_MIN_BYTES || journalBytes % (2 * PAGE_BYTES) !== 0) {
    done(invalid(`a journal of ${journalBytes} bytes is too small or no multiple of 8192`), null);
    return;
  }
  try {
    const found = [...FORMED, SUPERBLOCK].find((path) => disk.exists(path));
    if (found !== undefined && !(found === SUPERBLOCK && isUnfinished(disk))) {
      const hint =
        'A formatted disk is used as it is; to start anew, empty the directory yourself.';
      const message = `${disk.name} already holds ${found}`;
      done(new HoldfastError('ALREADY_EXISTS', message, { hint }), null);
      return;
    }
  } catch (error) {
    done(asFault(error, 'DISK_FAILED'), null);
    return;
  }
  const incarnation = newIncarnation(random);
  const block = { ...identity, format: DISK_FORMAT_MIN, incarnation, forming: true };
  writeSuperblock(disk, block, (error) => {
    if (error !== null) done(error, null);
    else completeForming(disk, block, (failure) => done(failure, failure ? null : incarnation));
  });
}

function isUnfinished(disk: Disk): boolean {
  const file = disk.open(SUPERBLOCK, 'never');
  try {
    const bytes = Buffer.alloc(Math.min(file.size(), SUPERBLOCK_BYTES + 1));
    file.readSync(bytes, 0);
    return isUnfinishedSuperblock(bytes);
  } finally {
    file.close();
  }
}

/** Announces a new life of a disk whose data is lost; completeForming does the rest. */
export function abandonDisk(
  disk: Disk,
  block: Superblock,
  random: Random,
  done: (error: HoldfastError | null, block: Superblock) => void,
): void {
  const next: Superblock = { ...block, incarnation: newIncarnation(random), forming: true };
  writeSuperblock(disk, next, (error) => done(error, next));
}

/** Does what a superblock that says `forming` announces. May be repeated. */
export function completeForming(disk: Disk, block: Superblock, done: DiskDone): void {
  try {
    keepAside(disk, block.incarnation);
    disk.makeDirectory('segments');
  } catch (error) {
    done(asFault(error, 'DISK_FAILED'));
    return;
  }
  const { incarnation, journalBytes } = block;
  const start = { incarnation, lap: FIRST_LAP, sequence: FIRST_SEQUENCE, amnesia: false };
  const steps: ((next: DiskDone) => void)[] = [
    (next) =>
      withFile(
        disk,
        JOURNAL,
        'maybe',
        (file, finish) => zeroFill(file, journalBytes, finish),
        next,
      ),
    (next) => writeIndex(disk, 1, [Buffer.alloc(PAGE_BYTES)], next),
    (next) => writeIndex(disk, 0, encodeIndex(start, []), next),
    (next) => syncDirectories(disk, [''], next),
    (next) => writeSuperblock(disk, { ...block, forming: false }, next),
  ];
  runSteps(steps, done);
}

function runSteps(steps: readonly ((next: DiskDone) => void)[], done: DiskDone): void {
  const run = (at: number, error: HoldfastError | null): void => {
    const step = steps[at];
    if (error !== null || step === undefined) done(error);
    else step((failure) => run(at + 1, failure));
  };
  run(0, null);
}

/**
 * Moves a former life's files to a directory named after the life that begins. A file of the life
 * that is being formed may be moved as well when a crash cut forming short: it holds nothing.
 */
function keepAside(disk: Disk, incarnation: Incarnation): void {
  const old = [JOURNAL, ...INDEX_PATHS, 'segments'].filter((path) => disk.exists(path));
  if (old.length === 0) return;
  const place = `lost/before-${incarnation}`;
  disk.makeDirectory(place);
  for (const path of old) {
    if (!disk.exists(`${place}/${path}`)) disk.rename(path, `${place}/${path}`);
  }
}

/** Writes both copies, each flushed before the next is touched. */
export function writeSuperblock(disk: Disk, block: Superblock, done: DiskDone): void {
  const page = encodeSuperblock(block);
  withFile(
    disk,
    SUPERBLOCK,
    'maybe',
    (file, finish) => {
      file.writeSync([page], 0);
      file.datasync(false, (error) => {
        if (error !== null) return finish(error);
        try {
          file.writeSync([page], PAGE_BYTES);
        } catch (thrown) {
          return finish(asFault(thrown, 'DISK_FAILED'));
        }
        file.datasync(false, (failure) => {
          if (failure !== null) finish(failure);
          else syncDirectories(disk, [''], finish);
        });
      });
    },
    done,
  );
}

/**
 * Which programs may open a disk: its format, raised and durable before anything is written that
 * older programs would misread. So until then a node may go back to the version before.
 */
export class DiskFormat {
  readonly #disk: Disk;
  readonly #log: Log;
  #block: Superblock;
  #waiting: DiskDone[] = [];

  constructor(disk: Disk, log: Log, block: Superblock) {
    this.#disk = disk;
    this.#log = log;
    this.#block = block;
  }

  /** Calls `done` once the superblock says at least `format`, perhaps before this call returns. */
  raise(format: number, done: DiskDone): void {
    if (this.#block.format >= format) {
      done(null);
      return;
    }
    this.#waiting.push(done);
    if (this.#waiting.length > 1) return;
    const block = { ...this.#block, format };
    writeSuperblock(this.#disk, block, (error) => {
      if (error === null) {
        this.#block = block;
        const fields = { disk: this.#disk.name, format };
        this.#log.info(fields, 'Raised the format of the disk: older programs refuse it now.');
      }
      for (const waiting of this.#waiting.splice(0)) waiting(error);
    });
  }
}
