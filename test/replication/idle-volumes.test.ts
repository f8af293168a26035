/** Which volumes that nobody owns the controller takes over for the sake of their open segments. */
import t from 'tap';
import type { NodeId, OwnerId } from '../../src/core/ids.js';
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
import { VOLUME as OWNED, OwnerWorld } from './owner-world.js';

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

t.test('nobody is disturbed', async (t) => {
  t.notOk(needsCare(idle(TWO, { owner: { ...OWNER, released: false } }), disks()));
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

/** A released volume on five nodes, the controller's part, and a way to drain nodes it is on. */
async function released() {
  const world = new OwnerWorld({ nodes: 5 });
  const { owner } = await world.serving();
  let isReleased = false;
  owner.release(() => {
    isReleased = true;
  });
  await world.until(() => isReleased);
  const states = (): RepairDisk[] =>
    world.nodes.map((one) => ({
      ...{ ...one.replica, zone: '', capacityBytes: 1, freeBytes: null },
      state: world.drained.has(one) ? 'leaving' : 'good',
    }));
  const drain = (replica: number): void => {
    const on = world.record.open[0]?.replicas[replica]?.node;
    world.drained.add(world.nodes.find(({ node }) => node === on) as FakeNode);
  };
  const volumes = new IdleVolumes(world.connect('controller').deps);
  const looks = async (times: number): Promise<void> => {
    for (let n = 0; n < times; n++) {
      volumes.look([world.record], states());
      await world.pass(10_000);
    }
  };
  return { world, drain, looks, isCured: () => !needsCare(world.record, states()) };
}
