/**
 * The writer: records in, batches to all replicas of the current segment, commits out in LSN order.
 * On the write path it stands between the volume layer's append and the nodes' clients; the state
 * is changed in place, by one event at a time, and nothing here waits or does I/O.
 *
 * INVARIANTS: only the current segment's answers commit; a record is committed once, in LSN order;
 * a batch's bytes are made once and sent again unchanged; a roll takes every uncommitted record
 * along under its old LSN; after STALE nothing is committed any more.
 */
import type { Reply } from '../block/wire/messages.js';
import type { SegmentHeader } from '../block/wire/segment-header.js';
import { assert, present, unreachable } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { WRITER_EAGER_BYTES, WRITER_SMALL_BATCHES_IN_FLIGHT } from '../core/limits.js';
import { type Lsn, lsn, type Monotonic, type SegmentOffset } from '../core/units.js';
import type { OpenSegment } from '../metadata/model.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import { newPatience, type Patience, waitsForLaggards } from './patience.js';
import { answersFor, countsForCommit } from './quorum.js';
import {
  isLagging,
  mayDrop,
  needsWatching,
  newSpare,
  noteAnswered,
  noteAsked,
  type RollView,
  type Spare,
  shouldAskSpare,
  shouldRollForTrouble,
  type WriterLimits,
  wantsRollForSize,
} from './roll.js';
import {
  addBatch,
  addHeader,
  batchAt,
  commit,
  type DropReason,
  endSeq,
  type Follower,
  fitsBatch,
  fitting,
  frozenEnd,
  letGo,
  newStream,
  noteDurable,
  type QueuedEntry,
  type SentBatch,
  type Stream,
  uncommittedBatches,
  uncommittedEntries,
} from './stream.js';

export interface WriterConfig {
  readonly volume: VolumeId;
  readonly ackQuorum: number;
  /** What a segment header says about the volume; asked for each, as it may have grown. */
  readonly facts: () => Omit<SegmentHeader, 'previous' | 'group'>;
  readonly limits: WriterLimits;
}

export interface WriterState extends RollView {
  readonly config: WriterConfig;
  readonly limits: WriterLimits;
  current: Stream;
  spare: Spare | null;
  frozen: SegmentEnd | null;
  leaveAbove: number;
  vainRolls: number;
  readonly patience: Patience;
  /** Appended, not yet in a batch. */
  queue: QueuedEntry[];
  queuedBytes: number;
  nextLsn: Lsn;
  committedLsn: Lsn;
  /** When followers are judged next; Infinity while nothing is on its way. */
  judgeAt: number;
  stopped: boolean;
}

export type WriterEvent =
  | { readonly type: 'append'; readonly queued: QueuedEntry; readonly now: Monotonic }
  /** An answer (null: none came) to APPEND, or with `generation` null to a PING. */
  | {
      readonly type: 'answer';
      readonly segment: SegmentId;
      readonly replica: number;
      readonly generation: number | null;
      /** Where the batch sent ends; 0 for a PING. */
      readonly end: SegmentOffset;
      readonly reply: Reply | null;
      readonly now: Monotonic;
    }
  /** A swap has landed that registers this segment as the spare. */
  | { readonly type: 'spare'; readonly segment: OpenSegment; readonly now: Monotonic }
  /** The spare is to be replaced: nothing is written to it from here on. */
  | { readonly type: 'spare-gone'; readonly now: Monotonic }
  /** Sets `leaveAbove` for the current segment. */
  | { readonly type: 'leave'; readonly above: number; readonly now: Monotonic }
  /** The swap of the last roll has landed. */
  | { readonly type: 'roll-confirmed'; readonly now: Monotonic }
  | { readonly type: 'tick'; readonly now: Monotonic };

export type WriterEffect =
  | {
      readonly type: 'send';
      readonly segment: OpenSegment;
      readonly replica: number;
      readonly generation: number;
      readonly batch: SentBatch;
    }
  | { readonly type: 'ping'; readonly segment: OpenSegment; readonly replica: number }
  | { readonly type: 'committed'; readonly segment: SegmentId; readonly batch: SentBatch }
  /** Seal `sealed` by a swap; writing goes on in `current`. */
  | { readonly type: 'rolled'; readonly sealed: SegmentEnd; readonly current: OpenSegment }
  | { readonly type: 'dropped'; readonly follower: Follower; readonly why: string }
  | { readonly type: 'stop'; readonly reason: HoldfastError };

export interface WriterStart {
  readonly current: OpenSegment;
  readonly spare: OpenSegment | null;
  /** Where the log ends so far; null for a new volume. */
  readonly previous: SegmentEnd | null;
  readonly now: Monotonic;
}

/** Begins the log's next segment with its header batch. */
export function startWriter(
  config: WriterConfig,
  start: WriterStart,
): [WriterState, WriterEffect[]] {
  const base = start.previous?.endLsn ?? lsn(0);
  const state: WriterState = {
    config,
    limits: config.limits,
    ackQuorum: config.ackQuorum,
    current: newStream(config.volume, start.current, base),
    spare: start.spare === null ? null : newSpare(start.spare, start.now),
    frozen: null,
    leaveAbove: Number.POSITIVE_INFINITY,
    vainRolls: 0,
    patience: newPatience(),
    queue: [],
    queuedBytes: 0,
    nextLsn: base,
    committedLsn: base,
    judgeAt: Number.POSITIVE_INFINITY,
    stopped: false,
  };
  const effects: WriterEffect[] = [];
  writeHeader(state, start.previous, start.now);
  feedAll(state, start.now, effects);
  return [state, effects];
}

/** When the driver must call with a tick; Infinity when it need not. */
export function writerDeadline(state: WriterState): number {
  if (state.stopped) return Number.POSITIVE_INFINITY;
  let earliest = state.judgeAt;
  for (const follower of state.current.followers) {
    if (follower.mode === 'resync' && !follower.pingInFlight && follower.pingAt < earliest) {
      earliest = follower.pingAt;
    }
  }
  return earliest;
}

export function stepWriter(state: WriterState, event: WriterEvent): WriterEffect[] {
  const effects: WriterEffect[] = [];
  if (state.stopped) return effects;
  switch (event.type) {
    case 'append':
      assert(event.queued.lsn === state.nextLsn, 'LSNs are given out in order');
      assert(fitsBatch(event.queued), 'an entry fits into a batch');
      state.nextLsn = lsn(state.nextLsn + 1);
      state.queue.push(event.queued);
      state.queuedBytes += event.queued.bytes;
      break;
    case 'answer':
      answer(state, event, effects);
      break;
    case 'spare':
      assert(state.spare === null, 'one spare at a time');
      state.spare = newSpare(event.segment, event.now);
      break;
    case 'spare-gone':
      assert(state.spare !== null && state.frozen === null, 'a spare, and no roll under way');
      state.spare = null;
      break;
    case 'leave':
      state.leaveAbove = event.above;
      break;
    case 'roll-confirmed':
      assert(state.frozen !== null, 'a roll was under way');
      state.frozen = null;
      break;
    case 'tick':
      tick(state, event.now, effects);
      break;
    default:
      unreachable(event);
  }
  if (!state.stopped) pump(state, event.now, effects);
  return effects;
}

/** Everything appended and not committed, in LSN order: to be failed when the owner stops. */
export function unfinished(state: WriterState): QueuedEntry[] {
  return [...uncommittedEntries(state.current), ...state.queue];
}

/** A size-full segment drains, then rolls; otherwise as many batches go out as the limits allow. */
function pump(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  askSpare(state, now, effects);
  for (;;) {
    const { current, limits } = state;
    const inFlight = uncommittedBatches(current);
    if (wantsRollForSize(state, now)) {
      if (inFlight > 0) return;
      roll(state, now, effects);
      continue;
    }
    if (state.queue.length === 0 || inFlight >= limits.maxBatchesInFlight) return;
    // Records that arrive while batches are under way travel together in the next one.
    const small = state.queuedBytes < WRITER_EAGER_BYTES;
    if (small && inFlight >= WRITER_SMALL_BATCHES_IN_FLIGHT) return;
    if (!small && waitsForLaggards(state.patience, state, now)) return;
    const count = fitting(current, state.queue, limits.segmentHardBytes);
    if (count === 0) return;
    const entries = state.queue.splice(0, count);
    for (const queued of entries) state.queuedBytes -= queued.bytes;
    addBatch(current, entries, now);
    feedAll(state, now, effects);
  }
}

function feedAll(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  const { followers } = state.current;
  for (let replica = 0; replica < followers.length; replica++) feed(state, replica, effects);
  if (state.judgeAt === Number.POSITIVE_INFINITY) state.judgeAt = now + state.limits.maxLagMs / 2;
}

function feed(state: WriterState, replica: number, effects: WriterEffect[]): void {
  const { current, limits } = state;
  const follower = present(current.followers[replica], 'a replica of the current segment');
  if (follower.mode !== 'following') return;
  const end = Math.min(endSeq(current), follower.durableSeq + limits.maxBatchesInFlight);
  while (follower.nextSeq < end) {
    const batch = batchAt(current, follower.nextSeq);
    follower.nextSeq += 1;
    const { segment } = current;
    effects.push({ type: 'send', segment, replica, generation: follower.generation, batch });
  }
}

function answer(
  state: WriterState,
  event: Extract<WriterEvent, { type: 'answer' }>,
  effects: WriterEffect[],
): void {
  const { current, spare } = state;
  if (!countsForCommit(current.segment.segment, event.segment)) {
    if (spare?.segment.segment === event.segment) spareAnswer(state, spare, event, effects);
    return;
  }
  const follower = present(current.followers[event.replica], 'a replica of the current segment');
  const isPing = event.generation === null;
  if (isPing) follower.pingInFlight = false;
  const { reply } = event;
  if (reply === null) {
    if (isPing || event.generation === follower.generation) lost(state, follower, event.now);
  } else if (!answersFor(follower.replica, reply)) {
    follower.gone = true;
    drop(follower, 'disk', `answers as disk ${reply.incarnation}`, effects);
  } else {
    heard(state, follower, event, reply, effects);
  }
  if (state.stopped) return;
  afterAnswer(state, event.replica, event.now, effects);
}

function heard(
  state: WriterState,
  follower: Follower,
  event: Extract<WriterEvent, { type: 'answer' }>,
  reply: Reply,
  effects: WriterEffect[],
): void {
  switch (reply.status) {
    case 'STALE':
    case 'SEALED':
      // Only a newer owner fences, or has what we write sealed: our own seals are of frozen
      // segments.
      stop(state, `${reply.status} at epoch ${reply.maxEpoch}`, effects);
      return;
    case 'OK':
    case 'GAP':
      progress(state, follower, event, reply, effects);
      return;
    case 'BUSY':
      lost(state, follower, event.now);
      return;
    case 'UNKNOWN':
      drop(follower, 'unknown', 'missed the CREATE', effects);
      return;
    default:
      drop(follower, 'disk', `answers ${reply.status}`, effects);
  }
}

function progress(
  state: WriterState,
  follower: Follower,
  event: Extract<WriterEvent, { type: 'answer' }>,
  reply: Reply,
  effects: WriterEffect[],
): void {
  const before = follower.durable;
  if (!noteDurable(state.current, follower, reply.durableLength)) {
    drop(follower, 'disk', `claims ${reply.durableLength} bytes, never sent`, effects);
  } else if (event.generation === null) {
    if (reply.status === 'OK' && follower.mode === 'resync') restart(follower);
  } else if (event.generation !== follower.generation) {
    // An older sending: what it says is durable was noted, what to send next is settled already.
  } else if (reply.status === 'OK') {
    // A batch sent twice is answered before its flush: ask later how far it is.
    if (reply.durableLength < event.end && event.end > follower.durable) {
      lost(state, follower, event.now);
    }
  } else {
    // Once at once; when that brought nothing, with a pause, so that a gap that stays is no storm.
    if (follower.durable === before && follower.failures > 0) {
      lost(state, follower, event.now);
      return;
    }
    follower.failures += 1;
    restart(follower);
  }
}

/** Sends again from what the replica is known to have; older sendings' answers start nothing. */
function restart(follower: Follower): void {
  if (follower.mode === 'dropped') return;
  follower.mode = 'following';
  follower.generation += 1;
  follower.nextSeq = follower.durableSeq;
}

/** No answer came: a PING will tell where to go on. */
function lost(state: WriterState, follower: Follower, now: Monotonic): void {
  if (follower.mode === 'dropped') return;
  const { retryMinMs, retryMaxMs } = state.limits;
  const wait = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(follower.failures, 10));
  follower.mode = 'resync';
  follower.generation += 1;
  follower.failures += 1;
  follower.pingAt = follower.failures === 1 ? now : now + wait;
}

function drop(follower: Follower, reason: DropReason, why: string, effects: WriterEffect[]): void {
  if (follower.mode === 'dropped') return;
  follower.mode = 'dropped';
  follower.dropped = reason;
  follower.generation += 1;
  effects.push({ type: 'dropped', follower, why });
}

function stop(state: WriterState, what: string, effects: WriterEffect[]): void {
  state.stopped = true;
  const reason = new HoldfastError('FENCED', `a newer owner has taken the volume over: ${what}`);
  effects.push({ type: 'stop', reason });
}

function afterAnswer(
  state: WriterState,
  replica: number,
  now: Monotonic,
  effects: WriterEffect[],
): void {
  const { current } = state;
  for (const batch of commit(current, state.ackQuorum)) {
    if (batch.endLsn > state.committedLsn) state.vainRolls = 0;
    state.committedLsn = batch.endLsn;
    effects.push({ type: 'committed', segment: current.segment.segment, batch });
  }
  feed(state, replica, effects);
  pingDue(state, now, effects);
  const { maxLagBytes } = state.limits;
  const troubled = current.followers.some(
    (follower) =>
      follower.mode === 'dropped' || current.commitOffset - follower.durable > maxLagBytes,
  );
  if (troubled) judge(state, now, effects);
  letGo(state.current);
}

function spareAnswer(
  state: WriterState,
  spare: Spare,
  event: Extract<WriterEvent, { type: 'answer' }>,
  effects: WriterEffect[],
): void {
  const replica = present(spare.segment.replicas[event.replica], 'a replica of the spare');
  if (event.reply === null || !answersFor(replica, event.reply)) return;
  if (event.reply.status === 'STALE') stop(state, 'STALE for the spare', effects);
  if (event.reply.status !== 'OK') return;
  noteAnswered(spare, event.replica, event.now);
  judge(state, event.now, effects);
}

function tick(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  pingDue(state, now, effects);
  if (now < state.judgeAt) return;
  const { maxLagMs } = state.limits;
  // After a pause of this process the answers are still waiting to be heard: judge nobody yet.
  const late = now - state.judgeAt > maxLagMs / 2;
  state.judgeAt = needsWatching(state) ? now + maxLagMs / 4 : Number.POSITIVE_INFINITY;
  if (!late) judge(state, now, effects);
}

function pingDue(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  const { current } = state;
  for (const [replica, follower] of current.followers.entries()) {
    if (follower.mode !== 'resync' || follower.pingInFlight || follower.pingAt > now) continue;
    follower.pingInFlight = true;
    effects.push({ type: 'ping', segment: current.segment, replica });
  }
}

/**
 * Rolls to a spare that answers better, else stops sending to laggards that the quorum can spare.
 */
function judge(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  if (state.stopped) return;
  if (shouldRollForTrouble(state, now)) {
    roll(state, now, effects);
    return;
  }
  for (const follower of state.current.followers) {
    if (!mayDrop(state, follower, now)) continue;
    const reason = follower.mode === 'resync' ? 'unreachable' : 'slow';
    assert(isLagging(state, follower, now), 'only laggards are dropped');
    drop(follower, reason, `lags behind at ${follower.durable}`, effects);
  }
  letGo(state.current);
  askSpare(state, now, effects);
}

function askSpare(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  const { spare } = state;
  if (spare === null || !shouldAskSpare(state, now)) return;
  for (const replica of spare.segment.replicas.keys()) {
    noteAsked(spare, replica, now);
    effects.push({ type: 'ping', segment: spare.segment, replica });
  }
}

/** Freezes the current segment at its commit and goes on in the spare with everything above it. */
function roll(state: WriterState, now: Monotonic, effects: WriterEffect[]): void {
  const { spare } = state;
  assert(spare !== null && state.frozen === null, 'rolls to a registered spare, once at a time');
  const sealed = frozenEnd(state.current);
  const carried = uncommittedEntries(state.current);
  state.frozen = sealed;
  state.leaveAbove = Number.POSITIVE_INFINITY;
  state.vainRolls = carried.length > 0 ? state.vainRolls + 1 : 0;
  state.queue = [...carried, ...state.queue];
  for (const queued of carried) state.queuedBytes += queued.bytes;
  state.current = newStream(state.config.volume, spare.segment, sealed.endLsn);
  state.spare = null;
  effects.push({ type: 'rolled', sealed, current: spare.segment });
  writeHeader(state, sealed, now);
  state.judgeAt = now + state.limits.maxLagMs / 2;
  feedAll(state, now, effects);
}

function writeHeader(state: WriterState, previous: SegmentEnd | null, now: Monotonic): void {
  const { current, config } = state;
  const header: SegmentHeader = {
    ...config.facts(),
    previous:
      previous === null
        ? null
        : { segment: previous.segment, end: previous.end, endLsn: previous.endLsn },
    group: current.segment.group,
  };
  addHeader(current, header, now);
}
