/** What a node is counted on for, and which node is meant: what `holdfast node` decides on. */
import t from 'tap';
import type { InventoryEntry } from '../../src/block/wire/messages.js';
import { findNode, refuseTooFew } from '../../src/cli/node-admin.js';
import { foundIn, holdingsOf, livingIn } from '../../src/cli/node-holdings.js';
import { type NodeAnswer, usableDisks, volumeProblems } from '../../src/cli/survey.js';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { epoch, lsn, offset } from '../../src/core/units.js';
import type { NodeRecord, Replica, SealedSegment, VolumeRecord } from '../../src/metadata/model.js';
import type { Directory } from '../../src/replication/directory.js';
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
  t.same(holdingsOf(A, [alone], ({ node }) => node === A).only, ['data'], 'the others are down');
  t.same(holdingsOf(A, [alone], () => true).mostReplicas, { replicas: 3, volume: 'data' });
});

t.test(
  'a node is needed while what is written now could not be recovered without it',
  async (t) => {
    const open = [{ ...fresh('1'), createEpoch: epoch(1) }];
    const written = volume({ open });
    t.same(holdingsOf(A, [written], () => true).needed, [], 'two of three are enough');
    t.same(holdingsOf(A, [written], ({ node }) => node !== B).needed, ['data']);
    t.equal(holdingsOf(A, [written], () => true).openSegments, 1);
  },
);

t.test('a disk that its node has lost, or that has failed, has no copy', async (t) => {
  const [one, two] = THREE as [Replica, Replica];
  const pair = volume({ replicas: 2, sealed: [sealed('1', [one, two])] });
  const known = ({ node, incarnation }: Replica): NodeRecord => {
    const disks = [{ incarnation, capacityBytes: 1 }];
    return { schema: 1, node, address: node, zone: 'z', disks, version: '1' };
  };
  const registered = (nodes: NodeRecord[]): Directory => ({
    nodes: () => nodes,
    isLive: () => true,
    address: () => null,
    placement: () => null,
  });
  const both = livingIn(registered([known(one), known(two)]));
  t.same(holdingsOf(A, [pair], both).only, []);
  const replaced = { ...two, incarnation: id<Incarnation>('f') };
  const anew = livingIn(registered([known(one), known(replaced)]));
  t.same(holdingsOf(A, [pair], anew).only, ['data'], 'B lives, with an empty disk');

  const answer = (on: Replica, state: 'ok' | 'full' | 'failed'): NodeAnswer => {
    const { incarnation } = on;
    const disk = { incarnation, state, totalBytes: 1, freeBytes: 1, segments: 1 };
    const rest = { live: true, problem: null, problemCode: null, clock: null };
    return { record: known(on), disks: [disk], ...rest };
  };
  t.same([...usableDisks([answer(one, 'full'), answer(two, 'failed')])], [one.incarnation]);
  const nodes = [
    { ...answer(one, 'ok'), wish: {} },
    { ...answer(two, 'failed'), wish: {} },
  ];
  const open = [{ ...fresh('2'), createEpoch: epoch(1), replicas: [one, two] }];
  const written = { ...pair, ackQuorum: 2, open };
  t.same(volumeProblems({ nodes, volumes: [written], unusable: [] }), [
    'volume data: 2 segments have too few replicas now',
    'volume data: cannot be written now',
  ]);
});

t.test('a copy that is listed and not whole does not stand for another', async (t) => {
  const [one, two] = THREE as [Replica, Replica];
  const segment = sealed('1', [one, two]);
  const pair = volume({ replicas: 2, sealed: [segment] });
  const entry = (changes: Partial<InventoryEntry>): InventoryEntry => ({
    ...{ segment: segment.segment, volume: VOLUME, createEpoch: epoch(1), maxEpoch: epoch(1) },
    ...{ length: segment.end, state: 'sealed', crc: segment.crc, suspectFrom: null, ...changes },
  });
  const only = (...entries: InventoryEntry[]) =>
    holdingsOf(A, [pair], foundIn(new Map([[two.incarnation, entries]]))).only;
  t.same(only(entry({})), []);
  t.same(only(entry({ state: 'open' })), [], 'it lacks nothing but its SEAL');
  t.same(only(entry({ state: 'open', length: offset(4096) })), ['data']);
  t.same(only(entry({ state: 'tombstone', length: offset(0) })), ['data']);
  t.same(only(), ['data'], 'it was never made');
});

t.test('what is left without a node are those that are up', async (t) => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((zone): NodeRecord => {
    return { schema: 1, node: id<NodeId>(zone), address: zone, zone, disks: [], version: '1' };
  }) as [NodeRecord, NodeRecord, NodeRecord, NodeRecord];
  const without = (record: NodeRecord, nodes: NodeRecord[], down: NodeRecord[] = []): void => {
    const isLive = (node: NodeId): boolean => down.every((one) => one.node !== node);
    const directory = { nodes: () => nodes, isLive, address: () => null, placement: () => null };
    const volumes = [volume({ replicas: 3 })];
    refuseTooFew({ directory, nodes, volumes, wishes: new Map() }, record);
  };
  without(a, [a, b, c, d]);
  const one = { code: 'CONFLICT', message: /^without node \S+ \(a\) 2 nodes are left, and volume/ };
  t.throws(() => without(a, [a, b, c]), { ...one, hint: /^Add nodes first/ });
  const message = /2 nodes that are up \(down: node \S+ \(c\)\) are left, and volume data keeps 3/;
  t.throws(() => without(a, [a, b, c, d], [c]), { message, hint: /^Start or add nodes first/ });
  without(c, [a, b, c, d], [c]);
  const beside = { ...d, node: id<NodeId>('e'), zone: 'a' };
  without(a, [a, b, { ...c, zone: 'b' }, d, beside]);
  t.throws(() => without(a, [a, b, { ...c, zone: 'b' }, { ...d, zone: 'b' }, beside], [beside]), {
    message: /last one in zone a: 1 zones that are up \(down: .*\(d\)\) are left for the 3/,
  });
});

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
