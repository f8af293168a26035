/** Starts take turns, and one that takes long holds nobody up. */
import { test } from 'tap';
import { StartTurns } from '../../src/lifecycle/start-turns.js';
import { after, ticking } from './ticking.js';

test('twenty starts at once: a few at a time, each in its turn', async (t) => {
  const { world, clock } = ticking();
  const turns = new StartTurns(clock);
  let running = 0;
  let most = 0;
  const order: number[] = [];
  const start = (index: number) => async (): Promise<number> => {
    order.push(index);
    most = Math.max(most, ++running);
    await after(clock, 500);
    running--;
    return index;
  };
  const all = Array.from({ length: 20 }, (_, index) => index);
  t.same(await world.wait(Promise.all(all.map((index) => turns.run(start(index))))), all);
  t.same(order, all);
  t.equal(most, 4);
});

test('starts that wait for something give their turn up; one that fails does', async (t) => {
  const { world, clock } = ticking();
  const turns = new StartTurns(clock);
  const since = clock.monotonic();
  const hanging = Array.from({ length: 8 }, () => turns.run(() => after(clock, 60_000)));
  const failing = turns.run(() => Promise.reject(new Error('no')));
  t.equal(await world.wait(failing.catch((thrown: Error) => thrown.message)), 'no');
  t.ok(clock.monotonic() - since < 5_000, 'behind two turns of others');
  await world.wait(Promise.all(hanging));
  t.equal(await world.wait(turns.run(async () => 'free again')), 'free again');
});
