/**
 * Files of other processes, for short-circuit reads: what was lately read is read again in place,
 * all else in the thread pool, a few reads at a time, so that a disk that hangs neither stops the
 * event loop nor takes the whole pool.
 */
import { close, constants, fstat, open, read, readSync } from 'node:fs';
import { READ_IN_PLACE_MAX_BYTES } from '../../core/limits.js';
import { PAGE_BYTES } from '../../core/units.js';
import type { LocalFile, LocalFiles } from '../local-files.js';
import { WarmReads } from './warm-reads.js';

/** Reads that may wait for a disk: of the four threads of the pool one is left to others. */
const READS_MAX = 3;

/** What all files share. */
interface Shared {
  readonly warm: WarmReads;
  /** Reads in the thread pool. */
  waiting: number;
  opened: number;
}

class NodeLocalFile implements LocalFile {
  readonly #fd: number;
  readonly #shared: Shared;
  /** Names this file to `warm`; never used again for another one. */
  readonly #number: number;
  #closed = false;
  /** Reads in the thread pool: the descriptor must not be reused under them. */
  #busy = 0;

  constructor(fd: number, shared: Shared) {
    this.#fd = fd;
    this.#shared = shared;
    shared.opened += 1;
    this.#number = shared.opened;
  }

  read(into: Uint8Array, position: number, done: (bytesRead: number) => void): boolean {
    const { warm } = this.#shared;
    const isSmall = into.length <= READ_IN_PLACE_MAX_BYTES;
    if (isSmall && warm.isWarm(this.#number, position, into.length)) {
      const bytesRead = this.#readInPlace(into, position);
      process.nextTick(() => {
        if (!this.#closed) done(bytesRead);
      });
      return true;
    }
    if (this.#shared.waiting >= READS_MAX) return false;
    this.#shared.waiting += 1;
    this.#busy += 1;
    read(this.#fd, into, 0, into.length, position, (error, bytesRead) => {
      this.#shared.waiting -= 1;
      this.#busy -= 1;
      if (this.#closed) {
        if (this.#busy === 0) close(this.#fd);
        return;
      }
      if (error === null) warm.note(this.#number, position, bytesRead);
      done(error === null ? bytesRead : 0);
    });
    return true;
  }

  #readInPlace(into: Uint8Array, position: number): number {
    const started = performance.now();
    try {
      return readSync(this.#fd, into, 0, into.length, position);
    } catch {
      return 0;
    } finally {
      this.#shared.warm.took(performance.now() - started);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#busy === 0) close(this.#fd);
  }
}

class NodeLocalFiles implements LocalFiles {
  readonly #shared: Shared = { warm: new WarmReads(PAGE_BYTES), waiting: 0, opened: 0 };

  open(path: string, done: (file: LocalFile | null) => void): void {
    // A path that another process names may be anything: nothing is followed or waited for.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    open(path, flags, (failure, fd) => {
      if (failure !== null) return done(null);
      fstat(fd, (error, found) => {
        if (error === null && found.isFile()) return done(new NodeLocalFile(fd, this.#shared));
        close(fd);
        done(null);
      });
    });
  }
}

export function nodeLocalFiles(): LocalFiles {
  return new NodeLocalFiles();
}
