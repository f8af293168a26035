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
  #young = new Set<number>();
  #old = new Set<number>();
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
    for (let region = this.#regionOf(file, position); region <= last; region++)
      this.#young.add(region);
    this.#age();
  }

  /** Forgets what was not noted for one to two lifetimes, or is too much. */
  #age(): void {
    const ms = this.#lifetimeMs === Number.POSITIVE_INFINITY ? 0 : this.#now() - this.#bornAt;
    if (ms <= this.#lifetimeMs && this.#young.size < REGIONS_MAX / 2) return;
    this.#old = ms > this.#lifetimeMs * 2 ? new Set() : this.#young;
    this.#young = new Set();
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
    for (let region = this.#regionOf(file, position); region <= last; region++) {
      if (!this.#young.has(region) && !this.#old.has(region)) return false;
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
