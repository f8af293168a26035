/**
 * One open segment as its writer sees it: the batches sent, encoded once and kept until every
 * replica that still follows has them, and how far each replica is. Sequence numbers count a
 * segment's batches from 0.
 *
 * INVARIANT: what a replica is known to have durably only grows, by answers of its own incarnation;
 * the batches kept cover everything that is uncommitted or that a following replica lacks.
 */
import {
  BATCH_HEADER_BYTES,
  type BatchEntry,
  type EncodedBatch,
  encodeBatch,
} from '../block/wire/batch.js';
import { encodeSegmentHeader, type SegmentHeader } from '../block/wire/segment-header.js';
import { assert, present } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { BATCH_MAX_BYTES, BATCH_MAX_RECORDS } from '../core/limits.js';
import {
  alignToPage,
  type Lsn,
  lsn,
  type Monotonic,
  offset,
  type SegmentOffset,
} from '../core/units.js';
import type { OpenSegment, Replica } from '../metadata/model.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import type { Appended } from './owner-api.js';
import { commitOffsetOf } from './quorum.js';

/** An appended record on its way. `done` is carried for the driver and never called by the core. */
export interface QueuedEntry {
  readonly entry: BatchEntry;
  readonly lsn: Lsn;
  /** What it adds to a batch. */
  readonly bytes: number;
  readonly done: (error: HoldfastError | null, appended: Appended | null) => void;
}

export interface SentBatch {
  readonly offset: SegmentOffset;
  readonly end: SegmentOffset;
  readonly endLsn: Lsn;
  readonly encoded: EncodedBatch;
  /** Empty for the segment header. */
  readonly entries: readonly QueuedEntry[];
  readonly sentAt: Monotonic;
}

/** Why nothing more is sent to a replica of this segment. */
export type DropReason =
  /** It could not be reached for too long: it may well serve the next segment. */
  | 'unreachable'
  /** It never got the CREATE: its disk is good. */
  | 'unknown'
  /** It answers, too slowly. */
  | 'slow'
  /** Its disk failed, is full, is another one, or contradicts itself. */
  | 'disk';

export interface Follower {
  readonly replica: Replica;
  /**
   * following: batches are sent as they come. resync: an answer is missing; a PING tells where to
   * go on. dropped: not sent to any more in this segment; COPY completes it after the seal.
   */
  mode: 'following' | 'resync' | 'dropped';
  dropped: DropReason | null;
  /** The disk behind it is another one now: what it once acknowledged is gone. */
  gone: boolean;
  durable: SegmentOffset;
  /** The first batch that it is not known to have. */
  durableSeq: number;
  nextSeq: number;
  /** Raised by each restart of sending; answers to older sendings start nothing. */
  generation: number;
  pingInFlight: boolean;
  pingAt: number;
  failures: number;
}

export interface Stream {
  readonly volume: VolumeId;
  readonly segment: OpenSegment;
  readonly followers: readonly Follower[];
  /** Sequence numbers [firstSeq, firstSeq + batches.length). */
  readonly batches: SentBatch[];
  firstSeq: number;
  committedSeq: number;
  nextOffset: SegmentOffset;
  lastCrc: number;
  nextLsn: Lsn;
  /** Everything below is committed; crc and LSN are those at this offset. */
  commitOffset: SegmentOffset;
  commitCrc: number;
  commitLsn: Lsn;
}

export function newStream(volume: VolumeId, segment: OpenSegment, base: Lsn): Stream {
  const followers = segment.replicas.map(
    (replica): Follower => ({
      replica,
      mode: 'following',
      dropped: null,
      gone: false,
      durable: offset(0),
      durableSeq: 0,
      nextSeq: 0,
      generation: 0,
      pingInFlight: false,
      pingAt: 0,
      failures: 0,
    }),
  );
  return {
    volume,
    segment,
    followers,
    batches: [],
    firstSeq: 0,
    committedSeq: 0,
    nextOffset: offset(0),
    lastCrc: 0,
    nextLsn: base,
    commitOffset: offset(0),
    commitCrc: 0,
    commitLsn: base,
  };
}

export function endSeq(stream: Stream): number {
  return stream.firstSeq + stream.batches.length;
}

export function uncommittedBatches(stream: Stream): number {
  return endSeq(stream) - stream.committedSeq;
}

export function batchAt(stream: Stream, seq: number): SentBatch {
  return present(stream.batches[seq - stream.firstSeq], 'a batch that is kept');
}

/** Adds the segment's first batch. */
export function addHeader(stream: Stream, header: SegmentHeader, now: Monotonic): void {
  assert(stream.nextOffset === 0, 'the header is the first batch');
  add(stream, [], [{ record: encodeSegmentHeader(header), pages: [] }], now);
}

/** How many of these entries make the next batch; 0 when the segment may not grow any more. */
export function fitting(
  { nextOffset }: Pick<Stream, 'nextOffset'>,
  entries: readonly QueuedEntry[],
  segmentHardBytes: number,
): number {
  let head = BATCH_HEADER_BYTES;
  let pages = 0;
  let count = 0;
  const limit = Math.min(BATCH_MAX_BYTES, segmentHardBytes - nextOffset);
  for (const { entry, bytes } of entries) {
    if (count === BATCH_MAX_RECORDS) break;
    let pageBytes = 0;
    for (const part of entry.pages) pageBytes += part.length;
    head += bytes - pageBytes;
    pages += pageBytes;
    if (alignToPage(head) + pages > limit) break;
    count += 1;
  }
  return count;
}

/** Whether a batch can take the entry at all: one that is too large would be queued for ever. */
export function fitsBatch(queued: QueuedEntry): boolean {
  return fitting({ nextOffset: offset(0) }, [queued], BATCH_MAX_BYTES) === 1;
}

/** Encodes a batch of these entries, which follow the ones before them, at the end. */
export function addBatch(stream: Stream, entries: readonly QueuedEntry[], now: Monotonic): void {
  assert(stream.nextOffset > 0, 'the header comes first');
  assert(entries[0]?.lsn === stream.nextLsn, 'records follow each other');
  const plain = entries.map((queued) => queued.entry);
  add(stream, entries, plain, now);
}

function add(
  stream: Stream,
  entries: readonly QueuedEntry[],
  plain: readonly BatchEntry[],
  now: Monotonic,
): void {
  const encoded = encodeBatch(
    {
      volume: stream.volume,
      segment: stream.segment.segment,
      epoch: stream.segment.createEpoch,
      offset: stream.nextOffset,
      firstLsn: stream.nextLsn,
      commitOffset: stream.commitOffset,
      prevCrc: stream.lastCrc,
      segmentHeader: stream.nextOffset === 0,
    },
    plain,
  );
  const end = offset(stream.nextOffset + encoded.segmentBytes);
  const endLsn = lsn(stream.nextLsn + entries.length);
  stream.batches.push({
    offset: stream.nextOffset,
    end,
    endLsn,
    encoded,
    entries,
    sentAt: now,
  });
  stream.nextOffset = end;
  stream.nextLsn = endLsn;
  stream.lastCrc = encoded.header.headerCrc;
}

/** Notes an answer of the right incarnation. False: it claims bytes that were never sent. */
export function noteDurable(stream: Stream, follower: Follower, length: SegmentOffset): boolean {
  if (length > stream.nextOffset) return false;
  if (length <= follower.durable) return true;
  follower.durable = length;
  follower.failures = 0;
  const end = endSeq(stream);
  let seq = Math.max(follower.durableSeq, stream.firstSeq);
  while (seq < end && batchAt(stream, seq).end <= length) seq += 1;
  follower.durableSeq = seq;
  if (follower.nextSeq < seq) follower.nextSeq = seq;
  return true;
}

/** Moves the commit forward; returns the batches that are committed now, in order. */
export function commit(stream: Stream, ackQuorum: number): readonly SentBatch[] {
  const durable: SegmentOffset[] = [];
  for (const follower of stream.followers) {
    if (!follower.gone) durable.push(follower.durable);
  }
  const reached = commitOffsetOf(durable, ackQuorum);
  if (reached <= stream.commitOffset) return NONE;
  const committed: SentBatch[] = [];
  const end = endSeq(stream);
  while (stream.committedSeq < end) {
    const batch = batchAt(stream, stream.committedSeq);
    if (batch.end > reached) break;
    stream.committedSeq += 1;
    stream.commitOffset = batch.end;
    stream.commitCrc = batch.encoded.header.headerCrc;
    stream.commitLsn = batch.endLsn;
    committed.push(batch);
  }
  return committed;
}

const NONE: readonly SentBatch[] = [];

/** Lets go of batches that are committed and that every replica still followed has. */
export function letGo(stream: Stream): void {
  let floor = stream.committedSeq;
  for (const follower of stream.followers) {
    if (follower.mode !== 'dropped') floor = Math.min(floor, follower.durableSeq);
  }
  const count = floor - stream.firstSeq;
  if (count <= 0) return;
  stream.batches.splice(0, count);
  stream.firstSeq = floor;
}

/**
 * Where the segment ends when it is rolled or sealed now: what is committed, no more and no less.
 */
export function frozenEnd(stream: Stream): SegmentEnd {
  return {
    segment: stream.segment.segment,
    end: stream.commitOffset,
    endLsn: stream.commitLsn,
    crc: stream.commitCrc,
  };
}

/** Every record above the commit, in LSN order. */
export function uncommittedEntries(stream: Stream): QueuedEntry[] {
  const entries: QueuedEntry[] = [];
  for (let seq = stream.committedSeq; seq < endSeq(stream); seq++) {
    for (const entry of batchAt(stream, seq).entries) entries.push(entry);
  }
  return entries;
}
