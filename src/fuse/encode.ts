/**
 * Replies → bytes for /dev/fuse. Writes into a buffer of the caller's and returns where the reply
 * ends; every byte of a structure is written, since the buffer is used again and again. Pure.
 */
import { assert } from '../core/assert.js';
import { writeU64 } from '../core/codec.js';
import type { Attributes, DirectoryEntry, SpaceReport } from '../volume/filesystem-api.js';
import { CACHE_SECONDS, PREFERRED_IO_BYTES } from './limits.js';
import type { Unique } from './operations.js';
import {
  ATTR,
  ATTR_OUT,
  DIRENT,
  ENTRY_OUT,
  INIT_OUT,
  Mode,
  NAME_MAX,
  OPEN_OUT,
  OUT_HEADER,
  STATFS_OUT,
} from './protocol.js';

const U32 = 0x1_0000_0000;
/** f_frsize: what statfs(2) counts in. */
const FRAGMENT_BYTES = 4096;
/** Where the payload of every reply begins. */
export const PAYLOAD = OUT_HEADER.BYTES;

/** `length` is that of the whole message; `errno` is 0 or the positive number of an error. */
export function encodeHeader(out: Buffer, unique: Unique, errno: number, length: number): void {
  assert(errno >= 0 && errno < 512, `errno ${errno}`);
  out.writeUInt32LE(length, OUT_HEADER.LENGTH);
  out.writeInt32LE(-errno, OUT_HEADER.ERROR);
  encodeUnique(out, unique);
}

/** Which request a reply is for. */
export function encodeUnique(out: Buffer, unique: Unique): void {
  out.writeUInt32LE(unique.low, OUT_HEADER.UNIQUE);
  out.writeUInt32LE(unique.high, OUT_HEADER.UNIQUE + 4);
}

/** A message that answers no request: `code` is one of NotifyCode. Returns its length. */
export function encodeNotify(out: Buffer, code: number): number {
  out.writeUInt32LE(PAYLOAD, OUT_HEADER.LENGTH);
  out.writeInt32LE(code, OUT_HEADER.ERROR);
  encodeUnique(out, { low: 0, high: 0 });
  return PAYLOAD;
}

/** Whole seconds may be negative, for times before 1970. */
function writeSeconds(out: Buffer, seconds: number, at: number): void {
  const high = Math.floor(seconds / U32);
  out.writeUInt32LE(seconds - high * U32, at);
  out.writeInt32LE(high, at + 4);
}

function encodeAttributes(out: Buffer, at: number, attributes: Attributes): void {
  const { atime, mtime, ctime } = attributes;
  writeU64(out, attributes.inode, at + ATTR.INODE);
  writeU64(out, attributes.size, at + ATTR.SIZE);
  writeU64(out, attributes.blocks, at + ATTR.BLOCKS);
  writeSeconds(out, atime.seconds, at + ATTR.ATIME);
  writeSeconds(out, mtime.seconds, at + ATTR.MTIME);
  writeSeconds(out, ctime.seconds, at + ATTR.CTIME);
  out.writeUInt32LE(atime.nanoseconds, at + ATTR.ATIME_NS);
  out.writeUInt32LE(mtime.nanoseconds, at + ATTR.MTIME_NS);
  out.writeUInt32LE(ctime.nanoseconds, at + ATTR.CTIME_NS);
  out.writeUInt32LE(attributes.mode, at + ATTR.MODE);
  out.writeUInt32LE(attributes.nlink, at + ATTR.NLINK);
  out.writeUInt32LE(attributes.uid, at + ATTR.UID);
  out.writeUInt32LE(attributes.gid, at + ATTR.GID);
  out.writeUInt32LE(attributes.rdev, at + ATTR.RDEV);
  out.writeUInt32LE(PREFERRED_IO_BYTES, at + ATTR.BLOCK_SIZE);
  out.writeUInt32LE(0, at + ATTR.FLAGS);
}

/**
 * How long the kernel may believe them. A write through O_DIRECT takes setuid and setgid without
 * the kernel hearing of it, and who runs the file next must not get them: it is to ask each time.
 */
function attributeSeconds({ mode }: Attributes): number {
  const isRegular = (mode & Mode.TYPE) === Mode.REGULAR;
  return isRegular && (mode & (Mode.SETUID | Mode.SETGID)) !== 0 ? 0 : CACHE_SECONDS;
}

/** fuse_entry_out at `at`; returns its end. */
export function encodeEntry(out: Buffer, at: number, attributes: Attributes): number {
  writeU64(out, attributes.inode, at + ENTRY_OUT.NODEID);
  writeU64(out, 0, at + ENTRY_OUT.GENERATION);
  writeU64(out, CACHE_SECONDS, at + ENTRY_OUT.ENTRY_VALID);
  writeU64(out, attributeSeconds(attributes), at + ENTRY_OUT.ATTR_VALID);
  writeU64(out, 0, at + ENTRY_OUT.ENTRY_VALID_NS);
  encodeAttributes(out, at + ENTRY_OUT.ATTR, attributes);
  return at + ENTRY_OUT.BYTES;
}

/** A fuse_entry_out without an inode: "there is no such name, and you may remember that". */
export function encodeNoEntry(out: Buffer, at: number): number {
  out.fill(0, at, at + ENTRY_OUT.BYTES);
  writeU64(out, CACHE_SECONDS, at + ENTRY_OUT.ENTRY_VALID);
  return at + ENTRY_OUT.BYTES;
}

export function encodeAttributesReply(out: Buffer, at: number, attributes: Attributes): number {
  writeU64(out, attributeSeconds(attributes), at + ATTR_OUT.ATTR_VALID);
  writeU64(out, 0, at + ATTR_OUT.ATTR_VALID_NS);
  encodeAttributes(out, at + ATTR_OUT.ATTR, attributes);
  return at + ATTR_OUT.BYTES;
}

/** The handle is always 0: the daemon keeps none. */
export function encodeOpen(out: Buffer, at: number, flags: number): number {
  writeU64(out, 0, at + OPEN_OUT.HANDLE);
  writeU64(out, flags, at + OPEN_OUT.FLAGS);
  return at + OPEN_OUT.BYTES;
}

/** How many bytes this size takes of the reply to a WRITE, GETXATTR or LISTXATTR: a u32, padded. */
export function encodeCount(out: Buffer, at: number, count: number): number {
  assert(count < U32, `count ${count}`);
  writeU64(out, count, at);
  return at + 8;
}

/** For LSEEK and COPY_FILE_RANGE_64. */
export function encodeOffset(out: Buffer, at: number, offset: number): number {
  writeU64(out, offset, at);
  return at + 8;
}

export function encodeStatfs(out: Buffer, at: number, space: SpaceReport): number {
  out.fill(0, at, at + STATFS_OUT.BYTES);
  const free = Math.floor(space.freeBytes / FRAGMENT_BYTES);
  writeU64(out, Math.floor(space.totalBytes / FRAGMENT_BYTES), at + STATFS_OUT.BLOCKS);
  writeU64(out, free, at + STATFS_OUT.FREE);
  writeU64(out, free, at + STATFS_OUT.AVAILABLE);
  writeU64(out, space.files + space.freeFiles, at + STATFS_OUT.FILES);
  writeU64(out, space.freeFiles, at + STATFS_OUT.FREE_FILES);
  out.writeUInt32LE(FRAGMENT_BYTES, at + STATFS_OUT.BLOCK_SIZE);
  out.writeUInt32LE(NAME_MAX, at + STATFS_OUT.NAME_LENGTH);
  out.writeUInt32LE(FRAGMENT_BYTES, at + STATFS_OUT.FRAGMENT_SIZE);
  return at + STATFS_OUT.BYTES;
}

/** How many bytes an entry with a name of this length takes in a listing. */
export function direntBytes(nameLength: number, plus: boolean): number {
  const fixed = plus ? ENTRY_OUT.BYTES + DIRENT.NAME : DIRENT.NAME;
  return (fixed + nameLength + 7) & ~7;
}

/**
 * fuse_dirent at `at`, or, with `attributes` given, fuse_direntplus; null stands for an entry that
 * counts as no LOOKUP (`.` and `..`). Returns its end.
 */
export function encodeDirent(
  out: Buffer,
  at: number,
  entry: DirectoryEntry,
  attributes?: Attributes | null,
): number {
  const { name } = entry;
  const start = attributes === undefined ? at : at + ENTRY_OUT.BYTES;
  if (attributes === null) out.fill(0, at, start);
  else if (attributes !== undefined) encodeEntry(out, at, attributes);
  const end = at + direntBytes(name.length, attributes !== undefined);
  writeU64(out, entry.inode, start + DIRENT.INODE);
  writeU64(out, entry.cookie, start + DIRENT.COOKIE);
  out.writeUInt32LE(name.length, start + DIRENT.NAME_LENGTH);
  out.writeUInt32LE(entry.type >>> 12, start + DIRENT.TYPE);
  name.copy(out, start + DIRENT.NAME);
  out.fill(0, start + DIRENT.NAME + name.length, end);
  return end;
}

/** What the kernel and we agree on. */
export interface InitReply {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWrite: number;
  readonly maxPages: number;
}

export function encodeInit(out: Buffer, at: number, init: InitReply): number {
  out.fill(0, at, at + INIT_OUT.BYTES);
  out.writeUInt32LE(init.major, at + INIT_OUT.MAJOR);
  out.writeUInt32LE(init.minor, at + INIT_OUT.MINOR);
  out.writeUInt32LE(init.maxReadahead, at + INIT_OUT.MAX_READAHEAD);
  out.writeUInt32LE(init.flags >>> 0, at + INIT_OUT.FLAGS);
  out.writeUInt16LE(init.maxBackground, at + INIT_OUT.MAX_BACKGROUND);
  out.writeUInt16LE(init.congestionThreshold, at + INIT_OUT.CONGESTION);
  out.writeUInt32LE(init.maxWrite, at + INIT_OUT.MAX_WRITE);
  out.writeUInt32LE(1, at + INIT_OUT.TIME_GRANULARITY);
  out.writeUInt16LE(init.maxPages, at + INIT_OUT.MAX_PAGES);
  out.writeUInt32LE(init.flags2 >>> 0, at + INIT_OUT.FLAGS2);
  return at + INIT_OUT.BYTES;
}
