/**
 * How faults reach a person or a script: one line on standard error and an exit code that tells the
 * kinds apart. Codes are stable; scripts depend on them.
 */
import { AssertionFailure } from '../core/assert.js';
import { type ErrorCode, HoldfastError } from '../core/errors.js';

/** Stable. 1 is for what nobody foresaw, 70 for our own bugs. */
export const EXIT_CODES: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 2,
  MALFORMED: 10,
  VERSION: 11,
  NOT_FOUND: 12,
  ALREADY_EXISTS: 13,
  WRONG_CLUSTER: 14,
  WRONG_NODE: 15,
  UNAUTHENTICATED: 16,
  FENCED: 17,
  CONFLICT: 18,
  UNKNOWN_OUTCOME: 19,
  UNAVAILABLE: 20,
  TIMEOUT: 21,
  BUSY: 22,
  DISK_FULL: 23,
  DISK_READ_ONLY: 24,
  DISK_FAILED: 25,
  DISK_IN_USE: 26,
  DATA_LOST: 27,
  INCONSISTENT: 28,
  ADDRESS_IN_USE: 29,
  CLOSED: 30,
  TOO_LARGE: 31,
};
export const EXIT_UNFORESEEN = 1;
/** The command did what it should, and found that something is wrong. */
export const EXIT_PROBLEMS = 3;
export const EXIT_BUG = 70;
export const EXIT_INTERRUPTED = 130;

/** The part of the program's own help that lists the exit codes. */
export function exitCodesHelp(): string {
  const rows: [number, string][] = [
    [0, 'done'],
    [EXIT_UNFORESEEN, 'unforeseen'],
    [EXIT_PROBLEMS, 'something is wrong (status, doctor, scrub, upgrade-mounts, volume recover)'],
    ...Object.entries(EXIT_CODES).map(([code, exit]): [number, string] => [exit, code]),
    [EXIT_BUG, 'a bug'],
    [EXIT_INTERRUPTED, 'stopped by Ctrl-C before it was done'],
  ];
  const all = rows
    .sort(([a], [b]) => a - b)
    .map(([exit, what]) => `${String(exit).padStart(4)} ${what}`);
  return `\nExit codes:\n${all.join('\n')}\n`;
}

export interface FailureReport {
  readonly line: string;
  readonly exitCode: number;
}

/** One line without line breaks for anything thrown: "holdfast: what happened. What to do." */
export function reportFailure(thrown: unknown, json: boolean): FailureReport {
  const { code, message, hint, exitCode } = describe(thrown);
  if (json) {
    const error = { code, message, ...(hint === undefined ? {} : { hint }), exitCode };
    return { line: JSON.stringify({ error }), exitCode };
  }
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
  const line = `holdfast: ${sentence}${hint === undefined ? '' : ` ${hint}`}`;
  return { line: line.replace(/\s*\n\s*/g, ' '), exitCode };
}

function describe(thrown: unknown): {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly exitCode: number;
} {
  if (thrown instanceof HoldfastError) {
    const { code, message, hint } = thrown;
    return { code, message, hint, exitCode: EXIT_CODES[code] };
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (thrown instanceof AssertionFailure) {
    const hint = 'This is a bug in holdfast: please report it.';
    return { code: 'BUG', message, hint, exitCode: EXIT_BUG };
  }
  return { code: 'UNFORESEEN', message, exitCode: EXIT_UNFORESEEN };
}
