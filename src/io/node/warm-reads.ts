/**
 * Which parts of a disk's files are probably in the page cache, so that reading them in place
 * (without two thread switches, which cost many times the read) will not hold up the event loop:
 * what was lately written or read. A wrong guess costs one slow read; after it nothing is read in
 * place for a while.
 */
import { READ_IN_PLACE_MAX_MS } from '../../core/limits.js';

/** The grain of the guess, where most of what is read was written a moment before. */
const REGION_BYTES = 64 * 1024;
/** 4 GiB of this grain, in at most a few megabytes of memory. */
const REGIONS_MAX = 65_536;
const REGIONS_A_FILE = 2 ** 24;
/** Regions that are noted together: the bits of a word. */
const WORD_REGIONS = 32;
/** Reads that go the safe way after a slow one. */
const PENANCE = 256;

export class WarmReads {
  readonly #regionBytes: number;
  /** A generation lasts so long at most. */
  readonly #lifetimeMs: number;
  readonly #now: () => number;
  readonly #countDiskReads: () => number;
  #diskReads: number;
  #bornAt = 0;
  /** The newest regions, and those before them: two generations make forgetting cheap. */
  #young = new Regions();
  #old = new Regions();
  #penance = 0;

  constructor(
    regionBytes = REGION_BYTES,
    lifetimeMs = Number.POSITIVE_INFINITY,
    now: () => number = () => performance.now(),
    countDiskReads: () => number = () => process.resourceUsage().fsRead,
  ) {
    this.#regionBytes = regionBytes;
    this.#lifetimeMs = lifetimeMs;
    this.#now = now;
    this.#countDiskReads = countDiskReads;
    this.#diskReads = countDiskReads();
  }

  /** Bytes of a file (numbered by the disk) were written or read. */
  note(file: number, position: number, bytes: number): void {
    const last = this.#regionOf(file, position + Math.max(0, bytes - 1));
    for (let at = this.#regionOf(file, position); at <= last; at = nextWord(at)) {
      this.#young.add(wordOf(at), bitsOf(at, last));
    }
    this.#age();
  }

  /** Forgets what was not noted for one to two lifetimes, or is too much. */
  #age(): void {
    const ms = this.#lifetimeMs === Number.POSITIVE_INFINITY ? 0 : this.#now() - this.#bornAt;
    if (ms <= this.#lifetimeMs && this.#young.size < REGIONS_MAX / 2) return;
    this.#old = ms > this.#lifetimeMs * 2 ? new Regions() : this.#young;
    this.#young = new Regions();
    this.#bornAt += ms;
  }

  /** Whether to read these bytes in place. */
  isWarm(file: number, position: number, bytes: number): boolean {
    this.#age();
    if (this.#penance > 0) {
      this.#penance -= 1;
      return false;
    }
    const last = this.#regionOf(file, position + bytes - 1);
    for (let at = this.#regionOf(file, position); at <= last; at = nextWord(at)) {
      const noted = this.#young.of(wordOf(at)) | this.#old.of(wordOf(at));
      if ((bitsOf(at, last) & ~noted) !== 0) return false;
    }
    return true;
  }

  /**
   * How long a read in place took. One that was slow because others had the processor proves
   * nothing: then this process has read nothing from a disk since the last slow one.
   */
  took(ms: number): void {
    if (ms < READ_IN_PLACE_MAX_MS) return;
    const before = this.#diskReads;
    this.#diskReads = this.#countDiskReads();
    if (this.#diskReads !== before) this.#penance = PENANCE;
  }

  #regionOf(file: number, position: number): number {
    return file * REGIONS_A_FILE + Math.floor(position / this.#regionBytes);
  }
}

/** A set of regions, a bit each. */
class Regions {
  readonly #words = new Map<number, number>();
  size = 0;

  of(word: number): number {
    return this.#words.get(word) ?? 0;
  }

  add(word: number, bits: number): void {
    const before = this.of(word);
    const after = before | bits;
    if (after === before) return;
    this.#words.set(word, after);
    for (let added = before ^ after; added !== 0; added &= added - 1) this.size += 1;
  }
}

function wordOf(region: number): number {
  return Math.floor(region / WORD_REGIONS);
}

/** The first region of the word behind this region's. */
function nextWord(region: number): number {
  return (wordOf(region) + 1) * WORD_REGIONS;
}

/** The bits of the regions from `first` to `last` that are in the word of `first`. */
function bitsOf(first: number, last: number): number {
  const from = first % WORD_REGIONS;
  const to = Math.min(from + last - first, WORD_REGIONS - 1);
  return (-1 << from) & (-1 >>> (WORD_REGIONS - 1 - to));
}
