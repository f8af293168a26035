/**
 * The real IntentFile: beside the mount's state in /run, written by plain system calls on the event
 * loop's own thread, since its memory answers in microseconds.
 */
import { closeSync, openSync, readFileSync, renameSync, writeSync, writevSync } from 'node:fs';
import { HoldfastError } from '../../core/errors.js';
import type { IntentFile } from '../intent-file.js';
import { saysFull } from './full.js';

/** writev(2) takes no more parts. */
const MAX_PARTS = 1024;

/**
 * Begins a file that takes the place of the one at `path` when it is established. Throws DISK_FULL
 * or DISK_FAILED.
 */
export function createIntentFile(path: string): IntentFile {
  const begun = `${path}.new`;
  const fd = guarded(path, () => openSync(begun, 'w', 0o600));
  return {
    write: (parts, position) => guarded(path, () => writeParts(fd, parts, position)),
    establish: () => renameSync(begun, path),
    close: () => closeSync(fd),
  };
}

/** The whole file; null when there is none. */
export function readIntentFile(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fault(path, thrown);
  }
}

function writeParts(fd: number, parts: readonly Uint8Array[], position: number): void {
  const [first] = parts;
  // As nearly always: one piece, taken whole.
  if (parts.length === 1 && first !== undefined) {
    if (writeSync(fd, first, 0, first.length, position) === first.length) return;
  }
  let at = position;
  for (let from = 0; from < parts.length; from += MAX_PARTS) {
    let some = parts.slice(from, from + MAX_PARTS);
    while (some.length > 0) {
      const [only] = some;
      const single = some.length === 1 && only !== undefined;
      const written = single ? writeSync(fd, only, 0, only.length, at) : writevSync(fd, some, at);
      at += written;
      some = behind(some, written);
    }
  }
}

/** What is left of `parts` behind their first `count` bytes. */
function behind(parts: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  for (const [index, part] of parts.entries()) {
    if (left < part.length) return [part.subarray(left), ...parts.slice(index + 1)];
    left -= part.length;
  }
  return [];
}

function guarded<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw fault(path, thrown);
  }
}

function fault(path: string, thrown: unknown): HoldfastError {
  const text = `the intent log ${path} cannot be used: ${(thrown as Error).message}`;
  const code = saysFull(thrown) ? 'DISK_FULL' : 'DISK_FAILED';
  return new HoldfastError(code, text, { cause: thrown });
}
