/** How commands print: results as text or JSON, help with examples. */
import type { Command } from 'commander';
import { nodeClock } from '../io/node/clock.js';

/** Prints a result: as one line of JSON if asked, else as text. */
export function printResult(json: boolean, value: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value) : text}\n`);
}

/** Ends a command's help with examples: [what it does, the line to type]. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [what: string, line: string])[],
): void {
  const lines = examples.map(([what, line]) => `  # ${what}\n  ${line}`);
  command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}

export interface Progress {
  say(text: string): void;
  end(): void;
}

/** One line on the terminal that is written over; nothing for scripts. */
export function showProgress(options: { readonly json?: boolean }): Progress {
  const { stderr } = process;
  if (options.json === true || !stderr.isTTY) return { say: () => {}, end: () => {} };
  return {
    say: (text) => void stderr.write(`\r\x1b[K${text.slice(0, (stderr.columns ?? 80) - 1)}`),
    end: () => void stderr.write('\r\x1b[K'),
  };
}

/** Shorter than this, what is waited for is not worth a line. */
const QUIET_MS = 1_000;

/**
 * Tells on standard error what a start that takes longer waits for, a line each: scripts' logs need
 * it as much as people do. With --json nothing but an error goes there.
 */
export function slowProgress({
  json,
}: {
  readonly json?: boolean | undefined;
}): (text: string) => void {
  if (json === true) return () => {};
  const since = nodeClock.monotonic();
  let said = '';
  return (text) => {
    if (text === said || nodeClock.monotonic() - since < QUIET_MS) return;
    said = text;
    process.stderr.write(`${text}\n`);
  };
}
