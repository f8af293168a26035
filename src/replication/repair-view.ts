/**
 * What a plan of repair starts from: disks and what state they are in, sealed segments and where
 * their copies stand; and the sums over both that planning needs.
 */
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import type { Replica } from '../metadata/model.js';

/**
 * `good`: answers, may take copies. `away`: does not answer, and is waited for; its copies count.
 * `leaving`: is being drained; its copies count until others have taken their place. `gone`: its
 * copies do not count.
 */
export type DiskState = 'good' | 'away' | 'leaving' | 'gone';

export interface RepairDisk extends Replica {
  readonly zone: string;
  readonly capacityBytes: number;
  /** What its file system has left; null when it is not known. */
  readonly freeBytes: number | null;
  readonly state: DiskState;
}

/** A sealed segment as the metadata store describes it, and what is known of its copies. */
export interface RepairSegment {
  readonly volume: VolumeId;
  readonly segment: SegmentId;
  readonly bytes: number;
  /** Its volume's number of replicas. */
  readonly wanted: number;
  readonly replicas: readonly Replica[];
  /** Of the replicas, those whose node says that its copy is not whole. */
  readonly incomplete: ReadonlySet<Incarnation>;
  /** Of these, those that lack nothing but the SEAL: they can be read, and be completed alone. */
  readonly unsealed: ReadonlySet<Incarnation>;
  /** A move that was begun: the disk that is to get a copy. */
  readonly filling: Replica | null;
  /** What that copy takes the place of, where it is made for the sake of balance only. */
  readonly instead: Replica | null;
  /** Disks that were replaced, and may still have their copy. */
  readonly leaving: readonly Replica[];
  /** Disks beside the list whose node says that they have a whole copy. */
  readonly unlisted: readonly Replica[];
}

export interface RepairView {
  readonly disks: readonly RepairDisk[];
  readonly segments: readonly RepairSegment[];
  /** Segments for which a step is under way. They take part in sums, not in the plan. */
  readonly busy: ReadonlySet<SegmentId>;
  /** Copies under way to or from a node. */
  readonly load: ReadonlyMap<NodeId, number>;
  readonly maxSteps: number;
  readonly maxPerNode: number;
  /** Whether disks are to be kept evenly filled. */
  readonly balance: boolean;
  /** Rebalancing was under way: it ends closer to even than where it begins. */
  readonly balancing: boolean;
}

/** Kept free on a disk beyond what a copy takes: its journal, its index, its reserve. */
const SPARE_FRACTION = 0.02;

/** Disks by incarnation, with what is or will be on them. */
export class Disks {
  readonly #disks = new Map<Incarnation, RepairDisk>();
  readonly #used = new Map<Incarnation, number>();

  constructor(view: Pick<RepairView, 'disks' | 'segments'>) {
    for (const disk of view.disks) this.#disks.set(disk.incarnation, disk);
    for (const { replicas, filling, bytes } of view.segments) {
      for (const { incarnation } of replicas) this.add(incarnation, bytes);
      if (filling !== null) this.add(filling.incarnation, bytes);
    }
  }

  all(): RepairDisk[] {
    return [...this.#disks.values()];
  }

  /** A disk that nobody knows is gone. */
  state({ incarnation }: Replica): DiskState {
    return this.#disks.get(incarnation)?.state ?? 'gone';
  }

  zone({ incarnation }: Replica): string | null {
    return this.#disks.get(incarnation)?.zone ?? null;
  }

  add(incarnation: Incarnation, bytes: number): void {
    this.#used.set(incarnation, this.used(incarnation) + bytes);
  }

  used(incarnation: Incarnation): number {
    return this.#used.get(incarnation) ?? 0;
  }

  level(disk: RepairDisk, more = 0): number {
    return (this.used(disk.incarnation) + more) / Math.max(1, disk.capacityBytes);
  }

  hasRoom(disk: RepairDisk, bytes: number): boolean {
    const spare = disk.capacityBytes * SPARE_FRACTION;
    if (this.used(disk.incarnation) + bytes + spare > disk.capacityBytes) return false;
    return disk.freeBytes === null || bytes + spare < disk.freeBytes;
  }

  /** Replicas of a segment that share their zone with an earlier one. */
  crowding(replicas: readonly Replica[]): number {
    const zones = replicas.map((one) => this.zone(one));
    return zones.length - new Set(zones).size;
  }
}

/** A disk that nobody knows is gone. */
export function stateIn(disks: readonly RepairDisk[], { incarnation }: Replica): DiskState {
  return disks.find((one) => one.incarnation === incarnation)?.state ?? 'gone';
}

/** Whether a listed copy can be read now, as far as is known. */
export function isReadable(
  { incomplete, unsealed }: Pick<RepairSegment, 'incomplete' | 'unsealed'>,
  { incarnation }: Replica,
  state: DiskState,
): boolean {
  const hasAll = !incomplete.has(incarnation) || unsealed.has(incarnation);
  return hasAll && (state === 'good' || state === 'leaving');
}
