/** Presence through outages, in simulated time. Over every store: contract/presence.ts. */
import { test } from 'tap';
import { encodePresence } from '../../src/metadata/encoding.js';
import { ownerKey } from '../../src/metadata/keys.js';
import { findPresence, listPresences, Presence } from '../../src/metadata/presence.js';
import { presenceOf } from '../contract/presence.js';
import { RecordedLog, SimStores } from './sim-store.js';

const record = presenceOf('a', '1', 3);
const key = ownerKey(record.volume);

async function published() {
  const world = new SimStores();
  const { store, process } = world.connect();
  const log = new RecordedLog();
  const presence = new Presence({ store, clock: process.clock, log, record });
  presence.start();
  await world.pass(1_000);
  return { world, store, log, presence };
}

test('presence is kept without a write, lost in an outage, and there again after it', async (t) => {
  const { world, store, log, presence } = await published();
  const { revision } = world.server;
  await world.pass(60_000);
  t.equal(world.server.revision, revision, 'a lease renewed writes nothing');
  t.same(await world.wait(findPresence(store, record.volume)), record);
  store.setReachable(false);
  await world.pass(30_000);
  t.equal(world.server.peek(key), null);
  t.equal(log.messages.length, 1, 'said once');
  store.setReachable(true);
  await world.pass(5_000);
  t.ok(world.server.peek(key));
  t.ok(presence.published);
  await world.wait(presence.stop());
  t.equal(world.server.peek(key), null);
});

test('presence comes back in a store that lost it, and yields to a newer epoch', async (t) => {
  const { world, presence } = await published();
  world.server.transact([], [{ type: 'delete', key }]);
  await world.pass(5_000);
  t.ok(world.server.peek(key));
  const newer = encodePresence({ ...presenceOf('a', '2', 4) });
  world.server.transact([], [{ type: 'put', key, value: newer }]);
  await world.pass(60_000);
  t.equal(world.server.peek(key)?.value, newer);
  t.notOk(presence.published);
  world.server.transact([], [{ type: 'delete', key }]);
  await world.pass(60_000);
  t.ok(presence.published, 'the newer one has gone, this one still lives');
});

test('a key of ours that outlived its lease is bound to a new one', async (t) => {
  const { world, store, presence } = await published();
  store.setReachable(false);
  await world.pass(30_000);
  world.server.transact([], [{ type: 'put', key, value: encodePresence(record) }]);
  store.setReachable(true);
  await world.pass(5_000);
  t.ok(world.server.peek(key));
  await world.wait(presence.stop());
  t.equal(world.server.peek(key), null);
});

test('an older epoch that came first is replaced, also when it is not renewed', async (t) => {
  const { world, presence } = await published();
  const older = encodePresence(presenceOf('a', '0', 2));
  world.server.transact([], [{ type: 'put', key, value: older }]);
  await world.pass(5_000);
  t.ok(presence.published);
  t.equal(world.server.peek(key)?.value, encodePresence(record));
});

test('a presence under the key of another volume is not believed', async (t) => {
  const { world, store } = await published();
  const value = encodePresence(presenceOf('b', '1', 1));
  world.server.transact([], [{ type: 'put', key, value }]);
  t.equal(await world.codeOf(findPresence(store, record.volume)), 'INCONSISTENT');
  t.equal(await world.codeOf(listPresences(store)), 'INCONSISTENT');
});
