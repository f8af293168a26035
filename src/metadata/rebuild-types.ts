/**
 * What rebuild.ts takes and gives: the disks' inventories and segment headers in, volume records or
 * reasons out. The types are its own, since metadata knows nothing of the storage node's messages.
 */
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import type { Epoch, Lsn, SegmentOffset } from '../core/units.js';
import type { Replica, Root, VolumeKind, VolumeRecord } from './model.js';

/** What one disk says of one segment; as in an INVENTORY reply. */
export interface RebuildEntry {
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  readonly maxEpoch: Epoch;
  readonly length: SegmentOffset;
  readonly state: 'open' | 'sealed' | 'tombstone' | 'deleted';
  /** headerCrc of the last batch below `length`; 0 when that is 0. */
  readonly crc: number;
  readonly suspectFrom: SegmentOffset | null;
}

export interface RebuildInventory {
  readonly node: NodeId;
  readonly incarnation: Incarnation;
  readonly entries: readonly RebuildEntry[];
}

/** A segment's header, read and verified from any replica. */
export interface RebuildHeader {
  readonly previous: {
    readonly segment: SegmentId;
    readonly end: SegmentOffset;
    readonly endLsn: Lsn;
    /** The chain crc there, where no copy ends there and the caller has read a longer one. */
    readonly crc?: number;
  } | null;
  readonly name: string;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  readonly replicas: number;
  readonly ackQuorum: number;
  readonly group: number;
  /** The LSN after the last record of a sealed copy, else of the longest, where it was read. */
  readonly endLsn?: Lsn;
}

/** The newest checkpoint of one volume, as far as its log can be read. */
export interface RebuildRoot {
  /** Null: there is none. */
  readonly root: Root | null;
  /** Segments without which the checkpoint cannot be loaded. */
  readonly images: readonly SegmentId[];
  /** Segments that it refers to besides: what is missing of these is missing in files. */
  readonly others: readonly SegmentId[];
  /** Newer places where one may have stood that cannot be read, one sentence each. */
  readonly unreadable: readonly string[];
}

export interface RebuildInput {
  readonly inventories: readonly RebuildInventory[];
  readonly headers: ReadonlyMap<SegmentId, RebuildHeader>;
  /** What was found by looking for the newest checkpoint of each volume; undefined: not looked. */
  readonly roots?: ReadonlyMap<VolumeId, RebuildRoot>;
  readonly createdAt: string;
  /** Rebuild also where acknowledged data may be missing. */
  readonly acceptLoss?: boolean;
}

export type RebuiltVolume =
  | {
      readonly type: 'rebuilt';
      readonly record: VolumeRecord;
      /** What was or may have been lost, one sentence each; empty unless acceptLoss was given. */
      readonly losses: readonly string[];
      /** Copies that are not part of the record and were left alone, one sentence each. */
      readonly leftAlone: readonly string[];
    }
  /** Purged, as far as disks can tell: whatever had data was deleted. No record is made. */
  | {
      readonly type: 'purged';
      readonly volume: VolumeId;
      readonly leftAlone: readonly string[];
    }
  | {
      readonly type: 'refused';
      readonly volume: VolumeId;
      /** Null: no disk that was asked knows it. */
      readonly name: string | null;
      /** DATA_LOST: acceptLoss would go on. INCONSISTENT: nothing can be made of it. */
      readonly code: 'DATA_LOST' | 'INCONSISTENT';
      readonly reasons: readonly string[];
    };

/** One disk's copy of a segment. */
export interface Copy extends Replica {
  readonly entry: RebuildEntry;
}

/** All that is known of one segment. */
export interface FoundSegment {
  readonly segment: SegmentId;
  readonly createEpoch: Epoch;
  readonly header: RebuildHeader | null;
  /** Disks that hold it or hold its fence, without those that deleted it. */
  readonly copies: readonly Copy[];
  readonly deleted: boolean;
}
