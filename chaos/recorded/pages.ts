/**
 * A file that is overwritten at random, page by page: what it holds after `number` writes follows
 * from the number alone, so no history is needed to check it. It makes much log and much that is
 * dead in it, which checkpoints and the cleaner then work on while everything crashes.
 */
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { Chooser } from './random.js';

export const FILE_PAGES = 16 * 1024;
/** One request of the kernel, so it is there as a whole or not at all. */
const MAX_RUN_PAGES = 64;
const WORDS = PAGE_BYTES / 4;
const HEADER_WORDS = 3;

export interface PageRun {
  readonly page: number;
  readonly count: number;
}

/** Where write `number` goes. */
export function runOf(number: number): PageRun {
  const choose = new Chooser(number);
  const count = choose.between(1, MAX_RUN_PAGES);
  return { page: choose.below(FILE_PAGES - count), count };
}

/** What write `number` writes: each page says its place, the number, and a checksum of itself. */
export function bytesOf(number: number, { page, count }: PageRun): Buffer {
  const words = new Uint32Array(count * WORDS);
  for (let index = 0; index < count; index++) {
    const start = index * WORDS;
    words[start + 1] = page + index;
    words[start + 2] = number;
    let state = Math.imul(number, 0x9e3779b1) ^ (page + index);
    for (let at = HEADER_WORDS; at < WORDS; at++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      words[start + at] = state;
    }
    const body = Buffer.from(words.buffer, (start + 1) * 4, PAGE_BYTES - 4);
    words[start] = crc32(body);
  }
  return Buffer.from(words.buffer);
}

/**
 * The number of the write that each page of a file holds, 0 where nothing was written. Throws when
 * a page is not what was written there.
 */
export function numbersOf(file: Buffer): Uint32Array {
  const numbers = new Uint32Array(FILE_PAGES);
  for (let page = 0; page * PAGE_BYTES < file.length; page++) {
    const bytes = file.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    if (bytes.every((byte) => byte === 0)) continue;
    const isWhole =
      bytes.length === PAGE_BYTES && crc32(bytes.subarray(4)) === bytes.readUInt32LE();
    if (!isWhole || bytes.readUInt32LE(4) !== page) throw new Error(`page ${page} is damaged`);
    numbers[page] = bytes.readUInt32LE(8);
  }
  return numbers;
}

/**
 * Brings `state`, the numbers before write `first`, to the prefix of the writes from there on that
 * `found` shows, which must reach to `flushed`. Returns the last write of it, or what is wrong.
 */
export function checkPages(
  state: Uint32Array,
  found: Uint32Array,
  first: number,
  flushed: number,
): number | string {
  const last = found.reduce((most, number) => Math.max(most, number), 0);
  const end = Math.max(last, first - 1);
  if (end < flushed) return `write ${end} is the last one found, but ${flushed} was flushed`;
  for (let number = first; number <= end; number++) {
    const { page, count } = runOf(number);
    state.fill(number, page, page + count);
  }
  const wrong = state.findIndex((number, page) => number !== found[page]);
  if (wrong < 0) return end;
  return `page ${wrong} holds write ${found[wrong]} and not ${state[wrong]}, but ${end} is there`;
}
