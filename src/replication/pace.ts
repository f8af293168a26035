/** Lets so many bytes a second begin: whoever comes too early waits for its turn. */
import type { Clock, Timer } from '../io/clock.js';

/** What may begin at once after a pause, as time at the rate. */
const BURST_MS = 1_000;

interface Waiting {
  at: number;
  timer: Timer;
  go(): void;
}

export class Pace {
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiting>();
  #bytesPerMs = Number.POSITIVE_INFINITY;
  /** When all that has begun will have taken its time. */
  #until = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Holds for who waits as well: a rate that was far too low is over when it is raised. */
  setRate(bytesPerSecond: number): void {
    const factor = this.#bytesPerMs / (bytesPerSecond / 1_000);
    this.#bytesPerMs = bytesPerSecond / 1_000;
    if (factor === 1 || factor === Number.POSITIVE_INFINITY) return;
    const now = this.#clock.monotonic();
    const moved = (at: number): number => now + Math.max(0, at - now) * factor;
    this.#until = moved(this.#until);
    for (const one of this.#waiting) {
      one.timer.cancel();
      one.at = moved(one.at);
      one.timer = this.#clock.after(one.at - now, () => this.#begin(one));
    }
  }

  /** Resolves when so many bytes may begin; at once when closed. */
  take(bytes: number): Promise<void> {
    const now = this.#clock.monotonic();
    const at = Math.max(this.#until, now - BURST_MS);
    this.#until = at + bytes / this.#bytesPerMs;
    if (at <= now) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#clock.after(at - now, () => this.#begin(one));
      const one: Waiting = { at, timer, go: resolve };
      this.#waiting.add(one);
    });
  }

  close(): void {
    for (const one of this.#waiting) {
      one.timer.cancel();
      this.#begin(one);
    }
  }

  #begin(one: Waiting): void {
    this.#waiting.delete(one);
    one.go();
  }
}
