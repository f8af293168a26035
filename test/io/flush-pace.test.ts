/** How much of the event loop's time a disk's flushes may take. */
import { test } from 'tap';
import { FLUSH_IN_PLACE_MAX_MS } from '../../src/core/limits.js';
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
  t.notOk(pace.mayBlock(150 + 98 * 50));
  t.ok(pace.mayBlock(150 + 99 * 50));
});

test('a disk that always stalls holds up the event loop for 1 % of the time', async (t) => {
  for (const ms of [FLUSH_IN_PLACE_MAX_MS, 300, 20_000]) {
    const pace = new FlushPace();
    const step = ms / 10;
    const span = 1_000 * ms;
    let stalled = 0;
    for (let now = 0; now < span; now += step) {
      if (!pace.mayBlock(now)) continue;
      pace.took(now, now + ms);
      stalled += ms;
      now += ms;
    }
    t.ok(stalled <= span / 100 + ms, `${stalled} of ${span} ms`);
  }
});
