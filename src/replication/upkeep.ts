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
import type { SegmentId } from '../core/ids.js';
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
  inFlight: boolean;
  failures: number;
  dueAt: number;
}

export interface UpkeepState {
  readonly retryMinMs: number;
  readonly jobs: Set<Job>;
  /** Listed in pendingDelete and being deleted: how many replicas have not answered yet. */
  readonly deleting: Map<SegmentId, number>;
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
  return { retryMinMs, jobs: new Set(), deleting: new Map(), inFlight: 0 };
}

export function upkeepDeadline(state: UpkeepState): number {
  let earliest = Number.POSITIVE_INFINITY;
  if (state.inFlight >= UPKEEP_MAX_IN_FLIGHT) return earliest;
  for (const job of state.jobs) {
    if (!job.inFlight) earliest = Math.min(earliest, job.dueAt);
  }
  return earliest;
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
    state.jobs.add({
      segment: sealed,
      replica,
      sealed,
      revision: 0 as Revision,
      kind: 'seal',
      inFlight: false,
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
  for (const job of state.jobs) {
    if (job.segment.segment === segment.segment) state.jobs.delete(job);
  }
  state.deleting.set(segment.segment, segment.replicas.length);
  if (segment.replicas.length === 0) effects.push({ type: 'deleted', segment: segment.segment });
  for (const replica of segment.replicas.keys()) {
    state.jobs.add({
      segment,
      replica,
      sealed: null,
      revision,
      kind: 'delete',
      inFlight: false,
      failures: 0,
      dueAt: now,
    });
  }
}

function sendDue(state: UpkeepState, now: Monotonic, effects: UpkeepEffect[]): void {
  for (const job of state.jobs) {
    if (state.inFlight >= UPKEEP_MAX_IN_FLIGHT) return;
    if (job.inFlight || job.dueAt > now) continue;
    job.inFlight = true;
    state.inFlight += 1;
    effects.push({ type: 'send', job, kind: job.kind });
  }
}

function answer(
  state: UpkeepState,
  event: Extract<UpkeepEvent, { type: 'answer' }>,
  effects: UpkeepEffect[],
): void {
  const { job, reply, gone, now } = event;
  assert(job.inFlight, 'an answer to what was sent');
  job.inFlight = false;
  state.inFlight -= 1;
  if (!state.jobs.has(job)) return;
  const verdict = gone ? 'done' : judge(job, reply);
  if (verdict === 'done') {
    state.jobs.delete(job);
    if (job.kind === 'delete') noteDeleted(state, job, effects);
    return;
  }
  if (verdict === 'copy') job.kind = 'copy';
  job.failures += 1;
  const wait = state.retryMinMs * 2 ** Math.min(job.failures - 1, 12);
  job.dueAt = now + Math.min(UPKEEP_RETRY_MAX_MS, wait);
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
  if (left === 0) effects.push({ type: 'deleted', segment });
}

/** The record does not list the segment any more. */
export function forgetDeleted(state: UpkeepState, segment: SegmentId): void {
  assert(state.deleting.get(segment) === 0, 'every replica has answered');
  state.deleting.delete(segment);
}
