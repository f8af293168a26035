/** How many bytes may begin, and that whoever waits for them hears of another rate. */
import t from 'tap';
import { Pace } from '../../src/replication/pace.js';
import { SimStores } from '../metadata/sim-store.js';

/** When each of these may begin, in seconds, if `change` happens after ten of them. */
async function begun(sizes: readonly number[], change: (pace: Pace) => void) {
  const world = new SimStores();
  const { clock } = world.connect().process;
  const pace = new Pace(clock);
  pace.setRate(1_000);
  const from = clock.monotonic();
  const seconds: number[] = [];
  for (const bytes of sizes) {
    void pace.take(bytes).then(() => {
      world.scheduler.notePromise();
      seconds.push(Math.round((clock.monotonic() - from) / 1_000));
    });
  }
  await world.pass(10_000);
  change(pace);
  await world.pass(100_000);
  return seconds;
}

t.test('what comes too early waits for its turn', async (t) => {
  t.same(await begun([20_000, 20_000, 20_000], () => {}), [0, 20, 40]);
});

t.test('another rate holds for what waits, and for what comes after it', async (t) => {
  const sizes = [20_000, 1_000_000_000, 1_000];
  t.same(await begun(sizes, (pace) => pace.setRate(1_000_000_000)), [0, 10, 11]);
  t.same(await begun([20_000, 20_000], (pace) => pace.setRate(500)), [0, 30]);
});

t.test('who waits goes on at the end', async (t) => {
  t.same(await begun([1_000_000_000, 1], (pace) => pace.close()), [0, 10]);
});
