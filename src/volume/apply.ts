/**
 * What each operation does to the state: the one place where the state changes, called by the owner
 * when an operation is recorded and by replay with the same operation. No clock, no randomness, no
 * I/O, nothing that depends on anything but state and operation.
 *
 * Whoever records an operation has checked that it can be done. What does not fit the state found
 * on replay is INCONSISTENT: the log contradicts itself, and going on would be guessing.
 */
import { HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Inode, Timestamp } from './filesystem-api.js';
import { Field, ROOT_SLOT } from './inode-table.js';
import { isDirectory, isSymlink, S_IFMT } from './mode.js';
import type {
  Create,
  Follow,
  Move,
  Operation,
  Punch,
  Rename,
  SetAttributes,
  Share,
  Unlink,
  Write,
} from './operations.js';
import { HOLE, placeOf, RESERVED } from './segments.js';
import type { VolumeState } from './state.js';

/** One past the largest page number of a file. */
const PAGES_END = 0x1_0000_0000;

function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new HoldfastError('INCONSISTENT', `volume log: ${message}`);
}

function slotFor(state: VolumeState, inode: Inode): number {
  const slot = state.inodes.slotOf(inode);
  check(slot !== 0, `inode ${inode} does not exist`);
  return slot;
}

function directoryFor(state: VolumeState, inode: Inode): number {
  const slot = slotFor(state, inode);
  check(isDirectory(state.inodes.get(slot, Field.mode)), `inode ${inode} is not a directory`);
  return slot;
}

/**
 * Applies one operation; `place` is where its first data page stands. Throws INCONSISTENT when it
 * does not fit the state.
 */
export function apply(state: VolumeState, operation: Operation, place: number): void {
  switch (operation.type) {
    case 'format': {
      check(state.isEmpty, 'formatted twice');
      const slot = state.inodes.allocate(ROOT_SLOT, operation.mode);
      state.inodes.set(slot, Field.nlink, 2);
      state.inodes.set(slot, Field.extra, ROOT_SLOT);
      owned(state, slot, operation);
      return;
    }
    case 'create':
      create(state, operation);
      return;
    case 'link': {
      const slot = slotFor(state, operation.inode);
      const parent = directoryFor(state, operation.parent);
      addLinks(state, slot, 1);
      state.orphans.delete(slot);
      state.inodes.setTime(slot, Field.ctime, operation.time);
      addEntry(state, parent, operation.name, slot, operation.time);
      return;
    }
    case 'unlink':
    case 'rmdir':
      unlink(state, operation);
      return;
    case 'rename':
      operation.exchange ? exchange(state, operation) : rename(state, operation);
      return;
    case 'free':
      free(state, slotFor(state, operation.inode));
      return;
    case 'setattr':
      setAttributes(state, operation);
      return;
    case 'setxattr':
      setXattr(state, operation.inode, operation.name, operation.value, operation.time);
      return;
    case 'removexattr':
      setXattr(state, operation.inode, operation.name, null, operation.time);
      return;
    default:
      applyData(state, operation, place);
  }
}

function applyData(state: VolumeState, operation: Operation, place: number): void {
  switch (operation.type) {
    case 'truncate':
      truncate(state, slotFor(state, operation.inode), operation.size, operation.time);
      return;
    case 'write':
      write(state, operation, place);
      return;
    case 'allocate': {
      const slot = slotFor(state, operation.inode);
      grow(state, slot, state.extents.reserve(slot, operation.page, operation.count));
      changed(state, slot, operation.size, operation.time);
      return;
    }
    case 'punch':
      punch(state, operation);
      return;
    case 'share':
      share(state, operation);
      return;
    case 'move':
      move(state, operation, place);
      return;
    case 'follow':
      follow(state, operation);
      return;
    default:
      check(false, `operation ${operation.type} has no data`);
  }
}

function owned(
  state: VolumeState,
  slot: number,
  by: { readonly uid: number; readonly gid: number; readonly time: Timestamp },
): void {
  state.inodes.set(slot, Field.uid, by.uid);
  state.inodes.set(slot, Field.gid, by.gid);
  state.inodes.setTime(slot, Field.atime, by.time);
  state.inodes.setTime(slot, Field.mtime, by.time);
  state.inodes.setTime(slot, Field.ctime, by.time);
}

/** A directory's content, or a file's data, has changed. */
function modified(state: VolumeState, slot: number, time: Timestamp): void {
  state.inodes.setTime(slot, Field.mtime, time);
  state.inodes.setTime(slot, Field.ctime, time);
}

function addLinks(state: VolumeState, slot: number, count: number): void {
  const links = state.inodes.get(slot, Field.nlink) + count;
  check(links >= 0, 'an inode has fewer than no links');
  state.inodes.set(slot, Field.nlink, links);
}

function addEntry(
  state: VolumeState,
  parent: number,
  name: Uint8Array,
  child: number,
  time: Timestamp,
): void {
  check(state.directory.lookup(parent, name) === 0, 'an entry is made twice');
  check(state.directory.hasRoom(parent, name), 'no room for an entry');
  state.directory.insert(parent, name, child);
  modified(state, parent, time);
}

function create(state: VolumeState, operation: Create): void {
  const { inodes } = state;
  check(inodes.isFree(operation.inode) && operation.mode !== 0, 'an inode number is used again');
  const parent = operation.parent === 0 ? 0 : directoryFor(state, operation.parent);
  const slot = inodes.allocate(operation.inode, operation.mode);
  owned(state, slot, operation);
  if (isDirectory(operation.mode)) {
    inodes.set(slot, Field.nlink, 2);
    inodes.set(slot, Field.extra, parent);
    addLinks(state, parent, 1);
  } else {
    inodes.set(slot, Field.nlink, parent === 0 ? 0 : 1);
    inodes.set(slot, Field.extra, operation.rdev);
  }
  if (isSymlink(operation.mode)) {
    check(operation.target.length > 0, 'a symbolic link without a target');
    state.attributes.setTarget(slot, operation.target);
    inodes.setSize(slot, operation.target.length);
    countAttributes(state, slot, operation.target.length);
  }
  if (parent === 0) state.orphans.add(slot);
  else addEntry(state, parent, operation.name, slot, operation.time);
}

function countAttributes(state: VolumeState, slot: number, bytes: number): void {
  state.attributeBytes += bytes - state.inodes.get(slot, Field.attributeBytes);
  state.inodes.set(slot, Field.attributeBytes, bytes);
}

/** An inode has lost a name. `parent` is where it was, for directories. */
function dropLink(state: VolumeState, slot: number, parent: number, time: Timestamp): void {
  if (isDirectory(state.inodes.get(slot, Field.mode))) {
    check(state.directory.isEmpty(slot), 'a directory that is not empty is removed');
    state.inodes.set(slot, Field.nlink, 0);
    addLinks(state, parent, -1);
  } else {
    addLinks(state, slot, -1);
  }
  state.inodes.setTime(slot, Field.ctime, time);
  if (state.inodes.get(slot, Field.nlink) === 0) state.orphans.add(slot);
}

function unlink(state: VolumeState, operation: Unlink): void {
  const parent = directoryFor(state, operation.parent);
  const slot = state.directory.lookup(parent, operation.name);
  check(slot !== 0, 'an entry to remove does not exist');
  const isDir = isDirectory(state.inodes.get(slot, Field.mode));
  check(isDir === (operation.type === 'rmdir'), 'unlink of a directory, or rmdir of a file');
  state.directory.remove(parent, operation.name);
  modified(state, parent, operation.time);
  dropLink(state, slot, parent, operation.time);
}

/** A directory has another parent now. */
function reparent(state: VolumeState, slot: number, from: number, to: number): void {
  if (from === to || !isDirectory(state.inodes.get(slot, Field.mode))) return;
  state.inodes.set(slot, Field.extra, to);
  addLinks(state, from, -1);
  addLinks(state, to, 1);
}

function rename(state: VolumeState, operation: Rename): void {
  const from = directoryFor(state, operation.parent);
  const to = directoryFor(state, operation.newParent);
  const slot = state.directory.lookup(from, operation.name);
  check(slot !== 0, 'an entry to rename does not exist');
  const victim = state.directory.lookup(to, operation.newName);
  check(victim !== slot, 'a rename onto the same inode');
  state.directory.remove(from, operation.name);
  if (victim === 0) {
    check(state.directory.hasRoom(to, operation.newName), 'no room for an entry');
    state.directory.insert(to, operation.newName, slot);
  } else {
    state.directory.replace(to, operation.newName, slot);
    dropLink(state, victim, to, operation.time);
  }
  reparent(state, slot, from, to);
  modified(state, from, operation.time);
  modified(state, to, operation.time);
  state.inodes.setTime(slot, Field.ctime, operation.time);
}

function exchange(state: VolumeState, operation: Rename): void {
  const from = directoryFor(state, operation.parent);
  const to = directoryFor(state, operation.newParent);
  const one = state.directory.lookup(from, operation.name);
  const other = state.directory.lookup(to, operation.newName);
  check(one !== 0 && other !== 0, 'an entry to exchange does not exist');
  state.directory.replace(from, operation.name, other);
  state.directory.replace(to, operation.newName, one);
  reparent(state, one, from, to);
  reparent(state, other, to, from);
  modified(state, from, operation.time);
  modified(state, to, operation.time);
  state.inodes.setTime(one, Field.ctime, operation.time);
  state.inodes.setTime(other, Field.ctime, operation.time);
}

function free(state: VolumeState, slot: number): void {
  check(state.orphans.delete(slot), 'an inode with a name is freed');
  grow(state, slot, state.extents.set(slot, 0, PAGES_END, HOLE));
  state.masks.clear(slot, 0, PAGES_END);
  if (state.inodes.get(slot, Field.attributeBytes) > 0) {
    state.attributes.clear(slot);
    countAttributes(state, slot, 0);
  }
  state.inodes.release(slot);
}

function setAttributes(state: VolumeState, operation: SetAttributes): void {
  const slot = slotFor(state, operation.inode);
  const { inodes } = state;
  const { mode, uid, gid, atime, mtime, ctime } = operation;
  if (mode !== null) {
    const former = inodes.get(slot, Field.mode);
    check((mode & S_IFMT) === (former & S_IFMT), 'a file changes its type');
    inodes.set(slot, Field.mode, mode);
  }
  if (uid !== null) inodes.set(slot, Field.uid, uid);
  if (gid !== null) inodes.set(slot, Field.gid, gid);
  if (atime !== null) inodes.setTime(slot, Field.atime, atime);
  if (mtime !== null) inodes.setTime(slot, Field.mtime, mtime);
  if (ctime !== null) inodes.setTime(slot, Field.ctime, ctime);
}

function setXattr(
  state: VolumeState,
  inode: Inode,
  name: string,
  value: Uint8Array | null,
  time: Timestamp,
): void {
  const slot = slotFor(state, inode);
  const symlink = isSymlink(state.inodes.get(slot, Field.mode)) ? state.inodes.size(slot) : 0;
  countAttributes(state, slot, state.attributes.set(slot, name, value) + symlink);
  state.inodes.setTime(slot, Field.ctime, time);
}

/** The file takes so many more pages. */
function grow(state: VolumeState, slot: number, pages: number): void {
  if (pages === 0) return;
  const now = state.inodes.get(slot, Field.pages) + pages;
  check(now >= 0, 'a file takes less than nothing');
  state.inodes.set(slot, Field.pages, now);
  state.usedPages += pages;
}

function changed(state: VolumeState, slot: number, size: number, time: Timestamp): void {
  if (state.inodes.size(slot) !== size) state.inodes.setSize(slot, size);
  modified(state, slot, time);
}

function truncate(state: VolumeState, slot: number, size: number, time: Timestamp): void {
  if (size < state.inodes.size(slot)) {
    const gone = Math.ceil(size / PAGE_BYTES);
    grow(state, slot, state.extents.set(slot, gone, PAGES_END - gone, HOLE));
    state.masks.clear(slot, gone, PAGES_END);
    zero(state, slot, size, gone * PAGE_BYTES);
  }
  changed(state, slot, size, time);
}

/** Zeroes [from, to) inside one page, if the page holds data. */
function zero(state: VolumeState, slot: number, from: number, to: number): void {
  if (from >= to) return;
  const page = Math.floor(from / PAGE_BYTES);
  const place = state.extents.place(slot, page);
  if (place === HOLE || place === RESERVED) return;
  const start = page * PAGE_BYTES;
  state.masks.add(slot, page, from - start, to - start);
}

function write(state: VolumeState, operation: Write, place: number): void {
  const slot = slotFor(state, operation.inode);
  const { page, count } = operation;
  if (count > 0) {
    check(page + count < PAGES_END, 'a write beyond the largest file');
    grow(state, slot, state.extents.set(slot, page, count, place));
    state.masks.clear(slot, page, page + count);
  }
  changed(state, slot, operation.size, operation.time);
}

function punch(state: VolumeState, operation: Punch): void {
  const slot = slotFor(state, operation.inode);
  const end = operation.offset + operation.length;
  const first = Math.ceil(operation.offset / PAGE_BYTES);
  const last = Math.floor(end / PAGE_BYTES);
  if (first > last) {
    zero(state, slot, operation.offset, end);
  } else {
    zero(state, slot, operation.offset, first * PAGE_BYTES);
    zero(state, slot, last * PAGE_BYTES, end);
    if (last > first) {
      const place = operation.reserve ? RESERVED : HOLE;
      grow(state, slot, state.extents.set(slot, first, last - first, place));
      state.masks.clear(slot, first, last);
    }
  }
  if (operation.reserve) {
    // The whole pages in between are reserved by now: only the ones at the edges are left.
    const page = Math.floor(operation.offset / PAGE_BYTES);
    const behind = Math.ceil(end / PAGE_BYTES);
    grow(state, slot, state.extents.reserve(slot, page, first - page));
    if (last >= first) grow(state, slot, state.extents.reserve(slot, last, behind - last));
  }
  changed(state, slot, operation.size, operation.time);
}

function share(state: VolumeState, operation: Share): void {
  const from = slotFor(state, operation.from);
  const to = slotFor(state, operation.inode);
  const { page, toPage, count } = operation;
  const overlaps = from === to && page < toPage + count && toPage < page + count;
  check(!overlaps, 'a range shares its own pages');
  grow(state, to, state.extents.share(from, page, to, toPage, count));
  if (from !== to || !state.masks.isEmpty) state.masks.share(from, page, to, toPage, count);
  changed(state, to, operation.size, operation.time);
}

function move(state: VolumeState, operation: Move, place: number): void {
  const slot = state.inodes.slotOf(operation.inode);
  const segment = state.segments.known(operation.segment);
  if (slot === 0 || segment === 0) return;
  for (let i = 0; i < operation.count; i++) {
    const former = placeOf(segment, operation.at + i);
    if (state.extents.place(slot, operation.page + i) !== former) continue;
    state.extents.set(slot, operation.page + i, 1, place + i);
  }
}

function follow(state: VolumeState, operation: Follow): void {
  const slot = state.inodes.slotOf(operation.inode);
  const from = state.inodes.slotOf(operation.from);
  const segment = state.segments.known(operation.segment);
  if (slot === 0 || from === 0 || segment === 0) return;
  for (let i = 0; i < operation.count; i++) {
    const former = placeOf(segment, operation.at + i);
    if (state.extents.place(slot, operation.page + i) !== former) continue;
    const place = state.extents.place(from, operation.fromPage + i);
    check(place !== HOLE && place !== RESERVED, 'a shared page follows none');
    state.extents.set(slot, operation.page + i, 1, place);
  }
}
