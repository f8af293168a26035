/**
 * Starts that come all at once, as after a reboot, take turns: a process that starts costs a second
 * of CPU before it says its first word, and fifty at once would all be late. Whoever waits for
 * something else than the processor, such as a lease that runs out, holds nobody up: a turn ends
 * after a while, whether its start has or not.
 */
import type { Clock } from '../io/clock.js';

/** On any machine: while one waits for its disk or the network, others go on. */
const STARTS_AT_ONCE = 4;
const TURN_MS = 2_000;

export class StartTurns {
  readonly #clock: Clock;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `start` when it is its turn. */
  async run<T>(start: () => Promise<T>): Promise<T> {
    if (this.#running < STARTS_AT_ONCE) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let isOver = false;
    const end = (): void => {
      if (isOver) return;
      isOver = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    };
    const timer = this.#clock.after(TURN_MS, end);
    try {
      return await start();
    } finally {
      timer.cancel();
      end();
    }
  }
}
