/**
 * Gives space in the log back: moves what lives out of segments that are mostly dead, so that the
 * next checkpoint but one finds them dead and they can be deleted. A move is an ordinary operation
 * of the history, applied only where the extent still points to the old place; so it may be late,
 * repeated or lost without harm. Which segments live where is found by walking the extents, a
 * slice at a time: there is no reverse map to keep or to trust.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { History } from './history.js';
import { SLOT_RANGE } from './limits.js';
import type { PageSource } from './page-source.js';
import type { RootStore } from './root-store.js';
import { pageOfPlace, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';

/** Cleaning begins when less than this part of the sealed log lives, and aims at the other. */
export const CLEAN_BELOW = 0.7;
export const CLEAN_UNTIL = 0.75;
/** Segments of one round at most: bounds what a round moves before it looks again. */
const VICTIMS_MAX = 16;
/** Chunks of extents that one turn of the event loop looks at. */
const SCAN_CHUNKS = 4_096;
/** Pages moved by one operation at most. */
const MOVE_PAGES = 128;
const MOVE_RECORD_BYTES = 64;
const READS_IN_FLIGHT = 4;
/** Pages that nobody needs are read along when that saves a request. */
const GAP_PAGES = 16;

export interface SegmentLoad {
  readonly segment: SegmentId;
  readonly pages: number;
  /** Pages that extents refer to, and that images of checkpoints take. */
  readonly live: number;
}

/**
 * The segments to move out of, emptiest first; none while enough of the log lives. Segments that
 * are wholly dead need no moving.
 */
export function chooseVictims(segments: readonly SegmentLoad[]): SegmentLoad[] {
  let pages = 0;
  let live = 0;
  for (const one of segments) {
    pages += one.pages;
    live += Math.min(one.live, one.pages);
  }
  if (pages === 0 || live / pages >= CLEAN_BELOW) return [];
  const candidates = segments
    .filter((one) => one.live > 0 && one.live < one.pages)
    .sort((a, b) => a.live / a.pages - b.live / b.pages);
  for (const one of segments) if (one.live === 0) pages -= one.pages;
  const victims: SegmentLoad[] = [];
  for (const one of candidates) {
    if (victims.length === VICTIMS_MAX || live / pages >= CLEAN_UNTIL) break;
    victims.push(one);
    pages -= one.pages - one.live;
  }
  return victims;
}

/** Puts what stands close together into one read, in the order of the log. */
function groupReads(found: readonly Found[]): Found[][] {
  const reads: Found[][] = [];
  let read: Found[] = [];
  for (const one of [...found].sort((a, b) => a.place - b.place)) {
    const first = read[0];
    const last = read[read.length - 1];
    const joins =
      first !== undefined &&
      last !== undefined &&
      slotOfPlace(first.place) === slotOfPlace(one.place) &&
      one.place - (last.place + last.count) <= GAP_PAGES &&
      // A shared page is found more than once.
      one.place >= last.place + last.count &&
      one.place + one.count - first.place <= READ_MAX_PAGES;
    if (joins) {
      read.push(one);
    } else {
      read = [one];
      reads.push(read);
    }
  }
  return reads;
}

export interface CleanerDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly source: PageSource;
  readonly roots: RootStore;
}

interface Found {
  readonly slot: number;
  readonly page: number;
  readonly count: number;
  readonly place: number;
}

export class Cleaner {
  readonly #deps: CleanerDeps;
  readonly #deleting = new Set<SegmentId>();
  #running = false;
  #movedPages = 0;

  constructor(deps: CleanerDeps) {
    this.#deps = deps;
  }

  /** Pages moved since the start: the cleaner's cost. */
  get movedPages(): number {
    return this.#movedPages;
  }

  /** What each sealed segment holds. */
  loads(): SegmentLoad[] {
    const { roots, state } = this.#deps;
    return roots.sealed().map(({ segment, pages }) => {
      const use = state.segments.at(state.segments.known(segment));
      const images = Math.ceil((use?.imageBytes ?? 0) / PAGE_BYTES);
      return { segment, pages, live: (use?.livePages ?? 0) + images };
    });
  }

  /** Deletes segments that no durable root reaches (CheckpointWriter.onDurable says which). */
  delete(dead: readonly SegmentId[], done: (error: HoldfastError | null) => void): void {
    const { roots, state } = this.#deps;
    const fresh = dead.filter((segment) => !this.#deleting.has(segment));
    if (fresh.length === 0) {
      done(null);
      return;
    }
    for (const segment of fresh) this.#deleting.add(segment);
    roots.deleteSegments(fresh, (error) => {
      for (const segment of fresh) {
        this.#deleting.delete(segment);
        if (error === null) state.segments.release(segment);
      }
      done(error);
    });
  }

  /** One round: moves what lives out of the victims, if there are any. */
  clean(done: (error: HoldfastError | null, victims: number) => void): void {
    const victims = this.#running ? [] : chooseVictims(this.loads());
    if (victims.length === 0) {
      this.#deps.history.deferred.run(() => done(null, 0));
      return;
    }
    this.#running = true;
    const { segments } = this.#deps.state;
    const slots = new Set(victims.map(({ segment }) => segments.known(segment)));
    this.#dirtyImages(slots);
    this.#scan({ slot: 0, chunk: 0 }, slots, (error) => {
      this.#running = false;
      done(error, victims.length);
    });
  }

  /** Images in the victims are written elsewhere by the next checkpoint. */
  #dirtyImages(slots: ReadonlySet<number>): void {
    const { inodes, trees } = this.#deps.state;
    for (const page of inodes.pages) {
      if (page.image !== null && slots.has(page.image.segment)) page.dirty = true;
    }
    for (const tree of trees) {
      for (let leaf = tree.first; ; leaf = leaf.next) {
        if (leaf.image !== null && slots.has(leaf.image.segment)) leaf.dirty = true;
        if (leaf.next === null) break;
      }
    }
  }

  #scan(
    from: { slot: number; chunk: number },
    slots: ReadonlySet<number>,
    done: (error: HoldfastError | null) => void,
  ): void {
    const found: Found[] = [];
    const { state, history } = this.#deps;
    const next = state.extents.visit(from, SCAN_CHUNKS, (slot, page, count, place) => {
      if (!slots.has(slotOfPlace(place))) return;
      for (let at = 0; at < count; at += MOVE_PAGES) {
        const length = Math.min(MOVE_PAGES, count - at);
        found.push({ slot, page: page + at, count: length, place: place + at });
      }
    });
    this.#moveAll(groupReads(found), (error) => {
      if (error !== null || next === null) done(error);
      else history.deferred.run(() => this.#scan(next, slots, done));
    });
  }

  /** Several reads at a time; ends with the first fault, when all under way have ended. */
  #moveAll(reads: readonly Found[][], done: (error: HoldfastError | null) => void): void {
    let started = 0;
    let ended = 0;
    let failure: HoldfastError | null = this.#deps.history.failure;
    const more = (error: HoldfastError | null): void => {
      failure ??= error;
      while (failure === null && started < reads.length && started - ended < READS_IN_FLIGHT) {
        const read = reads[started] as Found[];
        started += 1;
        this.#move(read, (fault) => {
          ended += 1;
          more(fault);
        });
      }
      if (started === ended && (failure !== null || started === reads.length)) done(failure);
    };
    this.#deps.history.deferred.run(() => more(null));
  }

  /** Reads a stretch of a segment and moves what was found in it. */
  #move(read: readonly Found[], done: (error: HoldfastError | null) => void): void {
    const { history, source } = this.#deps;
    const first = read[0] as Found;
    const last = read[read.length - 1] as Found;
    const pages = last.place + last.count - first.place;
    source.fetch(first.place, pages, 0, (error, data) => {
      if (error !== null && read.length > 1) {
        // What lies between may be unreadable: try each by itself.
        this.#moveAll(
          read.map((one) => [one]),
          done,
        );
        return;
      }
      if (data !== null && history.failure === null) {
        for (const one of read) {
          const start = (one.place - first.place) * PAGE_BYTES;
          this.#perform(one, data.subarray(start, start + one.count * PAGE_BYTES));
        }
      }
      history.whenRoom(() => done(error ?? history.failure));
    });
  }

  /** Records the move of those pages that are still where they were found. */
  #perform(found: Found, data: Uint8Array): void {
    const { state, history } = this.#deps;
    const { slot, page, count, place } = found;
    const inode = state.inodes.inodeOf(slot);
    if (inode % SLOT_RANGE !== slot || state.inodes.slotOf(inode) === 0) return;
    const segment = state.segments.idOf(slotOfPlace(place));
    for (let at = 0; at < count; ) {
      const run = state.extents.run(slot, page + at, count - at);
      if (run.place !== place + at) {
        at += 1;
        continue;
      }
      history.room(run.count, MOVE_RECORD_BYTES);
      const target = history.takePages(run.count);
      const chunk = history.pool.of(target);
      const start = at * PAGE_BYTES;
      const end = start + run.count * PAGE_BYTES;
      chunk.copyIn(history.pool.indexOf(target), data, start, end);
      const move = { type: 'move', inode, page: page + at, count: run.count, segment } as const;
      history.performWrite({ ...move, at: pageOfPlace(place + at) }, target);
      this.#movedPages += run.count;
      at += run.count;
    }
    history.closeIfLarge();
  }
}
