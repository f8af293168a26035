/**
 * What the cluster counts on a node for: its copies, by what would become of them without it. For
 * `holdfast node`; the metadata store alone is asked.
 */
import type { InventoryEntry } from '../block/wire/messages.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import type { PlannedSegment, Replica, SealedSegment, VolumeRecord } from '../metadata/model.js';
import type { Directory } from '../replication/directory.js';
import { isWhole } from '../replication/repair-survey.js';
import type { Session } from './session.js';

/** What one node holds, as volumes' records name it. */
export interface Holdings {
  readonly sealedSegments: number;
  readonly sealedBytes: number;
  /** Segments that are written, or about to be: their owners leave them by themselves. */
  readonly openSegments: number;
  /** The volumes that these are of. */
  readonly openIn: readonly string[];
  /** Sealed segments that nobody else holds who answers. */
  readonly only: readonly string[];
  /** Volumes whose open segments could not be decided, or not be written, without it. */
  readonly needed: readonly string[];
  /** The most replicas that a volume wants, and which one it is. */
  readonly mostReplicas: { readonly replicas: number; readonly volume: string } | null;
}

/** Whether a copy counts as there: of a segment that is sealed so; null: of one that is open. */
export type IsThere = (replica: Replica, sealed: SealedSegment | null) => boolean;

/** What is on disks that work, of nodes that answer. */
export type FoundCopies = ReadonlyMap<Incarnation, readonly InventoryEntry[]>;

/** Whether copies were found, those of sealed segments whole: one that is listed may lack much. */
export function foundIn(copies: FoundCopies): IsThere {
  const found = new Map(
    [...copies].map(([incarnation, entries]) => {
      return [incarnation, new Map(entries.map((entry) => [entry.segment, entry]))];
    }),
  );
  return ({ incarnation }, sealed) => {
    const entries = found.get(incarnation);
    if (entries === undefined || sealed === null) return entries !== undefined;
    return isWhole(sealed, entries.get(sealed.segment));
  };
}

/** All volumes, those in the trash as well, but for those whose segments are being deleted. */
export async function allVolumes(session: Session): Promise<VolumeRecord[]> {
  const listed = [...(await session.volumes.list()), ...(await session.trash.list())];
  const found: VolumeRecord[] = [];
  for (const { record } of listed) {
    const volume = await session.volumes.get(record.volume);
    if (volume !== null && volume.record.trash?.purging !== true) found.push(volume.record);
  }
  return found;
}

export function holdingsOf(
  node: NodeId,
  volumes: readonly VolumeRecord[],
  isThere: IsThere,
): Holdings {
  const names = ({ replicas }: PlannedSegment): boolean =>
    replicas.some((one) => one.node === node);
  const others = ({ replicas }: PlannedSegment, sealed: SealedSegment | null): number =>
    replicas.filter((one) => one.node !== node && isThere(one, sealed)).length;
  let sealedSegments = 0;
  let sealedBytes = 0;
  let openSegments = 0;
  const openIn = new Set<string>();
  let mostReplicas: Holdings['mostReplicas'] = null;
  const only = new Set<string>();
  const needed = new Set<string>();
  for (const { name, sealed, open, planned, replicas, ackQuorum } of volumes) {
    if (replicas > (mostReplicas?.replicas ?? 0)) mostReplicas = { replicas, volume: name };
    for (const one of sealed.filter(names)) {
      sealedSegments += 1;
      sealedBytes += one.end;
      if (one.end > 0 && others(one, one) === 0) only.add(name);
    }
    for (const one of open.filter(names)) {
      openSegments += 1;
      const enough = Math.max(ackQuorum, one.replicas.length - ackQuorum + 1);
      if (others(one, null) < enough) needed.add(name);
    }
    openSegments += planned.filter(names).length;
    if ([...open, ...planned].some(names)) openIn.add(name);
  }
  const lists = { only: [...only], needed: [...needed], openIn: [...openIn] };
  return { sealedSegments, sealedBytes, openSegments, mostReplicas, ...lists };
}

/** Answers whether a copy counts as there: its node lives and has its disk, by registrations. */
export function livingIn(directory: Directory): IsThere {
  const living = directory.nodes().filter(({ node }) => directory.isLive(node));
  const there = new Set(living.flatMap(({ disks }) => disks.map((disk) => disk.incarnation)));
  return ({ incarnation }) => there.has(incarnation);
}
