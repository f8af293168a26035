/**
 * The segment files of one disk: at most so many are open, and at most so many checksum tables are
 * in memory. Least recently used first out; nothing that is not flushed is closed or forgotten.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { Disk, DiskDone } from '../io/disk.js';
import { SegmentFile } from './segment-file.js';

export class SegmentFiles {
  readonly #disk: Disk;
  readonly #most: { readonly files: number; readonly tables: number };
  /** In order of use, oldest first. */
  readonly #files = new Map<SegmentId, SegmentFile>();
  /** Those with batches that wait to be written. */
  readonly #waiting = new Set<SegmentFile>();

  readonly #onFailure: (error: HoldfastError) => void;

  constructor(
    disk: Disk,
    most: { readonly files: number; readonly tables: number },
    onFailure: (error: HoldfastError) => void,
  ) {
    this.#disk = disk;
    this.#most = most;
    this.#onFailure = onFailure;
  }

  /** The file of a segment, as the most recently used. */
  get(segment: SegmentId): SegmentFile {
    let file = this.#files.get(segment);
    if (file === undefined) file = new SegmentFile(this.#disk, segment);
    else this.#files.delete(segment);
    this.#files.set(segment, file);
    if (this.#files.size > Math.min(this.#most.files, this.#most.tables)) this.#evict(file);
    return file;
  }

  /** Closes old files: first those that are clean, else flushes the oldest for the next time. */
  #evict(keep: SegmentFile): void {
    let surplus = this.#files.size - Math.min(this.#most.files, this.#most.tables);
    for (const [segment, file] of this.#files) {
      if (surplus <= 0) return;
      if (file === keep || !file.idle || file.unsettled) continue;
      file.close();
      this.#files.delete(segment);
      surplus -= 1;
    }
    if (surplus <= 0) return;
    for (const file of this.#files.values()) {
      if (file === keep || !file.idle || !file.dirty) continue;
      file.settle((error) => {
        if (error !== null && error.code !== 'DISK_FULL') this.#onFailure(error);
      });
      return;
    }
  }

  /** Notes that a file has batches waiting to be written. */
  wait(file: SegmentFile): void {
    this.#waiting.add(file);
  }

  get pendingBytes(): number {
    let bytes = 0;
    for (const file of this.#waiting) bytes += file.pendingBytes;
    return bytes;
  }

  /** Writes all that waits. Throws; the rest goes on waiting. */
  drain(): void {
    for (const file of this.#waiting) {
      file.drain();
      this.#waiting.delete(file);
    }
  }

  /** Makes everything durable that came here before the call, one file after the other. */
  settleAll(done: DiskDone): void {
    const dirty = [...this.#files.values()].filter((file) => file.unsettled);
    const next = (error: HoldfastError | null): void => {
      const file = error === null ? dirty.pop() : undefined;
      if (file === undefined) done(error);
      else if (file.unsettled) file.settle(next);
      else next(null);
    };
    next(null);
  }

  forget(segment: SegmentId): void {
    const file = this.#files.get(segment);
    if (file === undefined) return;
    this.#waiting.delete(file);
    this.#files.delete(segment);
  }

  /** Closes all without flushing. */
  close(): void {
    for (const file of this.#files.values()) file.abandon();
    this.#files.clear();
    this.#waiting.clear();
  }
}
