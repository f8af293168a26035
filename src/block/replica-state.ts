/**
 * What a disk holds in memory of each segment, and the accepted changes on their way to being
 * durable. Commits of a segment settle in the order of acceptance, whichever way (journal or direct
 * write) they take: so durableLength is a prefix, and a FENCE is answered only after everything
 * that was accepted before it. The rules that change this state are segment-table.ts.
 *
 * INVARIANT: durableLength ≤ acceptedLength; what `durable` says is on the disk, in journal or
 * index.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import { type Epoch, epoch, type Monotonic, offset, type SegmentOffset } from '../core/units.js';
import type { EntryType } from './journal-format.js';
import type { BatchHeader } from './wire/batch.js';
import type { StatusName } from './wire/messages.js';

/** A batch as it stands in a segment: its head (without padding) and its data pages. */
export interface BatchBytes {
  readonly header: BatchHeader;
  readonly head: Uint8Array;
  readonly pages: Uint8Array;
}

/** What the journal writes (journal.ts); `written` is called when its group is durable. */
export interface JournalEntry {
  readonly entryType: EntryType;
  readonly segment: SegmentId;
  /** The payload. Must not change until `written`. */
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  written(): void;
}

/** Called when everything before the commit and the commit itself are durable, or it failed. */
export type Settle = (failure: StatusName | null) => void;

/** One accepted change of one segment. */
export interface Commit {
  readonly state: Segment;
  /** The batches whose bytes end the prefix at `end`; none for FENCE, SEAL and other marks. */
  readonly batches: readonly BatchBytes[];
  readonly start: SegmentOffset;
  readonly startCrc: number;
  readonly end: SegmentOffset;
  readonly crc: number;
  /** Straight to the segment file, which then holds the bytes already. */
  readonly direct: boolean;
  /** Bytes of memory that it holds. */
  readonly bytes: number;
  durable: boolean;
  failure: StatusName | null;
  readonly settle: Settle;
}

/** One replica: a segment's copy on this disk. */
export interface Segment {
  readonly id: SegmentId;
  readonly volume: VolumeId;
  createEpoch: Epoch;
  /** False for a tombstone that a FENCE of an unknown segment left. */
  hasCreate: boolean;
  /** In force at once; `durable.maxEpoch` is what a crash would leave. */
  maxEpoch: Epoch;
  /** The hole-free prefix over journal and file that is flushed, and the chain's crc there. */
  durableLength: SegmentOffset;
  durableCrc: number;
  /** Where the next batch must begin. */
  acceptedLength: SegmentOffset;
  acceptedCrc: number;
  sealed: boolean;
  deleted: boolean;
  /**
   * Deleted on this disk only: the segment has its copies elsewhere, and may have one here again.
   */
  dropped: boolean;
  /** Bytes from durableLength on may have been acknowledged and cannot be read. */
  suspect: boolean;
  /** A confirmed SEAL, COPY or DELETE is at work: nothing is accepted any more. */
  frozen: boolean;
  /** A DROP waits for its confirmation: no COPY may begin before it has an answer. */
  dropping: boolean;
  /** Deleted, and its files may be there still. */
  removing: boolean;
  /** Counts DELETEs and DROPs that were answered: a COPY that was confirmed before one is void. */
  removals: number;
  durable: { hasCreate: boolean; maxEpoch: Epoch; sealed: boolean; deleted: boolean };
  /** Accepted and not yet settled, in order of acceptance. */
  readonly queue: Commit[];
  /** The read-lease promise: no FENCE above leaseEpoch is answered before leaseUntil. */
  leaseEpoch: Epoch;
  leaseUntil: Monotonic;
  /** Ends and chain crcs of recent batches, oldest first. */
  readonly recentEnds: number[];
  readonly recentCrcs: number[];
}

export function newSegment(id: SegmentId, volume: VolumeId): Segment {
  return {
    id,
    volume,
    createEpoch: epoch(0),
    hasCreate: false,
    maxEpoch: epoch(0),
    durableLength: offset(0),
    durableCrc: 0,
    acceptedLength: offset(0),
    acceptedCrc: 0,
    sealed: false,
    deleted: false,
    dropped: false,
    suspect: false,
    frozen: false,
    dropping: false,
    removing: false,
    removals: 0,
    durable: { hasCreate: false, maxEpoch: epoch(0), sealed: false, deleted: false },
    queue: [],
    leaseEpoch: epoch(0),
    leaseUntil: 0 as Monotonic,
    recentEnds: [],
    recentCrcs: [],
  };
}
