/**
 * Timestamps as they are stored: 8 bytes, nanoseconds exact, seconds from 1901 to 2446 as in ext4
 * (what lies outside is stored as the nearest time inside).
 */
import type { Clock } from '../io/clock.js';
import type { Timestamp } from './filesystem-api.js';

const U32 = 0x1_0000_0000;
/** Seconds are stored from here. */
const FIRST_SECOND = -0x8000_0000;
const LAST_SECOND = FIRST_SECOND + 4 * U32 - 1;

/** What a stored timestamp will read as. */
export function clampTime(time: Timestamp): Timestamp {
  if (time.seconds >= FIRST_SECOND && time.seconds <= LAST_SECOND) return time;
  const seconds = time.seconds < FIRST_SECOND ? FIRST_SECOND : LAST_SECOND;
  return { seconds, nanoseconds: 0 };
}

/** The low word: seconds modulo 2^32. */
export function timeLow(time: Timestamp): number {
  return (clampTime(time).seconds - FIRST_SECOND) % U32;
}

/** The high word: nanoseconds, and above them two more bits of the seconds. */
export function timeHigh(time: Timestamp): number {
  const { seconds, nanoseconds } = clampTime(time);
  const epoch = Math.floor((seconds - FIRST_SECOND) / U32);
  return epoch * 0x4000_0000 + nanoseconds;
}

export function timeFrom(low: number, high: number): Timestamp {
  const epoch = Math.floor(high / 0x4000_0000);
  return { seconds: epoch * U32 + low + FIRST_SECOND, nanoseconds: high % 0x4000_0000 };
}

/** The time of day for files, from the clock for people: it orders nothing. */
export function timeNow(clock: Clock): Timestamp {
  return clock.timeOfDay();
}
