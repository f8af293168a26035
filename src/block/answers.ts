/**
 * FENCE, READ and LOCATE. A FENCE takes effect at once; its answer waits for its flush, for
 * everything that was accepted before it, and for the read-lease promises that lower epochs were
 * given.
 */
import { HoldfastError } from '../core/errors.js';
import { BATCH_MAX_BYTES, LOCATE_MAX_PAGES, READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { ReplyCallback } from './disk-store-api.js';
import { newSegment, type Segment } from './replica-state.js';
import { dataPath, type SegmentFile } from './segment-file.js';
import { decide, suspectFrom } from './segment-table.js';
import type { Task } from './task.js';
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
  pagesStart,
} from './wire/batch.js';
import type { FenceRequest, LocateRequest, ReadRequest } from './wire/messages.js';

export function answerFence(
  task: Task,
  found: Segment | undefined,
  request: FenceRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  const { segment, volume, epoch } = request;
  const state = found ?? newSegment(segment, volume);
  if (found === undefined) {
    // A disk that once lost journal groups cannot say that it never knew a segment.
    state.suspect = engine.amnesia;
    engine.segments.set(segment, state);
  }
  const deadline = request.released ? 0 : leaseDeadline(task, state, request);
  // In force from now on: no append of a lower epoch is acknowledged any more, nor a promise given.
  state.maxEpoch = epoch;
  replies.counts.waiting += 1;
  const answer = (): void => {
    replies.counts.waiting -= 1;
    sendFence(task, state, request, reply);
  };
  engine.mark(state, { type: 'fence', segment, volume, epoch }, (failure) => {
    if (failure !== null) {
      replies.counts.waiting -= 1;
      return replies.send(reply, failure, state);
    }
    if (state.durable.maxEpoch < epoch) state.durable.maxEpoch = epoch;
    const wait = deadline - engine.clock.monotonic();
    if (wait <= 0) answer();
    else engine.clock.after(wait, answer);
  });
}

/** When no promise to a lower epoch is alive any more, also of those given before this start. */
function leaseDeadline(task: Task, state: Segment, request: FenceRequest): number {
  const { startedAt, limits } = task.engine;
  const before = startedAt + limits.readLeaseMs;
  return request.epoch > state.leaseEpoch ? Math.max(before, state.leaseUntil) : before;
}

function sendFence(task: Task, state: Segment, request: FenceRequest, reply: ReplyCallback): void {
  const { engine, replies } = task;
  const finish = (firstBatch: Uint8Array | null): void => {
    if (state.maxEpoch > request.epoch) {
      replies.send(reply, 'STALE', state);
      return;
    }
    if (state.deleted) {
      replies.send(reply, 'DELETED', state);
      return;
    }
    if (engine.state === 'failed') {
      replies.send(reply, 'DISK', state);
      return;
    }
    const sealed = state.durable.sealed;
    const body = { type: 'fence', suspectFrom: suspectFrom(state), firstBatch, sealed } as const;
    replies.send(reply, 'OK', state, body);
  };
  if (state.durableLength === 0 || state.deleted || engine.state === 'failed') finish(null);
  else readFirstBatch(task, state, finish);
}

/** The header batch in wire form; null when it cannot be read. */
function readFirstBatch(
  task: Task,
  state: Segment,
  done: (batch: Uint8Array | null) => void,
): void {
  const file = task.engine.files.get(state.id);
  const read = (bytes: number): void => {
    const into = Buffer.alloc(Math.min(bytes, state.durableLength));
    file.read(into, 0, (error, bytesRead) => {
      if (error !== null) return done(null);
      const header = wholeBatch(into.subarray(0, bytesRead));
      if (header === 'longer' && bytes < BATCH_MAX_BYTES) {
        read(BATCH_MAX_BYTES);
        return;
      }
      if (header === null || header === 'longer') {
        done(null);
        return;
      }
      const head = into.subarray(0, BATCH_HEADER_BYTES + header.bodyLength);
      const pages = into.subarray(pagesStart(header), batchSegmentBytes(header));
      done(Buffer.concat([head, pages]));
    });
  };
  read(PAGE_BYTES);
}

/**
 * The header of the verified batch at the start of `bytes`; 'longer' when it goes on behind them.
 */
function wholeBatch(bytes: Buffer): BatchHeader | 'longer' | null {
  try {
    const header = decodeBatchHeader(bytes);
    if (batchSegmentBytes(header) > bytes.length) return 'longer';
    return decodeSegmentBatch(bytes);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    return null;
  }
}

function isFull({ code }: HoldfastError): boolean {
  return code === 'DISK_FULL';
}

/** Writes what the journal has to its file; why that cannot be done, or null. */
function drainFault(file: SegmentFile): HoldfastError | null {
  try {
    file.drain();
    return null;
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
}

/** Whether what the journal has cannot be written to its file just now: that is no damage. */
function isBlocked(file: SegmentFile): boolean {
  const fault = drainFault(file);
  return fault !== null && isFull(fault);
}

/** What single pages are read into, one behind the other: cheaper than memory for each. */
const SLAB_BYTES = 64 * 1024;
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabAt = 0;

/** Memory for a reply, which lives until it is sent; so a few pages do not hold up a whole slab. */
function replyMemory(bytes: number): Buffer {
  if (bytes > SLAB_BYTES / 4) return Buffer.allocUnsafeSlow(bytes);
  if (slabAt + bytes > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabAt = 0;
  }
  slabAt += bytes;
  return slab.subarray(slabAt - bytes, slabAt);
}

export function answerRead(
  task: Task,
  state: Segment,
  request: ReadRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  const { page, count } = request;
  if (count < 1 || count > READ_MAX_PAGES) {
    replies.send(reply, 'REFUSED', state);
    return;
  }
  const file = engine.files.get(state.id);
  const data = replyMemory(count * PAGE_BYTES);
  file.read(data, page * PAGE_BYTES, (error, bytesRead) => {
    const verdict = decide(state, request);
    if (verdict.act === 'answer') return replies.send(reply, verdict.status, state);
    const sums = error === null ? file.checksums(page, count, state.durableLength) : null;
    const isHeldBack = error === null ? sums === null && isBlocked(file) : isFull(error);
    if (isHeldBack) return replies.send(reply, 'BUSY', state);
    let good = error === null && bytesRead === data.length && sums !== null;
    for (let i = 0; good && i < count; i++) {
      good = file.checksummer.page(data, i * PAGE_BYTES, page + i) === sums?.[i];
    }
    if (!good || sums === null) {
      replies.counts.checksumFailures += 1;
      if (state.sealed) replies.rotten.set(state.id, state.volume);
      const fields = { disk: engine.disk.name, segment: state.id, page, count };
      engine.log.error(fields, 'pages cannot be read or fail their checksum');
      return replies.send(reply, 'DISK', state);
    }
    replies.counts.reads += 1;
    replies.counts.bytesRead += data.length;
    replies.send(reply, 'OK', state, { type: 'read', page, data, checksums: sums });
  });
}

/**
 * What is durable is in the file when the answer leaves; the reader verifies what it finds there
 * all the same.
 */
export function answerLocate(
  task: Task,
  state: Segment,
  request: LocateRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies } = task;
  const { page } = request;
  const file = engine.files.get(state.id);
  const fault = drainFault(file);
  if (fault !== null) {
    replies.send(reply, isFull(fault) ? 'BUSY' : 'DISK', state);
    return;
  }
  const path = engine.disk.placeOf(dataPath(state.id));
  const count = Math.min(LOCATE_MAX_PAGES, state.durableLength / PAGE_BYTES - page);
  const checksums = file.checksums(page, count, state.durableLength);
  if (checksums === null) replies.send(reply, 'DISK', state);
  else replies.send(reply, 'OK', state, { type: 'locate', page, path, checksums });
}
