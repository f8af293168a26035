/**
 * Short-circuit reads: copies whose files stand on this machine are read by the reader itself,
 * without a node in between. LOCATE says where a replica's file stands and what checksums its pages
 * have; it is asked for in the background, while the nodes answer. A page that cannot be had here
 * at once is read through the nodes, which know how to fall over and what to report.
 *
 * INVARIANT: every page handed out was verified against the checksum that its writer computed, so
 * whatever the file holds (another life's bytes, a tail that was cut, rot) does no harm.
 * INVARIANT: a file stays open only while it is read, and only that of a replica that the log
 * lists: an open file keeps the space of one that its node has deleted.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import { assert, present } from '../core/assert.js';
import type { PageChecksummer } from '../core/checksum.js';
import type { Incarnation, NodeId, SegmentId } from '../core/ids.js';
import {
  LOCAL_AVOID_MS,
  LOCAL_COPIES_MAX,
  LOCAL_COPY_IDLE_MS,
  LOCAL_PLACES_MAX,
  LOCAL_READ_LATE_MS,
  LOCATE_AGAIN_MS,
  LOCATE_ELSEWHERE_MS,
  LOCATE_MAX_IN_FLIGHT,
  LOCATE_MAX_PAGES,
  READ_AVOID_MS,
  REQUEST_TIMEOUT_MS,
} from '../core/limits.js';
import { PAGE_BYTES, pageIndex } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { LocalFile, LocalFiles } from '../io/local-files.js';
import type { Replica } from '../metadata/model.js';
import type { Directory } from './directory.js';
import type { ReadSource } from './reader-core.js';

/** Files of one node that could not be opened, in a row, before it counts as elsewhere. */
const ELSEWHERE_AFTER = 3;

interface Copy {
  readonly file: LocalFile;
  readonly replica: Replica;
  /** The checksums of the pages from `firstPage` on, as far as known. */
  firstPage: number;
  checksums: Uint32Array;
  reads: number;
  usedAt: number;
  retired: boolean;
}

/** What is known of one segment. */
interface Place {
  copy: Copy | null;
  isAsking: boolean;
  /** No LOCATE before. */
  notBefore: number;
  /** How many replicas were asked: the next one is asked next. */
  turn: number;
}

/** A node that is not asked until then. */
interface Elsewhere {
  until: number;
  failures: number;
}

/**
 * Gets the verified pages; or null when the nodes are to be asked: first the `suspect`, if one is
 * named, which has bad bytes and should know.
 */
export type LocalDone = (data: Buffer | null, suspect: Replica | null) => void;

interface Wanted {
  readonly page: number;
  readonly count: number;
  readonly checksummer: PageChecksummer;
  readonly done: LocalDone;
}

/** A read under way. */
interface LocalRead {
  readonly copy: Copy;
  readonly startedAt: number;
  readonly done: LocalDone;
}

export interface LocalCopiesParts {
  readonly clock: Clock;
  readonly requests: NodeRequests;
  readonly directory: Pick<Directory, 'address'>;
  readonly files: LocalFiles;
  /** Whether all of a segment was written within LOCAL_FRESH_MS. */
  readonly isFresh?: ((segment: SegmentId) => boolean) | undefined;
}

export class LocalCopies {
  readonly #parts: LocalCopiesParts;
  readonly #places = new Map<SegmentId, Place>();
  /** Those that are open. */
  readonly #copies = new Map<SegmentId, Copy>();
  readonly #elsewhere = new Map<NodeId, Elsewhere>();
  /** Disks that did not answer in time are left alone until then. */
  readonly #slowUntil = new Map<Incarnation, number>();
  readonly #reads = new Set<LocalRead>();
  #asking = 0;
  #lateTimer: Timer | null = null;
  #idleTimer: Timer | null = null;
  #closed = false;
  /** Pages that were read here, for metrics. */
  pages = 0;

  constructor(parts: LocalCopiesParts) {
    this.#parts = parts;
  }

  /** Closes the files; no callback runs afterwards. */
  close(): void {
    this.#closed = true;
    this.#lateTimer?.cancel();
    this.#idleTimer?.cancel();
    for (const copy of this.#copies.values()) copy.file.close();
    this.#copies.clear();
    this.#places.clear();
    this.#reads.clear();
  }

  /**
   * Reads pages from a copy on this machine: false when none is known that has them, else `done`
   * is called once, after this call has returned.
   */
  read(
    source: ReadSource,
    page: number,
    count: number,
    checksummer: PageChecksummer,
    done: LocalDone,
  ): boolean {
    const { segment } = source;
    const now = this.#parts.clock.monotonic();
    const place = this.#place(segment);
    const { copy } = place;
    if (copy !== null && !isListed(copy.replica, source)) this.#retire(segment, place);
    if (place.copy === null || !covers(place.copy, page, count)) {
      this.#missed(source, place, page, now);
      return false;
    }
    if ((this.#slowUntil.get(place.copy.replica.incarnation) ?? 0) > now) return false;
    return this.#readCopy(segment, place.copy, now, { page, count, checksummer, done });
  }

  #readCopy(segment: SegmentId, copy: Copy, startedAt: number, wanted: Wanted): boolean {
    const { page, count, checksummer, done } = wanted;
    const { firstPage, checksums } = copy;
    const into = Buffer.allocUnsafe(count * PAGE_BYTES);
    const read: LocalRead = { copy, startedAt, done };
    const isFresh = this.#parts.isFresh?.(segment) ?? false;
    const isTaken = copy.file.read(into, page * PAGE_BYTES, isFresh, (bytesRead) => {
      copy.reads -= 1;
      closeRetired(copy);
      // Too late: the nodes were asked.
      if (!this.#reads.delete(read)) return;
      let isGood = bytesRead === into.length;
      for (let i = 0; isGood && i < count; i++) {
        const expected = checksums[page - firstPage + i];
        isGood = checksummer.page(into, i * PAGE_BYTES, page + i) === expected;
      }
      if (isGood) this.pages += count;
      else this.#onBad(segment, copy);
      done(isGood ? into : null, isGood ? null : copy.replica);
    });
    if (!isTaken) return false;
    copy.reads += 1;
    copy.usedAt = startedAt;
    this.#reads.add(read);
    this.#lateTimer ??= this.#afterLate();
    return true;
  }

  #onBad(segment: SegmentId, copy: Copy): void {
    const place = this.#places.get(segment);
    if (place === undefined || place.copy !== copy) return;
    this.#retire(segment, place);
    place.notBefore = this.#parts.clock.monotonic() + READ_AVOID_MS;
  }

  /** Looks once what has been read meanwhile has been heard of: the event loop may have stood. */
  #afterLate(): Timer {
    const { clock } = this.#parts;
    return clock.after(LOCAL_READ_LATE_MS, () => clock.soon(() => this.#onLate()));
  }

  /** A disk that hangs must not hold up who reads: the nodes have other copies. */
  #onLate(): void {
    if (this.#closed) return;
    const now = this.#parts.clock.monotonic();
    for (const read of this.#reads) {
      if (read.startedAt > now - LOCAL_READ_LATE_MS) continue;
      this.#reads.delete(read);
      this.#slowUntil.set(read.copy.replica.incarnation, now + LOCAL_AVOID_MS);
      read.done(null, null);
    }
    this.#lateTimer = this.#reads.size > 0 ? this.#afterLate() : null;
  }

  #place(segment: SegmentId): Place {
    const found = this.#places.get(segment);
    if (found !== undefined) return found;
    if (this.#places.size >= LOCAL_PLACES_MAX) this.#forgetMisses(Number.POSITIVE_INFINITY);
    const place = { copy: null, isAsking: false, notBefore: 0, turn: 0 };
    this.#places.set(segment, place);
    this.#idleTimer ??= this.#parts.clock.after(LOCAL_COPY_IDLE_MS, () => this.#onIdle());
    return place;
  }

  /** Forgets segments that have no copy here, unless they are not to be asked for until later. */
  #forgetMisses(now: number): void {
    for (const [segment, { copy, isAsking, notBefore }] of this.#places) {
      if (copy === null && !isAsking && notBefore <= now) this.#places.delete(segment);
    }
  }

  #onIdle(): void {
    const { clock } = this.#parts;
    const now = clock.monotonic();
    for (const [segment, copy] of this.#copies) {
      const place = this.#places.get(segment);
      if (copy.usedAt <= now - LOCAL_COPY_IDLE_MS && place !== undefined) {
        this.#retire(segment, place);
      }
    }
    this.#forgetMisses(now);
    const isNeeded = this.#places.size > 0;
    this.#idleTimer = isNeeded ? clock.after(LOCAL_COPY_IDLE_MS, () => this.#onIdle()) : null;
  }

  #retire(segment: SegmentId, place: Place): void {
    const copy = present(place.copy, 'a copy to retire');
    place.copy = null;
    this.#copies.delete(segment);
    copy.retired = true;
    closeRetired(copy);
  }

  /** Pages that no copy here is known to have: asks for one, once the nodes have been asked. */
  #missed(source: ReadSource, place: Place, page: number, now: number): void {
    if (place.isAsking || now < place.notBefore || this.#asking >= LOCATE_MAX_IN_FLIGHT) return;
    // With as many open as may be, the rest is read through the nodes until some are idle.
    if (place.copy === null && this.#copies.size + this.#asking >= LOCAL_COPIES_MAX) return;
    const replica = this.#candidate(source, place, now);
    if (replica === null) return;
    place.isAsking = true;
    this.#asking += 1;
    this.#parts.clock.soon(() => this.#ask(source.segment, place, replica, page));
  }

  /** Whom to ask: the replica that is read already, else each in turn. */
  #candidate({ replicas }: ReadSource, place: Place, now: number): Replica | null {
    if (place.copy !== null) return place.copy.replica;
    for (let i = 0; i < replicas.length; i++) {
      const replica = replicas[(place.turn + i) % replicas.length] as Replica;
      if ((this.#elsewhere.get(replica.node)?.until ?? 0) > now) continue;
      if ((this.#slowUntil.get(replica.incarnation) ?? 0) > now) continue;
      place.turn += i + 1;
      return replica;
    }
    return null;
  }

  #ask(segment: SegmentId, place: Place, replica: Replica, page: number): void {
    if (this.#closed) return;
    const { requests, directory } = this.#parts;
    const { node, incarnation } = replica;
    const address = directory.address(node);
    if (address === null) {
      this.#answered(place, LOCATE_AGAIN_MS);
      return;
    }
    const firstPage = page - (page % LOCATE_MAX_PAGES);
    const request = { type: 'locate', segment, incarnation, page: pageIndex(firstPage) } as const;
    requests.send({ node, address }, request, REQUEST_TIMEOUT_MS, (error, reply) => {
      if (this.#closed) return;
      if (error !== null) {
        this.#notBefore(node, error.code === 'VERSION' ? LOCATE_ELSEWHERE_MS : READ_AVOID_MS);
        this.#answered(place, LOCATE_AGAIN_MS);
        return;
      }
      const { body } = reply ?? { body: null };
      const isOk = reply?.status === 'OK' && reply.incarnation === incarnation;
      if (!isOk || body?.type !== 'locate' || body.page !== firstPage) {
        this.#answered(place, READ_AVOID_MS);
        return;
      }
      const { path, checksums } = body;
      if (place.notBefore > this.#parts.clock.monotonic()) this.#answered(place, 0);
      else if (place.copy !== null) {
        Object.assign(place.copy, { firstPage, checksums });
        this.#answered(place, LOCATE_AGAIN_MS);
      } else this.#open(segment, place, path, { replica, firstPage, checksums });
    });
  }

  #open(
    segment: SegmentId,
    place: Place,
    path: string,
    found: Pick<Copy, 'replica' | 'firstPage' | 'checksums'>,
  ): void {
    const { clock, files } = this.#parts;
    const { node } = found.replica;
    const opened = (file: LocalFile | null): void => {
      if (this.#closed) {
        file?.close();
        return;
      }
      if (file === null) {
        const failures = (this.#elsewhere.get(node)?.failures ?? 0) + 1;
        this.#elsewhere.set(node, { until: 0, failures });
        if (failures >= ELSEWHERE_AFTER) this.#notBefore(node, LOCATE_ELSEWHERE_MS);
        this.#answered(place, LOCATE_AGAIN_MS);
        return;
      }
      this.#elsewhere.delete(node);
      const usedAt = clock.monotonic();
      place.copy = { file, ...found, reads: 0, usedAt, retired: false };
      this.#copies.set(segment, place.copy);
      this.#answered(place, LOCATE_AGAIN_MS);
    };
    const isSegment = path.startsWith('/') && path.endsWith(`/${segment}.data`);
    if (isSegment) files.open(path, opened);
    else opened(null);
  }

  #answered(place: Place, pauseMs: number): void {
    this.#asking -= 1;
    place.isAsking = false;
    // A copy that has turned out to be bad meanwhile is left alone for as long as was meant.
    place.notBefore = Math.max(place.notBefore, this.#parts.clock.monotonic() + pauseMs);
  }

  #notBefore(node: NodeId, pauseMs: number): void {
    this.#elsewhere.set(node, { until: this.#parts.clock.monotonic() + pauseMs, failures: 0 });
  }
}

function covers({ firstPage, checksums }: Copy, page: number, count: number): boolean {
  return page >= firstPage && page + count <= firstPage + checksums.length;
}

function isListed({ node, incarnation }: Replica, { replicas }: ReadSource): boolean {
  return replicas.some((one) => one.incarnation === incarnation && one.node === node);
}

/** A file is closed when nobody reads it any more: after its end it calls nobody back. */
function closeRetired(copy: Copy): void {
  assert(copy.reads >= 0, 'reads of a copy are counted');
  if (copy.retired && copy.reads === 0) copy.file.close();
}
