/**
 * The share of one disk in the thread pool, which all disks of a process have in common: what a
 * disk that does not answer holds up is its own share, and nobody else's. The program's entry
 * (cli/holdfast.cts) makes the pool large enough for all disks of a node.
 */
import { DISK_MAX_THREADS } from '../../core/limits.js';

/** INVARIANT: nobody waits while a turn is free. */
export class DiskTurns {
  #free = DISK_MAX_THREADS;
  /** In the order in which they came. */
  readonly #waiting: (() => void)[] = [];

  /** Starts an operation, now or when it is its turn. Its end must be told with `give`. */
  take(start: () => void): void {
    if (this.#free === 0) {
      this.#waiting.push(start);
      return;
    }
    this.#free -= 1;
    start();
  }

  /** An operation has ended. */
  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}
