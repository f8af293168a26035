/**
 * Reads the heads of a segment's batches in order, with read-ahead, and verifies the chain: each
 * batch stands where it should, belongs to this segment and epoch, and continues the one before it.
 * Replay is built on it.
 *
 * Data pages are not needed: a head brings its own checksums (header, and through it entries and
 * table), and the chain ties heads to each other and to the sealed end. Whoever reads a data page
 * later verifies it then, as those of older segments are, so a lost one costs itself only. Runs of
 * small batches are read through, data and all, in large requests; behind a batch with much data
 * the next head is asked for alone; and where a request with data pages fails, only its heads are
 * asked for again.
 */
import {
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  pagesStart,
  verifyHead,
} from '../block/wire/batch.js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { READ_MAX_IN_FLIGHT, READ_MAX_PAGES } from '../core/limits.js';
import { type Epoch, offset, PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import type { SegmentReader } from './reader.js';
import type { ReadSource } from './reader-core.js';

export interface BatchRange extends ReadSource {
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  /** Where a batch begins, and where one ends. */
  readonly from: SegmentOffset;
  readonly end: SegmentOffset;
  /** The chain crc before `from`: 0 at the segment's start. */
  readonly prevCrc: number;
  /** The chain crc at `end`; null when it is not known. */
  readonly endCrc: number | null;
}

export interface ReadBatch {
  readonly header: BatchHeader;
  /** The verified head in segment form, padding included; valid during the callback only. */
  readonly head: Buffer;
}

/** A batch with so many data pages (128 KiB) is skipped: reading them would take longer. */
const SKIPPED_PAGES = 32;
/** How far is read ahead: at the start, and at most. It doubles with each answer. */
const WINDOW_START = 4;
const WINDOW_MAX = READ_MAX_IN_FLIGHT * READ_MAX_PAGES;

/**
 * Gives every batch of the range to `onBatch` in order, then calls `done` once: with null, with
 * what SegmentReader.readPages fails with, or with INCONSISTENT when good pages do not form the
 * chain of batches that they should. A fault that `onBatch` throws ends the reading with it.
 */
export function readBatches(
  reader: Pick<SegmentReader, 'readPages'>,
  range: BatchRange,
  onBatch: (batch: ReadBatch) => void,
  done: (error: HoldfastError | null) => void,
): void {
  assert(range.from % PAGE_BYTES === 0 && range.end % PAGE_BYTES === 0, 'range in whole pages');
  assert(range.from < range.end, 'a range of batches is not empty');
  new BatchReading(reader, range, onBatch, done).pump();
}

class BatchReading {
  readonly #reader: Pick<SegmentReader, 'readPages'>;
  readonly #range: BatchRange;
  readonly #onBatch: (batch: ReadBatch) => void;
  readonly #done: (error: HoldfastError | null) => void;
  readonly #endPage: number;
  /** Answers that came before an earlier one, by their first page. */
  readonly #early = new Map<number, Uint8Array>();
  /** Answers of former runs are not wanted any more. A run is read without gaps. */
  #run = 0;
  #inFlight = 0;
  /** The next page to ask for, and the next one to be taken into the buffer. */
  #askPage: number;
  #takePage: number;
  /** What was read from #at on, up to #takePage. */
  #buffer: Buffer = Buffer.alloc(0);
  /** Where the next batch begins, and how many pages of it are needed at least. */
  #at: SegmentOffset;
  #need = 1;
  /** How many pages from #at on may be asked for ahead of need. */
  #window = WINDOW_START;
  /** Before this page nothing but heads is asked for: a larger request has failed. */
  #headsOnlyTo = 0;
  #chainCrc: number;
  #finished = false;

  constructor(
    reader: Pick<SegmentReader, 'readPages'>,
    range: BatchRange,
    onBatch: (batch: ReadBatch) => void,
    done: (error: HoldfastError | null) => void,
  ) {
    this.#reader = reader;
    this.#range = range;
    this.#onBatch = onBatch;
    this.#done = done;
    this.#endPage = range.end / PAGE_BYTES;
    this.#askPage = range.from / PAGE_BYTES;
    this.#takePage = this.#askPage;
    this.#at = range.from;
    this.#chainCrc = range.prevCrc;
  }

  pump(): void {
    while (!this.#finished && this.#inFlight + this.#early.size < READ_MAX_IN_FLIGHT) {
      const count = this.#nextCount();
      if (count === 0) break;
      this.#ask(count);
    }
  }

  /** How many pages to ask for now: what is needed, more where that pays, none if there is time. */
  #nextCount(): number {
    const atPage = this.#at / PAGE_BYTES;
    const left = Math.min(READ_MAX_PAGES, this.#endPage - this.#askPage);
    const needed = atPage + this.#need - this.#askPage;
    if (this.#headsOnly) return Math.max(0, Math.min(needed, left));
    const ahead = Math.ceil(this.#window / READ_MAX_IN_FLIGHT);
    if (needed > 0) return Math.min(Math.max(needed, ahead), left);
    return this.#askPage + ahead <= atPage + this.#window ? Math.min(ahead, left) : 0;
  }

  get #headsOnly(): boolean {
    return this.#at / PAGE_BYTES < this.#headsOnlyTo;
  }

  #ask(count: number): void {
    const page = this.#askPage;
    const run = this.#run;
    this.#askPage += count;
    this.#inFlight += 1;
    this.#reader.readPages(this.#range, page, count, (error, data) => {
      if (this.#finished || run !== this.#run) return;
      this.#inFlight -= 1;
      if (error === null) this.#arrived(page, data as Uint8Array);
      else if (this.#headsOnly) this.#finish(error);
      else this.#readHeadsOnly(page + count);
    });
  }

  /** What could not be read may be data that nobody needs here. */
  #readHeadsOnly(to: number): void {
    this.#headsOnlyTo = to;
    this.#beginRun();
    this.pump();
  }

  /** Goes on at #at, without what was read or asked for. */
  #beginRun(): void {
    this.#run += 1;
    this.#inFlight = 0;
    this.#early.clear();
    this.#buffer = Buffer.alloc(0);
    this.#askPage = this.#at / PAGE_BYTES;
    this.#takePage = this.#askPage;
    this.#window = 1;
    this.#need = 1;
  }

  #arrived(page: number, data: Uint8Array): void {
    this.#early.set(page, data);
    try {
      for (
        let next = this.#early.get(this.#takePage);
        next !== undefined;
        next = this.#early.get(this.#takePage)
      ) {
        this.#early.delete(this.#takePage);
        this.#take(next);
      }
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      this.#finish(thrown);
      return;
    }
    if (this.#at === this.#range.end) this.#finish(this.#endFault());
    else this.pump();
  }

  /** Adds what follows to the buffer and decodes the heads that are whole now. */
  #take(data: Uint8Array): void {
    const start = this.#takePage * PAGE_BYTES;
    this.#takePage += data.length / PAGE_BYTES;
    this.#window = Math.min(this.#window * 2, WINDOW_MAX);
    // What comes before #at are data pages of the batch that was decoded last.
    const fresh = Buffer.from(data.buffer, data.byteOffset, data.length).subarray(
      Math.min(data.length, Math.max(0, this.#at - start)),
    );
    this.#buffer = this.#buffer.length === 0 ? fresh : Buffer.concat([this.#buffer, fresh]);
    while (this.#at < this.#range.end && this.#buffer.length > 0) {
      const header = this.#verified(() => decodeBatchHeader(this.#buffer));
      const headBytes = pagesStart(header);
      this.#need = headBytes / PAGE_BYTES;
      if (this.#at + batchSegmentBytes(header) > this.#range.end) {
        throw this.#fault('it crosses the end');
      }
      if (headBytes > this.#buffer.length) break;
      this.#check(header);
      const head = this.#buffer.subarray(0, headBytes);
      this.#verified(() => verifyHead(header, head));
      this.#onBatch({ header, head });
      this.#step(header);
    }
  }

  /** To the next batch. */
  #step(header: BatchHeader): void {
    const bytes = batchSegmentBytes(header);
    this.#chainCrc = header.headerCrc;
    this.#at = offset(this.#at + bytes);
    this.#need = 1;
    this.#buffer = this.#buffer.subarray(bytes);
    if (header.pageCount >= SKIPPED_PAGES) this.#window = 1;
    else if (!this.#headsOnly) return;
    if (this.#at / PAGE_BYTES > this.#askPage) this.#beginRun();
    if (!this.#headsOnly) this.#need = pagesStart(header) / PAGE_BYTES;
  }

  #check(header: BatchHeader): void {
    const { volume, segment, createEpoch } = this.#range;
    if (header.volume !== volume) throw this.#fault(`it is of volume ${header.volume}`);
    if (header.segment !== segment) throw this.#fault(`it is of segment ${header.segment}`);
    if (header.epoch !== createEpoch) {
      throw this.#fault(`it is of epoch ${header.epoch}, the segment of ${createEpoch}`);
    }
    if (header.offset !== this.#at) throw this.#fault(`it belongs at ${header.offset}`);
    if (header.prevCrc !== this.#chainCrc) {
      throw this.#fault('it does not continue the batch before it');
    }
  }

  #verified<T>(decode: () => T): T {
    try {
      return decode();
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'MALFORMED') {
        throw this.#fault(thrown.message);
      }
      throw thrown;
    }
  }

  #fault(what: string): HoldfastError {
    const { segment } = this.#range;
    return new HoldfastError(
      'INCONSISTENT',
      `the batch at ${this.#at} of segment ${segment} does not fit: ${what}`,
    );
  }

  #endFault(): HoldfastError | null {
    const { endCrc, segment, end } = this.#range;
    if (endCrc === null || endCrc === this.#chainCrc) return null;
    const message = `segment ${segment} does not end at ${end} with its sealed checksum`;
    return new HoldfastError('INCONSISTENT', message);
  }

  #finish(error: HoldfastError | null): void {
    this.#finished = true;
    this.#early.clear();
    this.#buffer = Buffer.alloc(0);
    this.#done(error);
  }
}
