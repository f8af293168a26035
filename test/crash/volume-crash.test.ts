/**
 * A few rounds of what `npm run chaos -- --rounds 100` does at length: a volume on a mount of a
 * real cluster, with recorded file operations, SQLite and PostgreSQL at work, is crashed and
 * checked. With SIGKILL of everything first, then with power cuts. The same rounds must fail where
 * fsync, or the nodes' fdatasync, is a lie. HOLDFAST_TEST_ROUNDS and HOLDFAST_TEST_SEED change how
 * many and which; some lies are looked for only where rounds are asked for.
 */
import t, { type Test } from 'tap';
import { findPostgres } from '../../chaos/applications/postgres.js';
import { OPTIONAL, Run, type RunOptions } from '../../chaos/run.js';
import {
  type Breakage,
  breakProgram,
  FORGETFUL,
  NO_FSYNC,
  noFlush,
} from '../fixtures/broken-program.js';
import { endAll } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';

t.setTimeout(900_000);

/** A lie about a flush is seen only where one was among the last few operations. */
const WHILE_FLUSHING: Partial<RunOptions> = { crashWhileFlushing: true };
/** Of each kind of crash. */
const ROUNDS = Number(process.env.HOLDFAST_TEST_ROUNDS ?? 1);
const SEED = Number(process.env.HOLDFAST_TEST_SEED ?? (Date.now() % 1_000_000) + 1);
const reason = cannotMount();
const skip = reason === false ? {} : { skip: reason };
const skipLies =
  process.env.HOLDFAST_TEST_ROUNDS === undefined
    ? { skip: 'takes minutes; HOLDFAST_TEST_ROUNDS=1 runs it' }
    : skip;

function options(t: Test, more: Partial<RunOptions>): RunOptions {
  return {
    seed: SEED,
    rounds: ROUNDS * (more.crashes?.length ?? 1),
    minutes: 30,
    crashes: ['all'],
    interruptions: false,
    orderlyEnd: false,
    applications: OPTIONAL.filter((name) => name !== 'postgres' || findPostgres() !== null),
    say: (line) => t.comment(line),
    ...more,
  };
}

async function passes(t: Test, more: Partial<RunOptions>): Promise<void> {
  t.teardown(endAll);
  t.comment(`seed ${SEED}`);
  if (findPostgres() === null) t.comment('without PostgreSQL, which is not installed');
  const { faults, applications } = await Run.execute(options(t, more));
  for (const one of applications) t.comment(`${one.name}: ${one.summary()}`);
  t.same(faults, [], 'every check passed');
  t.equal(await endAll(), 0, 'no process is left behind');
}

async function fails(t: Test, broken: Breakage, more: Partial<RunOptions>): Promise<void> {
  t.teardown(endAll);
  const { program, remove } = breakProgram(broken);
  t.teardown(remove);
  const lie = { ...more, program, applications: [], rounds: 4 };
  const { faults, rounds } = await Run.execute(options(t, lie));
  t.comment(`after ${rounds} rounds: ${faults[0] ?? 'nothing was seen'}`);
  t.not(faults.length, 0, 'it was seen');
  await endAll();
}

// After SIGKILL of the daemon alone nothing at all may be missing, and no call may have failed.
t.test('SIGKILL of the daemon, its mount, or everything loses nothing flushed', skip, (t) =>
  passes(t, { crashes: ['daemon', 'mount', 'all'], orderlyEnd: true }),
);

t.test('a successor that forgets what was answered is seen', skipLies, (t) =>
  fails(t, FORGETFUL, { crashes: ['daemon'] }),
);

t.test('a power cut loses nothing flushed', skip, (t) => passes(t, { crashes: ['power'] }));

t.test('a volume that lies about fsync is seen', skip, (t) => fails(t, NO_FSYNC, WHILE_FLUSHING));

t.test('nodes that lie about fdatasync are seen by a power cut', skipLies, (t) =>
  fails(t, noFlush(4_000), { ...WHILE_FLUSHING, crashes: ['power'] }),
);
