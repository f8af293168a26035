/** Intent logs in memory: the twin of io/node/intent-file.ts, with writes that are cut off. */
import { HoldfastError } from '../../src/core/errors.js';
import type { IntentFile } from '../../src/io/intent-file.js';
import { type FoundIntents, readIntents } from '../../src/volume/intent-format.js';

export class MemoryIntents {
  /** The established file, or null. */
  #file: Buffer | null = null;
  /** Of the next write, how many bytes get into the file before the process ends. */
  cut = Number.POSITIVE_INFINITY;
  /** The next writes fail with this. */
  error: Error | null = null;
  writes = 0;
  /** So many more writes there is room for. */
  room = Number.POSITIVE_INFINITY;

  /** The bytes of the established file. */
  get file(): Buffer | null {
    return this.#file;
  }

  read(): FoundIntents | null {
    return this.#file === null ? null : readIntents(this.#file);
  }

  create(): IntentFile {
    let bytes: Buffer = Buffer.alloc(0);
    let isEstablished = false;
    const change = (larger: Buffer): void => {
      bytes = larger;
      if (isEstablished) this.#file = bytes;
    };
    return {
      write: (parts, position) => {
        if (this.error !== null) throw this.error;
        if (this.room <= 0) throw new HoldfastError('DISK_FULL', 'no room in memory');
        this.room -= 1;
        this.writes += 1;
        const whole = Buffer.concat(parts);
        const written = whole.subarray(0, Math.min(whole.length, this.cut));
        if (bytes.length < position + written.length) {
          const larger = Buffer.alloc(Math.max(position + written.length, bytes.length * 2));
          bytes.copy(larger);
          change(larger);
        }
        written.copy(bytes, position);
        if (written.length < whole.length) throw new Error('the process ended');
      },
      establish: () => {
        isEstablished = true;
        this.#file = bytes;
      },
      close: () => {},
    };
  }
}
