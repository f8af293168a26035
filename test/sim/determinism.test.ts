/** One seed gives one trace: in this process, again in this process, and in another one. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { runSeed } from './run-seed.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const SEEDS = ['7', '12', '104'];

function elsewhere(seed: string): { trace: number; events: number } {
  const out = execFileSync(process.execPath, [MAIN, '--seed', seed, '--json'], {
    encoding: 'utf8',
  });
  return JSON.parse(out);
}

test('a seed gives the same trace twice, and in another process', async (t) => {
  for (const seed of SEEDS) {
    const first = await runSeed({ seed });
    const second = await runSeed({ seed, transcript: true });
    const third = elsewhere(seed);
    t.equal(second.trace, first.trace, `seed ${seed} again, with a transcript`);
    t.equal(third.trace, first.trace, `seed ${seed} in another process`);
    t.equal(third.events, first.events);
    t.equal(second.events, first.events);
  }
});

test('different seeds give different traces', async (t) => {
  const traces = new Set<number>();
  for (const seed of SEEDS) traces.add((await runSeed({ seed })).trace);
  t.equal(traces.size, SEEDS.length);
});
