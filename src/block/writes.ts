/**
 * CREATE, APPEND and RECOVER: verify, hand to the engine, and answer when durable. This is the
 * write path of a replica: one batch verified, one commit, one reply.
 *
 * INVARIANT: an epoch is compared again after the flush, before anything is acknowledged.
 */
import { assert } from '../core/assert.js';
import { asBuffer } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import { SEGMENT_HARD_BYTES } from '../core/limits.js';
import { type Epoch, type Monotonic, PAGE_BYTES } from '../core/units.js';
import { continues, segmentBatchBytes } from './chain.js';
import type { ReplyCallback } from './disk-store-api.js';
import type { BatchBytes, Settle } from './replica-state.js';
import { newSegment, type Segment } from './replica-state.js';
import { recentCrc } from './segment-table.js';
import type { Task } from './task.js';
import {
  BATCH_HEADER_BYTES,
  batchSegmentBytes,
  batchWireBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
  decodeWireBatch,
} from './wire/batch.js';
import type { AppendRequest, CreateRequest, RecoverRequest } from './wire/messages.js';

/** A promise not to answer a FENCE above `epoch` for the length of the read lease. */
export function promise(task: Task, state: Segment, epoch: Epoch): void {
  const { clock, limits } = task.engine;
  const now = clock.monotonic();
  // Kept as one promise that covers all that are alive: the lowest epoch and the latest end.
  if (now >= state.leaseUntil || epoch < state.leaseEpoch) state.leaseEpoch = epoch;
  state.leaseUntil = (now + limits.readLeaseMs) as Monotonic;
}

/** OK, unless it failed or a higher epoch arrived before it was durable. */
function whenDurable(task: Task, state: Segment, epoch: Epoch, reply: ReplyCallback): Settle {
  return (failure) => {
    if (failure !== null) task.replies.send(reply, failure, state);
    else if (state.maxEpoch > epoch) task.replies.send(reply, 'STALE', state);
    else task.replies.send(reply, 'OK', state);
  };
}

export function acceptCreate(
  task: Task,
  found: Segment | undefined,
  request: CreateRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  if (found !== undefined) {
    engine.barrier(found, whenDurable(task, found, request.epoch, reply));
    return;
  }
  if (!engine.hasRoom('create')) {
    replies.send(reply, 'FULL', null);
    return;
  }
  if (engine.overloaded) {
    replies.send(reply, 'BUSY', null);
    return;
  }
  const { segment, volume, epoch } = request;
  const state = newSegment(segment, volume);
  state.hasCreate = true;
  state.createEpoch = epoch;
  state.maxEpoch = epoch;
  engine.segments.set(segment, state);
  const answer = whenDurable(task, state, epoch, reply);
  engine.mark(state, { type: 'create', segment, volume, epoch, copy: false }, (failure) => {
    if (failure === null) noteCreated(state, epoch);
    answer(failure);
  });
}

function noteCreated(state: Segment, epoch: Epoch): void {
  state.durable.hasCreate = true;
  if (state.durable.maxEpoch < epoch) state.durable.maxEpoch = epoch;
}

export function acceptAppend(
  task: Task,
  state: Segment,
  request: AppendRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  const { batch, epoch } = request;
  const bytes = batch.length === 1 && batch[0] !== undefined ? batch[0] : Buffer.concat(batch);
  if (request.offset < state.acceptedLength) {
    answerDuplicate(task, state, request, reply);
    return;
  }
  if (engine.overloaded) {
    replies.send(reply, 'BUSY', state);
    return;
  }
  if (!engine.hasRoom('append')) {
    replies.send(reply, 'FULL', state);
    return;
  }
  const decoded = verified(task, state, bytes);
  if (decoded === null) {
    replies.send(reply, 'REFUSED', state);
    return;
  }
  const answer: Settle = (failure) => {
    if (failure !== null) return replies.send(reply, failure, state);
    if (state.maxEpoch > epoch) return replies.send(reply, 'STALE', state);
    promise(task, state, epoch);
    replies.send(reply, 'OK', state);
  };
  if (bytes.length < engine.limits.journalBatchBytes) {
    engine.journaled(state, decoded, [bytes], bytes.length, answer);
  } else {
    engine.direct(state, [decoded], bytes.length, answer);
  }
}

/** The batch, if it is whole and continues the segment; else null, with a line in the log. */
function verified(task: Task, state: Segment, bytes: Uint8Array): BatchBytes | null {
  try {
    const header = decodeWireBatch(bytes);
    const chain = { segment: state.id, volume: state.volume, epoch: state.createEpoch };
    if (!continues(header, chain, state.acceptedLength, state.acceptedCrc)) {
      throw malformed('the batch does not continue the segment');
    }
    if (header.offset + batchSegmentBytes(header) > SEGMENT_HARD_BYTES) {
      throw malformed('the segment would be too large');
    }
    const headEnd = BATCH_HEADER_BYTES + header.bodyLength;
    return { header, head: bytes.subarray(0, headEnd), pages: bytes.subarray(headEnd) };
  } catch (error) {
    refused(task, state, error);
    return null;
  }
}

function refused(task: Task, state: Segment, error: unknown): void {
  if (!(error instanceof HoldfastError)) throw error;
  const fields = { segment: state.id, length: state.acceptedLength, error: error.message };
  task.engine.log.error(fields, 'refused bytes that do not fit their segment');
}

/** Sent again: a statement of what is durable, provided that it is the same batch. */
function answerDuplicate(
  task: Task,
  state: Segment,
  request: AppendRequest,
  reply: ReplyCallback,
): void {
  try {
    const header = decodeBatchHeader(Buffer.concat(request.batch, BATCH_HEADER_BYTES));
    const end = header.offset + batchSegmentBytes(header);
    const known = recentCrc(state, end as Segment['acceptedLength']);
    const conflicts = known === undefined || (known !== null && known !== header.headerCrc);
    if (header.offset !== request.offset || end > state.acceptedLength || conflicts) {
      throw malformed(`another batch stands at ${request.offset}`);
    }
  } catch (error) {
    refused(task, state, error);
    task.replies.send(reply, 'REFUSED', state);
    return;
  }
  promise(task, state, request.epoch);
  task.replies.send(reply, 'OK', state);
}

export function acceptRecover(
  task: Task,
  state: Segment,
  request: RecoverRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  if (engine.overloaded) {
    replies.send(reply, 'BUSY', state);
    return;
  }
  let batches: BatchBytes[];
  try {
    batches = newBatches(task, state, request);
  } catch (error) {
    refused(task, state, error);
    const code = error instanceof HoldfastError ? error.code : 'MALFORMED';
    const status = code === 'DISK_FULL' ? 'FULL' : code === 'MALFORMED' ? 'REFUSED' : 'DISK';
    replies.send(reply, status, state);
    return;
  }
  const answer = whenDurable(task, state, request.epoch, reply);
  if (batches.length === 0) {
    engine.barrier(state, answer);
    return;
  }
  adopt(task, state, request);
  const bytes = batches.reduce((sum, { header }) => sum + batchWireBytes(header), 0);
  if (bytes >= engine.limits.journalBatchBytes) {
    engine.direct(state, batches, bytes, answer);
    return;
  }
  let left = batches.length;
  let failed: Parameters<Settle>[0] = null;
  for (const batch of batches) {
    engine.journaled(state, batch, [batch.head, batch.pages], batchWireBytes(batch.header), (f) => {
      left -= 1;
      failed ??= f;
      if (left === 0) answer(failed);
    });
  }
}

/** A tombstone that a FENCE left becomes a segment by being filled. */
function adopt(task: Task, state: Segment, request: RecoverRequest): void {
  if (state.hasCreate) return;
  const { segment, volume, createEpoch: epoch } = request;
  assert(epoch <= state.maxEpoch, 'a segment is recovered by a later epoch than its own');
  state.hasCreate = true;
  state.createEpoch = epoch;
  task.engine.mark(state, { type: 'create', segment, volume, epoch, copy: false }, (failure) => {
    if (failure === null) noteCreated(state, epoch);
  });
}

/**
 * The verified batches beyond what this replica holds; throws MALFORMED when they conflict with it.
 */
function newBatches(task: Task, state: Segment, request: RecoverRequest): BatchBytes[] {
  const { bytes } = request;
  if (bytes.length === 0 || bytes.length % PAGE_BYTES !== 0) throw malformed('recover: length');
  const chain = { segment: state.id, volume: state.volume, epoch: request.createEpoch };
  const fresh: BatchBytes[] = [];
  let offset: number = request.offset;
  let last: BatchBytes | null = null;
  for (let at = 0; at < bytes.length; ) {
    const header = decodeSegmentBatch(bytes, at);
    const crc: number = last?.header.headerCrc ?? header.prevCrc;
    if (!continues(header, chain, offset, crc)) throw malformed('recover: not a chain');
    last = segmentBatchBytes(header, bytes, at);
    at += batchSegmentBytes(header);
    offset += batchSegmentBytes(header);
    if (header.offset >= state.acceptedLength) fresh.push(last);
    else if (offset > state.acceptedLength) throw malformed('recover: other boundaries');
    else if (offset === state.acceptedLength || at >= bytes.length) sameAsOurs(task, state, last);
  }
  if (offset > SEGMENT_HARD_BYTES) throw malformed('the segment would be too large');
  const first = fresh[0];
  if (first !== undefined && first.header.prevCrc !== state.acceptedCrc) {
    throw malformed('recover: another chain');
  }
  return fresh;
}

/** Throws unless we hold this batch; then we hold all before it, since its crc covers them. */
function sameAsOurs(task: Task, state: Segment, batch: BatchBytes): void {
  const { header } = batch;
  const end = header.offset + batchSegmentBytes(header);
  let known = recentCrc(state, end as Segment['acceptedLength']);
  if (known === null) {
    const file = task.engine.files.get(state.id);
    file.drain();
    const head = Buffer.alloc(BATCH_HEADER_BYTES);
    file.data().readSync(head, header.offset);
    known = decodeBatchHeader(asBuffer(head)).headerCrc;
  }
  if (known !== header.headerCrc) throw malformed(`recover: other bytes stand at ${header.offset}`);
}
