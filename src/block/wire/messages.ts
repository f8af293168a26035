/**
 * The messages between an owner (or another client) and a storage node, as values. Their bytes are
 * request-frames.ts and reply-frames.ts; what each requires and does is segment-table.ts. Every
 * request names the disk incarnation it expects and every reply carries the disk's own: a mismatch
 * changes nothing and counts for nothing, except that a FENCE may still fence.
 *
 * Offsets are bytes of the segment at batch boundaries, therefore multiples of 4096.
 */
import {
  type Incarnation,
  NO_DISK,
  type NodeId,
  type SegmentId,
  type VolumeId,
} from '../../core/ids.js';
import {
  type Epoch,
  epoch,
  offset,
  type PageIndex,
  type Revision,
  type SegmentOffset,
} from '../../core/units.js';
import type { Address } from '../../io/network.js';

/** Persistent: these numbers are on the wire. Never reuse one. */
export const RequestType = {
  create: 1,
  append: 2,
  ping: 3,
  fence: 4,
  read: 5,
  recover: 6,
  seal: 7,
  copy: 8,
  delete: 9,
  inventory: 10,
  status: 11,
  drop: 12,
  locate: 13,
} as const;

/**
 * The protocol version from which on nodes know a request (docs/FORMATS.md, Versions). A node takes
 * one that it does not know for garbage, and hangs up: it is never sent.
 */
export function protocolOf(type: keyof typeof RequestType): number {
  if (type === 'locate') return 3;
  return type === 'drop' ? 2 : 1;
}

interface OnDisk {
  /** The disk that is meant; a node with several disks finds it by this. */
  readonly incarnation: Incarnation;
}
interface OnSegment extends OnDisk {
  readonly segment: SegmentId;
}

export interface CreateRequest extends OnSegment {
  readonly type: 'create';
  readonly volume: VolumeId;
  readonly epoch: Epoch;
}
export interface AppendRequest extends OnSegment {
  readonly type: 'append';
  readonly epoch: Epoch;
  readonly offset: SegmentOffset;
  /** One batch in wire form (batch.ts): header, body, pages, without padding. */
  readonly batch: readonly Uint8Array[];
}
export interface PingRequest extends OnSegment {
  readonly type: 'ping';
  readonly epoch: Epoch;
}
export interface FenceRequest extends OnSegment {
  readonly type: 'fence';
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  /**
   * The former owner released, or was reaped by its own supervisor: do not wait for its read lease.
   */
  readonly released: boolean;
}
export interface ReadRequest extends OnSegment {
  readonly type: 'read';
  readonly page: PageIndex;
  /** 1 to READ_MAX_PAGES. */
  readonly count: number;
}
/**
 * Where this replica's file stands, so that a reader on the same machine may read it itself, and
 * the checksums of the pages from `page` on, up to LOCATE_MAX_PAGES of those that are durable.
 */
export interface LocateRequest extends OnSegment {
  readonly type: 'locate';
  readonly page: PageIndex;
}
export interface RecoverRequest extends OnSegment {
  readonly type: 'recover';
  readonly volume: VolumeId;
  /** The taker's epoch (maxEpoch on the replica), not the segment's. */
  readonly epoch: Epoch;
  readonly createEpoch: Epoch;
  readonly offset: SegmentOffset;
  /** Whole batches as they stand in the segment, padded: a multiple of 4096 bytes. */
  readonly bytes: Uint8Array;
}
export interface SealRequest extends OnSegment {
  readonly type: 'seal';
  readonly volume: VolumeId;
  readonly end: SegmentOffset;
  readonly crc: number;
}
export interface CopySource {
  readonly node: NodeId;
  readonly address: Address;
  readonly incarnation: Incarnation;
}
/**
 * Makes this disk a full copy of a sealed segment, fetching what it lacks from the sources, in
 * order.
 */
export interface CopyRequest extends OnSegment {
  readonly type: 'copy';
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  readonly sources: readonly CopySource[];
  readonly end: SegmentOffset;
  readonly crc: number;
}
export interface DeleteRequest extends OnSegment {
  readonly type: 'delete';
  readonly volume: VolumeId;
  /** The volume record's revision at which the segment was seen in pendingDelete. */
  readonly revision: Revision;
}
/**
 * Removes this disk's copy of a segment that has its copies elsewhere, or that is deleted. Unlike
 * after a DELETE, the same disk may be made a copy again.
 */
export interface DropRequest extends OnSegment {
  readonly type: 'drop';
  readonly volume: VolumeId;
}
/** Lists segments in order of id, for rebuild and for reports against the placement table. */
export interface InventoryRequest extends OnDisk {
  readonly type: 'inventory';
  readonly after: SegmentId | null;
  /** 1 to INVENTORY_PAGE. */
  readonly limit: number;
}
/** Who are you: the node's disks and their state. The incarnation is not compared. */
export interface StatusRequest extends OnDisk {
  readonly type: 'status';
}
/** For whoever does not know the node's disks: every node answers it. */
export const NODE_STATUS: StatusRequest = { type: 'status', incarnation: NO_DISK };

export type Request =
  | CreateRequest
  | AppendRequest
  | PingRequest
  | FenceRequest
  | ReadRequest
  | LocateRequest
  | RecoverRequest
  | SealRequest
  | CopyRequest
  | DeleteRequest
  | DropRequest
  | InventoryRequest
  | StatusRequest;

/** Persistent: these numbers are on the wire. */
export const Status = {
  OK: 0,
  /** A higher epoch has fenced this segment, or the epoch is not the segment's. Stop for good. */
  STALE: 1,
  /** Sealed already. */
  SEALED: 2,
  /** The offset is not where the prefix ends: see durableLength. */
  GAP: 3,
  /** This disk knows no such segment. Never evidence that it does not exist. */
  UNKNOWN: 4,
  /** The disk named in the request is not here (any more). */
  INCARNATION: 5,
  /** No room for new segments. */
  FULL: 6,
  /** The disk has failed or could not read good bytes. */
  DISK: 7,
  /** A queue is at its limit: send again later. */
  BUSY: 8,
  /** The metadata store does not (or cannot now) confirm what a SEAL, COPY, DELETE or DROP says. */
  UNCONFIRMED: 9,
  /**
   * The bytes do not form the batch they should (checksum, chain, header fields). A bug or bad
   * memory.
   */
  REFUSED: 10,
  /** The replica's bytes from suspectFrom on may have been acknowledged and cannot be read. */
  SUSPECT: 11,
  /** Deleted: its id is a tombstone. */
  DELETED: 12,
} as const;
export type StatusName = keyof typeof Status;

export interface FenceBody {
  readonly type: 'fence';
  /** Where unreadable bytes begin that may have been acknowledged; null when all is well. */
  readonly suspectFrom: SegmentOffset | null;
  /**
   * The segment's first batch (its header) in wire form; null when length is 0 or it cannot be
   * read.
   */
  readonly firstBatch: Uint8Array | null;
  /** Set when the segment is sealed on this replica. */
  readonly sealed: boolean;
}
export interface ReadBody {
  readonly type: 'read';
  readonly page: PageIndex;
  /** count × 4096 bytes. */
  readonly data: Uint8Array;
  /** One salted page checksum (core/checksum.ts) for each page, as computed when it was written. */
  readonly checksums: Uint32Array;
}
export interface LocateBody {
  readonly type: 'locate';
  readonly page: PageIndex;
  /** Absolute, as the node's process sees it. Page i of the segment stands at byte 4096 i of it. */
  readonly path: string;
  /** As in ReadBody; at least one. */
  readonly checksums: Uint32Array;
}
export interface InventoryEntry {
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  readonly maxEpoch: Epoch;
  readonly length: SegmentOffset;
  readonly state: 'open' | 'sealed' | 'tombstone' | 'deleted';
  readonly crc: number;
  readonly suspectFrom: SegmentOffset | null;
}
export interface InventoryBody {
  readonly type: 'inventory';
  readonly entries: readonly InventoryEntry[];
  readonly more: boolean;
}
export interface DiskStatus {
  readonly incarnation: Incarnation;
  readonly state: 'ok' | 'full' | 'failed';
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly segments: number;
}
export interface StatusBody {
  readonly type: 'status';
  readonly node: NodeId;
  readonly zone: string;
  readonly version: string;
  readonly disks: readonly DiskStatus[];
  /** The node's clock, milliseconds since 1970: for telling people which clocks are wrong. */
  readonly wallMs: number;
}

export interface Reply {
  readonly status: StatusName;
  /** Of the disk that answered. */
  readonly incarnation: Incarnation;
  /** The length of this replica's durable, hole-free prefix (0 where it means nothing). */
  readonly durableLength: SegmentOffset;
  /** The highest epoch this replica has seen for the segment (0 where it means nothing). */
  readonly maxEpoch: Epoch;
  readonly body: FenceBody | ReadBody | LocateBody | InventoryBody | StatusBody | null;
}

/** One that says nothing of a segment. */
export function plainReply(status: StatusName, incarnation: Incarnation): Reply {
  return { status, incarnation, durableLength: offset(0), maxEpoch: epoch(0), body: null };
}
