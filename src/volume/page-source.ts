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
  readonly waiting: Fetched[];
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
   * `done` gets a view of exactly `count` pages.
   */
  fetch(place: number, count: number, ahead: number, done: Fetched): void {
    for (const fetch of this.#fetches) {
      if (place < fetch.place || place + count > fetch.place + fetch.count) continue;
      fetch.waiting.push(partOf(fetch, place, count, done));
      return;
    }
    const fetch: Fetch = { place, count: count + ahead, waiting: [] };
    fetch.waiting.push(partOf(fetch, place, count, done));
    this.#fetches.add(fetch);
    const segment = this.#segments.idOf(slotOfPlace(place));
    this.#owner.readPages(segment, pageOfPlace(place), fetch.count, (error, data) => {
      this.#fetches.delete(fetch);
      if (data !== null) this.#keepAhead(place + count, data, count);
      for (const waiting of fetch.waiting) waiting(error, data);
    });
  }

  #keepAhead(place: number, data: Uint8Array, skip: number): void {
    for (let index = skip; index * PAGE_BYTES < data.length; index++) {
      const at = index * PAGE_BYTES;
      this.keep(place + index - skip, data.subarray(at, at + PAGE_BYTES));
    }
  }
}

function partOf(fetch: Fetch, place: number, count: number, done: Fetched): Fetched {
  return (error, data) => {
    if (error !== null || data === null) return done(error, null);
    const from = (place - fetch.place) * PAGE_BYTES;
    done(null, data.subarray(from, from + count * PAGE_BYTES));
  };
}
