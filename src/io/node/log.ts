/**
 * The operator's log: one JSON object a line on standard error (pino), or one plain line for a
 * person at a terminal. Written synchronously, so that the last line before a crash is there.
 *
 * INVARIANT: a log that cannot be written, as on a full disk, ends nothing. Its next lines are kept
 * until it can; once they are too many, the rest is left out.
 */
import { pino } from 'pino';
import { KIB } from '../../core/units.js';
import type { Log } from '../log.js';

export const LOG_LEVELS = ['error', 'warn', 'info', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  readonly level: LogLevel;
  /** Default: plain lines where standard error is a terminal. */
  readonly json?: boolean;
}

/** Of lines that could not be written yet. */
const KEPT_BYTES = 64 * KIB;

const NAMES: Readonly<Record<number, string>> = { 30: 'info', 40: 'warn', 50: 'error' };

/** Turns pino's JSON line into one for people: "12:34:56 warn A peer connected. peer=…". */
export function plainLine(json: string): string {
  const { time, level, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const shown = Object.entries(fields).map(([name, value]) => {
    return `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`;
  });
  const clock = new Date(Number(time)).toISOString().slice(11, 19);
  const name = NAMES[Number(level)] ?? String(level);
  return `${[clock, name.padEnd(5), String(msg), ...shown].join(' ')}\n`;
}

export function createLog(options: LogOptions): Log {
  const isJson = options.json ?? !process.stderr.isTTY;
  const settings = { level: options.level, base: null };
  if (isJson) {
    const standardError = pino.destination({ fd: 2, sync: true, maxLength: KEPT_BYTES });
    standardError.on('error', () => {});
    return pino(settings, standardError);
  }
  const destination = { write: (line: string) => void process.stderr.write(plainLine(line)) };
  return pino(settings, destination);
}
