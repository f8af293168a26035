/**
 * Whether a flush of a disk may hold up the event loop. Only flushes in place are timed: one in the
 * threadpool ends, for us, when the event loop gets round to it. By those a busy machine looked
 * like a slow disk, and the two thread switches of each flush then made it busier still.
 *
 * INVARIANT: however slow the disk is, its stalls take at most 1 % of the event loop's time; so one
 * disk stops neither its node's other disks nor its leases.
 */
import { FLUSH_IN_PLACE_MAX_MS, FLUSH_IN_PLACE_PAUSE } from '../../core/limits.js';

/** Times are in milliseconds of one monotonic clock. */
export class FlushPace {
  #notBefore = Number.NEGATIVE_INFINITY;

  mayBlock(now: number): boolean {
    return now >= this.#notBefore;
  }

  /** A flush in place was begun and has ended; a stall is paid for by a pause. */
  took(began: number, ended: number): void {
    const ms = ended - began;
    if (ms >= FLUSH_IN_PLACE_MAX_MS) this.#notBefore = ended + ms * FLUSH_IN_PLACE_PAUSE;
  }
}
