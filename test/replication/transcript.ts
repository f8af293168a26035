/**
 * Transcripts: inputs ("> append 2") and, below each, what the core did. A test gives the
 * inputs to the core and compares the whole text, so that a changed decision is a changed line.
 * UPDATE_TRANSCRIPTS=1 writes what was seen instead: read the difference before you believe it.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** One scenario of a file: "# title", then inputs and outputs. */
export interface Scenario {
  readonly title: string;
  readonly text: string;
}

/** The compiled tests run from dist: fixtures stay where the sources are. */
export function readTranscripts(name: string): Scenario[] {
  const text = readFileSync(`test/replication/transcripts/${name}.txt`, 'utf8');
  return text
    .split(/^# /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf('\n');
      return { title: part.slice(0, end).trim(), text: part.slice(end + 1).trim() };
    });
}

/** Gives each scenario of a file to `play`, and what was seen to `compare`. */
export function checkTranscripts(
  name: string,
  play: (scenario: Scenario) => string,
  compare: (scenario: Scenario, seen: string) => void,
): void {
  const scenarios = readTranscripts(name);
  const seen = scenarios.map(play);
  if (process.env.UPDATE_TRANSCRIPTS === '1') {
    const texts = scenarios.map(({ title }, index) => `# ${title}\n${seen[index]}\n`);
    writeFileSync(`test/replication/transcripts/${name}.txt`, texts.join('\n'));
  }
  for (const [index, scenario] of scenarios.entries()) compare(scenario, seen[index] as string);
}

/** Runs each input; returns the text with the outputs really seen. Comments ("; ") are kept. */
export function replayTranscript(
  scenario: Scenario,
  run: (words: readonly string[]) => readonly string[],
): string {
  const lines: string[] = [];
  for (const line of scenario.text.split('\n')) {
    if (line.startsWith(';') || line.trim() === '') lines.push(line.trim());
    if (!line.startsWith('> ')) continue;
    lines.push(line.trim());
    for (const output of run(line.slice(2).trim().split(/\s+/))) lines.push(`  ${output}`);
  }
  return lines.join('\n');
}
