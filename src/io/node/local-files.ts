/**
 * Files of other processes, for short-circuit reads: what was lately written or read, and is
 * therefore in the page cache for as good as certain, is read in place, all else in the thread
 * pool, a few reads at a time, so that a disk that hangs neither stops the event loop nor takes the
 * whole pool.
 *
 * INVARIANT: of the pool's threads, four unless somebody has said otherwise, one is left to others.
 */
import { close, constants, fstat, open, read, readSync } from 'node:fs';
import { LOCAL_FRESH_MS, READ_IN_PLACE_MAX_BYTES } from '../../core/limits.js';
import { PAGE_BYTES } from '../../core/units.js';
import type { LocalFile, LocalFiles } from '../local-files.js';
import { WarmReads } from './warm-reads.js';

/** Reads in the thread pool, and those that wait for their turn. */
const READS_MAX = 3;
const QUEUE_MAX = 64;

/** What all files share. */
class Shared {
  readonly warm = new WarmReads(PAGE_BYTES, LOCAL_FRESH_MS);
  readonly #queue: (() => void)[] = [];
  #reading = 0;
  #opened = 0;

  nextNumber(): number {
    this.#opened += 1;
    return this.#opened;
  }

  /** Begins a read once there is room in the pool; false when too many wait. */
  begin(start: () => void): boolean {
    if (this.#reading < READS_MAX) {
      this.#reading += 1;
      start();
      return true;
    }
    if (this.#queue.length >= QUEUE_MAX) return false;
    this.#queue.push(start);
    return true;
  }

  ended(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#reading -= 1;
    else next();
  }
}

class NodeLocalFile implements LocalFile {
  readonly #fd: number;
  readonly #shared: Shared;
  /** Names this file to `warm`; never used again for another one. */
  readonly #number: number;
  #closed = false;
  /** Reads in the thread pool or waiting for it: the descriptor must not be reused under them. */
  #busy = 0;

  constructor(fd: number, shared: Shared) {
    this.#fd = fd;
    this.#shared = shared;
    this.#number = shared.nextNumber();
  }

  read(
    into: Uint8Array,
    position: number,
    isFresh: boolean,
    done: (bytesRead: number) => void,
  ): boolean {
    const { warm } = this.#shared;
    const isSmall = into.length <= READ_IN_PLACE_MAX_BYTES;
    if (isSmall && isFresh) warm.note(this.#number, position, into.length);
    if (isSmall && warm.isWarm(this.#number, position, into.length)) {
      const bytesRead = this.#readInPlace(into, position);
      process.nextTick(() => {
        if (!this.#closed) done(bytesRead);
      });
      return true;
    }
    const taken = this.#shared.begin(() => this.#readInPool(into, position, done));
    if (taken) this.#busy += 1;
    return taken;
  }

  #readInPool(into: Uint8Array, position: number, done: (bytesRead: number) => void): void {
    read(this.#fd, into, 0, into.length, position, (error, bytesRead) => {
      this.#shared.ended();
      this.#busy -= 1;
      if (this.#closed) {
        if (this.#busy === 0) close(this.#fd);
        return;
      }
      if (error === null) this.#shared.warm.note(this.#number, position, bytesRead);
      done(error === null ? bytesRead : 0);
    });
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
  readonly #shared = new Shared();

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
