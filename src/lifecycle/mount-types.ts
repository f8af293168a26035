/**
 * What is asked of a mount and what is known of it: the vocabulary of mounts.ts, of the state
 * directory, of the control socket and of the daemon. All of it is plain data that survives JSON.
 */
import type { OwnerId, VolumeId } from '../core/ids.js';
import type { VolumeKind } from '../metadata/model.js';

/** Names a mount's state directory; random, never reused. */
export type MountId = string;

/** What a caller of startMount decides. Paths are absolute: a daemon's directory is the root. */
export interface MountRequest {
  /** The volume's name. */
  readonly volume: string;
  readonly directory: string;
  /** As for --metadata; an embedded store's directory and TLS files by absolute path. */
  readonly metadata: string;
  /** Null: the secret is in HOLDFAST_SECRET, which the daemon inherits. */
  readonly secretFile: string | null;
  readonly readOnly?: boolean;
  /** Un-fsynced changes are committed this often. Default: as the volume's settings say. */
  readonly commitIntervalMs?: number;
  /** Options of mount(8) besides ours, such as `noatime`, `nodev`, `nosuid`. */
  readonly flags?: readonly string[];
  /** How long taking over and loading may take before it is given up. */
  readonly timeoutMs?: number;
  /** How long to wait for an owner on another machine to end or to be found dead. */
  readonly waitMs?: number;
  /** HOST:PORT for Prometheus; the control socket has the same numbers. */
  readonly metricsListen?: string;
  /** The mount ends, in order, with the process that started it. */
  readonly foreground?: boolean;
  /** What the volume must be. Default: filesystem. */
  readonly kind?: VolumeKind;
  /** What presences call this machine. Default: its host name. */
  readonly machine?: string;
}

export type MountPhase =
  /** Taking the volume over or loading it; nothing is mounted yet. */
  | 'starting'
  /** Taking the place of a daemon that died: who uses the mount waits. */
  | 'adopting'
  | 'mounted'
  /** Committing, unmounting or releasing. */
  | 'stopping'
  /** Another owner took the volume, or its log halted: every call on the mount fails with EIO. */
  | 'failed';

/** What the daemon says of itself. */
export interface LiveStatus {
  readonly phase: MountPhase;
  /** What it is doing or why it failed, for people. */
  readonly detail: string;
  readonly pid: number;
  /** Of the program that it runs. */
  readonly version: string;
  readonly volumeId: VolumeId | null;
  readonly epoch: number;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly files: number;
  /** How many more there could be. */
  readonly freeFiles: number;
  /** Changes that a power cut would lose now. */
  readonly dirtyBytes: number;
  /** ISO 8601; null before the first. */
  readonly lastCommit: string | null;
  /** ISO 8601: its users wait for nodes, and have had nothing since; null while they do not. */
  readonly waitingSince: string | null;
  /** Whether answers from memory are known to be current at this moment. */
  readonly leaseHeld: boolean;
  /** Pages that this daemon has read from files of nodes on its machine, without the nodes. */
  readonly localReadPages: number;
  readonly residentBytes: number;
}

/** One mount on this machine. */
export interface MountStatus {
  readonly mount: MountId;
  readonly volume: string;
  readonly directory: string;
  readonly readOnly: boolean;
  /** ISO 8601. */
  readonly since: string;
  /** Which owner of the volume it is or was; null before the takeover. */
  readonly owner: OwnerId | null;
  readonly volumeId: VolumeId | null;
  /** The process that keeps the descriptor; null when it is gone. */
  readonly keeperPid: number | null;
  /** Where the daemon's log is. */
  readonly logFile: string;
  readonly state: MountPhase | 'dead' | 'unresponsive';
  /** Null when the daemon is dead or does not answer. */
  readonly live: LiveStatus | null;
}

/** A volume to be mounted, as it stands in the state directory and is given to the daemon. */
export interface MountSpec
  extends Required<Omit<MountRequest, 'metricsListen' | 'machine' | 'commitIntervalMs'>> {
  readonly version: 1;
  readonly mount: MountId;
  readonly metricsListen: string | null;
  /** Null: as the volume's settings say, also while it is mounted. */
  readonly commitIntervalMs: number | null;
  /** Null: called by its host name. */
  readonly machine: string | null;
  readonly since: string;
  readonly logFile: string;
}
