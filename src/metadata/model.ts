/**
 * What the metadata store holds: the records' types. Their validated JSON encodings are
 * encoding.ts, their keys keys.ts. Field names are part of the stored format (docs/FORMATS.md).
 *
 * INVARIANT (checked by assertVolumeRecord in volume-record.ts): at most two open segments, in log
 * order; every segment id stands in exactly one of planned, open, sealed, pendingDelete; sealed
 * ends never change; endLsn does not fall along sealed; epoch never falls.
 */
import type { ClusterId, Incarnation, NodeId, OwnerId, SegmentId, VolumeId } from '../core/ids.js';
import type { Epoch, Lsn, SegmentOffset } from '../core/units.js';

/**
 * Written into every record; a reader refuses a newer one instead of dropping fields it cannot see.
 */
export const METADATA_SCHEMA = 1;
/** Of volume records, whose sealed segments stand in chunks since 2. */
export const VOLUME_SCHEMA = 2;

/** One node's copy of a segment: which disk of which node. */
export interface Replica {
  readonly node: NodeId;
  readonly incarnation: Incarnation;
}

/** A segment that CREATEs may have been sent for. */
export interface PlannedSegment {
  readonly segment: SegmentId;
  /** Index of the placement group, below PLACEMENT_GROUPS. */
  readonly group: number;
  readonly createEpoch: Epoch;
  readonly replicas: readonly Replica[];
}

/** A segment that may take appends of epoch `createEpoch`. Its replica list never changes. */
export type OpenSegment = PlannedSegment;

export interface SealedSegment extends PlannedSegment {
  readonly end: SegmentOffset;
  /** The LSN after the last record below `end`. */
  readonly endLsn: Lsn;
  /**
   * headerCrc of the last batch below `end`; the chain behind it covers every byte. 0 when end is
   * 0.
   */
  readonly crc: number;
}

/** Where the newest checkpoint begins: a place in a sealed or open segment. */
export interface Root {
  readonly segment: SegmentId;
  readonly offset: SegmentOffset;
  readonly lsn: Lsn;
}

export interface Owner {
  readonly id: OwnerId;
  /** Where the owner can be asked, or where it runs, for people. */
  readonly address: string;
  /** Set by an orderly release: takeover need not wait for read leases. */
  readonly released: boolean;
}

export type VolumeKind = 'filesystem' | 'block';

/** What a block volume may be formatted with. */
export const BLOCK_FILESYSTEMS = ['ext4', 'xfs'] as const;
export type BlockFilesystem = (typeof BLOCK_FILESYSTEMS)[number];

/** What users may change of a volume while it is in use, and what only its mounts ask for. */
export interface VolumeSettings {
  /** Un-fsynced changes are committed this often, if a mount does not say otherwise. */
  readonly commitIntervalMs?: number;
  readonly fsType?: BlockFilesystem;
  /**
   * Becomes the ack quorum when the next takeover ends. Not before: where a segment ends is decided
   * with the quorum that it was written with.
   */
  readonly nextAckQuorum?: number;
}

/** What `volume rm` leaves: a volume that is out of use, with its data and without its name. */
export interface Trash {
  /** ISO 8601. */
  readonly removedAt: string;
  /** ISO 8601; from then on it may be purged. Null: only when somebody says so. */
  readonly keptUntil: string | null;
  /** Its segments are being deleted: nothing of it comes back. */
  readonly purging: boolean;
}

/**
 * All that is known of a volume. In the store it is a head and chunks (sealed-chunks.ts), changed
 * together; in exports, and in stores of schema 1, one JSON object.
 */
export interface VolumeRecord {
  readonly schema: number;
  readonly volume: VolumeId;
  readonly name: string;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  readonly replicas: number;
  readonly ackQuorum: number;
  readonly labels: Readonly<Record<string, string>>;
  /** ISO 8601, for people. */
  readonly createdAt: string;
  readonly epoch: Epoch;
  readonly owner: Owner | null;
  readonly planned: readonly PlannedSegment[];
  /** The current segment, then the registered spare. */
  readonly open: readonly OpenSegment[];
  readonly sealed: readonly SealedSegment[];
  readonly root: Root | null;
  /** May be deleted on their replicas; removed from here once all have answered or are gone. */
  readonly pendingDelete: readonly PlannedSegment[];
  /** Left out where nothing was set. */
  readonly settings?: VolumeSettings;
  /** Left out while the volume is in use: programs that do not know it read those records. */
  readonly trash?: Trash;
}

/** What the head tells of the sealed segments, for lists and to see that none is missing. */
export interface SealedSummary {
  readonly segments: number;
  /** Up to their ends: on each replica. */
  readonly bytes: number;
  /** The number of the chunk where the newest ones are; null when there is no chunk. */
  readonly newestChunk: number | null;
}

/** What most of the program wants to know of a volume. */
export type VolumeFacts = Omit<VolumeRecord, 'sealed'>;

/** The volume's key: the record without its sealed segments. */
export interface VolumeHead extends VolumeFacts {
  /** Without those that stand in chunks. */
  readonly pendingDelete: readonly PlannedSegment[];
  readonly log: SealedSummary;
}

/** Where a volume is mounted, for people and for judging liveness; never for safety. */
export interface PresenceRecord {
  readonly schema: number;
  readonly volume: VolumeId;
  /** The epoch that the owner holds. */
  readonly epoch: Epoch;
  readonly owner: OwnerId;
  readonly host: string;
  /** Of the mount daemon, on `host`. */
  readonly pid: number;
  readonly mountPoint: string;
  /** ISO 8601. */
  readonly since: string;
}

/** A machine that may use a volume. */
export interface Attachment {
  readonly machine: string;
  readonly readOnly: boolean;
  /** ISO 8601. */
  readonly since: string;
}

/** Who may use a volume, while anybody may; safety never depends on it. */
export interface AttachmentRecord {
  readonly schema: number;
  readonly volume: VolumeId;
  readonly attachments: readonly Attachment[];
}

/** A machine on which volumes can be mounted, as its driver registered it. */
export interface MachineRecord {
  readonly schema: number;
  /** Unique; what presences call the host. */
  readonly machine: string;
  readonly zone: string | null;
  /** So many volumes may be attached to it; absent: any number. */
  readonly maxVolumes?: number;
  /** ISO 8601. */
  readonly registeredAt: string;
}

export interface DiskRecord {
  readonly incarnation: Incarnation;
  readonly capacityBytes: number;
}

export interface NodeRecord {
  readonly schema: number;
  readonly node: NodeId;
  /** HOST:PORT where the node serves. */
  readonly address: string;
  readonly zone: string;
  readonly disks: readonly DiskRecord[];
  /** The program's version, for people and rolling upgrades. */
  readonly version: string;
}

/** Which disks hold the sealed segments of each group, for one replica count. */
export interface PlacementRecord {
  readonly schema: number;
  readonly replicas: number;
  /**
   * PLACEMENT_GROUPS lists of `replicas` disks on distinct nodes (fewer when there are too few
   * nodes).
   */
  readonly groups: readonly (readonly Replica[])[];
}

export interface ClusterRecord {
  readonly schema: number;
  readonly cluster: ClusterId;
  /** Raised by import, rebuild and restore. */
  readonly generation: number;
  readonly createdAt: string;
}
