/** How commands print: results as text or JSON, help with examples. */
import type { Command } from 'commander';

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
