/**
 * Parts of pages that read as zeroes although the page's bytes in the log say otherwise: what lies
 * behind the end of a truncated file, and the ragged ends of a punched hole. So truncate and punch
 * need to read and write no data, and answer at once; the next write of such a page writes it whole
 * and drops the mask.
 *
 * A tree from (inode slot, page) to a list of [start, end) pairs of 16 bits, sorted and apart.
 */
import { PAGE_BYTES } from '../core/units.js';
import { type BlobArena, NO_BLOB } from './arena.js';
import type { Tree } from './tree.js';

const PAIR_BYTES = 4;

export interface ZeroRange {
  readonly start: number;
  readonly end: number;
}

export class ZeroMasks {
  readonly tree: Tree;
  readonly #arena: BlobArena;

  constructor(tree: Tree, arena: BlobArena) {
    this.tree = tree;
    this.#arena = arena;
  }

  get isEmpty(): boolean {
    return this.tree.size === 0;
  }

  /** What of a page reads as zeroes. */
  of(slot: number, page: number): readonly ZeroRange[] {
    if (this.isEmpty) return [];
    const blob = this.tree.get(slot, page);
    return blob === NO_BLOB ? [] : this.#decode(blob);
  }

  #decode(blob: number): ZeroRange[] {
    const bytes = this.#arena.view(blob);
    const ranges: ZeroRange[] = [];
    for (let at = 0; at < bytes.length; at += PAIR_BYTES) {
      ranges.push({ start: bytes.readUInt16LE(at), end: bytes.readUInt16LE(at + 2) });
    }
    return ranges;
  }

  /** Zeroes [start, end) of a page that holds data. */
  add(slot: number, page: number, start: number, end: number): void {
    const merged: ZeroRange[] = [];
    let first = start;
    let last = end;
    for (const range of this.of(slot, page)) {
      if (range.end < first || range.start > last) {
        merged.push(range);
      } else {
        first = Math.min(first, range.start);
        last = Math.max(last, range.end);
      }
    }
    merged.push({ start: first, end: last });
    merged.sort((a, b) => a.start - b.start);
    this.#put(slot, page, merged);
  }

  #put(slot: number, page: number, ranges: readonly ZeroRange[]): void {
    const bytes = Buffer.alloc(ranges.length * PAIR_BYTES);
    for (const [index, range] of ranges.entries()) {
      bytes.writeUInt16LE(range.start, index * PAIR_BYTES);
      bytes.writeUInt16LE(range.end, index * PAIR_BYTES + 2);
    }
    const former = this.tree.prepare(slot, page);
    if (former !== NO_BLOB) this.#arena.free(former);
    this.tree.set(slot, page, this.#arena.store(bytes));
  }

  /** Pages [from, to) were replaced or are gone. */
  clear(slot: number, from: number, to: number): void {
    while (!this.isEmpty) {
      const cursor = this.tree.seek(slot, from);
      if (!cursor.valid || cursor.high !== slot || cursor.low >= to) return;
      this.#arena.free(this.tree.prepare(slot, cursor.low));
      this.tree.delete(slot, cursor.low);
    }
  }

  /** Pages that now share their data with others share their masks, too. */
  share(from: number, page: number, to: number, toPage: number, count: number): void {
    if (this.isEmpty) return;
    const copied: { page: number; ranges: readonly ZeroRange[] }[] = [];
    const cursor = this.tree.seek(from, page);
    for (; cursor.valid && cursor.high === from && cursor.low < page + count; cursor.advance()) {
      copied.push({ page: cursor.low - page, ranges: this.#decode(cursor.blob) });
    }
    this.clear(to, toPage, toPage + count);
    for (const one of copied) this.#put(to, toPage + one.page, one.ranges);
  }
}

/** Applies the mask to a copy of the page's bytes at `at`. */
export function zeroRanges(target: Uint8Array, at: number, ranges: readonly ZeroRange[]): void {
  for (const range of ranges) {
    target.fill(0, at + range.start, at + Math.min(range.end, PAGE_BYTES));
  }
}
