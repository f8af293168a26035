/** How numbers and tables are read from and written for people: sizes, labels, aligned columns. */
import { invalid } from '../core/errors.js';

/**
 * Rows of cells as aligned columns, with a heading; nothing but the heading when there are none.
 */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, i) => Math.max(...all.map((row) => (row[i] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** "k=v" pairs, as of repeated --label options. Throws INVALID_ARGUMENT. */
export function parseLabels(pairs: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    // JavaScript itself takes a property of that name for something else, and it would be lost.
    const isName = at > 0 && pair.slice(0, at) !== '__proto__';
    if (!isName) throw invalid(`"${pair}" is not a label`, 'Write labels as KEY=VALUE.');
    labels[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return labels;
}

/** Gathers the values of an option that may be given several times. */
export function collect(value: string, all: readonly string[] = []): readonly string[] {
  return [...all, value];
}
