/**
 * Which place in the log holds each page of each file: a tree from (inode slot, MiB of the file) to
 * a chunk (extent-chunk.ts). Every change keeps the segments' live counts and tells how many more
 * pages the file takes.
 */
import { assert } from '../core/assert.js';
import { type BlobArena, NO_BLOB } from './arena.js';
import {
  CHUNK_PAGES,
  decodeChunk,
  encodeChunk,
  type FoundRun,
  findRun,
  replaceDense,
  singleRun,
  visitRuns,
} from './extent-chunk.js';
import { HOLE, RESERVED, type SegmentTable } from './segments.js';
import type { Cursor, Leaf, Tree } from './tree.js';

export interface Run {
  /** HOLE, RESERVED or the place of the first page. */
  readonly place: number;
  readonly count: number;
}

/** Where a page of a file is said to be, for the cleaner. */
export type ExtentVisitor = (slot: number, page: number, count: number, place: number) => void;

export class Extents {
  readonly tree: Tree;
  readonly #arena: BlobArena;
  readonly #segments: SegmentTable;
  readonly #places = new Float64Array(CHUNK_PAGES);
  readonly #found: FoundRun = { place: HOLE, length: 0 };

  constructor(tree: Tree, arena: BlobArena, segments: SegmentTable) {
    this.tree = tree;
    this.#arena = arena;
    this.#segments = segments;
  }

  /** The place of one page. */
  place(slot: number, page: number): number {
    const blob = this.tree.get(slot, Math.floor(page / CHUNK_PAGES));
    findRun(this.#arena, blob, page % CHUNK_PAGES, this.#found);
    return this.#found.place;
  }

  /** The run that begins at a page, of at most `limit` pages; it ends at a chunk's end at least. */
  run(slot: number, page: number, limit: number): Run {
    const blob = this.tree.get(slot, Math.floor(page / CHUNK_PAGES));
    findRun(this.#arena, blob, page % CHUNK_PAGES, this.#found);
    return { place: this.#found.place, count: Math.min(limit, this.#found.length) };
  }

  /**
   * Maps `count` pages to the places from `place` on (or to HOLE or RESERVED); returns how many
   * more pages the file now takes.
   */
  set(slot: number, page: number, count: number, place: number): number {
    if (place === HOLE) return this.#clear(slot, page, page + count);
    let grown = 0;
    let next = place;
    for (let at = page; at < page + count; ) {
      const chunk = Math.floor(at / CHUNK_PAGES);
      const first = at % CHUNK_PAGES;
      const length = Math.min(CHUNK_PAGES - first, page + count - at);
      grown += this.#setInChunk(slot, chunk, first, length, next);
      at += length;
      if (place !== RESERVED) next += length;
    }
    if (place !== RESERVED) this.#segments.count(place, count);
    return grown;
  }

  /** Maps part of a chunk; counts what was there out, but not what comes in. */
  #setInChunk(slot: number, chunk: number, first: number, count: number, place: number): number {
    const places = this.#places;
    const blob = this.tree.prepare(slot, chunk);
    if (blob === NO_BLOB) {
      if (place === HOLE) return 0;
      this.tree.set(slot, chunk, singleRun(this.#arena, first, count, place));
      return count;
    }
    if (count === 1 && place !== HOLE) {
      const former = replaceDense(this.#arena, blob, first, place);
      if (former === HOLE) return 1;
      if (former > RESERVED) this.#segments.count(former, -1);
      if (former > HOLE) return 0;
    }
    decodeChunk(this.#arena, blob, places);
    const step = place === RESERVED || place === HOLE ? 0 : 1;
    let holes = 0;
    for (let i = first, next = place; i < first + count; i++, next += step) {
      const former = places[i] as number;
      if (former === HOLE) holes += 1;
      else if (former !== RESERVED) this.#segments.count(former, -1);
      places[i] = next;
    }
    const now = encodeChunk(this.#arena, blob, places);
    if (now === NO_BLOB) this.tree.delete(slot, chunk);
    else if (now !== blob) this.tree.set(slot, chunk, now);
    return place === HOLE ? holes - count : holes;
  }

  /** Makes [from, to) hole; looks only at chunks that exist, and drops whole ones in bulk. */
  #clear(slot: number, from: number, to: number): number {
    let grown = 0;
    let chunk = Math.floor(from / CHUNK_PAGES);
    const lastChunk = Math.floor(to / CHUNK_PAGES);
    if (from % CHUNK_PAGES !== 0) {
      const end = Math.min(to - chunk * CHUNK_PAGES, CHUNK_PAGES);
      grown += this.#clearInChunk(slot, chunk, from % CHUNK_PAGES, end);
      chunk += 1;
    }
    if (chunk < lastChunk) {
      this.tree.deleteRange(slot, chunk, lastChunk, (blob) => {
        grown -= this.#release(blob);
      });
    }
    if (chunk <= lastChunk && to % CHUNK_PAGES !== 0) {
      grown += this.#clearInChunk(slot, lastChunk, 0, to % CHUNK_PAGES);
    }
    return grown;
  }

  #clearInChunk(slot: number, chunk: number, first: number, end: number): number {
    if (this.tree.get(slot, chunk) === NO_BLOB) return 0;
    return this.#setInChunk(slot, chunk, first, end - first, HOLE);
  }

  /** A chunk is gone; returns how many pages it took. */
  #release(blob: number): number {
    let pages = 0;
    visitRuns(this.#arena, blob, 0, CHUNK_PAGES, (_page, count, place) => {
      pages += count;
      if (place !== RESERVED) this.#segments.count(place, -count);
    });
    this.#arena.free(blob);
    return pages;
  }

  /** Reserves the holes of a range; what is there stays. Returns how many pages that takes. */
  reserve(slot: number, page: number, count: number): number {
    let grown = 0;
    for (let at = page; at < page + count; ) {
      const first = at % CHUNK_PAGES;
      const length = Math.min(CHUNK_PAGES - first, page + count - at);
      grown += this.#reserveInChunk(slot, Math.floor(at / CHUNK_PAGES), first, length);
      at += length;
    }
    return grown;
  }

  #reserveInChunk(slot: number, chunk: number, first: number, count: number): number {
    const blob = this.tree.get(slot, chunk);
    if (blob === NO_BLOB) return this.#setInChunk(slot, chunk, first, count, RESERVED);
    const places = this.#places;
    decodeChunk(this.#arena, blob, places);
    let holes = 0;
    for (let i = first; i < first + count; i++) {
      if (places[i] !== HOLE) continue;
      places[i] = RESERVED;
      holes += 1;
    }
    if (holes === 0) return 0;
    this.tree.prepare(slot, chunk);
    const now = encodeChunk(this.#arena, blob, places);
    if (now !== blob) this.tree.set(slot, chunk, now);
    return holes;
  }

  /** How many pages of a range take space. */
  countMapped(slot: number, page: number, count: number): number {
    let mapped = 0;
    this.#scan(slot, page, page + count, (_slot, _page, length) => {
      mapped += length;
    });
    return mapped;
  }

  /** Whether a file takes space from a page on. */
  takesFrom(slot: number, page: number): boolean {
    const chunk = Math.floor(page / CHUNK_PAGES);
    if (this.countMapped(slot, page, (chunk + 1) * CHUNK_PAGES - page) > 0) return true;
    const cursor = this.tree.seek(slot, chunk + 1);
    return cursor.valid && cursor.high === slot;
  }

  /** Visits the runs of a range of one file that are not holes, in order. */
  #scan(slot: number, from: number, to: number, visit: ExtentVisitor): void {
    const cursor = this.tree.seek(slot, Math.floor(from / CHUNK_PAGES));
    for (; cursor.valid && cursor.high === slot; cursor.advance()) {
      if (cursor.low * CHUNK_PAGES >= to) return;
      this.#visitChunk(cursor, from, to, visit);
    }
  }

  #visitChunk(cursor: Cursor, from: number, to: number, visit: ExtentVisitor): void {
    const { high: slot, low, blob } = cursor;
    const base = low * CHUNK_PAGES;
    const end = Math.min(to - base, CHUNK_PAGES);
    visitRuns(this.#arena, blob, Math.max(from - base, 0), end, (page, count, place) =>
      visit(slot, base + page, count, place),
    );
  }

  /** The page behind the first `chunks` chunks of a file, or -1 when it has no more than these. */
  pageAfter(slot: number, chunks: number): number {
    const cursor = this.tree.seek(slot, 0);
    for (let left = chunks; left > 0 && cursor.valid && cursor.high === slot; left--) {
      cursor.advance();
    }
    return cursor.valid && cursor.high === slot ? cursor.low * CHUNK_PAGES : -1;
  }

  /** Visits the runs of one leaf of the tree: while a checkpoint is loaded. */
  visitLeaf(leaf: Leaf, visit: ExtentVisitor): void {
    for (let i = 0; i < leaf.count; i++) {
      const [slot, base] = [leaf.high(i), leaf.low(i) * CHUNK_PAGES];
      visitRuns(this.#arena, leaf.blob(i), 0, CHUNK_PAGES, (page, count, place) =>
        visit(slot, base + page, count, place),
      );
    }
  }

  /**
   * Visits runs of all files in order from (slot, page) on, at most `chunks` chunks of them.
   * Returns where to go on, or null at the end. The visitor must not change the map.
   */
  visit(
    from: { readonly slot: number; readonly chunk: number },
    chunks: number,
    visit: ExtentVisitor,
  ): { slot: number; chunk: number } | null {
    const cursor = this.tree.seek(from.slot, from.chunk);
    for (let left = chunks; cursor.valid; left--) {
      if (left === 0) return { slot: cursor.high, chunk: cursor.low };
      this.#visitChunk(cursor, 0, Number.MAX_SAFE_INTEGER, visit);
      cursor.advance();
    }
    return null;
  }

  /** Lets a range share the pages of another (of another file, or not overlapping). */
  share(from: number, page: number, to: number, toPage: number, count: number): number {
    const runs: { at: number; length: number; place: number }[] = [];
    this.#scan(from, page, page + count, (_slot, at, length, place) => {
      runs.push({ at: at - page, length, place });
    });
    let grown = this.#clear(to, toPage, toPage + count);
    for (const { at, length, place } of runs) grown += this.set(to, toPage + at, length, place);
    return grown;
  }

  /**
   * Pages of a range that are still in [former, former + length) are now at the same distance from
   * `place`. The leaf is touched only if there are any.
   */
  relocate(
    range: { readonly slot: number; readonly page: number; readonly count: number },
    former: number,
    length: number,
    place: number,
  ): void {
    const moved: { page: number; count: number; place: number }[] = [];
    this.#scan(range.slot, range.page, range.page + range.count, (_slot, page, count, at) => {
      const skip = Math.max(former - at, 0);
      const end = Math.min(count, former + length - at);
      if (end > skip && at !== RESERVED) {
        moved.push({ page: page + skip, count: end - skip, place: place + at + skip - former });
      }
    });
    for (const run of moved) {
      const grown = this.set(range.slot, run.page, run.count, run.place);
      assert(grown === 0, 'a relocation takes no more space');
    }
  }

  /** The first page from `page` on (below `end`) that holds data, or -1. */
  nextData(slot: number, page: number, end: number): number {
    const cursor = this.tree.seek(slot, Math.floor(page / CHUNK_PAGES));
    const found = this.#found;
    for (; cursor.valid && cursor.high === slot; cursor.advance()) {
      const base = cursor.low * CHUNK_PAGES;
      for (let at = Math.max(page - base, 0); at < CHUNK_PAGES; at += found.length) {
        if (base + at >= end) return -1;
        findRun(this.#arena, cursor.blob, at, found);
        if (found.place !== HOLE && found.place !== RESERVED) return base + at;
      }
    }
    return -1;
  }

  /** The first page from `page` on that holds no data, at most `end`. */
  nextHole(slot: number, page: number, end: number): number {
    let at = page;
    while (at < end) {
      const run = this.run(slot, at, end - at);
      if (run.place === HOLE || run.place === RESERVED) return at;
      at += run.count;
    }
    return end;
  }
}
