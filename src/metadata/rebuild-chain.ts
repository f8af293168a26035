/**
 * The chain of one volume's segments, from what disks hold: rebuild.ts's decisions, without I/O.
 *
 * The log's last segment is the one with a header of the highest epoch and LSN; each header names
 * the segment before it and where that ends. A spare that a takeover abandoned names an end at
 * which its predecessor was not sealed. Segments that the cleaner deleted leave tombstones; one
 * that is missing without a tombstone is a hole: only a checkpoint behind it can do without it.
 *
 * INVARIANT: no segment with data is passed over in silence. It is part of the chain, or deleted,
 * or another one certainly took its place; else it counts as a loss.
 */
import { assert } from '../core/assert.js';
import type { SegmentId } from '../core/ids.js';
import { type Lsn, offset, type SegmentOffset } from '../core/units.js';
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
      /** Segments before the last ones that no disk holds or has deleted, one sentence each. */
      readonly holes: readonly string[];
      /** What must be read before even acceptLoss can go on. */
      readonly unfinished: readonly string[];
      readonly leftAlone: readonly string[];
    };

/** A segment that has a header and at least one copy. */
interface Linked extends FoundSegment {
  readonly header: RebuildHeader;
}

interface LinkEnd {
  readonly end: SegmentOffset;
  readonly endLsn: Lsn;
  readonly crc?: number;
}

interface Link {
  readonly found: Linked;
  /** As the next header says; null for the last segment, and before a deleted one. */
  readonly end: LinkEnd | null;
}

export function findChain(segments: readonly FoundSegment[], settings: RebuildHeader): Chain {
  const linked = newestFirst(segments.filter(isLinked), segments);
  const dropped: FoundSegment[] = [];
  for (const tail of linked) {
    if (isAbandoned(tail, segments)) {
      dropped.push(tail);
      continue;
    }
    const holes: string[] = [];
    const links = walkBack(tail, linked, segments, holes);
    if (typeof links === 'string') return { type: 'broken', reason: links };
    const chain = assemble(links, dropped, segments, settings);
    if (chain.type === 'found') return { ...chain, holes };
    return { type: 'broken', reason: holes[0] ?? chain.reason };
  }
  return { type: 'broken', reason: 'every segment with a header was abandoned or deleted' };
}

function isLinked(found: FoundSegment): found is Linked {
  if (found.header === null || found.deleted || endedEmpty(found)) return false;
  return found.copies.some((copy) => dataOf(copy) > 0);
}

/** Its owner went on elsewhere before a quorum had its header: copies of it are not the log's. */
function endedEmpty(found: FoundSegment): boolean {
  return sealedCopy(found)?.entry.length === 0;
}

/** How many bytes a copy can vouch for. */
function dataOf({ entry }: Copy): number {
  return entry.suspectFrom === null ? entry.length : Math.min(entry.length, entry.suspectFrom);
}

function startLsn(found: Linked): number {
  return found.header.previous?.endLsn ?? 0;
}

/**
 * In the reverse order of the log. Segments that took no records begin at one LSN with those that
 * continue them: among them the headers decide, and the LSN at the end where no header does.
 */
function newestFirst(linked: readonly Linked[], segments: readonly FoundSegment[]): Linked[] {
  const byId = new Map(linked.map((found) => [found.segment, found]));
  const ranks = new Map(linked.map((found) => [found, rank(found, byId)]));
  const rankOf = (found: Linked): number => ranks.get(found) ?? 0;
  return [...linked].sort(
    (a, b) =>
      b.createEpoch - a.createEpoch ||
      startLsn(b) - startLsn(a) ||
      rankOf(b) - rankOf(a) ||
      (endLsnOf(b, segments) ?? 0) - (endLsnOf(a, segments) ?? 0),
  );
}

/** How many segments before it, as far as headers tell, end at the LSN at which it begins. */
function rank(found: Linked, linked: ReadonlyMap<SegmentId, Linked>): number {
  const seen = new Set<Linked>();
  let at: Linked | undefined = found;
  while (at !== undefined && !seen.has(at) && startLsn(at) === startLsn(found)) {
    seen.add(at);
    const { previous }: RebuildHeader = at.header;
    at = previous === null ? undefined : linked.get(previous.segment);
  }
  return seen.size + (found.header.previous?.end === 0 ? 1 : 0);
}

/** As the one that continues it says, or as its caller has read; null when it is not known. */
function endLsnOf(found: Linked, segments: readonly FoundSegment[]): Lsn | null {
  const seal = sealedCopy(found);
  for (const { header } of segments) {
    if (header?.previous?.segment !== found.segment) continue;
    const { end, endLsn } = header.previous;
    if (seal === undefined || seal.entry.length === end) return endLsn;
  }
  return found.header.endLsn ?? null;
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

/** From the tail to the first segment, also behind holes; a sentence when that cannot be. */
function walkBack(
  tail: Linked,
  linked: readonly Linked[],
  segments: readonly FoundSegment[],
  holes: string[],
): Link[] | string {
  const byId = new Map(linked.map((found) => [found.segment, found]));
  // From the tail on; turned around at the end.
  const links: Link[] = [{ found: tail, end: null }];
  const seen = new Set<SegmentId>([tail.segment]);
  for (let at: Linked = tail; at.header.previous !== null; ) {
    const { previous }: RebuildHeader = at.header;
    const before = byId.get(previous.segment);
    let next: Link | null;
    if (before !== undefined) {
      next = { found: before, end: previous };
    } else {
      const known = segments.find((found) => found.segment === previous.segment);
      const gone = known?.deleted === true || previous.end === 0;
      if (!gone) {
        holes.push(
          `segment ${previous.segment} is missing: ${at.segment} continues it ` +
            `at LSN ${previous.endLsn}, and no disk holds or has deleted it`,
        );
      }
      const candidates = linked.filter(
        (found) => !seen.has(found.segment) && mayPrecede(found, at),
      );
      next = behindGap(candidates, segments, previous.end === 0 ? previous.endLsn : null);
      const begins = previous.endLsn === 0 || segments.some((found) => found.deleted);
      // All before it was deleted, or is missing.
      if (next === null && candidates.length === 0 && (begins || !gone)) break;
      if (next === null) {
        const [hole] = holes;
        if (hole !== undefined) return hole;
        return (
          `no segment was found that ends at LSN ${previous.endLsn}, ` +
          `where segment ${at.segment} continues one that is not there`
        );
      }
    }
    if (seen.has(next.found.segment)) return `segment ${next.found.segment} continues itself`;
    if (next.found.createEpoch > at.createEpoch) {
      return `segment ${at.segment} continues ${next.found.segment}, which is of a later epoch`;
    }
    seen.add(next.found.segment);
    links.push(next);
    at = next.found;
  }
  return links.reverse();
}

function mayPrecede(found: Linked, at: Linked): boolean {
  return found.createEpoch <= at.createEpoch && startLsn(found) <= startLsn(at);
}

/**
 * The newest segment behind one that is not there: behind an empty one, where `endLsn` says where
 * it must end, or behind deleted ones (null), where it must be sealed. `candidates` newest first.
 */
function behindGap(
  candidates: readonly Linked[],
  segments: readonly FoundSegment[],
  endLsn: Lsn | null,
): Link | null {
  for (const found of candidates) {
    const seal = sealedCopy(found);
    const known = endLsnOf(found, segments);
    if (endLsn === null ? seal === undefined : known !== endLsn) continue;
    const end = seal?.entry.length ?? offset(dataOf(longest(found)));
    return { found, end: known === null ? null : { end, endLsn: known } };
  }
  return null;
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
  const tail = links.at(-1)?.found;
  assert(tail !== undefined, 'a chain has a tail');
  // Sealed by an owner whose next segments are still empty: then nothing of the chain is open.
  const isEnded = sealedCopy(tail) !== undefined;
  for (const [index, link] of links.entries()) {
    const { found } = link;
    const isTail = index === links.length - 1;
    const beforeTail =
      tail.header.previous?.segment === found.segment && sealedCopy(found) === undefined;
    if (isEnded && isTail) {
      const end = sealTail(found);
      if (typeof end === 'string') unfinished.push(end);
      else sealed.push(end);
      continue;
    }
    if (isEnded || (!isTail && !beforeTail)) {
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
  const replaced = new Set(links.map(({ found }) => found.header.previous?.segment));
  const others = sortRest(rest, { dropped, replaced, tail, needed });
  if (isEnded && !rest.some((found) => mayFollow(found, tail))) {
    losses.push(
      `segment ${tail.segment} was sealed, so another one was in use after it, and no disk knows ` +
        'of one: what was acknowledged there would be lost',
    );
  }
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
    holes: [],
  };
}

interface Chained {
  readonly dropped: readonly FoundSegment[];
  /** What the chain's headers continue: whatever else continues one of these was left behind. */
  readonly replaced: ReadonlySet<SegmentId | undefined>;
  readonly tail: Linked;
  readonly needed: number;
}

/**
 * Segments beside the chain: deleted ones, abandoned ones, empty ones, and those to leave alone.
 */
function sortRest(
  rest: readonly FoundSegment[],
  { dropped, replaced, tail, needed }: Chained,
): { pendingDelete: PlannedSegment[]; losses: string[]; leftAlone: string[] } {
  const pendingDelete: PlannedSegment[] = [];
  const losses: string[] = [];
  const leftAlone: string[] = [];
  for (const found of rest) {
    if (found.copies.length === 0) continue;
    const known = found.createEpoch > 0;
    const empty = found.copies.every((copy) => copy.entry.length === 0);
    if (known && (found.deleted || endedEmpty(found) || dropped.includes(found))) {
      pendingDelete.push(descriptor(found, tail.header.replicas));
    } else if (!empty) {
      const beside = `segment ${found.segment} has data and is not part of the log found`;
      const previous = found.header?.previous?.segment;
      if (previous !== undefined && replaced.has(previous)) leftAlone.push(beside);
      else losses.push(`${beside}: what was acknowledged in it would be lost`);
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

/** A segment without data that its owner may have gone on with; sortRest says if enough show it. */
function mayFollow(found: FoundSegment, tail: Linked): boolean {
  return !found.deleted && found.createEpoch >= tail.createEpoch;
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
  const isLonger = found.copies.some((copy) => dataOf(copy) > end.end);
  const read = end.end === 0 ? 0 : end.crc;
  const crc = exact?.entry.crc ?? (isLonger ? read : undefined);
  if (crc === undefined) {
    const { segment } = found;
    const what = isLonger ? 'is readable up to' : 'reaches';
    return `no copy of segment ${segment} ${what} ${end.end}, where the next one continues it`;
  }
  const { end: at, endLsn } = end;
  return { ...descriptor(found, found.header.replicas), end: at, endLsn, crc };
}

/** The last segment, as it was sealed; what follows it has no header that would say its LSN. */
function sealTail(found: Linked): SealedSegment | string {
  const { endLsn } = found.header;
  const seal = sealedCopy(found);
  assert(seal !== undefined, 'it was chosen for being sealed');
  if (endLsn === undefined) {
    return `the last LSN of segment ${found.segment} must be read from a sealed copy`;
  }
  const { length: end, crc } = seal.entry;
  return { ...descriptor(found, found.header.replicas), end, endLsn, crc };
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
