/**
 * The bytes of a record: one group of operations, atomic. docs/VOLUME.md §Records is the same in
 * words; test/volume/record-codec.test.ts holds golden bytes.
 *
 *   u8 version = 1 | u8 kind (1 operations, 2 checkpoint) | u16 count | count operations
 *
 * The data pages of the operations follow each other in the entry's pages in the same order. A
 * checkpoint record has no operations; its pages are images or a manifest (checkpoint-format.ts),
 * and replay skips it.
 */
import { assert } from '../core/assert.js';
import { ByteReader, ByteWriter } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { Timestamp } from './filesystem-api.js';
import { FILE_MAX_BYTES, SYMLINK_MAX, XATTR_VALUE_MAX } from './limits.js';
import { type Operation, OperationType } from './operations.js';
import { timeFrom, timeHigh, timeLow } from './time.js';

export const RECORD_VERSION = 1;
export const RecordKind = { operations: 1, checkpoint: 2 } as const;

const HAS = { mode: 1, uid: 2, gid: 4, atime: 8, mtime: 16, ctime: 32 } as const;

/** No fewer than the bytes that an operation takes in a record. */
export function operationBytes(operation: Operation): number {
  switch (operation.type) {
    case 'create':
      return 48 + operation.name.length + operation.target.length;
    case 'link':
    case 'unlink':
    case 'rmdir':
      return 28 + operation.name.length;
    case 'rename':
      return 30 + operation.name.length + operation.newName.length;
    case 'setxattr':
      return 22 + operation.name.length + operation.value.length;
    case 'removexattr':
      return 20 + operation.name.length;
    default:
      return 56;
  }
}

export function encodeRecord(operations: readonly Operation[]): Buffer {
  const writer = new ByteWriter(256);
  assert(operations.length <= 0xffff, 'operations of a record');
  writer.u8(RECORD_VERSION).u8(RecordKind.operations).u16(operations.length);
  for (const operation of operations) encodeOperation(writer, operation);
  return writer.done();
}

export function encodeCheckpointRecord(): Buffer {
  return new ByteWriter(4).u8(RECORD_VERSION).u8(RecordKind.checkpoint).u16(0).done();
}

function writeTime(writer: ByteWriter, time: Timestamp): void {
  writer.u32(timeLow(time)).u32(timeHigh(time));
}

function writeName(writer: ByteWriter, name: Uint8Array): void {
  writer.u8(name.length).bytes(name);
}

/** One operation as it stands in a record. */
export function encodeOperation(writer: ByteWriter, operation: Operation): void {
  writer.u8(OperationType[operation.type]);
  switch (operation.type) {
    case 'format':
      writer.u16(operation.mode).u32(operation.uid).u32(operation.gid);
      writeTime(writer, operation.time);
      return;
    case 'create':
      writer.u64(operation.inode).u64(operation.parent);
      writeName(writer, operation.name);
      writer.u16(operation.mode).u32(operation.uid).u32(operation.gid).u32(operation.rdev);
      writer.u16(operation.target.length).bytes(operation.target);
      writeTime(writer, operation.time);
      return;
    case 'link':
      writer.u64(operation.inode).u64(operation.parent);
      writeName(writer, operation.name);
      writeTime(writer, operation.time);
      return;
    case 'unlink':
    case 'rmdir':
      writer.u64(operation.parent);
      writeName(writer, operation.name);
      writeTime(writer, operation.time);
      return;
    case 'rename':
      writer.u64(operation.parent);
      writeName(writer, operation.name);
      writer.u64(operation.newParent);
      writeName(writer, operation.newName);
      writer.u8(operation.exchange ? 1 : 0);
      writeTime(writer, operation.time);
      return;
    case 'free':
      writer.u64(operation.inode);
      return;
    case 'setattr':
      encodeAttributes(writer, operation);
      return;
    default:
      encodeDataOperation(writer, operation);
  }
}

function encodeAttributes(
  writer: ByteWriter,
  operation: Extract<Operation, { type: 'setattr' }>,
): void {
  const { mode, uid, gid, atime, mtime, ctime } = operation;
  let has = 0;
  if (mode !== null) has |= HAS.mode;
  if (uid !== null) has |= HAS.uid;
  if (gid !== null) has |= HAS.gid;
  if (atime !== null) has |= HAS.atime;
  if (mtime !== null) has |= HAS.mtime;
  if (ctime !== null) has |= HAS.ctime;
  writer.u64(operation.inode).u8(has);
  if (mode !== null) writer.u16(mode);
  if (uid !== null) writer.u32(uid);
  if (gid !== null) writer.u32(gid);
  if (atime !== null) writeTime(writer, atime);
  if (mtime !== null) writeTime(writer, mtime);
  if (ctime !== null) writeTime(writer, ctime);
}

type DataOperation = Extract<
  Operation,
  {
    type:
      | 'truncate'
      | 'write'
      | 'allocate'
      | 'punch'
      | 'share'
      | 'setxattr'
      | 'removexattr'
      | 'move'
      | 'follow';
  }
>;

function encodeDataOperation(writer: ByteWriter, operation: DataOperation): void {
  writer.u64(operation.inode);
  switch (operation.type) {
    case 'truncate':
      writer.u64(operation.size);
      break;
    case 'write':
    case 'allocate':
      writer.u32(operation.page).u32(operation.count).u64(operation.size);
      break;
    case 'punch':
      writer
        .u64(operation.offset)
        .u64(operation.length)
        .u8(operation.reserve ? 1 : 0);
      writer.u64(operation.size);
      break;
    case 'share':
      writer.u64(operation.from).u32(operation.page).u32(operation.toPage).u32(operation.count);
      writer.u64(operation.size);
      break;
    case 'setxattr':
      writeName(writer, Buffer.from(operation.name, 'latin1'));
      writer.u16(operation.value.length).bytes(operation.value);
      break;
    case 'removexattr':
      writeName(writer, Buffer.from(operation.name, 'latin1'));
      break;
    case 'move':
      writer.u32(operation.page).u32(operation.count).id(operation.segment).u32(operation.at);
      return;
    case 'follow':
      writer.u32(operation.page).u32(operation.count).u64(operation.from).u32(operation.fromPage);
      writer.id(operation.segment).u32(operation.at);
      return;
  }
  writeTime(writer, operation.time);
}

/**
 * Decodes a record; null for a checkpoint's, which replay skips. Throws MALFORMED, or VERSION for a
 * newer format.
 */
export function decodeRecord(bytes: Uint8Array): Operation[] | null {
  const reader = new ByteReader(bytes);
  const version = reader.u8('record version');
  if (version !== RECORD_VERSION) {
    throw new HoldfastError('VERSION', `volume record format ${version} is not known here`, {
      hint: 'Run the version of holdfast that wrote this volume, or a newer one.',
    });
  }
  const kind = reader.u8('record kind');
  const count = reader.u16('operation count');
  if (kind === RecordKind.checkpoint) {
    if (count !== 0) throw malformed('checkpoint record with operations');
    reader.end('record');
    return null;
  }
  if (kind !== RecordKind.operations) throw malformed(`record kind ${kind}`);
  const operations: Operation[] = [];
  for (let i = 0; i < count; i++) operations.push(decodeOperation(reader));
  reader.end('record');
  return operations;
}

function readTime(reader: ByteReader): Timestamp {
  const low = reader.u32('time');
  const high = reader.u32('time');
  const time = timeFrom(low, high);
  if (time.nanoseconds > 999_999_999) throw malformed('nanoseconds out of range');
  return time;
}

function readName(reader: ByteReader): Buffer {
  return reader.bytes(reader.u8('name length'), 'name');
}

function readFlag(reader: ByteReader): boolean {
  const value = reader.u8('flag');
  if (value > 1) throw malformed(`flag ${value}`);
  return value === 1;
}

function readSize(reader: ByteReader): number {
  const size = reader.u64('size');
  if (size > FILE_MAX_BYTES) throw malformed(`size ${size}`);
  return size;
}

type Decoder = (reader: ByteReader) => Operation;

function decodeCreate(reader: ByteReader): Operation {
  const inode = reader.u64('inode');
  const parent = reader.u64('parent');
  const name = readName(reader);
  const mode = reader.u16('mode');
  const uid = reader.u32('uid');
  const gid = reader.u32('gid');
  const rdev = reader.u32('rdev');
  const length = reader.u16('target length');
  if (length > SYMLINK_MAX) throw malformed('symbolic link too long');
  const target = reader.bytes(length, 'target');
  const time = readTime(reader);
  return { type: 'create', inode, parent, name, mode, uid, gid, rdev, target, time };
}

function decodeUnlink(type: 'unlink' | 'rmdir'): Decoder {
  return (reader) => ({
    type,
    parent: reader.u64('parent'),
    name: readName(reader),
    time: readTime(reader),
  });
}

function decodeAttributes(reader: ByteReader): Operation {
  const inode = reader.u64('inode');
  const has = reader.u8('attributes');
  if (has > 63) throw malformed(`attributes ${has}`);
  return {
    type: 'setattr',
    inode,
    mode: has & HAS.mode ? reader.u16('mode') : null,
    uid: has & HAS.uid ? reader.u32('uid') : null,
    gid: has & HAS.gid ? reader.u32('gid') : null,
    atime: has & HAS.atime ? readTime(reader) : null,
    mtime: has & HAS.mtime ? readTime(reader) : null,
    ctime: has & HAS.ctime ? readTime(reader) : null,
  };
}

function decodePages(type: 'write' | 'allocate'): Decoder {
  return (reader) => ({
    type,
    inode: reader.u64('inode'),
    page: reader.u32('page'),
    count: reader.u32('count'),
    size: readSize(reader),
    time: readTime(reader),
  });
}

function decodeShare(reader: ByteReader): Operation {
  const inode = reader.u64('inode');
  const from = reader.u64('source');
  const page = reader.u32('page');
  const toPage = reader.u32('page');
  const count = reader.u32('count');
  const size = readSize(reader);
  return { type: 'share', from, page, inode, toPage, count, size, time: readTime(reader) };
}

function decodeXattr(reader: ByteReader): Operation {
  const inode = reader.u64('inode');
  const name = readName(reader).toString('latin1');
  const length = reader.u16('value length');
  if (length > XATTR_VALUE_MAX) throw malformed('attribute too large');
  const value = reader.bytes(length, 'value');
  return { type: 'setxattr', inode, name, value, time: readTime(reader) };
}

const DECODERS: Readonly<Record<number, Decoder>> = {
  [OperationType.format]: (reader) => ({
    type: 'format',
    mode: reader.u16('mode'),
    uid: reader.u32('uid'),
    gid: reader.u32('gid'),
    time: readTime(reader),
  }),
  [OperationType.create]: decodeCreate,
  [OperationType.link]: (reader) => ({
    type: 'link',
    inode: reader.u64('inode'),
    parent: reader.u64('parent'),
    name: readName(reader),
    time: readTime(reader),
  }),
  [OperationType.unlink]: decodeUnlink('unlink'),
  [OperationType.rmdir]: decodeUnlink('rmdir'),
  [OperationType.rename]: (reader) => ({
    type: 'rename',
    parent: reader.u64('parent'),
    name: readName(reader),
    newParent: reader.u64('new parent'),
    newName: readName(reader),
    exchange: readFlag(reader),
    time: readTime(reader),
  }),
  [OperationType.free]: (reader) => ({ type: 'free', inode: reader.u64('inode') }),
  [OperationType.setattr]: decodeAttributes,
  [OperationType.truncate]: (reader) => ({
    type: 'truncate',
    inode: reader.u64('inode'),
    size: readSize(reader),
    time: readTime(reader),
  }),
  [OperationType.write]: decodePages('write'),
  [OperationType.allocate]: decodePages('allocate'),
  [OperationType.punch]: (reader) => ({
    type: 'punch',
    inode: reader.u64('inode'),
    offset: readSize(reader),
    length: readSize(reader),
    reserve: readFlag(reader),
    size: readSize(reader),
    time: readTime(reader),
  }),
  [OperationType.share]: decodeShare,
  [OperationType.setxattr]: decodeXattr,
  [OperationType.removexattr]: (reader) => ({
    type: 'removexattr',
    inode: reader.u64('inode'),
    name: readName(reader).toString('latin1'),
    time: readTime(reader),
  }),
  [OperationType.move]: (reader) => ({
    type: 'move',
    inode: reader.u64('inode'),
    page: reader.u32('page'),
    count: reader.u32('count'),
    segment: reader.id<SegmentId>('segment'),
    at: reader.u32('place'),
  }),
  [OperationType.follow]: (reader) => ({
    type: 'follow',
    inode: reader.u64('inode'),
    page: reader.u32('page'),
    count: reader.u32('count'),
    from: reader.u64('source'),
    fromPage: reader.u32('page'),
    segment: reader.id<SegmentId>('segment'),
    at: reader.u32('place'),
  }),
};

/** Throws MALFORMED. */
export function decodeOperation(reader: ByteReader): Operation {
  const type = reader.u8('operation');
  const decode = DECODERS[type];
  if (decode === undefined) throw malformed(`operation ${type}`);
  return decode(reader);
}
