/** What every Clock promises (src/io/clock.ts). */
import { test } from 'tap';
import type { Clock } from '../../src/io/clock.js';
import type { Harness } from './harness.js';

export function clockContract(name: string, harness: Harness<Clock>): void {
  test(`${name}: a timer runs once, not before its delay, not inside the call`, async (t) => {
    const { subject: clock, close } = await harness.make();
    const start = clock.monotonic();
    let runs = 0;
    clock.after(20, () => {
      runs += 1;
    });
    t.equal(runs, 0);
    await harness.until(() => runs > 0);
    t.ok(clock.monotonic() - start >= 19, 'not early');
    let later = false;
    clock.after(30, () => {
      later = true;
    });
    await harness.until(() => later);
    t.equal(runs, 1);
    await close();
  });

  test(`${name}: shorter delays run first`, async (t) => {
    const { subject: clock, close } = await harness.make();
    const order: string[] = [];
    clock.after(40, () => order.push('late'));
    clock.after(5, () => order.push('early'));
    // Of equal delays no order is promised: real timers count milliseconds, and not all at once.
    clock.after(5, () => order.push('early'));
    await harness.until(() => order.length === 3);
    t.same(order, ['early', 'early', 'late']);
    await close();
  });

  test(`${name}: a cancelled timer never runs`, async (t) => {
    const { subject: clock, close } = await harness.make();
    let ran = false;
    let done = false;
    const timer = clock.after(5, () => {
      ran = true;
    });
    clock.after(1, () => {
      timer.cancel();
      timer.cancel();
    });
    clock.after(30, () => {
      done = true;
    });
    await harness.until(() => done);
    t.equal(ran, false);
    await close();
  });

  test(`${name}: cancelling a timer from its own callback is harmless`, async (t) => {
    const { subject: clock, close } = await harness.make();
    let runs = 0;
    const timer = clock.after(1, () => {
      runs += 1;
      timer.cancel();
    });
    await harness.until(() => runs > 0);
    t.equal(runs, 1);
    await close();
  });

  test(`${name}: soon runs after the call and in order`, async (t) => {
    const { subject: clock, close } = await harness.make();
    const order: string[] = [];
    clock.soon(() => order.push('a'));
    clock.soon(() => order.push('b'));
    order.push('returned');
    await harness.until(() => order.length === 3);
    t.same(order, ['returned', 'a', 'b']);
    await close();
  });

  test(`${name}: monotonic time never goes back; wall time is a date`, async (t) => {
    const { subject: clock, close } = await harness.make();
    let last: number = clock.monotonic();
    let steps = 0;
    const step = (): void => {
      const now = clock.monotonic();
      if (now < last) t.fail(`went back from ${last} to ${now}`);
      last = now;
      steps += 1;
      if (steps < 10) clock.after(1, step);
    };
    step();
    await harness.until(() => steps === 10);
    t.ok(clock.wall() > Date.UTC(2020, 0));
    await close();
  });

  test(`${name}: the fine time of day is the coarse one, in order`, async (t) => {
    const { subject: clock, close } = await harness.make();
    let former = 0n;
    for (let i = 0; i < 100; i++) {
      const { seconds, nanoseconds } = clock.timeOfDay();
      t.ok(Number.isInteger(nanoseconds) && nanoseconds >= 0 && nanoseconds < 1e9);
      t.ok(Math.abs(seconds * 1000 + nanoseconds / 1e6 - clock.wall()) < 1_000, 'about the same');
      const now = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
      t.ok(now >= former);
      former = now;
    }
    await close();
  });
}
