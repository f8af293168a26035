/**
 * The batch: what one append carries, the unit of commit. docs/FORMATS.md §Batch is the same in
 * words.
 *
 * In a segment a batch begins at a page boundary:
 *   [ header 128 B | entries | page checksum table ] padded with zeroes to a page | data pages
 * On the wire and in a journal the padding is left out. `bodyCrc` covers entries and table; the
 * table covers the data pages; `headerCrc` covers the header, so with `prevCrc` one number, the
 * chain crc, covers everything up to the end of a batch.
 *
 * INVARIANT: for one (segment, offset) only one byte string ever exists. Writers encode a batch
 * once and keep the bytes for every resend.
 */
import { assert } from '../../core/assert.js';
import { crc32, PageChecksummer } from '../../core/checksum.js';
import { asBuffer, readId, readU64, writeId, writeU64 } from '../../core/codec.js';
import { HoldfastError, malformed } from '../../core/errors.js';
import type { SegmentId, VolumeId } from '../../core/ids.js';
import {
  BATCH_MAX_BYTES,
  BATCH_MAX_RECORDS,
  RECORD_MAX_BYTES,
  SEGMENT_FORMAT_MAX_BYTES,
} from '../../core/limits.js';
import {
  alignToPage,
  type Epoch,
  epoch,
  type Lsn,
  lsn,
  offset,
  PAGE_BYTES,
  type SegmentOffset,
} from '../../core/units.js';

/** "HFB1", little-endian. */
export const BATCH_MAGIC = 0x31424648;
export const BATCH_VERSION = 1;
export const BATCH_HEADER_BYTES = 128;
/** The first batch of a segment, whose only record is the segment header (segment-header.ts). */
export const FLAG_SEGMENT_HEADER = 1;

const ENTRY_HEADER_BYTES = 8;
const HEADER_CRC_AT = 124;
/** What stands between a head and the next page, and more. */
const PADDING = Buffer.alloc(PAGE_BYTES);

export interface BatchHeader {
  readonly flags: number;
  readonly volume: VolumeId;
  readonly segment: SegmentId;
  readonly epoch: Epoch;
  readonly offset: SegmentOffset;
  readonly firstLsn: Lsn;
  /** Records that have an LSN. 0 in a segment's first batch. */
  readonly count: number;
  readonly pageCount: number;
  /** How far the writer knew the segment to be committed when it encoded this batch. */
  readonly commitOffset: SegmentOffset;
  /** headerCrc of the batch before it in this segment; 0 for the first. */
  readonly prevCrc: number;
  /** Entries and page checksum table, without padding and pages. */
  readonly bodyLength: number;
  readonly bodyCrc: number;
  readonly headerCrc: number;
}

/** One record and the data pages that belong to it. */
export interface BatchEntry {
  readonly record: Uint8Array;
  /** A multiple of 4096 bytes, possibly none. */
  readonly pages: readonly Uint8Array[];
}

export interface BatchIdentity {
  readonly volume: VolumeId;
  readonly segment: SegmentId;
  readonly epoch: Epoch;
  readonly offset: SegmentOffset;
  readonly firstLsn: Lsn;
  readonly commitOffset: SegmentOffset;
  readonly prevCrc: number;
  readonly segmentHeader?: boolean;
}

export interface EncodedBatch {
  readonly header: BatchHeader;
  /** Header and body as the first part, then the entries' pages as they were given. */
  readonly parts: readonly Uint8Array[];
  readonly wireBytes: number;
  /** Bytes in the segment, padding included. */
  readonly segmentBytes: number;
  /** Page index in the segment of each entry's first page. */
  readonly entryPages: readonly number[];
}

/** Bytes of header, entries and table before padding. */
function headBytes(header: Pick<BatchHeader, 'bodyLength'>): number {
  return BATCH_HEADER_BYTES + header.bodyLength;
}

/** Offset within the batch (in the segment) at which its data pages begin. */
export function pagesStart(header: Pick<BatchHeader, 'bodyLength'>): number {
  return alignToPage(headBytes(header));
}

export function batchSegmentBytes(header: Pick<BatchHeader, 'bodyLength' | 'pageCount'>): number {
  return pagesStart(header) + header.pageCount * PAGE_BYTES;
}

export function batchWireBytes(header: Pick<BatchHeader, 'bodyLength' | 'pageCount'>): number {
  return headBytes(header) + header.pageCount * PAGE_BYTES;
}

/** What an entry adds to a batch's size in the segment, not counting padding of the head. */
export function entryBytes(recordBytes: number, pageBytes: number): number {
  return ENTRY_HEADER_BYTES + recordBytes + pageBytes + (pageBytes / PAGE_BYTES) * 4;
}

function pageBytesOf(entry: BatchEntry): number {
  let bytes = 0;
  for (const part of entry.pages) {
    assert(part.length % PAGE_BYTES === 0, 'data in whole pages');
    bytes += part.length;
  }
  return bytes;
}

/**
 * Encodes a batch. The entries' pages are referenced, not copied: they must never change
 * afterwards.
 */
export function encodeBatch(identity: BatchIdentity, entries: readonly BatchEntry[]): EncodedBatch {
  const isHeader = identity.segmentHeader === true;
  assert(identity.offset % PAGE_BYTES === 0, 'a batch begins at a page boundary');
  assert(entries.length >= 1 && entries.length <= BATCH_MAX_RECORDS, 'records of a batch');
  assert(!isHeader || (entries.length === 1 && identity.offset === 0), 'segment header batch');
  let recordBytes = 0;
  let pageBytes = 0;
  for (const entry of entries) {
    assert(entry.record.length <= RECORD_MAX_BYTES, 'record too large');
    recordBytes += ENTRY_HEADER_BYTES + entry.record.length;
    pageBytes += pageBytesOf(entry);
  }
  const pageCount = pageBytes / PAGE_BYTES;
  const bodyLength = recordBytes + pageCount * 4;
  const head = Buffer.allocUnsafe(BATCH_HEADER_BYTES + bodyLength);
  const firstPage = (identity.offset + pagesStart({ bodyLength })) / PAGE_BYTES;
  const checksummer = new PageChecksummer(identity.segment);
  const parts: Uint8Array[] = [head];
  const entryPages: number[] = [];
  let at = BATCH_HEADER_BYTES;
  let tableAt = BATCH_HEADER_BYTES + recordBytes;
  let page = firstPage;
  for (const entry of entries) {
    entryPages.push(page);
    const before = page;
    for (const part of entry.pages) {
      parts.push(part);
      for (let start = 0; start < part.length; start += PAGE_BYTES) {
        head.writeUInt32LE(checksummer.page(part, start, page), tableAt);
        tableAt += 4;
        page += 1;
      }
    }
    head.writeUInt32LE(entry.record.length, at);
    head.writeUInt32LE(page - before, at + 4);
    head.set(entry.record, at + ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES + entry.record.length;
  }
  const bodyCrc = crc32(head.subarray(BATCH_HEADER_BYTES));
  const header = {
    flags: isHeader ? FLAG_SEGMENT_HEADER : 0,
    volume: identity.volume,
    segment: identity.segment,
    epoch: identity.epoch,
    offset: identity.offset,
    firstLsn: identity.firstLsn,
    count: isHeader ? 0 : entries.length,
    pageCount,
    commitOffset: identity.commitOffset,
    prevCrc: identity.prevCrc,
    bodyLength,
    bodyCrc,
    headerCrc: 0,
  };
  header.headerCrc = writeHeader(head, header);
  const segmentBytes = batchSegmentBytes(header);
  assert(segmentBytes <= BATCH_MAX_BYTES, 'a batch within its limit');
  return { header, parts, wireBytes: batchWireBytes(header), segmentBytes, entryPages };
}

function writeHeader(head: Buffer, fields: Omit<BatchHeader, 'headerCrc'>): number {
  head.fill(0, 0, BATCH_HEADER_BYTES);
  head.writeUInt32LE(BATCH_MAGIC, 0);
  head.writeUInt16LE(BATCH_VERSION, 4);
  head.writeUInt16LE(fields.flags, 6);
  writeId(head, fields.volume, 8);
  writeId(head, fields.segment, 24);
  writeU64(head, fields.epoch, 40);
  writeU64(head, fields.offset, 48);
  writeU64(head, fields.firstLsn, 56);
  head.writeUInt32LE(fields.count, 64);
  head.writeUInt32LE(fields.pageCount, 68);
  writeU64(head, fields.commitOffset, 72);
  head.writeUInt32LE(fields.prevCrc, 80);
  head.writeUInt32LE(fields.bodyLength, 84);
  head.writeUInt32LE(fields.bodyCrc, 88);
  const headerCrc = crc32(head.subarray(0, HEADER_CRC_AT));
  head.writeUInt32LE(headerCrc, HEADER_CRC_AT);
  return headerCrc;
}

/**
 * Decodes and verifies a batch header (not the body). Throws MALFORMED, or VERSION for a newer
 * format.
 */
export function decodeBatchHeader(bytes: Uint8Array, at = 0): BatchHeader {
  if (bytes.length - at < BATCH_HEADER_BYTES) throw malformed('batch header: too few bytes');
  const head = asBuffer(bytes).subarray(at, at + BATCH_HEADER_BYTES);
  if (head.readUInt32LE(0) !== BATCH_MAGIC) throw malformed('batch header: wrong magic');
  const headerCrc = head.readUInt32LE(HEADER_CRC_AT);
  if (crc32(head.subarray(0, HEADER_CRC_AT)) !== headerCrc) {
    throw malformed('batch header: checksum mismatch');
  }
  const version = head.readUInt16LE(4);
  if (version !== BATCH_VERSION) {
    throw new HoldfastError('VERSION', `batch format ${version} is not known here`, {
      hint: 'Run the version of holdfast that wrote this data, or a newer one.',
    });
  }
  const header: BatchHeader = {
    flags: head.readUInt16LE(6),
    volume: readId(head, 8),
    segment: readId(head, 24),
    epoch: epoch(readU64(head, 40)),
    offset: offset(readU64(head, 48)),
    firstLsn: lsn(readU64(head, 56)),
    count: head.readUInt32LE(64),
    pageCount: head.readUInt32LE(68),
    commitOffset: offset(readU64(head, 72)),
    prevCrc: head.readUInt32LE(80),
    bodyLength: head.readUInt32LE(84),
    bodyCrc: head.readUInt32LE(88),
    headerCrc,
  };
  checkHeader(header);
  return header;
}

function checkHeader(header: BatchHeader): void {
  if (header.offset % PAGE_BYTES !== 0) throw malformed('batch header: offset off a page boundary');
  if (header.offset + BATCH_MAX_BYTES > SEGMENT_FORMAT_MAX_BYTES) {
    throw malformed('batch header: offset beyond every segment');
  }
  if (header.count > BATCH_MAX_RECORDS) throw malformed('batch header: too many records');
  if (batchSegmentBytes(header) > BATCH_MAX_BYTES) throw malformed('batch header: too large');
  const isHeader = (header.flags & FLAG_SEGMENT_HEADER) !== 0;
  if (isHeader !== (header.offset === 0)) throw malformed('batch header: segment header misplaced');
  if (isHeader ? header.count !== 0 : header.count === 0) throw malformed('batch header: count');
  const entries = isHeader ? 1 : header.count;
  if (header.bodyLength < entries * ENTRY_HEADER_BYTES + header.pageCount * 4) {
    throw malformed('batch header: body too short for its entries');
  }
}

/** The table of page checksums of a batch whose head (header and body) stands in `head`. */
export function pageChecksums(header: BatchHeader, head: Uint8Array): Uint32Array {
  const end = headBytes(header);
  const table = new Uint32Array(header.pageCount);
  const view = asBuffer(head);
  for (let i = 0; i < table.length; i++) {
    table[i] = view.readUInt32LE(end - (table.length - i) * 4);
  }
  return table;
}

/** Verifies entries and page checksum table against their header; throws MALFORMED. */
function verifyEntries(header: BatchHeader, bytes: Uint8Array): void {
  const end = headBytes(header);
  if (bytes.length < end) throw malformed('batch: cut short');
  if (crc32(bytes.subarray(BATCH_HEADER_BYTES, end)) !== header.bodyCrc) {
    throw malformed('batch: body checksum mismatch');
  }
}

/**
 * Verifies body and pages of a batch against its (already verified) header; throws MALFORMED.
 * `pages` is where the data pages begin in `bytes`: headBytes on the wire, pagesStart in a segment.
 */
function verifyBody(header: BatchHeader, bytes: Uint8Array, pages: number): void {
  if (bytes.length < pages + header.pageCount * PAGE_BYTES) throw malformed('batch: cut short');
  verifyEntries(header, bytes);
  const table = pageChecksums(header, bytes);
  const checksummer = new PageChecksummer(header.segment);
  const first = (header.offset + pagesStart(header)) / PAGE_BYTES;
  for (let i = 0; i < table.length; i++) {
    if (checksummer.page(bytes, pages + i * PAGE_BYTES, first + i) !== table[i]) {
      throw malformed(`batch: checksum mismatch in page ${first + i}`);
    }
  }
}

function verifyPadding(header: BatchHeader, bytes: Uint8Array): void {
  const [from, to] = [headBytes(header), pagesStart(header)];
  // At once, not byte by byte: of small batches it is most, and replay and takeover read many.
  const isZero = PADDING.compare(bytes, from, to, 0, to - from) === 0;
  if (!isZero) throw malformed('batch: padding is not zero');
}

/** Decodes and fully verifies a batch in wire form that fills `bytes` exactly. */
export function decodeWireBatch(bytes: Uint8Array): BatchHeader {
  const header = decodeBatchHeader(bytes);
  if (bytes.length !== batchWireBytes(header)) throw malformed('batch: wrong length');
  verifyBody(header, bytes, headBytes(header));
  return header;
}

/** Decodes and fully verifies the batch in segment form that begins at `at`; more may follow it. */
export function decodeSegmentBatch(bytes: Uint8Array, at = 0): BatchHeader {
  const header = decodeBatchHeader(bytes, at);
  const batch = bytes.subarray(at, at + batchSegmentBytes(header));
  verifyBody(header, batch, pagesStart(header));
  verifyPadding(header, batch);
  return header;
}

/**
 * Verifies the head of a batch in segment form, `pagesStart(header)` bytes, against its (already
 * verified) header; throws MALFORMED. Of the data pages nothing is known then but their checksums.
 */
export function verifyHead(header: BatchHeader, head: Uint8Array): void {
  assert(head.length === pagesStart(header), 'a head in whole pages');
  verifyEntries(header, head);
  verifyPadding(header, head);
}

export interface DecodedEntry {
  /** A view into the batch. */
  readonly record: Buffer;
  /** Index in the segment of its first data page. */
  readonly firstPage: number;
  readonly pageCount: number;
}

/** The entries of a batch whose head stands in `head`; verify the batch first. Throws MALFORMED. */
export function decodeEntries(header: BatchHeader, head: Uint8Array): DecodedEntry[] {
  const view = asBuffer(head);
  const end = headBytes(header) - header.pageCount * 4;
  const count = header.count === 0 ? 1 : header.count;
  const entries: DecodedEntry[] = [];
  let at = BATCH_HEADER_BYTES;
  let page = (header.offset + pagesStart(header)) / PAGE_BYTES;
  let pagesLeft = header.pageCount;
  for (let i = 0; i < count; i++) {
    if (end - at < ENTRY_HEADER_BYTES) throw malformed('batch: entries run out');
    const length = view.readUInt32LE(at);
    const pageCount = view.readUInt32LE(at + 4);
    at += ENTRY_HEADER_BYTES;
    if (length > RECORD_MAX_BYTES || length > end - at) throw malformed('batch: record too long');
    if (pageCount > pagesLeft) throw malformed('batch: more pages than the header says');
    entries.push({ record: view.subarray(at, at + length), firstPage: page, pageCount });
    at += length;
    page += pageCount;
    pagesLeft -= pageCount;
  }
  if (at !== end || pagesLeft !== 0) throw malformed('batch: entries do not fill the body');
  return entries;
}
