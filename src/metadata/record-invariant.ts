/**
 * The invariant of a volume record (model.ts), checked after each decode and before each swap. What
 * breaks it was either damaged in the store or is our own bug: this says which rule, so that both
 * callers can report it (encoding.ts as INCONSISTENT, volume-record.ts as an assertion).
 */
import type { SegmentId } from '../core/ids.js';
import { PLACEMENT_GROUPS, REPLICA_COUNTS } from '../core/limits.js';
import { type Epoch, PAGE_BYTES } from '../core/units.js';
import type { PlannedSegment, SealedSegment, VolumeRecord } from './model.js';

/**
 * Planned segments of one record: a takeover's two and a spare, with room. Guards against leaks.
 */
export const PLANNED_MAX = 8;
export const OPEN_MAX = 2;

/** The first rule that the record breaks, or null. */
export function brokenInvariant(record: VolumeRecord): string | null {
  return (
    brokenNumbers(record) ??
    brokenLists(record) ??
    brokenSegments(record) ??
    brokenRoot(record) ??
    brokenTrash(record)
  );
}

function brokenNumbers(record: VolumeRecord): string | null {
  const counts: readonly number[] = REPLICA_COUNTS;
  if (!counts.includes(record.replicas)) return `replicas is ${record.replicas}`;
  if (record.ackQuorum < 1 || record.ackQuorum > record.replicas) {
    return `ackQuorum is ${record.ackQuorum} of ${record.replicas}`;
  }
  if (!Number.isSafeInteger(record.epoch) || record.epoch < 0) return `epoch is ${record.epoch}`;
  if (record.epoch === 0 && record.owner !== null) return 'an owner without an epoch';
  return null;
}

function brokenLists(record: VolumeRecord): string | null {
  if (record.open.length > OPEN_MAX) return `${record.open.length} open segments`;
  if (record.planned.length > PLANNED_MAX) return `${record.planned.length} planned segments`;
  const seen = new Set<SegmentId>();
  for (const segment of allSegments(record)) {
    if (seen.has(segment.segment)) return `segment ${segment.segment} stands twice`;
    seen.add(segment.segment);
  }
  return null;
}

function brokenSegments(record: VolumeRecord): string | null {
  for (const segment of allSegments(record)) {
    const problem = brokenSegment(record, segment);
    if (problem !== null) return `segment ${segment.segment}: ${problem}`;
  }
  for (const [index, sealed] of record.sealed.entries()) {
    const problem = brokenSeal(sealed, record.sealed[index - 1]);
    if (problem !== null) return `sealed segment ${sealed.segment}: ${problem}`;
  }
  return null;
}

function brokenSegment(record: VolumeRecord, segment: PlannedSegment): string | null {
  const { group, createEpoch, replicas } = segment;
  if (!Number.isSafeInteger(group) || group < 0 || group >= PLACEMENT_GROUPS) {
    return `placement group ${group}`;
  }
  if (createEpoch < 1 || createEpoch > record.epoch) {
    return `createEpoch ${createEpoch} in a record of epoch ${record.epoch}`;
  }
  if (new Set(replicas.map((replica) => replica.node)).size !== replicas.length) {
    return 'two replicas on one node';
  }
  if (replicas.length < 1 || replicas.length > record.replicas) {
    return `${replicas.length} replicas, must be 1 to ${record.replicas}`;
  }
  // Copies of sealed segments may have been lost; what takes appends must be able to acknowledge.
  const appendable = record.planned.includes(segment) || record.open.includes(segment);
  if (appendable && replicas.length < record.ackQuorum) {
    return `${replicas.length} replicas cannot make an ack quorum of ${record.ackQuorum}`;
  }
  return null;
}

function brokenSeal(sealed: SealedSegment, before: SealedSegment | undefined): string | null {
  const { end, endLsn, crc } = sealed;
  if (!Number.isSafeInteger(end) || end < 0 || end % PAGE_BYTES !== 0) return `end ${end}`;
  if (!Number.isSafeInteger(endLsn) || endLsn < 0) return `endLsn ${endLsn}`;
  if (!Number.isSafeInteger(crc) || crc < 0 || crc > 0xffff_ffff) return `crc ${crc}`;
  if (end === 0 && crc !== 0) return 'an empty segment with a crc';
  if (before !== undefined && endLsn < before.endLsn) return 'endLsn falls';
  if (before !== undefined && sealed.createEpoch < before.createEpoch) return 'createEpoch falls';
  return null;
}

function brokenRoot(record: VolumeRecord): string | null {
  const { root } = record;
  if (root === null) return null;
  if (root.offset % PAGE_BYTES !== 0) return `root offset ${root.offset}`;
  const sealed = record.sealed.find((candidate) => candidate.segment === root.segment);
  if (sealed !== undefined) {
    if (root.offset >= sealed.end) return 'the root stands above the end of its segment';
    return root.lsn >= sealed.endLsn ? 'the root lies above the LSNs of its segment' : null;
  }
  const open = record.open.some((candidate) => candidate.segment === root.segment);
  return open ? null : `the root is in ${root.segment}, which is neither sealed nor open`;
}

function brokenTrash({ trash, owner, planned, open, sealed, root }: VolumeRecord): string | null {
  if (trash === undefined) return null;
  if (owner !== null) return 'a volume in the trash has an owner';
  const isListed = planned.length === 0 && open.length === 0 && sealed.length === 0;
  return trash.purging && !(isListed && root === null) ? 'purging, and not all is deleted' : null;
}

export function allSegments(record: VolumeRecord): PlannedSegment[] {
  return [...record.planned, ...record.open, ...record.sealed, ...record.pendingDelete];
}

/** What one swap may do to a record: the rules that need both the old and the new one. */
export function brokenSuccession(before: VolumeRecord, after: VolumeRecord): string | null {
  if (before.volume !== after.volume) return 'the volume id changed';
  if (after.epoch < before.epoch) return `epoch falls from ${before.epoch} to ${after.epoch}`;
  if (after.replicas !== before.replicas || after.ackQuorum !== before.ackQuorum) {
    return 'replicas or ackQuorum changed';
  }
  const now = statuses(after);
  for (const [segment, was] of statuses(before)) {
    const is = now.get(segment);
    if (is === undefined ? was.rank < RANK.sealed : is.rank < was.rank) {
      return `segment ${segment} went from ${was.name} to ${is?.name ?? 'nowhere'}`;
    }
    if (is !== undefined && is.shape !== was.shape) return `segment ${segment} changed`;
    if (is?.seal !== undefined && was.seal !== undefined && is.seal !== was.seal) {
      return `the end of sealed segment ${segment} changed`;
    }
  }
  if (before.trash?.purging === true && after.trash?.purging !== true) return 'the purge ended';
  if (after.trash?.purging === true) return null;
  const roots = before.root !== null && (after.root === null || after.root.lsn < before.root.lsn);
  return roots ? 'the root fell back' : null;
}

/** Segments only ever move up this ladder. */
export const RANK = { planned: 0, open: 1, sealed: 2, pendingDelete: 3 } as const;

export interface SegmentStatus {
  readonly name: keyof typeof RANK;
  readonly rank: number;
  /** All that must never change, as text. */
  readonly shape: string;
  /** End, endLsn and crc of a sealed segment, as text. */
  readonly seal: string | undefined;
}

/** Where each segment of the record stands. */
export function statuses(record: VolumeRecord): Map<SegmentId, SegmentStatus> {
  const found = new Map<SegmentId, SegmentStatus>();
  const add = (name: keyof typeof RANK, segment: PlannedSegment, seal?: string): void => {
    const { group, createEpoch, replicas } = segment;
    const disks = replicas.map((replica) => [replica.node, replica.incarnation]);
    const shape = JSON.stringify([group, createEpoch, disks]);
    found.set(segment.segment, { name, rank: RANK[name], shape, seal });
  };
  for (const segment of record.planned) add('planned', segment);
  for (const segment of record.open) add('open', segment);
  for (const sealed of record.sealed) {
    add('sealed', sealed, JSON.stringify([sealed.end, sealed.endLsn, sealed.crc]));
  }
  for (const segment of record.pendingDelete) add('pendingDelete', segment);
  return found;
}

/** True when `epoch` is the record's and somebody holds it. */
export function isHeldAt(record: VolumeRecord, epoch: Epoch): boolean {
  return record.epoch === epoch && record.owner !== null;
}
