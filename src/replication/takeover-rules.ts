/**
 * What a taker concludes from FENCE replies (DESIGN §4, takeover steps 3 and 4), as pure functions:
 * which replies count, where the open segments end, and when nothing may be concluded yet.
 *
 * Why the maximum: fewer than R replicas may be silent, so every acknowledged byte is on one that
 * answered; the longest answer covers it. What lies above the acknowledged may be kept or not, but
 * only one taker decides, and its final swap makes the decision.
 */
import type { FenceBody, Reply } from '../block/wire/messages.js';
import type { SegmentHeader } from '../block/wire/segment-header.js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { type Lsn, offset, type SegmentOffset } from '../core/units.js';
import type { OpenSegment } from '../metadata/model.js';
import { readFirstBatch } from './chain.js';
import { fenceQuorum } from './quorum.js';

/** One replica's answer to FENCE, of the right incarnation. */
export interface Fenced {
  readonly durableLength: SegmentOffset;
  readonly suspectFrom: SegmentOffset | null;
  /** Null when there is none, or when it cannot be read: durableLength tells which. */
  readonly header: SegmentHeader | null;
}

export type End =
  /** Ends here; `endLsn` where the successor's header says so. */
  | { readonly type: 'kept'; readonly end: SegmentOffset; readonly endLsn: Lsn | null }
  | { readonly type: 'abandoned' };

export type Decision =
  | { readonly type: 'undecided'; readonly why: string }
  | { readonly type: 'decided'; readonly ends: readonly End[] }
  | { readonly type: 'inconsistent'; readonly reason: HoldfastError };

/**
 * Where a loss was accepted: how many bytes of each open segment were said to stay, 0 for one that
 * is dropped. Of a segment that is not in it nothing was said, so that none of it is given up.
 */
export type SaidLengths = ReadonlyMap<SegmentId, number>;

/** An OK reply to FENCE as evidence. The first batch is believed only when all of it verifies. */
export function fencedOf(volume: VolumeId, segment: OpenSegment, reply: Reply): Fenced {
  const body = reply.body as FenceBody | null;
  assert(body?.type === 'fence', 'an OK to FENCE has a fence body');
  return {
    durableLength: reply.durableLength,
    suspectFrom: body.suspectFrom,
    header: body.firstBatch === null ? null : readHeader(volume, segment, body.firstBatch),
  };
}

function readHeader(
  volume: VolumeId,
  segment: OpenSegment,
  bytes: Uint8Array,
): SegmentHeader | null {
  try {
    return readFirstBatch(volume, segment, bytes);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return null;
    throw thrown;
  }
}

/** A suspect reply shows what is there, never what is not: it does not count to R. */
export function countsToFenceQuorum(fenced: Fenced): boolean {
  return fenced.suspectFrom === null;
}

/** The prefix that this replica certainly has. */
export function presentLength(fenced: Fenced): SegmentOffset {
  const { durableLength, suspectFrom } = fenced;
  return suspectFrom === null ? durableLength : offset(Math.min(durableLength, suspectFrom));
}

/** The end of what any replica was found to have: the maximum covers every acknowledged byte. */
export function decideEnd(replies: readonly Fenced[]): SegmentOffset {
  return offset(Math.max(0, ...replies.map(presentLength)));
}

function enough(segment: OpenSegment, replies: readonly Fenced[], ackQuorum: number): boolean {
  const valid = replies.filter(countsToFenceQuorum).length;
  return valid >= fenceQuorum(segment.replicas.length, ackQuorum);
}

/** Bytes without a readable header are no absence: another replica's answer is needed. */
function isAbsent(replies: readonly Fenced[]): boolean {
  return replies.every((fenced) => fenced.durableLength === 0);
}

/**
 * Decides the ends of `open` from the replies to each, in the same order; or says what is missing.
 */
export function decideEnds(
  open: readonly OpenSegment[],
  replies: readonly (readonly Fenced[])[],
  ackQuorum: number,
): Decision {
  const [first, second] = open;
  const [ofFirst = [], ofSecond = []] = replies;
  if (first === undefined) return { type: 'decided', ends: [] };
  for (const [index, segment] of open.entries()) {
    if (enough(segment, replies[index] ?? [], ackQuorum)) continue;
    return { type: 'undecided', why: `too few valid answers for ${segment.segment}` };
  }
  const found = decideEnd(ofFirst);
  const alone: End = { type: 'kept', end: found, endLsn: null };
  if (second === undefined) return { type: 'decided', ends: [alone] };
  if (isAbsent(ofSecond)) return { type: 'decided', ends: [alone, { type: 'abandoned' }] };
  const header = ofSecond.find((fenced) => fenced.header !== null)?.header ?? null;
  if (header === null) {
    return { type: 'undecided', why: `the header of ${second.segment} cannot be read` };
  }
  return continued(first, header, found, decideEnd(ofSecond));
}

/**
 * What is kept where too few replicas answer and those that are silent were given up, in so many
 * words, by whoever runs the cluster: the longest prefix that is there. What only the silent ones
 * have behind it is lost, and so is a segment that continues what is not there any more. Never
 * less than `said`: somebody who has it may be silent just now.
 */
export function decideWithLoss(
  open: readonly OpenSegment[],
  replies: readonly (readonly Fenced[])[],
  said: SaidLengths,
): Decision {
  const decision = decideLongest(open, replies);
  if (decision.type !== 'decided') return decision;
  for (const [index, { segment }] of open.entries()) {
    const end = decision.ends[index];
    const kept = end?.type === 'kept' ? end.end : 0;
    const least = said.get(segment);
    if (least !== undefined && kept >= least) continue;
    const stays = least === undefined ? 'nothing' : `that ${least} bytes`;
    return { type: 'undecided', why: `of ${segment} ${kept} bytes answer, ${stays} was said` };
  }
  return decision;
}

function decideLongest(
  open: readonly OpenSegment[],
  replies: readonly (readonly Fenced[])[],
): Decision {
  const [first] = open;
  if (first === undefined) return { type: 'decided', ends: [] };
  const [ofFirst = [], ofSecond = []] = replies;
  const found = decideEnd(ofFirst);
  const alone: End = { type: 'kept', end: found, endLsn: null };
  if (open.length === 1) return { type: 'decided', ends: [alone] };
  const header = ofSecond.find((fenced) => fenced.header !== null)?.header ?? null;
  const isContinued = header !== null && (header.previous?.end ?? 0) <= found;
  if (isContinued) return continued(first, header, found, decideEnd(ofSecond));
  return { type: 'decided', ends: [alone, { type: 'abandoned' }] };
}

function continued(
  first: OpenSegment,
  header: SegmentHeader,
  found: SegmentOffset,
  secondEnd: SegmentOffset,
): Decision {
  const { previous } = header;
  if (previous === null || previous.segment !== first.segment) {
    const what = `the second open segment continues ${previous?.segment ?? 'nothing'}`;
    return { type: 'inconsistent', reason: inconsistent(`${what}, not ${first.segment}`) };
  }
  if (previous.end > found) {
    const what = `${first.segment} was rolled at ${previous.end}, only ${found} bytes are left`;
    return { type: 'inconsistent', reason: inconsistent(what) };
  }
  const kept: End = { type: 'kept', end: previous.end, endLsn: previous.endLsn };
  return { type: 'decided', ends: [kept, { type: 'kept', end: secondEnd, endLsn: null }] };
}

function inconsistent(message: string): HoldfastError {
  return new HoldfastError('INCONSISTENT', message, {
    hint: 'Replicas that hold the missing bytes may be offline; do not remove disks. Report this.',
  });
}
