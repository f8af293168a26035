/**
 * One segment's data file and its checksum sidecar. Journaled batches come here after their reply
 * and are written to the page cache; large ones are written and flushed here directly.
 * segment-files.ts holds the set of them and bounds what is open.
 *
 * INVARIANT: `dirty` whenever the file, the sidecar or their names hold something that is not
 * flushed.
 */
import { assert, present } from '../core/assert.js';
import { crc32, PageChecksummer } from '../core/checksum.js';
import { asFault, HoldfastError, malformed } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { DRAIN_RUN_BYTES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Disk, DiskDone, DiskFile } from '../io/disk.js';
import { ChecksumTable, decodeSumsPage, encodeSumsPage, SUMS_PER_PAGE } from './checksum-table.js';
import { syncDirectories } from './disk-steps.js';
import type { BatchBytes } from './replica-state.js';
import {
  BATCH_HEADER_BYTES,
  batchSegmentBytes,
  decodeBatchHeader,
  pagesStart,
} from './wire/batch.js';

const PADDING = Buffer.alloc(PAGE_BYTES);

export function dataPath(segment: SegmentId): string {
  return `segments/${segment.slice(0, 2)}/${segment}.data`;
}

export function sumsPath(segment: SegmentId): string {
  return `segments/${segment.slice(0, 2)}/${segment}.sums`;
}

export class SegmentFile {
  readonly segment: SegmentId;
  readonly checksummer: PageChecksummer;
  readonly #disk: Disk;
  #data: DiskFile | null = null;
  #sums: DiskFile | null = null;
  #table: ChecksumTable | null = null;
  /** Heads of batches that the table needs cannot be read. */
  #unreadable = false;
  /** Journaled batches that are durable there and not yet written here. */
  #pending: BatchBytes[] = [];
  pendingBytes = 0;
  dirty = false;
  #nameDurable = true;
  #flushing = false;
  #flushed: DiskDone[] = [];
  #flushNext: DiskDone[] = [];
  #settling = 0;
  /** Operations under way that need the descriptors. */
  #pins = 0;

  constructor(disk: Disk, segment: SegmentId) {
    this.#disk = disk;
    this.segment = segment;
    this.checksummer = new PageChecksummer(segment);
  }

  get open(): boolean {
    return this.#data !== null;
  }

  get idle(): boolean {
    return (
      this.#pins === 0 && !this.#flushing && this.#settling === 0 && this.#pending.length === 0
    );
  }

  /** Something is not flushed, or not known to be. */
  get unsettled(): boolean {
    return this.dirty || this.#settling > 0;
  }

  /** After a start: names and bytes that are found may never have been flushed. */
  distrust(): void {
    this.dirty = true;
    this.#nameDurable = false;
  }

  /** The data file, created if it does not exist. Throws. */
  data(): DiskFile {
    if (this.#data === null) {
      const path = dataPath(this.segment);
      if (!this.#disk.exists(path)) {
        this.#disk.makeDirectory(path.slice(0, path.lastIndexOf('/')));
        this.#nameDurable = false;
        this.dirty = true;
      }
      this.#data = this.#disk.open(path, 'maybe');
    }
    return this.#data;
  }

  get exists(): boolean {
    return this.#data !== null || this.#disk.exists(dataPath(this.segment));
  }

  /** Takes a batch that is durable in the journal, to be written by `drain`. */
  enqueue(batch: BatchBytes): void {
    this.#pending.push(batch);
    this.pendingBytes += batchSegmentBytes(batch.header);
    this.entered(batch);
  }

  /**
   * Writes what waits into the page cache, batches that follow each other in one call. Throws; what
   * was not written goes on waiting.
   */
  drain(): void {
    if (this.#pending.length === 0) return;
    const file = this.data();
    let taken = 0;
    try {
      while (taken < this.#pending.length) {
        const first = present(this.#pending[taken], 'counted').header.offset;
        const parts: Uint8Array[] = [];
        let bytes = 0;
        let next = taken;
        for (; next < this.#pending.length && bytes < DRAIN_RUN_BYTES; next++) {
          const batch = present(this.#pending[next], 'counted');
          if (batch.header.offset !== first + bytes) break;
          parts.push(...batchParts(batch));
          bytes += batchSegmentBytes(batch.header);
        }
        file.writeSync(parts, first);
        taken = next;
        this.pendingBytes -= bytes;
      }
    } finally {
      this.#pending.splice(0, taken);
    }
  }

  /**
   * Writes a batch once more, so that the next flush covers it whatever became of an earlier one.
   */
  rewrite(batch: BatchBytes): void {
    this.data().writeSync(batchParts(batch), batch.header.offset);
    this.dirty = true;
  }

  /** Enters the checksums of a batch that stands in the file, or will when `drain` has run. */
  entered(batch: BatchBytes): void {
    this.dirty = true;
    const table = this.#upTo(batch.header.offset);
    if (table.known >= batch.header.offset / PAGE_BYTES) table.add(batch, this.checksummer);
  }

  /** Drops batches from `end` on that wait to be written. */
  forget(end: number): void {
    this.#pending = this.#pending.filter((batch) => {
      if (batch.header.offset < end) return true;
      this.pendingBytes -= batchSegmentBytes(batch.header);
      return false;
    });
  }

  /** Writes batches and flushes them. The buffers must not change before `done`. */
  writeDirect(batches: readonly BatchBytes[], done: DiskDone): void {
    const parts = batches.flatMap(batchParts);
    const start = (batches[0] as BatchBytes).header.offset;
    let file: DiskFile;
    try {
      file = this.data();
    } catch (error) {
      done(asFault(error, 'DISK_FAILED'));
      return;
    }
    this.#pins += 1;
    this.dirty = true;
    file.write(parts, start, (error) => {
      this.#pins -= 1;
      if (error !== null) done(error);
      else this.flushData(done);
    });
  }

  /** Flushes data and names; calls that come during a flush share the next one. */
  flushData(done: DiskDone): void {
    this.#flushNext.push(done);
    if (!this.#flushing) this.#flush();
  }

  #flush(): void {
    this.#flushing = true;
    this.#flushed = this.#flushNext;
    this.#flushNext = [];
    let file: DiskFile;
    try {
      file = this.data();
    } catch (error) {
      this.#flushDone(asFault(error, 'DISK_FAILED'));
      return;
    }
    file.datasync(false, (error) => {
      if (error !== null || this.#nameDurable) this.#flushDone(error);
      else this.#syncNames();
    });
  }

  #syncNames(): void {
    const path = dataPath(this.segment);
    syncDirectories(this.#disk, [path.slice(0, path.lastIndexOf('/')), 'segments'], (error) => {
      if (error === null) this.#nameDurable = true;
      this.#flushDone(error);
    });
  }

  #flushDone(error: HoldfastError | null): void {
    this.#flushing = false;
    const done = this.#flushed;
    this.#flushed = [];
    for (const callback of done) callback(error);
    if (this.#flushNext.length > 0 && !this.#flushing) this.#flush();
  }

  /** Makes everything durable that came here so far: data, checksums, names. */
  settle(done: DiskDone): void {
    try {
      this.drain();
      this.#writeSums();
    } catch (error) {
      done(asFault(error, 'DISK_FAILED'));
      return;
    }
    // What comes while the flush is under way makes the file dirty again.
    this.dirty = false;
    this.#settling += 1;
    const settled: DiskDone = (error) => {
      this.#settling -= 1;
      done(error);
    };
    this.flushData((error) => {
      if (error === null && this.#sums !== null) this.#sums.datasync(false, settled);
      else settled(error);
    });
  }

  #writeSums(): void {
    const table = this.#table;
    if (table === null || table.dirtyFrom >= table.known) return;
    if (this.#sums === null) {
      if (!this.#disk.exists(sumsPath(this.segment))) this.#nameDurable = false;
      this.#sums = this.#disk.open(sumsPath(this.segment), 'maybe');
    }
    const sums = table.all();
    const first = Math.floor(table.dirtyFrom / SUMS_PER_PAGE);
    const last = Math.floor((table.known - 1) / SUMS_PER_PAGE);
    for (let index = first; index <= last; index++) {
      const page = encodeSumsPage(this.segment, index, sums);
      this.#sums.writeSync([page], index * PAGE_BYTES);
    }
    table.dirtyFrom = table.known;
  }

  /** Checksums of `count` pages from `page` of `length` bytes; null where they cannot be had. */
  checksums(page: number, count: number, length: number): Uint32Array | null {
    const table = this.#upTo(length);
    return page + count <= table.known ? table.slice(page, count) : null;
  }

  /** After a repair: what could not be rebuilt may be there now. */
  forgetChecksums(): void {
    this.#table = new ChecksumTable();
    this.#unreadable = false;
    this.dirty = true;
  }

  /** The table, complete below `length` unless heads of batches cannot be read. */
  #upTo(length: number): ChecksumTable {
    const pages = length / PAGE_BYTES;
    this.#table ??= this.#load(pages);
    if (this.#table.known < pages && !this.#unreadable) this.#rebuild(this.#table, pages);
    return this.#table;
  }

  #load(pages: number): ChecksumTable {
    const table = new ChecksumTable(Math.max(pages, 256));
    if (pages === 0) return table;
    const sums = table.reserve(pages).subarray(0, pages);
    const page = Buffer.alloc(PAGE_BYTES);
    try {
      this.#sums ??= this.#disk.open(sumsPath(this.segment), 'never');
      while (table.known < pages) {
        const index = table.known / SUMS_PER_PAGE;
        const bytesRead = this.#sums.readSync(page, index * PAGE_BYTES);
        const bytes = page.subarray(0, bytesRead);
        const count = decodeSumsPage(this.segment, index, bytes, sums);
        table.known = Math.min(table.known + count, pages);
        if (count < SUMS_PER_PAGE) break;
      }
    } catch {
      // What the sidecar does not say is rebuilt.
    }
    table.dirtyFrom = table.known;
    return table;
  }

  /** From the heads of the batches, as far as these can be read. */
  #rebuild(table: ChecksumTable, pages: number): void {
    try {
      this.drain();
      let at = table.known * PAGE_BYTES;
      // What is known may end inside a batch only if it ends at a boundary of the sidecar's pages.
      if (at > 0 && !this.#headAt(at)) at = 0;
      table.known = at / PAGE_BYTES;
      while (at < pages * PAGE_BYTES) {
        const batch = this.#headAt(at);
        if (batch === null) throw malformed(`segment ${this.segment}: no batch at ${at}`);
        table.add(batch, this.checksummer);
        at += batchSegmentBytes(batch.header);
      }
    } catch (error) {
      // A read that failed may succeed the next time; bytes that are wrong stay wrong until
      // repaired.
      this.#unreadable = error instanceof HoldfastError && error.code === 'MALFORMED';
    }
  }

  /** The verified head of the batch at `at`, or null. Throws when it cannot be read. */
  #headAt(at: number): BatchBytes | null {
    const head = Buffer.alloc(BATCH_HEADER_BYTES);
    this.data().readSync(head, at);
    try {
      const header = decodeBatchHeader(head);
      if (header.offset !== at || header.segment !== this.segment) return null;
      const whole = Buffer.alloc(pagesStart(header));
      this.data().readSync(whole, at);
      const body = whole.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + header.bodyLength);
      if (crc32(body) !== header.bodyCrc) return null;
      const bytes = whole.subarray(0, BATCH_HEADER_BYTES + header.bodyLength);
      return { header, head: bytes, pages: PADDING.subarray(0, 0) };
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'MALFORMED') throw error;
      return null;
    }
  }

  /** Reads pages; the caller verifies them. */
  read(
    into: Buffer,
    position: number,
    done: (error: HoldfastError | null, n: number) => void,
  ): void {
    let file: DiskFile;
    try {
      const waitsFrom = this.#pending[0]?.header.offset ?? Number.POSITIVE_INFINITY;
      if (position + into.length > waitsFrom) this.drain();
      file = this.data();
    } catch (error) {
      done(asFault(error, 'DISK_FAILED'), 0);
      return;
    }
    this.#pins += 1;
    file.read(into, position, (error, bytesRead) => {
      this.#pins -= 1;
      done(error, bytesRead);
    });
  }

  pin(by: 1 | -1): void {
    this.#pins += by;
    assert(this.#pins >= 0, 'pins are balanced');
  }

  /** Cuts the file; a repeated call does no harm. Throws. */
  truncate(length: number): void {
    this.forget(length);
    this.drain();
    if (!this.exists) return;
    const file = this.data();
    if (file.size() > length) {
      file.truncateSync(length);
      this.dirty = true;
    }
    this.#table?.cut(length / PAGE_BYTES);
  }

  /** Closes the descriptors; they are opened again when needed. */
  close(): void {
    assert(this.idle, 'no operation is under way');
    this.abandon();
  }

  /** Closes whatever is under way: no callback comes any more. */
  abandon(): void {
    this.#data?.close();
    this.#sums?.close();
    this.#data = null;
    this.#sums = null;
  }

  /** Removes data and sidecar. Throws. */
  remove(): void {
    this.#pending = [];
    this.pendingBytes = 0;
    this.dirty = false;
    this.abandon();
    for (const path of [dataPath(this.segment), sumsPath(this.segment)]) {
      if (this.#disk.exists(path)) this.#disk.unlink(path);
    }
  }
}

/** A batch as it is written into a segment: head, padding, pages. */
function batchParts(batch: BatchBytes): Uint8Array[] {
  const filler = pagesStart(batch.header) - batch.head.length;
  const parts = [batch.head];
  if (filler > 0) parts.push(PADDING.subarray(0, filler));
  if (batch.pages.length > 0) parts.push(batch.pages);
  return parts;
}
