/**
 * Reads of file data. What is pending, cached or a hole is answered from memory; the rest is
 * fetched, whole runs at once. A reader that goes through a file in order finds more and more of it
 * fetched ahead, so that several fetches are always under way.
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
/** As often as the first read is long is read ahead; twice as much with each read that goes on. */
const FIRST_WINDOW = 2;
/** A file up to this size is read together with its neighbours, as far as they are in a block. */
const SMALL_FILE_PAGES = 16;
const AROUND_PAGES = 32;
/** A directory's worth of files, and mostly in one segment. */
const NEAR_PAGES = 4096;
/** A read that finds its segment deleted under it looks up the new places this often. */
const ATTEMPTS = 4;

interface Sequence {
  /** Where the last read ended. */
  readonly end: number;
  /** Pages. */
  readonly window: number;
}

/** Bytes [offset, end) of a file. */
interface ByteRange {
  readonly slot: number;
  readonly offset: number;
  readonly end: number;
}

/** Whole pages of a file that stand at one run of places; null when they are not in memory. */
interface PlacedPages {
  readonly place: number;
  readonly count: number;
  readonly masks: readonly ZeroRange[];
  readonly pages: readonly Uint8Array[] | null;
}

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
  /** Where the small file stands that was fetched last. */
  #lastSmall = Number.NEGATIVE_INFINITY;
  /** By slot, oldest first. */
  readonly #sequential = new Map<number, Sequence>();

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
    if (offset === 0 && end === this.#state.inodes.size(slot)) this.#goAround(slot, end);
    this.#attempt({ slot, offset, end }, ATTEMPTS, done);
    const window = this.#noteOrder(slot, offset, end);
    if (window > 0) this.#goAhead(slot, Math.ceil(end / PAGE_BYTES), window);
  }

  /** How many pages behind this read are worth having soon; 0 unless the file is read in order. */
  #noteOrder(slot: number, offset: number, end: number): number {
    const before = this.#sequential.get(slot);
    let window = 0;
    if (before?.end === offset) window = before.window * 2;
    else if (offset === 0) window = FIRST_WINDOW * Math.ceil(end / PAGE_BYTES);
    window = Math.min(window, READ_AHEAD_PAGES);
    this.#sequential.delete(slot);
    this.#sequential.set(slot, { end, window: Math.max(window, 1) });
    if (this.#sequential.size > SEQUENTIAL_FILES) {
      for (const oldest of this.#sequential.keys()) {
        this.#sequential.delete(oldest);
        break;
      }
    }
    return window;
  }

  /**
   * Sees to it that the next pages of a file come. Nothing is done while half of them are at hand
   * or on their way: fetches shall be large.
   */
  #goAhead(slot: number, page: number, window: number): void {
    const { extents, inodes } = this.#state;
    const end = Math.min(page + window, Math.ceil(inodes.size(slot) / PAGE_BYTES));
    let lacking = false;
    for (let at = page; at < end; ) {
      const run = extents.run(slot, at, end - at);
      let count = run.count;
      if (slotOfPlace(run.place) !== 0) {
        if (!lacking) {
          const found = this.#source.at(run.place, run.count);
          count = found.count;
          lacking = found.kind === 'absent';
          if (lacking && at - page > window / 2) return;
        }
        if (lacking) this.#source.fetchAhead(run.place, count);
      }
      at += count;
    }
  }

  /**
   * Small files that were made one after the other stand one behind the other in the log, and are
   * mostly read together. When a whole one is to be fetched not far from where the last one was,
   * its neighbours come along: in the same request, so that it takes no longer.
   */
  #goAround(slot: number, bytes: number): void {
    const { extents } = this.#state;
    const pages = Math.ceil(bytes / PAGE_BYTES);
    const { place, count } = extents.run(slot, 0, SMALL_FILE_PAGES);
    if (count < pages || slotOfPlace(place) === 0) return;
    if (this.#source.at(place, 1).kind !== 'absent') return;
    const isNear = Math.abs(place - this.#lastSmall) < NEAR_PAGES;
    this.#lastSmall = place;
    if (!isNear) return;
    // A block at fixed bounds: what is fetched around one file does not overlap with the next's.
    const lowest = place - (place % AROUND_PAGES);
    const highest = Math.max(lowest + AROUND_PAGES, place + pages);
    let start = place;
    for (let before = slot - 1; before > slot - AROUND_PAGES && start > lowest; before--) {
      const run = extents.run(before, 0, SMALL_FILE_PAGES);
      if (run.place + run.count === start) start = Math.max(run.place, lowest);
    }
    let end = place + pages;
    for (let next = slot + 1; next < slot + AROUND_PAGES && end < highest; next++) {
      const run = extents.run(next, 0, SMALL_FILE_PAGES);
      if (run.place === end) end = Math.min(end + run.count, highest);
    }
    this.#source.fetchAhead(start, end - start);
  }

  #attempt(range: ByteRange, attempts: number, done: ReadDone): void {
    const { slot, offset, end } = range;
    const stretches: Stretch[] = [];
    let missing = 0;
    let failure: HoldfastError | null = null;
    let moved = false;
    let asked = false;
    const finish = (): void => {
      if (missing > 0 || !asked) return;
      if (failure === null) done(null, assemble(stretches));
      else if (attempts > 1 && moved) this.#attempt(range, attempts - 1, done);
      else done(failure, []);
    };
    const lastPage = Math.ceil(end / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page < lastPage; ) {
      const start = page * PAGE_BYTES;
      const { place, count, masks, pages } = this.#stretchAt(slot, page, lastPage - page);
      const from = Math.max(offset - start, 0);
      const to = Math.min(end - start, count * PAGE_BYTES);
      const stretch: Stretch = { from, to, masks, pages };
      stretches.push(stretch);
      const first = page;
      page += count;
      if (pages !== null) continue;
      missing += 1;
      this.#source.fetch(place, count, (error, data) => {
        missing -= 1;
        if (error !== null) failure ??= error;
        if (error !== null) moved ||= this.#state.extents.place(slot, first) !== place;
        if (data !== null) stretch.pages = [data];
        finish();
      });
    }
    asked = true;
    if (missing === 0) this.#history.deferred.run(finish);
  }

  /** The longest stretch from a page on that is of one kind: one place run, all or no mask. */
  #stretchAt(slot: number, page: number, limit: number): PlacedPages {
    const { extents, masks } = this.#state;
    const run = extents.run(slot, page, limit);
    const { place } = run;
    if (place === HOLE || place === RESERVED) {
      return { place, count: run.count, masks: [], pages: zeroPages(run.count) };
    }
    let limitHere = run.count;
    let ranges: readonly ZeroRange[] = [];
    if (!masks.isEmpty) {
      ranges = masks.of(slot, page);
      const next = masks.tree.seek(slot, page);
      if (ranges.length > 0) limitHere = 1;
      else if (next.valid && next.high === slot) limitHere = Math.min(run.count, next.low - page);
    }
    if (isPending(place)) {
      const pages = this.#history.pool.views(place, limitHere);
      return { place, count: limitHere, masks: ranges, pages };
    }
    const found = this.#source.at(place, limitHere);
    const pages = found.kind === 'memory' ? [found.data] : null;
    return { place, count: found.count, masks: ranges, pages };
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
