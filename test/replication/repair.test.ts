/** Repair beside nodes that lose disks at the wrong moment: the last good copy is never dropped. */
import t from 'tap';
import { liveKey } from '../../src/metadata/keys.js';
import type { Replica } from '../../src/metadata/model.js';
import { startDrain } from '../../src/metadata/node-states.js';
import { largestEpochs } from '../../src/metadata/rebuild.js';
import { listMoves } from '../../src/metadata/replica-moves.js';
import { decodeExport, exportCluster, importCluster } from '../../src/metadata/transfer.js';
import { id } from '../metadata/samples.js';
import { RepairWorld } from './repair-world.js';

type Six = [Replica, Replica, Replica, Replica, Replica, Replica];

t.test('what replaced a copy is whole: the copy goes', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, d, e] = world.disks as Six;
  await world.move(a, d, false);
  world.holders.add(e);
  await world.repair();
  t.same(world.listed, [b, c, d]);
  t.same(world.holders, new Set([b, c, d]), 'that of the move, and one that nothing names');
});

t.test('a copy that was replaced outlives those that replaced it', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, d] = world.disks as Six;
  await world.move(a, d, false);
  for (const one of [b, c, d]) world.destroy(one);
  await world.repair();
  t.ok(world.holders.has(a), 'it is the last one');
  t.ok(world.listed.includes(a), 'and counts again');
  t.equal(world.holders.size, 3, 'others were made from it');
  t.same(new Set(world.listed), world.holders);
});

t.test('a copy that nothing names is kept while those that are named are not whole', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, , e] = world.disks as Six;
  for (const one of [a, b, c]) world.holders.delete(one);
  world.holders.add(e);
  await world.repair();
  t.ok(world.holders.has(e));
  t.equal(world.listed.length, 3);
  t.same(new Set(world.listed), world.holders, 'and copies are made from it');
});

t.test('the new disk dies between its COPY and the DROP of the old one', async (t) => {
  const world = await RepairWorld.start(1);
  const [a, b] = world.disks as Six;
  for (const one of world.disks.slice(2)) world.destroy(one);
  await world.stores.wait(startDrain(world.store, world.clock, a.node));
  // Nobody is told: its registration stands, and the last inventory says that it has the copy.
  let drops = 0;
  world.onRequest = ({ type }, on) => {
    if (type === 'drop' && on === a) drops += 1;
    if (world.listed.includes(b) && on === b) {
      world.holders.delete(b);
      world.silent.add(b);
    }
  };
  await world.repair();
  t.same(world.listed, [b], 'the list says so');
  t.equal(drops, 0);
  t.ok(world.holders.has(a), 'the old copy is the only one');
});

t.test('a copy that was replaced is kept while one of those listed cannot be read', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, d] = world.disks as Six;
  await world.move(a, d, false);
  world.rotten.add(d);
  await world.repair();
  t.same(world.listed, [b, c, d]);
  t.ok(world.holders.has(a));
  world.rotten.clear();
  await world.repair();
  t.notOk(world.holders.has(a), 'once it can be, the copy goes');
});

t.test('what another disk answers in its place is no copy, and no DROP', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, d, e, f] = world.disks as Six;
  await world.move(a, d, false);
  world.replaced.set(a, id('99'));
  for (const one of [e, f]) world.replaced.set(one, id('98'));
  await world.stores.wait(startDrain(world.store, world.clock, b.node));
  await world.repair();
  t.same(world.listed, [b, c, d], 'nothing takes the place of the one that is drained');
  t.match(await world.stores.wait(listMoves(world.store)), [{ leaving: [a] }]);
});

t.test('a disk that is gone when its copy is complete does not join the list', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, d, e, f] = world.disks as Six;
  for (const one of [e, f]) world.destroy(one);
  await world.stores.wait(startDrain(world.store, world.clock, a.node));
  let made = 0;
  world.onRequest = ({ type }, on) => {
    if (type !== 'copy' || on !== d) return;
    made += 1;
    // The answer is on its way while its registration runs out.
    world.stores.server.transact([], [{ type: 'delete', key: liveKey(d.node) }]);
  };
  await world.repair();
  t.ok(made > 0);
  t.same(world.listed, [a, b, c]);
});

t.test('an export older than some moves is imported: no copy goes', async (t) => {
  const world = await RepairWorld.start();
  const { stores, store } = world;
  const [a, b, c, d, e, f] = world.disks as Six;
  const content = decodeExport(await stores.wait(exportCluster(store)));
  for (const [from, to] of [
    [a, d],
    [b, e],
    [c, f],
  ] as const)
    await world.move(from, to, true);
  const inventories = world.inventories();
  const options = { maxEpochs: largestEpochs(inventories), inventories, replace: true };
  await stores.wait(importCluster(store, content, options));
  t.same(world.listed, [d, e, f], 'the nodes say where they are');
  for (const one of world.disks) world.register(one);
  await world.repair();
  t.same(world.holders, new Set([d, e, f]));
});

t.test('a copy that nothing named is known until it is gone, whatever else happens', async (t) => {
  const world = await RepairWorld.start();
  const [a, b, c, , e] = world.disks as Six;
  world.holders.add(e);
  world.refusing.add(e);
  await world.repair(500);
  t.ok(world.holders.has(e), 'its DROP has failed so far');
  world.removeSegment();
  world.refusing.clear();
  await world.repair(500);
  t.same(world.holders, new Set([a, b, c]));
  t.same(await world.stores.wait(listMoves(world.store)), []);
});

t.test(
  'what was never told that it is sealed is told, also where it is the only copy',
  async (t) => {
    for (const count of [1, 3]) {
      const world = await RepairWorld.start(count);
      const listed = world.disks.slice(0, count);
      for (const one of listed) {
        world.holders.delete(one);
        world.unsealed.add(one);
      }
      await world.repair(1_000);
      t.same(world.holders, new Set(listed), `of ${count}`);
      t.same(world.listed, listed, 'none was made elsewhere');
    }
  },
);
