/**
 * CRC-32 (zlib's, the IEEE polynomial) and the salted page checksum. A page's checksum starts from
 * the checksum of its segment id and page index, so that a page which some disk or node put in the
 * wrong place fails verification even though its bytes are intact.
 */
import { crc32 as zlibCrc32 } from 'node:zlib';
import type { SegmentId } from './ids.js';
import { PAGE_BYTES } from './units.js';

const ZEROES = Buffer.alloc(PAGE_BYTES);

/** CRC-32 of `bytes`, continued from `start`. */
export function crc32(bytes: Uint8Array, start = 0): number {
  return zlibCrc32(bytes, start);
}

/** Computes page checksums of one segment; keeps the segment's part of the salt. */
export class PageChecksummer {
  readonly #salt: number;
  readonly #index = Buffer.alloc(4);

  constructor(segment: SegmentId) {
    this.#salt = zlibCrc32(Buffer.from(segment, 'hex'));
  }

  /** The checksum of `bytes` with zeroes behind them up to 4096, as page `index` of the segment. */
  padded(bytes: Uint8Array, index: number): number {
    this.#index.writeUInt32LE(index, 0);
    const salt = zlibCrc32(this.#index, this.#salt);
    return zlibCrc32(ZEROES.subarray(bytes.length), zlibCrc32(bytes, salt));
  }

  /** The checksum of the 4096 bytes at `start` of `bytes` as page `index` of the segment. */
  page(bytes: Uint8Array, start: number, index: number): number {
    this.#index.writeUInt32LE(index, 0);
    const salt = zlibCrc32(this.#index, this.#salt);
    return zlibCrc32(bytes.subarray(start, start + PAGE_BYTES), salt);
  }
}
