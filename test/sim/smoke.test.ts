/** Thirty seeds of the whole cluster without a violation, reaching the states that matter. */
import { test } from 'tap';
import { Coverage } from './coverage.js';
import { runSeed } from './run-seed.js';

const SEEDS = 30;

test('thirty seeds run without a violation', { timeout: 240_000 }, async (t) => {
  const coverage = new Coverage();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = await runSeed({ seed });
    t.equal(result.violation, null, `seed ${seed}: ${result.violation?.message ?? 'fine'}`);
    coverage.add(result.coverage);
  }
  for (const name of [
    'takeovers',
    'acks',
    'seals',
    'owner-state.taking-over fence',
    'owner-state.serving',
    'owner-state.stopped',
    'reply.append.OK',
    'reply.append.STALE',
    'reply.fence.OK',
    'reply.seal.OK',
    'reply.copy.OK',
    'read.ok',
    'scrub.read.OK',
    'scrub.copy.OK',
    'replay.ok',
  ]) {
    t.ok(coverage.get(name) > 0, `${name} is reached`);
  }
});
