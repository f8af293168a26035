/**
 * Pages of the log by place: from a cache, from a fetch already under way, or from the owner. What
 * stands at a place never changes, so nothing here can be stale; a segment that is deleted takes
 * its places along (`forget`).
 */
import type { HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import type { VolumeOwner } from '../replication/owner-api.js';
import { CACHE_PAGES } from './limits.js';
import { pageOfPlace, type SegmentTable, slotOfPlace } from './segments.js';

export type Fetched = (error: HoldfastError | null, data: Uint8Array | null) => void;

interface Fetch {
  readonly place: number;
  readonly count: number;
  readonly waiting: Wanted[];
}

/** What one caller wants of a fetch. */
interface Wanted {
  readonly place: number;
  readonly count: number;
  readonly done: Fetched;
}

export class PageSource {
  readonly #owner: VolumeOwner;
  readonly #segments: SegmentTable;
  readonly #capacity: number;
  /** In order of last use. */
  readonly #cache = new Map<number, Uint8Array>();
  readonly #fetches = new Set<Fetch>();

  constructor(owner: VolumeOwner, segments: SegmentTable, capacity = CACHE_PAGES) {
    this.#owner = owner;
    this.#segments = segments;
    this.#capacity = capacity;
  }

  /** A page that is in memory. It must not be changed. */
  cached(place: number): Uint8Array | null {
    const page = this.#cache.get(place);
    if (page === undefined) return null;
    this.#cache.delete(place);
    this.#cache.set(place, page);
    return page;
  }

  keep(place: number, page: Uint8Array): void {
    this.#cache.delete(place);
    this.#cache.set(place, page);
    if (this.#cache.size <= this.#capacity) return;
    for (const oldest of this.#cache.keys()) {
      this.#cache.delete(oldest);
      return;
    }
  }

  /** Nothing at places of this segment slot means anything any more. */
  forget(slot: number): void {
    for (const place of [...this.#cache.keys()]) {
      if (slotOfPlace(place) === slot) this.#cache.delete(place);
    }
  }

  /**
   * The `count` pages from `place` on, and up to `ahead` more of the same segment for the cache.
   * `done` gets a view of exactly `count` pages. A page that cannot be read fails only those who
   * want it: not who joined a larger fetch, nor who had more read ahead.
   */
  fetch(place: number, count: number, ahead: number, done: Fetched): void {
    const wanted: Wanted = { place, count, done };
    for (const fetch of this.#fetches) {
      if (place < fetch.place || place + count > fetch.place + fetch.count) continue;
      fetch.waiting.push(wanted);
      return;
    }
    this.#start({ place, count: count + ahead, waiting: [wanted] }, count);
  }

  #start(fetch: Fetch, keepFrom: number): void {
    this.#fetches.add(fetch);
    const segment = this.#segments.idOf(slotOfPlace(fetch.place));
    this.#owner.readPages(segment, pageOfPlace(fetch.place), fetch.count, (error, data) => {
      this.#fetches.delete(fetch);
      if (data !== null) this.#keepAhead(fetch.place + keepFrom, data, keepFrom);
      for (const wanted of fetch.waiting) this.#answer(fetch, wanted, error, data);
    });
  }

  #answer(
    fetch: Fetch,
    wanted: Wanted,
    error: HoldfastError | null,
    data: Uint8Array | null,
  ): void {
    const { place, count, done } = wanted;
    if (error === null && data !== null) {
      const from = (place - fetch.place) * PAGE_BYTES;
      done(null, data.subarray(from, from + count * PAGE_BYTES));
    } else if (count === fetch.count || this.#segments.at(slotOfPlace(place)) === null) {
      done(error, null);
    } else {
      this.#start({ place, count, waiting: [wanted] }, count);
    }
  }

  #keepAhead(place: number, data: Uint8Array, skip: number): void {
    for (let index = skip; index * PAGE_BYTES < data.length; index++) {
      const at = index * PAGE_BYTES;
      this.keep(place + index - skip, data.subarray(at, at + PAGE_BYTES));
    }
  }
}
