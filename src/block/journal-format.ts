/**
 * The bytes of a disk's journal: groups of entries, each group one write and one flush. What makes
 * a group valid is (incarnation, position, lap, sequence, checksums), never the absence of zeroes.
 * docs/FORMATS.md §Journal. journal.ts writes groups, journal-scan.ts finds them after a start.
 */
import { assert } from '../core/assert.js';
import { crc32 } from '../core/checksum.js';
import {
  asBuffer,
  ByteReader,
  ByteWriter,
  readId,
  readU64,
  writeId,
  writeU64,
} from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import { JOURNAL_GROUP_MAX_BYTES, JOURNAL_GROUP_MAX_ENTRIES } from '../core/limits.js';
import { type Epoch, epoch, offset, PAGE_BYTES, type SegmentOffset } from '../core/units.js';

/** "HFJ1", little-endian. */
const MAGIC = 0x314a4648;
const VERSION = 1;
export const GROUP_HEADER_BYTES = 64;
export const ENTRY_HEADER_BYTES = 24;
const HEADER_CRC_AT = 60;

/** Persistent: these numbers are on disk. Never reuse one. */
export const EntryType = {
  create: 1,
  /** A batch in wire form, from APPEND or RECOVER. */
  batch: 2,
  fence: 3,
  seal: 4,
  delete: 5,
  /** What a direct write had made durable. */
  length: 6,
  drop: 7,
} as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

export interface GroupHeader {
  readonly lap: number;
  readonly sequence: number;
  /** The last group known durable when this one was written. */
  readonly flushedSequence: number;
  /** Bytes of entries after the header, without padding. */
  readonly length: number;
  readonly entries: number;
  readonly bodyCrc: number;
}

/** Writes the 64 bytes of a group's header at the start of `target`. */
export function writeGroupHeader(
  target: Buffer,
  incarnation: Incarnation,
  position: number,
  group: GroupHeader,
): void {
  assert(position % PAGE_BYTES === 0, 'a group begins at a page boundary');
  assert(group.length <= JOURNAL_GROUP_MAX_BYTES, 'a group within its limit');
  target.writeUInt32LE(MAGIC, 0);
  target.writeUInt16LE(VERSION, 4);
  target.writeUInt16LE(group.entries, 6);
  writeId(target, incarnation, 8);
  writeU64(target, group.lap, 24);
  writeU64(target, group.sequence, 32);
  writeU64(target, group.flushedSequence, 40);
  target.writeUInt32LE(position / PAGE_BYTES, 48);
  target.writeUInt32LE(group.length, 52);
  target.writeUInt32LE(group.bodyCrc, 56);
  target.writeUInt32LE(crc32(target.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
}

/**
 * The header of the group at `at` of `bytes`, which stands at `position` of the journal; null when
 * there is none of this incarnation and position. Throws VERSION for a newer format.
 */
export function readGroupHeader(
  bytes: Uint8Array,
  at: number,
  incarnation: Incarnation,
  position: number,
): GroupHeader | null {
  if (bytes.length - at < GROUP_HEADER_BYTES) return null;
  const head = asBuffer(bytes).subarray(at, at + GROUP_HEADER_BYTES);
  if (head.readUInt32LE(0) !== MAGIC) return null;
  if (crc32(head.subarray(0, HEADER_CRC_AT)) !== head.readUInt32LE(HEADER_CRC_AT)) return null;
  if (readId(head, 8) !== incarnation) return null;
  if (head.readUInt32LE(48) * PAGE_BYTES !== position) return null;
  if (head.readUInt16LE(4) !== VERSION) {
    throw new HoldfastError('VERSION', `journal format ${head.readUInt16LE(4)} is not known here`);
  }
  const length = head.readUInt32LE(52);
  const entries = head.readUInt16LE(6);
  if (length > JOURNAL_GROUP_MAX_BYTES || entries > JOURNAL_GROUP_MAX_ENTRIES) return null;
  return {
    lap: readU64(head, 24),
    sequence: readU64(head, 32),
    flushedSequence: readU64(head, 40),
    length,
    entries,
    bodyCrc: head.readUInt32LE(56),
  };
}

/** Writes an entry's 24 bytes at `at` of `target`; `length` bytes of payload follow it. */
export function writeEntryHeader(
  target: Buffer,
  at: number,
  type: EntryType,
  segment: SegmentId,
  length: number,
): void {
  target.writeUInt32LE(type, at);
  target.writeUInt32LE(length, at + 4);
  writeId(target, segment, at + 8);
}

export type Entry =
  | {
      readonly type: 'create';
      readonly segment: SegmentId;
      readonly volume: VolumeId;
      readonly epoch: Epoch;
      /** Made by COPY: no full copy, hence suspect, until it is sealed. */
      readonly copy: boolean;
    }
  | { readonly type: 'batch'; readonly segment: SegmentId; readonly bytes: Buffer }
  | {
      readonly type: 'fence';
      readonly segment: SegmentId;
      readonly volume: VolumeId;
      readonly epoch: Epoch;
    }
  | {
      readonly type: 'seal';
      readonly segment: SegmentId;
      readonly end: SegmentOffset;
      readonly crc: number;
    }
  | {
      readonly type: 'length';
      readonly segment: SegmentId;
      readonly end: SegmentOffset;
      readonly crc: number;
    }
  | { readonly type: 'delete'; readonly segment: SegmentId; readonly volume: VolumeId }
  | { readonly type: 'drop'; readonly segment: SegmentId; readonly volume: VolumeId };

/** The payload of every entry but a batch, whose payload is the batch. */
export function encodeEntry(entry: Exclude<Entry, { type: 'batch' }>): Buffer {
  const out = new ByteWriter(32);
  switch (entry.type) {
    case 'create':
      return out
        .id(entry.volume)
        .u64(entry.epoch)
        .u8(entry.copy ? 1 : 0)
        .done();
    case 'fence':
      return out.id(entry.volume).u64(entry.epoch).done();
    case 'seal':
    case 'length':
      return out.u64(entry.end).u32(entry.crc).done();
    case 'delete':
    case 'drop':
      return out.id(entry.volume).done();
  }
}

function decodePayload(type: number, segment: SegmentId, payload: Buffer): Entry {
  const input = new ByteReader(payload);
  const entry = ((): Entry => {
    switch (type) {
      case EntryType.create: {
        const volume = input.id<VolumeId>('entry: volume');
        const created = epoch(input.u64('entry: epoch'));
        return { type: 'create', segment, volume, epoch: created, copy: input.u8('copy') !== 0 };
      }
      case EntryType.batch:
        return { type: 'batch', segment, bytes: input.bytes(payload.length, 'entry: batch') };
      case EntryType.fence: {
        const volume = input.id<VolumeId>('entry: volume');
        return { type: 'fence', segment, volume, epoch: epoch(input.u64('entry: epoch')) };
      }
      case EntryType.seal:
      case EntryType.length: {
        const end = offset(input.u64('entry: end'));
        const kind = type === EntryType.seal ? 'seal' : 'length';
        return { type: kind, segment, end, crc: input.u32('entry: crc') };
      }
      case EntryType.delete:
      case EntryType.drop: {
        const kind = type === EntryType.drop ? 'drop' : 'delete';
        return { type: kind, segment, volume: input.id<VolumeId>('entry: volume') };
      }
      default:
        throw malformed(`journal entry of unknown type ${type}`);
    }
  })();
  input.end('journal entry');
  return entry;
}

/** Decodes a group's body (views into it). Throws MALFORMED when it does not match its header. */
export function decodeEntries(group: GroupHeader, body: Uint8Array): Entry[] {
  if (body.length !== group.length) throw malformed('journal group: cut short');
  if (crc32(body) !== group.bodyCrc) throw malformed('journal group: checksum mismatch');
  const input = new ByteReader(body);
  const entries: Entry[] = [];
  while (input.remaining > 0) {
    const type = input.u32('entry: type');
    const length = input.u32('entry: length');
    const segment = input.id<SegmentId>('entry: segment');
    entries.push(decodePayload(type, segment, input.bytes(length, 'entry: payload')));
  }
  if (entries.length !== group.entries) throw malformed('journal group: number of entries');
  return entries;
}
