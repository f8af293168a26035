/**
 * Replays a volume's log from an LSN on: sealed segments, then what is committed of the open ones.
 * The owner calls it after takeover, so that the volume layer can rebuild its state (apply every
 * record again).
 */
import { HoldfastError } from '../core/errors.js';
import type { Lsn } from '../core/units.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { ReplayedRecord } from './owner-api.js';
import type { SegmentReader } from './reader.js';
import { readBatches } from './reader-batches.js';
import { planReplay, ReplayCheck, type ReplaySpan, type ReplayTail } from './replay-core.js';

/** Where replay gets pages from; as SegmentReader. */
export type ReplayReader = Pick<SegmentReader, 'readPages' | 'soon'>;

export interface ReplayOptions {
  readonly record: VolumeRecord;
  /** The open segments that belong to the log and their committed ends, in log order. */
  readonly tails: readonly ReplayTail[];
  readonly from: Lsn;
}

/**
 * Gives every record from `from` on to `onRecord` in LSN order, each once; its bytes are valid
 * during the call only. Then `done`, once, never before this call returns: with null and the LSN
 * after the last record, or with INCONSISTENT (a hole, a repetition, a broken chain), DATA_LOST or
 * UNAVAILABLE.
 */
export function replayLog(
  reader: ReplayReader,
  options: ReplayOptions,
  onRecord: (record: ReplayedRecord) => void,
  done: (error: HoldfastError | null, nextLsn: Lsn) => void,
): void {
  const plan = planReplay(options.record, options.tails, options.from);
  const check = new ReplayCheck(plan, options.from);
  const finish = (error: HoldfastError | null): void => done(error, check.nextLsn);
  /** Runs a check; false when it found a fault, which ends the replay. */
  const holds = (verify: () => void): boolean => {
    try {
      verify();
      return true;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      finish(thrown);
      return false;
    }
  };
  const next = (index: number): void => {
    const span: ReplaySpan | undefined = plan.spans[index];
    if (span === undefined) {
      if (holds(() => check.end())) finish(null);
      return;
    }
    check.beginSpan(span);
    readBatches(
      reader,
      span,
      (batch) => {
        for (const record of check.batch(batch)) onRecord(record);
      },
      (error) => {
        if (error !== null) finish(error);
        else if (holds(() => check.endSpan())) next(index + 1);
      },
    );
  };
  if (plan.spans.length > 0) next(0);
  else reader.soon(() => next(0));
}
