/**
 * Finds the valid groups of a journal after a start, in bounded windows: page by page, jumping over
 * groups that verify. What the groups mean is decided in recovery.ts and applied in replay.ts.
 */

import { crc32 } from '../core/checksum.js';
import type { HoldfastError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import { JOURNAL_GROUP_MAX_BYTES } from '../core/limits.js';
import { alignToPage, PAGE_BYTES } from '../core/units.js';
import type { DiskFile } from '../io/disk.js';
import { GROUP_HEADER_BYTES, type GroupHeader, readGroupHeader } from './journal-format.js';

const WINDOW_BYTES = 4 * JOURNAL_GROUP_MAX_BYTES;
const PAGE_ATTEMPTS = 3;

export interface ScannedGroup extends GroupHeader {
  /** Where in the file its entries begin. */
  readonly bodyAt: number;
}

export interface Scan {
  /** All valid groups of laps ≥ the one asked for, sorted by sequence. */
  readonly groups: readonly ScannedGroup[];
  /** Positions of pages that the disk could not read: what stood there is not known. */
  readonly unreadable: readonly number[];
}

interface ScanOptions {
  readonly file: DiskFile;
  readonly incarnation: Incarnation;
  readonly journalBytes: number;
  /** Groups of earlier laps or sequences are in the index already. */
  readonly fromLap: number;
  readonly fromSequence: number;
}

/** `done` is called once. */
export function scanJournal(
  options: ScanOptions,
  done: (error: HoldfastError | null, scan: Scan | null) => void,
): void {
  new Scanner(options, done).next(0);
}

class Scanner {
  readonly #options: ScanOptions;
  readonly #done: (error: HoldfastError | null, scan: Scan | null) => void;
  readonly #window = Buffer.alloc(WINDOW_BYTES);
  readonly #groups: ScannedGroup[] = [];
  readonly #unreadable: number[] = [];

  constructor(
    options: ScanOptions,
    done: (error: HoldfastError | null, scan: Scan | null) => void,
  ) {
    this.#options = options;
    this.#done = done;
  }

  next(at: number): void {
    const { file, journalBytes } = this.#options;
    if (at >= journalBytes) {
      const groups = this.#groups.sort((a, b) => a.sequence - b.sequence);
      this.#done(null, { groups, unreadable: this.#unreadable });
      return;
    }
    const window = this.#window.subarray(0, Math.min(WINDOW_BYTES, journalBytes - at));
    file.read(window, at, (error, bytesRead) => {
      window.fill(0, error === null ? bytesRead : 0);
      if (error !== null) this.#readPages(window, at);
      try {
        this.next(this.#search(window, at));
      } catch (thrown) {
        this.#done(thrown as HoldfastError, null);
      }
    });
  }

  /** After a failed read: what can be read, page by page. */
  #readPages(window: Buffer, at: number): void {
    for (let page = 0; page < window.length; page += PAGE_BYTES) {
      if (!this.#readPage(window.subarray(page, page + PAGE_BYTES), at + page)) {
        this.#unreadable.push(at + page);
      }
    }
  }

  #readPage(into: Buffer, at: number): boolean {
    for (let attempt = 0; attempt < PAGE_ATTEMPTS; attempt++) {
      try {
        this.#options.file.readSync(into, at);
        return true;
      } catch {
        // Again: a sector that is bad stays bad.
      }
    }
    return false;
  }

  /** Notes the groups in a window; returns where the next window begins. */
  #search(window: Buffer, at: number): number {
    const { incarnation, journalBytes } = this.#options;
    let page = 0;
    while (page < window.length) {
      const group = readGroupHeader(window, page, incarnation, at + page);
      const length = group === null ? 0 : alignToPage(GROUP_HEADER_BYTES + group.length);
      if (group !== null && page + length > window.length && at + page + length <= journalBytes) {
        return at + page;
      }
      page += group !== null && this.#note(group, window, page, at) ? length : PAGE_BYTES;
    }
    return at + page;
  }

  #note(group: GroupHeader, window: Buffer, page: number, at: number): boolean {
    const start = page + GROUP_HEADER_BYTES;
    const body = window.subarray(start, start + group.length);
    if (body.length < group.length || crc32(body) !== group.bodyCrc) return false;
    const { fromLap, fromSequence } = this.#options;
    if (group.lap >= fromLap && group.sequence >= fromSequence) {
      this.#groups.push({ ...group, bodyAt: at + start });
    }
    return true;
  }
}
