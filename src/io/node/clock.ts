/** The real clock: the process's monotonic clock and its timers. */
import { performance } from 'node:perf_hooks';
import type { Monotonic } from '../../core/units.js';
import type { Clock, TimeOfDay, Timer } from '../clock.js';
import { FineTime } from './time-of-day.js';

/** Longer delays would overflow Node's timers and fire at once. */
const LONGEST_DELAY_MS = 0x7fff_ffff;

class NodeClock implements Clock {
  readonly #fine = new FineTime();

  monotonic(): Monotonic {
    return performance.now() as Monotonic;
  }

  wall(): number {
    return Date.now();
  }

  timeOfDay(): TimeOfDay {
    return this.#fine.now();
  }

  after(delayMs: number, callback: () => void): Timer {
    const due = performance.now() + delayMs;
    let handle: NodeJS.Timeout;
    // Node counts whole milliseconds, so a timer may fire a fraction of one too early.
    const fire = (): void => {
      const left = due - performance.now();
      if (left > 0) arm(left);
      else callback();
    };
    const arm = (ms: number): void => {
      handle = setTimeout(fire, Math.min(Math.ceil(ms), LONGEST_DELAY_MS));
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(handle) };
  }

  soon(callback: () => void): void {
    setImmediate(callback);
  }
}

export const nodeClock: Clock = new NodeClock();
