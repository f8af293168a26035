/**
 * A segment's page checksums: a table in memory and its sidecar file. The sidecar is a cache: each
 * of its pages carries up to 1022 checksums, their number and a checksum of its own, and whatever
 * is unreadable is rebuilt from the heads of the segment's batches. docs/FORMATS.md §Checksum
 * sidecar.
 */
import { assert } from '../core/assert.js';
import { crc32, type PageChecksummer } from '../core/checksum.js';
import { asBuffer } from '../core/codec.js';
import { malformed } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { BatchBytes } from './replica-state.js';
import { pageChecksums, pagesStart } from './wire/batch.js';

/** Checksums in one page of the sidecar. Part of the format. */
export const SUMS_PER_PAGE = PAGE_BYTES / 4 - 2;
const COUNT_AT = PAGE_BYTES - 8;
const CRC_AT = PAGE_BYTES - 4;

function salted(segment: SegmentId, index: number, page: Uint8Array): number {
  const salt = crc32(Buffer.from(`${segment}/${index}`));
  return crc32(page.subarray(0, CRC_AT), salt);
}

/** One page of the sidecar: checksums of the segment's pages from index × SUMS_PER_PAGE on. */
export function encodeSumsPage(segment: SegmentId, index: number, sums: Uint32Array): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  const first = index * SUMS_PER_PAGE;
  const last = Math.min(first + SUMS_PER_PAGE, sums.length);
  for (let i = first; i < last; i++) page.writeUInt32LE(sums[i] as number, (i - first) * 4);
  page.writeUInt32LE(Math.max(0, last - first), COUNT_AT);
  page.writeUInt32LE(salted(segment, index, page), CRC_AT);
  return page;
}

/**
 * Reads a page of the sidecar into `sums`; returns how many checksums it held. Throws MALFORMED.
 */
export function decodeSumsPage(
  segment: SegmentId,
  index: number,
  bytes: Uint8Array,
  sums: Uint32Array,
): number {
  if (bytes.length !== PAGE_BYTES) throw malformed('checksum sidecar: page cut short');
  const page = asBuffer(bytes);
  if (page.readUInt32LE(CRC_AT) !== salted(segment, index, page)) {
    throw malformed('checksum sidecar: checksum mismatch');
  }
  const count = page.readUInt32LE(COUNT_AT);
  if (count > SUMS_PER_PAGE) throw malformed('checksum sidecar: count');
  const first = index * SUMS_PER_PAGE;
  const last = Math.min(first + count, sums.length);
  for (let i = first; i < last; i++) sums[i] = page.readUInt32LE((i - first) * 4);
  return count;
}

/** A growing table. Pages up to `known` have their checksum in it. */
export class ChecksumTable {
  #sums: Uint32Array;
  known = 0;
  /** First page whose checksum the sidecar lacks. */
  dirtyFrom = 0;

  constructor(pages = 256) {
    this.#sums = new Uint32Array(pages);
  }

  at(page: number): number {
    assert(page < this.known, 'checksum of a page that has one');
    return this.#sums[page] as number;
  }

  /** A copy of `count` checksums from `page`. */
  slice(page: number, count: number): Uint32Array {
    assert(page + count <= this.known, 'checksums of pages that have one');
    return this.#sums.slice(page, page + count);
  }

  /** The checksums that are known, sharing memory. */
  all(): Uint32Array {
    return this.#sums.subarray(0, this.known);
  }

  /** Makes room for `pages` checksums, to be filled in through `raw`. */
  reserve(pages: number): Uint32Array {
    if (pages > this.#sums.length) {
      const larger = new Uint32Array(Math.max(pages, this.#sums.length * 2));
      larger.set(this.#sums);
      this.#sums = larger;
    }
    return this.#sums;
  }

  cut(pages: number): void {
    this.known = Math.min(this.known, pages);
    this.dirtyFrom = Math.min(this.dirtyFrom, pages);
  }

  /** Enters the checksums of a verified batch, whose head pages get theirs here. */
  add(batch: BatchBytes, checksummer: PageChecksummer): void {
    const first = batch.header.offset / PAGE_BYTES;
    assert(first <= this.known, 'checksums are entered without holes');
    const headPages = pagesStart(batch.header) / PAGE_BYTES;
    const end = first + headPages + batch.header.pageCount;
    const sums = this.reserve(end);
    for (let i = 0; i < headPages; i++) {
      const part = batch.head.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
      sums[first + i] = checksummer.padded(part, first + i);
    }
    sums.set(pageChecksums(batch.header, batch.head), first + headPages);
    this.dirtyFrom = Math.min(this.dirtyFrom, first);
    this.known = Math.max(this.known, end);
  }
}
