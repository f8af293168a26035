/**
 * The two index files and which one counts (formats: index-snapshot.ts). Writing overwrites the
 * older one; a write that is cut short leaves the newer one valid.
 */
import { asFault, HoldfastError, malformed } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import type { Disk, DiskDone, DiskFile } from '../io/disk.js';
import { assertBadSectors, pagesBetween } from './disk-steps.js';
import { decodeIndex, type Index } from './index-snapshot.js';

export const INDEX_PATHS = ['index-A', 'index-B'] as const;
/** More than any disk has segments for: a file beyond it is not read into memory. */
const INDEX_MAX_BYTES = 2 ** 31 - 1;

/**
 * Writes and flushes a snapshot into slot 0 or 1. The name is durable since the disk was formed.
 */
export function writeIndex(
  disk: Disk,
  slot: 0 | 1,
  parts: readonly Buffer[],
  done: DiskDone,
): void {
  let file: DiskFile;
  try {
    file = disk.open(INDEX_PATHS[slot], 'maybe');
  } catch (error) {
    done(asFault(error, 'DISK_FAILED'));
    return;
  }
  const finish: DiskDone = (error) => {
    file.close();
    done(error);
  };
  file.write(parts, 0, (error) => {
    if (error !== null) finish(error);
    else file.datasync(false, finish);
  });
}

/**
 * The newest valid index of this incarnation and the slot to write next; null when none is valid.
 * A file with a bad sector counts as not valid while the other one is good: replay then begins a
 * lap earlier, and finds out if groups of that lap are gone. Throws DISK_FAILED when a file cannot
 * be read and no other is good, or when it is not the medium that is bad: that may pass, and is no
 * reason to give data up.
 */
export function readIndex(
  disk: Disk,
  incarnation: Incarnation,
): { readonly index: Index; readonly slot: 0 | 1 } | null {
  let best: { index: Index; slot: 0 | 1 } | null = null;
  let unreadable: HoldfastError | null = null;
  for (const [at, path] of INDEX_PATHS.entries()) {
    if (!disk.exists(path)) continue;
    const found = readOne(disk, path);
    if (found instanceof HoldfastError) {
      if (found.code !== 'MALFORMED') unreadable = found;
      continue;
    }
    if (found.incarnation !== incarnation) continue;
    if (best === null || found.lap > best.index.lap) {
      best = { index: found, slot: at === 0 ? 1 : 0 };
    }
  }
  if (best === null && unreadable !== null) throw unreadable;
  return best;
}

/** An index, or why it is none: MALFORMED, or DISK_FAILED for a bad sector. Throws the rest. */
function readOne(disk: Disk, path: string): Index | HoldfastError {
  const file = disk.open(path, 'never');
  try {
    const size = file.size();
    if (size > INDEX_MAX_BYTES) return malformed(`${path}: ${size} bytes are no index`);
    const bytes = Buffer.alloc(size);
    try {
      file.readSync(bytes, 0);
    } catch (error) {
      assertBadSectors(disk, file, pagesBetween(0, size));
      return asFault(error, 'DISK_FAILED');
    }
    return decodeIndex(bytes);
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'MALFORMED') return error;
    throw error;
  } finally {
    file.close();
  }
}
