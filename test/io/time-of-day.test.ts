/** Nanoseconds of day from two clocks that have one half of it each. */
import t from 'tap';
import { FineTime } from '../../src/io/node/time-of-day.js';

const DAY_MS = 1_700_000_000_000;

/** A machine whose clocks a test moves. */
function machine() {
  const now = { hrNanos: 5_999_999_000, wallMs: DAY_MS };
  const time = new FineTime({
    hrtime: () => [Math.floor(now.hrNanos / 1e9), now.hrNanos % 1e9],
    wallMs: () => Math.floor(now.wallMs),
  });
  const nanos = (): number => {
    const { seconds, nanoseconds } = time.now();
    t.ok(nanoseconds >= 0 && nanoseconds < 1e9, `${nanoseconds} ns`);
    return (seconds - DAY_MS / 1000) * 1e9 + nanoseconds;
  };
  const pass = (ns: number): void => {
    now.hrNanos += ns;
    now.wallMs += ns / 1e6;
  };
  return { now, nanos, pass };
}

t.test('moments within a millisecond are told apart', async (t) => {
  const { nanos, pass } = machine();
  t.equal(nanos(), 0);
  pass(1_500);
  t.equal(nanos(), 1_500, 'over the end of a second of the finer clock');
  pass(999_000_000);
  t.equal(nanos(), 999_001_500);
});

t.test('it follows when the time of day is set, either way', async (t) => {
  const { now, nanos, pass } = machine();
  nanos();
  pass(1_000);
  now.wallMs += 3_600_000;
  t.equal(nanos(), 3_600_000 * 1e6);
  pass(1_000);
  t.equal(nanos(), 3_600_000 * 1e6 + 1_000);
  now.wallMs -= 1_800_000;
  t.ok(Math.abs(nanos() - 1_800_000 * 1e6) < 2e6);
});

t.test('it is never far off, and goes forward, where the clocks run apart slowly', async (t) => {
  const { now, nanos } = machine();
  let former = nanos();
  let steps = 0;
  for (let i = 0; i < 10_000; i++) {
    now.hrNanos += 1_000_000;
    now.wallMs += 1.000_5;
    const found = nanos();
    if (found < former) steps += 1;
    former = found;
    if (Math.abs(found / 1e6 - (now.wallMs - DAY_MS)) > 2.1) t.fail(`${found} ns`);
  }
  t.equal(steps, 0);
});
