/**
 * Keeps the event loop turning for a moment after each request, where the next one is about to
 * come. A program that makes one system call after the other lets us fall asleep and be woken up
 * each time, and on a virtual machine that costs more than to serve the request: the interrupt that
 * wakes a halted processor, its way out of the halt, and the same on the way back. Looking for
 * requests all the time instead makes file operations half as fast again and takes less processor
 * time altogether.
 *
 * INVARIANT: a look that was in vain costs what as many requests as WRONG_COSTS have earned by
 * coming soon. So however requests come, we wait awake in vain for at most one limit in so many
 * requests, also where nobody else can run while we look. While a request waits for a node, we
 * sleep.
 * INVARIANT: once others had to push us from the processor, we leave it to them by ourselves for a
 * while: who uses up its share by looking waits longest where there is too little for all.
 */

/** Requests that have to come soon before the first look, and for each look in vain. */
export const WRONG_COSTS = 16;
/** So many have to come soon after others have pushed us from the processor. */
export const SOON_WHEN_BUSY = 32;
/** Looks in vain that are saved up for at most, so that a few pauses do not put us to sleep. */
export const MOST_LOOKS = 4;
/**
 * What comes within this time is soon. Longer than a look by far, because it contains our own way
 * out of sleep: by a look's limit, a host where waking up takes longer than that, which needs looks
 * most, would never be found worth one.
 */
export const SOON_MS = 2;
const PUSHED_MS = 1;

export class BusyPoll {
  readonly #limitMs: number;
  readonly #now: () => number;
  readonly #nextTurn: (run: () => void) => void;
  /** When all that had come was last answered. */
  #last = 0;
  /** Nothing has come since, and no look for it was in vain. */
  #isAwaited = false;
  /** Requests that came soon, less what looks in vain have cost. */
  #credit = 0;
  #isTurning = false;
  /** When the loop's turn before this one was. */
  #turned = 0;

  /**
   * Looks for `limitMs`. `nextTurn` runs a callback in the loop's next turn, after a look at what
   * has come.
   */
  constructor(
    limitMs: number,
    now: () => number = () => performance.now(),
    nextTurn: (run: () => void) => void = setImmediate,
  ) {
    this.#limitMs = limitMs;
    this.#now = now;
    this.#nextTurn = nextTurn;
  }

  /** A request has come. */
  arrived(): void {
    if (!this.#isAwaited) return;
    this.#isAwaited = false;
    if (this.#now() - this.#last <= SOON_MS) {
      this.#credit = Math.min(this.#credit + 1, MOST_LOOKS * WRONG_COSTS);
    } else {
      this.#lose();
    }
  }

  /** All requests are answered: the next thing to come is another. */
  settled(): void {
    this.#last = this.#now();
    this.#isAwaited = true;
    if (this.#isTurning || this.#credit < WRONG_COSTS) return;
    this.#isTurning = true;
    this.#turned = this.#last;
    this.#nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    const now = this.#now();
    if (now - this.#turned > PUSHED_MS) this.#credit = WRONG_COSTS - SOON_WHEN_BUSY;
    this.#turned = now;
    const isInVain = this.#isAwaited && now - this.#last > this.#limitMs;
    this.#isTurning = this.#isAwaited && !isInVain && this.#credit >= WRONG_COSTS;
    if (this.#isTurning) this.#nextTurn(this.#turn);
    else if (isInVain) {
      this.#isAwaited = false;
      this.#lose();
    }
  };

  /** Nothing came while it was looked for, or nothing would have. */
  #lose(): void {
    this.#credit = Math.max(this.#credit - WRONG_COSTS, Math.min(this.#credit, 0));
  }
}
