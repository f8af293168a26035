/**
 * Small variable-length pieces of state (names, extent lists, extended attributes) outside the
 * JavaScript heap: pages of 1 MiB that grow one at a time, pieces in units of 8 bytes with a 4-byte
 * length in front, free pieces chained by size. A million names cost a hundred array buffers
 * instead of a million objects that the garbage collector would have to visit.
 *
 * Freed pieces are used again by pieces of the same rounded size only.
 */
import { assert } from '../core/assert.js';

/** Where a piece stands: page × 2^17 + unit. 0 is no piece. */
export type BlobRef = number;
export const NO_BLOB: BlobRef = 0;

const UNIT_BYTES = 8;
const PAGE_UNITS = 1 << 17;
const PAGE_WORDS = PAGE_UNITS * 2;
const EXACT_UNITS = 32;
/** The largest piece is just above 64 KiB. */
const MAX_UNITS = 9216;
export const BLOB_MAX_BYTES = 8192 * UNIT_BYTES;

/** Up to 32 units exact, above in steps of an eighth. */
function roundUnits(units: number): number {
  if (units <= EXACT_UNITS) return units;
  const step = 1 << (31 - Math.clz32(units - 1) - 3);
  return Math.ceil(units / step) * step;
}

export class BlobArena {
  readonly #pages: Uint32Array[] = [];
  readonly #bytes: Buffer[] = [];
  /** First free piece for each size; the next stands in its second word. */
  readonly #free = new Uint32Array(MAX_UNITS + 1);
  #used = PAGE_UNITS;
  #liveBytes = 0;

  /** Bytes of the pieces in use, rounding included. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Bytes taken from the system. */
  get reservedBytes(): number {
    return this.#pages.length * PAGE_WORDS * 4;
  }

  /** A piece of `length` bytes whose contents are undefined. */
  allocate(length: number): BlobRef {
    assert(length > 0 && length <= BLOB_MAX_BYTES, `a piece of ${length} bytes`);
    const units = roundUnits((length + 11) >>> 3);
    let ref = this.#free[units] as number;
    if (ref === NO_BLOB) {
      ref = this.#extend(units);
    } else {
      const next = this.words(ref)[this.wordAt(ref)] as number;
      this.#free[units] = next;
    }
    this.#liveBytes += units * UNIT_BYTES;
    this.words(ref)[this.wordAt(ref) - 1] = length;
    return ref;
  }

  #extend(units: number): BlobRef {
    if (this.#used + units > PAGE_UNITS) {
      const page = new Uint32Array(PAGE_WORDS);
      this.#pages.push(page);
      this.#bytes.push(Buffer.from(page.buffer));
      this.#used = this.#pages.length === 1 ? 1 : 0;
    }
    const ref = (this.#pages.length - 1) * PAGE_UNITS + this.#used;
    this.#used += units;
    return ref;
  }

  free(ref: BlobRef): void {
    const words = this.words(ref);
    const at = this.wordAt(ref);
    const length = words[at - 1] as number;
    assert(length > 0, 'a piece is freed once');
    const units = roundUnits((length + 11) >>> 3);
    words[at - 1] = 0;
    words[at] = this.#free[units] as number;
    this.#free[units] = ref;
    this.#liveBytes -= units * UNIT_BYTES;
  }

  length(ref: BlobRef): number {
    return this.words(ref)[this.wordAt(ref) - 1] as number;
  }

  /** Whether `length` bytes fit where the piece is, so that `resize` may be called. */
  fits(ref: BlobRef, length: number): boolean {
    return roundUnits((this.length(ref) + 11) >>> 3) === roundUnits((length + 11) >>> 3);
  }

  resize(ref: BlobRef, length: number): void {
    this.words(ref)[this.wordAt(ref) - 1] = length;
  }

  /** The page that holds the piece, as words; the piece begins at `wordAt`. */
  words(ref: BlobRef): Uint32Array {
    return this.#pages[ref >>> 17] as Uint32Array;
  }

  wordAt(ref: BlobRef): number {
    return (ref & (PAGE_UNITS - 1)) * 2 + 1;
  }

  /** The same page as bytes; the piece begins at `byteAt`. */
  bytes(ref: BlobRef): Buffer {
    return this.#bytes[ref >>> 17] as Buffer;
  }

  byteAt(ref: BlobRef): number {
    return this.wordAt(ref) * 4;
  }

  /** A view of the piece, valid until it is freed. */
  view(ref: BlobRef): Buffer {
    const at = this.byteAt(ref);
    return this.bytes(ref).subarray(at, at + this.length(ref));
  }

  /** A new piece with these bytes. */
  store(bytes: Uint8Array): BlobRef {
    const ref = this.allocate(bytes.length);
    this.bytes(ref).set(bytes, this.byteAt(ref));
    return ref;
  }
}
