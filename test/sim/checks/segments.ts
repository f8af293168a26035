/**
 * What every segment's bytes are: the batches as their owner first sent them. For one (segment,
 * offset) only one byte string may ever exist (invariant 3), batches follow each other without a
 * hole, and a spare's header says where the segment before it was frozen (invariant 8).
 */
import {
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeEntries,
} from '../../../src/block/wire/batch.js';
import { decodeSegmentHeader, type SegmentHeader } from '../../../src/block/wire/segment-header.js';
import { crc32 } from '../../../src/core/checksum.js';
import type { SegmentId, VolumeId } from '../../../src/core/ids.js';
import { must, short, Violation } from '../violation.js';

export interface GhostBatch {
  readonly offset: number;
  readonly end: number;
  readonly firstLsn: number;
  /** CRC-32 of each record. */
  readonly records: readonly number[];
  readonly prevCrc: number;
  readonly crc: number;
}

export interface GhostSegment {
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  readonly epoch: number;
  readonly header: SegmentHeader;
  readonly batches: GhostBatch[];
  readonly byOffset: Map<number, GhostBatch>;
  /** Where its owner rolled away from it. */
  frozenAt: number | null;
  /** The end of the last acknowledged batch. */
  ackedEnd: number;
}

export class SegmentGhosts {
  readonly #segments = new Map<SegmentId, GhostSegment>();

  get(segment: SegmentId): GhostSegment | null {
    return this.#segments.get(segment) ?? null;
  }

  /** An owner sends a batch in wire form, its head being `head`. */
  sent(head: Uint8Array): void {
    const header = decodeBatchHeader(head);
    const known = this.#segments.get(header.segment);
    const same = known?.byOffset.get(header.offset);
    if (same !== undefined) {
      must(same.crc === header.headerCrc, 3, () => `${place(header)} has two contents`);
      return;
    }
    if (known === undefined) this.#first(header, head);
    else this.#next(known, header, head);
  }

  #first(header: BatchHeader, head: Uint8Array): void {
    must(header.offset === 0, 3, () => `${place(header)} is sent before the segment's header`);
    const [entry] = decodeEntries(header, head);
    if (entry === undefined) throw new Violation(3, `${place(header)}: no segment header`);
    const segmentHeader = decodeSegmentHeader(entry.record);
    const ghost: GhostSegment = {
      segment: header.segment,
      volume: header.volume,
      epoch: header.epoch,
      header: segmentHeader,
      batches: [],
      byOffset: new Map(),
      frozenAt: null,
      ackedEnd: 0,
    };
    this.#segments.set(header.segment, ghost);
    this.#add(ghost, header, []);
    const { previous } = segmentHeader;
    const before = previous === null ? undefined : this.#segments.get(previous.segment);
    if (previous === null || before === undefined || before.epoch !== header.epoch) return;
    must(before.frozenAt === null || before.frozenAt === previous.end, 8, () => {
      const what = `${short(before.segment)} is frozen at ${before.frozenAt}`;
      return `${what} and again at ${previous.end}`;
    });
    before.frozenAt = previous.end;
  }

  #next(known: GhostSegment, header: BatchHeader, head: Uint8Array): void {
    const last = known.batches[known.batches.length - 1] as GhostBatch;
    must(header.epoch === known.epoch, 3, () => `${place(header)} is of epoch ${header.epoch}`);
    must(header.offset === last.end, 3, () => `${place(header)} leaves a hole after ${last.end}`);
    must(
      header.prevCrc === last.crc,
      3,
      () => `${place(header)} does not chain to its predecessor`,
    );
    const lsn = last.firstLsn + last.records.length;
    must(header.firstLsn === lsn, 1, () => {
      return `${place(header)} begins with LSN ${header.firstLsn}, ${lsn} is next`;
    });
    const records = decodeEntries(header, head).map((entry) => crc32(entry.record));
    this.#add(known, header, records);
  }

  #add(ghost: GhostSegment, header: BatchHeader, records: readonly number[]): void {
    const batch: GhostBatch = {
      offset: header.offset,
      end: header.offset + batchSegmentBytes(header),
      firstLsn: header.firstLsn,
      records,
      prevCrc: header.prevCrc,
      crc: header.headerCrc,
    };
    ghost.batches.push(batch);
    ghost.byOffset.set(batch.offset, batch);
  }

  /** A taker sends whole batches in segment form: they must be the ones that the owner wrote. */
  recovered(segment: SegmentId, offset: number, bytes: Uint8Array): void {
    const known = this.#segments.get(segment);
    let at = 0;
    while (at < bytes.length) {
      const header = decodeBatchHeader(bytes, at);
      const same = known?.byOffset.get(offset + at);
      must(same?.crc === header.headerCrc, 3, () => `RECOVER of ${place(header)} invents bytes`);
      at += batchSegmentBytes(header);
    }
  }

  /** The batch that ends exactly at `end`, or null. */
  endingAt(segment: SegmentId, end: number): GhostBatch | null {
    const known = this.#segments.get(segment);
    if (known === undefined) return null;
    let low = 0;
    let high = known.batches.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const batch = known.batches[middle] as GhostBatch;
      if (batch.end === end) return batch;
      if (batch.end < end) low = middle + 1;
      else high = middle - 1;
    }
    return null;
  }

  /** The batch that holds this LSN. */
  holding(segment: SegmentId, lsn: number): GhostBatch | null {
    const known = this.#segments.get(segment);
    if (known === undefined) return null;
    let low = 0;
    let high = known.batches.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const batch = known.batches[middle] as GhostBatch;
      if (lsn < batch.firstLsn) high = middle - 1;
      else if (lsn >= batch.firstLsn + batch.records.length) low = middle + 1;
      else return batch;
    }
    return null;
  }
}

function place(header: BatchHeader): string {
  return `batch ${short(header.segment)}@${header.offset}`;
}
