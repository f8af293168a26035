/**
 * What the storage node asks of the world besides disk, clock and network. A node knows nothing of
 * the metadata store's model; the program that composes it (src/cli, or the simulator) answers
 * these.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { Revision, SegmentOffset } from '../core/units.js';

/** 'unavailable' when no linearizable answer could be had: the node then changes nothing. */
export type Confirmation = 'confirmed' | 'refused' | 'unavailable';

/**
 * Linearizable reads of the metadata store on behalf of SEAL, COPY, DELETE and collection of leaks.
 */
export interface Confirmations {
  /** Is this segment sealed in the volume's record with exactly this end and crc? */
  sealed(
    volume: VolumeId,
    segment: SegmentId,
    end: SegmentOffset,
    crc: number,
    done: (answer: Confirmation) => void,
  ): void;
  /** Is this segment in the volume's pendingDelete, in a record no older than `revision`? */
  deletable(
    volume: VolumeId,
    segment: SegmentId,
    revision: Revision,
    done: (answer: Confirmation) => void,
  ): void;
}
