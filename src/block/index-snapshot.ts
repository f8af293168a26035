/**
 * The index: all segments' state at the start of a journal lap, so that replay begins there. Two
 * files take turns; the newest valid one wins. Written off the latency path when a half is
 * recycled, at the end of recovery and at an orderly stop. docs/FORMATS.md §Index.
 *
 * A disk may have hundreds of thousands of segments, so a snapshot is taken in slices between which
 * the disk goes on working: an entry states its segment as it was at some moment after the lap
 * began. Replay may apply again what an entry says already: epochs and recorded lengths only rise,
 * batches below the length are passed over, and SEAL and DELETE are final. What an entry says of a
 * segment binds no other one.
 *
 * INVARIANT: everything a snapshot states is durable outside the journal before the snapshot is
 * written.
 */
import { crc32 } from '../core/checksum.js';
import { asBuffer, readId, readU64, writeId, writeU64 } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import { INDEX_SLICE_ENTRIES } from '../core/limits.js';
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
const FLAG_DROPPED = 16;

/** What the index keeps of a segment (replica-state.ts). */
export interface IndexEntry {
  readonly id: SegmentId;
  readonly volume: VolumeId;
  readonly createEpoch: Epoch;
  readonly maxEpoch: Epoch;
  /** Durable in the segment's file. */
  readonly durableLength: SegmentOffset;
  /** The chain's crc there. */
  readonly durableCrc: number;
  readonly hasCreate: boolean;
  readonly sealed: boolean;
  readonly suspect: boolean;
  readonly deleted: boolean;
  /** Deleted on this disk only. */
  readonly dropped: boolean;
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

/** Encodes a snapshot slice by slice. */
export class IndexEncoder {
  readonly #head: Omit<Index, 'entries'>;
  readonly #entries: Iterator<IndexEntry>;
  readonly #slices: Buffer[] = [];
  #count = 0;
  #crc = 0;

  /** `entries` may be a live collection, as long as none is yielded twice. */
  constructor(head: Omit<Index, 'entries'>, entries: Iterable<IndexEntry>) {
    this.#head = head;
    this.#entries = entries[Symbol.iterator]();
  }

  /** Encodes up to `most` entries as they are now; true when none is left. */
  encode(most: number): boolean {
    const slice = Buffer.allocUnsafe(most * INDEX_ENTRY_BYTES);
    let at = 0;
    let isLast = false;
    while (at < slice.length && !isLast) {
      const next = this.#entries.next();
      if (next.done === true) isLast = true;
      else {
        encodeIndexEntry(slice, next.value, at);
        at += INDEX_ENTRY_BYTES;
      }
    }
    if (at > 0) {
      const filled = slice.subarray(0, at);
      this.#slices.push(filled);
      this.#count += at / INDEX_ENTRY_BYTES;
      this.#crc = crc32(filled, this.#crc);
    }
    return isLast;
  }

  /** The whole snapshot, to be written one part after the other. */
  finish(): readonly Buffer[] {
    const { amnesia, incarnation, lap, sequence } = this.#head;
    const out = Buffer.alloc(INDEX_HEADER_BYTES);
    out.writeUInt32LE(MAGIC, 0);
    out.writeUInt16LE(VERSION, 4);
    out.writeUInt16LE(amnesia ? 1 : 0, 6);
    writeId(out, incarnation, 8);
    writeU64(out, lap, 24);
    writeU64(out, sequence, 32);
    writeU64(out, this.#count, 40);
    out.writeUInt32LE(this.#crc, 56);
    out.writeUInt32LE(crc32(out.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
    return [out, ...this.#slices];
  }
}

/** A whole snapshot at once, where nobody waits for the event loop. */
export function encodeIndex(
  head: Omit<Index, 'entries'>,
  entries: Iterable<IndexEntry>,
): readonly Buffer[] {
  const encoder = new IndexEncoder(head, entries);
  while (!encoder.encode(INDEX_SLICE_ENTRIES)) {
    // Each call is one slice.
  }
  return encoder.finish();
}

function encodeIndexEntry(out: Buffer, entry: IndexEntry, at: number): void {
  writeId(out, entry.id, at);
  writeId(out, entry.volume, at + 16);
  // 2^48 epochs are enough, and leave room for flags in a record of 64 bytes.
  out.writeUIntLE(entry.createEpoch, at + 32, 6);
  out.writeUInt16LE(
    (entry.hasCreate ? FLAG_CREATED : 0) |
      (entry.sealed ? FLAG_SEALED : 0) |
      (entry.suspect ? FLAG_SUSPECT : 0) |
      (entry.deleted ? FLAG_DELETED : 0) |
      (entry.dropped ? FLAG_DROPPED : 0),
    at + 38,
  );
  writeU64(out, entry.maxEpoch, at + 40);
  writeU64(out, entry.durableLength, at + 48);
  out.writeUInt32LE(entry.durableCrc, at + 56);
  out.writeUInt32LE(0, at + 60);
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
  // One string a volume, not one a segment: they stay in memory.
  const volumes = new Map<VolumeId, VolumeId>();
  for (let at = INDEX_HEADER_BYTES; at < end; at += INDEX_ENTRY_BYTES) {
    const volume = readId<VolumeId>(view, at + 16);
    if (!volumes.has(volume)) volumes.set(volume, volume);
    entries.push(decodeIndexEntry(view, at, volumes.get(volume) ?? volume));
  }
  return {
    incarnation: readId(view, 8),
    lap: readU64(view, 24),
    sequence: readU64(view, 32),
    amnesia: view.readUInt16LE(6) !== 0,
    entries,
  };
}

function decodeIndexEntry(view: Buffer, at: number, volume: VolumeId): IndexEntry {
  const flags = view.readUInt16LE(at + 38);
  return {
    id: readId(view, at),
    volume,
    createEpoch: epoch(view.readUIntLE(at + 32, 6)),
    maxEpoch: epoch(readU64(view, at + 40)),
    durableLength: offset(readU64(view, at + 48)),
    durableCrc: view.readUInt32LE(at + 56),
    hasCreate: (flags & FLAG_CREATED) !== 0,
    sealed: (flags & FLAG_SEALED) !== 0,
    suspect: (flags & FLAG_SUSPECT) !== 0,
    deleted: (flags & FLAG_DELETED) !== 0,
    dropped: (flags & FLAG_DROPPED) !== 0,
  };
}
