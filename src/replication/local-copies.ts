/**
 * Short-circuit reads: copies whose files stand on this machine are read by the reader itself,
 * without a node in between. LOCATE says where a replica's file stands and what checksums its pages
 * have; it is asked for in the background, while the nodes answer. A page that cannot be had here
 * at once is read through the nodes, which know how to fall over and what to report.
 *
 * INVARIANT: every page handed out was verified against the checksum that its writer computed, so
 * whatever the file holds (another life's bytes, a tail that was cut, rot) does no harm.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import { assert } from '../core/assert.js';
import type { PageChecksummer } from '../core/checksum.js';
import type { NodeId, SegmentId } from '../core/ids.js';
import {
  LOCAL_COPIES_MAX,
  LOCAL_COPY_IDLE_MS,
  LOCAL_READ_LATE_MS,
  LOCATE_AGAIN_MS,
  LOCATE_ELSEWHERE_MS,
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

/** Tables of LOCATE_MAX_PAGES checksums that one copy keeps: more only in very long segments. */
const PARTS_MAX = 16;

interface Copy {
  readonly file: LocalFile;
  readonly replica: Replica;
  /** By page / LOCATE_MAX_PAGES: the checksums of the pages from there on, as far as known. */
  readonly parts: Map<number, Uint32Array>;
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
}

/** A read under way; `finish` is called once, with null when the nodes are to be asked. */
interface LocalRead {
  readonly segment: SegmentId;
  readonly startedAt: number;
  readonly finish: (data: Buffer | null) => void;
}

export interface LocalCopiesParts {
  readonly clock: Clock;
  readonly requests: NodeRequests;
  readonly directory: Pick<Directory, 'address'>;
  readonly files: LocalFiles;
}

export class LocalCopies {
  readonly #parts: LocalCopiesParts;
  /** In order of use, oldest first. */
  readonly #places = new Map<SegmentId, Place>();
  /** Nodes whose files are not here, or that do not answer: not asked until then. */
  readonly #elsewhere = new Map<NodeId, number>();
  readonly #reads = new Set<LocalRead>();
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
    for (const place of this.#places.values()) place.copy?.file.close();
    this.#places.clear();
    this.#reads.clear();
  }

  /**
   * Reads pages from a copy on this machine: false when none is known that has them, else `done`
   * is called once, after this call has returned, with verified bytes, or null when they could not
   * be had here after all.
   */
  read(
    source: ReadSource,
    page: number,
    count: number,
    checksummer: PageChecksummer,
    done: (data: Buffer | null) => void,
  ): boolean {
    const { segment } = source;
    const place = this.#place(segment);
    if (place.copy !== null && !isListed(place.copy.replica, source)) {
      // An open file keeps the space of one that its node has deleted.
      retire(place.copy);
      place.copy = null;
    }
    const part = Math.floor(page / LOCATE_MAX_PAGES);
    const checksums = place.copy?.parts.get(part);
    const first = page - part * LOCATE_MAX_PAGES;
    if (place.copy === null || checksums === undefined || first + count > checksums.length) {
      this.#ask(source, place, part);
      return false;
    }
    const into = Buffer.allocUnsafe(count * PAGE_BYTES);
    const read = this.#begin(segment, place.copy, done);
    const { copy } = place;
    copy.file.read(into, page * PAGE_BYTES, (error, bytesRead) => {
      copy.reads -= 1;
      closeRetired(copy);
      // The nodes were asked already: the bytes are wanted no more, and the copy was retired.
      if (!this.#reads.has(read)) return;
      let isGood = error === null && bytesRead === into.length;
      for (let i = 0; isGood && i < count; i++) {
        isGood = checksummer.page(into, i * PAGE_BYTES, page + i) === checksums[first + i];
      }
      if (isGood) this.pages += count;
      else this.#avoid(segment);
      read.finish(isGood ? into : null);
    });
    return true;
  }

  #begin(segment: SegmentId, copy: Copy, done: (data: Buffer | null) => void): LocalRead {
    const now = this.#parts.clock.monotonic();
    copy.reads += 1;
    copy.usedAt = now;
    const read: LocalRead = {
      segment,
      startedAt: now,
      finish: (data) => {
        if (this.#reads.delete(read)) done(data);
      },
    };
    this.#reads.add(read);
    this.#lateTimer ??= this.#parts.clock.after(LOCAL_READ_LATE_MS, () => this.#onLate());
    return read;
  }

  /** A disk that hangs must not hold up who reads: the nodes have other copies. */
  #onLate(): void {
    this.#lateTimer = null;
    const { clock } = this.#parts;
    const before = clock.monotonic() - LOCAL_READ_LATE_MS;
    for (const read of this.#reads) {
      if (read.startedAt > before) continue;
      this.#avoid(read.segment);
      read.finish(null);
    }
    if (this.#reads.size === 0) return;
    this.#lateTimer ??= clock.after(LOCAL_READ_LATE_MS, () => this.#onLate());
  }

  /** The place of a segment, as the most recently used. */
  #place(segment: SegmentId): Place {
    let place = this.#places.get(segment);
    if (place === undefined) place = { copy: null, isAsking: false, notBefore: 0 };
    else this.#places.delete(segment);
    this.#places.set(segment, place);
    if (this.#places.size > LOCAL_COPIES_MAX) {
      const [oldest] = this.#places.keys();
      if (oldest !== undefined) this.#forget(oldest);
    }
    return place;
  }

  #forget(segment: SegmentId): void {
    const copy = this.#places.get(segment)?.copy ?? null;
    this.#places.delete(segment);
    if (copy !== null) retire(copy);
  }

  /** Leaves a segment to the nodes for a while. */
  #avoid(segment: SegmentId): void {
    const place = this.#places.get(segment);
    if (place === undefined) return;
    if (place.copy !== null) retire(place.copy);
    place.copy = null;
    place.notBefore = this.#parts.clock.monotonic() + READ_AVOID_MS;
  }

  /** Asks a replica for its file, or for the checksums that are missing. */
  #ask(source: ReadSource, place: Place, part: number): void {
    const { clock, requests, directory } = this.#parts;
    const now = clock.monotonic();
    if (place.isAsking || now < place.notBefore) return;
    const candidates = place.copy === null ? source.replicas : [place.copy.replica];
    const replica = candidates.find(({ node }) => (this.#elsewhere.get(node) ?? 0) <= now);
    if (replica === undefined) return;
    const { node, incarnation } = replica;
    const address = directory.address(node);
    if (address === null) return;
    const { segment } = source;
    const page = pageIndex(part * LOCATE_MAX_PAGES);
    const request = { type: 'locate', segment, incarnation, page } as const;
    place.isAsking = true;
    requests.send({ node, address }, request, REQUEST_TIMEOUT_MS, (error, reply) => {
      if (this.#closed) return;
      place.isAsking = false;
      // Something was wrong with the copy meanwhile.
      if (place.notBefore > now) return;
      const body = reply?.body;
      const isAnswer = reply?.status === 'OK' && reply.incarnation === incarnation;
      const answeredAt = clock.monotonic();
      const isRefusal = reply !== null && !isAnswer;
      place.notBefore = answeredAt + (isRefusal ? READ_AVOID_MS : LOCATE_AGAIN_MS);
      if (error !== null) {
        const avoidMs = error.code === 'VERSION' ? LOCATE_ELSEWHERE_MS : READ_AVOID_MS;
        this.#elsewhere.set(node, answeredAt + avoidMs);
      }
      // Whoever was forgotten meanwhile asks again when it is read.
      if (!isAnswer || body?.type !== 'locate' || this.#places.get(segment) !== place) return;
      if (body.page !== page) return;
      place.copy ??= this.#open(segment, replica, body.path, answeredAt);
      if (place.copy !== null) keepPart(place.copy, part, body.checksums);
    });
  }

  #open(segment: SegmentId, replica: Replica, path: string, now: number): Copy | null {
    const { clock, files } = this.#parts;
    const file = path.endsWith(`/${segment}.data`) ? files.open(path) : null;
    if (file === null) {
      this.#elsewhere.set(replica.node, now + LOCATE_ELSEWHERE_MS);
      return null;
    }
    this.#idleTimer ??= clock.after(LOCAL_COPY_IDLE_MS, () => this.#onIdle());
    return { file, replica, parts: new Map(), reads: 0, usedAt: now, retired: false };
  }

  #onIdle(): void {
    const { clock } = this.#parts;
    const now = clock.monotonic();
    const before = now - LOCAL_COPY_IDLE_MS;
    for (const [segment, { copy, isAsking, notBefore }] of this.#places) {
      const isIdle = copy === null ? notBefore <= now : copy.usedAt <= before;
      if (isIdle && !isAsking) this.#forget(segment);
    }
    const isNeeded = this.#places.size > 0;
    this.#idleTimer = isNeeded ? clock.after(LOCAL_COPY_IDLE_MS, () => this.#onIdle()) : null;
  }
}

function isListed(replica: Replica, { replicas }: ReadSource): boolean {
  const { node, incarnation } = replica;
  return replicas.some((one) => one.incarnation === incarnation && one.node === node);
}

function keepPart(copy: Copy, part: number, checksums: Uint32Array): void {
  const [oldest] = copy.parts.keys();
  if (copy.parts.size >= PARTS_MAX && oldest !== undefined) copy.parts.delete(oldest);
  copy.parts.set(part, checksums);
}

function retire(copy: Copy): void {
  copy.retired = true;
  closeRetired(copy);
}

/** A file is closed when nobody reads it any more: after its end it calls nobody back. */
function closeRetired(copy: Copy): void {
  assert(copy.reads >= 0, 'reads of a copy are counted');
  if (copy.retired && copy.reads === 0) copy.file.close();
}
