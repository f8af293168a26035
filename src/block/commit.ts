/**
 * One accepted change of one segment on its way to being durable. Commits of a segment settle in
 * the order of acceptance, whichever way (journal or direct write) they take: so durableLength is a
 * prefix, and a FENCE is answered only after everything that was accepted before it.
 */
import type { SegmentId } from '../core/ids.js';
import type { SegmentOffset } from '../core/units.js';
import type { EntryType } from './journal-format.js';
import type { Segment } from './segment-table.js';
import type { BatchHeader } from './wire/batch.js';
import type { StatusName } from './wire/messages.js';

/** A batch as it stands in a segment: its head (without padding) and its data pages. */
export interface BatchBytes {
  readonly header: BatchHeader;
  readonly head: Uint8Array;
  readonly pages: Uint8Array;
}

/** What the journal writes (journal.ts); `written` is called when its group is durable. */
export interface JournalEntry {
  readonly entryType: EntryType;
  readonly segment: SegmentId;
  /** The payload. Must not change until `written`. */
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  written(): void;
}

/** Called when everything before the commit and the commit itself are durable, or it failed. */
export type Settle = (failure: StatusName | null) => void;

export interface Commit {
  readonly state: Segment;
  /** The batches whose bytes end the prefix at `end`; none for FENCE, SEAL and other marks. */
  readonly batches: readonly BatchBytes[];
  readonly start: SegmentOffset;
  readonly startCrc: number;
  readonly end: SegmentOffset;
  readonly crc: number;
  /** Straight to the segment file, which then holds the bytes already. */
  readonly direct: boolean;
  /** Bytes of memory that it holds. */
  readonly bytes: number;
  durable: boolean;
  failure: StatusName | null;
  readonly settle: Settle;
}
