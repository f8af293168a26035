/**
 * A mounted volume as the FUSE adapter sees it: POSIX operations on inode numbers, in the kernel's
 * terms but without its bytes. Implemented by filesystem.ts over the log's owner.
 *
 * Everything that needs only memory answers at once by returning or throwing FsError; what may wait
 * for storage or for room takes a callback, which never runs before the call has returned. A change
 * is in the volume's history, in the order of the calls, when the method returns; it is on stable
 * storage when a later `fsync` (or `commit`) has called back without an error.
 *
 * The kernel checks permissions (default_permissions); this interface checks what only it can know:
 * existence, kinds, emptiness, space, limits, sticky rules of nothing else.
 */
import type { HoldfastError } from '../core/errors.js';

/** Inode number; never reused within a volume; 1 is the root directory. */
export type Inode = number;
export const ROOT_INODE: Inode = 1;

/** An errno name, as in errno(3): the FUSE adapter turns it into the number. */
export type Errno =
  | 'ENOENT'
  | 'EEXIST'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'ENOTEMPTY'
  | 'EINVAL'
  | 'ENOSPC'
  | 'EDQUOT'
  | 'EFBIG'
  | 'EIO'
  | 'EROFS'
  | 'EMLINK'
  | 'ENAMETOOLONG'
  | 'ENODATA'
  | 'ERANGE'
  | 'E2BIG'
  | 'ENXIO'
  | 'ENOTSUP'
  | 'EPERM'
  | 'ESTALE'
  | 'EBUSY'
  | 'EXDEV';

/**
 * A failure that an application will see as errno. It has no stack: such answers are as common as
 * others (names looked up in vain, files that exist already), and taking a stack costs more than
 * most operations.
 */
export class FsError extends Error {
  readonly errno: Errno;
  constructor(errno: Errno, message: string) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(message);
    Error.stackTraceLimit = limit;
    this.name = 'FsError';
    this.errno = errno;
  }
}

/** Nanoseconds since 1970 as whole seconds and the rest, exactly as utimensat(2) has them. */
export interface Timestamp {
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

export interface Attributes {
  readonly inode: Inode;
  readonly size: number;
  /** In units of 512 bytes: what the file really occupies, holes not counted. */
  readonly blocks: number;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
  /** File type and permission bits, as in st_mode. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** As in st_rdev, for device nodes. */
  readonly rdev: number;
}

/** Who asks, for ownership of what is created. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

/** Only what is present is changed. */
export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Timestamp | 'now';
  readonly mtime?: Timestamp | 'now';
  readonly ctime?: Timestamp;
  /**
   * Clear setuid, setgid (if group-executable) and security.capability, as write(2) and chown(2)
   * do. Without effect on directories.
   */
  readonly killPrivileges?: boolean;
}

export interface DirectoryEntry {
  readonly name: Buffer;
  readonly inode: Inode;
  /** File type bits of st_mode. */
  readonly type: number;
  /** Where to go on after this entry; stays valid while the entry exists, across remounts. */
  readonly cookie: number;
}

export interface SpaceReport {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Inodes that there are, and how many more there could be. */
  readonly files: number;
  readonly freeFiles: number;
}

export type Done = (error: FsError | HoldfastError | null) => void;

/**
 * Names are bytes (1 to 255, no '/' or NUL), as the kernel gives them. Names, targets and values
 * passed in may be kept, except the name of a lookup. ACLs and what a setgid directory hands down
 * are the FUSE adapter's: here modes, owners and extended attributes are stored as they come.
 *
 * Whatever returns a file by name (lookup, mknod, mkdir, symlink, link, tmpfile) counts as one
 * lookup of its inode, until `forget` gives it back.
 */
export interface Filesystem {
  /**
   * Also answers '.' (any inode, itself) and '..' (a directory's parent; the root's is the root),
   * for file handles. May be called from within readdir's callback. Null when there is no such
   * name: programs ask for many of those, and an exception would take as long as all the rest.
   */
  lookup(parent: Inode, name: Buffer): Attributes | null;
  getattr(inode: Inode): Attributes;
  /** Sets ctime to now unless it is given, even if nothing else is. `mode` has no type here. */
  setattr(inode: Inode, changes: AttributeChanges): Attributes;

  /**
   * Regular files, fifos, sockets and device nodes; `mode` has the type. Umask is already applied.
   */
  mknod(parent: Inode, name: Buffer, mode: number, rdev: number, caller: Caller): Attributes;
  mkdir(parent: Inode, name: Buffer, mode: number, caller: Caller): Attributes;
  symlink(parent: Inode, name: Buffer, target: Buffer, caller: Caller): Attributes;
  readlink(inode: Inode): Buffer;
  link(inode: Inode, newParent: Inode, newName: Buffer): Attributes;
  unlink(parent: Inode, name: Buffer): void;
  rmdir(parent: Inode, name: Buffer): void;
  /** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2. */
  rename(from: Inode, name: Buffer, to: Inode, newName: Buffer, flags: number): void;
  /** O_TMPFILE: a file without a name, for link() or to vanish with its last close. */
  tmpfile(parent: Inode, mode: number, caller: Caller): Attributes;

  /** Keeps an unlinked inode alive until the matching `close`; counts. */
  open(inode: Inode): void;
  close(inode: Inode): void;
  /** The kernel forgot `count` lookups; an unlinked, closed inode is freed when none are left. */
  forget(inode: Inode, count: number): void;

  /**
   * Calls `entry` from behind `cookie` (0: from the start) until it returns false or the end,
   * without '.' and '..'.
   */
  readdir(inode: Inode, cookie: number, entry: (entry: DirectoryEntry) => boolean): void;

  /** Fewer bytes only at the end of the file. The parts are views that must be used at once. */
  read(
    inode: Inode,
    offset: number,
    length: number,
    done: (error: FsError | HoldfastError | null, parts: readonly Uint8Array[]) => void,
  ): void;
  /** `data` is copied before this returns. Calls back when it is in the history. */
  write(inode: Inode, offset: number, data: Buffer, done: Done): void;
  /**
   * Whether a write of this file has come, and waits for the rest of its pages: then `again` is
   * called once that is over. Reads and writes wait by themselves.
   */
  delays(inode: Inode, again: () => void): boolean;
  /** fallocate(2): KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 16. */
  fallocate(inode: Inode, offset: number, length: number, mode: number): void;
  /** SEEK_DATA and SEEK_HOLE. ENXIO past the end. */
  seek(inode: Inode, offset: number, whence: 'data' | 'hole'): number;
  /** Shares extents instead of moving bytes; returns how many bytes were copied. */
  copyRange(from: Inode, at: number, to: Inode, toAt: number, length: number): number;

  /** Names of attributes have one character a byte (latin1), whatever their encoding. */
  getxattr(inode: Inode, name: string): Buffer;
  /** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
  setxattr(inode: Inode, name: string, value: Buffer, flags: number): void;
  listxattr(inode: Inode): string[];
  removexattr(inode: Inode, name: string): void;

  /** Everything up to now is on stable storage when `done` is called without an error. */
  fsync(inode: Inode, done: Done): void;
  /** The same for the whole volume, named for what the background does every commit interval. */
  commit(done: Done): void;
  statfs(): SpaceReport;
}
