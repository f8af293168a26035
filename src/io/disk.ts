/**
 * The seam to one disk: a directory tree that one program owns. What is assumed of a real disk, and
 * which test injects its opposite, is docs/FAULTS.md. In short:
 * - Bytes written are volatile until a later `datasync` of the same file has succeeded; until then
 *   a crash may keep any part of them, in units of 512-byte sectors, in any order.
 * - A created, renamed or removed name is volatile until `syncDirectory` of its directory has
 *   succeeded.
 * - `datasync` makes durable what had been written to the file when it was called, and the file's
 *   size.
 * - After a failed `datasync` nothing is known about bytes written since the last good one: never
 *   retry. So its error is DISK_FAILED, also for a lack of space.
 * - A later read may fail, or return other bytes than were written (rot). Callbacks never run
 *   before the call that takes them has returned. Errors are HoldfastError with code DISK_FULL,
 *   DISK_READ_ONLY, DISK_FAILED, NOT_FOUND or ALREADY_EXISTS. Paths are relative to the disk's
 *   root, with '/' between names. Twins: io/node/disk.ts, test/fixtures/sim-disk.ts.
 */
import type { HoldfastError } from '../core/errors.js';

export type DiskDone = (error: HoldfastError | null) => void;

export interface DiskFile {
  readonly path: string;
  /** Current size in bytes. */
  size(): number;
  /**
   * Writes all buffers one after another at `position`, into the page cache. Throws. For small
   * writes.
   */
  writeSync(buffers: readonly Uint8Array[], position: number): void;
  /** The same without holding up the event loop. The buffers must not change before `done`. */
  write(buffers: readonly Uint8Array[], position: number, done: DiskDone): void;
  /**
   * Makes what was written durable (fdatasync). `alone` says that nothing else waits for this event
   * loop, so that a fast disk may be flushed in place, which saves two thread switches.
   */
  datasync(alone: boolean, done: DiskDone): void;
  /** Fills `into` from `position`; returns how many bytes there were (fewer at the end). Throws. */
  readSync(into: Uint8Array, position: number): number;
  read(
    into: Uint8Array,
    position: number,
    done: (error: HoldfastError | null, bytesRead: number) => void,
  ): void;
  /** Cuts or extends (with zeroes). Throws. */
  truncateSync(size: number): void;
  /** Closes without flushing. Idempotent. No callback of this file runs afterwards. */
  close(): void;
}

export interface DiskSpace {
  readonly totalBytes: number;
  /** What may still be written. */
  readonly freeBytes: number;
}

export interface Disk {
  /** For messages to people: the directory's path. */
  readonly name: string;
  /**
   * Opens for reading and writing. `create`: 'never' (NOT_FOUND), 'new' (ALREADY_EXISTS) or
   * 'maybe'.
   */
  open(path: string, create: 'never' | 'new' | 'maybe'): DiskFile;
  exists(path: string): boolean;
  /** Absolute: where other processes of this machine may find a file. */
  placeOf(path: string): string;
  /** Names in a directory, sorted; directories end in '/'. */
  list(directory: string): string[];
  /** Creates a directory and its parents; no error when it exists. */
  makeDirectory(path: string): void;
  rename(from: string, to: string): void;
  /** NOT_FOUND if it does not exist. Space of an open file comes back when it is closed. */
  unlink(path: string): void;
  /** Makes the names in a directory durable. */
  syncDirectory(path: string, done: DiskDone): void;
  space(): DiskSpace;
}
