/**
 * Cuts a TCP byte stream into frames. What is read goes through one buffer that is used again and
 * again, and the frames that are whole are copied out of it together; the rest of a large frame is
 * read to where it belongs, so that most of its bytes are never copied. Pure: chunks in, frames
 * out.
 */
import { assert } from '../../core/assert.js';
import { malformed } from '../../core/errors.js';

export const LENGTH_BYTES = 4;
/** This much of a frame must be missing for its bytes to be read to their place. */
const ROOM_MIN_BYTES = 32 * 1024;

const EMPTY = Buffer.alloc(0);

/**
 * INVARIANT: `#whole` from `#wholeAt` on comes first in the stream, and is whole frames. Behind it,
 * either `#partial` is a frame whose length is known and of which `#filled` bytes have come, or it
 * is null and `#chunk` from `#at` on has not been looked at, and may end inside a length.
 */
export class FrameReader {
  #maxFrameBytes: number;
  #chunk: Buffer = EMPTY;
  #at = 0;
  #whole: Buffer = EMPTY;
  #wholeAt = 0;
  #partial: Buffer | null = null;
  #filled = 0;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Copies what has not been taken out yet: the chunk's memory is about to change. */
  keep(): void {
    if (this.#wholeAt === this.#whole.length) {
      this.#whole = EMPTY;
      this.#wholeAt = 0;
    }
    const isLooked = this.#at === this.#chunk.length;
    this.#chunk = isLooked ? EMPTY : Buffer.from(this.#chunk.subarray(this.#at));
    this.#at = 0;
  }

  /** Where the next bytes of the stream belong, if that is known; `filled` says that they came. */
  get room(): Buffer | null {
    const partial = this.#partial;
    if (partial === null || partial.length - this.#filled < ROOM_MIN_BYTES) return null;
    return partial.subarray(this.#filled);
  }

  /** The first `count` bytes of `room` have come. */
  filled(count: number): void {
    assert(this.#partial !== null && this.#at === this.#chunk.length, 'inside a frame');
    this.#filled += count;
    assert(this.#filled <= this.#partial.length, 'no more than there was room for');
  }

  set maxFrameBytes(bytes: number) {
    this.#maxFrameBytes = bytes;
  }

  /** Whether bytes are here that nobody has taken out. */
  get isInside(): boolean {
    const isTaken = this.#wholeAt === this.#whole.length && this.#at === this.#chunk.length;
    return this.#partial !== null || !isTaken;
  }

  /**
   * Takes the next bytes of the stream, valid until `keep`. All frames of what came before must
   * have been taken out.
   */
  push(chunk: Buffer): void {
    if (this.#at === this.#chunk.length) {
      this.#chunk = chunk;
    } else {
      // At most three bytes of a length.
      this.#chunk = Buffer.concat([this.#chunk.subarray(this.#at), chunk]);
    }
    this.#at = 0;
  }

  /**
   * The next whole frame, or null when more bytes are needed; frames that came together share their
   * memory. Throws MALFORMED for one too large.
   */
  next(): Buffer | null {
    if (this.#wholeAt === this.#whole.length) {
      if (this.#partial !== null) return this.#fill(this.#partial);
      const bytes = this.#wholeBytes();
      if (bytes === 0) return this.#begin();
      this.#whole = Buffer.from(this.#chunk.subarray(this.#at, this.#at + bytes));
      this.#wholeAt = 0;
      this.#at += bytes;
    }
    const start = this.#wholeAt + LENGTH_BYTES;
    this.#wholeAt = start + this.#whole.readUInt32LE(this.#wholeAt);
    return this.#whole.subarray(start, this.#wholeAt);
  }

  /** How much of the chunk is whole frames, up to one that is too large. */
  #wholeBytes(): number {
    const chunk = this.#chunk;
    let end = this.#at;
    while (chunk.length - end >= LENGTH_BYTES) {
      const length = chunk.readUInt32LE(end);
      if (length > this.#maxFrameBytes || length > chunk.length - end - LENGTH_BYTES) break;
      end += LENGTH_BYTES + length;
    }
    return end - this.#at;
  }

  /** Begins a frame of which a part is here, if its length is. */
  #begin(): Buffer | null {
    const left = this.#chunk.length - this.#at;
    if (left < LENGTH_BYTES) {
      this.#compact(left);
      return null;
    }
    const length = this.#chunk.readUInt32LE(this.#at);
    if (length > this.#maxFrameBytes) {
      throw malformed(`frame of ${length} bytes, at most ${this.#maxFrameBytes} are allowed here`);
    }
    this.#at += LENGTH_BYTES;
    // Memory for the whole frame at once, so that nothing is copied twice; the limit has been
    // checked, and is small until the peer has proved itself.
    this.#partial = Buffer.allocUnsafeSlow(length);
    this.#filled = 0;
    return this.#fill(this.#partial);
  }

  #fill(partial: Buffer): Buffer | null {
    const count = Math.min(partial.length - this.#filled, this.#chunk.length - this.#at);
    this.#chunk.copy(partial, this.#filled, this.#at, this.#at + count);
    this.#filled += count;
    this.#at += count;
    if (this.#filled < partial.length) {
      this.#compact(0);
      return null;
    }
    this.#partial = null;
    return partial;
  }

  /** Lets go of a chunk of which at most a few bytes are left. */
  #compact(left: number): void {
    this.#chunk = left === 0 ? EMPTY : Buffer.from(this.#chunk.subarray(this.#at));
    this.#at = 0;
  }
}
