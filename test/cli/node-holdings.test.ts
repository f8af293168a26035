/** What a node is counted on for, and which node is meant: what `holdfast node` decides on. */
import t from 'tap';
import { findNode } from '../../src/cli/node-admin.js';
import { holdingsOf } from '../../src/cli/node-holdings.js';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { epoch, lsn, offset } from '../../src/core/units.js';
import type { NodeRecord, SealedSegment, VolumeRecord } from '../../src/metadata/model.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { fresh, id, segmentId, THREE, VOLUME } from '../metadata/samples.js';

const [A, B] = THREE.map(({ node }) => node) as [NodeId, NodeId];

function sealed(n: string, replicas = THREE): SealedSegment {
  const segment = { ...fresh(n), segment: segmentId(n), replicas, createEpoch: epoch(1) };
  return { ...segment, end: offset(8192), endLsn: lsn(9), crc: 7 };
}

function volume(changes: Partial<VolumeRecord>): VolumeRecord {
  return volumeRecord(VOLUME, { epoch: epoch(1), ...changes });
}

t.test('copies are counted, and those that nobody else has', async (t) => {
  const twice = volume({ sealed: [sealed('1'), sealed('2', THREE.slice(0, 1))] });
  const all = holdingsOf(A, [twice], () => true);
  t.match(all, { sealedSegments: 2, sealedBytes: 16_384, openSegments: 0, only: ['data'] });
  t.same(holdingsOf(B, [twice], () => true).only, []);
  t.match(
    holdingsOf(B, [twice], () => true),
    { sealedSegments: 1 },
  );
  const alone = volume({ sealed: [sealed('1')] });
  t.same(holdingsOf(A, [alone], (node) => node === A).only, ['data'], 'the others are down');
  t.same(holdingsOf(A, [alone], () => true).mostReplicas, { replicas: 3, volume: 'data' });
});

t.test(
  'a node is needed while what is written now could not be recovered without it',
  async (t) => {
    const open = [{ ...fresh('1'), createEpoch: epoch(1) }];
    const written = volume({ open });
    t.same(holdingsOf(A, [written], () => true).needed, [], 'two of three are enough');
    t.same(holdingsOf(A, [written], (node) => node !== B).needed, ['data']);
    t.equal(holdingsOf(A, [written], () => true).openSegments, 1);
  },
);

t.test('a node is named by the first digits of its id, or its address', async (t) => {
  const disks = [{ incarnation: id<Incarnation>('1'), capacityBytes: 1 }];
  const known = (node: string, address: string): NodeRecord => {
    return { schema: 1, node: node as NodeId, address, zone: 'z', disks, version: '1' };
  };
  const nodes = [known('abcd1'.padEnd(32, '0'), 'h:1'), known('abcd2'.padEnd(32, '0'), 'h:2')];
  t.equal(findNode(nodes, 'abcd2'), nodes[1]);
  t.equal(findNode(nodes, 'h:1'), nodes[0]);
  t.throws(() => findNode(nodes, 'abcd'), { code: 'INVALID_ARGUMENT' });
  t.throws(() => findNode(nodes, 'abc'), { code: 'NOT_FOUND' });
});
