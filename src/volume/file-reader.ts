/**
 * Reads of file data. What is pending, cached or a hole is answered from memory; the rest is
 * fetched, whole runs at once, with more behind it for a reader that goes through a file in order.
 * A page that is partly masked is copied; everything else is a view.
 */
import type { HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import type { FsError } from './filesystem-api.js';
import type { History } from './history.js';
import { READ_AHEAD_PAGES } from './limits.js';
import type { PageSource } from './page-source.js';
import { isPending } from './pending.js';
import { HOLE, RESERVED, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';
import { type ZeroRange, zeroRanges } from './zero-masks.js';

export type ReadDone = (
  error: FsError | HoldfastError | null,
  parts: readonly Uint8Array[],
) => void;

const ZEROES = Buffer.alloc(64 * PAGE_BYTES);
/** Files that are remembered as read in order. */
const SEQUENTIAL_FILES = 64;
/** A read that finds its segment deleted under it looks up the new places this often. */
const ATTEMPTS = 4;

/** A stretch of the answer: bytes [from, to) of some pages. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly masks: readonly ZeroRange[];
  /** Whole pages. Null until fetched. */
  pages: readonly Uint8Array[] | null;
}

export interface ReaderDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly source: PageSource;
}

export class FileReader {
  readonly #state: VolumeState;
  readonly #history: History;
  readonly #source: PageSource;
  /** Slot → where its last read ended. */
  readonly #sequential = new Map<number, number>();

  constructor(deps: ReaderDeps) {
    this.#state = deps.state;
    this.#history = deps.history;
    this.#source = deps.source;
  }

  read(slot: number, offset: number, length: number, done: ReadDone): void {
    const end = Math.min(offset + length, this.#state.inodes.size(slot));
    if (end <= offset) {
      this.#history.deferred.run(() => done(null, []));
      return;
    }
    const inOrder = this.#noteOrder(slot, offset, end);
    this.#attempt({ slot, offset, end, inOrder }, ATTEMPTS, done);
  }

  #noteOrder(slot: number, offset: number, end: number): boolean {
    const inOrder = offset === 0 || this.#sequential.get(slot) === offset;
    this.#sequential.delete(slot);
    this.#sequential.set(slot, end);
    if (this.#sequential.size > SEQUENTIAL_FILES) {
      for (const oldest of this.#sequential.keys()) {
        this.#sequential.delete(oldest);
        break;
      }
    }
    return inOrder;
  }

  #attempt(
    range: { slot: number; offset: number; end: number; inOrder: boolean },
    attempts: number,
    done: ReadDone,
  ): void {
    const { slot, offset, end } = range;
    const stretches: Stretch[] = [];
    let missing = 0;
    let failure: HoldfastError | null = null;
    let moved = false;
    let returned = false;
    const finish = (): void => {
      if (missing > 0 || !returned) return;
      if (failure === null) {
        done(null, assemble(stretches));
        return;
      }
      if (attempts > 1 && moved) {
        this.#attempt(range, attempts - 1, done);
        return;
      }
      done(failure, []);
    };
    const lastPage = Math.ceil(end / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page < lastPage; ) {
      const start = page * PAGE_BYTES;
      const { place, count, masks } = this.#stretchAt(slot, page, lastPage - page);
      const from = Math.max(offset - start, 0);
      const to = Math.min(end - start, count * PAGE_BYTES);
      const stretch: Stretch = { from, to, masks, pages: this.#inMemory(place, count) };
      stretches.push(stretch);
      const first = page;
      page += count;
      if (stretch.pages !== null) continue;
      missing += 1;
      const ahead = range.inOrder ? this.#ahead(slot, page, place + count) : 0;
      this.#source.fetch(place, count, ahead, (error, data) => {
        missing -= 1;
        if (error !== null) failure ??= error;
        if (error !== null) moved ||= this.#state.extents.place(slot, first) !== place;
        if (data !== null) stretch.pages = [data];
        finish();
      });
    }
    if (missing > 0) {
      returned = true;
      return;
    }
    this.#history.deferred.run(() => {
      returned = true;
      finish();
    });
  }

  /** The longest stretch from a page on that is of one kind: one place run, all or no mask. */
  #stretchAt(
    slot: number,
    page: number,
    limit: number,
  ): { place: number; count: number; masks: readonly ZeroRange[] } {
    const { extents, masks } = this.#state;
    const run = extents.run(slot, page, limit);
    const isData = run.place !== HOLE && run.place !== RESERVED;
    let count = run.count;
    if (isData && !masks.isEmpty) {
      const here = masks.of(slot, page);
      if (here.length > 0) return { place: run.place, count: 1, masks: here };
      const next = masks.tree.seek(slot, page);
      if (next.valid && next.high === slot) count = Math.min(count, next.low - page);
    }
    if (!isData || isPending(run.place)) return { place: run.place, count, masks: [] };
    const isCached = this.#source.cached(run.place) !== null;
    let same = 1;
    while (same < count && (this.#source.cached(run.place + same) !== null) === isCached) same++;
    return { place: run.place, count: same, masks: [] };
  }

  /** The pages from a place on, or null if they have to be fetched. */
  #inMemory(place: number, count: number): readonly Uint8Array[] | null {
    if (place === HOLE || place === RESERVED) return zeroPages(count);
    if (isPending(place)) return this.#history.pool.views(place, count);
    const pages: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      const page = this.#source.cached(place + i);
      if (page === null) return null;
      pages.push(page);
    }
    return pages;
  }

  /** How many pages of the file from `page` on stand at `place` and behind it. */
  #ahead(slot: number, page: number, place: number): number {
    let count = 0;
    while (count < READ_AHEAD_PAGES) {
      const run = this.#state.extents.run(slot, page + count, READ_AHEAD_PAGES - count);
      if (run.place !== place + count || slotOfPlace(run.place) !== slotOfPlace(place)) break;
      if (this.#source.cached(run.place) !== null) break;
      count += run.count;
    }
    return count;
  }
}

function zeroPages(count: number): Uint8Array[] {
  const pages: Uint8Array[] = [];
  for (let left = count * PAGE_BYTES; left > 0; ) {
    const length = Math.min(left, ZEROES.length);
    pages.push(ZEROES.subarray(0, length));
    left -= length;
  }
  return pages;
}

/** The bytes asked for, cut out of whole pages. */
function assemble(stretches: readonly Stretch[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (const { from, to, masks, pages } of stretches) {
    let at = 0;
    for (const page of pages ?? []) {
      let bytes = page;
      if (masks.length > 0) {
        bytes = Buffer.from(page);
        zeroRanges(bytes, 0, masks);
      }
      const first = Math.max(from - at, 0);
      const end = Math.min(to - at, bytes.length);
      if (end > first) parts.push(bytes.subarray(first, end));
      at += bytes.length;
    }
  }
  return parts;
}
