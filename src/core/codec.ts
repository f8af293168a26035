/**
 * Bounds-checked reading and writing of little-endian binary formats. A reader throws MALFORMED and
 * never looks past its end or allocates by a length it has not compared with what is there; a
 * writer grows up to a stated limit and asserts that every value fits, since a value that does not
 * is our own bug.
 */
import { assert } from './assert.js';
import { malformed } from './errors.js';
import { ID_BYTES } from './ids.js';

const U32 = 0x1_0000_0000;

/** A view of the same memory as a Buffer, without copying. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes an unsigned integer below 2^53 as 8 bytes. */
export function writeU64(target: Buffer, value: number, at: number): void {
  // On the path of every commit: a text with the value in it would be made each time.
  assert(Number.isSafeInteger(value) && value >= 0, 'u64 in range');
  target.writeUInt32LE(value % U32, at);
  target.writeUInt32LE(Math.floor(value / U32), at + 4);
}

/** Reads 8 bytes as an unsigned integer. Throws MALFORMED from 2^53 up. */
export function readU64(source: Buffer, at: number): number {
  const high = source.readUInt32LE(at + 4);
  if (high >= 0x20_0000) throw malformed('64-bit integer above 2^53');
  return high * U32 + source.readUInt32LE(at);
}

export function writeId(target: Buffer, id: string, at: number): void {
  assert(id.length === ID_BYTES * 2, 'an id has 32 digits');
  target.write(id, at, ID_BYTES, 'hex');
}

export function readId<T extends string>(source: Buffer, at: number): T {
  return source.toString('hex', at, at + ID_BYTES) as T;
}

export class ByteReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Uint8Array, start = 0) {
    this.#bytes = asBuffer(bytes);
    this.#at = start;
  }

  get position(): number {
    return this.#at;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  #take(count: number, what: string): number {
    if (count > this.remaining) {
      throw malformed(`${what}: needs ${count} bytes, ${this.remaining} are left`);
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }

  u8(what: string): number {
    return this.#bytes.readUInt8(this.#take(1, what));
  }

  u16(what: string): number {
    return this.#bytes.readUInt16LE(this.#take(2, what));
  }

  u32(what: string): number {
    return this.#bytes.readUInt32LE(this.#take(4, what));
  }

  u64(what: string): number {
    return readU64(this.#bytes, this.#take(8, what));
  }

  id<T extends string>(what: string): T {
    return readId<T>(this.#bytes, this.#take(ID_BYTES, what));
  }

  /** A view of the next `count` bytes (shares memory with the input). */
  bytes(count: number, what: string): Buffer {
    const at = this.#take(count, what);
    return this.#bytes.subarray(at, at + count);
  }

  /** A u16 length and that many bytes of UTF-8, of at most `limit` bytes. */
  text(limit: number, what: string): string {
    const length = this.u16(what);
    if (length > limit) throw malformed(`${what}: ${length} bytes, at most ${limit} are allowed`);
    return this.bytes(length, what).toString('utf8');
  }

  /** Throws MALFORMED unless everything was read: trailing bytes mean a format we do not know. */
  end(what: string): void {
    if (this.remaining !== 0) throw malformed(`${what}: ${this.remaining} bytes too many`);
  }
}

export class ByteWriter {
  #bytes: Buffer;
  #at = 0;

  constructor(initialBytes = 256) {
    this.#bytes = Buffer.allocUnsafe(initialBytes);
  }

  get length(): number {
    return this.#at;
  }

  /** Makes room and returns where it is. Call it before touching #bytes, which it may replace. */
  #room(count: number): number {
    const at = this.#at;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    this.#at = needed;
    return at;
  }

  u8(value: number): this {
    const at = this.#room(1);
    this.#bytes.writeUInt8(value, at);
    return this;
  }

  u16(value: number): this {
    const at = this.#room(2);
    this.#bytes.writeUInt16LE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.#room(4);
    this.#bytes.writeUInt32LE(value, at);
    return this;
  }

  u64(value: number): this {
    const at = this.#room(8);
    writeU64(this.#bytes, value, at);
    return this;
  }

  id(id: string): this {
    const at = this.#room(ID_BYTES);
    writeId(this.#bytes, id, at);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  text(value: string): this {
    const length = Buffer.byteLength(value, 'utf8');
    this.u16(length);
    const at = this.#room(length);
    this.#bytes.write(value, at, length, 'utf8');
    return this;
  }

  /** Leaves room for what is known later; its bytes are undefined until then. */
  skip(count: number): this {
    this.#room(count);
    return this;
  }

  /** Forgets what was written from `length` on, and keeps the memory. */
  truncate(length: number): this {
    assert(length <= this.#at, 'a writer is cut, not extended');
    this.#at = length;
    return this;
  }

  /** What was written; shares memory with the writer, which must not be used afterwards. */
  done(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }
}
