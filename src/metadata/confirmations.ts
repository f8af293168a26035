/**
 * Linearizable answers to a storage node that is about to seal, complete or delete a segment. It
 * fits block's Confirmations; src/cli puts the two together, since neither layer knows the other.
 * Whatever is not read as a plain yes confirms nothing: a missing record is no evidence that a
 * segment is dead.
 */
import { HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { Revision, SegmentOffset } from '../core/units.js';
import type { Log } from '../io/log.js';
import { decodeVolume } from './encoding.js';
import { volumeKey } from './keys.js';
import type { VolumeRecord } from './model.js';
import type { MetadataStore } from './store.js';

/** As in src/block/seams.ts. */
export type Confirmation = 'confirmed' | 'refused' | 'unavailable';

export class MetadataConfirmations {
  readonly #store: MetadataStore;
  readonly #log: Log;

  constructor(store: MetadataStore, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** Is this segment sealed in the volume's record with exactly this end and crc? */
  sealed(
    volume: VolumeId,
    segment: SegmentId,
    end: SegmentOffset,
    crc: number,
    done: (answer: Confirmation) => void,
  ): void {
    const holds = (record: VolumeRecord): boolean =>
      record.sealed.some((one) => one.segment === segment && one.end === end && one.crc === crc);
    void this.#ask(volume, holds).then(done);
  }

  /** Is this segment in the volume's pendingDelete, in a record no older than `revision`? */
  deletable(
    volume: VolumeId,
    segment: SegmentId,
    revision: Revision,
    done: (answer: Confirmation) => void,
  ): void {
    const holds = (record: VolumeRecord, modRevision: Revision): boolean =>
      modRevision >= revision && record.pendingDelete.some((one) => one.segment === segment);
    void this.#ask(volume, holds).then(done);
  }

  async #ask(
    volume: VolumeId,
    holds: (record: VolumeRecord, modRevision: Revision) => boolean,
  ): Promise<Confirmation> {
    try {
      const { entry } = await this.#store.get(volumeKey(volume));
      if (entry === null) return 'refused';
      const record = decodeVolume(entry.value);
      if (record.volume !== volume) return 'unavailable';
      return holds(record, entry.modRevision) ? 'confirmed' : 'refused';
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const fields = { volume, code: thrown.code, error: thrown.message };
      this.#log.warn(fields, 'The metadata store could not confirm a request; nothing is changed.');
      return 'unavailable';
    }
  }
}
