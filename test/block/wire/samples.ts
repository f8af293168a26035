/**
 * One of every message, with every optional part both ways: for round trips, golden bytes and
 * fuzzing.
 */
import type { Reply, Request } from '../../../src/block/wire/messages.js';
import type { Brand, Incarnation, NodeId, SegmentId, VolumeId } from '../../../src/core/ids.js';
import { EPOCH_MAX } from '../../../src/core/limits.js';
import { epoch, offset, pageIndex, revision } from '../../../src/core/units.js';

function id<T extends Brand<string, string>>(digit: string): T {
  return digit.repeat(32) as T;
}

const incarnation = id<Incarnation>('a');
const segment = id<SegmentId>('b');
const volume = id<VolumeId>('c');
const node = id<NodeId>('d');
const page = (fill: number): Buffer => Buffer.alloc(4096, fill);
const LARGE = 2 ** 53 - 1;

export const REQUESTS: Readonly<Record<string, Request>> = {
  create: { type: 'create', incarnation, segment, volume, epoch: epoch(7) },
  append: {
    type: 'append',
    incarnation,
    segment,
    epoch: epoch(EPOCH_MAX),
    offset: offset(2 ** 40),
    batch: [Buffer.from('batch head'), page(1)],
  },
  ping: { type: 'ping', incarnation, segment, epoch: epoch(3) },
  fence: { type: 'fence', incarnation, segment, volume, epoch: epoch(9), released: true },
  'fence, owner not released': {
    type: 'fence',
    incarnation,
    segment,
    volume,
    epoch: epoch(9),
    released: false,
  },
  read: { type: 'read', incarnation, segment, page: pageIndex(5), count: 256 },
  locate: { type: 'locate', incarnation, segment, page: pageIndex(16384) },
  recover: {
    type: 'recover',
    incarnation,
    segment,
    volume,
    epoch: epoch(9),
    createEpoch: epoch(8),
    offset: offset(8192),
    bytes: page(2),
  },
  seal: { type: 'seal', incarnation, segment, volume, end: offset(12288), crc: 0xdeadbeef },
  copy: {
    type: 'copy',
    incarnation,
    segment,
    volume,
    createEpoch: epoch(8),
    sources: [
      { node, incarnation: id<Incarnation>('e'), address: '127.0.0.1:7400' },
      { node: id<NodeId>('f'), incarnation, address: '[::1]:7401' },
    ],
    end: offset(12288),
    crc: 1,
  },
  delete: { type: 'delete', incarnation, segment, volume, revision: revision(77) },
  drop: { type: 'drop', incarnation, segment, volume },
  inventory: { type: 'inventory', incarnation, after: segment, limit: 1000 },
  'inventory from the start': { type: 'inventory', incarnation, after: null, limit: 1 },
  status: { type: 'status', incarnation },
};

const plain = { incarnation, durableLength: offset(8192), maxEpoch: epoch(7) };

export const REPLIES: Readonly<Record<string, Reply>> = {
  ok: { status: 'OK', ...plain, body: null },
  deleted: { status: 'DELETED', ...plain, body: null },
  fence: {
    status: 'OK',
    ...plain,
    body: {
      type: 'fence',
      suspectFrom: offset(4096),
      firstBatch: Buffer.from('the first batch'),
      sealed: false,
    },
  },
  'fence, sealed and empty': {
    status: 'SEALED',
    ...plain,
    body: { type: 'fence', suspectFrom: null, firstBatch: null, sealed: true },
  },
  read: {
    status: 'OK',
    ...plain,
    body: {
      type: 'read',
      page: pageIndex(5),
      data: Buffer.concat([page(3), page(4)]),
      checksums: Uint32Array.of(1, 0xffffffff),
    },
  },
  locate: {
    status: 'OK',
    ...plain,
    body: {
      type: 'locate',
      page: pageIndex(5),
      path: `/ä/segments/bb/${segment}.data`,
      checksums: Uint32Array.of(1, 0xffffffff),
    },
  },
  inventory: {
    status: 'OK',
    ...plain,
    body: {
      type: 'inventory',
      more: true,
      entries: (['open', 'sealed', 'tombstone', 'deleted'] as const).map((state, at) => ({
        segment,
        volume,
        createEpoch: epoch(1),
        maxEpoch: epoch(2),
        length: offset(4096),
        state,
        crc: 5,
        suspectFrom: at % 2 === 0 ? null : offset(at * 4096),
      })),
    },
  },
  'inventory, empty': {
    status: 'OK',
    ...plain,
    body: { type: 'inventory', more: false, entries: [] },
  },
  status: {
    status: 'OK',
    ...plain,
    body: {
      type: 'status',
      node,
      zone: 'zone ä',
      version: '1.2.3',
      disks: (['ok', 'full', 'failed'] as const).map((state) => ({
        incarnation,
        state,
        totalBytes: LARGE,
        freeBytes: 1,
        segments: 2,
      })),
      wallMs: LARGE - 1,
    },
  },
};
