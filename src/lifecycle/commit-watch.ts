/** When everything of a mounted volume was on stable storage last, for people. */
import type { Clock } from '../io/clock.js';
import type { History } from '../volume/history.js';

const WATCH_MS = 500;

export class CommitWatch {
  readonly #clock: Clock;
  readonly #history: History;
  readonly #isOver: () => boolean;
  #bytes = -1;
  #last: string | null = null;

  /** Watches until `isOver`. */
  constructor(clock: Clock, history: History, isOver: () => boolean) {
    this.#clock = clock;
    this.#history = history;
    this.#isOver = isOver;
    this.#watch();
  }

  #watch(): void {
    if (this.#isOver()) return;
    this.look();
    this.#clock.after(WATCH_MS, () => this.#watch());
  }

  /** If everything is durable that was not before, that is news. */
  look(): void {
    const { isSettled, logged } = this.#history;
    if (!isSettled || logged.bytes === this.#bytes) return;
    this.#bytes = logged.bytes;
    this.#last = new Date(this.#clock.wall()).toISOString();
  }

  /** ISO 8601; null before the first. */
  get last(): string | null {
    this.look();
    return this.#last;
  }
}
