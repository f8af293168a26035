/**
 * The extents of one MiB of a file (256 pages) as a blob: runs of 8 bytes {first page, length - 1,
 * place} while there are few, else 6 bytes for each of the 256 pages. Both are formats of
 * checkpoint images. Decoding goes through one scratch array of 256 places.
 */
import { type BlobArena, type BlobRef, NO_BLOB } from './arena.js';
import { HOLE, RESERVED } from './segments.js';

export const CHUNK_PAGES = 256;
const CHUNK_MASK = CHUNK_PAGES - 1;
const RUN_BYTES = 8;
const RUN_WORDS = 2;
const DENSE_BYTES = CHUNK_PAGES * 6;
const RUNS_MAX = DENSE_BYTES / RUN_BYTES - 1;
const U32 = 0x1_0000_0000;
const U16 = 0x1_0000;

/** Whether the page behind one with place `place` continues its run. */
function continues(place: number, next: number): boolean {
  return place === RESERVED ? next === RESERVED : next === place + 1 && place !== HOLE;
}

/** Fills `places` (256) from a blob. */
export function decodeChunk(arena: BlobArena, blob: BlobRef, places: Float64Array): void {
  if (blob === NO_BLOB) {
    places.fill(HOLE);
    return;
  }
  const length = arena.length(blob);
  const words = arena.words(blob);
  const at = arena.wordAt(blob);
  if (length === DENSE_BYTES) {
    for (let i = 0; i < CHUNK_PAGES; i++) {
      const pair = words[at + CHUNK_PAGES + (i >>> 1)] as number;
      const high = (i & 1) === 0 ? pair % U16 : pair >>> 16;
      places[i] = high * U32 + (words[at + i] as number);
    }
    return;
  }
  places.fill(HOLE);
  for (let run = 0; run < length / RUN_BYTES; run++) {
    const head = words[at + run * RUN_WORDS] as number;
    const start = head & CHUNK_MASK;
    const end = start + ((head >>> 8) & CHUNK_MASK) + 1;
    const first = (head >>> 16) * U32 + (words[at + run * RUN_WORDS + 1] as number);
    const step = first === RESERVED ? 0 : 1;
    for (let i = start, place = first; i < end; i++, place += step) places[i] = place;
  }
}

/** Where `find` leaves what it found. */
export interface FoundRun {
  place: number;
  length: number;
}

const DENSE_RUN: FoundRun = { place: HOLE, length: 0 };

/** The run that page `page` of the chunk is in: its place there and how far it goes on. */
export function findRun(arena: BlobArena, blob: BlobRef, page: number, found: FoundRun): void {
  found.place = HOLE;
  found.length = CHUNK_PAGES - page;
  if (blob === NO_BLOB) return;
  const length = arena.length(blob);
  const words = arena.words(blob);
  const at = arena.wordAt(blob);
  if (length === DENSE_BYTES) {
    findDense(words, at, page, found);
    return;
  }
  for (let run = 0; run < length / RUN_BYTES; run++) {
    const head = words[at + run * RUN_WORDS] as number;
    const start = head & CHUNK_MASK;
    const end = start + ((head >>> 8) & CHUNK_MASK) + 1;
    if (end <= page) continue;
    if (start > page) {
      found.length = start - page;
      return;
    }
    const first = (head >>> 16) * U32 + (words[at + run * RUN_WORDS + 1] as number);
    found.place = first === RESERVED ? RESERVED : first + page - start;
    found.length = end - page;
    return;
  }
}

/**
 * Visits the runs of pages [from, to) of a chunk that are not holes, in order. The visitor must not
 * change the arena.
 */
export function visitRuns(
  arena: BlobArena,
  blob: BlobRef,
  from: number,
  to: number,
  visit: (page: number, count: number, place: number) => void,
): void {
  const length = arena.length(blob);
  const words = arena.words(blob);
  const at = arena.wordAt(blob);
  if (length === DENSE_BYTES) {
    for (let page = from; page < to; ) {
      findDense(words, at, page, DENSE_RUN);
      const count = Math.min(DENSE_RUN.length, to - page);
      const { place } = DENSE_RUN;
      if (place !== HOLE) visit(page, count, place);
      page += count;
    }
    return;
  }
  for (let run = 0; run < length / RUN_BYTES; run++) {
    const head = words[at + run * RUN_WORDS] as number;
    const start = head & CHUNK_MASK;
    const end = Math.min(to, start + ((head >>> 8) & CHUNK_MASK) + 1);
    const first = Math.max(from, start);
    if (end <= first) continue;
    const place = (head >>> 16) * U32 + (words[at + run * RUN_WORDS + 1] as number);
    visit(first, end - first, place === RESERVED ? RESERVED : place + first - start);
  }
}

/** Whether a blob is a chunk in one of the two forms: for a check of the volume. */
export function isChunk(arena: BlobArena, blob: BlobRef): boolean {
  const length = arena.length(blob);
  if (length === DENSE_BYTES) return true;
  if (length === 0 || length % RUN_BYTES !== 0 || length > DENSE_BYTES) return false;
  const words = arena.words(blob);
  const at = arena.wordAt(blob);
  let former = 0;
  for (let run = 0; run < length / RUN_BYTES; run++) {
    const head = words[at + run * RUN_WORDS] as number;
    const start = head & CHUNK_MASK;
    const end = start + ((head >>> 8) & CHUNK_MASK) + 1;
    if (start < former || end > CHUNK_PAGES) return false;
    former = end;
  }
  return true;
}

/** A chunk that consists of one run. */
export function singleRun(arena: BlobArena, page: number, count: number, place: number): BlobRef {
  const blob = arena.allocate(RUN_BYTES);
  const at = arena.wordAt(blob);
  const words = arena.words(blob);
  words[at] = page + (count - 1) * 0x100 + Math.floor(place / U32) * U16;
  words[at + 1] = place % U32;
  return blob;
}

function densePlace(words: Uint32Array, at: number, page: number): number {
  const pair = words[at + CHUNK_PAGES + (page >>> 1)] as number;
  const high = (page & 1) === 0 ? pair % U16 : pair >>> 16;
  return high * U32 + (words[at + page] as number);
}

function findDense(words: Uint32Array, at: number, page: number, found: FoundRun): void {
  let place = densePlace(words, at, page);
  found.place = place;
  let end = page + 1;
  while (end < CHUNK_PAGES) {
    const next = densePlace(words, at, end);
    if (place === HOLE ? next !== HOLE : !continues(place, next)) break;
    place = next;
    end += 1;
  }
  found.length = end - page;
}

/**
 * Changes one page of a chunk that is in the dense form and returns what was there, or -1 when it
 * is not: the fast way for files written at random. The leaf must have been touched.
 */
export function replaceDense(arena: BlobArena, blob: BlobRef, page: number, place: number): number {
  if (blob === NO_BLOB || arena.length(blob) !== DENSE_BYTES) return -1;
  const words = arena.words(blob);
  const at = arena.wordAt(blob);
  const former = densePlace(words, at, page);
  words[at + page] = place % U32;
  const pair = at + CHUNK_PAGES + (page >>> 1);
  const both = words[pair] as number;
  const high = Math.floor(place / U32);
  words[pair] = (page & 1) === 0 ? both - (both % U16) + high : (both % U16) + high * U16;
  return former;
}

function countRuns(places: Float64Array): number {
  let runs = 0;
  for (let i = 0; i < CHUNK_PAGES; i++) {
    const place = places[i] as number;
    if (place === HOLE) continue;
    if (i === 0 || !continues(places[i - 1] as number, place)) runs += 1;
  }
  return runs;
}

/**
 * Replaces `blob` by one for `places` and returns it: 0 when all is hole. The leaf that points to
 * it must have been touched.
 */
export function encodeChunk(arena: BlobArena, blob: BlobRef, places: Float64Array): BlobRef {
  const runs = countRuns(places);
  const length = runs > RUNS_MAX ? DENSE_BYTES : runs * RUN_BYTES;
  let target = blob;
  if (blob !== NO_BLOB && (length === 0 || !arena.fits(blob, length))) {
    arena.free(blob);
    target = NO_BLOB;
  }
  if (length === 0) return NO_BLOB;
  if (target === NO_BLOB) target = arena.allocate(length);
  else arena.resize(target, length);
  const words = arena.words(target);
  const at = arena.wordAt(target);
  if (length === DENSE_BYTES) encodeDense(words, at, places);
  else encodeRuns(words, at, places);
  return target;
}

function encodeDense(words: Uint32Array, at: number, places: Float64Array): void {
  for (let i = 0; i < CHUNK_PAGES; i += 2) {
    const even = places[i] as number;
    const odd = places[i + 1] as number;
    words[at + i] = even % U32;
    words[at + i + 1] = odd % U32;
    words[at + CHUNK_PAGES + (i >>> 1)] = Math.floor(even / U32) + Math.floor(odd / U32) * U16;
  }
}

function encodeRuns(words: Uint32Array, at: number, places: Float64Array): void {
  let word = at;
  for (let i = 0; i < CHUNK_PAGES; ) {
    const first = places[i] as number;
    const start = i;
    i += 1;
    if (first === HOLE) continue;
    while (i < CHUNK_PAGES && continues(places[i - 1] as number, places[i] as number)) i += 1;
    const high = Math.floor(first / U32);
    words[word] = start + (i - start - 1) * 0x100 + high * U16;
    words[word + 1] = first % U32;
    word += RUN_WORDS;
  }
}
