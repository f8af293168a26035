/**
 * Operations on one inode besides its data: attributes, size, extended attributes. Nothing waits.
 */

import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import { xattrBytes } from './attributes.js';
import {
  type AttributeChanges,
  type Attributes,
  FsError,
  type Inode,
  type Timestamp,
} from './filesystem-api.js';
import type { History } from './history.js';
import { Field } from './inode-table.js';
import { FILE_MAX_BYTES, XATTR_NAME_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_MAX } from './limits.js';
import {
  isDirectory,
  isRegular,
  isSymlink,
  S_IFBLK,
  S_IFCHR,
  S_IFMT,
  withoutPrivileges,
} from './mode.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** st_blocks counts in these. */
const BLOCK_BYTES = 512;
/** What a directory says it takes, as on most filesystems. */
const DIRECTORY_BYTES = 4096;
const CAPABILITY = 'security.capability';

export interface InodeOperationsDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly clock: Clock;
  /** Throws ENOSPC unless so many more bytes fit. */
  readonly requireBytes: (bytes: number) => void;
}

export class InodeOperations {
  readonly #deps: InodeOperationsDeps;

  constructor(deps: InodeOperationsDeps) {
    this.#deps = deps;
  }

  slot(inode: Inode): number {
    const slot = this.#deps.state.inodes.slotOf(inode);
    if (slot === 0) throw new FsError('ESTALE', 'the inode is gone');
    return slot;
  }

  /** The slot of a regular file. */
  file(inode: Inode): number {
    const slot = this.slot(inode);
    const mode = this.#deps.state.inodes.get(slot, Field.mode);
    if (isDirectory(mode)) throw new FsError('EISDIR', 'it is a directory');
    if (!isRegular(mode)) throw new FsError('EINVAL', 'it is no regular file');
    return slot;
  }

  attributes(slot: number): Attributes {
    const { inodes } = this.#deps.state;
    const mode = inodes.get(slot, Field.mode);
    const isDir = isDirectory(mode);
    const type = mode & S_IFMT;
    const isDevice = type === S_IFBLK || type === S_IFCHR;
    const bytes = isDir ? DIRECTORY_BYTES : inodes.get(slot, Field.pages) * PAGE_BYTES;
    return {
      inode: inodes.inodeOf(slot),
      size: isDir ? DIRECTORY_BYTES : inodes.size(slot),
      blocks: bytes / BLOCK_BYTES,
      atime: inodes.time(slot, Field.atime),
      mtime: inodes.time(slot, Field.mtime),
      ctime: inodes.time(slot, Field.ctime),
      mode,
      nlink: inodes.get(slot, Field.nlink),
      uid: inodes.get(slot, Field.uid),
      gid: inodes.get(slot, Field.gid),
      rdev: isDevice ? inodes.get(slot, Field.extra) : 0,
    };
  }

  setattr(inode: Inode, changes: AttributeChanges): Attributes {
    const { state, history, clock } = this.#deps;
    const slot = this.slot(inode);
    const now = timeNow(clock);
    if (changes.size !== undefined) this.#truncate(inode, changes.size, now);
    const mode = this.#newMode(slot, changes);
    const { uid, gid, atime, mtime, ctime } = changes;
    history.perform({
      type: 'setattr',
      inode,
      mode,
      uid: uid ?? null,
      gid: gid ?? null,
      atime: timeOf(atime, now),
      mtime: timeOf(mtime, now),
      ctime: ctime ?? now,
    });
    const kills = changes.killPrivileges === true && !this.#isDir(slot);
    if (kills && state.attributes.get(slot, CAPABILITY) !== null) {
      history.perform({ type: 'removexattr', inode, name: CAPABILITY, time: now });
    }
    return this.attributes(slot);
  }

  #isDir(slot: number): boolean {
    return isDirectory(this.#deps.state.inodes.get(slot, Field.mode));
  }

  #newMode(slot: number, changes: AttributeChanges): number | null {
    const former = this.#deps.state.inodes.get(slot, Field.mode);
    let mode = former;
    if (changes.mode !== undefined) mode = (former & S_IFMT) | (changes.mode & ~S_IFMT);
    if (changes.killPrivileges === true && !isDirectory(mode)) mode = withoutPrivileges(mode);
    return changes.mode === undefined && mode === former ? null : mode;
  }

  #truncate(inode: Inode, size: number, time: Timestamp): void {
    const { state, history } = this.#deps;
    const slot = this.file(inode);
    if (!Number.isSafeInteger(size) || size < 0) throw new FsError('EINVAL', 'not a size');
    if (size > FILE_MAX_BYTES) throw new FsError('EFBIG', 'the file would be too large');
    const isSame = size === state.inodes.size(slot);
    history.perform({ type: 'truncate', inode, size, time });
    if (isSame) this.#dropReserved(inode, slot, time);
  }

  /**
   * Space reserved behind the end goes with a truncation to the same size, too, as on other
   * filesystems. By an operation of its own: what `truncate` does to the state is what it did when
   * the logs that are there were written.
   */
  #dropReserved(inode: Inode, slot: number, time: Timestamp): void {
    const { state, history } = this.#deps;
    const size = state.inodes.size(slot);
    const end = Math.ceil(size / PAGE_BYTES);
    if (!state.extents.takesFrom(slot, end)) return;
    const offset = end * PAGE_BYTES;
    const length = FILE_MAX_BYTES - offset;
    history.perform({ type: 'punch', inode, offset, length, reserve: false, size, time });
  }

  readlink(inode: Inode): Buffer {
    const { state } = this.#deps;
    const slot = this.slot(inode);
    if (!isSymlink(state.inodes.get(slot, Field.mode))) {
      throw new FsError('EINVAL', 'it is no symbolic link');
    }
    return state.attributes.target(slot);
  }

  getxattr(inode: Inode, name: string): Buffer {
    const value = this.#deps.state.attributes.get(this.slot(inode), name);
    if (value === null) throw new FsError('ENODATA', 'there is no such attribute');
    return Buffer.from(value);
  }

  listxattr(inode: Inode): string[] {
    const { inodes, attributes } = this.#deps.state;
    const slot = this.slot(inode);
    // Asked before every write, nearly always in vain.
    if (inodes.get(slot, Field.attributeBytes) === 0) return [];
    return attributes.list(slot).map((one) => one.name);
  }

  setxattr(inode: Inode, name: string, value: Buffer, flags: number): void {
    const { state, history, clock } = this.#deps;
    const slot = this.slot(inode);
    const nameBytes = name.length;
    if (nameBytes === 0 || nameBytes > XATTR_NAME_MAX) {
      throw new FsError('ERANGE', 'not a name of an attribute');
    }
    if (value.length > XATTR_VALUE_MAX) throw new FsError('ENOSPC', 'the attribute is too large');
    const all = state.attributes.list(slot);
    const former = all.find((one) => one.name === name);
    if ((flags & XATTR_CREATE) !== 0 && former !== undefined) {
      throw new FsError('EEXIST', 'the attribute exists');
    }
    if ((flags & XATTR_REPLACE) !== 0 && former === undefined) {
      throw new FsError('ENODATA', 'there is no such attribute');
    }
    let total = xattrBytes(name, value.length);
    for (const one of all) {
      if (one !== former) total += xattrBytes(one.name, one.value.length);
    }
    if (total > XATTR_TOTAL_MAX) throw new FsError('ENOSPC', 'too many attributes');
    const grows = value.length - (former?.value.length ?? 0);
    if (grows > 0) this.#deps.requireBytes(xattrBytes(name, value.length));
    const copy = Buffer.from(value);
    history.perform({ type: 'setxattr', inode, name, value: copy, time: timeNow(clock) });
  }

  removexattr(inode: Inode, name: string): void {
    const { state, history, clock } = this.#deps;
    if (state.attributes.get(this.slot(inode), name) === null) {
      throw new FsError('ENODATA', 'there is no such attribute');
    }
    history.perform({ type: 'removexattr', inode, name, time: timeNow(clock) });
  }
}

function timeOf(time: Timestamp | 'now' | undefined, now: Timestamp): Timestamp | null {
  if (time === undefined) return null;
  return time === 'now' ? now : time;
}
