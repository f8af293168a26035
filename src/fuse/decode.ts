/**
 * Bytes from /dev/fuse → typed operations. Checks every length against what was really read and
 * throws MALFORMED, nothing else, whatever the bytes are: the kernel is trusted to mean well, but
 * what a bug on either side could do to a volume is worth a few comparisons. Pure.
 */
import { malformed } from '../core/errors.js';
import type { AttributeChanges, Timestamp } from '../volume/filesystem-api.js';
import { STRING_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX } from './limits.js';
import type { Operation, Request, Unique } from './operations.js';
import {
  IN_HEADER,
  Opcode,
  OpenFlag,
  SETATTR_IN,
  SetattrValid,
  SetxattrFlag,
  WRITE_IN,
  WriteFlag,
} from './protocol.js';

/** What was negotiated that changes how requests are laid out. */
export interface RequestFormat {
  /** SETXATTR_EXT: SETXATTR has two more fields. */
  readonly extendedSetxattr: boolean;
}

const U32 = 0x1_0000_0000;

/** A request's body: what lies between the header and the extensions. */
interface Body {
  readonly bytes: Buffer;
  readonly at: number;
  readonly end: number;
}

/**
 * The first `length` bytes of `bytes` as a request. Names and data are views of `bytes`. Throws
 * MALFORMED.
 */
export function decodeRequest(bytes: Buffer, length: number, format: RequestFormat): Request {
  if (length < IN_HEADER.BYTES || length > bytes.length) {
    throw malformed(`fuse request of ${length} bytes`);
  }
  if (bytes.readUInt32LE(IN_HEADER.LENGTH) !== length) {
    throw malformed(`fuse request of ${length} bytes says it has another length`);
  }
  const end = length - 8 * bytes.readUInt16LE(IN_HEADER.EXTENSIONS);
  if (end < IN_HEADER.BYTES) throw malformed('fuse request shorter than its extensions');
  const body: Body = { bytes, at: IN_HEADER.BYTES, end };
  return {
    unique: decodeUnique(bytes, IN_HEADER.UNIQUE),
    inode: inodeAt(bytes, IN_HEADER.NODEID),
    pid: bytes.readUInt32LE(IN_HEADER.PID),
    caller: { uid: bytes.readUInt32LE(IN_HEADER.UID), gid: bytes.readUInt32LE(IN_HEADER.GID) },
    operation: decodeOperation(bytes.readUInt32LE(IN_HEADER.OPCODE), body, format),
  };
}

/** The name of a request, even of one that is malformed otherwise, if it has a whole header. */
export function decodeUnique(bytes: Buffer, at: number): Unique {
  return { low: bytes.readUInt32LE(at), high: bytes.readUInt32LE(at + 4) };
}

function decodeOperation(opcode: number, body: Body, format: RequestFormat): Operation {
  return (
    decodeFileOperation(opcode, body) ??
    decodeNameOperation(opcode, body) ??
    decodeOther(opcode, body, format) ?? { op: 'unsupported', opcode }
  );
}

/** Operations on an open file or an inode: the hot path comes first. */
function decodeFileOperation(opcode: number, body: Body): Operation | undefined {
  switch (opcode) {
    case Opcode.READ:
      need(body, 40, 'READ');
      return { op: 'read', offset: offsetAt(body, 8), size: u32At(body, 16) };
    case Opcode.WRITE:
      return decodeWrite(body);
    case Opcode.GETATTR:
      return { op: 'getattr' };
    case Opcode.SETATTR:
      return decodeSetattr(body);
    case Opcode.OPEN:
      need(body, 8, 'OPEN');
      return { op: 'open', flags: u32At(body, 0) };
    case Opcode.RELEASE:
      need(body, 24, 'RELEASE');
      return { op: 'release', flags: u32At(body, 8) };
    case Opcode.FSYNC:
      return { op: 'fsync' };
    case Opcode.FALLOCATE:
      need(body, 32, 'FALLOCATE');
      return {
        op: 'fallocate',
        offset: offsetAt(body, 8),
        length: offsetAt(body, 16),
        mode: u32At(body, 24),
      };
    case Opcode.LSEEK:
      need(body, 24, 'LSEEK');
      return { op: 'lseek', offset: offsetAt(body, 8), whence: u32At(body, 16) };
    case Opcode.COPY_FILE_RANGE:
    case Opcode.COPY_FILE_RANGE_64:
      need(body, 56, 'COPY_FILE_RANGE');
      return {
        op: 'copy-range',
        offset: offsetAt(body, 8),
        target: inodeAt(body.bytes, body.at + 16),
        targetOffset: offsetAt(body, 32),
        length: offsetAt(body, 40),
        wide: opcode === Opcode.COPY_FILE_RANGE_64,
      };
    default:
      return undefined;
  }
}

/** Operations on names in a directory. */
function decodeNameOperation(opcode: number, body: Body): Operation | undefined {
  switch (opcode) {
    case Opcode.LOOKUP:
      return { op: 'lookup', name: stringAt(body, 0, 'LOOKUP') };
    case Opcode.CREATE:
      return { op: 'create', name: stringAt(body, 16, 'CREATE'), ...decodeCreateModes(body) };
    case Opcode.TMPFILE:
      need(body, 16, 'TMPFILE');
      return { op: 'tmpfile', ...decodeCreateModes(body) };
    case Opcode.MKNOD: {
      const name = stringAt(body, 16, 'MKNOD');
      return {
        op: 'mknod',
        name,
        mode: u32At(body, 0),
        rdev: u32At(body, 4),
        umask: u32At(body, 8),
      };
    }
    case Opcode.MKDIR: {
      const name = stringAt(body, 8, 'MKDIR');
      return { op: 'mkdir', name, mode: u32At(body, 0), umask: u32At(body, 4) };
    }
    case Opcode.SYMLINK: {
      const name = stringAt(body, 0, 'SYMLINK');
      return { op: 'symlink', name, target: stringAt(body, name.length + 1, 'SYMLINK target') };
    }
    case Opcode.UNLINK:
      return { op: 'unlink', name: stringAt(body, 0, 'UNLINK') };
    case Opcode.RMDIR:
      return { op: 'rmdir', name: stringAt(body, 0, 'RMDIR') };
    case Opcode.RENAME:
      return decodeRename(body, 8, 0);
    case Opcode.RENAME2:
      need(body, 16, 'RENAME2');
      return decodeRename(body, 16, u32At(body, 8));
    case Opcode.LINK: {
      const newName = stringAt(body, 8, 'LINK');
      return { op: 'link', target: inodeAt(body.bytes, body.at), newName };
    }
    default:
      return undefined;
  }
}

function decodeOther(opcode: number, body: Body, format: RequestFormat): Operation | undefined {
  switch (opcode) {
    case Opcode.FORGET:
      need(body, 8, 'FORGET');
      return { op: 'forget', count: offsetAt(body, 0) };
    case Opcode.BATCH_FORGET:
      return decodeBatchForget(body);
    case Opcode.OPENDIR:
      return { op: 'opendir' };
    case Opcode.RELEASEDIR:
      return { op: 'releasedir' };
    case Opcode.READDIR:
    case Opcode.READDIRPLUS:
      need(body, 40, 'READDIR');
      return {
        op: 'readdir',
        cookie: offsetAt(body, 8),
        size: u32At(body, 16),
        plus: opcode === Opcode.READDIRPLUS,
      };
    case Opcode.READLINK:
      return { op: 'readlink' };
    case Opcode.FSYNCDIR:
      return { op: 'fsyncdir' };
    case Opcode.SYNCFS:
      return { op: 'syncfs' };
    case Opcode.STATFS:
      return { op: 'statfs' };
    case Opcode.GETXATTR:
      need(body, 8, 'GETXATTR');
      return { op: 'getxattr', size: u32At(body, 0), name: xattrNameAt(body, 8, 'GETXATTR') };
    case Opcode.SETXATTR:
      return decodeSetxattr(body, format);
    case Opcode.LISTXATTR:
      need(body, 8, 'LISTXATTR');
      return { op: 'listxattr', size: u32At(body, 0) };
    case Opcode.REMOVEXATTR:
      return { op: 'removexattr', name: xattrNameAt(body, 0, 'REMOVEXATTR') };
    case Opcode.INIT:
      return decodeInit(body);
    case Opcode.INTERRUPT:
      need(body, 8, 'INTERRUPT');
      return { op: 'interrupt', target: decodeUnique(body.bytes, body.at) };
    case Opcode.DESTROY:
      return { op: 'destroy' };
    default:
      return undefined;
  }
}

function decodeWrite(body: Body): Operation {
  need(body, WRITE_IN.BYTES, 'WRITE');
  const size = u32At(body, WRITE_IN.SIZE);
  const start = body.at + WRITE_IN.BYTES;
  if (size !== body.end - start) {
    throw malformed(`WRITE of ${size} bytes carries ${body.end - start}`);
  }
  const flags = u32At(body, WRITE_IN.FLAGS);
  const isWriteback = (flags & WriteFlag.CACHE) !== 0;
  return {
    op: 'write',
    offset: offsetAt(body, WRITE_IN.OFFSET),
    data: body.bytes.subarray(start, body.end),
    killPrivileges: (flags & WriteFlag.KILL_SUIDGID) !== 0,
    isWriteback,
    durable: !isWriteback && (u32At(body, WRITE_IN.OPEN_FLAGS) & OpenFlag.DSYNC) !== 0,
  };
}

function decodeSetattr(body: Body): Operation {
  need(body, SETATTR_IN.BYTES, 'SETATTR');
  const valid = u32At(body, SETATTR_IN.VALID);
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const changes: { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] } = {};
  if (has(SetattrValid.MODE)) changes.mode = u32At(body, SETATTR_IN.MODE);
  if (has(SetattrValid.UID)) changes.uid = u32At(body, SETATTR_IN.UID);
  if (has(SetattrValid.GID)) changes.gid = u32At(body, SETATTR_IN.GID);
  if (has(SetattrValid.SIZE)) changes.size = offsetAt(body, SETATTR_IN.SIZE);
  if (has(SetattrValid.ATIME_NOW)) changes.atime = 'now';
  else if (has(SetattrValid.ATIME)) {
    changes.atime = timeAt(body, SETATTR_IN.ATIME, SETATTR_IN.ATIME_NS);
  }
  if (has(SetattrValid.MTIME_NOW)) changes.mtime = 'now';
  else if (has(SetattrValid.MTIME)) {
    changes.mtime = timeAt(body, SETATTR_IN.MTIME, SETATTR_IN.MTIME_NS);
  }
  if (has(SetattrValid.CTIME)) changes.ctime = timeAt(body, SETATTR_IN.CTIME, SETATTR_IN.CTIME_NS);
  if (has(SetattrValid.KILL_SUIDGID)) changes.killPrivileges = true;
  return { op: 'setattr', changes };
}

function decodeCreateModes(body: Body): { flags: number; mode: number; umask: number } {
  return { flags: u32At(body, 0), mode: u32At(body, 4), umask: u32At(body, 8) };
}

function decodeRename(body: Body, namesAt: number, flags: number): Operation {
  const name = stringAt(body, namesAt, 'RENAME');
  const newName = stringAt(body, namesAt + name.length + 1, 'RENAME');
  return { op: 'rename', name, newParent: inodeAt(body.bytes, body.at), newName, flags };
}

function decodeBatchForget(body: Body): Operation {
  need(body, 8, 'BATCH_FORGET');
  const count = u32At(body, 0);
  if (count * 16 > body.end - body.at - 8) {
    throw malformed(`BATCH_FORGET of ${count} does not carry as many`);
  }
  const forgets = [];
  for (let index = 0; index < count; index++) {
    const at = 8 + index * 16;
    forgets.push({ inode: inodeAt(body.bytes, body.at + at), count: offsetAt(body, at + 8) });
  }
  return { op: 'batch-forget', forgets };
}

function decodeSetxattr(body: Body, format: RequestFormat): Operation {
  const fixed = format.extendedSetxattr ? 16 : 8;
  need(body, fixed, 'SETXATTR');
  const size = u32At(body, 0);
  const name = stringAt(body, fixed, 'SETXATTR');
  const start = body.at + fixed + name.length + 1;
  if (size > XATTR_VALUE_MAX || size !== body.end - start) {
    throw malformed(`SETXATTR of ${size} bytes carries ${body.end - start}`);
  }
  const extended = format.extendedSetxattr ? u32At(body, 8) : 0;
  return {
    op: 'setxattr',
    name: xattrName(name, 'SETXATTR'),
    value: body.bytes.subarray(start, body.end),
    flags: u32At(body, 4),
    killSgid: (extended & SetxattrFlag.ACL_KILL_SGID) !== 0,
  };
}

/** The INIT of a kernel of another major version may end after the version. */
function decodeInit(body: Body): Operation {
  need(body, 8, 'INIT');
  const field = (at: number): number => (body.end - body.at >= at + 4 ? u32At(body, at) : 0);
  return {
    op: 'init',
    major: u32At(body, 0),
    minor: u32At(body, 4),
    maxReadahead: field(8),
    flags: field(12),
    flags2: field(16),
  };
}

function need(body: Body, count: number, what: string): void {
  if (body.end - body.at < count) {
    throw malformed(`${what}: ${body.end - body.at} bytes, at least ${count} are needed`);
  }
}

function u32At(body: Body, at: number): number {
  return body.bytes.readUInt32LE(body.at + at);
}

function inodeAt(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4);
  if (high >= 0x20_0000) throw malformed('inode number above 2^53, which was never given out');
  return high * U32 + bytes.readUInt32LE(at);
}

/** An unsigned 64-bit number; too large ones become 2^53 - 1. */
function offsetAt(body: Body, at: number): number {
  const high = body.bytes.readUInt32LE(body.at + at + 4);
  if (high >= 0x20_0000) return Number.MAX_SAFE_INTEGER;
  return high * U32 + body.bytes.readUInt32LE(body.at + at);
}

/** Seconds are signed: files may be older than 1970. What exceeds 2^53 is brought below it. */
function timeAt(body: Body, secondsAt: number, nanosecondsAt: number): Timestamp {
  const high = body.bytes.readInt32LE(body.at + secondsAt + 4);
  const seconds = high * U32 + body.bytes.readUInt32LE(body.at + secondsAt);
  const nanoseconds = u32At(body, nanosecondsAt);
  if (nanoseconds > 999_999_999) throw malformed(`${nanoseconds} nanoseconds`);
  const { MIN_SAFE_INTEGER, MAX_SAFE_INTEGER } = Number;
  return { seconds: Math.min(Math.max(seconds, MIN_SAFE_INTEGER), MAX_SAFE_INTEGER), nanoseconds };
}

/** A view of the bytes up to the next NUL. */
function stringAt(body: Body, at: number, what: string): Buffer {
  const start = body.at + at;
  const most = Math.min(body.end, start + STRING_MAX + 1);
  for (let end = start; end < most; end++) {
    if (body.bytes[end] === 0) return body.bytes.subarray(start, end);
  }
  throw malformed(`${what}: a name that does not end`);
}

function xattrNameAt(body: Body, at: number, what: string): string {
  return xattrName(stringAt(body, at, what), what);
}

/** One character a byte, so that a name which is not UTF-8 comes back as it was. */
function xattrName(name: Buffer, what: string): string {
  if (name.length === 0 || name.length > XATTR_NAME_MAX) {
    throw malformed(`${what}: a name of ${name.length} bytes`);
  }
  return name.toString('latin1');
}
