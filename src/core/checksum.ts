/**
 * CRC-32 (zlib's, the IEEE polynomial) and the salted page checksum. A page's checksum starts from
 * the checksum of its segment id and page index, so that a page which some disk or node put in the
 * wrong place fails verification even though its bytes are intact.
 *
 * Every byte written or read passes here once or more, and Node.js' own CRC-32 does not use what
 * processors have for it. A prebuilt module does, on machines that it exists for.
 */
import { createRequire } from 'node:module';
import { crc32 as zlibCrc32 } from 'node:zlib';
import type { SegmentId } from './ids.js';
import { PAGE_BYTES } from './units.js';

type Crc32 = (bytes: Uint8Array, start: number) => number;

/** Below this a call costs more than what it saves. */
const NATIVE_MIN_BYTES = 1024;
const ZEROES = Buffer.alloc(PAGE_BYTES);
const nativeCrc32 = loadNative();

/** The module's function; null where it is missing, or does not agree with Node.js' own. */
function loadNative(): Crc32 | null {
  const sample = Uint8Array.from({ length: 3 * NATIVE_MIN_BYTES + 1 }, (_, i) => (i * 31) >> 3);
  try {
    const found = createRequire(import.meta.url)('@node-rs/crc32') as { crc32: Crc32 };
    const start = found.crc32(sample.subarray(1), 0x9e3779b9);
    const isSame = start === zlibCrc32(sample.subarray(1), 0x9e3779b9);
    return isSame ? found.crc32 : null;
  } catch {
    // No prebuilt file for this machine, or left out with the optional packages.
    return null;
  }
}

/** CRC-32 of `bytes`, continued from `start`. */
export function crc32(bytes: Uint8Array, start = 0): number {
  if (nativeCrc32 === null || bytes.length < NATIVE_MIN_BYTES) return zlibCrc32(bytes, start);
  return nativeCrc32(bytes, start);
}

/** What a byte does to a CRC-32, for numbers: so few bytes that a call costs more than they. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ ((rest & 1) === 1 ? 0xedb88320 : 0);
  return rest;
});

/** CRC-32 of a number's four bytes (little endian), continued from `start`. */
function crc32OfNumber(number: number, start: number): number {
  let crc = ~start;
  for (let shift = 0; shift < 32; shift += 8) {
    crc = (TABLE[(crc ^ (number >>> shift)) & 0xff] as number) ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

/** Computes page checksums of one segment; keeps the segment's part of the salt. */
export class PageChecksummer {
  readonly #salt: number;

  constructor(segment: SegmentId) {
    this.#salt = crc32(Buffer.from(segment, 'hex'));
  }

  /** The checksum of `bytes` with zeroes behind them up to 4096, as page `index` of the segment. */
  padded(bytes: Uint8Array, index: number): number {
    const salt = crc32OfNumber(index, this.#salt);
    return crc32(ZEROES.subarray(bytes.length), crc32(bytes, salt));
  }

  /** The checksum of the 4096 bytes at `start` of `bytes` as page `index` of the segment. */
  page(bytes: Uint8Array, start: number, index: number): number {
    const salt = crc32OfNumber(index, this.#salt);
    return crc32(bytes.subarray(start, start + PAGE_BYTES), salt);
  }
}
