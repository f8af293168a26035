/**
 * A short form of `npm run chaos -- --minutes 30`: machines in network namespaces, applications on
 * several volumes, and one fault of each class, always the same ones. HOLDFAST_TEST_MINUTES makes
 * it a long one, and then runs programs that lie, which must be seen; HOLDFAST_TEST_SEED makes it
 * another one.
 */
import t, { type Test } from 'tap';
import { cannotJoinMachines } from '../../chaos/machines/network.js';
import { FAULT_NAMES, type FaultName } from '../../chaos/nemesis/faults.js';
import { summaryPage } from '../../chaos/nemesis/page.js';
import { Suite, type SuiteOptions } from '../../chaos/nemesis/suite.js';
import { type Breakage, breakProgram, NO_FSYNC, STALE_OWNER } from '../fixtures/broken-program.js';
import { endAll } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';

t.setTimeout(900_000);

const MINUTES = Number(process.env.HOLDFAST_TEST_MINUTES ?? 0);
const SEED = Number(process.env.HOLDFAST_TEST_SEED ?? 4);
const reason = cannotMount() || (cannotJoinMachines() ?? false);
const skip = reason === false ? {} : { skip: reason };

function options(t: Test, more: Partial<SuiteOptions>): SuiteOptions {
  return {
    seed: SEED,
    minutes: MINUTES === 0 ? 10 : MINUTES,
    faults: [],
    isScripted: true,
    holdMs: [500, 1_500],
    applications: ['registers'],
    say: (line) => t.comment(line),
    ...more,
  };
}

t.test('whatever happens to machines is a pause', skip, async (t) => {
  t.teardown(endAll);
  const applications = ['files', 'sqlite', 'registers'] as const;
  const faults = [
    'node killed',
    'machine mute',
    'taken over while paused',
    'etcd killed',
    'daemon killed',
    'disk wiped',
  ] as const;
  const more = MINUTES === 0 ? { faults } : { faults: FAULT_NAMES, isScripted: false };
  const summary = await Suite.execute(options(t, { ...more, applications }));
  t.same(summary.faults, [], summaryPage(summary));
  if (MINUTES === 0) t.equal(summary.happened.length, faults.length, 'every fault struck');
  t.equal(await endAll(), 0, 'no process is left behind');
});

/** A lie is seen, and the run cleans up behind itself all the same. */
async function sees(
  t: Test,
  what: string,
  broken: readonly Breakage[],
  fault: FaultName,
): Promise<void> {
  const { program, remove } = breakProgram(...broken);
  t.teardown(remove);
  const { faults } = await Suite.execute(options(t, { faults: [fault], program }));
  t.match(faults[0] ?? 'nothing was seen', /^registers: register \d: /, what);
  t.notMatch(faults.join('\n'), /was left/);
}

const skipLies = MINUTES === 0 ? { skip: 'takes minutes; HOLDFAST_TEST_MINUTES=1 runs it' } : skip;

t.test('lies are seen', skipLies, async (t) => {
  t.teardown(endAll);
  await Promise.all([
    sees(t, 'an owner that reads on when it is none', STALE_OWNER, 'taken over while paused'),
    sees(t, 'a volume that lies about fsync', [NO_FSYNC], 'taken over while cut off'),
  ]);
  t.equal(await endAll(), 0, 'no process is left behind');
});
