/** Numbers as people write them after an option. */
import { invalid } from '../core/errors.js';
import { COMMIT_INTERVAL_MAX_MS } from '../core/limits.js';

/** Throws INVALID_ARGUMENT. */
export function wholeNumber(text: string, what: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw invalid(`${what}: "${text}" is not a whole number`);
}

/** Empty when nothing was said. Throws INVALID_ARGUMENT. */
export function commitIntervalOf(text: string | undefined): { readonly commitIntervalMs?: number } {
  if (text === undefined) return {};
  const seconds = wholeNumber(text, '--commit-interval');
  const most = COMMIT_INTERVAL_MAX_MS / 1000;
  if (seconds >= 1 && seconds <= most) return { commitIntervalMs: seconds * 1000 };
  throw invalid(`--commit-interval: ${seconds} s`, `1 to ${most} are allowed.`);
}
