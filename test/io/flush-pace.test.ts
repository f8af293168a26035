/** How much of the event loop's time a disk's flushes may take. */
import fc from 'fast-check';
import { test } from 'tap';
import {
  FLUSH_IN_PLACE_GOOD,
  FLUSH_IN_PLACE_MAX_MS,
  FLUSH_IN_PLACE_PAUSE,
} from '../../src/core/limits.js';
import { FlushPace } from '../../src/io/node/flush-pace.js';

test('a fast disk is always flushed in place', async (t) => {
  const pace = new FlushPace();
  t.ok(pace.mayBlock(0));
  for (let now = 0; now < 1_000; now += 9) pace.took(now, now + FLUSH_IN_PLACE_MAX_MS - 1);
  t.ok(pace.mayBlock(1_000));
});

test('a stall is followed by a pause in proportion, and by nothing after it', async (t) => {
  const pace = new FlushPace();
  pace.took(100, 150);
  t.notOk(pace.mayBlock(150));
  t.notOk(pace.mayBlock(150 + (FLUSH_IN_PLACE_PAUSE - 1) * 50));
  t.ok(pace.mayBlock(150 + FLUSH_IN_PLACE_PAUSE * 50));
});

/** Flushes whenever it may, or looks again 1 ms later; returns the time that stalls took. */
function stalls(pace: FlushPace, span: number, next: () => number): number {
  let stalled = 0;
  for (let now = 0; now < span; ) {
    if (!pace.mayBlock(now)) {
      now += 1;
      continue;
    }
    const ms = next();
    pace.took(now, now + ms);
    if (ms >= FLUSH_IN_PLACE_MAX_MS) stalled += ms;
    now += ms;
  }
  return stalled;
}

test('a disk that always stalls holds up the event loop for 1 % of the time', async (t) => {
  for (const ms of [FLUSH_IN_PLACE_MAX_MS, 300, 20_000]) {
    const span = 2_000 * ms;
    const stalled = stalls(new FlushPace(), span, () => ms);
    // Until the pause has grown to its most.
    const first = 5 * ms;
    t.ok(stalled <= span / 100 + first, `${stalled} of ${span} ms`);
  }
});

test('a fast disk that stalls now and then is soon flushed in place again', async (t) => {
  const pace = new FlushPace();
  const stall = 30;
  for (let round = 0, now = 0; round < 10; round++) {
    for (let i = 0; i < FLUSH_IN_PLACE_GOOD; i++) pace.took(now++, now);
    pace.took(now, now + stall);
    now += stall + FLUSH_IN_PLACE_PAUSE * stall;
    t.ok(pace.mayBlock(now), `after stall ${round}`);
  }
});

test('whatever a disk does, stalls take at most a tenth of the time', async (t) => {
  const flush = fc.oneof(fc.constant(0.2), fc.constant(9), fc.integer({ min: 10, max: 500 }));
  const property = fc.property(fc.array(flush, { minLength: 1 }), (flushes) => {
    let i = 0;
    const span = 20_000;
    const stalled = stalls(new FlushPace(), span, () => flushes[i++ % flushes.length] ?? 1);
    return stalled <= span / 10 + 500;
  });
  t.doesNotThrow(() => fc.assert(property));
});
