/**
 * Small variable-length pieces of state (names, extent lists, extended attributes) outside the
 * JavaScript heap, in slabs of 64 KiB with pieces of one size each: a million names cost a few
 * hundred typed arrays instead of a million objects that the garbage collector would have to
 * visit. A slab whose pieces are all free serves another size, so that lists which all grow do not
 * leave their former sizes behind.
 *
 * A piece is in units of 8 bytes with its length in the first 4.
 */
import { assert } from '../core/assert.js';

/** Where a piece stands: slab × 2^13 + unit. 0 is no piece. */
export type BlobRef = number;
export const NO_BLOB: BlobRef = 0;

const UNIT_BYTES = 8;
const SLAB_SHIFT = 13;
const SLAB_UNITS = 1 << SLAB_SHIFT;
const SLAB_WORDS = SLAB_UNITS * 2;
const SLAB_BYTES = SLAB_UNITS * UNIT_BYTES;
const EXACT_UNITS = 32;
const LENGTH_BYTES = 4;
export const BLOB_MAX_BYTES = SLAB_BYTES - LENGTH_BYTES;

/** A dense extent chunk's size, of which a volume written at random has most. */
const CHUNK_UNITS = 193;
/** Empty slabs that keep their memory, for what comes next. */
const IDLE_SLABS = 64;

/** Up to 32 units exact, above in steps of an eighth. */
function roundUnits(units: number): number {
  if (units <= EXACT_UNITS || units === CHUNK_UNITS) return units;
  const step = 1 << (31 - Math.clz32(units - 1) - 3);
  return Math.min(Math.ceil(units / step) * step, SLAB_UNITS);
}

function unitsFor(length: number): number {
  return roundUnits((length + LENGTH_BYTES + UNIT_BYTES - 1) >>> 3);
}

const NO_WORDS = new Uint32Array(0);
const NO_BYTES = Buffer.alloc(0);

interface Slab {
  readonly index: number;
  words: Uint32Array;
  bytes: Buffer;
  /** Units of each piece; 0: serves no size now. */
  units: number;
  /** First freed piece (its unit + 1), chained through the pieces; 0: none. */
  free: number;
  /** Units from here on were never used. */
  fresh: number;
  live: number;
  /** Slabs of the same size that have room. */
  next: Slab | null;
  previous: Slab | null;
}

export class BlobArena {
  readonly #slabs: Slab[] = [];
  /** For each size the first slab with room. */
  readonly #roomy: (Slab | null)[] = new Array(SLAB_UNITS + 1).fill(null);
  readonly #idle: Slab[] = [];
  /** Slabs that have given their memory back. */
  readonly #bare: Slab[] = [];
  #liveBytes = 0;

  /** Bytes of the pieces in use, rounding included. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Bytes taken from the system. */
  get reservedBytes(): number {
    return (this.#slabs.length - this.#bare.length) * SLAB_BYTES;
  }

  /** A piece of `length` bytes whose contents are undefined. */
  allocate(length: number): BlobRef {
    assert(length > 0 && length <= BLOB_MAX_BYTES, `a piece of ${length} bytes`);
    const units = unitsFor(length);
    const slab = this.#roomy[units] ?? this.#open(units);
    let unit: number;
    if (slab.free !== 0) {
      unit = slab.free - 1;
      slab.free = slab.words[unit * 2 + 1] as number;
    } else {
      unit = slab.fresh;
      slab.fresh += units;
    }
    slab.live += 1;
    if (slab.free === 0 && slab.fresh + units > SLAB_UNITS) this.#unlist(slab);
    this.#liveBytes += units * UNIT_BYTES;
    slab.words[unit * 2] = length;
    return slab.index * SLAB_UNITS + unit;
  }

  #open(units: number): Slab {
    const slab = this.#idle.pop() ?? this.#refill() ?? this.#newSlab();
    slab.units = units;
    slab.free = 0;
    // The first unit of all is no piece, so that 0 can mean none.
    slab.fresh = slab.index === 0 ? 1 : 0;
    if (slab.fresh + units > SLAB_UNITS) return this.#open(units);
    this.#list(slab);
    return slab;
  }

  #refill(): Slab | undefined {
    const slab = this.#bare.pop();
    if (slab === undefined) return undefined;
    slab.words = new Uint32Array(SLAB_WORDS);
    slab.bytes = Buffer.from(slab.words.buffer);
    return slab;
  }

  #newSlab(): Slab {
    const words = new Uint32Array(SLAB_WORDS);
    const slab: Slab = {
      index: this.#slabs.length,
      words,
      bytes: Buffer.from(words.buffer),
      units: 0,
      free: 0,
      fresh: 0,
      live: 0,
      next: null,
      previous: null,
    };
    this.#slabs.push(slab);
    return slab;
  }

  #list(slab: Slab): void {
    const first = this.#roomy[slab.units] ?? null;
    slab.next = first;
    slab.previous = null;
    if (first !== null) first.previous = slab;
    this.#roomy[slab.units] = slab;
  }

  #unlist(slab: Slab): void {
    if (slab.previous !== null) slab.previous.next = slab.next;
    else this.#roomy[slab.units] = slab.next;
    if (slab.next !== null) slab.next.previous = slab.previous;
    slab.next = null;
    slab.previous = null;
  }

  free(ref: BlobRef): void {
    const slab = this.#slab(ref);
    const unit = ref & (SLAB_UNITS - 1);
    assert((slab.words[unit * 2] as number) > 0, 'a piece is freed once');
    const wasFull = slab.free === 0 && slab.fresh + slab.units > SLAB_UNITS;
    slab.words[unit * 2] = 0;
    slab.words[unit * 2 + 1] = slab.free;
    slab.free = unit + 1;
    slab.live -= 1;
    this.#liveBytes -= slab.units * UNIT_BYTES;
    if (slab.live === 0) {
      if (!wasFull) this.#unlist(slab);
      this.#retire(slab);
    } else if (wasFull) {
      this.#list(slab);
    }
  }

  #retire(slab: Slab): void {
    slab.units = 0;
    if (this.#idle.length < IDLE_SLABS) {
      this.#idle.push(slab);
      return;
    }
    slab.words = NO_WORDS;
    slab.bytes = NO_BYTES;
    this.#bare.push(slab);
  }

  #slab(ref: BlobRef): Slab {
    return this.#slabs[ref >>> SLAB_SHIFT] as Slab;
  }

  length(ref: BlobRef): number {
    return this.#slab(ref).words[(ref & (SLAB_UNITS - 1)) * 2] as number;
  }

  /** Whether `length` bytes fit where the piece is, so that `resize` may be called. */
  fits(ref: BlobRef, length: number): boolean {
    return this.#slab(ref).units === unitsFor(length);
  }

  resize(ref: BlobRef, length: number): void {
    this.#slab(ref).words[(ref & (SLAB_UNITS - 1)) * 2] = length;
  }

  /** The slab that holds the piece, as words; the piece begins at `wordAt`. */
  words(ref: BlobRef): Uint32Array {
    return this.#slab(ref).words;
  }

  wordAt(ref: BlobRef): number {
    return (ref & (SLAB_UNITS - 1)) * 2 + 1;
  }

  /** The same slab as bytes; the piece begins at `byteAt`. */
  bytes(ref: BlobRef): Buffer {
    return this.#slab(ref).bytes;
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
