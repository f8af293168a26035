/** Stored records: what is written is read, and what is not understood is refused. */
import { test } from 'tap';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { epoch } from '../../src/core/units.js';
import {
  decodeCluster,
  decodeNode,
  decodePlacement,
  decodeVolume,
  encodeNode,
  encodePlacement,
  encodeVolume,
} from '../../src/metadata/encoding.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { claimEpoch, sealAtTakeover } from '../../src/metadata/volume-record.js';
import { blank, fresh, id, owner, replicas, segmentId, THREE } from './samples.js';

const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
const serving = sealAtTakeover(claimed, {
  epoch: epoch(1),
  ends: [],
  promote: [segmentId('1'), segmentId('2')],
  plan: [fresh('3')],
});

/** The serving record with some fields changed (undefined: left out), as others might store it. */
function altered(fields: Record<string, unknown>): string {
  return JSON.stringify({ ...serving, ...fields });
}

test('a volume record comes back as it was', async (t) => {
  for (const record of [blank, claimed, serving]) {
    t.same(decodeVolume(encodeVolume(record)), record);
  }
});

const DAMAGED: readonly (readonly [string, string, string])[] = [
  ['not JSON', '{', 'MALFORMED'],
  ['null', 'null', 'MALFORMED'],
  ['a list', '[]', 'MALFORMED'],
  ['newer', altered({ schema: 2, more: 1 }), 'VERSION'],
  ['an older one than the first', altered({ schema: 0 }), 'MALFORMED'],
  ['an unknown field', altered({ extra: 1 }), 'MALFORMED'],
  ['an unknown kind', altered({ kind: 'object' }), 'MALFORMED'],
  ['a field missing', altered({ root: undefined }), 'MALFORMED'],
  ['a bad id', altered({ volume: 'x' }), 'MALFORMED'],
  ['a bad name', altered({ name: '../x' }), 'MALFORMED'],
  ['a fraction', altered({ epoch: 1.5 }), 'MALFORMED'],
  ['an epoch above 2^53', altered({ epoch: 2 ** 60 }), 'MALFORMED'],
  ['four replicas', altered({ replicas: 4 }), 'MALFORMED'],
  ['too small', altered({ sizeBytes: 1 }), 'MALFORMED'],
  ['a quorum above all', altered({ ackQuorum: 4 }), 'INCONSISTENT'],
  ['an epoch that fell', altered({ epoch: 0 }), 'INCONSISTENT'],
  [
    'three open',
    altered({ open: [...serving.open, ...serving.planned], planned: [] }),
    'INCONSISTENT',
  ],
  ['one segment twice', altered({ pendingDelete: serving.planned }), 'INCONSISTENT'],
];

test('a damaged or unknown volume record is refused', async (t) => {
  for (const [name, json, code] of DAMAGED) t.throws(() => decodeVolume(json), { code }, name);
});

test('what breaks the invariant is not even written', async (t) => {
  const broken: VolumeRecord = { ...serving, open: [...serving.open, ...serving.planned] };
  t.throws(() => encodeVolume(broken), { name: 'AssertionFailure' });
  t.throws(() => encodeVolume({ ...serving, name: 'A' }), { name: 'AssertionFailure' });
});

test('nodes, placement and cluster', async (t) => {
  const node = {
    schema: 1,
    node: id<never>('1'),
    address: '127.0.0.1:1',
    zone: 'z',
    disks: [{ incarnation: id<never>('d1'), capacityBytes: 5 }],
    version: '0.1.0',
  };
  t.same(decodeNode(encodeNode(node)), node);
  const twice = JSON.stringify({ ...node, disks: [...node.disks, ...node.disks] });
  t.throws(() => decodeNode(twice), { code: 'MALFORMED' });
  const groups = Array.from({ length: PLACEMENT_GROUPS }, () => THREE);
  const placement = { schema: 1, replicas: 3, groups };
  t.same(decodePlacement(encodePlacement(placement)), placement);
  const short = JSON.stringify({ ...placement, groups: groups.slice(1) });
  t.throws(() => decodePlacement(short), { code: 'MALFORMED' });
  const same = JSON.stringify({ ...placement, groups: groups.fill(replicas('1', '1', '2'), 0, 1) });
  t.throws(() => decodePlacement(same), { code: 'INCONSISTENT' });
  t.throws(() => decodeCluster('{"schema":9}'), { code: 'VERSION' });
  t.throws(() => decodeCluster('{"schema":1}'), { code: 'MALFORMED' });
});
