/** Which volumes that nobody owns the controller takes over for the sake of their open segments. */
import t from 'tap';
import type { NodeId, OwnerId, SegmentId } from '../../src/core/ids.js';
import { epoch } from '../../src/core/units.js';
import { encodePresence } from '../../src/metadata/encoding.js';
import { ownerKey } from '../../src/metadata/keys.js';
import type { OpenSegment, Replica, VolumeRecord } from '../../src/metadata/model.js';
import { IdleVolumes, needsCare } from '../../src/replication/idle-volumes.js';
import type { DiskState, RepairDisk } from '../../src/replication/repair-view.js';
import { presenceOf } from '../contract/presence.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { id, segmentId, THREE, VOLUME } from '../metadata/samples.js';
import type { FakeNode } from './owner-nodes.js';
import { expectedLog, VOLUME as OWNED, OwnerWorld } from './owner-world.js';

const OWNER = { id: id<OwnerId>('a'), address: 'here', released: true };

function disks(...states: DiskState[]): RepairDisk[] {
  return THREE.map((replica, index) => ({
    ...{ ...replica, zone: '', capacityBytes: 1, freeBytes: null },
    state: states[index] ?? 'good',
  }));
}

function idle(replicas: readonly Replica[], more: Partial<VolumeRecord> = {}): VolumeRecord {
  const segment: OpenSegment = {
    ...{ segment: segmentId('1'), group: 0, createEpoch: epoch(1), replicas },
  };
  return volumeRecord(VOLUME, { epoch: epoch(1), owner: OWNER, open: [segment], ...more });
}

const TWO = THREE.slice(0, 2);
const LOOK_MS = 10_000;
const LOOKS_OF_GRACE = 6;
const GRACE_MS = LOOKS_OF_GRACE * LOOK_MS;

t.test('what is lost or leaves is made good', async (t) => {
  t.notOk(needsCare(idle(THREE), disks()));
  t.notOk(needsCare(idle(THREE), disks('away')), 'it is waited for');
  t.ok(needsCare(idle(THREE), disks('gone')));
  t.ok(needsCare(idle(THREE), disks('leaving')));
  t.notOk(needsCare(idle(THREE), disks('gone', 'away')), 'it could not be taken over');
});

t.test('so is what was opened while a node was missing, once there are enough', async (t) => {
  t.ok(needsCare(idle(TWO), disks()));
  t.notOk(needsCare(idle(TWO), disks('good', 'good', 'away')));
  t.notOk(needsCare(idle(TWO), disks('good', 'good', 'leaving')), 'nothing is placed on it');
  t.notOk(needsCare(idle(TWO, { replicas: 2, ackQuorum: 2 }), disks()), 'it wants no more');
  const node = id<NodeId>('9');
  const twice = disks().map((disk) => ({ ...disk, node }));
  t.notOk(needsCare(idle(TWO), twice), 'a node has one copy, however many disks it has');
});

t.test('nothing is to be done', async (t) => {
  t.notOk(needsCare(idle(TWO, { owner: null, open: [] }), disks()), 'it was never in use');
  t.ok(needsCare(idle(TWO, { owner: null }), disks()), 'it was imported, rebuilt or restored');
  const trash = { removedAt: '', keptUntil: null, purging: false };
  t.notOk(needsCare(idle(TWO, { trash }), disks()));
});

t.test('one whose owner is only just leaving is tried again soon', async (t) => {
  const { world, drain, looks, isCured } = await released();
  const key = ownerKey(OWNED);
  const value = encodePresence({ ...presenceOf('1', '1', world.record.epoch), volume: OWNED });
  world.server.transact([], [{ type: 'put', key, value }]);
  drain(0);
  const { open } = world.record;
  await looks(1);
  t.same(world.record.open, open, 'nobody is disturbed');
  world.server.transact([], [{ type: 'delete', key }]);
  await looks(3);
  t.ok(isCured());
});

t.test('an owner that released nothing, and says nothing, is lost after the grace', async (t) => {
  const { world, one, drain, looks, isCured } = await onFive();
  await world.appended(one, 3);
  one.owner.stop();
  drain(0);
  const before = world.record;
  await looks(LOOKS_OF_GRACE);
  t.same(world.record, before, 'not before its end');
  await looks(2);
  t.ok(isCured());
  t.match(world.record.owner, { released: true, address: 'controller' });
  const successor = await world.serving();
  t.same(await world.replayed(successor), expectedLog(3), 'nothing is lost by it');
});

t.test('one that writes, cut off from the metadata store, is not disturbed', async (t) => {
  const { world, one, drain, looks } = await onFive();
  drain(0);
  one.trips.push(...Array.from({ length: 10_000 }, () => () => ({ lost: 'request' }) as const));
  const { epoch } = world.record;
  for (let n = 0; n < 3 * LOOKS_OF_GRACE; n++) {
    if (n % 4 === 0) await world.appended(one, 1);
    await looks(1);
  }
  t.equal(world.record.epoch, epoch);
});

t.test('nor is one that shows itself, though it does nothing', async (t) => {
  const { world, one, drain, looks, isCured } = await onFive();
  drain(0);
  one.owner.stop();
  const { epoch } = world.record;
  const key = ownerKey(OWNED);
  const value = encodePresence({ ...presenceOf('1', '1', epoch), volume: OWNED });
  for (let n = 0; n < 3; n++) {
    await looks(LOOKS_OF_GRACE - 1);
    world.server.transact([], [{ type: 'put', key, value }]);
    await looks(1);
    world.server.transact([], [{ type: 'delete', key }]);
  }
  t.equal(world.record.epoch, epoch, 'the grace begins anew each time');
  await looks(LOOKS_OF_GRACE + 2);
  t.ok(isCured());
});

t.test('nor is who mounts it in the meantime', async (t) => {
  const { world, one, drain, looks } = await onFive();
  drain(0);
  one.owner.stop();
  await looks(LOOKS_OF_GRACE);
  const next = await world.serving();
  await looks(1);
  t.equal(next.owner.state.type, 'serving');
  t.equal(world.record.owner?.address, 'here');
});

t.test('while nodes were not asked, nobody is judged', async (t) => {
  const { world, one, drain, volumes } = await onFive();
  drain(0);
  one.owner.stop();
  const { epoch } = world.record;
  for (let n = 0; n < 3 * LOOKS_OF_GRACE; n++) {
    volumes.look();
    await world.pass(LOOK_MS);
  }
  t.equal(world.record.epoch, epoch);
});

t.test('one that was helped is helped again at once, and else left alone', async (t) => {
  const { world, drain, looks, isCured } = await released();
  for (const n of [0, 1]) {
    drain(n);
    t.notOk(isCured());
    await looks(2);
    t.ok(isCured(), `drain ${n}`);
  }
  const { epoch } = world.record;
  await looks(100);
  t.equal(world.record.epoch, epoch);
});

/** A released volume on five nodes, and the controller's part. */
async function released() {
  const bed = await onFive();
  let isReleased = false;
  bed.one.owner.release(() => {
    isReleased = true;
  });
  await bed.world.until(() => isReleased);
  return bed;
}

/** A volume in use on five nodes, the controller's part, and a way to drain nodes it is on. */
async function onFive() {
  const world = new OwnerWorld({ nodes: 5 });
  const one = await world.serving();
  const states = (): RepairDisk[] =>
    world.nodes.map((node) => ({
      ...{ ...node.replica, zone: '', capacityBytes: 1, freeBytes: null },
      state: world.drained.has(node) ? 'leaving' : 'good',
    }));
  const drain = (replica: number): void => {
    const on = world.record.open[0]?.replicas[replica]?.node;
    world.drained.add(world.nodes.find(({ node }) => node === on) as FakeNode);
  };
  const view = {
    records: () => [world.record],
    disks: states,
    askedAt: world.scheduler.now,
    openLength: (segment: SegmentId) =>
      Math.max(...world.nodes.map((node) => node.length(segment))),
    graceMs: GRACE_MS,
  };
  const volumes = new IdleVolumes(world.connect('controller').deps, view);
  const looks = async (times: number): Promise<void> => {
    for (let n = 0; n < times; n++) {
      view.askedAt = world.scheduler.now;
      volumes.look();
      await world.pass(LOOK_MS);
    }
  };
  return { world, one, drain, looks, volumes, isCured: () => !needsCare(world.record, states()) };
}
