/**
 * Moves what lives out of segments that are mostly dead, so that after the next checkpoint they can
 * be deleted. A move is an ordinary operation of the history, applied only where the extent still
 * points to the old place; so it may be late, repeated or lost without harm. Which pages live in
 * the victims, and whose they are, is found by walking the extents, a slice at a time: there is no
 * reverse map to keep or to trust. Then each victim is read in its own order and moved.
 *
 * A page that several ranges share is moved once; the others follow it.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Inode } from './filesystem-api.js';
import type { History } from './history.js';
import { CLEAN_BELOW, CLEAN_PAGES_MAX, CLEAN_UNTIL } from './limits.js';
import type { PageSource } from './page-source.js';
import type { RootStore } from './root-store.js';
import { pageOfPlace, placeOf, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';

/** Chunks of extents that one turn of the event loop looks at. */
const SCAN_CHUNKS = 256;
const OPERATION_BYTES = 64;
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
 * are wholly dead need no moving and count for nothing.
 */
export function chooseVictims(segments: readonly SegmentLoad[]): SegmentLoad[] {
  let pages = 0;
  let live = 0;
  for (const one of segments) {
    if (one.live === 0) continue;
    pages += one.pages;
    live += Math.min(one.live, one.pages);
  }
  if (pages === 0 || live / pages >= CLEAN_BELOW) return [];
  const candidates = segments
    .filter((one) => one.live > 0 && one.live < one.pages)
    .sort((a, b) => a.live / a.pages - b.live / b.pages);
  const victims: SegmentLoad[] = [];
  let chosen = 0;
  for (const one of candidates) {
    const isEnough = chosen + one.pages > CLEAN_PAGES_MAX || live / pages >= CLEAN_UNTIL;
    if (victims.length > 0 && isEnough) break;
    victims.push(one);
    chosen += one.pages;
    pages -= one.pages - one.live;
  }
  return victims;
}

/** A range of a file that refers to pages from `page` of a victim on. */
interface Sharer {
  readonly slot: number;
  readonly filePage: number;
  readonly count: number;
  readonly page: number;
}

/** Who refers to each page of a victim. */
class Victim {
  readonly segment: SegmentId;
  /** Its slot in the segment table. */
  readonly slot: number;
  readonly pages: number;
  /** For each page the inode slot of a file that refers to it, 0 for none; and the page there. */
  readonly owners: Uint32Array;
  readonly filePages: Uint32Array;
  /** Further references, by stretches of READ_MAX_PAGES. */
  readonly sharers = new Map<number, Sharer[]>();

  constructor(segment: SegmentId, slot: number, pages: number) {
    this.segment = segment;
    this.slot = slot;
    this.pages = pages;
    this.owners = new Uint32Array(pages);
    this.filePages = new Uint32Array(pages);
  }

  found(slot: number, filePage: number, count: number, page: number): void {
    for (let i = 0; i < count; i++) {
      if (this.owners[page + i] === 0) {
        this.owners[page + i] = slot;
        this.filePages[page + i] = filePage + i;
      } else {
        this.#share(slot, filePage + i, page + i);
      }
    }
  }

  #share(slot: number, filePage: number, page: number): void {
    const stretch = Math.floor(page / READ_MAX_PAGES);
    const known = this.sharers.get(stretch);
    if (known === undefined) {
      this.sharers.set(stretch, [{ slot, filePage, count: 1, page }]);
      return;
    }
    const last = known[known.length - 1] as Sharer;
    const end = last.count;
    if (last.slot === slot && last.filePage + end === filePage && last.page + end === page) {
      known[known.length - 1] = { ...last, count: end + 1 };
    } else {
      known.push({ slot, filePage, count: 1, page });
    }
  }

  /** The next pages to read, from `from` on: all that live within one stretch, few gaps. */
  nextRead(from: number): { readonly page: number; readonly count: number } | null {
    let page = from;
    while (page < this.pages && this.owners[page] === 0) page += 1;
    if (page >= this.pages) return null;
    const limit = Math.min(this.pages, page - (page % READ_MAX_PAGES) + READ_MAX_PAGES);
    let end = page + 1;
    for (let at = end; at < limit && at - end <= GAP_PAGES; at++) {
      if (this.owners[at] !== 0) end = at + 1;
    }
    return { page, count: end - page };
  }
}

/** What one read has brought. */
interface Stretch {
  readonly victim: Victim;
  readonly page: number;
  readonly count: number;
  readonly data: Uint8Array;
}

export interface CleanerDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly source: PageSource;
  readonly roots: RootStore;
  /** Calls back when so many more pages may be moved. */
  readonly pace: (pages: number, go: () => void) => void;
}

export type Cleaned = (error: HoldfastError | null, victims: number) => void;

export class Cleaner {
  readonly #deps: CleanerDeps;
  /** Segments with pages that could not be read: left alone. */
  readonly #unreadable = new Set<SegmentId>();
  /** Where each page of the stretch in hand has come to; 0: nowhere. */
  readonly #moved = new Float64Array(READ_MAX_PAGES);
  #running = false;
  #movedPages = 0;

  constructor(deps: CleanerDeps) {
    this.#deps = deps;
  }

  get isRunning(): boolean {
    return this.#running;
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

  victims(loads: readonly SegmentLoad[]): SegmentLoad[] {
    return chooseVictims(loads.filter(({ segment }) => !this.#unreadable.has(segment)));
  }

  /** One round: moves what lives out of the victims, if there are any. */
  clean(done: Cleaned): void {
    const chosen = this.#running ? [] : this.victims(this.loads());
    const { history, state } = this.#deps;
    if (chosen.length === 0) {
      history.deferred.run(() => done(null, 0));
      return;
    }
    this.#running = true;
    const victims = new Map<number, Victim>();
    for (const { segment, pages } of chosen) {
      const slot = state.segments.known(segment);
      victims.set(slot, new Victim(segment, slot, pages));
    }
    this.#dirtyImages(victims);
    this.#scan({ slot: 0, chunk: 0 }, victims, () => {
      this.#moveAll([...victims.values()], (error) => {
        this.#running = false;
        done(error, chosen.length);
      });
    });
  }

  /** Images in the victims are written elsewhere by the next checkpoint. */
  #dirtyImages(victims: ReadonlyMap<number, Victim>): void {
    const { inodes, trees } = this.#deps.state;
    for (const page of inodes.pages) {
      if (page.image !== null && victims.has(page.image.segment)) page.dirty = true;
    }
    for (const tree of trees) {
      for (let leaf = tree.first; ; leaf = leaf.next) {
        if (leaf.image !== null && victims.has(leaf.image.segment)) leaf.dirty = true;
        if (leaf.next === null) break;
      }
    }
  }

  #scan(
    from: { slot: number; chunk: number },
    victims: ReadonlyMap<number, Victim>,
    done: () => void,
  ): void {
    const { state, history } = this.#deps;
    const next = state.extents.visit(from, SCAN_CHUNKS, (slot, page, count, place) => {
      const victim = victims.get(slotOfPlace(place));
      if (victim !== undefined) victim.found(slot, page, count, pageOfPlace(place));
    });
    if (next === null || history.failure !== null) history.deferred.run(done);
    else history.deferred.run(() => this.#scan(next, victims, done));
  }

  /** Several reads at a time, in the victims' order; a bad page ends only its segment's turn. */
  #moveAll(victims: readonly Victim[], done: (error: HoldfastError | null) => void): void {
    const { history, pace } = this.#deps;
    let index = 0;
    let page = 0;
    let inFlight = 0;
    let waiting = false;
    const more = (): void => {
      while (!waiting && inFlight < READS_IN_FLIGHT && history.failure === null) {
        const victim = victims[index];
        if (victim === undefined) break;
        const read = this.#isOver(victim) ? null : victim.nextRead(page);
        if (read === null) {
          index += 1;
          page = 0;
          continue;
        }
        page = read.page + read.count;
        inFlight += 1;
        waiting = true;
        pace(read.count, () => {
          waiting = false;
          this.#move(victim, read, () => {
            inFlight -= 1;
            more();
          });
          more();
        });
      }
      const isOver = history.failure !== null || victims[index] === undefined;
      if (isOver && inFlight === 0 && !waiting) {
        inFlight = -1;
        done(history.failure);
      }
    };
    more();
  }

  /** What lived in it cannot be read, or died meanwhile: then it may be deleted already. */
  #isOver({ segment, slot }: Victim): boolean {
    const { segments } = this.#deps.state;
    return this.#unreadable.has(segment) || segments.known(segment) !== slot;
  }

  #move(victim: Victim, read: { page: number; count: number }, done: () => void): void {
    const { history, source } = this.#deps;
    const { page, count } = read;
    if (this.#isOver(victim)) {
      history.deferred.run(done);
      return;
    }
    source.fetch(placeOf(victim.slot, page), count, (error, data) => {
      if (data !== null && history.failure === null) {
        this.#perform({ victim, page, count, data });
        history.whenRoom(() => done());
        return;
      }
      if (error !== null && count > 1 && history.failure === null) {
        this.#halve(victim, read, done);
        return;
      }
      this.#unreadable.add(victim.segment);
      history.deferred.run(done);
    });
  }

  /** A page among these cannot be read: the others still move. */
  #halve(victim: Victim, read: { page: number; count: number }, done: () => void): void {
    const half = read.count >>> 1;
    this.#move(victim, { page: read.page, count: half }, () => {
      this.#move(victim, { page: read.page + half, count: read.count - half }, done);
    });
  }

  #perform(stretch: Stretch): void {
    const { victim, page, count } = stretch;
    this.#moved.fill(0);
    for (let at = page; at < page + count; ) {
      at += victim.owners[at] === 0 ? 1 : this.#moveRun(stretch, at, page + count - at);
    }
    const sharers = victim.sharers.get(Math.floor(page / READ_MAX_PAGES)) ?? [];
    for (const sharer of sharers) this.#follow(stretch, sharer);
    this.#deps.history.closeIfLarge();
  }

  /** The inode in a slot, or 0 when it is free. */
  #inode(slot: number): Inode {
    const { inodes } = this.#deps.state;
    const inode = inodes.inodeOf(slot);
    return inodes.slotOf(inode) === slot ? inode : 0;
  }

  /** Moves pages of one file from page `at` of the victim on; returns how many were dealt with. */
  #moveRun({ victim, page, data }: Stretch, at: number, limit: number): number {
    const { state, history } = this.#deps;
    const slot = victim.owners[at] as number;
    const filePage = victim.filePages[at] as number;
    const inode = this.#inode(slot);
    if (inode === 0) return 1;
    const run = state.extents.run(slot, filePage, limit);
    if (run.place !== placeOf(victim.slot, at)) return 1;
    history.room(run.count, OPERATION_BYTES);
    const target = history.takePages(run.count);
    const chunk = history.pool.of(target);
    const start = (at - page) * PAGE_BYTES;
    chunk.copyIn(history.pool.indexOf(target), data, start, start + run.count * PAGE_BYTES);
    const { segment } = victim;
    const move = { type: 'move', inode, page: filePage, count: run.count, segment, at } as const;
    history.performWrite(move, target);
    for (let i = 0; i < run.count; i++) this.#moved[at - page + i] = target + i;
    this.#movedPages += run.count;
    return run.count;
  }

  /** Whoever shares pages that have just moved goes on sharing them. */
  #follow(stretch: Stretch, sharer: Sharer): void {
    const from = Math.max(sharer.page, stretch.page);
    const end = Math.min(sharer.page + sharer.count, stretch.page + stretch.count);
    const inode = this.#inode(sharer.slot);
    for (let at = from; at < end && inode !== 0; ) {
      at += this.#followRun(stretch, { ...sharer, count: end - sharer.page }, inode, at);
    }
  }

  /** The same for the pages from `at` on that follow together; returns how many. */
  #followRun(stretch: Stretch, sharer: Sharer, inode: Inode, at: number): number {
    const { state, history } = this.#deps;
    const { victim } = stretch;
    const page = sharer.filePage + at - sharer.page;
    const run = state.extents.run(sharer.slot, page, sharer.page + sharer.count - at);
    if (run.place !== placeOf(victim.slot, at)) return 1;
    const slot = victim.owners[at] as number;
    const fromPage = victim.filePages[at] as number;
    const place = this.#moved[at - stretch.page] as number;
    if (place === 0 || state.extents.place(slot, fromPage) !== place) {
      // The one it shared with has gone another way: now it is the owner, and moves.
      victim.owners[at] = sharer.slot;
      victim.filePages[at] = page;
      return this.#moveRun(stretch, at, 1);
    }
    let count = 1;
    while (count < run.count) {
      const goesOn =
        victim.owners[at + count] === slot &&
        victim.filePages[at + count] === fromPage + count &&
        this.#moved[at + count - stretch.page] === place + count;
      if (!goesOn || state.extents.place(slot, fromPage + count) !== place + count) break;
      count += 1;
    }
    const { segment } = victim;
    const from = this.#inode(slot);
    history.perform({ type: 'follow', inode, page, count, from, fromPage, segment, at });
    history.alsoAt(place, inode, page, count);
    return count;
  }
}
