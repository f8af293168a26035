/**
 * Small files without which a cluster cannot be used any more: its secret, where it is, its export,
 * the helpers that mount it at boot.
 * They are on stable storage, with their names, before anything relies on them; otherwise a power
 * cut soon after leaves an empty file.
 */
import { chmodSync, closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Makes a file that only its owner can read. Throws what node:fs throws, EEXIST too. */
export function createDurably(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600, flag: 'wx', flush: true });
  flushDirectory(dirname(path));
}

/**
 * Replaces a file at once: it is the old one or the new one at any moment. `mode` holds whatever
 * the umask is. Throws what node:fs throws.
 */
export function replaceDurably(path: string, text: string, mode?: number): void {
  writeFileSync(`${path}.new`, text, { flush: true });
  if (mode !== undefined) chmodSync(`${path}.new`, mode);
  renameSync(`${path}.new`, path);
  flushDirectory(dirname(path));
}

function flushDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
