/**
 * What an owner, a takeover or an administrator may do to a volume record, as pure functions from
 * record to record. Whoever calls them swaps the result in by compare-and-swap on the record's mod
 * revision, one swap in flight, reads back linearizably when the outcome is unknown, and asks
 * `landed`. Nothing here knows of the store.
 *
 * Each function asserts what it requires of its input and, through `proposed`, the record's
 * invariant and that segments only move planned → open → sealed and to pendingDelete. A broken
 * rule is a bug of the caller and stops the process before it reaches the store; that somebody
 * else changed the record is not a bug and must be looked at first (`epoch`, `owner`).
 */
import { assert } from '../core/assert.js';
import type { SegmentId } from '../core/ids.js';
import type { Epoch, Lsn, SegmentOffset } from '../core/units.js';
import { epoch as asEpoch } from '../core/units.js';
import type {
  OpenSegment,
  Owner,
  PlannedSegment,
  Root,
  SealedSegment,
  Trash,
  VolumeRecord,
  VolumeSettings,
} from './model.js';
import {
  allSegments,
  brokenInvariant,
  brokenSuccession,
  changesOf,
  isHeldAt,
  isResealed,
  OPEN_MAX,
  placesOf,
  RANK,
  shapeOf,
} from './record-invariant.js';

/** Asserts the invariant that model.ts states. For records that our own code made. */
export function assertVolumeRecord(record: VolumeRecord): void {
  const broken = brokenInvariant(record);
  assert(broken === null, `volume record ${record.volume}: ${broken}`);
}

/** Asserts that `after` is a record that one swap may put in the place of `before`. */
function proposed(before: VolumeRecord, after: VolumeRecord): VolumeRecord {
  const broken = brokenInvariant(after, before) ?? brokenSuccession(before, after);
  assert(broken === null, `volume record ${before.volume}: ${broken}`);
  return after;
}

export interface SegmentEnd {
  readonly segment: SegmentId;
  readonly end: SegmentOffset;
  /** The LSN after the last record below `end`. */
  readonly endLsn: Lsn;
  /** headerCrc of the last batch below `end`; 0 when end is 0. */
  readonly crc: number;
}

/** A segment to plan. Its createEpoch is the epoch that plans it, which the functions fill in. */
export type NewSegment = Omit<PlannedSegment, 'createEpoch'>;

export interface ClaimEpoch {
  readonly owner: Owner;
  /** Fresh ids; their CREATEs may be sent once this swap has landed. */
  readonly planned: readonly NewSegment[];
}

/**
 * Takeover, first swap: raises the epoch by one and names the owner. What the former owner had
 * planned and not registered goes to pendingDelete; open segments stay, to be fenced.
 */
export function claimEpoch(record: VolumeRecord, args: ClaimEpoch): VolumeRecord {
  assert(!args.owner.released, 'a claim is not a release');
  assert(args.owner.id !== record.owner?.id, 'an owner id is one attempt of one process');
  const epoch = asEpoch(record.epoch + 1);
  return proposed(record, {
    ...record,
    epoch,
    owner: args.owner,
    planned: planAt(epoch, args.planned, record),
    pendingDelete: [...record.pendingDelete, ...record.planned],
  });
}

export interface SealAtTakeover {
  /** The epoch claimed by this takeover. */
  readonly epoch: Epoch;
  /** How each open segment of older epochs ends, in log order; `abandoned` only for the last. */
  readonly ends: readonly (
    | SegmentEnd
    | { readonly segment: SegmentId; readonly abandoned: true }
  )[];
  /** Planned segments of this epoch that become [current, spare], or the current alone. */
  readonly promote: readonly SegmentId[];
  /** Further segments to plan in the same swap. */
  readonly plan: readonly NewSegment[];
}

/**
 * Takeover, last swap: all older open segments end, and the fresh ones are registered. Only when
 * ackQuorum replicas hold the kept prefixes and have answered the promoted ones' CREATEs.
 */
export function sealAtTakeover(record: VolumeRecord, args: SealAtTakeover): VolumeRecord {
  assertHeld(record, args.epoch);
  assert(args.ends.length === record.open.length, 'an end for each open segment');
  assert(args.promote.length >= 1 && args.promote.length <= OPEN_MAX, 'promotes one or two');
  const sealed: SealedSegment[] = [];
  const abandoned: PlannedSegment[] = [];
  for (const [index, segment] of record.open.entries()) {
    const end = args.ends[index];
    assert(end?.segment === segment.segment, 'ends are in the order of the open segments');
    assert(segment.createEpoch < args.epoch, 'takeover seals what older epochs opened');
    if ('abandoned' in end) {
      // Of two only the second can be without a header; a single one ends at 0 at the least.
      assert(index === 1, 'only a spare that was never used can be abandoned');
      abandoned.push(segment);
    } else {
      sealed.push(sealedAt(segment, end));
    }
  }
  const promoted = args.promote.map((segment) => plannedOf(record, segment, args.epoch));
  const rest = record.planned.filter((segment) => !args.promote.includes(segment.segment));
  const planned = [...rest, ...planAt(args.epoch, args.plan, record)];
  return proposed(record, {
    ...withNextAckQuorum(record, [...planned, ...promoted]),
    planned,
    open: promoted,
    sealed: [...record.sealed, ...sealed],
    pendingDelete: [...record.pendingDelete, ...abandoned],
  });
}

/**
 * A quorum that was asked for holds from here: nothing that was written with the former one is open
 * any more, and nothing has been acknowledged in what opens now. Where a segment has too few
 * replicas for it, it waits for a later takeover.
 */
function withNextAckQuorum(record: VolumeRecord, next: readonly PlannedSegment[]): VolumeRecord {
  const wanted = record.settings?.nextAckQuorum;
  if (wanted === undefined || next.some(({ replicas }) => replicas.length < wanted)) return record;
  const { nextAckQuorum: _, ...settings } = record.settings ?? {};
  return { ...record, ackQuorum: wanted, settings };
}

export interface Roll {
  readonly epoch: Epoch;
  /** Where the current segment (open[0]) ends. */
  readonly sealed: SegmentEnd;
  /** A planned, created segment that becomes the new spare; null when there is none yet. */
  readonly promote: SegmentId | null;
  /** The segments to plan next. */
  readonly plan: readonly NewSegment[];
}

/** Seals the current segment; the registered spare becomes current. Requires a spare. */
export function roll(record: VolumeRecord, args: Roll): VolumeRecord {
  assertHeld(record, args.epoch);
  const [current, spare] = record.open;
  assert(current !== undefined && spare !== undefined, 'a roll goes on in a registered spare');
  assert(current.segment === args.sealed.segment, 'a roll seals the current segment');
  assert(current.createEpoch === args.epoch, 'a roll is of the epoch that opened the segment');
  const promoted = args.promote === null ? [] : [plannedOf(record, args.promote, args.epoch)];
  const rest = record.planned.filter((segment) => segment.segment !== args.promote);
  return proposed(record, {
    ...record,
    planned: [...rest, ...planAt(args.epoch, args.plan, record)],
    open: [spare, ...promoted],
    sealed: [...record.sealed, sealedAt(current, args.sealed)],
  });
}

/** Plans further segments, so that their CREATEs may be sent. */
export function planSpare(
  record: VolumeRecord,
  args: { readonly epoch: Epoch; readonly plan: readonly NewSegment[] },
): VolumeRecord {
  assertHeld(record, args.epoch);
  assert(args.plan.length > 0, 'plans at least one');
  const planned = [...record.planned, ...planAt(args.epoch, args.plan, record)];
  return proposed(record, { ...record, planned });
}

/** Gives up planned segments that could not be created on enough replicas. */
export function unplan(
  record: VolumeRecord,
  args: { readonly epoch: Epoch; readonly segments: readonly SegmentId[] },
): VolumeRecord {
  assertHeld(record, args.epoch);
  const given = args.segments.map((segment) => plannedOf(record, segment, args.epoch));
  return proposed(record, {
    ...record,
    planned: record.planned.filter((segment) => !args.segments.includes(segment.segment)),
    pendingDelete: [...record.pendingDelete, ...given],
  });
}

/** Registers a planned segment, whose CREATEs ackQuorum replicas have answered, as the spare. */
export function registerSpare(
  record: VolumeRecord,
  args: { readonly epoch: Epoch; readonly segment: SegmentId },
): VolumeRecord {
  assertHeld(record, args.epoch);
  assert(record.open.length === 1, 'there is a current segment and no spare');
  const spare = plannedOf(record, args.segment, args.epoch);
  return proposed(record, {
    ...record,
    planned: record.planned.filter((segment) => segment.segment !== args.segment),
    open: [...record.open, spare],
  });
}

/**
 * Registers a planned segment, created on ackQuorum replicas, in the place of a spare that the
 * owner gives up: one that it has never written to and never will.
 */
export function replaceSpare(
  record: VolumeRecord,
  args: {
    readonly epoch: Epoch;
    /** The spare. */
    readonly segment: SegmentId;
    readonly promote: SegmentId;
  },
): VolumeRecord {
  assertHeld(record, args.epoch);
  const [current, spare] = record.open;
  assert(current !== undefined && spare?.segment === args.segment, 'replaces the spare');
  assert(spare.createEpoch === args.epoch, 'gives up what it has registered itself');
  const promoted = plannedOf(record, args.promote, args.epoch);
  return proposed(record, {
    ...record,
    planned: record.planned.filter((segment) => segment.segment !== args.promote),
    open: [current, promoted],
    pendingDelete: [...record.pendingDelete, spare],
  });
}

/** The owner stops in order: the next takeover need not wait for its read lease. */
export function release(record: VolumeRecord, args: { readonly epoch: Epoch }): VolumeRecord {
  assertHeld(record, args.epoch);
  const { owner } = record;
  assert(owner !== null, 'there is an owner');
  return proposed(record, { ...record, owner: { ...owner, released: true } });
}

/** Takes segments out of pendingDelete after all their replicas have answered or are gone. */
export function clearDeleted(
  record: VolumeRecord,
  args: { readonly segments: readonly SegmentId[] },
): VolumeRecord {
  const listed = new Set(record.pendingDelete.map(({ segment }) => segment));
  for (const segment of args.segments) {
    assert(listed.has(segment), `${segment} is in pendingDelete`);
  }
  const gone = new Set(args.segments);
  return proposed(record, {
    ...record,
    pendingDelete: record.pendingDelete.filter(({ segment }) => !gone.has(segment)),
  });
}

/**
 * The cleaner's swap: sealed segments that nothing reaches any more may be deleted. Only what ends
 * before the LSN that the durable root replays from; and never the last one sealed, which says
 * where the log ends when a takeover finds nothing in the open segments.
 */
export function deleteSealed(
  record: VolumeRecord,
  args: { readonly epoch: Epoch; readonly segments: readonly SegmentId[] },
): VolumeRecord {
  assertHeld(record, args.epoch);
  const sealed = new Map(record.sealed.map((one) => [one.segment, one]));
  const dead = args.segments.map((id) => {
    const found = sealed.get(id);
    assert(found !== undefined, `${id} is sealed`);
    const isBehind = record.root !== null && found.endLsn <= record.root.lsn;
    assert(isBehind, `no durable root replays from behind ${id}`);
    assert(found !== record.sealed.at(-1), `${id} is not the last one sealed`);
    return descriptor(found);
  });
  const gone = new Set(args.segments);
  return proposed(record, {
    ...record,
    sealed: record.sealed.filter(({ segment }) => !gone.has(segment)),
    pendingDelete: [...record.pendingDelete, ...dead],
  });
}

/** Points the volume at a newer, durable checkpoint. */
export function setRoot(
  record: VolumeRecord,
  args: { readonly epoch: Epoch; readonly root: Root },
): VolumeRecord {
  assertHeld(record, args.epoch);
  return proposed(record, { ...record, root: args.root });
}

/** Grows the volume. By an administrator, so under no epoch. Shrinking is refused by volumes.ts. */
export function resize(record: VolumeRecord, args: { readonly sizeBytes: number }): VolumeRecord {
  assert(args.sizeBytes >= record.sizeBytes, 'a volume does not shrink');
  return proposed(record, { ...record, sizeBytes: args.sizeBytes });
}

/** By an administrator, so under no epoch. */
export function relabel(
  record: VolumeRecord,
  args: { readonly labels: VolumeRecord['labels'] },
): VolumeRecord {
  return proposed(record, { ...record, labels: args.labels });
}

/** By an administrator, so under no epoch. */
export function configure(record: VolumeRecord, changes: VolumeSettings): VolumeRecord {
  const { nextAckQuorum: wanted, ...others } = { ...record.settings, ...changes };
  const isUnused = record.open.length === 0 && record.planned.length === 0;
  const ackQuorum = isUnused ? (wanted ?? record.ackQuorum) : record.ackQuorum;
  const next = wanted === undefined || wanted === ackQuorum ? {} : { nextAckQuorum: wanted };
  return proposed(record, { ...record, ackQuorum, settings: { ...others, ...next } });
}

/**
 * Takes a volume out of use, as an administrator: its data stays, its name becomes free. Nobody
 * owns it afterwards: the raised epoch ends a former owner at its next look at the record, and a
 * claim that was under way does not land.
 */
export function moveToTrash(
  record: VolumeRecord,
  args: { readonly removedAt: string; readonly keptUntil: string | null },
): VolumeRecord {
  assert(record.trash === undefined, 'a volume is removed once');
  const trash: Trash = { ...args, purging: false };
  return proposed(record, { ...record, epoch: asEpoch(record.epoch + 1), owner: null, trash });
}

/** Takes a volume out of the trash, under a name that is free. */
export function restoreFromTrash(
  record: VolumeRecord,
  args: { readonly name: string },
): VolumeRecord {
  assert(record.trash?.purging === false, 'only what is whole can be restored');
  const { trash: _, ...rest } = record;
  return proposed(record, { ...rest, name: args.name });
}

/**
 * The purge's swap, after which nothing comes back: everything that may be on a disk is listed for
 * deletion. The record itself stays until all replicas have answered or are gone.
 */
export function beginPurge(record: VolumeRecord): VolumeRecord {
  assert(record.trash?.purging === false, 'what is purged was removed before');
  const { planned, open, sealed, pendingDelete, trash } = record;
  return proposed(record, {
    ...record,
    planned: [],
    open: [],
    sealed: [],
    root: null,
    pendingDelete: [...pendingDelete, ...[...planned, ...open, ...sealed].map(descriptor)],
    trash: { ...trash, purging: true },
  });
}

/**
 * Whether a swap whose outcome was unknown did happen, told from a later linearizable read: it did
 * iff the record found holds the segments proposed, at least as far along, with the same ends.
 * False may also mean that it was overtaken: look at the found epoch (a higher one: stop for good)
 * and revision (unchanged: undecided, send the identical swap again).
 */
export function landed(proposal: VolumeRecord, found: VolumeRecord): boolean {
  if (found.volume !== proposal.volume || found.epoch < proposal.epoch) return false;
  for (const { was: wanted, is } of changesOf(proposal, found)) {
    const rank = RANK[wanted.name];
    // Deleted segments may have been cleared since; anything else that is missing never landed.
    if (is === null && rank === RANK.pendingDelete) continue;
    if (is === null || RANK[is.name] < rank || shapeOf(is) !== shapeOf(wanted)) return false;
    const mayMove = RANK[is.name] >= RANK.sealed;
    if (!mayMove && placesOf(is) !== placesOf(wanted)) return false;
    if (isResealed(wanted, is)) return false;
  }
  const { root, owner } = proposal;
  if (root !== null && (found.root === null || found.root.lsn < root.lsn)) return false;
  if (found.sizeBytes < proposal.sizeBytes) return false;
  if (found.epoch > proposal.epoch) return true;
  if (owner === null || found.owner === null) return owner === found.owner;
  return owner.id === found.owner.id && (found.owner.released || !owner.released);
}

function assertHeld(record: VolumeRecord, epoch: Epoch): void {
  assert(isHeldAt(record, epoch), `epoch ${epoch} does not hold a record of ${record.epoch}`);
}

function planAt(epoch: Epoch, plan: readonly NewSegment[], record: VolumeRecord): PlannedSegment[] {
  const known = allSegments(record);
  return plan.map(({ segment, group, replicas }) => {
    const isFresh = !known.some((one) => one.segment === segment);
    assert(isFresh, `segment id ${segment} is used again`);
    return { segment, group, createEpoch: epoch, replicas };
  });
}

function plannedOf(record: VolumeRecord, segment: SegmentId, epoch: Epoch): OpenSegment {
  const found = record.planned.find((planned) => planned.segment === segment);
  assert(found !== undefined, `${segment} is planned`);
  assert(found.createEpoch === epoch, `${segment} was planned by this epoch`);
  return found;
}

/** What pendingDelete lists of a segment. */
function descriptor(from: PlannedSegment): PlannedSegment {
  const { segment, group, createEpoch, replicas } = from;
  return { segment, group, createEpoch, replicas };
}

function sealedAt(segment: OpenSegment, at: SegmentEnd): SealedSegment {
  const { end, endLsn, crc } = at;
  return { ...segment, end, endLsn, crc };
}
