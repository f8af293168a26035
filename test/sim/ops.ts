/**
 * What the workload writes: records and pages whose bytes follow from the volume and the
 * operation's number.
 */
import type { BatchEntry } from '../../src/block/wire/batch.js';
import { crc32 } from '../../src/core/checksum.js';
import type { SegmentId } from '../../src/core/ids.js';
import { KIB, PAGE_BYTES } from '../../src/core/units.js';
import type { SimRandom } from '../fixtures/sim-random.js';

export interface Op {
  readonly number: number;
  readonly record: Buffer;
  readonly pageCount: number;
  readonly crc: number;
}

/** An acknowledged operation and where its pages stand. */
export interface AckedOp {
  readonly op: Op;
  readonly lsn: number;
  readonly segment: SegmentId;
  readonly firstPage: number;
}

/** Mostly small records with a page or none; sometimes batches that bypass the journal. */
export function makeOp(volume: number, number: number, random: SimRandom, largeChance: number): Op {
  const large = random.chance(largeChance);
  const pageCount = large ? 12 + random.below(30) : random.pick([0, 0, 1, 1, 2, 4]);
  const extra = random.chance(0.02) ? random.below(40 * KIB) : random.below(300);
  const record = Buffer.alloc(16 + extra, number & 0xff);
  record.writeUInt32LE(volume, 0);
  record.writeUInt32LE(number, 4);
  record.writeUInt32LE(pageCount, 8);
  record.writeUInt32LE(record.length, 12);
  return { number, record, pageCount, crc: crc32(record) };
}

const pattern = Buffer.alloc(16);

export function pageBytes(volume: number, number: number, index: number, into: Buffer): void {
  pattern.writeUInt32LE(volume, 0);
  pattern.writeUInt32LE(number, 4);
  pattern.writeUInt32LE(index, 8);
  pattern.writeUInt32LE(~number >>> 0, 12);
  into.fill(pattern);
}

export function entryOf(volume: number, op: Op): BatchEntry {
  if (op.pageCount === 0) return { record: op.record, pages: [] };
  const pages = Buffer.allocUnsafe(op.pageCount * PAGE_BYTES);
  for (let i = 0; i < op.pageCount; i++) {
    const page = pages.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
    pageBytes(volume, op.number, i, page);
  }
  return { record: op.record, pages: [pages] };
}

const expected = Buffer.alloc(PAGE_BYTES);

/**
 * Index of the first page of `data` that is not page `first + i` of the operation; -1 if all are
 * right.
 */
export function firstWrongPage(volume: number, op: Op, first: number, data: Uint8Array): number {
  for (let i = 0; i * PAGE_BYTES < data.length; i++) {
    pageBytes(volume, op.number, first + i, expected);
    if (!expected.equals(data.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES))) return i;
  }
  return -1;
}
