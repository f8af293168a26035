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
/**
 * Memory comes in pieces of 64 KiB, and what a chunk leaves of its last one is the next chunk's
 * first: a commit of one page takes a page, and not a piece that V8 has to account for.
 */
const PIECE_PAGES = 16;

const NO_MEMORY = Buffer.alloc(0);

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
  readonly #pieces: Buffer[];
  /** Pages of the first piece; all others have PIECE_PAGES. */
  readonly #firstPages: number;
  #count = 0;
  /** Where in files its pages are, or were: to be told of their places. */
  readonly ranges: PageRange[] = [];

  /** `first` is memory to begin with: whole pages, perhaps none. */
  constructor(id: number, first: Buffer) {
    this.id = id;
    this.#pieces = [first];
    this.#firstPages = first.length / PAGE_BYTES;
  }

  get count(): number {
    return this.#count;
  }

  /** The place of its first page. */
  get place(): number {
    return this.id * CHUNK_STRIDE;
  }

  get #capacity(): number {
    return this.#firstPages + (this.#pieces.length - 1) * PIECE_PAGES;
  }

  /** Takes `count` more pages, contents undefined; returns the place of the first. */
  take(count: number): number {
    const first = this.#count;
    this.#count += count;
    assert(this.#count <= GROUP_HARD_PAGES, 'pages of a group');
    while (this.#capacity < this.#count) {
      this.#pieces.push(Buffer.allocUnsafeSlow(PIECE_PAGES * PAGE_BYTES));
    }
    return this.place + first;
  }

  /** As many of `count` pages from `index` on as stand together in memory, as a view. */
  stretch(index: number, count: number): Buffer {
    const behind = index - this.#firstPages;
    const piece = behind < 0 ? 0 : 1 + Math.floor(behind / PIECE_PAGES);
    const at = (behind < 0 ? index : behind % PIECE_PAGES) * PAGE_BYTES;
    const bytes = present(this.#pieces[piece], 'a page of the chunk');
    return bytes.subarray(at, Math.min(at + count * PAGE_BYTES, bytes.length));
  }

  /** The bytes of page `index`, as a view. */
  page(index: number): Buffer {
    return this.stretch(index, 1);
  }

  /** Copies whole pages in from `index` on. */
  copyIn(index: number, data: Uint8Array, from: number, to: number): void {
    for (let at = from, page = index; at < to; ) {
      const target = this.stretch(page, (to - at) / PAGE_BYTES);
      target.set(data.subarray(at, at + target.length));
      at += target.length;
      page += target.length / PAGE_BYTES;
    }
  }

  /** `count` pages from `index` on, as few views. */
  views(index: number, count: number): Buffer[] {
    const views: Buffer[] = [];
    for (let at = index; at < index + count; ) {
      const view = this.stretch(at, index + count - at);
      views.push(view);
      at += view.length / PAGE_BYTES;
    }
    return views;
  }

  /** The bytes [from, to) of the pages from `index` on, as few views. */
  bytes(index: number, from: number, to: number): Buffer[] {
    const first = Math.floor(from / PAGE_BYTES);
    const views = this.views(index + first, Math.ceil(to / PAGE_BYTES) - first);
    let at = first * PAGE_BYTES;
    return views.map((view) => {
      const part = view.subarray(Math.max(0, from - at), Math.min(view.length, to - at));
      at += view.length;
      return part;
    });
  }

  /** All its pages, for the log. */
  parts(): Buffer[] {
    return this.views(0, this.#count);
  }

  /** Memory that it has not used, and never will once its group is closed. */
  rest(): Buffer {
    const spare = this.#capacity - this.#count;
    const last = present(this.#pieces[this.#pieces.length - 1], 'a piece');
    return last.subarray(last.length - spare * PAGE_BYTES);
  }
}

/** All chunks that have not yet come to the log. */
export class PendingPool {
  readonly #chunks = new Map<number, PendingChunk>();
  readonly #free: number[] = [];
  #next = 1;
  /** The chunk opened last. */
  #last: PendingChunk | null = null;

  /** A chunk for a new group; the group of the one before is closed. */
  open(): PendingChunk {
    const id = this.#free.pop() ?? this.#next++;
    assert(id < CHUNK_IDS, 'too many groups on their way');
    const chunk = new PendingChunk(id, this.#last?.rest() ?? NO_MEMORY);
    this.#last = chunk;
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
    return this.of(place).views(this.indexOf(place), count);
  }
}
