/**
 * A volume's log as its user (the volume layer) sees it: take ownership, append records with their
 * pages, read pages back, replay, release. Implemented by owner.ts; its decisions are pure cores
 * (takeover.ts, writer.ts, lease.ts), its effects go through the seams.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { Epoch, Lsn } from '../core/units.js';
import type { VolumeRecord } from '../metadata/model.js';

/** Where an acknowledged record's pages stand: for the volume layer's extents. */
export interface Appended {
  readonly lsn: Lsn;
  readonly segment: SegmentId;
  /** Page index of the entry's first data page in the segment. */
  readonly firstPage: number;
}

export type OwnerState =
  | { readonly type: 'idle' }
  /** `step` is one of: swap, fence, recover, register. For people and for coverage. */
  | { readonly type: 'taking-over'; readonly step: string; readonly epoch: Epoch }
  | { readonly type: 'serving'; readonly epoch: Epoch }
  /**
   * For good. FENCED: a newer owner exists. CLOSED: released. INCONSISTENT: halted with an alarm.
   */
  | { readonly type: 'stopped'; readonly reason: HoldfastError };

export interface ReplayedRecord {
  readonly lsn: Lsn;
  readonly record: Uint8Array;
  readonly segment: SegmentId;
  readonly firstPage: number;
  readonly pageCount: number;
}

export interface VolumeOwner {
  readonly state: OwnerState;
  /** The record as this owner last swapped or read it; null before takeover's first step. */
  readonly record: VolumeRecord | null;
  /** The LSN after the last record acknowledged. */
  readonly committedLsn: Lsn;
  /**
   * Begins the takeover. `onState` tells each change of state. Retries what is retryable for ever.
   */
  start(onState: (state: OwnerState) => void): void;
  /**
   * Appends one record. `done` is called in LSN order, once: with its place after it is durable on
   * the ack quorum, or with FENCED / CLOSED / INCONSISTENT (then it may or may not survive).
   * Returns false when more than WRITER_MAX_PENDING_BYTES wait: the caller should hold back until
   * `onDrain`.
   */
  append(
    entry: BatchEntry,
    done: (error: HoldfastError | null, appended: Appended | null) => void,
  ): boolean;
  onDrain(callback: () => void): void;
  /**
   * Reads `count` verified pages of the log under the read lease: fails with FENCED instead of ever
   * returning something older than what a newer owner acknowledged. DATA_LOST when no good copy is
   * left.
   */
  readPages(
    segment: SegmentId,
    page: number,
    count: number,
    done: (error: HoldfastError | null, data: Uint8Array | null) => void,
  ): void;
  /** Gives every record from `from` on to `onRecord` in LSN order, each once. */
  replay(
    from: Lsn,
    onRecord: (record: ReplayedRecord) => void,
    done: (error: HoldfastError | null) => void,
  ): void;
  /**
   * Waits for what is pending, seals nothing, marks the record as released, stops. Before it serves
   * it gives the takeover up: the record is marked if the owner before had released it.
   */
  release(done: (error: HoldfastError | null) => void): void;
  /** Stops at once, as a crash would. */
  stop(): void;
}
