/**
 * Random histories against the model. fast-check prints seed and path of a failure and the shortest
 * sequence that shows it; HOLDFAST_SEED and HOLDFAST_RUNS repeat or lengthen a run.
 */
import fc from 'fast-check';
import { test } from 'tap';
import { assert } from '../../src/core/assert.js';
import { Bed, checkBed } from './harness.js';
import { MemoryIntents } from './memory-intents.js';
import { Run, steps } from './random-run.js';

const { HOLDFAST_SEED, HOLDFAST_RUNS } = process.env;
const seed = HOLDFAST_SEED === undefined ? {} : { seed: Number(HOLDFAST_SEED) };
const runs = Number(HOLDFAST_RUNS ?? 200);

const LIMIT_MS = 50_000;
/** Space is won back all the time, from segments of few pages. */
const reclaimLimits = { intervalMs: 3, deadBytes: 100_000, quietBytes: 0, restBytes: 100_000 };

test('every operation does what the model does, and replay gives the same state', async (t) => {
  fc.assert(
    fc.property(steps, fc.nat(3), (sequence, cache) => {
      const mount = { cachePages: cache * 4 + 1, reclaimLimits };
      const run = new Run(new Bed({ segmentPages: 64, mount }));
      for (const step of sequence) {
        run.step(step);
        run.compare();
      }
      run.bed.owner.assertUnchanged();
      assert(run.bed.isReproduced(), 'replay gives the live state');
      run.bed.process.kill();
      const { findings } = checkBed(run.bed, { withoutPages: true });
      assert(findings.length === 0, JSON.stringify(findings));
    }),
    { numRuns: runs, interruptAfterTimeLimit: LIMIT_MS, ...seed },
  );
  t.pass('no difference');
});

test('after a crash the volume is a prefix with all that was fsynced', async (t) => {
  fc.assert(
    fc.property(steps, fc.nat(20), fc.nat(3), (sequence, survive, delay) => {
      const run = new Run(
        new Bed({ ackDelayMs: delay, segmentPages: 64, mount: { reclaimLimits } }),
      );
      for (const step of sequence) {
        if (step.kind !== 'remount') run.step(step);
      }
      run.bed.crash(survive);
      const found = run.dump();
      const allowed = run.history.slice(run.durable);
      assert(allowed.includes(found), `not a prefix:\n${found}\nlast:\n${allowed.at(-1)}`);
      assert(run.bed.isReproduced(), 'replay gives the live state');
    }),
    { numRuns: runs, interruptAfterTimeLimit: LIMIT_MS, ...seed },
  );
  t.pass('always a prefix');
});

test('a successor of a killed daemon has all that was answered', async (t) => {
  fc.assert(
    fc.property(steps, fc.nat(20), fc.nat(3), (sequence, survive, delay) => {
      const intents = new MemoryIntents();
      const options = { ackDelayMs: delay, segmentPages: 64, mount: { reclaimLimits }, intents };
      const run = new Run(new Bed(options), { adopts: true });
      for (const step of sequence) run.step(step);
      run.bed.adopt(survive);
      run.compare();
      run.bed.adopt(0);
      run.compare();
      assert(run.bed.isReproduced(), 'replay gives the live state');
    }),
    { numRuns: runs, interruptAfterTimeLimit: LIMIT_MS, ...seed },
  );
  t.pass('nothing is missing, nothing is there twice');
});
