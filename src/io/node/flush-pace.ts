/**
 * Whether a flush of a disk may hold up the event loop. Only flushes in place are timed: one in the
 * threadpool ends, for us, when the event loop gets round to it. By those a busy machine looked
 * like a slow disk, and the two thread switches of each flush then made it busier still. For the
 * same reason a fast disk that stalls now and then, as all do, comes back soon.
 *
 * INVARIANT: stalls take at most a tenth of the event loop's time, and those of a disk that always
 * stalls a hundredth; so one disk stops neither its node's other disks nor its leases.
 */
import {
  FLUSH_IN_PLACE_GOOD,
  FLUSH_IN_PLACE_MAX_MS,
  FLUSH_IN_PLACE_PAUSE,
  FLUSH_IN_PLACE_PAUSE_MAX,
} from '../../core/limits.js';

/** Times are in milliseconds of one monotonic clock. */
export class FlushPace {
  #notBefore = Number.NEGATIVE_INFINITY;
  #pause = FLUSH_IN_PLACE_PAUSE;
  /** Flushes in place since the last stall. */
  #good = 0;

  mayBlock(now: number): boolean {
    return now >= this.#notBefore;
  }

  /** A flush in place was begun and has ended; a stall is paid for by a pause. */
  took(began: number, ended: number): void {
    const ms = ended - began;
    if (ms < FLUSH_IN_PLACE_MAX_MS) {
      this.#good += 1;
      return;
    }
    if (this.#good >= FLUSH_IN_PLACE_GOOD) this.#pause = FLUSH_IN_PLACE_PAUSE;
    this.#good = 0;
    this.#notBefore = ended + ms * this.#pause;
    this.#pause = Math.min(2 * this.#pause, FLUSH_IN_PLACE_PAUSE_MAX);
  }
}
