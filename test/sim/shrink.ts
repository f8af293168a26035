/**
 * Makes a failing seed small: replays it with parts of its fault list taken away and with the chaos
 * ended earlier, and keeps whatever still breaks the same invariant. What is left is what it takes.
 */
import type { Fault } from './nemesis.js';
import { runSeed, type SeedOptions, type SeedResult } from './run-seed.js';

export interface Shrunk {
  readonly result: SeedResult;
  readonly runs: number;
}

type Run = (options: SeedOptions) => Promise<SeedResult>;

export async function shrink(
  failing: SeedResult,
  budgetRuns = 120,
  run: Run = runSeed,
): Promise<Shrunk> {
  const invariant = failing.violation?.invariant;
  let runs = 0;
  let best = failing;

  const attempt = async (faults: readonly Fault[], chaosMs: number): Promise<boolean> => {
    if (runs >= budgetRuns) return false;
    runs += 1;
    const result = await run({ seed: failing.seed, faults, chaosMs });
    if (result.violation === null || result.violation.invariant !== invariant) return false;
    best = result;
    return true;
  };

  // Faults that would come after the violation do not matter.
  const happened = failing.faults.filter((fault) => fault.at <= failing.virtualMs);
  if (happened.length < failing.faults.length) await attempt(happened, failing.chaosMs);
  await shrinkFaults();
  for (const factor of [0.25, 0.5, 0.75]) {
    if (await attempt(best.faults, best.chaosMs * factor)) break;
  }
  await shrinkFaults();
  const transcribed = await run({
    seed: failing.seed,
    faults: best.faults,
    chaosMs: best.chaosMs,
    transcript: true,
  });
  return { result: transcribed, runs };

  /** Takes away halves, then quarters, ... then single faults, as long as it still fails. */
  async function shrinkFaults(): Promise<void> {
    for (let size = Math.ceil(best.faults.length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let from = 0; from < best.faults.length; ) {
        const fewer = [...best.faults.slice(0, from), ...best.faults.slice(from + size)];
        if (!(await attempt(fewer, best.chaosMs))) from += size;
      }
    }
  }
}

/** The transcript's last part, for people. */
export function tail(transcript: readonly string[], lines: number): string[] {
  if (transcript.length <= lines) return [...transcript];
  const faults = transcript.slice(0, -lines).filter((line) => line.includes('FAULT'));
  const skipped = transcript.length - lines - faults.length;
  return [...faults, `   ... ${skipped} lines left out ...`, ...transcript.slice(-lines)];
}
