/**
 * Pages of the log by place: from a cache, from a fetch already under way, or from the owner. What
 * stands at a place never changes, so nothing here can be stale; a segment that is deleted takes
 * its places along (`forget`).
 *
 * The cache has two halves: single pages (tails of files that grow), and runs, which are whole
 * fetches that were made ahead of a reader. What covers a page, and what will, is found by its
 * place: a file whose pages lie scattered has hundreds of fetches under way.
 */
import type { HoldfastError } from '../core/errors.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { VolumeOwner } from '../replication/owner-api.js';
import { CACHE_PAGES } from './limits.js';
import { type Range, RangeIndex } from './range-index.js';
import { pageOfPlace, type SegmentTable, slotOfPlace } from './segments.js';

export type Fetched = (error: HoldfastError | null, data: Uint8Array | null) => void;

interface Run extends Range {
  readonly data: Uint8Array;
}

/** What one caller wants of a fetch. */
interface Wanted extends Range {
  readonly done: Fetched;
}

interface Fetch extends Range {
  readonly waiting: Wanted[];
  /** Was made ahead: its pages are kept. */
  readonly ahead: boolean;
}

/** How the pages from a place on are to be had, for as many as are to be had in the same way. */
export type Source =
  | { readonly kind: 'memory'; readonly count: number; readonly data: Uint8Array }
  /** A fetch under way brings them. */
  | { readonly kind: 'coming'; readonly count: number }
  | { readonly kind: 'absent'; readonly count: number };

export class PageSource {
  readonly #owner: VolumeOwner;
  readonly #segments: SegmentTable;
  readonly #pagesMax: number;
  readonly #runPagesMax: number;
  /** In order of last use. */
  readonly #pages = new Map<number, Uint8Array>();
  /** Oldest first. */
  readonly #runs = new Set<Run>();
  #runPages = 0;
  readonly #runAt = new RangeIndex<Run>();
  readonly #fetches = new Set<Fetch>();
  readonly #fetchAt = new RangeIndex<Fetch>();
  /** Pages that fetches made ahead will bring. */
  #comingPages = 0;

  constructor(owner: VolumeOwner, segments: SegmentTable, capacity = CACHE_PAGES) {
    this.#owner = owner;
    this.#segments = segments;
    this.#pagesMax = Math.ceil(capacity / 2);
    this.#runPagesMax = Math.floor(capacity / 2);
  }

  /** A page that is in memory. It must not be changed. */
  cached(place: number): Uint8Array | null {
    const found = this.at(place, 1);
    return found.kind === 'memory' ? found.data : null;
  }

  /** How to get the pages from `place` on; of at most `limit` of them. */
  at(place: number, limit: number): Source {
    const page = this.#pages.get(place);
    if (page !== undefined) {
      this.#pages.delete(place);
      this.#pages.set(place, page);
      return { kind: 'memory', count: 1, data: page };
    }
    const run = this.#runAt.at(place);
    if (run !== undefined) {
      const count = Math.min(limit, run.place + run.count - place);
      return { kind: 'memory', count, data: view(run, { place, count }) };
    }
    const fetch = this.#fetchAt.at(place);
    if (fetch !== undefined) {
      return { kind: 'coming', count: Math.min(limit, fetch.place + fetch.count - place) };
    }
    return { kind: 'absent', count: this.#absent(place, limit) };
  }

  /** How many pages from `place` on are neither here nor coming. */
  #absent(place: number, limit: number): number {
    const most = this.#fetchAt.gap(place, this.#runAt.gap(place, limit));
    if (this.#pages.size === 0) return most;
    let count = 1;
    while (count < most && !this.#pages.has(place + count)) count++;
    return count;
  }

  keep(place: number, page: Uint8Array): void {
    this.#pages.delete(place);
    this.#pages.set(place, page);
    if (this.#pages.size <= this.#pagesMax) return;
    for (const oldest of this.#pages.keys()) {
      this.#pages.delete(oldest);
      return;
    }
  }

  #keepRun(run: Run): void {
    this.#runs.add(run);
    this.#runPages += run.count;
    this.#runAt.add(run);
    for (const oldest of this.#runs) {
      if (this.#runPages <= this.#runPagesMax) return;
      this.#dropRun(oldest);
    }
  }

  #dropRun(run: Run): void {
    this.#runs.delete(run);
    this.#runPages -= run.count;
    this.#runAt.remove(run);
  }

  /** True unless it was ended before. */
  #endFetch(fetch: Fetch): boolean {
    this.#fetchAt.remove(fetch);
    return this.#fetches.delete(fetch);
  }

  /** Nothing at places of this segment slot means anything any more. */
  forget(slot: number): void {
    for (const place of [...this.#pages.keys()]) {
      if (slotOfPlace(place) === slot) this.#pages.delete(place);
    }
    for (const run of this.#runs) if (slotOfPlace(run.place) === slot) this.#dropRun(run);
    // Whoever waits is still answered; nobody joins, and nothing is kept.
    for (const fetch of this.#fetches) {
      if (slotOfPlace(fetch.place) === slot) this.#endFetch(fetch);
    }
  }

  /**
   * The `count` pages from `place` on, all in one segment. `done` gets exactly those. A page that
   * cannot be read fails only those who want it, not who joined a larger fetch. When the segment is
   * deleted meanwhile `done` gets its pages or an error, never what its slot has come to mean.
   */
  fetch(place: number, count: number, done: Fetched): void {
    const wanted: Wanted = { place, count, done };
    const fetch = this.#fetchAt.at(place);
    if (fetch !== undefined && place + count <= fetch.place + fetch.count) {
      fetch.waiting.push(wanted);
      return;
    }
    this.#start({ place, count, waiting: [wanted], ahead: false });
  }

  /**
   * Has pages brought into the cache, all in one segment, unless they are there or coming. Does
   * less when many readers go ahead: one must not drive out what another is about to read.
   */
  fetchAhead(place: number, count: number): void {
    for (let at = place; at < place + count; ) {
      const found = this.at(at, Math.min(place + count - at, READ_MAX_PAGES));
      if (found.kind === 'absent' && this.#comingPages + found.count <= this.#runPagesMax / 2) {
        this.#comingPages += found.count;
        this.#start({ place: at, count: found.count, waiting: [], ahead: true });
      }
      at += found.count;
    }
  }

  #start(fetch: Fetch): void {
    this.#fetches.add(fetch);
    this.#fetchAt.add(fetch);
    const segment = this.#segments.idOf(slotOfPlace(fetch.place));
    const { place, count, ahead } = fetch;
    this.#owner.readPages(segment, pageOfPlace(place), count, (error, data) => {
      // Not there any more: its segment is gone, and the places may have got another meaning.
      const isCurrent = this.#endFetch(fetch);
      if (ahead) this.#comingPages -= count;
      if (data !== null && ahead && isCurrent) this.#keepRun({ place, count, data: alone(data) });
      for (const wanted of fetch.waiting) {
        if (data !== null) wanted.done(null, view({ place, count, data }, wanted));
        else if (!isCurrent || wanted.count === count) wanted.done(error, null);
        else this.#start({ ...wanted, waiting: [wanted], ahead: false });
      }
    });
  }
}

/** A few pages that are kept must not keep the memory that they share with many others. */
function alone(data: Uint8Array): Uint8Array {
  if (data.buffer.byteLength <= data.length * 2) return data;
  const copy = Buffer.allocUnsafeSlow(data.length);
  copy.set(data);
  return copy;
}

function view(run: Run, { place, count }: Range): Uint8Array {
  const from = (place - run.place) * PAGE_BYTES;
  return run.data.subarray(from, from + count * PAGE_BYTES);
}
