/**
 * What a log owner is built from, the limits that tests shrink, and what it shows of itself. Kept
 * apart from owner.ts so that the pure cores, the simulator and the reader can name these without
 * the driver.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import type { OwnerId, SegmentId, VolumeId } from '../core/ids.js';
import {
  READ_LEASE_MS,
  READ_LEASE_SAFE_FRACTION,
  REPLICA_ABSENT_MS,
  REPLICA_MAX_LAG_BYTES,
  REPLICA_MAX_LAG_MS,
  REQUEST_TIMEOUT_MS,
  SEGMENT_HARD_BYTES,
  SEGMENT_MAX_AGE_MS,
  SEGMENT_SOFT_BYTES,
  WRITER_MAX_BATCHES_IN_FLIGHT,
  WRITER_MAX_PENDING_BYTES,
} from '../core/limits.js';
import type { Epoch, Lsn, Monotonic, SegmentOffset } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { LocalFiles } from '../io/local-files.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import type { Replica } from '../metadata/model.js';
import { CHUNK_SEGMENTS } from '../metadata/sealed-chunks.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Directory } from './directory.js';
import type { OwnerState } from './owner-api.js';
import type { SaidLengths } from './takeover-rules.js';

/** The seams an owner acts through. It closes none of them. */
export interface OwnerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly requests: NodeRequests;
  readonly store: MetadataStore;
  readonly directory: Directory;
  readonly log: Log;
  /** Where copies of this machine may be read without their nodes; none in the simulator. */
  readonly localFiles?: LocalFiles | undefined;
}

/** Limits of core/limits.ts that tests and the simulator shrink. */
export interface OwnerLimits {
  readonly segmentSoftBytes: number;
  readonly segmentHardBytes: number;
  readonly maxLagBytes: number;
  readonly maxLagMs: number;
  readonly maxPendingBytes: number;
  readonly maxBatchesInFlight: number;
  readonly requestTimeoutMs: number;
  readonly leaseMs: number;
  readonly leaseSafeFraction: number;
  /** Back-off of everything that is retried for ever: first and longest wait. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** How long a missing CREATE may hold up a segment whose quorum is there. */
  readonly createGraceMs: number;
  /** How long a planned segment may lack its quorum before another group is tried. */
  readonly replanMs: number;
  /** How long a disk, or its node, may be away before open segments leave it. */
  readonly absentMs: number;
  /** An open segment that is written to is sealed at this age: open ones are not scrubbed. */
  readonly segmentMaxAgeMs: number;
  /** How long a taker that accepts loss waits for replicas all the same. */
  readonly acceptLossMs: number;
  /** Sealed segments of one chunk of the metadata store. */
  readonly chunkSegments: number;
}

export const DEFAULT_OWNER_LIMITS: OwnerLimits = {
  segmentSoftBytes: SEGMENT_SOFT_BYTES,
  segmentHardBytes: SEGMENT_HARD_BYTES,
  maxLagBytes: REPLICA_MAX_LAG_BYTES,
  maxLagMs: REPLICA_MAX_LAG_MS,
  maxPendingBytes: WRITER_MAX_PENDING_BYTES,
  maxBatchesInFlight: WRITER_MAX_BATCHES_IN_FLIGHT,
  requestTimeoutMs: REQUEST_TIMEOUT_MS,
  leaseMs: READ_LEASE_MS,
  leaseSafeFraction: READ_LEASE_SAFE_FRACTION,
  retryMinMs: 50,
  retryMaxMs: 2_000,
  createGraceMs: 500,
  replanMs: 3_000,
  absentMs: REPLICA_ABSENT_MS,
  segmentMaxAgeMs: SEGMENT_MAX_AGE_MS,
  acceptLossMs: 10_000,
  chunkSegments: CHUNK_SEGMENTS,
};

export interface OwnerOptions {
  readonly volume: VolumeId;
  /** This attempt to own the volume: fresh for every LogOwner, never reused after a restart. */
  readonly owner: OwnerId;
  /** Where this process runs, for people. */
  readonly address: string;
  /**
   * The owner that this one follows, which its supervisor has seen dead: nobody waits for the read
   * lease that it may have had. Stops with FENCED, and changes nothing, where another one is found.
   */
  readonly reaped?: OwnerId;
  /** Gives up where anybody but `lost` owns the volume, or comes to own it first. */
  readonly idleOnly?: boolean;
  readonly lost?: OwnerId;
  /**
   * Goes on without replicas that do not answer, although only they may have what was acknowledged
   * last, and ends with no less than was said: for `volume recover --accept-loss` alone.
   */
  readonly acceptLoss?: SaidLengths;
  readonly limits?: Partial<OwnerLimits>;
}

export interface InspectedReplica {
  readonly replica: Replica;
  /** The largest prefix this replica has acknowledged as durable to this owner. */
  readonly durable: SegmentOffset;
  readonly mode: 'following' | 'resync' | 'dropped';
}

export interface InspectedSegment {
  readonly segment: SegmentId;
  readonly commitOffset: SegmentOffset;
  /** Where the next batch goes: what has been encoded ends here. */
  readonly nextOffset: SegmentOffset;
  readonly replicas: readonly InspectedReplica[];
}

/**
 * A consistent view between two events, for the simulator's invariants and for `holdfast status`.
 */
export interface OwnerInspection {
  readonly owner: OwnerId;
  readonly epoch: Epoch;
  readonly state: OwnerState;
  readonly current: InspectedSegment | null;
  /** Rolled away from; its seal has not been confirmed yet. Nothing counts in it any more. */
  readonly frozen: { readonly segment: SegmentId; readonly end: SegmentOffset } | null;
  readonly spare: SegmentId | null;
  readonly planned: SegmentId | null;
  readonly committedLsn: Lsn;
  readonly nextLsn: Lsn;
  /** Reads are served before this moment on the owner's clock; 0 when there is no lease. */
  readonly leaseValidUntil: Monotonic;
  /** What the swap in flight wants, or null. */
  readonly swapInFlight: string | null;
  readonly pendingBytes: number;
}
