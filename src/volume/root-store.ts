/**
 * The seam to what only the owner's metadata swaps can do for a volume: point its root at a newer
 * checkpoint, and give dead segments up. Implemented over the log's owner; in memory by
 * test/fixtures/fake-owner.ts.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { Lsn } from '../core/units.js';

/** A durable checkpoint. Stored as VolumeRecord.root, with `page` as a byte offset. */
export interface CheckpointRoot {
  /** Where the manifest's first page stands. */
  readonly segment: SegmentId;
  readonly page: number;
  /** Replay goes on from here. */
  readonly lsn: Lsn;
}

export interface LogSegment {
  readonly segment: SegmentId;
  /** Pages up to its end; batch heads included. */
  readonly pages: number;
  /** The LSN after its last record. */
  readonly endLsn: Lsn;
}

export interface RootStore {
  /** Null: no checkpoint was ever written; replay from the beginning. */
  readonly root: CheckpointRoot | null;
  /** Swaps the root in; `done` when it is durable, or when it never will be. */
  setRoot(root: CheckpointRoot, done: (error: HoldfastError | null) => void): void;
  /** The sealed segments, in log order. */
  sealed(): readonly LogSegment[];
  /** Nothing durable reaches these any more: to pendingDelete, under this epoch. */
  deleteSegments(segments: readonly SegmentId[], done: (error: HoldfastError | null) => void): void;
}
