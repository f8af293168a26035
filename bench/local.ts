/** What the machine itself does, without Holdfast: the yardsticks of every ratio. */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { MIB, PAGE_BYTES } from '../src/core/units.js';
import type { Measured } from './stats.js';

/** Appends 4 KiB and flushes, one after the other, into a growing file: what a plain WAL does. */
export class LocalAppender {
  readonly #path: string;
  readonly #file: number;
  readonly #page = Buffer.alloc(PAGE_BYTES, 7);
  #at = 0;

  constructor(directory: string) {
    this.#path = join(directory, 'local-append');
    this.#file = openSync(this.#path, 'w');
  }

  run(seconds: number): Measured {
    const latencies: number[] = [];
    const start = performance.now();
    let now = start;
    while (now - start < seconds * 1000) {
      writeSync(this.#file, this.#page, 0, PAGE_BYTES, this.#at);
      fdatasyncSync(this.#file);
      this.#at += PAGE_BYTES;
      const end = performance.now();
      latencies.push(end - now);
      now = end;
    }
    return { operations: latencies.length, seconds: (now - start) / 1000, latencies };
  }

  close(): void {
    closeSync(this.#file);
    rmSync(this.#path, { force: true });
  }
}

/**
 * Writes `megabytes` × 1 MiB into a new file, then flushes it; bytes count as operations of 1 MiB.
 */
export function localSequential(directory: string, megabytes: number): Measured {
  const path = join(directory, 'local-sequential');
  const block = Buffer.alloc(MIB, 7);
  const file = openSync(path, 'w');
  const start = performance.now();
  for (let i = 0; i < megabytes; i++) writeSync(file, block, 0, MIB, i * MIB);
  fdatasyncSync(file);
  const seconds = (performance.now() - start) / 1000;
  closeSync(file);
  rmSync(path);
  return { operations: megabytes, seconds, latencies: [] };
}
