/**
 * `npm run sim`: runs seeded simulations of a whole cluster, or shows that the simulator sees every
 * known bug (--mutants). Exit code 0: no violation and every kind of fault fired often enough; 1
 * otherwise; 2 asked wrongly.
 */
import { parseArgs } from 'node:util';
import { runMutants } from './mutation.js';
import { coverageTable, missingCoverage, summaryLine, violationReport } from './report.js';
import { runSeed, type SeedResult } from './run-seed.js';
import { runSeeds, type Summary, shrinkInWorker } from './runner.js';

const MIN_SEEDS_FOR_COVERAGE = 500;
const PROGRESS_EVERY_MS = 5_000;

const USAGE = `usage: npm run sim -- [options]
  --seeds N           so many simulations (200)
  --first S           from this seed on (1)
  --seed S            this one alone
  --verbose           with --seed: every event
  --mutants           shows that each known bug is seen
  --only NAME         with --mutants: those whose names have this in them
  --workers N         processes (2)
  --json              prints values instead of a table
`;

function fail(message: string): never {
  process.stderr.write(`sim: ${message}\n`);
  process.exit(2);
}

function options() {
  try {
    return parseArgs({
      options: {
        seeds: { type: 'string', default: '200' },
        first: { type: 'string', default: '1' },
        seed: { type: 'string' },
        mutants: { type: 'boolean', default: false },
        only: { type: 'string' },
        json: { type: 'boolean', default: false },
        verbose: { type: 'boolean', default: false },
        workers: { type: 'string', default: '2' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (thrown) {
    return fail(`${(thrown as Error).message}\n${USAGE}`);
  }
}

function wholeNumber(name: 'seeds' | 'first' | 'workers', least: number): number {
  const number = Number(values[name]);
  if (Number.isSafeInteger(number) && number >= least) return number;
  return fail(`--${name} takes a whole number from ${least} on, not "${values[name]}"`);
}

const values = options();

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
  const first = wholeNumber('first', 0);
  const seeds = Array.from({ length: wholeNumber('seeds', 1) }, (_, i) => String(first + i));
  const summary = await runSeeds({
    seeds,
    workers: wholeNumber('workers', 1),
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
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (values.mutants) return (await runMutants(values.only ?? null)) ? 0 : 1;
  if (values.seed !== undefined) return one(values.seed);
  return many();
}

process.exitCode = await main();
