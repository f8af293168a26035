/**
 * COPY: makes this disk a full copy of a sealed segment. It keeps what verifies, fetches the rest
 * from other nodes page by page, and verifies page checksums and the chain of batches up to the
 * sealed end. The same walk repairs bad pages of a copy that is sealed already.
 *
 * INVARIANT: the segment counts as a copy only when the SEAL entry is durable, after all its bytes.
 */
import { type HoldfastError, malformed } from '../core/errors.js';
import { READ_MAX_PAGES, REQUEST_TIMEOUT_MS } from '../core/limits.js';
import { offset, PAGE_BYTES, pageIndex, type SegmentOffset } from '../core/units.js';
import { continues, segmentBatchBytes, walkChain } from './chain.js';
import { seal } from './confirmed.js';
import type { ReplyCallback } from './disk-store-api.js';
import type { BatchBytes } from './replica-state.js';
import { newSegment, type Segment } from './replica-state.js';
import type { SegmentFile } from './segment-file.js';
import type { Task } from './task.js';
import {
  BATCH_HEADER_BYTES,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
} from './wire/batch.js';
import type { CopyRequest, Reply, StatusName } from './wire/messages.js';

export function confirmCopy(task: Task, request: CopyRequest, reply: ReplyCallback): void {
  const { engine, replies, confirmations, copies } = task;
  const { volume, segment, end, crc } = request;
  const removals = engine.segments.get(segment)?.removals ?? 0;
  copies.set(segment, (copies.get(segment) ?? 0) + 1);
  confirmations.copyable(request, (answer) => {
    const waiting = (copies.get(segment) ?? 0) - 1;
    if (waiting > 0) copies.set(segment, waiting);
    else copies.delete(segment);
    const found = engine.segments.get(segment);
    if (engine.state === 'failed') return replies.send(reply, 'DISK', found);
    if (answer !== 'confirmed') return replies.send(reply, 'UNCONFIRMED', found);
    // A removal that was answered meanwhile may be newer than what was confirmed.
    if (found !== undefined && found.removals !== removals) {
      return replies.send(reply, found.deleted ? 'DELETED' : 'BUSY', found);
    }
    if (found?.frozen || found?.dropping || found?.removing) {
      return replies.send(reply, 'BUSY', found);
    }
    const isSealed = found?.sealed && !found.deleted;
    if (isSealed && (found.durableLength !== end || found.durableCrc !== crc)) {
      return replies.send(reply, 'REFUSED', found);
    }
    const grows = found === undefined || found.durableLength < end;
    if (grows && !engine.hasRoom('create')) return replies.send(reply, 'FULL', found);
    const state = found ?? newSegment(segment, volume);
    engine.segments.set(segment, state);
    state.frozen = true;
    prepare(task, state, request);
    engine.barrier(state, (failure) => {
      const finish = (status: StatusName): void => {
        if (!state.deleted) state.frozen = false;
        replies.send(reply, status, state);
      };
      if (failure !== null) finish(failure);
      else new Copy(task, state, request, finish).start();
    });
  });
}

/** An unknown segment or a tombstone becomes one that is suspect until it is complete. */
function prepare(task: Task, state: Segment, request: CopyRequest): void {
  if (state.deleted) {
    // Dropped here once, and wanted again: ids are never reused, so these are the same bytes.
    state.deleted = false;
    state.dropped = false;
    state.hasCreate = false;
    state.sealed = false;
    state.durable.hasCreate = false;
    state.durable.sealed = false;
  }
  if (state.hasCreate) return;
  const { segment, volume, createEpoch: epoch } = request;
  state.hasCreate = true;
  state.createEpoch = epoch;
  if (state.maxEpoch < epoch) state.maxEpoch = epoch;
  state.suspect = true;
  task.engine.mark(state, { type: 'create', segment, volume, epoch, copy: true }, (failure) => {
    if (failure !== null) return;
    state.durable.hasCreate = true;
    state.durable.deleted = false;
    if (state.durable.maxEpoch < epoch) state.durable.maxEpoch = epoch;
  });
}

class Copy {
  readonly #task: Task;
  readonly #state: Segment;
  readonly #request: CopyRequest;
  readonly #finish: (status: StatusName) => void;
  readonly #file: SegmentFile;
  #at: SegmentOffset = offset(0);
  #crc = 0;
  /** Fetched from #at on, and not yet a whole batch. */
  #fetched: Buffer = Buffer.alloc(0);
  #source = 0;
  /** Sources in a row that could not help. */
  #misses = 0;

  constructor(
    task: Task,
    state: Segment,
    request: CopyRequest,
    finish: (status: StatusName) => void,
  ) {
    this.#task = task;
    this.#state = state;
    this.#request = request;
    this.#finish = finish;
    this.#file = task.engine.files.get(state.id);
    this.#file.pin(1);
  }

  start(): void {
    if (!this.#state.sealed) this.#file.forgetChecksums();
    this.#walk();
  }

  #end(status: StatusName): void {
    this.#file.pin(-1);
    this.#finish(status);
  }

  /** True, after answering, when there is nothing left to copy to. */
  #over(): boolean {
    const { state } = this.#task.engine;
    if (this.#state.deleted) this.#end('DELETED');
    else if (state === 'failed' || state === 'closed') this.#end('DISK');
    else return false;
    return true;
  }

  /** Skips what is here and good. */
  #walk(): void {
    if (this.#over()) return;
    const { id: segment, volume } = this.#state;
    const { createEpoch: epoch, end: until } = this.#request;
    try {
      this.#file.drain();
      const from = { from: this.#at, crc: this.#crc, until };
      const onBatch = (batch: BatchBytes): void => this.#file.entered(batch);
      const file = this.#file.data();
      walkChain({ file, segment, volume, epoch, ...from, onBatch }, ({ end, crc }) => {
        this.#at = end;
        this.#crc = crc;
        if (end === until) this.#complete();
        else this.#fetch();
      });
    } catch (error) {
      this.#fail(error as HoldfastError);
    }
  }

  #fail(error: HoldfastError): void {
    if (error.code === 'DISK_FULL') {
      this.#end('FULL');
      return;
    }
    this.#task.engine.fail(error);
    this.#end('DISK');
  }

  #fetch(): void {
    if (this.#over()) return;
    const { sources, end, segment } = this.#request;
    const source = sources[this.#source % Math.max(1, sources.length)];
    if (source === undefined || this.#misses >= sources.length * 2) {
      this.#end('BUSY');
      return;
    }
    // A long copy may meet a disk that fills meanwhile: the reserve is not for copies.
    if (!this.#state.sealed && !this.#task.engine.hasRoom('append')) {
      this.#end('FULL');
      return;
    }
    const from = this.#at + this.#fetched.length;
    const count = Math.min(READ_MAX_PAGES, (end - from) / PAGE_BYTES);
    if (count <= 0) {
      this.#otherSource('the batches do not end where the segment does');
      return;
    }
    const page = pageIndex(from / PAGE_BYTES);
    const { incarnation } = source;
    const read = { type: 'read', incarnation, segment, page, count } as const;
    this.#task.requests.send(source, read, REQUEST_TIMEOUT_MS, (error, reply) => {
      if (this.#over()) return;
      const data = reply === null ? null : this.#goodPages(reply, page, count, incarnation);
      if (data === null) return this.#otherSource(error?.message ?? reply?.status ?? 'bad pages');
      this.#fetched = Buffer.concat([this.#fetched, data]);
      this.#take();
    });
  }

  #goodPages(reply: Reply, page: number, count: number, incarnation: string): Uint8Array | null {
    const { status, body } = reply;
    if (status !== 'OK' || reply.incarnation !== incarnation || body?.type !== 'read') return null;
    if (body.page !== page || body.data.length !== count * PAGE_BYTES) return null;
    if (body.checksums.length !== count) return null;
    const { checksummer } = this.#file;
    for (let i = 0; i < count; i++) {
      if (checksummer.page(body.data, i * PAGE_BYTES, page + i) !== body.checksums[i]) return null;
    }
    return body.data;
  }

  #otherSource(reason: string): void {
    const { segment } = this.#request;
    this.#task.engine.log.warn({ segment, offset: this.#at, reason }, 'a source of a copy failed');
    this.#fetched = Buffer.alloc(0);
    this.#source += 1;
    this.#misses += 1;
    this.#fetch();
  }

  /** Writes the whole batches among what was fetched. */
  #take(): void {
    let batches: BatchBytes[];
    try {
      batches = this.#wholeBatches();
    } catch (error) {
      this.#otherSource((error as HoldfastError).message);
      return;
    }
    const last = batches.at(-1);
    if (last === undefined) {
      this.#fetch();
      return;
    }
    this.#misses = 0;
    this.#fetched = Buffer.alloc(0);
    this.#file.writeDirect(batches, (error) => {
      if (error !== null) return this.#fail(error);
      for (const batch of batches) this.#file.entered(batch);
      const start = this.#at;
      this.#at = offset(last.header.offset + batchSegmentBytes(last.header));
      this.#task.engine.noteWritten(this.#at - start);
      if (this.#state.sealed) this.#task.replies.counts.repairedBytes += this.#at - start;
      this.#crc = last.header.headerCrc;
      if (this.#at === this.#request.end) this.#complete();
      else this.#walk();
    });
  }

  #wholeBatches(): BatchBytes[] {
    const bytes = this.#fetched;
    const chain = {
      segment: this.#state.id,
      volume: this.#state.volume,
      epoch: this.#request.createEpoch,
    };
    const batches: BatchBytes[] = [];
    let crc = this.#crc;
    for (let at = 0; bytes.length - at >= BATCH_HEADER_BYTES; ) {
      const header = decodeBatchHeader(bytes, at);
      if (!continues(header, chain, this.#at + at, crc)) throw malformed('copy: not the chain');
      if (at + batchSegmentBytes(header) > bytes.length) break;
      decodeSegmentBatch(bytes, at);
      batches.push(segmentBatchBytes(header, bytes, at));
      at += batchSegmentBytes(header);
      crc = header.headerCrc;
    }
    return batches;
  }

  /** All bytes are here: makes them durable, then the SEAL. */
  #complete(): void {
    if (this.#over()) return;
    const { end, crc, segment } = this.#request;
    if (this.#crc !== crc) {
      const fields = { segment, end, expected: crc, found: this.#crc };
      this.#task.engine.log.error(fields, 'a copied chain is not the one that was sealed');
      this.#end('SUSPECT');
      return;
    }
    this.#file.settle((error) => {
      if (error !== null) return this.#fail(error);
      if (this.#over()) return;
      if (this.#state.sealed) return this.#end('OK');
      seal(this.#task, this.#state, end, crc, (status) => this.#end(status));
    });
  }
}
