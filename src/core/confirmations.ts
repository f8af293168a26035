/**
 * What a storage node asks of the metadata store before it does what cannot be undone. The node
 * knows nothing of the store's model, nor the store of nodes: src/block asks this, and
 * src/metadata answers it.
 */
import type { Incarnation, SegmentId, VolumeId } from './ids.js';
import type { Revision, SegmentOffset } from './units.js';

/** 'unavailable' when no linearizable answer could be had: the node then changes nothing. */
export type Confirmation = 'confirmed' | 'refused' | 'unavailable';

/** What a COPY says of its segment, and the disk that is to have it. */
export interface CopyWanted {
  readonly volume: VolumeId;
  readonly segment: SegmentId;
  readonly incarnation: Incarnation;
  readonly end: SegmentOffset;
  readonly crc: number;
}

/** Linearizable reads of the metadata store on behalf of SEAL, COPY, DELETE and DROP. */
export interface Confirmations {
  /** Is this segment sealed in the volume's record with exactly this end and crc? */
  sealed(
    volume: VolumeId,
    segment: SegmentId,
    end: SegmentOffset,
    crc: number,
    done: (answer: Confirmation) => void,
  ): void;
  /**
   * Is it sealed so, and is this disk named as one that has a copy, or that is to get one? A copy
   * made without that would be known to nobody.
   */
  copyable(wanted: CopyWanted, done: (answer: Confirmation) => void): void;
  /**
   * Does nothing count on this disk's copy: the segment is sealed and has its copies on other
   * disks, or it was deleted while this disk was to get one?
   */
  droppable(
    volume: VolumeId,
    segment: SegmentId,
    incarnation: Incarnation,
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
