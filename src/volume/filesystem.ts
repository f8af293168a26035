/**
 * A mounted volume: the Filesystem over the log's owner. This file only joins the parts: names
 * (namespace.ts), inodes (inode-operations.ts), data (file-reader.ts, file-writer.ts,
 * file-space.ts), the way into the log (history.ts) and what keeps replay short and space free
 * (checkpoint-writer.ts). `mountVolume` in mount.ts builds it.
 *
 * Successful lookup, mknod, mkdir, symlink, link and tmpfile count one lookup each for `forget`;
 * readdir, getattr and setattr count none.
 */
import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { VolumeOwner } from '../replication/owner-api.js';
import { type CheckpointLimits, CheckpointWriter, type Logged } from './checkpoint-writer.js';
import { Cleaner } from './cleaner.js';
import { Endings } from './endings.js';
import { FileReader, type ReadDone } from './file-reader.js';
import { FileSpace } from './file-space.js';
import { FileWriter } from './file-writer.js';
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  type DirectoryEntry,
  type Done,
  type Filesystem,
  FsError,
  type Inode,
  type SpaceReport,
} from './filesystem-api.js';
import { Handles } from './handles.js';
import type { History } from './history.js';
import { InodeOperations } from './inode-operations.js';
import { Field } from './inode-table.js';
import { FILE_MAX_BYTES, INODE_BYTES, LEAVING_MS, SLOT_RANGE } from './limits.js';
import { isRegular, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './mode.js';
import { Namespace } from './namespace.js';
import { PageSource } from './page-source.js';
import type { PendingChunk } from './pending.js';
import { Pace, Reclaimer, type ReclaimLimits, userBytes } from './reclaimer.js';
import type { RootStore } from './root-store.js';
import type { VolumeState } from './state.js';

export interface FilesystemParts {
  readonly owner: VolumeOwner;
  readonly clock: Clock;
  readonly state: VolumeState;
  readonly history: History;
  readonly sizeBytes: number;
  /** The kernel already holds inodes of this volume that this daemon never answered for. */
  readonly adopted: boolean;
  readonly cachePages?: number;
  readonly readOnly?: boolean;
  readonly roots: RootStore;
  readonly checkpointLimits?: CheckpointLimits;
  readonly reclaimLimits?: ReclaimLimits;
  /** Behind the newest checkpoint in the log already. */
  readonly replayed: Logged;
}

export class VolumeFilesystem implements Filesystem {
  readonly state: VolumeState;
  readonly history: History;
  readonly source: PageSource;
  readonly checkpoints: CheckpointWriter;
  readonly cleaner: Cleaner;
  readonly reclaimer: Reclaimer;
  readonly #names: Namespace;
  readonly #inodes: InodeOperations;
  readonly #reader: FileReader;
  readonly #writer: FileWriter;
  readonly #space: FileSpace;
  readonly #handles: Handles;
  readonly #endings: Endings;
  readonly #clock: Clock;
  readonly #readOnly: boolean;
  #sizeBytes: number;

  constructor(parts: FilesystemParts) {
    const { owner, clock, state, history } = parts;
    this.state = state;
    this.history = history;
    this.#clock = clock;
    this.#sizeBytes = parts.sizeBytes;
    this.#readOnly = parts.readOnly ?? false;
    this.#handles = new Handles(state, parts.adopted);
    this.source = new PageSource(owner, state.segments, parts.cachePages);
    state.segments.onRelease = (slot) => this.source.forget(slot);
    history.placed.push((chunk, place) => this.#keepTails(chunk, place));
    const { roots, replayed } = parts;
    const checkpointed = { state, history, roots, replayed };
    this.checkpoints = new CheckpointWriter(checkpointed, parts.checkpointLimits);
    const requireBytes = (bytes: number): void => this.#requireBytes(bytes);
    const requireRoom = (pages: number): void => this.#requireBytes(pages * PAGE_BYTES);
    const requireInode = (bytes: number): void => this.#requireBytes(INODE_BYTES + bytes);
    const orphaned = (slot: number): void => this.#endIfUnheld(slot, false);
    const { source } = this;
    const pace: Pace = new Pace(clock, () => userBytes(history, this.cleaner));
    this.cleaner = new Cleaner({ state, history, source, roots, pace: pace.wait });
    const { cleaner, checkpoints } = this;
    const freed = (slot: number): void => this.#handles.freed(slot);
    this.#endings = new Endings({ state, history, checkpoints, clock, freed });
    const reclaimed = { state, history, checkpoints, roots, clock, cleaner };
    this.reclaimer = new Reclaimer(reclaimed, pace, parts.reclaimLimits);
    if (!this.#readOnly) this.reclaimer.start();
    this.#names = new Namespace({ state, history, clock, requireInode, orphaned });
    this.#inodes = new InodeOperations({ state, history, clock, requireBytes });
    this.#reader = new FileReader({ state, history, source });
    this.#writer = new FileWriter({ state, history, source, clock, requireRoom });
    this.#space = new FileSpace({ state, history, clock, inodes: this.#inodes, requireRoom });
  }

  /**
   * Before the volume is released: commits, and takes a checkpoint when that makes the next mount
   * much faster.
   */
  finish(done: Done): void {
    this.reclaimer.stop();
    this.history.commit((error) => {
      if (error !== null || this.#readOnly || !this.checkpoints.isWorthIt) done(error);
      else this.checkpoints.begin(done);
    });
  }

  /** Stops timers: nothing is given to the log any more. */
  stop(): void {
    this.reclaimer.stop();
    this.history.stop();
  }

  /** The volume was grown. */
  resize(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
  }

  #requireBytes(bytes: number): void {
    const needed = (): number => this.state.usedBytes + bytes - this.#sizeBytes;
    const fits = (): boolean => needed() <= 0;
    if (bytes <= 0 || fits()) return;
    this.#endings.hurry(fits);
    if (needed() > this.#leavingBytes()) throw new FsError('ENOSPC', 'the volume is full');
  }

  /**
   * What is free but for the kernel's FORGET, which comes behind the close(2) or unlink(2) that it
   * tells of, and behind what the program does next. For a moment only: for as long as somebody
   * still has the inode otherwise, a volume must not hold more than its size.
   */
  #leavingBytes(): number {
    const { inodes } = this.state;
    let bytes = 0;
    for (const slot of this.#handles.leaving(this.#clock.monotonic() - LEAVING_MS)) {
      bytes += inodes.get(slot, Field.pages) * PAGE_BYTES + INODE_BYTES;
    }
    return bytes;
  }

  #requireWritable(): void {
    if (this.#readOnly) throw new FsError('EROFS', 'mounted read-only');
    this.history.assertAlive();
  }

  /** Ends of files that were just written are likely to be written on: kept, to be completed. */
  #keepTails(chunk: PendingChunk, place: number): void {
    for (const { slot } of chunk.ranges) {
      const size = this.state.inodes.size(slot);
      if (size % PAGE_BYTES === 0) continue;
      const tail = this.state.extents.place(slot, Math.floor(size / PAGE_BYTES));
      if (tail < place || tail >= place + chunk.count) continue;
      this.source.keep(tail, Buffer.from(chunk.page(tail - place)));
    }
  }

  /** Ends an inode without a name once nobody holds it. */
  #endIfUnheld(slot: number, byForget: boolean): void {
    if (this.#readOnly || this.history.failure !== null) return;
    if (this.#handles.mayEnd(slot, byForget)) this.#endings.end(slot);
    else this.#handles.noteLeaving(slot, this.#clock.monotonic());
  }

  /** Ends all orphans: when the volume is mounted afresh, and nobody can hold them. */
  endOrphans(): void {
    this.#endings.endAll();
  }

  #created(slot: number): Attributes {
    this.#handles.created(slot);
    return this.#inodes.attributes(slot);
  }

  lookup(parent: Inode, name: Buffer): Attributes | null {
    this.history.assertAlive();
    const slot = this.#names.lookup(parent, name);
    if (slot === 0) return null;
    this.#handles.looked(slot);
    return this.#inodes.attributes(slot);
  }

  getattr(inode: Inode): Attributes {
    this.history.assertAlive();
    return this.#inodes.attributes(this.#inodes.slot(inode));
  }

  setattr(inode: Inode, changes: AttributeChanges): Attributes {
    this.#requireWritable();
    return this.#inodes.setattr(inode, changes);
  }

  mknod(parent: Inode, name: Buffer, mode: number, rdev: number, caller: Caller): Attributes {
    this.#requireWritable();
    const type = mode & S_IFMT;
    if (type === S_IFDIR || type === S_IFLNK) throw new FsError('EINVAL', 'not by mknod');
    const full = type === 0 ? mode | S_IFREG : mode;
    const device = isRegular(full) ? 0 : rdev;
    return this.#created(this.#names.create(parent, name, { mode: full, rdev: device }, caller));
  }

  mkdir(parent: Inode, name: Buffer, mode: number, caller: Caller): Attributes {
    this.#requireWritable();
    const full = (mode & ~S_IFMT) | S_IFDIR;
    return this.#created(this.#names.create(parent, name, { mode: full }, caller));
  }

  symlink(parent: Inode, name: Buffer, target: Buffer, caller: Caller): Attributes {
    this.#requireWritable();
    const mode = S_IFLNK | 0o777;
    return this.#created(this.#names.create(parent, name, { mode, target }, caller));
  }

  readlink(inode: Inode): Buffer {
    this.history.assertAlive();
    return this.#inodes.readlink(inode);
  }

  link(inode: Inode, newParent: Inode, newName: Buffer): Attributes {
    this.#requireWritable();
    const slot = this.#names.link(inode, newParent, newName);
    this.#handles.looked(slot);
    return this.#inodes.attributes(slot);
  }

  unlink(parent: Inode, name: Buffer): void {
    this.#requireWritable();
    this.#names.unlink(parent, name);
  }

  rmdir(parent: Inode, name: Buffer): void {
    this.#requireWritable();
    this.#names.rmdir(parent, name);
  }

  rename(from: Inode, name: Buffer, to: Inode, newName: Buffer, flags: number): void {
    this.#requireWritable();
    this.#names.rename(from, name, to, newName, flags);
  }

  tmpfile(parent: Inode, mode: number, caller: Caller): Attributes {
    this.#requireWritable();
    return this.#created(this.#names.tmpfile(parent, mode, caller));
  }

  open(inode: Inode): void {
    this.#handles.opened(this.#inodes.slot(inode));
  }

  close(inode: Inode): void {
    const slot = this.state.inodes.slotOf(inode);
    if (slot === 0) return;
    this.#handles.closed(slot);
    this.#endIfUnheld(slot, false);
  }

  forget(inode: Inode, count: number): void {
    const slot = this.state.inodes.slotOf(inode);
    if (slot === 0) return;
    this.#handles.forgotten(slot, count);
    this.#endIfUnheld(slot, true);
  }

  readdir(inode: Inode, cookie: number, entry: (entry: DirectoryEntry) => boolean): void {
    this.history.assertAlive();
    this.#names.readdir(inode, cookie, entry);
  }

  read(inode: Inode, offset: number, length: number, done: ReadDone): void {
    try {
      this.history.assertAlive();
      const slot = this.#inodes.file(inode);
      const again = (): void => this.read(inode, offset, length, done);
      if (this.#writer.delays(inode, offset, length, again)) return;
      this.#reader.read(slot, offset, length, done);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      this.history.deferred.run(() => done(error, []));
    }
  }

  write(inode: Inode, offset: number, data: Buffer, done: Done): void {
    try {
      this.#requireWritable();
      this.#inodes.file(inode);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      this.history.deferred.run(() => done(error));
      return;
    }
    this.#writer.write({ inode, offset, data }, done);
  }

  delays(inode: Inode, again: () => void): boolean {
    return this.#writer.delays(inode, 0, FILE_MAX_BYTES, again);
  }

  fallocate(inode: Inode, offset: number, length: number, mode: number): void {
    this.#requireWritable();
    this.#space.fallocate(inode, offset, length, mode);
  }

  seek(inode: Inode, offset: number, whence: 'data' | 'hole'): number {
    this.history.assertAlive();
    return this.#space.seek(inode, offset, whence);
  }

  copyRange(from: Inode, at: number, to: Inode, toAt: number, length: number): number {
    this.#requireWritable();
    return this.#space.copyRange(from, at, to, toAt, length);
  }

  getxattr(inode: Inode, name: string): Buffer {
    this.history.assertAlive();
    return this.#inodes.getxattr(inode, name);
  }

  setxattr(inode: Inode, name: string, value: Buffer, flags: number): void {
    this.#requireWritable();
    this.#inodes.setxattr(inode, name, value, flags);
  }

  listxattr(inode: Inode): string[] {
    this.history.assertAlive();
    return this.#inodes.listxattr(inode);
  }

  removexattr(inode: Inode, name: string): void {
    this.#requireWritable();
    this.#inodes.removexattr(inode, name);
  }

  /** Prefix consistency makes every fsync one of the whole history. */
  fsync(_inode: Inode, done: Done): void {
    this.history.commit(done);
  }

  commit(done: Done): void {
    this.history.commit(done);
  }

  statfs(): SpaceReport {
    const freeBytes = Math.max(0, this.#sizeBytes - this.state.usedBytes);
    const files = this.state.inodes.count;
    const freeFiles = Math.min(Math.floor(freeBytes / INODE_BYTES), SLOT_RANGE - 1 - files);
    return { totalBytes: this.#sizeBytes, freeBytes, files, freeFiles };
  }
}
