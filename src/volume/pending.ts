/**
 * Data on its way to the log: the pages of one group, in memory, answering reads until the log has
 * told where they stand. While its group is open a page may still change in place; once the group
 * is closed never again, since replicas may be sent it at any time.
 *
 * Places of pending pages are in segment slot 0: chunk id × 512 + index.
 */
import { assert, present } from '../core/assert.js';
import { PAGE_BYTES } from '../core/units.js';
import { GROUP_HARD_PAGES, PLACE_PAGES } from './limits.js';

export const CHUNK_STRIDE = 512;
const CHUNK_IDS = PLACE_PAGES / CHUNK_STRIDE;
/** Pages come in pieces of 64 KiB: a small commit takes no megabyte. */
const PIECE_PAGES = 16;

assert(GROUP_HARD_PAGES < CHUNK_STRIDE, 'a group fits into a chunk');

/** Whether a place is that of a pending page. */
export function isPending(place: number): boolean {
  return place >= CHUNK_STRIDE && place < PLACE_PAGES;
}

export interface PageRange {
  readonly slot: number;
  readonly page: number;
  readonly count: number;
}

export class PendingChunk {
  readonly id: number;
  readonly #pieces: Buffer[] = [];
  #count = 0;
  /** Where in files its pages are, or were: to be told of their places. */
  readonly ranges: PageRange[] = [];

  constructor(id: number) {
    this.id = id;
  }

  get count(): number {
    return this.#count;
  }

  /** The place of its first page. */
  get place(): number {
    return this.id * CHUNK_STRIDE;
  }

  /** Takes `count` more pages, all zero; returns the place of the first. */
  take(count: number): number {
    const first = this.#count;
    this.#count += count;
    assert(this.#count <= GROUP_HARD_PAGES, 'pages of a group');
    while (this.#pieces.length * PIECE_PAGES < this.#count) {
      this.#pieces.push(Buffer.allocUnsafeSlow(PIECE_PAGES * PAGE_BYTES));
    }
    return this.place + first;
  }

  piece(index: number): Buffer {
    return present(this.#pieces[Math.floor(index / PIECE_PAGES)], 'a page of the chunk');
  }

  /** The bytes of page `index`, as a view. */
  page(index: number): Buffer {
    const at = (index % PIECE_PAGES) * PAGE_BYTES;
    return this.piece(index).subarray(at, at + PAGE_BYTES);
  }

  /** Copies whole pages in from `index` on. */
  copyIn(index: number, data: Uint8Array, from: number, to: number): void {
    for (let at = from, page = index; at < to; ) {
      const start = (page % PIECE_PAGES) * PAGE_BYTES;
      const length = Math.min(PIECE_PAGES * PAGE_BYTES - start, to - at);
      this.piece(page).set(data.subarray(at, at + length), start);
      at += length;
      page += length / PAGE_BYTES;
    }
  }

  /** All its pages, for the log. */
  parts(): Uint8Array[] {
    return this.#pieces.map((piece, index) => {
      const pages = Math.min(PIECE_PAGES, this.#count - index * PIECE_PAGES);
      return piece.subarray(0, pages * PAGE_BYTES);
    });
  }
}

/** All chunks that have not yet come to the log. */
export class PendingPool {
  readonly #chunks = new Map<number, PendingChunk>();
  readonly #free: number[] = [];
  #next = 1;

  open(): PendingChunk {
    const id = this.#free.pop() ?? this.#next++;
    assert(id < CHUNK_IDS, 'too many groups on their way');
    const chunk = new PendingChunk(id);
    this.#chunks.set(id, chunk);
    return chunk;
  }

  close(chunk: PendingChunk): void {
    this.#chunks.delete(chunk.id);
    this.#free.push(chunk.id);
  }

  /** The chunks on their way. */
  ids(): number[] {
    return [...this.#chunks.keys()];
  }

  of(place: number): PendingChunk {
    return present(this.#chunks.get(Math.floor(place / CHUNK_STRIDE)), 'a pending place');
  }

  indexOf(place: number): number {
    return place % CHUNK_STRIDE;
  }

  /** One page, as a view. */
  page(place: number): Buffer {
    return this.of(place).page(this.indexOf(place));
  }

  /** `count` pages from `place` on as few views. */
  views(place: number, count: number): Uint8Array[] {
    const chunk = this.of(place);
    const views: Uint8Array[] = [];
    const end = this.indexOf(place) + count;
    for (let index = this.indexOf(place); index < end; ) {
      const start = index % PIECE_PAGES;
      const pages = Math.min(PIECE_PAGES - start, end - index);
      const bytes = chunk.piece(index).subarray(start * PAGE_BYTES, (start + pages) * PAGE_BYTES);
      views.push(bytes);
      index += pages;
    }
    return views;
  }
}
