/**
 * The real twin of src/io/disk.ts: a directory, through node:fs. A lone flush may happen in place,
 * which saves two thread switches, unless this disk has stalled lately (flush-pace.ts); all else is
 * asynchronous, a few at a time (disk-turns.ts), or goes to the page cache. One process a
 * directory, by disk-lock.ts.
 */
import {
  close,
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsync,
  ftruncateSync,
  mkdirSync,
  open,
  openSync,
  read,
  readdirSync,
  readSync,
  renameSync,
  statfsSync,
  unlinkSync,
  writev,
  writevSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { HoldfastError } from '../../core/errors.js';
import { READ_IN_PLACE_MAX_BYTES } from '../../core/limits.js';
import type { Disk, DiskDone, DiskFile, DiskSpace } from '../disk.js';
import { type DiskLock, lockDirectory } from './disk-lock.js';
import { DiskTurns } from './disk-turns.js';
import { FlushPace } from './flush-pace.js';
import { WarmReads } from './warm-reads.js';

/** What writev(2) takes at once. */
const IOV_MAX = 1024;

const CODES: Readonly<Record<string, HoldfastError['code']>> = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EROFS: 'DISK_READ_ONLY',
  ENOENT: 'NOT_FOUND',
  EEXIST: 'ALREADY_EXISTS',
};

function diskFault(error: unknown, what: string): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const known = CODES[code ?? ''] ?? 'DISK_FAILED';
  return new HoldfastError(known, `${what}: ${message}`, { cause: error });
}

/**
 * Whatever the reason, also no space left (thin devices, network file systems): the kernel may
 * count what it could not write as written, so that the next flush says nothing of it.
 */
function flushFault(error: unknown, what: string): HoldfastError {
  const { message } = error as NodeJS.ErrnoException;
  return new HoldfastError('DISK_FAILED', `flush ${what}: ${message}`, { cause: error });
}

function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw diskFault(error, what);
  }
}

function withoutStart(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = bytes;
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(skip === 0 ? buffer : buffer.subarray(skip));
    skip = Math.max(0, skip - buffer.length);
  }
  return rest;
}

class NodeDiskFile implements DiskFile {
  readonly path: string;
  readonly #fd: number;
  readonly #pace: FlushPace;
  readonly #warm: WarmReads;
  readonly #turns: DiskTurns;
  /** Names this file to `#warm`; never used again for another one. */
  readonly #number: number;
  #closed = false;
  /** Operations under way, or waiting for their turn: the descriptor must not be reused then. */
  #busy = 0;

  constructor(path: string, fd: number, disk: SharedState, number: number) {
    this.path = path;
    this.#fd = fd;
    this.#pace = disk.pace;
    this.#warm = disk.warm;
    this.#turns = disk.turns;
    this.#number = number;
  }

  size(): number {
    return attempt(this.path, () => fstatSync(this.#fd).size);
  }

  writeSync(buffers: readonly Uint8Array[], position: number): void {
    let rest = buffers;
    let at = position;
    try {
      while (rest.length > 0) {
        const part = rest.length > IOV_MAX ? rest.slice(0, IOV_MAX) : rest;
        const written = writevSync(this.#fd, part as Uint8Array[], at);
        this.#warm.note(this.#number, at, written);
        at += written;
        rest = withoutStart(rest, written);
      }
    } catch (error) {
      throw diskFault(error, `write ${this.path}`);
    }
  }

  write(buffers: readonly Uint8Array[], position: number, done: DiskDone): void {
    const next = (rest: readonly Uint8Array[], at: number): void => {
      const part = rest.length > IOV_MAX ? rest.slice(0, IOV_MAX) : rest;
      const settled = (error: Error | null, written: number): void => {
        if (this.#settled()) return;
        if (error !== null) {
          done(diskFault(error, `write ${this.path}`));
          return;
        }
        this.#warm.note(this.#number, at, written);
        const left = withoutStart(rest, written);
        if (left.length === 0) done(null);
        else next(left, at + written);
      };
      this.#begin(() => writev(this.#fd, part as Uint8Array[], at, settled));
    };
    next(buffers, position);
  }

  datasync(alone: boolean, done: DiskDone): void {
    const started = performance.now();
    if (alone && this.#pace.mayBlock(started)) {
      let fault: HoldfastError | null = null;
      try {
        fdatasyncSync(this.#fd);
      } catch (error) {
        fault = flushFault(error, this.path);
      }
      this.#pace.took(started, performance.now());
      process.nextTick(() => {
        if (!this.#closed) done(fault);
      });
      return;
    }
    const settled = (error: Error | null): void => {
      if (this.#settled()) return;
      done(error === null ? null : flushFault(error, this.path));
    };
    this.#begin(() => fdatasync(this.#fd, settled));
  }

  readSync(into: Uint8Array, position: number): number {
    return attempt(`read ${this.path}`, () => {
      let got = 0;
      while (got < into.length) {
        const count = readSync(this.#fd, into, got, into.length - got, position + got);
        if (count === 0) break;
        got += count;
      }
      return got;
    });
  }

  read(
    into: Uint8Array,
    position: number,
    done: (error: HoldfastError | null, bytesRead: number) => void,
  ): void {
    const small = into.length > 0 && into.length <= READ_IN_PLACE_MAX_BYTES;
    if (small && this.#warm.isWarm(this.#number, position, into.length)) {
      this.#readInPlace(into, position, done);
      return;
    }
    const next = (got: number): void => {
      const settled = (error: Error | null, count: number): void => {
        if (this.#settled()) return;
        if (error !== null) done(diskFault(error, `read ${this.path}`), got);
        else if (count === 0 || got + count >= into.length) {
          this.#warm.note(this.#number, position, got + count);
          done(null, got + count);
        } else next(got + count);
      };
      this.#begin(() => read(this.#fd, into, got, into.length - got, position + got, settled));
    };
    next(0);
  }

  #readInPlace(
    into: Uint8Array,
    position: number,
    done: (error: HoldfastError | null, bytesRead: number) => void,
  ): void {
    const started = performance.now();
    let fault: HoldfastError | null = null;
    let got = 0;
    try {
      got = this.readSync(into, position);
    } catch (error) {
      fault = diskFault(error, `read ${this.path}`);
    }
    this.#warm.took(performance.now() - started);
    process.nextTick(() => {
      if (!this.#closed) done(fault, got);
    });
  }

  truncateSync(size: number): void {
    attempt(`truncate ${this.path}`, () => ftruncateSync(this.#fd, size));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#busy === 0) closeSync(this.#fd);
  }

  /** Gives an operation to the thread pool when it is its turn. It ends with `#settled`. */
  #begin(start: () => void): void {
    this.#busy += 1;
    this.#turns.take(start);
  }

  /** Notes that an operation has ended; true when the file was closed meanwhile. */
  #settled(): boolean {
    this.#turns.give();
    this.#busy -= 1;
    if (this.#closed && this.#busy === 0) closeSync(this.#fd);
    return this.#closed;
  }
}

/** What all files of a disk share. */
interface SharedState {
  readonly pace: FlushPace;
  readonly warm: WarmReads;
  readonly turns: DiskTurns;
}

class NodeDisk implements Disk {
  readonly name: string;
  readonly #shared: SharedState = {
    pace: new FlushPace(),
    warm: new WarmReads(),
    turns: new DiskTurns(),
  };
  #opened = 0;

  constructor(directory: string) {
    this.name = directory;
  }

  open(path: string, create: 'never' | 'new' | 'maybe'): DiskFile {
    const whole = join(this.name, path);
    const fd = attempt(`open ${path}`, () => {
      if (create === 'new') return openSync(whole, 'wx+', 0o600);
      if (create === 'never') return openSync(whole, 'r+');
      // 'a+' would append whatever the position; so: open, else create.
      return existsSync(whole) ? openSync(whole, 'r+') : openSync(whole, 'wx+', 0o600);
    });
    this.#opened += 1;
    return new NodeDiskFile(path, fd, this.#shared, this.#opened);
  }

  placeOf(path: string): string {
    return resolve(this.name, path);
  }

  exists(path: string): boolean {
    return existsSync(join(this.name, path));
  }

  list(directory: string): string[] {
    const entries = attempt(`list ${directory}`, () =>
      readdirSync(join(this.name, directory), { withFileTypes: true }),
    );
    return entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort();
  }

  makeDirectory(path: string): void {
    const whole = join(this.name, path);
    attempt(`mkdir ${path}`, () => mkdirSync(whole, { recursive: true, mode: 0o700 }));
  }

  rename(from: string, to: string): void {
    attempt(`rename ${from}`, () => renameSync(join(this.name, from), join(this.name, to)));
  }

  unlink(path: string): void {
    attempt(`unlink ${path}`, () => unlinkSync(join(this.name, path)));
  }

  syncDirectory(path: string, done: DiskDone): void {
    const { turns } = this.#shared;
    const ended = (fault: HoldfastError | null): void => {
      turns.give();
      done(fault);
    };
    turns.take(() => {
      open(join(this.name, path), 'r', (failure, fd) => {
        if (failure !== null) return ended(diskFault(failure, `open ${path}`));
        fsync(fd, (error) => {
          close(fd, () => ended(error === null ? null : flushFault(error, path)));
        });
      });
    });
  }

  space(): DiskSpace {
    return attempt('statfs', () => {
      const { bsize, blocks, bavail } = statfsSync(this.name);
      return { totalBytes: bsize * blocks, freeBytes: bsize * bavail };
    });
  }
}

/** A directory as a disk, locked against other processes until `release` or the end of this one. */
export interface OpenedDisk {
  readonly disk: Disk;
  readonly release: DiskLock['release'];
}

/**
 * Opens an existing directory as a disk. DISK_IN_USE when another process has it, NOT_FOUND when
 * there is no such directory.
 */
export function openNodeDisk(
  directory: string,
  done: (error: HoldfastError | null, opened: OpenedDisk | null) => void,
): void {
  lockDirectory(directory, (error, lock) => {
    if (lock === null) done(error, null);
    else done(null, { disk: new NodeDisk(directory), release: lock.release });
  });
}
