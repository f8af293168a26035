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

/**
 * The first rule that the record breaks, or null. `before` was found to break none: what of its
 * sealed segments is still there is not looked at again one by one.
 */
export function brokenInvariant(record: VolumeRecord, before?: VolumeRecord): string | null {
  return (
    brokenNumbers(record) ??
    brokenLists(record) ??
    brokenSegments(record, before) ??
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

function brokenSegments(record: VolumeRecord, before?: VolumeRecord): string | null {
  const { planned, open, sealed, pendingDelete } = record;
  const checked = commonStart(before?.sealed ?? [], sealed);
  const deleted = commonStart(before?.pendingDelete ?? [], pendingDelete);
  const fresh = sealed.slice(checked);
  for (const segment of [...planned, ...open, ...fresh, ...pendingDelete.slice(deleted)]) {
    const problem = brokenSegment(record, segment);
    if (problem !== null) return `segment ${segment.segment}: ${problem}`;
  }
  for (const [index, one] of fresh.entries()) {
    const problem = brokenSeal(one, sealed[checked + index - 1]);
    if (problem !== null) return `sealed segment ${one.segment}: ${problem}`;
  }
  return null;
}

/** How many elements both lists begin with: the very same ones. */
export function commonStart<T>(a: readonly T[], b: readonly T[]): number {
  const most = Math.min(a.length, b.length);
  let at = 0;
  while (at < most && a[at] === b[at]) at += 1;
  return at;
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
  if (after.replicas !== before.replicas) return 'replicas changed';
  if (after.ackQuorum !== before.ackQuorum && isAckQuorumNeeded(before, after)) {
    return 'ackQuorum changed below segments that were written with it';
  }
  for (const { was, is, segment } of changesOf(before, after)) {
    if (is === null ? RANK[was.name] < RANK.sealed : RANK[is.name] < RANK[was.name]) {
      return `segment ${segment} went from ${was.name} to ${is?.name ?? 'nowhere'}`;
    }
    if (is === null) continue;
    if (shapeOf(is) !== shapeOf(was) || placesOf(is) !== placesOf(was)) {
      return `segment ${segment} changed`;
    }
    if (isResealed(was, is)) return `the end of sealed segment ${segment} changed`;
  }
  if (before.trash?.purging === true && after.trash?.purging !== true) return 'the purge ended';
  if (after.trash?.purging === true) return null;
  const roots = before.root !== null && (after.root === null || after.root.lsn < before.root.lsn);
  return roots ? 'the root fell back' : null;
}

/** Whether anything stays open, or planned to be, that the quorum decides the end of. */
function isAckQuorumNeeded(before: VolumeRecord, after: VolumeRecord): boolean {
  const was = new Set(before.open.map(({ segment }) => segment));
  return after.open.some(({ segment }) => was.has(segment)) || after.epoch !== before.epoch;
}

/** Segments only ever move up this ladder. */
export const RANK = { planned: 0, open: 1, sealed: 2, pendingDelete: 3 } as const;

type Place = keyof typeof RANK;

/** Where a segment stands in a record. */
export interface Standing {
  readonly name: Place;
  readonly segment: PlannedSegment | SealedSegment;
}

/** Segments of `before` and where they stand in `after`; those that are the same are left out. */
export function* changesOf(
  before: VolumeRecord,
  after: VolumeRecord,
): Generator<{
  readonly segment: SegmentId;
  readonly was: Standing;
  readonly is: Standing | null;
}> {
  const skip = commonStart(before.sealed, after.sealed);
  const now = new Map(standings(after, skip).map((one) => [one.segment.segment, one]));
  for (const was of standings(before, skip)) {
    const { segment } = was.segment;
    const is = now.get(segment) ?? null;
    if (is?.segment !== was.segment || is.name !== was.name) yield { segment, was, is };
  }
}

/** Where each segment stands, without the first `skip` sealed ones. */
function standings(record: VolumeRecord, skip: number): Standing[] {
  const { planned, open, sealed, pendingDelete } = record;
  const as =
    (name: Place) =>
    (segment: PlannedSegment): Standing => ({ name, segment });
  return [
    ...planned.map(as('planned')),
    ...open.map(as('open')),
    ...sealed.slice(skip).map(as('sealed')),
    ...pendingDelete.map(as('pendingDelete')),
  ];
}

/** What of a segment never changes, as text. */
export function shapeOf({ segment: { group, createEpoch } }: Standing): string {
  return `${group} ${createEpoch}`;
}

/** Where its replicas are, as text: no owner changes that, repair may once it is sealed. */
export function placesOf({ segment: { replicas } }: Standing): string {
  return replicas.map(({ node, incarnation }) => `${node} ${incarnation}`).join();
}

/** Whether both are sealed, with different ends. */
export function isResealed({ segment: a }: Standing, { segment: b }: Standing): boolean {
  if (!('endLsn' in a && 'endLsn' in b)) return false;
  return a.end !== b.end || a.endLsn !== b.endLsn || a.crc !== b.crc;
}

/** True when `epoch` is the record's and somebody holds it. */
export function isHeldAt(record: VolumeRecord, epoch: Epoch): boolean {
  return record.epoch === epoch && record.owner !== null;
}
