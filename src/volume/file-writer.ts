/**
 * Writes of file data. The log holds whole pages, so a write that covers only part of a page that
 * holds data needs the rest of it: from memory, or fetched first, and then looked at again from the
 * start, since anything may have changed meanwhile. Once everything needed is in memory the write
 * happens in one step: that is its moment in the history.
 */
import type { HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import { type Done, FsError, type Inode } from './filesystem-api.js';
import type { History } from './history.js';
import type { Filled } from './intent-log.js';
import { FILE_MAX_BYTES, WRITE_MAX_BYTES } from './limits.js';
import type { Write } from './operations.js';
import type { PageSource } from './page-source.js';
import { isPending } from './pending.js';
import { HOLE, RESERVED } from './segments.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';
import { zeroRanges } from './zero-masks.js';

/** At most the bytes of a write's operations: one for each stretch of pages. */
const OPERATION_BYTES = 56;

export interface WriterDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly source: PageSource;
  readonly clock: Clock;
  /** Throws ENOSPC unless so many more pages fit into the volume. */
  readonly requireRoom: (pages: number) => void;
}

interface Target {
  readonly inode: Inode;
  readonly offset: number;
  readonly data: Uint8Array;
}

/** A write that waits for pages, and what must not overtake it. */
interface Waiting {
  readonly target: Target;
  readonly behind: (() => void)[];
}

export class FileWriter {
  readonly #deps: WriterDeps;
  readonly #waiting = new Set<Waiting>();

  constructor(deps: WriterDeps) {
    this.#deps = deps;
  }

  write(target: Target, done: Done): void {
    if (target.offset + target.data.length > FILE_MAX_BYTES) {
      this.#fail(new FsError('EFBIG', 'the file would be too large'), done);
      return;
    }
    const { inode, offset, data } = target;
    let kept = target;
    if (data.length === 0) this.#deps.history.whenRoom(done);
    else if (this.delays(inode, offset, data.length, () => this.write(kept, done))) {
      kept = owned(target);
    } else if (data.length <= WRITE_MAX_BYTES) this.#writeFrom(target, 0, done);
    else this.#writeFrom(owned(target), 0, done);
  }

  /**
   * Whether a write that came before, and waits for its pages, changes a page of this range: then
   * `again` is called once it is over. The kernel keeps a page that was read meanwhile as it was:
   * of an asynchronous direct write it drops what is cached when it sends it, and not at its end.
   * And the program that a write is of may be dead by then, and another one have written there.
   */
  delays(inode: Inode, offset: number, length: number, again: () => void): boolean {
    const first = Math.floor(offset / PAGE_BYTES);
    const last = Math.floor((offset + length - 1) / PAGE_BYTES);
    for (const { target, behind } of this.#waiting) {
      const end = target.offset + target.data.length;
      if (target.inode !== inode || end <= first * PAGE_BYTES) continue;
      if (target.offset >= (last + 1) * PAGE_BYTES) continue;
      behind.push(again);
      return true;
    }
    return false;
  }

  #fail(error: unknown, done: Done): void {
    if (!(error instanceof FsError)) throw error;
    this.#deps.history.deferred.run(() => done(error));
  }

  /** Writes what is left, one operation's worth at a time. */
  #writeFrom(target: Target, from: number, done: Done): void {
    const end = Math.min(target.data.length, from + WRITE_MAX_BYTES);
    const part = {
      inode: target.inode,
      offset: target.offset + from,
      data: target.data.subarray(from, end),
    };
    const isLast = end === target.data.length;
    this.#attempt(part, new Map(), (error) => {
      if (error !== null || isLast) done(error);
      else this.#writeFrom(target, end, done);
    });
  }

  /** `known` holds pages fetched for this write, by place. */
  #attempt(part: Target, known: Map<number, Uint8Array>, done: Done): void {
    const { history, state } = this.#deps;
    try {
      history.assertAlive();
      const slot = state.inodes.slotOf(part.inode);
      if (slot === 0) throw new FsError('ESTALE', 'the file is gone');
      const missing = this.#missing(slot, part, known);
      if (missing.length > 0) {
        this.#fetch(part, missing, known, done);
        return;
      }
      this.#perform(slot, part, known);
      history.whenRoom(done);
    } catch (error) {
      this.#fail(error, done);
    }
  }

  #fetch(
    part: Target,
    missing: readonly number[],
    known: Map<number, Uint8Array>,
    done: Done,
  ): void {
    let left = missing.length;
    const failed = new Map<number, HoldfastError>();
    const later = owned(part);
    const waiting: Waiting = { target: later, behind: [] };
    this.#waiting.add(waiting);
    for (const place of missing) {
      this.#deps.source.fetch(place, 1, (error, data) => {
        left -= 1;
        if (error !== null) failed.set(place, error);
        if (data !== null) known.set(place, data);
        if (left > 0) return;
        this.#waiting.delete(waiting);
        const failure = this.#failure(later, known, failed);
        if (failure !== null) done(failure);
        else this.#attempt(later, known, done);
        for (const again of waiting.behind) again();
      });
    }
  }

  /** Why the write cannot go on; a page that has moved meanwhile is fetched from where it is. */
  #failure(
    part: Target,
    known: ReadonlyMap<number, Uint8Array>,
    failed: ReadonlyMap<number, HoldfastError>,
  ): HoldfastError | null {
    const slot = this.#deps.state.inodes.slotOf(part.inode);
    if (failed.size === 0 || slot === 0) return null;
    const lacking = this.#missing(slot, part, known).find((place) => failed.has(place));
    return lacking === undefined ? null : (failed.get(lacking) ?? null);
  }

  /** Places in the log whose pages the write changes in part only, and that are not in memory. */
  #missing(slot: number, part: Target, known: ReadonlyMap<number, Uint8Array>): number[] {
    const { state, source } = this.#deps;
    const missing: number[] = [];
    const end = part.offset + part.data.length;
    const size = state.inodes.size(slot);
    for (const page of raggedPages(part.offset, end)) {
      if (coversContent(page, part.offset, end, size)) continue;
      const place = state.extents.place(slot, page);
      if (place === HOLE || place === RESERVED || isPending(place)) continue;
      if (known.has(place)) continue;
      const cached = source.cached(place);
      if (cached === null) missing.push(place);
    }
    return missing;
  }

  #perform(slot: number, part: Target, known: ReadonlyMap<number, Uint8Array>): void {
    const { history, state } = this.#deps;
    const end = part.offset + part.data.length;
    const first = Math.floor(part.offset / PAGE_BYTES);
    const count = Math.ceil(end / PAGE_BYTES) - first;
    const mapped = state.extents.countMapped(slot, first, count);
    if (mapped < count) this.#deps.requireRoom(count - mapped);
    history.room(count, (count + 1) * OPERATION_BYTES);
    const size = Math.max(state.inodes.size(slot), end);
    const time = timeNow(this.#deps.clock);
    const { inode } = part;
    let recorded = false;
    for (let page = first; page < first + count; ) {
      const fresh = this.#freshPages(slot, page, first + count);
      if (fresh === 0) {
        const target = history.pool.page(state.extents.place(slot, page));
        const { from, to } = overlay(target, page, part);
        history.patched(inode, page, from, target.subarray(from, to));
        page += 1;
        continue;
      }
      const bases = this.#bases(slot, page, fresh, part, known);
      const place = history.takePages(fresh);
      this.#fill(place, page, fresh, part, bases);
      const write: Write = { type: 'write', inode, page, count: fresh, size, time };
      history.performWrite(write, place, filled(page, fresh, part, bases));
      recorded = true;
      page += fresh;
    }
    if (!recorded) {
      history.performWrite({ type: 'write', inode, page: first, count: 0, size, time }, 0);
    }
    history.closeIfLarge();
  }

  /** How many pages from `page` on need a new place; 0 if it may be changed where it is. */
  #freshPages(slot: number, page: number, end: number): number {
    const { history, state } = this.#deps;
    let count = 0;
    while (page + count < end) {
      const run = state.extents.run(slot, page + count, end - page - count);
      if (history.isOpen(run.place)) {
        if (state.masks.isEmpty || state.masks.of(slot, page + count).length === 0) return count;
        count += 1;
      } else {
        count += run.count;
      }
    }
    return count;
  }

  /** What the ragged pages of a stretch held, masks applied; null for zeroes. */
  #bases(
    slot: number,
    page: number,
    count: number,
    part: Target,
    known: ReadonlyMap<number, Uint8Array>,
  ): Map<number, Buffer | null> {
    const { history, source, state } = this.#deps;
    const bases = new Map<number, Buffer | null>();
    const end = part.offset + part.data.length;
    const size = state.inodes.size(slot);
    for (const ragged of raggedPages(part.offset, end)) {
      if (ragged < page || ragged >= page + count) continue;
      const place = state.extents.place(slot, ragged);
      if (place === HOLE || place === RESERVED || coversContent(ragged, part.offset, end, size)) {
        bases.set(ragged, null);
        continue;
      }
      const held = isPending(place)
        ? history.pool.page(place)
        : (known.get(place) ?? source.cached(place));
      if (held === null) throw new FsError('EIO', 'a page vanished between two looks');
      const base = Buffer.from(held);
      zeroRanges(base, 0, state.masks.of(slot, ragged));
      bases.set(ragged, base);
    }
    return bases;
  }

  /** Fills fresh pages: ragged ones from their base, whole ones from the data alone. */
  #fill(
    place: number,
    page: number,
    count: number,
    part: Target,
    bases: ReadonlyMap<number, Buffer | null>,
  ): void {
    const { pool } = this.#deps.history;
    const chunk = pool.of(place);
    const index = pool.indexOf(place);
    let from = 0;
    let to = count;
    if (bases.has(page)) from = 1;
    if (bases.has(page + count - 1)) to = Math.max(from, count - 1);
    if (to > from) {
      const at = (page + from) * PAGE_BYTES - part.offset;
      chunk.copyIn(index + from, part.data, at, at + (to - from) * PAGE_BYTES);
    }
    for (const [ragged, base] of bases) {
      const target = chunk.page(index + ragged - page);
      if (base === null) target.fill(0);
      else target.set(base);
      overlay(target, ragged, part);
    }
  }
}

/** The write with data of its own: the caller's is valid during the call only. */
function owned(target: Target): Target {
  return { ...target, data: Buffer.from(target.data) };
}

/** The pages that [offset, end) covers in part: the first, the last, both or none. */
function raggedPages(offset: number, end: number): number[] {
  const first = Math.floor(offset / PAGE_BYTES);
  const last = Math.floor((end - 1) / PAGE_BYTES);
  const pages: number[] = [];
  if (offset % PAGE_BYTES !== 0 || (first === last && end % PAGE_BYTES !== 0)) pages.push(first);
  if (end % PAGE_BYTES !== 0 && last !== first) pages.push(last);
  return pages;
}

/** Whether the write replaces all that a page holds below the file's end. */
function coversContent(page: number, offset: number, end: number, size: number): boolean {
  const start = page * PAGE_BYTES;
  return start >= size || (offset <= start && end >= Math.min(size, start + PAGE_BYTES));
}

/** Puts the part of the data that belongs to `page` over its bytes [from, to). */
function overlay(target: Uint8Array, page: number, part: Target): Filled {
  const start = page * PAGE_BYTES;
  const from = Math.max(part.offset, start);
  const to = Math.min(part.offset + part.data.length, start + PAGE_BYTES);
  target.set(part.data.subarray(from - part.offset, to - part.offset), from - start);
  return { from: from - start, to: to - start };
}

/** Which bytes of fresh pages may differ from zero: not what is beside the data, without a base. */
function filled(
  page: number,
  count: number,
  part: Target,
  bases: ReadonlyMap<number, Buffer | null>,
): Filled {
  const start = page * PAGE_BYTES;
  const length = count * PAGE_BYTES;
  const end = part.offset + part.data.length - start;
  const from = bases.get(page) === null ? Math.max(0, part.offset - start) : 0;
  const to = bases.get(page + count - 1) === null ? Math.min(length, end) : length;
  return { from, to };
}
