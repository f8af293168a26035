/**
 * Reads every page of every segment from each copy, verified by whoever reads against the checksum
 * that the writer computed. A page that a copy lacks is repair's business; one that no copy has is
 * lost, and the files that need it are named.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Findings } from './check-findings.js';
import { pageOfPlace, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';

/** One replica of a segment, or whatever can read it. */
export interface SegmentCopy {
  /** For people. */
  readonly name: string;
  /** Fails with DATA_LOST when it answers and has no good bytes. */
  read(
    page: number,
    count: number,
    done: (error: HoldfastError | null, data: Uint8Array | null) => void,
  ): void;
}

export interface CheckedSegment {
  readonly segment: SegmentId;
  /** Up to its end. */
  readonly pages: number;
  readonly copies: readonly SegmentCopy[];
  /** With so many good copies the others are left-overs, and no findings. Default: all. */
  readonly wanted?: number;
  /**
   * Where the copies are by now; null when they are where they were when last asked. Rebalancing
   * and repair move them while they are read. Without it they stay.
   */
  moved?(done: (error: HoldfastError | null, copies: readonly SegmentCopy[] | null) => void): void;
}

const READS_IN_FLIGHT = 8;
/** So often the copies of a segment are read that are moved all the time. */
const READS_OF_SEGMENT = 8;
/** Bad pages of one copy that are looked for one by one; more are one finding. */
const BAD_PAGES_LISTED = 64;

/** One copy as it is read. */
class CopyCheck {
  readonly copy: SegmentCopy;
  readonly segment: CheckedSegment;
  readonly bad: number[] = [];
  /** It does not answer, or has too little to be a copy. */
  fault: HoldfastError | null = null;

  constructor(segment: CheckedSegment, copy: SegmentCopy) {
    this.segment = segment;
    this.copy = copy;
  }

  get isGivenUp(): boolean {
    return this.fault !== null || this.bad.length >= BAD_PAGES_LISTED;
  }

  /** Reads a range, by halves where it fails; `done` when it has been. */
  read(page: number, count: number, done: () => void): void {
    if (this.isGivenUp) {
      done();
      return;
    }
    this.copy.read(page, count, (error) => {
      if (error === null) {
        done();
      } else if (error.code !== 'DATA_LOST') {
        this.fault ??= error;
        done();
      } else if (count === 1) {
        this.bad.push(page);
        done();
      } else {
        const half = count >>> 1;
        this.read(page, half, () => this.read(page + half, count - half, done));
      }
    });
  }
}

export interface PagesChecked {
  /** Of all copies. */
  readonly bytes: number;
  /** Pages of the log that no copy has, by segment. */
  readonly lost: ReadonlyMap<SegmentId, readonly number[]>;
}

/**
 * Reads everything; `onProgress` is told of bytes read, of all copies. Fails when it cannot be told
 * whether copies that are bad were moved away.
 */
export function checkPages(
  segments: readonly CheckedSegment[],
  findings: Findings,
  onProgress: (bytes: number) => void,
  done: (error: HoldfastError | null, checked: PagesChecked | null) => void,
): void {
  const lost = new Map<SegmentId, readonly number[]>();
  let bytes = 0;
  const read = (pages: number): void => {
    bytes += pages * PAGE_BYTES;
    onProgress(bytes);
  };
  const next = (index: number): void => {
    const segment = segments[index];
    if (segment === undefined) {
      done(null, { bytes, lost });
      return;
    }
    readSegment(segment, read, (error, copies) => {
      if (error !== null) {
        done(error, null);
        return;
      }
      const gone = report(segment, copies, findings);
      if (gone.length > 0) lost.set(segment.segment, gone);
      next(index + 1);
    });
  };
  next(0);
}

/** Reads all copies of one segment; again where too few are good and they were moved meanwhile. */
function readSegment(
  segment: CheckedSegment,
  read: (pages: number) => void,
  done: (error: HoldfastError | null, copies: readonly CopyCheck[]) => void,
): void {
  const attempt = (given: readonly SegmentCopy[], left: number): void => {
    const copies = given.map((copy) => new CopyCheck(segment, copy));
    readAll(copies, read, () => {
      if (isGood(segment, copies) || left === 0 || segment.moved === undefined) {
        done(null, copies);
        return;
      }
      segment.moved((error, moved) => {
        if (error !== null || moved === null) done(error, copies);
        else attempt(moved, left - 1);
      });
    });
  };
  attempt(segment.copies, READS_OF_SEGMENT - 1);
}

/** Reads all copies of one segment, several reads at a time. */
function readAll(
  copies: readonly CopyCheck[],
  read: (pages: number) => void,
  done: () => void,
): void {
  let [index, page, inFlight] = [0, 0, 0];
  const more = (): void => {
    while (inFlight < READS_IN_FLIGHT) {
      const copy = copies[index];
      if (copy === undefined) break;
      const count = Math.min(READ_MAX_PAGES, copy.segment.pages - page);
      if (count <= 0 || copy.isGivenUp) {
        [index, page] = [index + 1, 0];
        continue;
      }
      inFlight += 1;
      copy.read(page, count, () => {
        inFlight -= 1;
        read(count);
        more();
      });
      page += count;
    }
    if (inFlight === 0 && index === copies.length) {
      inFlight = -1;
      done();
    }
  };
  more();
}

function isGood({ wanted }: CheckedSegment, copies: readonly CopyCheck[]): boolean {
  const good = copies.filter(({ bad, fault }) => bad.length === 0 && fault === null);
  return good.length >= (wanted ?? copies.length);
}

/** Tells what is wrong with the copies; returns the pages that none of them has. */
function report(
  segment: CheckedSegment,
  copies: readonly CopyCheck[],
  findings: Findings,
): number[] {
  if (isGood(segment, copies)) return [];
  for (const { copy, bad, fault } of copies) {
    const at = `segment ${segment.segment} on ${copy.name}`;
    if (fault !== null) findings.add('copy', `${at}: ${fault.message}`);
    const more = bad.length >= BAD_PAGES_LISTED ? ' and perhaps more' : '';
    if (bad.length > 0) findings.add('copy', `${at}: pages ${bad.join(' ')}${more} are bad`);
  }
  const [first] = copies;
  // Where a copy did not answer it may have them.
  if (first === undefined || copies.some(({ fault }) => fault !== null)) return [];
  return first.bad.filter((page) => copies.every(({ bad }) => bad.includes(page)));
}

/** Names the files that need pages which no copy has. */
export function* checkLost(
  state: VolumeState,
  lost: ReadonlyMap<SegmentId, readonly number[]>,
  findings: Findings,
): Generator<void> {
  if (lost.size === 0) return;
  const named = new Set<string>();
  let from: { slot: number; chunk: number } | null = { slot: 0, chunk: 0 };
  while (from !== null) {
    from = state.extents.visit(from, 256, (slot, page, count, place) => {
      const use = state.segments.at(slotOfPlace(place));
      const first = pageOfPlace(place);
      for (const gone of (use === null ? undefined : lost.get(use.segment)) ?? []) {
        if (gone < first || gone >= first + count) continue;
        const inode = state.inodes.inodeOf(slot);
        named.add(`${use?.segment} ${gone}`);
        findings.add('page', `page ${page + gone - first} is lost`, inode);
      }
    });
    yield;
  }
  for (const [segment, pages] of lost) {
    const rest = pages.filter((page) => !named.has(`${segment} ${page}`));
    if (rest.length > 0) findings.add('page', `${segment}: pages ${rest.join(' ')} are lost`);
  }
}
