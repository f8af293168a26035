/**
 * Ranges of places, found by any place inside them. Kept by blocks of places rather than by place:
 * a range of 256 pages is noted in a handful of steps, and most of what is kept is that long.
 */

export interface Range {
  readonly place: number;
  readonly count: number;
}

/** Places a block: short enough that as many ranges of one page are looked through at once. */
const BLOCK_PLACES = 64;

export class RangeIndex<T extends Range> {
  /** What reaches into each block, newest last. */
  readonly #blocks = new Map<number, T[]>();

  add(range: T): void {
    const last = lastBlock(range);
    for (let block = blockOf(range.place); block <= last; block++) {
      const here = this.#blocks.get(block);
      if (here === undefined) this.#blocks.set(block, [range]);
      else here.push(range);
    }
  }

  /** Takes out a range that was added; no other one, however similar. */
  remove(range: T): void {
    const last = lastBlock(range);
    for (let block = blockOf(range.place); block <= last; block++) {
      const here = this.#blocks.get(block);
      const at = here?.indexOf(range) ?? -1;
      if (here === undefined || at < 0) continue;
      if (here.length === 1) this.#blocks.delete(block);
      else here.splice(at, 1);
    }
  }

  /** The range that covers a place; the newest of several. */
  at(place: number): T | undefined {
    const here = this.#blocks.get(blockOf(place));
    if (here === undefined) return undefined;
    for (let i = here.length - 1; i >= 0; i--) {
      const range = here[i] as T;
      if (range.place <= place && place < range.place + range.count) return range;
    }
    return undefined;
  }

  /** How many of the `limit` places from `place` on are in no range, up to the first that is. */
  gap(place: number, limit: number): number {
    let end = place + limit;
    for (let block = blockOf(place); block * BLOCK_PLACES < end; block++) {
      for (const range of this.#blocks.get(block) ?? []) {
        const isBehind = range.place + range.count <= place;
        if (!isBehind) end = Math.min(end, Math.max(range.place, place));
      }
    }
    return end - place;
  }
}

function blockOf(place: number): number {
  return Math.floor(place / BLOCK_PLACES);
}

function lastBlock({ place, count }: Range): number {
  return blockOf(place + count - 1);
}
