/**
 * Copies the data of small WRITEs out of the request's buffer into memory that the filesystem may
 * keep. Slices of a larger block cost a fraction of allocations of their own, which Node makes
 * outside its heap and has to track one by one. A slice keeps its whole block alive, so blocks are
 * small: what arrives together is usually committed and dropped together.
 */
import { WRITE_ARENA_BYTES, WRITE_SLICE_MAX_BYTES } from './limits.js';

export class WriteArena {
  #block = Buffer.alloc(0);
  #at = 0;

  /** A copy of `data` that nobody else will write to. */
  copy(data: Buffer): Buffer {
    if (data.length > WRITE_SLICE_MAX_BYTES) return Buffer.from(data);
    if (this.#at + data.length > this.#block.length) {
      this.#block = Buffer.allocUnsafeSlow(WRITE_ARENA_BYTES);
      this.#at = 0;
    }
    const end = this.#at + data.length;
    const slice = this.#block.subarray(this.#at, end);
    slice.set(data);
    this.#at = (end + 7) & ~7;
    return slice;
  }
}
