/** The in-memory store passes the contract, and can show every fault that etcd can have. */
import { test } from 'tap';
import { MemoryServer, MemoryStore, type Trip } from '../../src/metadata/memory.js';
import { metadataStoreContract, Recorder } from '../contract/metadata-store.js';
import { presenceContract } from '../contract/presence.js';
import { realClock } from './real-parts.js';
import { SimStores } from './sim-store.js';

test('memory: the contract', async (t) => {
  const server = new MemoryServer(realClock);
  t.teardown(() => server.close());
  const open = async () => new MemoryStore(server, { clock: realClock });
  await metadataStoreContract(t, { open });
  await t.test('presence', (sub) => presenceContract(sub, { open }));
});

const put = { type: 'put', key: '/a/1', value: 'x' } as const;

test('memory: a lost request did not happen, a lost reply did, and nobody can tell', async (t) => {
  const world = new SimStores();
  let lost: 'request' | 'reply' = 'request';
  const { store } = world.connect({ trip: () => ({ lost }) });
  t.equal(await world.codeOf(store.transact([], [put])), 'UNKNOWN_OUTCOME');
  t.equal(world.server.peek('/a/1'), null);
  lost = 'reply';
  t.equal(await world.codeOf(store.transact([], [put])), 'UNKNOWN_OUTCOME');
  t.equal(world.server.peek('/a/1')?.value, 'x');
  t.equal(await world.codeOf(store.get('/a/1')), 'TIMEOUT', 'a read is only late');
});

test('memory: cut off, in flight and after', async (t) => {
  const world = new SimStores();
  const { store } = world.connect({ trip: () => ({ requestMs: 10, replyMs: 10 }) });
  const recorder = new Recorder();
  store.watch('/a/', recorder);
  await world.until(() => recorder.snapshots === 1);
  const swap = store.transact([], [put]);
  const read = store.get('/a/1');
  read.catch(() => {}); // looked at below, after the other one
  store.setReachable(false);
  t.equal(await world.codeOf(swap), 'UNKNOWN_OUTCOME');
  t.equal(await world.codeOf(read), 'UNAVAILABLE');
  await world.pass(20);
  t.equal(world.server.peek('/a/1')?.value, 'x', 'what was on its way arrived');
  t.equal(await world.codeOf(store.transact([], [put])), 'UNAVAILABLE', 'was never sent');
  t.equal(recorder.connected, false);
  t.same([...recorder.state], [], 'stale');
  store.setReachable(true);
  await world.until(() => recorder.snapshots === 2);
  t.same([...recorder.state.values()], ['x']);
  t.same(recorder.problems, []);
});

test('memory: a killed process is silent, but what it sent arrives', async (t) => {
  const world = new SimStores();
  const { store, process } = world.connect({ trip: () => ({ requestMs: 10 }) });
  let settled = false;
  store.transact([], [put]).finally(() => {
    settled = true;
  });
  process.kill();
  await world.pass(10_000);
  t.equal(settled, false);
  t.equal(world.server.peek('/a/1')?.value, 'x');
});

test('memory: one seed gives one trace', async (t) => {
  const run = async (): Promise<number> => {
    const world = new SimStores();
    const trip = (): Trip => ({ requestMs: world.random.fraction() * 9, replyMs: 1 });
    const stores = [world.connect({ trip }).store, world.connect({ trip }).store];
    const recorder = new Recorder();
    stores[0]?.watch('/a/', recorder);
    const all = stores.flatMap((store, at) =>
      Array.from({ length: 20 }, (_, n) =>
        store.transact([], [{ ...put, key: `/a/${n % 3}`, value: `${at}` }]),
      ),
    );
    await world.wait(Promise.all(all));
    await world.pass(100);
    t.same(recorder.problems, []);
    t.equal(recorder.events.length, 40);
    return world.scheduler.trace;
  };
  t.equal(await run(), await run());
});
