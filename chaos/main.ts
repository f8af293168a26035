/**
 * npm run chaos -- --rounds N | --minutes M [--seed S] [--crashes daemon,mount,all,power] [--quiet]
 * [--without pages,sqlite,postgres]
 *
 * Real nodes, a real etcd and a real mount; PostgreSQL, SQLite and recorded file operations on it;
 * and everything that kills, pauses and cuts the power of them, by a seed. Exit code 0: every check
 * passed and nothing was left behind; 1: something did not; 2: nonsense asked.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { untilInterrupted } from '../src/cli/interrupt.js';
import { endAll } from '../test/fixtures/processes.js';
import { findPostgres } from './applications/postgres.js';
import { CRASHES } from './faults.js';
import { summaryPage } from './report.js';
import { OPTIONAL, Run, type RunOptions } from './run.js';

function readArguments() {
  try {
    return parseArgs({
      options: {
        rounds: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
        crashes: { type: 'string', default: Object.keys(CRASHES).join(',') },
        without: { type: 'string', default: '' },
        quiet: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return refuse((error as Error).message.split('. ')[0] ?? 'unknown arguments');
  }
}

const DEFAULT_MINUTES = 10;

function refuse(message: string): never {
  process.stderr.write(`chaos: ${message}\n`);
  process.exit(2);
}

function numberOf(text: string | undefined, what: string, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0)) refuse(`${what} takes a number above 0, not "${text}"`);
  return value;
}

function parseOptions(): RunOptions {
  const { values } = readArguments();
  const { rounds, minutes, seed, crashes, without, quiet } = values;
  const kinds = crashes.split(',') as (keyof typeof CRASHES)[];
  const unknown = kinds.find((kind) => CRASHES[kind] === undefined);
  const known = Object.keys(CRASHES).join(', ');
  if (unknown !== undefined) refuse(`there is no crash "${unknown}"; there is: ${known}`);
  const excluded = without.split(',').filter((name) => name !== '');
  const odd = excluded.find((name) => !OPTIONAL.some((each) => each === name));
  if (odd !== undefined) refuse(`--without takes some of ${OPTIONAL.join(', ')}, not "${odd}"`);
  const left = OPTIONAL.filter((name) => !excluded.includes(name));
  return {
    seed: numberOf(seed, '--seed', 1),
    rounds: numberOf(rounds, '--rounds', Number.POSITIVE_INFINITY),
    minutes: numberOf(minutes, '--minutes', rounds === undefined ? DEFAULT_MINUTES : 24 * 60),
    crashes: kinds,
    interruptions: !quiet,
    orderlyEnd: true,
    applications: left,
    say: (line) => console.log(line),
  };
}

const options = parseOptions();
if (process.getuid?.() !== 0) refuse('mounting needs root: run it with sudo');
if (!existsSync('/dev/fuse')) refuse('there is no /dev/fuse');
if (options.applications.includes('postgres') && findPostgres() === null) {
  refuse('PostgreSQL is not installed: apt-get install postgresql, or --without postgres');
}
console.log(`seed ${options.seed} (repeat with --seed ${options.seed})`);
const summary = await Run.execute({ ...options, signal: untilInterrupted().signal });
const left = await endAll();
const faults = left === 0 ? summary.faults : [...summary.faults, `${left} processes were left`];
console.log(`\n${summaryPage({ ...summary, faults })}`);
process.exit(faults.length === 0 ? 0 : 1);
