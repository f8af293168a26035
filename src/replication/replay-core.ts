/**
 * What a replay reads, and whether the records found continue each other, without I/O.
 *
 * A log is its sealed segments up to their ends, then the open ones up to what is committed.
 * Records that were sent again under their old LSN after a roll stand in the old segment too, but
 * above its end; so each LSN is found exactly once, and anything else is INCONSISTENT.
 */
import { type BatchHeader, decodeEntries } from '../block/wire/batch.js';
import { decodeSegmentHeader } from '../block/wire/segment-header.js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { type Lsn, lsn, offset, type SegmentOffset } from '../core/units.js';
import type { OpenSegment, SealedSegment, VolumeRecord } from '../metadata/model.js';
import type { ReplayedRecord } from './owner-api.js';
import type { BatchRange, ReadBatch } from './reader-batches.js';

/** An open segment and how much of it belongs to the log. */
export interface ReplayTail {
  readonly segment: OpenSegment;
  readonly end: SegmentOffset;
}

export interface ReplaySpan extends BatchRange {
  /** The LSN after the last record below the end; null when it is not known yet. */
  readonly endLsn: Lsn | null;
}

export interface ReplayPlan {
  readonly spans: readonly ReplaySpan[];
  /** The LSN after the last one that the record's sealed segments hold. */
  readonly sealedLsn: Lsn;
}

/**
 * What to read for the records from `from` on, from the start of the segment that holds the first:
 * where in it that record stands is not known. (The root does not tell: a checkpoint's last page
 * comes to the log after records that its LSN precedes.) `tails` are in log order and follow
 * record.sealed.
 */
export function planReplay(
  record: VolumeRecord,
  tails: readonly ReplayTail[],
  from: Lsn,
): ReplayPlan {
  const all: ReplaySpan[] = [
    ...record.sealed.map((sealed) => spanOf(record, sealed, sealed)),
    ...tails.map((tail) => spanOf(record, tail.segment, { end: tail.end })),
  ].filter((span) => span.end > 0);
  const first = all.findIndex((span) => span.endLsn === null || span.endLsn > from);
  const spans = first === -1 ? [] : all.slice(first);
  const sealedLsn = record.sealed.at(-1)?.endLsn ?? lsn(0);
  return { spans, sealedLsn };
}

function spanOf(
  record: VolumeRecord,
  segment: OpenSegment,
  known: Pick<SealedSegment, 'end'> & Partial<Pick<SealedSegment, 'endLsn' | 'crc'>>,
): ReplaySpan {
  return {
    volume: record.volume,
    segment: segment.segment,
    replicas: segment.replicas,
    createEpoch: segment.createEpoch,
    from: offset(0),
    end: known.end,
    prevCrc: 0,
    endCrc: known.crc ?? null,
    endLsn: known.endLsn ?? null,
  };
}

/** Follows the LSNs over the batches of all spans, in order. Throws INCONSISTENT. */
export class ReplayCheck {
  readonly #from: Lsn;
  readonly #ends = new Map<SegmentId, SegmentOffset>();
  #span: ReplaySpan | null = null;
  /** The LSN that comes next; null before the first batch. */
  #expected: Lsn | null = null;

  constructor(plan: ReplayPlan, from: Lsn) {
    this.#from = from;
    for (const span of plan.spans) this.#ends.set(span.segment, span.end);
    if (plan.spans.length === 0) this.#expected = plan.sealedLsn;
  }

  /** The LSN after the last record seen. */
  get nextLsn(): Lsn {
    return this.#expected ?? this.#from;
  }

  beginSpan(span: ReplaySpan): void {
    this.#span = span;
  }

  endSpan(): void {
    const span = this.#span;
    assert(span !== null, 'ends a span that began');
    if (span.endLsn !== null && span.endLsn !== this.#expected) {
      throw inconsistent(
        `segment ${span.segment} ends at LSN ${this.#expected}, sealed at ${span.endLsn}`,
      );
    }
  }

  /** After all spans: nothing that was asked for may be missing. */
  end(): void {
    if (this.nextLsn < this.#from) {
      throw inconsistent(`the log ends at LSN ${this.nextLsn}, before LSN ${this.#from}`);
    }
  }

  /** The records of one batch from `from` on. Their bytes are views into the batch. */
  batch({ header, head }: ReadBatch): ReplayedRecord[] {
    const entries = decodeEntries(header, head);
    if (header.offset === 0) {
      this.#segmentHeader(header, entries[0]?.record ?? Buffer.alloc(0));
      return [];
    }
    if (header.firstLsn !== this.#expected) {
      const what = header.firstLsn > (this.#expected ?? 0) ? 'a hole' : 'a repetition';
      throw inconsistent(
        `${what} in the log: LSN ${header.firstLsn} follows where ${this.#expected} should, ` +
          `at ${header.offset} of segment ${header.segment}`,
      );
    }
    this.#expected = lsn(header.firstLsn + header.count);
    const records: ReplayedRecord[] = [];
    for (const [index, { record, firstPage, pageCount }] of entries.entries()) {
      const at = lsn(header.firstLsn + index);
      if (at < this.#from) continue;
      records.push({ lsn: at, record, segment: header.segment, firstPage, pageCount });
    }
    return records;
  }

  #begin(first: Lsn): void {
    if (this.#expected !== null) return;
    if (first > this.#from) {
      throw inconsistent(`the log begins at LSN ${first}, after LSN ${this.#from}`);
    }
    this.#expected = first;
  }

  #segmentHeader(header: BatchHeader, record: Uint8Array): void {
    const { previous } = decodeSegmentHeader(record);
    const startLsn = previous?.endLsn ?? lsn(0);
    if (header.firstLsn !== startLsn) {
      throw inconsistent(
        `segment ${header.segment} begins at LSN ${header.firstLsn}, its header says ${startLsn}`,
      );
    }
    this.#begin(startLsn);
    if (startLsn !== this.#expected) {
      throw inconsistent(
        `segment ${header.segment} continues LSN ${startLsn}, but the one before it ends at ` +
          `${this.#expected}`,
      );
    }
    const end = previous === null ? undefined : this.#ends.get(previous.segment);
    if (end !== undefined && end !== previous?.end) {
      throw inconsistent(
        `segment ${header.segment} continues ${previous?.segment} at ${previous?.end}, ` +
          `but that one ends at ${end}`,
      );
    }
  }
}

function inconsistent(message: string): HoldfastError {
  return new HoldfastError('INCONSISTENT', message, {
    hint: 'Nothing was changed. Keep all disks as they are and report this.',
  });
}
