/**
 * A volume of 20,000 sealed segments, as a record alone, and nodes that agree to everything: what a
 * real metadata store and the program around it take for that.
 */
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { NodeRequests, RequestTarget } from '../../src/block/wire/requests.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { epoch, lsn, MIB, offset, type SegmentOffset } from '../../src/core/units.js';
import { transactionBytes } from '../../src/metadata/limits.js';
import type { Replica, SealedSegment, VolumeRecord } from '../../src/metadata/model.js';
import type { Compare, MetadataStore, Operation } from '../../src/metadata/store.js';
import type { Directory } from '../../src/replication/directory.js';
import { volumeRecord } from '../fixtures/volume-record.js';

const hex = <T extends string>(n: number): T => n.toString(16).padStart(32, '0') as T;
export const LONG = hex<VolumeId>(0xee);
const END = offset(64 * MIB);

const DISKS: readonly Replica[] = Array.from({ length: 12 }, (_, n) => ({
  node: hex<NodeId>(0x100 + n),
  incarnation: hex<Incarnation>(0x200 + n),
}));

function disksOf(n: number): Replica[] {
  return [0, 4, 8].map((i) => DISKS[(n + i) % DISKS.length] as Replica);
}

export function longSegment(n: number): SealedSegment {
  const place = { segment: hex<SegmentId>(0x1_0000 + n), group: n % PLACEMENT_GROUPS };
  const at = { createEpoch: epoch(1), replicas: disksOf(n) };
  return { ...place, ...at, end: END, endLsn: lsn((n + 1) * 100), crc: 77 };
}

/** Nobody's; its root is in the last but one segment. */
export function longRecord(segments: number): VolumeRecord {
  const sealed = Array.from({ length: segments }, (_, n) => longSegment(n));
  const at = longSegment(segments - 2);
  return volumeRecord(LONG, {
    name: 'long',
    epoch: epoch(1),
    sealed,
    root: { segment: at.segment, offset: offset(0), lsn: lsn(at.endLsn - 1) },
  });
}

/** Answers OK to everything, after a turn of the event loop. */
export class AgreeableNodes implements NodeRequests {
  readonly counts = new Map<Request['type'], number>();

  send(
    _: RequestTarget,
    request: Request,
    __: number,
    done: (error: null, reply: Reply) => void,
  ): void {
    this.counts.set(request.type, (this.counts.get(request.type) ?? 0) + 1);
    setImmediate(() => done(null, answerTo(request)));
  }

  queuedBytes(): number {
    return 0;
  }

  close(): void {}
}

function answerTo(request: Request): Reply {
  const { incarnation } = request;
  const maxEpoch = epoch('epoch' in request ? request.epoch : 1);
  const reply = {
    status: 'OK',
    incarnation,
    durableLength: lengthAfter(request),
    maxEpoch,
  } as const;
  if (request.type !== 'fence') return { ...reply, body: null };
  const body = { type: 'fence', suspectFrom: null, firstBatch: null, sealed: false } as const;
  return { ...reply, body };
}

function lengthAfter(request: Request): SegmentOffset {
  if (request.type === 'seal' || request.type === 'copy') return request.end;
  if (request.type !== 'append') return offset(0);
  const bytes = request.batch.reduce((sum, part) => sum + part.length, 0);
  return offset(request.offset + Math.ceil(bytes / 4096) * 4096);
}

export const longDirectory: Directory = {
  address: (node) => node,
  nodes: () =>
    DISKS.map(({ node, incarnation }) => ({
      schema: 1,
      node,
      address: node,
      zone: '',
      disks: [{ incarnation, capacityBytes: 1e12 }],
      version: '0',
    })),
  isLive: () => true,
  placement: (replicas) => ({
    schema: 1,
    replicas,
    groups: Array.from({ length: PLACEMENT_GROUPS }, (_, n) => disksOf(n)),
  }),
};

/** What each transaction through it wrote, in bytes. */
export function measured(store: MetadataStore): { store: MetadataStore; bytes: number[] } {
  const bytes: number[] = [];
  const counted = new Proxy(store, {
    get: (target, name) => {
      if (name !== 'transact') {
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return (compare: readonly Compare[], operations: readonly Operation[]) => {
        bytes.push(transactionBytes(operations));
        return target.transact(compare, operations);
      };
    },
  });
  return { store: counted, bytes };
}
