/**
 * What an owner does in the background for segments it no longer writes: SEAL their replicas, COPY
 * to those that lack part of them, DELETE what the record lists in pendingDelete; each retried
 * while the owner lives, a few at a time. Nothing on the write path waits for it. Replicas whose
 * disk is gone are left to repair.
 *
 * INVARIANT: SEAL and COPY are sent only for ends that a landed swap holds, DELETE only for
 * segments that the record lists; nodes confirm both in the metadata store before they touch
 * anything.
 */
import type { Reply } from '../block/wire/messages.js';
import { assert, present } from '../core/assert.js';
import type { NodeId, SegmentId } from '../core/ids.js';
import { UPKEEP_MAX_IN_FLIGHT, UPKEEP_RETRY_MAX_MS } from '../core/limits.js';
import type { Monotonic, Revision } from '../core/units.js';
import type { PlannedSegment, SealedSegment } from '../metadata/model.js';
import { answersFor } from './quorum.js';

export type JobKind = 'seal' | 'copy' | 'delete';

/** One thing to bring about on one replica. */
export interface Job {
  readonly segment: PlannedSegment;
  readonly replica: number;
  /** For seal and copy. */
  readonly sealed: SealedSegment | null;
  /** For delete: the record's revision at which the segment was seen listed. */
  readonly revision: Revision;
  kind: JobKind;
  failures: number;
  dueAt: number;
}

export interface UpkeepState {
  readonly retryMinMs: number;
  /** All that is to be done, by segment. */
  readonly jobs: Map<SegmentId, Set<Job>>;
  /** Of these: to be sent at once, and later. The rest is in flight. */
  readonly ready: Set<Job>;
  readonly waiting: Set<Job>;
  /** Not later than the first of `waiting` is due. */
  nextDueAt: number;
  /** Listed in pendingDelete and being deleted: how many replicas have not answered yet. */
  readonly deleting: Map<SegmentId, number>;
  /** Of these, those that all replicas have answered. */
  readonly deleted: Set<SegmentId>;
  inFlight: number;
}

export type UpkeepEvent =
  | { readonly type: 'sealed'; readonly sealed: SealedSegment; readonly now: Monotonic }
  | {
      readonly type: 'delete';
      readonly segment: PlannedSegment;
      readonly revision: Revision;
      readonly now: Monotonic;
    }
  /** `gone`: the directory says that no node has this disk any more. */
  | {
      readonly type: 'answer';
      readonly job: Job;
      readonly reply: Reply | null;
      readonly gone: boolean;
      readonly now: Monotonic;
    }
  | { readonly type: 'tick'; readonly now: Monotonic };

export type UpkeepEffect =
  | { readonly type: 'send'; readonly job: Job; readonly kind: JobKind }
  /** All replicas have answered or are gone: a swap may take it out of pendingDelete. */
  | { readonly type: 'deleted'; readonly segment: SegmentId };

export function newUpkeep(retryMinMs: number): UpkeepState {
  return {
    retryMinMs,
    jobs: new Map(),
    ready: new Set(),
    waiting: new Set(),
    nextDueAt: Number.POSITIVE_INFINITY,
    deleting: new Map(),
    deleted: new Set(),
    inFlight: 0,
  };
}

/** While the most are in flight, the next answer is what is waited for. */
export function upkeepDeadline(state: UpkeepState): number {
  return state.inFlight >= UPKEEP_MAX_IN_FLIGHT ? Number.POSITIVE_INFINITY : state.nextDueAt;
}

function addJob(state: UpkeepState, job: Job): void {
  const { segment } = job.segment;
  const jobs = state.jobs.get(segment);
  if (jobs === undefined) state.jobs.set(segment, new Set([job]));
  else jobs.add(job);
  state.ready.add(job);
}

function isWanted(state: UpkeepState, job: Job): boolean {
  return state.jobs.get(job.segment.segment)?.has(job) ?? false;
}

function removeJob(state: UpkeepState, job: Job): void {
  const { segment } = job.segment;
  const jobs = state.jobs.get(segment);
  jobs?.delete(job);
  if (jobs?.size === 0) state.jobs.delete(segment);
  state.ready.delete(job);
  state.waiting.delete(job);
}

export function stepUpkeep(state: UpkeepState, event: UpkeepEvent): UpkeepEffect[] {
  const effects: UpkeepEffect[] = [];
  switch (event.type) {
    case 'sealed':
      addSeals(state, event.sealed, event.now);
      break;
    case 'delete':
      addDeletes(state, event, effects);
      break;
    case 'answer':
      answer(state, event, effects);
      break;
    case 'tick':
      break;
  }
  sendDue(state, event.now, effects);
  return effects;
}

function addSeals(state: UpkeepState, sealed: SealedSegment, now: Monotonic): void {
  for (const replica of sealed.replicas.keys()) {
    addJob(state, {
      segment: sealed,
      replica,
      sealed,
      revision: 0 as Revision,
      kind: 'seal',
      failures: 0,
      dueAt: now,
    });
  }
}

function addDeletes(
  state: UpkeepState,
  event: Extract<UpkeepEvent, { type: 'delete' }>,
  effects: UpkeepEffect[],
): void {
  const { segment, revision, now } = event;
  if (state.deleting.has(segment.segment)) return;
  for (const job of [...(state.jobs.get(segment.segment) ?? [])]) removeJob(state, job);
  state.deleting.set(segment.segment, segment.replicas.length);
  if (segment.replicas.length === 0) isDeleted(state, segment.segment, effects);
  for (const replica of segment.replicas.keys()) {
    addJob(state, {
      segment,
      replica,
      sealed: null,
      revision,
      kind: 'delete',
      failures: 0,
      dueAt: now,
    });
  }
}

function sendDue(state: UpkeepState, now: Monotonic, effects: UpkeepEffect[]): void {
  if (state.nextDueAt <= now) wakeDue(state, now);
  for (const job of state.ready) {
    if (state.inFlight >= UPKEEP_MAX_IN_FLIGHT) return;
    state.ready.delete(job);
    state.inFlight += 1;
    effects.push({ type: 'send', job, kind: job.kind });
  }
}

function wakeDue(state: UpkeepState, now: Monotonic): void {
  state.nextDueAt = Number.POSITIVE_INFINITY;
  for (const job of state.waiting) {
    if (job.dueAt > now) {
      state.nextDueAt = Math.min(state.nextDueAt, job.dueAt);
      continue;
    }
    state.waiting.delete(job);
    state.ready.add(job);
  }
}

function answer(
  state: UpkeepState,
  event: Extract<UpkeepEvent, { type: 'answer' }>,
  effects: UpkeepEffect[],
): void {
  const { job, reply, gone, now } = event;
  assert(state.inFlight > 0, 'an answer to what was sent');
  state.inFlight -= 1;
  if (!isWanted(state, job)) return;
  const verdict = gone ? 'done' : judge(job, reply);
  if (verdict === 'done') {
    removeJob(state, job);
    if (job.kind === 'delete') noteDeleted(state, job, effects);
    return;
  }
  if (verdict === 'copy') job.kind = 'copy';
  job.failures += 1;
  const wait = state.retryMinMs * 2 ** Math.min(job.failures - 1, 12);
  job.dueAt = now + Math.min(UPKEEP_RETRY_MAX_MS, wait);
  state.waiting.add(job);
  state.nextDueAt = Math.min(state.nextDueAt, job.dueAt);
}

/**
 * What a replica's answer means for the job: it is done, it is tried again, or a SEAL needs a COPY.
 */
function judge(job: Job, reply: Reply | null): 'done' | 'again' | 'copy' {
  const replica = present(job.segment.replicas[job.replica], 'a replica of the segment');
  if (reply === null || !answersFor(replica, reply)) return 'again';
  if (reply.status === 'DELETED') return 'done';
  if (job.kind === 'delete') return reply.status === 'OK' ? 'done' : 'again';
  const { end } = present(job.sealed, 'a sealed segment');
  switch (reply.status) {
    case 'OK':
    case 'SEALED':
      if (reply.durableLength >= end) return 'done';
      return 'copy';
    case 'GAP':
    case 'UNKNOWN':
    case 'SUSPECT':
    case 'DISK':
    case 'REFUSED':
      return 'copy';
    default:
      return 'again';
  }
}

function noteDeleted(state: UpkeepState, job: Job, effects: UpkeepEffect[]): void {
  const { segment } = job.segment;
  const left = present(state.deleting.get(segment), 'a segment that is being deleted') - 1;
  state.deleting.set(segment, left);
  if (left === 0) isDeleted(state, segment, effects);
}

function isDeleted(state: UpkeepState, segment: SegmentId, effects: UpkeepEffect[]): void {
  state.deleted.add(segment);
  effects.push({ type: 'deleted', segment });
}

/** Whether all that is left to do is on nodes that are down, and was tried there in vain. */
export function waitsForTheDown(state: UpkeepState, isLive: (node: NodeId) => boolean): boolean {
  const awaited = new Set<NodeId>();
  const tried = new Set<NodeId>();
  for (const jobs of state.jobs.values()) {
    for (const { segment, replica, failures } of jobs) {
      const { node } = present(segment.replicas[replica], 'a replica of the segment');
      if (isLive(node)) return false;
      awaited.add(node);
      if (failures > 0) tried.add(node);
    }
  }
  return awaited.size > 0 && tried.size === awaited.size;
}

/** The record does not list the segment any more. */
export function forgetDeleted(state: UpkeepState, segment: SegmentId): void {
  assert(state.deleting.get(segment) === 0, 'every replica has answered');
  state.deleting.delete(segment);
  state.deleted.delete(segment);
}
