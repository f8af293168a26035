/** The shrinker finds what it takes, keeps to its budget, and mutants stand where they should. */
import { test } from 'tap';
import { MUTANTS } from './mutants.js';
import { misplaced } from './mutation.js';
import type { Fault } from './nemesis.js';
import type { SeedOptions, SeedResult } from './run-seed.js';
import { shrink, tail } from './shrink.js';

function fault(index: number): Fault {
  return {
    index,
    kind: 'node.kill',
    at: index * 10,
    on: null,
    delay: 0,
    duration: 1,
    target: 0,
    detail: 0,
  };
}

/** A planted bug: fails if and only if faults 3 and 11 both happen, and the chaos lasts 40 ms. */
function planted(runs: { count: number }) {
  return async (options: SeedOptions): Promise<SeedResult> => {
    runs.count += 1;
    const faults = options.faults ?? Array.from({ length: 20 }, (_, i) => fault(i));
    const chaosMs = options.chaosMs ?? 160;
    const has = (index: number): boolean => faults.some((one) => one.index === index);
    const fails = has(3) && has(11) && chaosMs >= 40;
    return {
      seed: String(options.seed),
      events: 1,
      virtualMs: 150,
      trace: 0,
      violation: fails ? { invariant: 1, message: 'planted' } : null,
      coverage: {},
      faults,
      chaosMs,
      transcript: options.transcript ? ['the story'] : [],
    };
  };
}

test('a planted bug shrinks to the two faults that it takes', async (t) => {
  const runs = { count: 0 };
  const run = planted(runs);
  const failing = await run({ seed: 1 });
  const { result } = await shrink(failing, 200, run);
  t.same(
    result.faults.map((one) => one.index),
    [3, 11],
  );
  t.equal(result.chaosMs, 40);
  t.same(result.transcript, ['the story']);
});

test('shrinking ends when its budget is used up, with something that still fails', async (t) => {
  const runs = { count: 0 };
  const run = planted(runs);
  const failing = await run({ seed: 1 });
  const { result } = await shrink(failing, 5, run);
  t.ok(runs.count <= 7);
  t.not(result.violation, null);
});

test('a long transcript is cut in the middle, and keeps its faults', async (t) => {
  const lines = Array.from({ length: 100 }, (_, i) => (i === 3 ? 'FAULT x' : `line ${i}`));
  const short = tail(lines, 10);
  t.equal(short[0], 'FAULT x');
  t.equal(short.length, 12);
  t.equal(short.at(-1), 'line 99');
  t.same(tail(['a'], 10), ['a']);
});

test('every mutant changes exactly one place in this build', async (t) => {
  t.same(misplaced(), []);
  t.equal(new Set(MUTANTS.map((mutant) => mutant.name)).size, MUTANTS.length);
});
