/**
 * Volumes as users, orchestrators and their drivers see them: the vocabulary of volumes.ts and
 * machine.ts. All of it is plain data that survives JSON, since an agent may stand between.
 *
 * Faults that every call may throw, as HoldfastError: UNAVAILABLE, TIMEOUT (metadata store, nodes
 * or a daemon do not answer; retryable), BUSY with `retryable` (another operation on this volume is
 * under way here: try again). What else is meant stands at each call.
 */
import type { VolumeId } from '../core/ids.js';
import type { Attachment, BlockFilesystem, VolumeKind } from '../metadata/model.js';
import type { MountRequest, MountStatus } from './mount-types.js';

export type {
  Attachment,
  BlockFilesystem,
  MachineRecord,
  VolumeKind,
} from '../metadata/model.js';
export { BLOCK_FILESYSTEMS } from '../metadata/model.js';

/** What may be changed at any time. */
export interface VolumeSettings {
  /** Copies that an fsync waits for. A change holds from the next mount on. */
  readonly ackQuorum?: number;
  /** Un-fsynced changes are committed this often, 1 to 60 s. Holds at once. */
  readonly commitIntervalMs?: number;
  /** Others stay; null takes one away. */
  readonly labels?: Readonly<Record<string, string | null>>;
}

export interface CreateVolume extends VolumeSettings {
  /** See checkVolumeName. */
  readonly name: string;
  /** The least that it must hold. */
  readonly sizeBytes: number;
  /** The most that one which exists already may hold; default: `sizeBytes`. */
  readonly limitBytes?: number;
  /** Default: filesystem. */
  readonly kind?: VolumeKind;
  /** Default: 3. */
  readonly replicas?: number;
  /** Of a block volume that is mounted as a filesystem: with which. */
  readonly fsType?: BlockFilesystem;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Where a volume is mounted, as the metadata store knows: ends with its process, or 10 s later. */
export interface MountedWhere {
  /** The machine's name: see MachineRecord. */
  readonly machine: string;
  readonly directory: string;
  readonly pid: number;
  readonly since: string;
}

export interface Condition {
  readonly abnormal: boolean;
  /** One sentence, for people; also when all is well. */
  readonly message: string;
}

export interface VolumeInfo {
  readonly id: VolumeId;
  readonly name: string;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  readonly replicas: number;
  readonly ackQuorum: number;
  /** Another ack quorum that holds from the next mount on; null: none. */
  readonly nextAckQuorum: number | null;
  /** Null: the default of 5 s. */
  readonly commitIntervalMs: number | null;
  /** Null: nobody said. */
  readonly fsType: BlockFilesystem | null;
  readonly labels: Readonly<Record<string, string>>;
  /** ISO 8601. */
  readonly createdAt: string;
  /** At most one so far. */
  readonly attachments: readonly Attachment[];
  /** Null: nobody has it, or who has it does not reach the metadata store. */
  readonly mounted: MountedWhere | null;
  /** An owner that did not release it: true while mounted, and after a crash. */
  readonly held: boolean;
  readonly condition: Condition;
}

export interface VolumePage {
  readonly volumes: readonly VolumeInfo[];
  /** To go on with; null: that was all. */
  readonly next: string | null;
}

export interface Capacity {
  /** For new volumes of this many replicas, before any is full. Volumes reserve nothing. */
  readonly availableBytes: number;
  /** Sizes of one volume. */
  readonly minimumVolumeBytes: number;
  readonly maximumVolumeBytes: number;
}

/** What fence() found and did. */
export interface FenceOutcome {
  readonly volume: VolumeId;
  readonly name: string;
  /** Who was shut out, for people ("HOST/PID"); null: nobody held it, and nothing was done. */
  readonly former: string | null;
  /** That one's mount, if it was alive. */
  readonly mounted: MountedWhere | null;
  readonly epoch: number;
}

/** What is asked of this machine: how a volume appears in its tree. */
export interface MountOptions {
  readonly readOnly?: boolean;
  /** Options of mount(8), such as `noatime`, `nodev`, `nosuid`. */
  readonly flags?: readonly string[];
  /** Of a block volume; default: what it was created with, else ext4. */
  readonly fsType?: BlockFilesystem;
  /** Un-fsynced changes are committed this often. Default: as the volume's settings say. */
  readonly commitIntervalMs?: number;
  /** How long to wait for an owner elsewhere to release or to be found dead. Default 0. */
  readonly waitMs?: number;
  /** How long taking over and loading may take. Default 60 s. */
  readonly timeoutMs?: number;
}

/** A volume on this machine: a directory, a device, or both. */
export interface MachineVolume {
  readonly name: string;
  /** Null while it has not been looked up. */
  readonly id: VolumeId | null;
  readonly kind: VolumeKind;
  /** Where it is mounted, or is to be; null: a raw block device alone. */
  readonly directory: string | null;
  /**
   * Whether it is what the kernel shows at `directory`: not before it is mounted, nor when it was
   * taken away while somebody uses it. Said of the kind `filesystem`; older agents do not say it.
   */
  readonly shown?: boolean;
  /** Of a block volume, such as /dev/loop3; null: none is attached (yet). */
  readonly device: string | null;
  readonly fsType: BlockFilesystem | null;
  readonly readOnly: boolean;
  /** Where else it was bound to, in no order: see bind(). */
  readonly targets: readonly string[];
  readonly condition: Condition;
  /** The FUSE mount below it. */
  readonly mount: MountStatus;
}

export interface VolumeStats {
  readonly id: VolumeId | null;
  readonly name: string;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  /** All null for a raw device. */
  readonly totalInodes: number | null;
  readonly usedInodes: number | null;
  readonly availableInodes: number | null;
  readonly condition: Condition;
}

export interface BindRequest {
  /** A directory or device of list(). */
  readonly source: string;
  /** Absolute; made when it is missing, as a directory or (for a device) as a file. */
  readonly target: string;
  readonly readOnly?: boolean;
}

/** A volume for `mount` and `openDevice` of this machine, as VolumeLifecycle knows it. */
export interface MachineMountRequest extends MountOptions {
  readonly name: string;
  readonly id: VolumeId;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  /** Where daemons find the cluster; default: where the machine's own is. */
  readonly location?: MountLocation;
  /** What presences call this machine; default: its own name. */
  readonly machine?: string;
}

/** Files by paths that the daemon sees. */
export type MountLocation = Pick<MountRequest, 'metadata' | 'secretFile'>;
