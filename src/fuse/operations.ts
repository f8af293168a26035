/**
 * What the kernel asks, as types: one for each request, saying when the kernel sends it and what a
 * good reply promises. decode.ts makes them, adapter.ts answers them. File handles are not in them:
 * the daemon gives out none, an inode number says all, so that a restarted daemon needs no table.
 * Offsets and sizes at or above 2^53 arrive as 2^53 - 1, which is beyond every volume's limits.
 */
import type { AttributeChanges, Caller, Inode } from '../volume/filesystem-api.js';

/** Names are views of the request's buffer unless said otherwise. */
type Name = Buffer;

/**
 * The two halves of the kernel's 8-byte name for a request, echoed in the reply. Bit 63 is set in a
 * request that a former daemon was given already; it is echoed like the others.
 */
export interface Unique {
  readonly low: number;
  readonly high: number;
}

export interface Request {
  readonly unique: Unique;
  /** The inode that the operation is about: for namespace operations, the directory. */
  readonly inode: Inode;
  /** The thread on whose behalf: 0 when it is the kernel's own doing, or in another namespace. */
  readonly pid: number;
  /** Its filesystem uid and gid; not set in what the kernel does by itself (RELEASE, FORGET). */
  readonly caller: Caller;
  readonly operation: Operation;
}

/** The first request of a connection, once. The reply settles version, flags and sizes. */
export interface Init {
  readonly op: 'init';
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
}

/**
 * A name is not in the kernel's cache. A good reply lets it cache name and attributes and counts as
 * one reference to the inode, until a FORGET gives it back. Names `.` and `..` come from file
 * handles (NFS, name_to_handle_at).
 */
export interface Lookup {
  readonly op: 'lookup';
  readonly name: Name;
}

/** The kernel dropped an inode from its cache, with as many references as it had. No reply. */
export interface Forget {
  readonly op: 'forget';
  readonly count: number;
}

/** The same for many inodes. No reply. */
export interface BatchForget {
  readonly op: 'batch-forget';
  readonly forgets: readonly { readonly inode: Inode; readonly count: number }[];
}

/** Cached attributes are needed and have expired or been invalidated. */
export interface GetAttributes {
  readonly op: 'getattr';
}

/**
 * chmod, chown, truncate, utimensat, and open with O_TRUNC. Permission was checked. Privileges are
 * to be dropped where `changes.killPrivileges` says so (a truncate without CAP_FSETID) and on every
 * change of owner.
 */
export interface SetAttributes {
  readonly op: 'setattr';
  readonly changes: AttributeChanges;
}

/** readlink(2), or a path that leads through the symlink. */
export interface ReadLink {
  readonly op: 'readlink';
}

export interface SymLink {
  readonly op: 'symlink';
  readonly name: Name;
  readonly target: Buffer;
}

/** A file that is not opened as it is made: mknod, mkfifo, bind of a local socket. */
export interface MakeNode {
  readonly op: 'mknod';
  readonly name: Name;
  readonly mode: number;
  readonly rdev: number;
  readonly umask: number;
}

export interface MakeDirectory {
  readonly op: 'mkdir';
  readonly name: Name;
  readonly mode: number;
  readonly umask: number;
}

/** The file itself lives on while it is open or linked elsewhere. */
export interface Unlink {
  readonly op: 'unlink';
  readonly name: Name;
}

export interface RemoveDirectory {
  readonly op: 'rmdir';
  readonly name: Name;
}

/** rename(2) has no flags, renameat2(2) may. Sticky bits and permissions were checked. */
export interface Rename {
  readonly op: 'rename';
  readonly name: Name;
  readonly newParent: Inode;
  readonly newName: Name;
  readonly flags: number;
}

/** The request's inode is the directory; `target` gets one more name. */
export interface Link {
  readonly op: 'link';
  readonly target: Inode;
  readonly newName: Name;
}

/**
 * open(2) of an existing file. The kernel has dealt with O_CREAT and O_EXCL, sends O_TRUNC as a
 * SETATTR, and turns O_APPEND into the offsets of its WRITEs. The reply says how the page cache is
 * used. Matched by one RELEASE.
 */
export interface Open {
  readonly op: 'open';
  readonly flags: number;
}

/** open(2) with O_CREAT of a name that is not there: MKNOD, LOOKUP and OPEN in one. */
export interface Create {
  readonly op: 'create';
  readonly name: Name;
  readonly flags: number;
  readonly mode: number;
  readonly umask: number;
}

/** open(2) with O_TMPFILE: the request's inode is the directory whose rules apply. */
export interface TemporaryFile {
  readonly op: 'tmpfile';
  readonly flags: number;
  readonly mode: number;
  readonly umask: number;
}

/** The last descriptor (and mapping) of an open file is gone. Asynchronous; errors go nowhere. */
export interface Release {
  readonly op: 'release';
  /** Those that it was opened with. */
  readonly flags: number;
}

/** The page cache wants pages, or an O_DIRECT reader bytes. Short replies mean end of file. */
export interface Read {
  readonly op: 'read';
  readonly offset: number;
  readonly size: number;
}

/**
 * write(2), passed on at once since there is no write-back cache; pages stored through a mapping
 * come when the kernel writes them back. A reply says that the bytes are in the volume's history,
 * and with `durable` that they are committed.
 */
export interface Write {
  readonly op: 'write';
  readonly offset: number;
  /** A view of the request's buffer. */
  readonly data: Buffer;
  /** The writer lacks CAP_FSETID: setuid, setgid and file capabilities go. */
  readonly killPrivileges: boolean;
  /** Pages of a mapping, from the kernel and not from a write(2). */
  readonly isWriteback: boolean;
  /**
   * O_DSYNC, O_SYNC, RWF_DSYNC. Behind a WRITE of O_DIRECT no FSYNC follows; one that went through
   * the page cache cannot be told from it, and its FSYNC finds nothing to do.
   * Never set with `isWriteback`: what waits for such pages sends an FSYNC.
   */
  readonly durable: boolean;
}

/** fsync, fdatasync, msync, and O_SYNC behind the page cache. Dirty pages came as WRITEs before. */
export interface Sync {
  readonly op: 'fsync';
}

/** fsync of a directory. */
export interface SyncDirectory {
  readonly op: 'fsyncdir';
}

/** syncfs(2). Today's kernels send it to virtiofs only. */
export interface SyncFilesystem {
  readonly op: 'syncfs';
}

/** Matched by one RELEASEDIR, unless it is answered ENOSYS. */
export interface OpenDirectory {
  readonly op: 'opendir';
}

export interface ReleaseDirectory {
  readonly op: 'releasedir';
}

/**
 * Entries behind `cookie` (0: from the start). With `plus`, each entry carries what a LOOKUP of its
 * name would have answered, and counts as one, except `.` and `..`.
 */
export interface ReadDirectory {
  readonly op: 'readdir';
  readonly cookie: number;
  readonly size: number;
  readonly plus: boolean;
}

export interface StatFilesystem {
  readonly op: 'statfs';
}

/** `size` 0 asks how long the value is. Also how the kernel reads ACLs to check permissions. */
export interface GetXattr {
  readonly op: 'getxattr';
  readonly name: string;
  readonly size: number;
}

/** `killSgid`: an ACL was set by somebody outside the file's group, so setgid goes. */
export interface SetXattr {
  readonly op: 'setxattr';
  readonly name: string;
  readonly value: Buffer;
  readonly flags: number;
  readonly killSgid: boolean;
}

export interface ListXattr {
  readonly op: 'listxattr';
  readonly size: number;
}

export interface RemoveXattr {
  readonly op: 'removexattr';
  readonly name: string;
}

export interface Allocate {
  readonly op: 'fallocate';
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
}

/** lseek(2) with SEEK_DATA or SEEK_HOLE. */
export interface Seek {
  readonly op: 'lseek';
  readonly offset: number;
  readonly whence: number;
}

/** copy_file_range(2) within the volume. `wide` asks for the 64-bit form of the reply. */
export interface CopyRange {
  readonly op: 'copy-range';
  readonly offset: number;
  readonly target: Inode;
  readonly targetOffset: number;
  readonly length: number;
  readonly wide: boolean;
}

/** A signal reached the process that waits for the request named by `target`. */
export interface Interrupt {
  readonly op: 'interrupt';
  readonly target: Unique;
}

/** The filesystem goes. A plain umount does not send it; the device's end is what counts. */
export interface Destroy {
  readonly op: 'destroy';
}

/**
 * Not offered, or answered better by the kernel itself once it has been told ENOSYS: ACCESS (never
 * sent with default_permissions), FLUSH (close has nothing to add, every write has arrived), STATX
 * (no birth times), POLL, BMAP, locks, IOCTL.
 */
export interface Unsupported {
  readonly op: 'unsupported';
  readonly opcode: number;
}

export type Operation =
  | Init
  | Lookup
  | Forget
  | BatchForget
  | GetAttributes
  | SetAttributes
  | ReadLink
  | SymLink
  | MakeNode
  | MakeDirectory
  | Unlink
  | RemoveDirectory
  | Rename
  | Link
  | Open
  | Create
  | TemporaryFile
  | Release
  | Read
  | Write
  | Sync
  | SyncDirectory
  | SyncFilesystem
  | OpenDirectory
  | ReleaseDirectory
  | ReadDirectory
  | StatFilesystem
  | GetXattr
  | SetXattr
  | ListXattr
  | RemoveXattr
  | Allocate
  | Seek
  | CopyRange
  | Interrupt
  | Destroy
  | Unsupported;

export type OperationName = Operation['op'];
