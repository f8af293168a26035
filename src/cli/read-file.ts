/**
 * A file that somebody names, which may be anything: what has no end, such as a device, is not read
 * to its end.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { invalid } from '../core/errors.js';

/** Throws what the system says, or INVALID_ARGUMENT for more than `maxBytes`. */
export function readBounded(path: string, maxBytes: number): string {
  const buffer = Buffer.alloc(maxBytes + 1);
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (let read = -1; read !== 0 && length <= maxBytes; length += read) {
      read = readSync(file, buffer, length, buffer.length - length, null);
    }
    if (length <= maxBytes) return buffer.toString('utf8', 0, length);
  } finally {
    closeSync(file);
  }
  throw invalid(`${path} has more than ${maxBytes} bytes`);
}
