/** Lets so many bytes a second begin: whoever comes too early waits for its turn. */
import type { Clock, Timer } from '../io/clock.js';

/** What may begin at once after a pause, as time at the rate. */
const BURST_MS = 1_000;

export class Pace {
  readonly #clock: Clock;
  readonly #waiting = new Set<{ timer: Timer; go(): void }>();
  #bytesPerMs = Number.POSITIVE_INFINITY;
  /** When all that has begun will have taken its time. */
  #until = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  setRate(bytesPerSecond: number): void {
    this.#bytesPerMs = bytesPerSecond / 1_000;
  }

  /** Resolves when so many bytes may begin; at once when closed. */
  take(bytes: number): Promise<void> {
    const now = this.#clock.monotonic();
    const begin = Math.max(this.#until, now - BURST_MS);
    this.#until = begin + bytes / this.#bytesPerMs;
    const wait = begin - now;
    if (wait <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const one = {
        go: resolve,
        timer: this.#clock.after(wait, () => {
          this.#waiting.delete(one);
          resolve();
        }),
      };
      this.#waiting.add(one);
    });
  }

  close(): void {
    for (const { timer, go } of this.#waiting) {
      timer.cancel();
      go();
    }
    this.#waiting.clear();
  }
}
