/**
 * The time of day in nanoseconds. Node tells it in milliseconds only, and has nanoseconds without
 * knowing the day: so the former says where the latter stand. When the two run apart, the time of
 * day was set, and the new one counts.
 *
 * INVARIANT: never more than 2 ms from what Date.now() says; between settings never goes back.
 */
import type { TimeOfDay } from '../clock.js';

const NANOS = 1_000_000_000;
const NANOS_A_MS = 1_000_000;

export interface TimeSources {
  /** Seconds and nanoseconds since some moment. */
  readonly hrtime: () => readonly [number, number];
  /** Whole milliseconds since 1970. */
  readonly wallMs: () => number;
}

const NODE: TimeSources = { hrtime: () => process.hrtime(), wallMs: () => Date.now() };

export class FineTime {
  readonly #sources: TimeSources;
  /** What is added to hrtime; null before the first time. */
  #offset: TimeOfDay | null = null;

  constructor(sources: TimeSources = NODE) {
    this.#sources = sources;
  }

  now(): TimeOfDay {
    const [hrSeconds, hrNanos] = this.#sources.hrtime();
    const wallMs = this.#sources.wallMs();
    if (this.#offset !== null) {
      const { seconds, nanoseconds } = this.#offset;
      const found = whole(hrSeconds + seconds, hrNanos + nanoseconds);
      const ms = found.seconds * 1000 + Math.floor(found.nanoseconds / NANOS_A_MS);
      if (Math.abs(wallMs - ms) <= 1) return found;
    }
    const seconds = Math.floor(wallMs / 1000);
    const nanoseconds = (wallMs - seconds * 1000) * NANOS_A_MS;
    this.#offset = { seconds: seconds - hrSeconds, nanoseconds: nanoseconds - hrNanos };
    return { seconds, nanoseconds };
  }
}

function whole(seconds: number, nanoseconds: number): TimeOfDay {
  const over = Math.floor(nanoseconds / NANOS);
  return { seconds: seconds + over, nanoseconds: nanoseconds - over * NANOS };
}
