/**
 * Reads a range of a segment batch by batch, in order, with read-ahead, and verifies the chain:
 * each batch stands where it should, belongs to this segment and epoch, and continues the one
 * before it. Takeover and replay are built on it.
 */
import {
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
} from '../block/wire/batch.js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { READ_MAX_IN_FLIGHT, READ_MAX_PAGES } from '../core/limits.js';
import { type Epoch, offset, PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import type { ReadSource, SegmentReader } from './reader.js';

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
  /** The verified batch in segment form, padding included; valid during the callback only. */
  readonly bytes: Buffer;
}

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
  #inFlight = 0;
  /** The next page to ask for, and the next one to be taken into the buffer. */
  #askPage: number;
  #takePage: number;
  /** What was read and not yet decoded: begins at #at. */
  #buffer: Buffer = Buffer.alloc(0);
  #at: SegmentOffset;
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
    while (
      !this.#finished &&
      this.#askPage < this.#endPage &&
      this.#inFlight + this.#early.size < READ_MAX_IN_FLIGHT
    ) {
      const page = this.#askPage;
      const count = Math.min(READ_MAX_PAGES, this.#endPage - page);
      this.#askPage += count;
      this.#inFlight += 1;
      this.#reader.readPages(this.#range, page, count, (error, data) => {
        this.#inFlight -= 1;
        if (this.#finished) return;
        if (error !== null) this.#finish(error);
        else this.#arrived(page, data as Uint8Array);
      });
    }
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
        this.#takePage += next.length / PAGE_BYTES;
        this.#decode(next);
      }
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      this.#finish(thrown);
      return;
    }
    if (this.#at === this.#range.end) this.#finish(this.#endFault());
    else this.pump();
  }

  #decode(data: Uint8Array): void {
    const rest = this.#buffer;
    const buffer =
      rest.length === 0
        ? Buffer.from(data.buffer, data.byteOffset, data.length)
        : Buffer.concat([rest, data]);
    let at = 0;
    while (at < buffer.length) {
      const header = this.#verified(() => decodeBatchHeader(buffer, at));
      const bytes = batchSegmentBytes(header);
      if (this.#at + bytes > this.#range.end) throw this.#fault('it crosses the end');
      if (at + bytes > buffer.length) break;
      this.#check(header);
      this.#verified(() => decodeSegmentBatch(buffer, at));
      this.#onBatch({ header, bytes: buffer.subarray(at, at + bytes) });
      this.#chainCrc = header.headerCrc;
      this.#at = offset(this.#at + bytes);
      at += bytes;
    }
    this.#buffer = buffer.subarray(at);
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

  #verified(decode: () => BatchHeader): BatchHeader {
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
