/**
 * `npm run chaos`: with --minutes, machines that everything happens to while applications work
 * (nemesis/suite.ts); with --rounds, one machine that crashes again and again (run.ts). Exit code
 * 0: every check passed and nothing was left behind; 1: something did not; 2: nonsense asked.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { untilInterrupted } from '../src/cli/interrupt.js';
import { endAll } from '../test/fixtures/processes.js';
import { findPostgres } from './applications/postgres.js';
import { CRASHES } from './faults.js';
import { cannotJoinMachines } from './machines/network.js';
import { FAULT_NAMES } from './nemesis/faults.js';
import { summaryPage as pageOfFaults } from './nemesis/page.js';
import { APPLICATIONS, type ApplicationName, Suite } from './nemesis/suite.js';
import { summaryPage as pageOfRounds } from './report.js';
import { OPTIONAL, Run } from './run.js';

const DEFAULT_MINUTES = 10;
const APPLICATION_NAMES = Object.keys(APPLICATIONS) as ApplicationName[];
const CRASH_NAMES = Object.keys(CRASHES) as (keyof typeof CRASHES)[];

const USAGE = `usage: npm run chaos -- [--minutes M] [--seed S] [--faults LIST] [--without LIST]
       npm run chaos -- --rounds N [--minutes M] [--seed S] [--crashes LIST] [--quiet]
                        [--without LIST]

With --minutes (default: ${DEFAULT_MINUTES}): machines in network namespaces; one fault after
another, at times two at once.
With --rounds: one machine; after each round of work it crashes, starts again, and is checked.

  --minutes M     how long faults strike; with --rounds: no round begins later
  --rounds N      how many crashes
  --seed S        repeats what is chosen, not when it happens (default: by the clock)
  --faults LIST   only these, by comma: ${FAULT_NAMES.join(', ')}
  --crashes LIST  only these, by comma: ${CRASH_NAMES.join(', ')}
  --quiet         crashes only, no interruptions
  --without LIST  not these: ${APPLICATION_NAMES.join(', ')}; with --rounds: ${OPTIONAL.join(', ')}
  --help          this text

Examples:
  # Half an hour of everything
  npm run chaos -- --minutes 30 --seed 7
  # Volumes that change their machine
  npm run chaos -- --minutes 5 --faults "volume moved,taken over while paused" --without postgres
  # A hundred crashes, about ten seconds each
  npm run chaos -- --rounds 100
  # Only power cuts
  npm run chaos -- --rounds 20 --crashes power --without postgres
`;

function readArguments() {
  try {
    return parseArgs({
      options: {
        rounds: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
        faults: { type: 'string' },
        crashes: { type: 'string' },
        without: { type: 'string', default: '' },
        quiet: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return refuse((error as Error).message.split('. ')[0] ?? 'unknown arguments');
  }
}

function refuse(message: string): never {
  process.stderr.write(`chaos: ${message} (--help says more)\n`);
  process.exit(2);
}

function numberOf(text: string | undefined, what: string, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0)) refuse(`${what} takes a number above 0, not "${text}"`);
  return value;
}

/** The words of a list, each of which must be one of `known`. */
function listOf<T extends string>(text: string, what: string, known: readonly T[]): T[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  const odd = words.find((word) => !known.some((one) => one === word));
  if (odd !== undefined) refuse(`${what} takes some of ${known.join(', ')}, not "${odd}"`);
  return words as T[];
}

const values = readArguments();
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
const seed = numberOf(values.seed, '--seed', 1);
const say = (line: string): void => console.log(line);

function sayTheSeed(): void {
  say(`seed ${seed} (repeat with --seed ${seed})`);
}

/** Also sees that what is asked for can be done here. */
function applications<T extends string>(known: readonly T[]): T[] {
  const excluded = listOf(values.without, '--without', known);
  const names = known.filter((name) => !excluded.includes(name));
  if (process.getuid?.() !== 0) refuse('mounting needs root: run it with sudo');
  if (!existsSync('/dev/fuse')) refuse('there is no /dev/fuse');
  if (names.some((name) => name === 'postgres') && findPostgres() === null) {
    refuse('PostgreSQL is not installed: apt-get install postgresql, or --without postgres');
  }
  return names;
}

/** What a run found, and its page for other findings. */
interface Outcome {
  readonly faults: readonly string[];
  page(faults: readonly string[]): string;
}

async function rounds(signal: AbortSignal): Promise<Outcome> {
  if (values.faults !== undefined) refuse('--faults goes with --minutes, not with --rounds');
  const asked = listOf(values.crashes ?? '', '--crashes', CRASH_NAMES);
  const names = applications(OPTIONAL);
  const most = numberOf(values.minutes, '--minutes', 24 * 60);
  const count = numberOf(values.rounds, '--rounds', 1);
  sayTheSeed();
  const summary = await Run.execute({
    seed,
    rounds: count,
    minutes: most,
    crashes: asked.length === 0 ? CRASH_NAMES : asked,
    interruptions: !values.quiet,
    orderlyEnd: true,
    applications: names,
    say,
    signal,
  });
  return { faults: summary.faults, page: (faults) => pageOfRounds({ ...summary, faults }) };
}

async function minutes(signal: AbortSignal): Promise<Outcome> {
  if (values.crashes !== undefined) refuse('--crashes goes with --rounds');
  if (values.quiet) refuse('--quiet goes with --rounds');
  const asked = listOf(values.faults ?? '', '--faults', FAULT_NAMES);
  const length = numberOf(values.minutes, '--minutes', DEFAULT_MINUTES);
  const names = applications(APPLICATION_NAMES);
  const why = cannotJoinMachines();
  if (why !== null) refuse(why);
  const faults = asked.length === 0 ? FAULT_NAMES : asked;
  sayTheSeed();
  const summary = await Suite.execute({
    ...{ seed, minutes: length, faults, applications: names, say, signal },
  });
  return { faults: summary.faults, page: (found) => pageOfFaults({ ...summary, faults: found }) };
}

const { signal } = untilInterrupted();
const outcome = await (values.rounds === undefined ? minutes(signal) : rounds(signal));
const left = await endAll();
const faults = left === 0 ? outcome.faults : [...outcome.faults, `${left} processes were left`];
say(`\n${outcome.page(faults)}`);
process.exit(faults.length === 0 ? 0 : 1);
