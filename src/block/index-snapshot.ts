/**
 * The index: all segments' state at the start of a journal lap, so that replay begins there. Two
 * files take turns; the newest valid one wins. Written off the latency path when a half is
 * recycled, at the end of recovery and at an orderly stop. docs/FORMATS.md §Index.
 *
 * INVARIANT: everything a snapshot states is durable outside the journal before the snapshot is
 * written.
 */
import { crc32 } from '../core/checksum.js';
import { asBuffer, readId, readU64, writeId, writeU64 } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import { type Epoch, epoch, offset, type SegmentOffset } from '../core/units.js';

/** "HFIX", little-endian. */
const MAGIC = 0x58494648;
const VERSION = 1;
export const INDEX_HEADER_BYTES = 64;
export const INDEX_ENTRY_BYTES = 64;
const HEADER_CRC_AT = 60;
const FLAG_CREATED = 1;
const FLAG_SEALED = 2;
const FLAG_SUSPECT = 4;
const FLAG_DELETED = 8;

export interface IndexEntry {
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  readonly maxEpoch: Epoch;
  /** Durable in the segment's file. */
  readonly length: SegmentOffset;
  /** The chain's crc there. */
  readonly crc: number;
  readonly hasCreate: boolean;
  readonly sealed: boolean;
  readonly suspect: boolean;
  readonly deleted: boolean;
}

export interface Index {
  readonly incarnation: Incarnation;
  /** Replay begins with the groups of this lap ... */
  readonly lap: number;
  /** ... the first of which has this sequence. */
  readonly sequence: number;
  /** Journal groups were lost once: a segment that is unknown here may have been known. */
  readonly amnesia: boolean;
  readonly entries: readonly IndexEntry[];
}

/** Encodes `count` entries that `entries` yields. */
export function encodeIndex(index: Omit<Index, 'entries'>, entries: readonly IndexEntry[]): Buffer {
  const out = Buffer.alloc(INDEX_HEADER_BYTES + entries.length * INDEX_ENTRY_BYTES);
  let at = INDEX_HEADER_BYTES;
  for (const entry of entries) {
    writeId(out, entry.segment, at);
    writeId(out, entry.volume, at + 16);
    // 2^48 epochs are enough, and leave room for flags in a record of 64 bytes.
    out.writeUIntLE(entry.createEpoch, at + 32, 6);
    out.writeUInt16LE(
      (entry.hasCreate ? FLAG_CREATED : 0) |
        (entry.sealed ? FLAG_SEALED : 0) |
        (entry.suspect ? FLAG_SUSPECT : 0) |
        (entry.deleted ? FLAG_DELETED : 0),
      at + 38,
    );
    writeU64(out, entry.maxEpoch, at + 40);
    writeU64(out, entry.length, at + 48);
    out.writeUInt32LE(entry.crc, at + 56);
    at += INDEX_ENTRY_BYTES;
  }
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(VERSION, 4);
  out.writeUInt16LE(index.amnesia ? 1 : 0, 6);
  writeId(out, index.incarnation, 8);
  writeU64(out, index.lap, 24);
  writeU64(out, index.sequence, 32);
  writeU64(out, entries.length, 40);
  out.writeUInt32LE(crc32(out.subarray(INDEX_HEADER_BYTES)), 56);
  out.writeUInt32LE(crc32(out.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
  return out;
}

/** Decodes a snapshot; bytes after it are a longer, older one's. Throws MALFORMED or VERSION. */
export function decodeIndex(bytes: Uint8Array): Index {
  if (bytes.length < INDEX_HEADER_BYTES) throw malformed('index: too few bytes');
  const view = asBuffer(bytes);
  if (view.readUInt32LE(0) !== MAGIC) throw malformed('index: wrong magic');
  if (crc32(view.subarray(0, HEADER_CRC_AT)) !== view.readUInt32LE(HEADER_CRC_AT)) {
    throw malformed('index: header checksum mismatch');
  }
  if (view.readUInt16LE(4) !== VERSION) {
    throw new HoldfastError('VERSION', `index format ${view.readUInt16LE(4)} is not known here`);
  }
  const count = readU64(view, 40);
  const end = INDEX_HEADER_BYTES + count * INDEX_ENTRY_BYTES;
  if (end > view.length) throw malformed('index: cut short');
  if (crc32(view.subarray(INDEX_HEADER_BYTES, end)) !== view.readUInt32LE(56)) {
    throw malformed('index: checksum mismatch');
  }
  const entries: IndexEntry[] = [];
  for (let at = INDEX_HEADER_BYTES; at < end; at += INDEX_ENTRY_BYTES) {
    entries.push(decodeIndexEntry(view, at));
  }
  return {
    incarnation: readId(view, 8),
    lap: readU64(view, 24),
    sequence: readU64(view, 32),
    amnesia: view.readUInt16LE(6) !== 0,
    entries,
  };
}

function decodeIndexEntry(view: Buffer, at: number): IndexEntry {
  const flags = view.readUInt16LE(at + 38);
  return {
    segment: readId(view, at),
    volume: readId(view, at + 16),
    createEpoch: epoch(view.readUIntLE(at + 32, 6)),
    maxEpoch: epoch(readU64(view, at + 40)),
    length: offset(readU64(view, at + 48)),
    crc: view.readUInt32LE(at + 56),
    hasCreate: (flags & FLAG_CREATED) !== 0,
    sealed: (flags & FLAG_SEALED) !== 0,
    suspect: (flags & FLAG_SUSPECT) !== 0,
    deleted: (flags & FLAG_DELETED) !== 0,
  };
}
