/**
 * Walks the batches of an open segment in order and verifies that each continues the one before it:
 * position, LSN and checksum chain. Takeover computes a sealed segment's endLsn and crc with it,
 * and sends on by RECOVER only bytes that went through it.
 */
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeEntries,
  decodeSegmentBatch,
  decodeWireBatch,
  FLAG_SEGMENT_HEADER,
} from '../block/wire/batch.js';
import { decodeSegmentHeader, type SegmentHeader } from '../block/wire/segment-header.js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { type Lsn, lsn, offset, type SegmentOffset } from '../core/units.js';
import type { OpenSegment } from '../metadata/model.js';

/** Whole, verified batches as they stand in the segment. */
export interface ChainPiece {
  readonly start: SegmentOffset;
  readonly end: SegmentOffset;
  readonly bytes: Uint8Array;
  /** Where batches begin in [start, end), and `end`. */
  readonly boundaries: readonly SegmentOffset[];
}

function broken(segment: OpenSegment, at: number, what: string): HoldfastError {
  return new HoldfastError('MALFORMED', `segment ${segment.segment} at ${at}: ${what}`);
}

function checkIdentity(volume: VolumeId, segment: OpenSegment, header: BatchHeader): void {
  if (header.segment !== segment.segment || header.volume !== volume) {
    throw broken(segment, header.offset, 'a batch of another segment');
  }
  if (header.epoch !== segment.createEpoch) {
    throw broken(segment, header.offset, `a batch of epoch ${header.epoch}`);
  }
}

/**
 * The segment header in a segment's first batch in wire form, verified. Throws MALFORMED or
 * VERSION.
 */
export function readFirstBatch(
  volume: VolumeId,
  segment: OpenSegment,
  bytes: Uint8Array,
): SegmentHeader {
  const header = decodeWireBatch(bytes);
  checkIdentity(volume, segment, header);
  if ((header.flags & FLAG_SEGMENT_HEADER) === 0) throw broken(segment, 0, 'no segment header');
  return decodeSegmentHeader(decodeEntries(header, bytes)[0]?.record ?? new Uint8Array());
}

export class ChainScan {
  readonly #volume: VolumeId;
  readonly #segment: OpenSegment;
  #rest: Uint8Array = new Uint8Array();
  #offset = offset(0);
  #crc = 0;
  #lsn: Lsn | null;

  /** `base` is the LSN at which the segment begins; null when only its header can tell. */
  constructor(volume: VolumeId, segment: OpenSegment, base: Lsn | null) {
    this.#volume = volume;
    this.#segment = segment;
    this.#lsn = base;
  }

  /** The end of the last whole batch seen. */
  get offset(): SegmentOffset {
    return this.#offset;
  }

  /** Where the next bytes to feed begin. */
  get fedTo(): SegmentOffset {
    return offset(this.#offset + this.#rest.length);
  }

  /** headerCrc of the last whole batch seen. */
  get crc(): number {
    return this.#crc;
  }

  /** The LSN after the last record seen; null as long as nothing tells. */
  get lsn(): Lsn | null {
    return this.#lsn;
  }

  /** Takes the bytes that follow; returns the batches that are now whole. Throws MALFORMED. */
  feed(bytes: Uint8Array): ChainPiece {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const start = this.#offset;
    const boundaries: SegmentOffset[] = [];
    let at = 0;
    while (all.length - at >= BATCH_HEADER_BYTES) {
      if (all.length - at < batchSegmentBytes(decodeBatchHeader(all, at))) break;
      boundaries.push(this.#offset);
      at += this.#step(decodeSegmentBatch(all, at));
    }
    boundaries.push(this.#offset);
    this.#rest = all.subarray(at);
    assert(this.#offset === start + at, 'the walk is where the bytes are');
    return { start, end: this.#offset, bytes: all.subarray(0, at), boundaries };
  }

  /** Takes the next batch by its verified head; what was fed of it is forgotten. */
  head(header: BatchHeader): void {
    this.#rest = new Uint8Array();
    this.#step(header);
  }

  #step(header: BatchHeader): number {
    const at = this.#offset;
    checkIdentity(this.#volume, this.#segment, header);
    if (header.offset !== at) throw broken(this.#segment, at, 'a batch of another place');
    if (header.prevCrc !== this.#crc) throw broken(this.#segment, at, 'the chain is broken');
    if (this.#lsn !== null && header.firstLsn !== this.#lsn) {
      throw broken(this.#segment, at, `LSN ${header.firstLsn} follows ${this.#lsn}`);
    }
    this.#lsn = lsn(header.firstLsn + header.count);
    this.#crc = header.headerCrc;
    const bytes = batchSegmentBytes(header);
    this.#offset = offset(at + bytes);
    return bytes;
  }
}
