/**
 * The record in a segment's first batch: how this segment continues the log, and enough about the
 * volume that disks alone suffice to rebuild a lost metadata store. docs/FORMATS.md §Segment
 * header.
 */
import { ByteReader, ByteWriter } from '../../core/codec.js';
import { HoldfastError, malformed } from '../../core/errors.js';
import type { SegmentId } from '../../core/ids.js';
import { NAME_MAX_BYTES, REPLICAS_MAX } from '../../core/limits.js';
import { type Lsn, lsn, offset, type SegmentOffset } from '../../core/units.js';

const VERSION = 1;
/** Persistent. */
const KIND = { filesystem: 1, block: 2 } as const;

export interface SegmentHeader {
  /**
   * The segment before this one in the log, and where it ends; null in a volume's first segment.
   */
  readonly previous: {
    readonly segment: SegmentId;
    readonly end: SegmentOffset;
    readonly endLsn: Lsn;
  } | null;
  readonly name: string;
  readonly kind: 'filesystem' | 'block';
  readonly sizeBytes: number;
  readonly replicas: number;
  readonly ackQuorum: number;
  /** Index of the placement group. */
  readonly group: number;
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const out = new ByteWriter().u8(VERSION).u8(header.previous === null ? 0 : 1);
  if (header.previous !== null) {
    out.id(header.previous.segment).u64(header.previous.end).u64(header.previous.endLsn);
  }
  return out
    .u8(KIND[header.kind])
    .u64(header.sizeBytes)
    .u8(header.replicas)
    .u8(header.ackQuorum)
    .u16(header.group)
    .text(header.name)
    .done();
}

/** Throws MALFORMED or VERSION. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader {
  const input = new ByteReader(bytes);
  const version = input.u8('segment header version');
  if (version !== VERSION) {
    throw new HoldfastError('VERSION', `segment header format ${version} is not known here`);
  }
  const continued = input.u8('segment header: continued');
  if (continued > 1) throw malformed('segment header: continued');
  const previous =
    continued === 0
      ? null
      : {
          segment: input.id<SegmentId>('previous segment'),
          end: offset(input.u64('previous end')),
          endLsn: lsn(input.u64('previous end LSN')),
        };
  const kindCode = input.u8('volume kind');
  if (kindCode !== KIND.filesystem && kindCode !== KIND.block) throw malformed('volume kind');
  const kind = kindCode === KIND.block ? 'block' : 'filesystem';
  const sizeBytes = input.u64('volume size');
  const replicas = input.u8('replicas');
  const ackQuorum = input.u8('ack quorum');
  if (replicas < 1 || replicas > REPLICAS_MAX) throw malformed('segment header: replicas');
  if (ackQuorum < 1 || ackQuorum > replicas) throw malformed('segment header: ack quorum');
  const group = input.u16('placement group');
  const name = input.text(NAME_MAX_BYTES, 'volume name');
  input.end('segment header');
  return { previous, name, kind, sizeBytes, replicas, ackQuorum, group };
}
