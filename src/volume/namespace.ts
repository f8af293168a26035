/**
 * Operations on names: checks what POSIX asks of each, then records it. Nothing here waits; every
 * check comes before anything is recorded, so a failed call has changed nothing.
 */
import type { Clock } from '../io/clock.js';
import {
  type Caller,
  type DirectoryEntry,
  type Errno,
  FsError,
  type Inode,
} from './filesystem-api.js';
import type { History } from './history.js';
import { Field, ROOT_SLOT } from './inode-table.js';
import { LINK_MAX, NAME_MAX, SYMLINK_MAX } from './limits.js';
import { isDirectory, S_IFLNK, S_IFMT, S_IFREG } from './mode.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

const EMPTY = Buffer.alloc(0);
const SELF = Buffer.from('.');
const PARENT = Buffer.from('..');
/** Thrown often: programs look for files that are not there. */
const NO_ENTRY = new FsError('ENOENT', 'there is no such entry');

export interface NamespaceDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly clock: Clock;
  /** Throws ENOSPC unless one more inode with so many bytes fits. */
  readonly requireInode: (bytes: number) => void;
  /** An inode has lost its last name. */
  readonly orphaned: (slot: number) => void;
}

export class Namespace {
  readonly #deps: NamespaceDeps;

  constructor(deps: NamespaceDeps) {
    this.#deps = deps;
  }

  #existing(inode: Inode): number {
    const slot = this.#deps.state.inodes.slotOf(inode);
    if (slot === 0) throw new FsError('ESTALE', 'the inode is gone');
    return slot;
  }

  /** The slot of a directory. */
  #directory(inode: Inode): number {
    const slot = this.#existing(inode);
    if (!this.#isDir(slot)) throw new FsError('ENOTDIR', 'it is no directory');
    return slot;
  }

  /** A directory that entries may be made in. */
  #living(inode: Inode): number {
    const slot = this.#directory(inode);
    if (this.#deps.state.inodes.get(slot, Field.nlink) === 0) throw NO_ENTRY;
    return slot;
  }

  #parentOf(directory: number): number {
    return this.#deps.state.inodes.get(directory, Field.extra);
  }

  #isDir(slot: number): boolean {
    return isDirectory(this.#deps.state.inodes.get(slot, Field.mode));
  }

  /** The slot under a name; 0 when there is none. "." and ".." are names too. */
  lookup(parent: Inode, name: Buffer): number {
    if (name.length === 1 && name.equals(SELF)) return this.#existing(parent);
    const directory = this.#directory(parent);
    if (name.length > NAME_MAX) throw new FsError('ENAMETOOLONG', 'the name is too long');
    if (name.length === 2 && name.equals(PARENT)) return this.#parentOf(directory);
    return this.#deps.state.directory.lookup(directory, name);
  }

  /** The slot under a name that must be there. */
  #named(parent: Inode, name: Buffer): number {
    const slot = this.lookup(parent, name);
    if (slot === 0) throw NO_ENTRY;
    return slot;
  }

  /** Checks a name for something new in a directory. */
  #requireFree(directory: number, name: Buffer): void {
    checkName(name, 'EEXIST');
    if (this.#deps.state.directory.lookup(directory, name) !== 0) {
      throw new FsError('EEXIST', 'the name is taken');
    }
    if (!this.#deps.state.directory.hasRoom(directory, name)) {
      throw new FsError('ENOSPC', 'too many names of this directory hash alike');
    }
  }

  /** Makes a file, directory, link or device node and returns its slot. */
  create(
    parent: Inode,
    name: Buffer,
    what: { readonly mode: number; readonly rdev?: number; readonly target?: Buffer },
    caller: Caller,
  ): number {
    const { state, history, clock } = this.#deps;
    const directory = this.#living(parent);
    this.#requireFree(directory, name);
    const type = what.mode & S_IFMT;
    const target = what.target ?? EMPTY;
    if (type === S_IFLNK) checkTarget(target);
    this.#deps.requireInode(target.length);
    const inode = state.inodes.candidate();
    history.perform({
      type: 'create',
      inode,
      parent,
      name: Buffer.from(name),
      mode: what.mode,
      uid: caller.uid,
      gid: caller.gid,
      rdev: what.rdev ?? 0,
      target: Buffer.from(target),
      time: timeNow(clock),
    });
    return state.inodes.slotOf(inode);
  }

  /** A regular file without a name. */
  tmpfile(parent: Inode, mode: number, caller: Caller): number {
    const { state, history, clock } = this.#deps;
    this.#living(parent);
    this.#deps.requireInode(0);
    const inode = state.inodes.candidate();
    history.perform({
      type: 'create',
      inode,
      parent: 0,
      name: EMPTY,
      mode: (mode & ~S_IFMT) | S_IFREG,
      uid: caller.uid,
      gid: caller.gid,
      rdev: 0,
      target: EMPTY,
      time: timeNow(clock),
    });
    return state.inodes.slotOf(inode);
  }

  link(inode: Inode, parent: Inode, name: Buffer): number {
    const { history, clock } = this.#deps;
    const slot = this.#existing(inode);
    const directory = this.#living(parent);
    if (this.#isDir(slot)) throw new FsError('EPERM', 'directories have one name');
    this.#requireFree(directory, name);
    if (this.#deps.state.inodes.get(slot, Field.nlink) >= LINK_MAX) {
      throw new FsError('EMLINK', 'too many links');
    }
    this.#deps.requireInode(0);
    history.perform({ type: 'link', inode, parent, name: Buffer.from(name), time: timeNow(clock) });
    return slot;
  }

  unlink(parent: Inode, name: Buffer): void {
    const { history, clock } = this.#deps;
    checkName(name, 'EISDIR');
    const slot = this.#named(parent, name);
    if (this.#isDir(slot)) throw new FsError('EISDIR', 'it is a directory');
    history.perform({ type: 'unlink', parent, name: Buffer.from(name), time: timeNow(clock) });
    this.#checkOrphan(slot);
  }

  rmdir(parent: Inode, name: Buffer): void {
    const { state, history, clock } = this.#deps;
    if (name.equals(SELF)) throw new FsError('EINVAL', 'a directory cannot be removed by "."');
    checkName(name, 'ENOTEMPTY');
    const slot = this.#named(parent, name);
    if (!this.#isDir(slot)) throw new FsError('ENOTDIR', 'it is no directory');
    if (!state.directory.isEmpty(slot)) throw new FsError('ENOTEMPTY', 'it is not empty');
    history.perform({ type: 'rmdir', parent, name: Buffer.from(name), time: timeNow(clock) });
    this.#checkOrphan(slot);
  }

  #checkOrphan(slot: number): void {
    if (this.#deps.state.orphans.has(slot)) this.#deps.orphaned(slot);
  }

  rename(parent: Inode, name: Buffer, newParent: Inode, newName: Buffer, flags: number): void {
    const { state, history, clock } = this.#deps;
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0 || flags === 3) {
      throw new FsError('EINVAL', 'rename with flags that are not known');
    }
    checkName(name, 'EBUSY');
    checkName(newName, 'EBUSY');
    const exchange = (flags & RENAME_EXCHANGE) !== 0;
    const slot = this.#named(parent, name);
    const to = this.#living(newParent);
    const victim = state.directory.lookup(to, newName);
    if (victim !== 0 && (flags & RENAME_NOREPLACE) !== 0) {
      throw new FsError('EEXIST', 'the new name is taken');
    }
    if (exchange && victim === 0) throw NO_ENTRY;
    this.#requireOutside(slot, to);
    if (exchange) this.#requireOutside(victim, this.#directory(parent));
    if (victim === slot) return;
    if (!exchange) this.#requireReplaceable(slot, victim, to, newName);
    history.perform({
      type: 'rename',
      parent,
      name: Buffer.from(name),
      newParent,
      newName: Buffer.from(newName),
      exchange,
      time: timeNow(clock),
    });
    if (victim !== 0) this.#checkOrphan(victim);
  }

  /** A directory does not move into itself. */
  #requireOutside(slot: number, to: number): void {
    if (!this.#isDir(slot)) return;
    for (let at = to; ; at = this.#parentOf(at)) {
      if (at === slot) throw new FsError('EINVAL', 'a directory cannot move into itself');
      if (at === ROOT_SLOT) return;
    }
  }

  #requireReplaceable(slot: number, victim: number, to: number, newName: Buffer): void {
    const { directory } = this.#deps.state;
    if (victim === 0) {
      if (directory.hasRoom(to, newName)) return;
      throw new FsError('ENOSPC', 'too many names of this directory hash alike');
    }
    if (this.#isDir(slot)) {
      if (!this.#isDir(victim)) throw new FsError('ENOTDIR', 'it would replace a file');
      if (!directory.isEmpty(victim)) throw new FsError('ENOTEMPTY', 'it would replace entries');
    } else if (this.#isDir(victim)) {
      throw new FsError('EISDIR', 'it would replace a directory');
    }
  }

  readdir(inode: Inode, cookie: number, entry: (entry: DirectoryEntry) => boolean): void {
    const { inodes, directory } = this.#deps.state;
    const slot = this.#directory(inode);
    directory.list(slot, cookie, (key, child, name) =>
      entry({
        name,
        inode: inodes.inodeOf(child),
        type: inodes.get(child, Field.mode) & S_IFMT,
        cookie: key + 1,
      }),
    );
  }
}

/** A name that may be made or removed; `dots` is what "." and ".." are answered with. */
function checkName(name: Buffer, dots: Errno): void {
  if (name.length > NAME_MAX) throw new FsError('ENAMETOOLONG', 'the name is too long');
  if (name.length === 0) throw NO_ENTRY;
  if (name.equals(SELF) || name.equals(PARENT)) throw new FsError(dots, 'it is "." or ".."');
  if (name.includes(0x2f) || name.includes(0)) throw new FsError('EINVAL', 'not a name');
}

function checkTarget(target: Buffer): void {
  if (target.length === 0) throw NO_ENTRY;
  if (target.length > SYMLINK_MAX) throw new FsError('ENAMETOOLONG', 'the target is too long');
}
