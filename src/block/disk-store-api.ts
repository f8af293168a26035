/**
 * What a disk's store takes and shows, apart from its engine (disk-store.ts): the parts that it is
 * composed of, its limits, and what the simulator's checkers and the metrics read from it.
 */
import type { Confirmations } from '../core/confirmations.js';
import type { ClusterId, Incarnation, NodeId, SegmentId } from '../core/ids.js';
import type { Epoch, SegmentOffset } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Disk } from '../io/disk.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import type { Reply } from './wire/messages.js';
import type { NodeRequests } from './wire/requests.js';

export interface DiskStoreOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly confirmations: Confirmations;
  /** For COPY: fetches pages from other nodes. */
  readonly requests: NodeRequests;
  /** Who the superblock must belong to. */
  readonly cluster: ClusterId;
  readonly node: NodeId;
  readonly limits?: Partial<DiskLimits>;
}

/** Bounds that tests and small disks set lower; the defaults are those of core/limits.ts. */
export interface DiskLimits {
  /** Accepted, not yet durable bytes; above it: BUSY. */
  readonly pendingBytes: number;
  /** Kept free for FENCE, RECOVER and SEAL. */
  readonly reserveBytes: number;
  /** Batches below this go through the journal. */
  readonly journalBatchBytes: number;
  /** A lap of the journal ends here at the latest: tests make laps shorter than a half. */
  readonly journalLapBytes: number;
  readonly openFiles: number;
  /** Segments whose page checksum tables are held in memory. */
  readonly cachedSums: number;
  /** Segments that a snapshot of the index takes in one turn of the event loop. */
  readonly indexSlice: number;
  readonly readLeaseMs: number;
}

/** Exactly one reply a request, except that a dead disk never answers what it had under way. */
export type ReplyCallback = (reply: Reply) => void;

/** One segment as this disk sees it, for invariant checkers. */
export interface SegmentInspection {
  readonly segment: SegmentId;
  readonly createEpoch: Epoch;
  readonly maxEpoch: Epoch;
  readonly durableLength: SegmentOffset;
  readonly acceptedLength: SegmentOffset;
  readonly sealedEnd: SegmentOffset | null;
  readonly suspectFrom: SegmentOffset | null;
  readonly deleted: boolean;
  /** False for a tombstone that a FENCE left and nothing has filled. */
  readonly hasCreate: boolean;
}

/** 'full': no new segments. 'failed': acknowledges nothing until reopened. */
export type DiskState = 'closed' | 'opening' | 'ok' | 'full' | 'failed';

export interface DiskStats {
  readonly incarnation: Incarnation;
  readonly state: DiskState;
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly segments: number;
  readonly bytesWritten: number;
  readonly bytesRead: number;
  readonly flushes: number;
  /** The most recent flushes' durations in milliseconds, unordered. */
  readonly flushMs: readonly number[];
  readonly journalBytes: number;
  readonly journalUsedBytes: number;
  readonly pendingBytes: number;
  /** Entries waiting for the next journal group. */
  readonly journalQueue: number;
  /** Requests waiting for a flush, a lease or a confirmation. */
  readonly waiting: number;
  readonly reads: number;
  readonly checksumFailures: number;
  /** Of sealed copies, written again from other replicas because they did not verify. */
  readonly repairedBytes: number;
}
