/**
 * Reads all records of one segment, without knowing where the log ends in it: for whoever looks for
 * something in a log whose metadata is lost.
 */
import { decodeEntries } from '../block/wire/batch.js';
import type { HoldfastError } from '../core/errors.js';
import type { SegmentOffset } from '../core/units.js';
import type { SegmentReader } from './reader.js';
import { type BatchRange, readBatches } from './reader-batches.js';

/** One segment of the log: up to its end, or what was found of one that has none yet. */
export interface LogSpan extends BatchRange {
  /** What is certainly committed of it; its own batches may tell of more. */
  readonly committed: SegmentOffset;
}

export interface ScannedRecord {
  /** Valid during the call only. */
  readonly record: Uint8Array;
  readonly firstPage: number;
  readonly pageCount: number;
}

export interface Scan {
  /** All below it belongs to the log. */
  readonly committed: SegmentOffset;
  /** Why the reading ended early, as readBatches says it; null: it did not. */
  readonly error: HoldfastError | null;
}

/** Gives the records in their order, also those that may not be committed. */
export function scanRecords(
  reader: Pick<SegmentReader, 'readPages'>,
  span: LogSpan,
  onRecord: (found: ScannedRecord) => void,
): Promise<Scan> {
  let { committed } = span;
  return new Promise((resolve) => {
    readBatches(
      reader,
      span,
      ({ header, head }) => {
        if (header.commitOffset > committed) committed = header.commitOffset;
        for (const entry of decodeEntries(header, head)) onRecord(entry);
      },
      (error) => resolve({ committed, error }),
    );
  });
}
