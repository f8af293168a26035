/** Giving a volume back when something of what it takes does not answer. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { VolumeId } from '../../src/core/ids.js';
import { type ReleaseParts, releaseVolume } from '../../src/lifecycle/release-volume.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';

type Step = 'commit' | 'get' | 'finish' | 'release' | 'presence';

/** How long each step takes; Infinity: for ever. What is not named takes no time. */
async function giveBack(takes: Partial<Record<Step, number>>, failing: readonly Step[] = []) {
  const scheduler = new SimScheduler();
  const { clock } = new SimProcess(scheduler);
  const steps: string[] = [];
  const warnings: string[] = [];
  const step = (name: Step, done: (error: HoldfastError | null) => void): void => {
    steps.push(name);
    const ms = takes[name] ?? 0;
    const error = failing.includes(name) ? new HoldfastError('UNAVAILABLE', 'no') : null;
    if (ms !== Number.POSITIVE_INFINITY) clock.after(ms, () => done(error));
  };
  const promised = (name: Step): Promise<never> =>
    new Promise((resolve, reject) => {
      step(name, (error) => (error === null ? resolve(undefined as never) : reject(error)));
    });
  const parts: ReleaseParts = {
    clock,
    volume: '1'.repeat(32) as VolumeId,
    name: 'db',
    log: { warn: (_fields: unknown, text?: string) => void warnings.push(String(text)) },
    store: { get: () => promised('get') },
    owner: { release: (done) => step('release', done), stop: () => steps.push('stop') },
    filesystem: {
      commit: (done) => step('commit', done),
      finish: (done) => step('finish', done),
    },
    presence: { stop: () => promised('presence') },
  };
  let released: boolean | null = null;
  let tookMs = 0;
  void releaseVolume(parts).then((given) => {
    released = given;
    tookMs = scheduler.now;
  });
  while (released === null) {
    await scheduler.settle();
    scheduler.step();
  }
  return { released, tookMs, steps, warnings };
}

t.test('in order: commit, checkpoint, release, presence', async (t) => {
  const { released, steps, warnings } = await giveBack({ finish: 1_000 });
  t.equal(released, true);
  t.same(steps, ['commit', 'get', 'finish', 'release', 'stop', 'presence']);
  t.same(warnings, []);
});

t.test(
  'a metadata store that does not answer costs seconds, not a checkpoint’s time',
  async (t) => {
    const ever = Number.POSITIVE_INFINITY;
    const { released, tookMs, steps, warnings } = await giveBack({ get: ever, presence: ever });
    t.equal(released, false);
    t.ok(tookMs < 5_000, `${tookMs} ms`);
    t.same(steps, ['commit', 'get', 'stop', 'presence'], 'committed, and nothing that needs it');
    t.match(warnings, [/does not answer: the volume is free when its lease ends, in 10 s/]);
    const refused = await giveBack({}, ['get']);
    t.equal(refused.released, false);
    t.ok(refused.tookMs < 100, 'refused: at once');
  },
);

t.test('a slow checkpoint leaves the release its own time', async (t) => {
  const slow = await giveBack({ commit: 5_000, finish: 12_000, release: 4_000 });
  t.match(slow, { released: true, warnings: [] });
  const given = await giveBack({ finish: Number.POSITIVE_INFINITY, release: 4_000 });
  t.equal(given.released, true);
  t.match(given.warnings, [/checkpoint was given up/]);
});

t.test('a release or a commit that does not end is said, and the rest is tried', async (t) => {
  const ever = Number.POSITIVE_INFINITY;
  t.match(await giveBack({ release: ever }), {
    released: false,
    warnings: [/release did not end/],
  });
  t.match(await giveBack({ commit: ever }), {
    released: true,
    warnings: [/last commit did not end/],
  });
});
