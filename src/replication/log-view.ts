/**
 * A log read without owning it, from copies that the caller knows to answer: for reports about what
 * is left. What it gives may be older than what an owner has, and nothing is waited for.
 */
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { VolumeOwner } from './owner-api.js';
import type { SegmentReader } from './reader.js';
import type { ReadSource } from './reader-core.js';
import { replayLog } from './replay.js';
import type { ReplayTail } from './replay-core.js';

export type LogView = Pick<VolumeOwner, 'readPages' | 'replay'>;

/** `record` and `tails`: with no other replicas than those to be asked; none: all of it is lost. */
export function logView(
  reader: SegmentReader,
  record: VolumeRecord,
  tails: readonly ReplayTail[],
): LogView {
  const sources = new Map<SegmentId, ReadSource>();
  for (const one of [...record.sealed, ...tails.map(({ segment }) => segment)]) {
    sources.set(one.segment, one);
  }
  return {
    readPages: (segment, page, count, done) => {
      const source = sources.get(segment);
      if (source !== undefined) return reader.readPages(source, page, count, done);
      const error = new HoldfastError('NOT_FOUND', `segment ${segment} is not in the log`);
      reader.soon(() => done(error, null));
    },
    replay: (from, onRecord, done) => {
      replayLog(reader, { record, tails, from }, onRecord, (error) => done(error));
    },
  };
}
