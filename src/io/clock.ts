/**
 * The seam to time. Timers and "now" come from here, so that the simulator can run hours in a
 * second and skew one machine's clock against another's. Twins: io/node/clock.ts,
 * test/fixtures/sim-clock.ts.
 */
import type { Monotonic } from '../core/units.js';

export interface Timer {
  /** Idempotent; after it returns the callback never runs. */
  cancel(): void;
}

/** Since 1970. */
export interface TimeOfDay {
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

export interface Clock {
  /** Milliseconds since some fixed moment of this process, never going back, not set by anybody. */
  monotonic(): Monotonic;
  /** Milliseconds since 1970, for people only: never for an ordering or a lease. */
  wall(): number;
  /** The same, as fine as the machine tells it: for the times of files. */
  timeOfDay(): TimeOfDay;
  /** Runs `callback` once, `delayMs` or later from now, never before this call returns. */
  after(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` after the events that are already waiting, never before this call returns. */
  soon(callback: () => void): void;
}
