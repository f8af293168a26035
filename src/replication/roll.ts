/**
 * When to leave the current segment for the registered spare, and when to stop sending to a replica
 * instead (DESIGN §4, Roll). A roll costs a swap and sends uncommitted records twice, so it is made
 * when the segment is full, when the spare's replicas answer better than the current one's, or when
 * the current one lacks copies that the spare has (soundness.ts);
 * otherwise writing goes on at the quorum.
 *
 * INVARIANT: no roll while the swap of the one before it is unconfirmed, and never into a segment
 * that is not registered in the metadata store.
 */
import { assert, present } from '../core/assert.js';
import type { Monotonic } from '../core/units.js';
import type { OpenSegment, Replica } from '../metadata/model.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import { batchAt, endSeq, type Follower, type Stream, uncommittedBatches } from './stream.js';

/** The registered spare, and which of its replicas answer. */
export interface Spare {
  readonly segment: OpenSegment;
  /** Per replica: when it last answered a PING for this segment; -Infinity is never. */
  readonly answeredAt: number[];
  /** Per replica: PINGs since its last answer, and when the first of them was sent. */
  readonly unanswered: { count: number; since: Monotonic }[];
  pingedAt: number;
  readonly registeredAt: Monotonic;
}

/** Times the lag limit. How often a spare is asked while its volume is used; and a silent one. */
const CHECK_FACTOR = 10;
const SILENT_FACTOR = 2;
/** A replica that was asked so often and for so long (as CHECK_FACTOR) is taken for gone. */
const SILENT_PINGS = 4;
const VAIN_DOUBLINGS = 6;

export interface RollLimits {
  readonly segmentSoftBytes: number;
  readonly maxLagBytes: number;
  readonly maxLagMs: number;
}

export interface WriterLimits extends RollLimits {
  readonly segmentHardBytes: number;
  readonly maxBatchesInFlight: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

/** What a roll looks at. */
export interface RollView {
  readonly ackQuorum: number;
  readonly limits: RollLimits;
  readonly current: Stream;
  readonly spare: Spare | null;
  /** The segment rolled away from whose swap is not confirmed yet. */
  readonly frozen: SegmentEnd | null;
  /** The current one is left once more of the spare's replicas answer; Infinity: it may stay. */
  readonly leaveAbove: number;
  /** Rolls in a row that took the same records along. */
  readonly vainRolls: number;
}

export function newSpare(segment: OpenSegment, now: Monotonic): Spare {
  const never = Number.NEGATIVE_INFINITY;
  const { replicas } = segment;
  return {
    segment,
    answeredAt: replicas.map(() => never),
    unanswered: replicas.map(() => ({ count: 0, since: now })),
    pingedAt: never,
    registeredAt: now,
  };
}

/** A PING is sent to all of its replicas, one by one. */
export function noteAsked(spare: Spare, replica: number, now: Monotonic): void {
  const asked = present(spare.unanswered[replica], 'a replica of the spare');
  if (asked.count === 0) asked.since = now;
  asked.count += 1;
  spare.pingedAt = now;
}

export function noteAnswered(spare: Spare, replica: number, now: Monotonic): void {
  spare.answeredAt[replica] = now;
  spare.unanswered[replica] = { count: 0, since: now };
}

/** Replicas of the spare that have not answered for long, although they were asked. */
export function silentInSpare({ spare, limits }: RollView, now: Monotonic): Replica[] {
  if (spare === null) return [];
  return spare.segment.replicas.filter((_, index) => {
    const { count = 0, since = now } = spare.unanswered[index] ?? {};
    return count >= SILENT_PINGS && now - since >= CHECK_FACTOR * limits.maxLagMs;
  });
}

/**
 * How old a batch may be that a replica has not flushed: more after each roll that was in vain.
 * What takes longer than the limit wherever it is sent would else be sent anew for ever.
 */
function maxAgeMs({ limits, vainRolls }: RollView): number {
  return limits.maxLagMs * 2 ** Math.min(vainRolls, VAIN_DOUBLINGS);
}

/** Behind by too many bytes, or by a batch that is too old. */
export function isLagging(view: RollView, follower: Follower, now: Monotonic): boolean {
  const { current, limits } = view;
  if (follower.mode === 'dropped') return true;
  if (current.commitOffset - follower.durable > limits.maxLagBytes) return true;
  if (follower.durableSeq >= endSeq(current)) return false;
  return now - batchAt(current, follower.durableSeq).sentAt >= maxAgeMs(view);
}

export function healthyFollowers(view: RollView, now: Monotonic): number {
  return view.current.followers.filter((follower) => !isLagging(view, follower, now)).length;
}

/**
 * Replicas of the spare that answered lately, on disks that do not fail or stall the current
 * segment. Once the current segment has lost its quorum, a disk that was too slow for it is better
 * than none: it may have recovered long ago, and nothing is sent to it any more that could show it.
 */
export function healthyInSpare(view: RollView, now: Monotonic): number {
  const { spare, current, limits } = view;
  if (spare === null) return 0;
  const stuck = healthyFollowers(view, now) < view.ackQuorum;
  const bad = stuck ? [] : current.followers.filter((one) => hasBadDisk(view, one, now));
  const since = now - 2 * limits.maxLagMs;
  return spare.segment.replicas.filter(
    (replica, index) =>
      (spare.answeredAt[index] ?? Number.NEGATIVE_INFINITY) >= since &&
      !bad.some((follower) => follower.replica.incarnation === replica.incarnation),
  ).length;
}

function hasBadDisk(view: RollView, follower: Follower, now: Monotonic): boolean {
  if (follower.mode === 'dropped') {
    return follower.dropped === 'slow' || follower.dropped === 'disk';
  }
  return follower.mode === 'following' && isLagging(view, follower, now);
}

/**
 * A second roll waits for the first one's swap: the record must name every segment that is written.
 */
function mayRoll(view: RollView): boolean {
  return view.spare !== null && view.frozen === null;
}

/**
 * The segment is full and its successor can take over; the writer first lets what is sent commit.
 */
export function wantsRollForSize(view: RollView, now: Monotonic): boolean {
  if (view.current.nextOffset < view.limits.segmentSoftBytes || !mayRoll(view)) return false;
  return healthyInSpare(view, now) >= view.ackQuorum;
}

/** Some replica is in trouble, or counts no more, and the spare's answer better. */
export function shouldRollForTrouble(view: RollView, now: Monotonic): boolean {
  if (!mayRoll(view)) return false;
  const better = healthyInSpare(view, now);
  const kept = Math.min(healthyFollowers(view, now), view.leaveAbove);
  return better >= view.ackQuorum && better > kept;
}

/**
 * Whether it is worth asking the spare's replicas: a roll is near, and the last answers are getting
 * old; or nobody has asked for long, and the volume is in use.
 */
export function shouldAskSpare(view: RollView, now: Monotonic): boolean {
  const { spare, current, limits } = view;
  if (spare === null || !mayRoll(view)) return false;
  if (now < spare.pingedAt + limits.maxLagMs / 2) return false;
  if (view.leaveAbove !== Number.POSITIVE_INFINITY) return true;
  if (current.nextOffset >= limits.segmentSoftBytes) return true;
  if (healthyFollowers(view, now) < current.followers.length) return true;
  const asked = Math.max(spare.pingedAt, spare.registeredAt);
  const isSilent = spare.unanswered.some(({ count }) => count > 0);
  return now >= asked + limits.maxLagMs * (isSilent ? SILENT_FACTOR : CHECK_FACTOR);
}

/** A laggard that the quorum can do without: nothing more is kept for it or sent to it. */
export function mayDrop(view: RollView, follower: Follower, now: Monotonic): boolean {
  if (follower.mode === 'dropped' || !isLagging(view, follower, now)) return false;
  return healthyFollowers(view, now) >= view.ackQuorum;
}

/** Whether time may change any of this: something is on its way, or a replica is in trouble. */
export function needsWatching(view: RollView): boolean {
  assert(view.current.followers.length >= view.ackQuorum, 'replicas of the current segment');
  if (uncommittedBatches(view.current) > 0) return true;
  const end = endSeq(view.current);
  return view.current.followers.some(
    (follower) => follower.mode !== 'following' || follower.durableSeq < end,
  );
}
