/** Times as people write them: 90s, 30m, 12h, 7d. */
import { invalid } from './errors.js';

const UNITS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};
const DURATION = /^(\d{1,9}(?:\.\d{1,3})?) ?([smhdw])$/;
/** A hundred years: dates stay dates. */
const MAX_MS = 36_525 * 86_400_000;
const HINT = 'Write a number and a unit: 90s, 30m, 12h, 7d, 4w.';

/** Milliseconds. Throws INVALID_ARGUMENT naming `what`. */
export function parseDuration(text: string, what: string): number {
  const [, number, unit = ''] = DURATION.exec(text.trim()) ?? [];
  const scale = UNITS[unit];
  if (number === undefined || scale === undefined) {
    if (text.trim() === '0') return 0;
    throw invalid(`${what} "${text.slice(0, 40)}" is not a time`, HINT);
  }
  const ms = Math.round(Number(number) * scale);
  if (ms <= MAX_MS) return ms;
  throw invalid(`${what} "${text.slice(0, 40)}" is more than a hundred years`, HINT);
}

/**
 * Milliseconds of a time in which a bare number is seconds: for what is written as such in one
 * place and with a unit in another. Throws INVALID_ARGUMENT naming `what`.
 */
export function parseSeconds(text: string, what: string): number {
  return parseDuration(/^\d+$/.test(text) ? `${text}s` : text, what);
}

/** "7 days", "90 minutes": the largest unit that leaves a whole number. */
export function formatDuration(ms: number): string {
  const names: readonly (readonly [number, string])[] = [
    [86_400_000, 'day'],
    [3_600_000, 'hour'],
    [60_000, 'minute'],
    [1_000, 'second'],
  ];
  const [size, name] = names.find(([unit]) => ms >= unit && ms % unit === 0) ?? [1_000, 'second'];
  const count = Number((ms / size).toFixed(1));
  return `${count} ${name}${count === 1 ? '' : 's'}`;
}
