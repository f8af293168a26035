/** Which volumes that nobody owns the controller takes over for the sake of their open segments. */
import t from 'tap';
import type { NodeId, OwnerId } from '../../src/core/ids.js';
import { epoch } from '../../src/core/units.js';
import type { OpenSegment, Replica, VolumeRecord } from '../../src/metadata/model.js';
import { needsCare } from '../../src/replication/idle-volumes.js';
import type { DiskState, RepairDisk } from '../../src/replication/repair-view.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { id, segmentId, THREE, VOLUME } from '../metadata/samples.js';

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
  t.notOk(needsCare(idle(TWO, { owner: null }), disks()), 'it was never in use');
  const trash = { removedAt: '', keptUntil: null, purging: false };
  t.notOk(needsCare(idle(TWO, { trash }), disks()));
});
