/**
 * npm run sim -- [--seeds N] [--first S] [--seed S] [--mutants [NAME]] [--json] [--verbose]
 * [--workers N]
 *
 * Runs seeded simulations of a whole cluster, or shows that the simulator sees every known bug
 * (--mutants). Exit code 0: no violation and every kind of fault fired often enough; 1 otherwise.
 */
import { parseArgs } from 'node:util';
import { runMutants } from './mutation.js';
import { coverageTable, missingCoverage, summaryLine, violationReport } from './report.js';
import { runSeed, type SeedResult } from './run-seed.js';
import { runSeeds, type Summary, shrinkInWorker } from './runner.js';

const MIN_SEEDS_FOR_COVERAGE = 500;
const PROGRESS_EVERY_MS = 5_000;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    first: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    workers: { type: 'string', default: '2' },
  },
});

async function one(seed: string): Promise<number> {
  const result = await runSeed({ seed, transcript: values.verbose });
  if (values.verbose) for (const line of result.transcript) console.log(line);
  const { violation, trace, events, virtualMs } = result;
  if (values.json) console.log(JSON.stringify({ ...result, transcript: undefined }));
  else {
    console.log(
      `seed ${seed}: ${events} events, ${(virtualMs / 1000).toFixed(1)} simulated seconds, ` +
        `trace ${trace.toString(16).padStart(8, '0')}`,
    );
    if (violation !== null) {
      console.log(`VIOLATION of invariant ${violation.invariant}: ${violation.message}`);
    }
  }
  return violation === null ? 0 : 1;
}

function progress(): (summary: Summary) => void {
  let last = Date.now();
  let told = 0;
  return (summary) => {
    for (; told < summary.violations.length && !values.json; told++) {
      const { seed, violation } = summary.violations[told] as SeedResult;
      console.log(`  VIOLATION in seed ${seed}: invariant ${violation?.invariant}`);
    }
    if (Date.now() - last < PROGRESS_EVERY_MS || values.json) return;
    last = Date.now();
    console.log(`  ${summaryLine(summary)}`);
  };
}

async function many(): Promise<number> {
  const first = Number(values.first);
  const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => String(first + i));
  const summary = await runSeeds({
    seeds,
    workers: Number(values.workers),
    maxViolations: 5,
    onProgress: progress(),
  });
  const reports: string[] = [];
  for (const [index, failing] of summary.violations.entries()) {
    const shrunk = index < 2 && !values.json ? await shrinkInWorker(failing) : null;
    reports.push(violationReport(failing, shrunk));
  }
  const judged = summary.seeds >= MIN_SEEDS_FOR_COVERAGE;
  const missing = judged ? missingCoverage(summary.coverage, summary.seeds) : [];
  if (values.json) {
    const violations = summary.violations.map(({ seed, violation }) => ({ seed, ...violation }));
    const { seeds: count, events, virtualMs } = summary;
    const seconds = (Date.now() - summary.startedAt) / 1000;
    const coverage = summary.coverage.counts;
    console.log(
      JSON.stringify({ seeds: count, events, virtualMs, seconds, coverage, missing, violations }),
    );
  } else {
    console.log(coverageTable(summary.coverage));
    for (const report of reports) console.log(report);
    for (const what of missing) console.log(`TOO RARE: ${what}`);
    console.log('');
    console.log(summaryLine(summary));
  }
  return summary.violations.length === 0 && missing.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  if (values.mutants) return (await runMutants(values.only ?? null)) ? 0 : 1;
  if (values.seed !== undefined) return one(values.seed);
  return many();
}

process.exitCode = await main();
