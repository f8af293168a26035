/**
 * The operations that a volume's history is made of, as values. Everything that was decided when
 * the call came (inode number, time, owner, resulting size) is in the operation, so that applying
 * it again gives the same state. Their bytes are record-codec.ts, their effect is apply.ts.
 */
import type { SegmentId } from '../core/ids.js';
import type { Inode, Timestamp } from './filesystem-api.js';

/** Stored: never renumber. */
export const OperationType = {
  format: 1,
  create: 2,
  link: 3,
  unlink: 4,
  rmdir: 5,
  rename: 6,
  free: 7,
  setattr: 8,
  truncate: 9,
  write: 10,
  allocate: 11,
  punch: 12,
  share: 13,
  setxattr: 14,
  removexattr: 15,
  move: 16,
  follow: 17,
} as const;

/** The first operation of a volume: its root directory. */
export interface Format {
  readonly type: 'format';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly time: Timestamp;
}

export interface Create {
  readonly type: 'create';
  readonly inode: Inode;
  /** 0 with an empty name: a file without a name (O_TMPFILE). */
  readonly parent: Inode;
  readonly name: Uint8Array;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  /** Of a symbolic link; else empty. */
  readonly target: Uint8Array;
  readonly time: Timestamp;
}

export interface Link {
  readonly type: 'link';
  readonly inode: Inode;
  readonly parent: Inode;
  readonly name: Uint8Array;
  readonly time: Timestamp;
}

/** Removes a name; an inode left without one stays as an orphan until `free`. */
export interface Unlink {
  readonly type: 'unlink' | 'rmdir';
  readonly parent: Inode;
  readonly name: Uint8Array;
  readonly time: Timestamp;
}

export interface Rename {
  readonly type: 'rename';
  readonly parent: Inode;
  readonly name: Uint8Array;
  readonly newParent: Inode;
  readonly newName: Uint8Array;
  readonly exchange: boolean;
  readonly time: Timestamp;
}

/** An orphan's end. */
export interface Free {
  readonly type: 'free';
  readonly inode: Inode;
}

/** Only what is present changes. Size is `truncate`. */
export interface SetAttributes {
  readonly type: 'setattr';
  readonly inode: Inode;
  readonly mode: number | null;
  readonly uid: number | null;
  readonly gid: number | null;
  readonly atime: Timestamp | null;
  readonly mtime: Timestamp | null;
  readonly ctime: Timestamp | null;
}

export interface Truncate {
  readonly type: 'truncate';
  readonly inode: Inode;
  readonly size: number;
  readonly time: Timestamp;
}

/** `count` whole pages from the record's data; none when only size and times change. */
export interface Write {
  readonly type: 'write';
  readonly inode: Inode;
  readonly page: number;
  count: number;
  size: number;
  time: Timestamp;
}

/** fallocate: reserves pages, and sets the size. */
export interface Allocate {
  readonly type: 'allocate';
  readonly inode: Inode;
  readonly page: number;
  readonly count: number;
  readonly size: number;
  readonly time: Timestamp;
}

/** Zeroes bytes; whole pages become holes, or stay reserved. */
export interface Punch {
  readonly type: 'punch';
  readonly inode: Inode;
  readonly offset: number;
  readonly length: number;
  readonly reserve: boolean;
  readonly size: number;
  readonly time: Timestamp;
}

export interface Share {
  readonly type: 'share';
  readonly from: Inode;
  readonly page: number;
  readonly inode: Inode;
  readonly toPage: number;
  readonly count: number;
  readonly size: number;
  readonly time: Timestamp;
}

export interface SetXattr {
  readonly type: 'setxattr';
  readonly inode: Inode;
  readonly name: string;
  readonly value: Uint8Array;
  readonly time: Timestamp;
}

export interface RemoveXattr {
  readonly type: 'removexattr';
  readonly inode: Inode;
  readonly name: string;
  readonly time: Timestamp;
}

/**
 * The cleaner's: pages of a file that stood at `segment`, `at` are in this record's data now.
 * Applies to those pages only that still stand there.
 */
export interface Move {
  readonly type: 'move';
  readonly inode: Inode;
  readonly page: number;
  readonly count: number;
  readonly segment: SegmentId;
  readonly at: number;
}

/**
 * The cleaner's, after a move: pages that stood at `segment`, `at` are now where pages of another
 * file have come to, with which they are shared. Applies as `move` does.
 */
export interface Follow {
  readonly type: 'follow';
  readonly inode: Inode;
  readonly page: number;
  readonly count: number;
  readonly from: Inode;
  readonly fromPage: number;
  readonly segment: SegmentId;
  readonly at: number;
}

export type Operation =
  | Format
  | Create
  | Link
  | Unlink
  | Rename
  | Free
  | SetAttributes
  | Truncate
  | Write
  | Allocate
  | Punch
  | Share
  | SetXattr
  | RemoveXattr
  | Move
  | Follow;

/** Pages of the record's data that belong to an operation. */
export function dataPages(operation: Operation): number {
  return operation.type === 'write' || operation.type === 'move' ? operation.count : 0;
}
