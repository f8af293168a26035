/**
 * The chain of one volume's segments, from what disks hold: rebuild.ts's decisions, without I/O.
 *
 * The log's last segment is the one with a header of the highest epoch and LSN; each header names
 * the segment before it and where that ends. A spare that a takeover abandoned names an end at
 * which its predecessor was not sealed. Segments that the cleaner deleted leave tombstones; one
 * that is missing without a tombstone is a hole, and there is no log across a hole.
 */
import { assert } from '../core/assert.js';
import type { SegmentId } from '../core/ids.js';
import type { Lsn, SegmentOffset } from '../core/units.js';
import type { OpenSegment, PlannedSegment, SealedSegment } from './model.js';
import type { Copy, FoundSegment, RebuildHeader } from './rebuild-types.js';

export type Chain =
  | { readonly type: 'broken'; readonly reason: string }
  | {
      readonly type: 'found';
      readonly sealed: readonly SealedSegment[];
      readonly open: readonly OpenSegment[];
      readonly pendingDelete: readonly PlannedSegment[];
      readonly losses: readonly string[];
      /** What must be read before even acceptLoss can go on. */
      readonly unfinished: readonly string[];
      readonly leftAlone: readonly string[];
    };

/** A segment that has a header and at least one copy. */
interface Linked extends FoundSegment {
  readonly header: RebuildHeader;
}

interface Link {
  readonly found: Linked;
  /** As the next header says; null for the last segment, and before a deleted one. */
  readonly end: { readonly end: SegmentOffset; readonly endLsn: Lsn } | null;
}

export function findChain(segments: readonly FoundSegment[], settings: RebuildHeader): Chain {
  const linked = segments.filter(isLinked).sort(newestFirst);
  const dropped: FoundSegment[] = [];
  for (const tail of linked) {
    if (isAbandoned(tail, segments)) {
      dropped.push(tail);
      continue;
    }
    const links = walkBack(tail, linked, segments);
    if (typeof links === 'string') return { type: 'broken', reason: links };
    return assemble(links, dropped, segments, settings);
  }
  return { type: 'broken', reason: 'every segment with a header was abandoned or deleted' };
}

function isLinked(found: FoundSegment): found is Linked {
  return found.header !== null && !found.deleted && found.copies.some((copy) => dataOf(copy) > 0);
}

/** How many bytes a copy can vouch for. */
function dataOf({ entry }: Copy): number {
  return entry.suspectFrom === null ? entry.length : Math.min(entry.length, entry.suspectFrom);
}

function startLsn(found: Linked): number {
  return found.header.previous?.endLsn ?? 0;
}

function newestFirst(a: Linked, b: Linked): number {
  return b.createEpoch - a.createEpoch || startLsn(b) - startLsn(a) || depth(b) - depth(a);
}

/**
 * Segments without records begin at one LSN with their successors: the one with data comes last.
 */
function depth(found: Linked): number {
  return found.header.previous === null ? 0 : 1;
}

function sealedCopy(found: FoundSegment): Copy | undefined {
  return found.copies.find((copy) => copy.entry.state === 'sealed');
}

/** Its predecessor was sealed elsewhere than it says: a takeover decided without it. */
function isAbandoned(tail: Linked, segments: readonly FoundSegment[]): boolean {
  const { previous } = tail.header;
  if (previous === null) return false;
  const before = segments.find((found) => found.segment === previous.segment);
  const seal = before === undefined ? undefined : sealedCopy(before);
  return seal !== undefined && seal.entry.length !== previous.end;
}

/** From the tail to the first segment; a sentence when that cannot be. */
function walkBack(
  tail: Linked,
  linked: readonly Linked[],
  segments: readonly FoundSegment[],
): Link[] | string {
  const links: Link[] = [{ found: tail, end: null }];
  const seen = new Set<SegmentId>([tail.segment]);
  for (let at: Linked = tail; at.header.previous !== null; ) {
    const { previous }: RebuildHeader = at.header;
    const before = linked.find((found) => found.segment === previous.segment);
    let next: Link | null;
    if (before !== undefined) {
      next = { found: before, end: { end: previous.end, endLsn: previous.endLsn } };
    } else {
      const known = segments.find((found) => found.segment === previous.segment);
      const gone = known?.deleted === true || previous.end === 0;
      if (!gone) {
        return (
          `segment ${previous.segment} is missing: ${at.segment} continues it ` +
          `at LSN ${previous.endLsn}, and no disk holds or has deleted it`
        );
      }
      next = behindGap(at, linked, seen, previous.end === 0 ? previous.endLsn : null);
    }
    if (next === null) break; // all before it was deleted
    if (seen.has(next.found.segment)) return `segment ${next.found.segment} continues itself`;
    if (next.found.createEpoch > at.createEpoch) {
      return `segment ${at.segment} continues ${next.found.segment}, which is of a later epoch`;
    }
    seen.add(next.found.segment);
    links.unshift(next);
    at = next.found;
  }
  return links;
}

/** The newest sealed segment that ended before `at` began. */
function behindGap(
  at: Linked,
  linked: readonly Linked[],
  seen: ReadonlySet<SegmentId>,
  endLsn: Lsn | null,
): Link | null {
  const before = linked
    .filter((found) => !seen.has(found.segment) && found.createEpoch <= at.createEpoch)
    .filter((found) => startLsn(found) < startLsn(at) && sealedCopy(found) !== undefined)
    .sort((a, b) => startLsn(b) - startLsn(a))[0];
  if (before === undefined) return null;
  const seal = sealedCopy(before);
  const known = endLsn ?? before.header.endLsn ?? null;
  assert(seal !== undefined, 'it was chosen for being sealed');
  return { found: before, end: known === null ? null : { end: seal.entry.length, endLsn: known } };
}

function assemble(
  links: readonly Link[],
  dropped: readonly FoundSegment[],
  segments: readonly FoundSegment[],
  settings: RebuildHeader,
): Chain {
  const needed = settings.replicas - settings.ackQuorum + 1;
  const sealed: SealedSegment[] = [];
  const open: OpenSegment[] = [];
  const losses: string[] = [];
  const unfinished: string[] = [];
  for (const [index, link] of links.entries()) {
    const { found } = link;
    const isTail = index === links.length - 1;
    const beforeTail = index === links.length - 2 && sealedCopy(found) === undefined;
    if (!isTail && !beforeTail) {
      const end = sealAt(link);
      if (typeof end === 'string') return { type: 'broken', reason: end };
      sealed.push(end);
      continue;
    }
    // Not ended yet, as far as disks know: takeover will end it, if enough replicas can answer.
    const valid = validCopies(found);
    if (valid >= needed && found.copies.length >= settings.ackQuorum) {
      open.push(descriptor(found, settings.replicas));
      continue;
    }
    losses.push(
      `${valid} of ${needed} needed replicas of segment ${found.segment} were found: ` +
        'what was acknowledged after the longest copy ends ' +
        `(at ${longest(found).entry.length} bytes) would be lost`,
    );
    const end = isTail ? sealAtLongest(link) : sealAt(link);
    if (typeof end === 'string') unfinished.push(end);
    else sealed.push(end);
  }
  const inChain = new Set(links.map((link) => link.found.segment));
  const rest = segments.filter((found) => !inChain.has(found.segment));
  const tail = links.at(-1)?.found;
  assert(tail !== undefined, 'a chain has a tail');
  const others = sortRest(rest, dropped, tail, needed);
  // The tail has too few copies and was ended, the one before it has not: no such log exists.
  const order = open.length > 0 && sealed.at(-1)?.segment === tail.segment;
  if (order) return { type: 'broken', reason: 'the segment before the last could not be ended' };
  return {
    type: 'found',
    sealed,
    open,
    unfinished,
    ...others,
    losses: [...losses, ...others.losses],
  };
}

/**
 * Segments beside the chain: deleted ones, abandoned ones, empty ones, and those to leave alone.
 */
function sortRest(
  rest: readonly FoundSegment[],
  dropped: readonly FoundSegment[],
  tail: Linked,
  needed: number,
): { pendingDelete: PlannedSegment[]; losses: string[]; leftAlone: string[] } {
  const pendingDelete: PlannedSegment[] = [];
  const losses: string[] = [];
  const leftAlone: string[] = [];
  for (const found of rest) {
    if (found.copies.length === 0) continue;
    const known = found.createEpoch > 0;
    const empty = found.copies.every((copy) => copy.entry.length === 0);
    if (known && (found.deleted || dropped.includes(found))) {
      pendingDelete.push(descriptor(found, tail.header.replicas));
    } else if (!empty) {
      leftAlone.push(`segment ${found.segment} has data and is not part of the log found`);
    } else if (found.createEpoch < tail.createEpoch || validCopies(found) >= needed) {
      if (known) pendingDelete.push(descriptor(found, tail.header.replicas));
    } else {
      losses.push(
        `${validCopies(found)} of ${needed} needed replicas of segment ${found.segment} were ` +
          'found, all empty: if it was in use, what was acknowledged in it would be lost',
      );
    }
  }
  return { pendingDelete, losses, leftAlone };
}

/** Replicas whose answer counts: a suspect one proves presence only. */
function validCopies(found: FoundSegment): number {
  return found.copies.filter((copy) => copy.entry.suspectFrom === null).length;
}

function longest(found: FoundSegment): Copy {
  const [first, ...others] = found.copies;
  assert(first !== undefined, 'a segment of the chain has a copy');
  return others.reduce((best, copy) => (dataOf(copy) > dataOf(best) ? copy : best), first);
}

/** Of more copies than the volume has replicas (repair makes some) the longest are named. */
function descriptor(found: FoundSegment, replicas: number): PlannedSegment {
  const best = [...found.copies].sort((a, b) => dataOf(b) - dataOf(a)).slice(0, replicas);
  return {
    segment: found.segment,
    group: found.header?.group ?? 0,
    createEpoch: found.createEpoch,
    replicas: best.map(({ node, incarnation }) => ({ node, incarnation })),
  };
}

/** As the next header says, with the crc of a copy that ends there. */
function sealAt({ found, end }: Link): SealedSegment | string {
  if (end === null) {
    return `where the LSNs of segment ${found.segment} end must be read: what followed was deleted`;
  }
  const seal = sealedCopy(found);
  if (seal !== undefined && seal.entry.length !== end.end) {
    return (
      `segment ${found.segment} was sealed at ${seal.entry.length}, ` +
      `but the one that continues it says ${end.end}`
    );
  }
  const exact = found.copies.find((copy) => dataOf(copy) === end.end);
  if (exact === undefined) {
    const { segment } = found;
    return `no copy of segment ${segment} ends at ${end.end}, where the next one continues it`;
  }
  return { ...descriptor(found, found.header.replicas), ...end, crc: exact.entry.crc };
}

/** Where the longest copy ends: only when loss is accepted. */
function sealAtLongest({ found }: Link): SealedSegment | string {
  const copy = longest(found);
  const { endLsn } = found.header;
  if (endLsn === undefined || copy.entry.suspectFrom !== null) {
    return `the last LSN of segment ${found.segment} must be read from its longest good copy`;
  }
  return {
    ...descriptor(found, found.header.replicas),
    end: copy.entry.length,
    endLsn,
    crc: copy.entry.crc,
  };
}
