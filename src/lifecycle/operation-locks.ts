/**
 * One operation at a time on each volume. Orchestrators repeat calls that take long, and call for
 * one volume at once what excludes each other; whoever comes second waits for a bounded time and is
 * then told to try again.
 *
 * INVARIANT: a lock is let go when its time is over, whatever its holder does: what hangs for ever
 * (a store or a daemon that never answers) must not keep later calls out. What then still goes on
 * meets the later ones in compare-and-swap and in the machine's state, as another process would.
 */
import { HoldfastError } from '../core/errors.js';
import type { Clock } from '../io/clock.js';

export interface LockLimits {
  /** How long to wait for the operation before. */
  readonly waitMs: number;
  /** How long an operation may take. */
  readonly limitMs: number;
}

export class OperationLocks {
  readonly #clock: Clock;
  readonly #limits: LockLimits;
  /** The last one in line, by key: resolves when the next may begin. */
  readonly #tails = new Map<string, Promise<void>>();

  constructor(clock: Clock, limits: LockLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /**
   * Runs `work` when it is its turn. Rejects with BUSY (retryable) when that does not come in time,
   * with TIMEOUT (retryable) when the work does not end in time: its signal is then aborted.
   */
  async run<T>(key: string, what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { waitMs, limitMs } = this.#limits;
    const before = this.#tails.get(key);
    let release: () => void = () => {};
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    const tail = before === undefined ? mine : before.then(() => mine);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    try {
      if (before !== undefined) {
        await this.#within(before, waitMs, () => {
          const message = `another operation on ${what} is under way`;
          return new HoldfastError('BUSY', message, { retryable: true, hint: 'Try again.' });
        });
      }
      const controller = new AbortController();
      return await this.#within(work(controller.signal), limitMs, () => {
        controller.abort();
        const message = `the operation on ${what} has not ended within ${limitMs / 1000} s`;
        return new HoldfastError('TIMEOUT', message, { retryable: true, hint: 'Try again.' });
      });
    } finally {
      release();
    }
  }

  #within<T>(work: Promise<T>, limitMs: number, late: () => HoldfastError): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(limitMs, () => reject(late()));
      work.then(resolve, reject).finally(() => timer.cancel());
    });
  }
}
