/**
 * Sequences of disk operations that several parts need: every step must succeed before the next.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import { MIB, PAGE_BYTES } from '../core/units.js';
import type { Disk, DiskDone, DiskFile } from '../io/disk.js';

/** Makes the names in each directory durable, in this order. */
export function syncDirectories(disk: Disk, paths: readonly string[], done: DiskDone): void {
  const next = (at: number, error: HoldfastError | null): void => {
    const path = paths[at];
    if (error !== null || path === undefined) {
      done(error);
      return;
    }
    try {
      disk.syncDirectory(path, (failure) => next(at + 1, failure));
    } catch (thrown) {
      done(asFault(thrown, 'DISK_FAILED'));
    }
  };
  next(0, null);
}

/** Writes `bytes` zeroes from the start of a file and flushes it. */
export function zeroFill(file: DiskFile, bytes: number, done: DiskDone): void {
  const zeroes = Buffer.alloc(Math.min(MIB, bytes));
  const next = (at: number): void => {
    if (at >= bytes) {
      file.datasync(false, done);
      return;
    }
    file.write([zeroes.subarray(0, Math.min(zeroes.length, bytes - at))], at, (error) => {
      if (error === null) next(at + zeroes.length);
      else done(error);
    });
  };
  next(0);
}

/** Opens, runs and closes; what is thrown on the way goes to `done`. */
export function withFile(
  disk: Disk,
  path: string,
  create: 'never' | 'maybe',
  work: (file: DiskFile, finish: DiskDone) => void,
  done: DiskDone,
): void {
  let file: DiskFile;
  try {
    file = disk.open(path, create);
  } catch (error) {
    done(asFault(error, 'DISK_FAILED'));
    return;
  }
  const finish: DiskDone = (error) => {
    file.close();
    done(error);
  };
  try {
    work(file, finish);
  } catch (error) {
    finish(asFault(error, 'DISK_FAILED'));
  }
}

/**
 * For reads that failed: tells sectors that are bad from a disk whose reads fail for the moment.
 * Throws DISK_FAILED when the disk reads nothing else either, or can read by now all that it could
 * not before: what is missing may be there at the next start, and nothing may be given up because
 * an answer was missing.
 */
export function assertBadSectors(disk: Disk, file: DiskFile, pages: Iterable<number>): void {
  const page = Buffer.alloc(PAGE_BYTES);
  const block = disk.open('superblock', 'never');
  try {
    block.readSync(page, 0);
  } finally {
    block.close();
  }
  for (const at of pages) {
    try {
      file.readSync(page, at);
    } catch {
      return;
    }
  }
  throw new HoldfastError('DISK_FAILED', `reads of ${file.path} fail now and then`, {
    retryable: true,
  });
}

/** Positions of the pages in [from, to). */
export function* pagesBetween(from: number, to: number): Iterable<number> {
  for (let at = from; at < to; at += PAGE_BYTES) yield at;
}
