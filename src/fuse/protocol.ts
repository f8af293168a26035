/**
 * The kernel's FUSE ABI, protocol 7.31 to 7.45: operation codes, flags and the offsets of the
 * structures that travel over /dev/fuse. Facts only, no behaviour; decode.ts and encode.ts are the
 * two readers. Integers are in the machine's byte order, which on every platform we support is
 * little-endian (asserted below). The source of every number is the kernel's own header,
 * include/uapi/linux/fuse.h; golden bytes in test/fuse/golden.ts hold them still.
 */
import { endianness } from 'node:os';
import { assert } from '../core/assert.js';

assert(endianness() === 'LE', 'the FUSE codec is written for little-endian machines');

export const PROTOCOL_MAJOR = 7;
/** What we know. Both sides speak the smaller of the two minor versions. */
export const PROTOCOL_MINOR = 45;
/** Linux 5.4: the oldest kernel we accept; max_pages and copy_file_range are in it. */
export const PROTOCOL_MIN_MINOR = 31;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** `flags` of INIT (bits 0 to 31). */
export const InitFlag = {
  ASYNC_READ: 0x1,
  POSIX_LOCKS: 0x2,
  ATOMIC_O_TRUNC: 0x8,
  EXPORT_SUPPORT: 0x10,
  BIG_WRITES: 0x20,
  DONT_MASK: 0x40,
  FLOCK_LOCKS: 0x400,
  DO_READDIRPLUS: 0x2000,
  READDIRPLUS_AUTO: 0x4000,
  ASYNC_DIO: 0x8000,
  WRITEBACK_CACHE: 0x1_0000,
  NO_OPEN_SUPPORT: 0x2_0000,
  PARALLEL_DIROPS: 0x4_0000,
  POSIX_ACL: 0x10_0000,
  MAX_PAGES: 0x40_0000,
  NO_OPENDIR_SUPPORT: 0x100_0000,
  HANDLE_KILLPRIV_V2: 0x1000_0000,
  SETXATTR_EXT: 0x2000_0000,
  INIT_EXT: 0x4000_0000,
} as const;

/** `flags2` of INIT: bit n here is bit 32 + n of the kernel's 64-bit set. */
export const InitFlag2 = {
  DIRECT_IO_ALLOW_MMAP: 0x10,
  HAS_RESEND: 0x80,
} as const;

/** `valid` of SETATTR. */
export const SetattrValid = {
  MODE: 0x1,
  UID: 0x2,
  GID: 0x4,
  SIZE: 0x8,
  ATIME: 0x10,
  MTIME: 0x20,
  ATIME_NOW: 0x80,
  MTIME_NOW: 0x100,
  CTIME: 0x400,
  KILL_SUIDGID: 0x800,
} as const;

/** `open_flags` of the reply to OPEN and CREATE. */
export const OpenReplyFlag = {
  DIRECT_IO: 0x1,
  KEEP_CACHE: 0x2,
  PARALLEL_DIRECT_WRITES: 0x40,
} as const;

/** `write_flags` of WRITE. */
export const WriteFlag = { CACHE: 0x1, KILL_SUIDGID: 0x4 } as const;
/** `setxattr_flags` of SETXATTR in its extended form. */
export const SetxattrFlag = { ACL_KILL_SGID: 0x1 } as const;

/** Codes of messages that we send unasked, with unique 0. */
export const NotifyCode = { RESEND: 7 } as const;

/** Bit 63 of `unique`, seen in its upper half: the request was sent to a former daemon already. */
export const UNIQUE_RESENT_HIGH = 0x8000_0000;

/**
 * open(2) flags as Linux has them on x86-64 and arm64 (`O_DIRECT` differs between the two). O_SYNC
 * contains O_DSYNC.
 */
export const OpenFlag = { EXCL: 0x80, TRUNC: 0x200, DSYNC: 0x1000 } as const;
export const O_DIRECT = process.arch === 'arm64' || process.arch === 'arm' ? 0x1_0000 : 0x4000;

/** File types and bits of st_mode. */
export const Mode = {
  TYPE: 0xf000,
  DIRECTORY: 0x4000,
  REGULAR: 0x8000,
  SYMLINK: 0xa000,
  SETUID: 0o4000,
  SETGID: 0o2000,
  PERMISSIONS: 0o7777,
} as const;

/** whence of LSEEK; the kernel answers the other values itself. */
export const Whence = { DATA: 3, HOLE: 4 } as const;
/** mode of FALLOCATE. */
export const FallocateMode = { KEEP_SIZE: 0x1, PUNCH_HOLE: 0x2, ZERO_RANGE: 0x10 } as const;
/** flags of RENAME2. WHITEOUT is for overlay filesystems and refused. */
export const RenameFlag = { NOREPLACE: 0x1, EXCHANGE: 0x2, WHITEOUT: 0x4 } as const;

/** struct fuse_in_header, before every request. */
export const IN_HEADER = {
  BYTES: 40,
  LENGTH: 0,
  OPCODE: 4,
  UNIQUE: 8,
  NODEID: 16,
  UID: 24,
  GID: 28,
  PID: 32,
  /** Length of the extensions at the end of the message, in units of 8 bytes. */
  EXTENSIONS: 36,
} as const;

/** struct fuse_out_header, before every reply. */
export const OUT_HEADER = { BYTES: 16, LENGTH: 0, ERROR: 4, UNIQUE: 8 } as const;

/** struct fuse_write_in; the bytes to be written follow it. */
export const WRITE_IN = { BYTES: 40, OFFSET: 8, SIZE: 16, FLAGS: 20, OPEN_FLAGS: 32 } as const;

/** struct fuse_setattr_in. */
export const SETATTR_IN = {
  BYTES: 88,
  VALID: 0,
  SIZE: 16,
  ATIME: 32,
  MTIME: 40,
  CTIME: 48,
  ATIME_NS: 56,
  MTIME_NS: 60,
  CTIME_NS: 64,
  MODE: 68,
  UID: 76,
  GID: 80,
} as const;

/** struct fuse_attr. */
export const ATTR = {
  BYTES: 88,
  INODE: 0,
  SIZE: 8,
  BLOCKS: 16,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  ATIME_NS: 48,
  MTIME_NS: 52,
  CTIME_NS: 56,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  RDEV: 76,
  BLOCK_SIZE: 80,
  FLAGS: 84,
} as const;

/** struct fuse_entry_out, with the attributes at its end. */
export const ENTRY_OUT = {
  BYTES: 128,
  NODEID: 0,
  GENERATION: 8,
  ENTRY_VALID: 16,
  ATTR_VALID: 24,
  ENTRY_VALID_NS: 32,
  ATTR_VALID_NS: 36,
  ATTR: 40,
} as const;

/** struct fuse_attr_out, with the attributes at its end. */
export const ATTR_OUT = { BYTES: 104, ATTR_VALID: 0, ATTR_VALID_NS: 8, ATTR: 16 } as const;

/** struct fuse_open_out. */
export const OPEN_OUT = { BYTES: 16, HANDLE: 0, FLAGS: 8 } as const;

/** struct fuse_dirent; the name follows, padded to 8 bytes. */
export const DIRENT = { NAME: 24, INODE: 0, COOKIE: 8, NAME_LENGTH: 16, TYPE: 20 } as const;

/** struct fuse_kstatfs. */
export const STATFS_OUT = {
  BYTES: 80,
  BLOCKS: 0,
  FREE: 8,
  AVAILABLE: 16,
  FILES: 24,
  FREE_FILES: 32,
  BLOCK_SIZE: 40,
  NAME_LENGTH: 44,
  FRAGMENT_SIZE: 48,
} as const;

/** struct fuse_init_out. */
export const INIT_OUT = {
  BYTES: 64,
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  MAX_BACKGROUND: 16,
  CONGESTION: 18,
  MAX_WRITE: 20,
  TIME_GRANULARITY: 24,
  MAX_PAGES: 28,
  FLAGS2: 32,
} as const;

export const NAME_MAX = 255;

assert(ENTRY_OUT.ATTR + ATTR.BYTES === ENTRY_OUT.BYTES, 'fuse_entry_out ends with fuse_attr');
assert(ATTR_OUT.ATTR + ATTR.BYTES === ATTR_OUT.BYTES, 'fuse_attr_out ends with fuse_attr');
