/** Numbers as people write them after an option. */
import { parseDuration, parseSeconds } from '../core/durations.js';
import { invalid } from '../core/errors.js';
import { COMMIT_INTERVAL_MAX_MS, COMMIT_INTERVAL_MIN_MS } from '../core/limits.js';
import { parsed, plainText } from './config.js';

/** Throws INVALID_ARGUMENT. */
export function wholeNumber(text: string, what: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw invalid(`${what}: "${text}" is not a whole number`);
}

/** As a setting. */
export function wholeSetting(what: string) {
  return plainText.pipe(parsed((text) => wholeNumber(text, what)));
}

/**
 * Milliseconds, as a setting. Commands that share one must not differ in how it is written: what
 * one of them needs would stop the others.
 */
export function timeSetting(what: string) {
  return plainText.pipe(parsed((text) => parseSeconds(text, what)));
}

/** How long removed volumes are kept, as a setting: milliseconds, or null until they are purged. */
export const retentionSetting = parsed((text) =>
  text === 'forever' ? null : parseDuration(text, 'retention'),
);

/** As a setting, in milliseconds. */
export const commitIntervalSetting = plainText.pipe(
  parsed((text) => commitIntervalOf(text).commitIntervalMs),
);

/** Empty when nothing was said. Throws INVALID_ARGUMENT. */
export function commitIntervalOf(text: string | undefined): { readonly commitIntervalMs?: number } {
  if (text === undefined) return {};
  const ms = parseSeconds(text, '--commit-interval');
  if (ms >= COMMIT_INTERVAL_MIN_MS && ms <= COMMIT_INTERVAL_MAX_MS) return { commitIntervalMs: ms };
  const [least, most] = [COMMIT_INTERVAL_MIN_MS / 1000, COMMIT_INTERVAL_MAX_MS / 1000];
  throw invalid(`--commit-interval: ${ms / 1000} s`, `${least} to ${most} s are allowed.`);
}
