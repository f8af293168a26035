/**
 * Cuts a TCP byte stream into frames without copying large ones twice and without letting a small
 * frame keep a large chunk in memory. Pure: chunks in, frames out.
 */
import { malformed } from '../../core/errors.js';

export const LENGTH_BYTES = 4;
/** Frames at least this large a part of their chunk are handed out as views of it. */
const VIEW_FRACTION = 4;

const EMPTY = Buffer.alloc(0);

/**
 * INVARIANT: either `#partial` is a frame whose length is known and of which `#filled` bytes have
 * come, or it is null and `#chunk` from `#at` on has not been looked at, and may end inside a
 * length.
 */
export class FrameReader {
  #maxFrameBytes: number;
  #chunk: Buffer = EMPTY;
  #at = 0;
  #partial: Buffer | null = null;
  #filled = 0;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Chunks are valid only until `keep`: frames are handed out as copies. */
  isTransient = false;

  /** Copies what has not been taken out yet: the chunk's memory is about to change. */
  keep(): void {
    const isLooked = this.#at === this.#chunk.length;
    this.#chunk = isLooked ? EMPTY : Buffer.from(this.#chunk.subarray(this.#at));
    this.#at = 0;
  }

  set maxFrameBytes(bytes: number) {
    this.#maxFrameBytes = bytes;
  }

  /** Whether bytes of an unfinished frame are here. */
  get isInside(): boolean {
    return this.#partial !== null || this.#at < this.#chunk.length;
  }

  /**
   * Takes the next bytes of the stream. All frames of what came before must have been taken out.
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
   * The next whole frame, or null when more bytes are needed. Throws MALFORMED for one too large.
   */
  next(): Buffer | null {
    if (this.#partial !== null) return this.#fill(this.#partial);
    const chunk = this.#chunk;
    const left = chunk.length - this.#at;
    if (left < LENGTH_BYTES) {
      this.#compact(left);
      return null;
    }
    const length = chunk.readUInt32LE(this.#at);
    if (length > this.#maxFrameBytes) {
      throw malformed(`frame of ${length} bytes, at most ${this.#maxFrameBytes} are allowed here`);
    }
    this.#at += LENGTH_BYTES;
    if (length <= left - LENGTH_BYTES) {
      const start = this.#at;
      this.#at += length;
      const view = chunk.subarray(start, start + length);
      const isView = !this.isTransient && length * VIEW_FRACTION >= chunk.length;
      return isView ? view : Buffer.from(view);
    }
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
