/**
 * One call at a time for each volume on this machine: a repetition that comes while the first is
 * under way gets ABORTED, as the standard wants it. A call that never ends (a filesystem that hangs
 * below it) does not keep the volume for ever.
 */
import type { Clock } from '../io/clock.js';
import { CsiError } from './errors.js';

/** More than any step below takes before it gives up by itself. */
const HELD_MAX_MS = 10 * 60_000;

export class VolumeLocks {
  readonly #clock: Clock;
  readonly #held = new Map<string, { readonly since: number; readonly what: string }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws ABORTED while another call on `volume` is under way. */
  async alone<T>(volume: string, what: string, work: () => Promise<T>): Promise<T> {
    const now = this.#clock.monotonic();
    const other = this.#held.get(volume);
    if (other !== undefined && now - other.since < HELD_MAX_MS) {
      throw new CsiError('ABORTED', `${other.what} of this volume is still under way; try again.`);
    }
    const mine = { since: now, what };
    this.#held.set(volume, mine);
    try {
      return await work();
    } finally {
      if (this.#held.get(volume) === mine) this.#held.delete(volume);
    }
  }
}
