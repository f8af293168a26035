/**
 * Linearizable answers to a storage node that is about to seal, complete or delete a segment.
 * Whatever is not read as a plain yes confirms nothing: a missing record is no evidence that a
 * segment is dead.
 */
import type { Confirmation, Confirmations, CopyWanted } from '../core/confirmations.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import type { Revision, SegmentOffset } from '../core/units.js';
import type { Log } from '../io/log.js';
import { decodeStored } from './encoding.js';
import { chunkKey, volumeKey } from './keys.js';
import type { SealedSegment, VolumeHead } from './model.js';
import { names, type ReplicaMove, readMove } from './replica-moves.js';
import type { ChunkEntry } from './sealed-chunks.js';
import type { MetadataStore } from './store.js';
import { chunkOf, readChunks, type StoredChunk, versionedHead } from './stored-volume.js';

/** Finds what the volume's record says of a sealed segment; null when it does not list it. */
type Look = (segment: SegmentId) => Promise<ChunkEntry | null>;
type Holds = (head: VolumeHead, look: Look, modRevision: Revision) => Promise<boolean>;

/** Segments whose chunk is remembered, of all volumes: about 100 bytes each. */
const PLACES_MAX = 200_000;

/**
 * INVARIANT: the answer rests on the head, and on the one chunk that has the segment, each read
 * after the question came. Where a segment stands is remembered, what is said of it never is.
 */
export class MetadataConfirmations implements Confirmations {
  readonly #store: MetadataStore;
  readonly #log: Log;
  /** Segment → chunk number, as last seen. */
  readonly #places = new Map<SegmentId, number>();

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
    const ask = async (head: VolumeHead, look: Look): Promise<boolean> => {
      if (head.trash?.purging === true) return false;
      const entry = await look(segment);
      return entry !== null && !entry.dead && entry.sealed.end === end && entry.sealed.crc === crc;
    };
    void this.#ask(volume, ask).then(done);
  }

  /** Is it sealed so, and named for this disk by its list of replicas or by its move? */
  copyable(wanted: CopyWanted, done: (answer: Confirmation) => void): void {
    const { volume, segment, incarnation, end, crc } = wanted;
    void this.#ofMove(volume, segment, ({ filling }) =>
      this.#hold(volume, async (head, look) => {
        const sealed = await alive(head, look, segment);
        if (sealed === null || sealed.end !== end || sealed.crc !== crc) return false;
        return names([...sealed.replicas, filling], incarnation);
      }),
    ).then(done);
  }

  /**
   * Does nothing count on this disk's copy? Of a segment that the volume does not list (any more)
   * only if its move says that this disk may have one: ignorance is no evidence.
   */
  droppable(
    volume: VolumeId,
    segment: SegmentId,
    incarnation: Incarnation,
    done: (answer: Confirmation) => void,
  ): void {
    void this.#ofMove(volume, segment, async ({ filling, leaving }) => {
      const isLeft = names([filling, ...leaving], incarnation);
      const answer = await this.#hold(volume, async (head, look) => {
        if ([...head.open, ...head.planned].some((one) => one.segment === segment)) return false;
        const sealed = await alive(head, look, segment);
        if (sealed === null) return isLeft;
        return !names([...sealed.replicas, filling], incarnation);
      });
      // A volume that is gone was purged, if the move that was made for it is still there.
      return answer === 'missing' && isLeft ? 'confirmed' : answer;
    }).then(done);
  }

  /** Reads the segment's move before anything else: see replica-moves.ts. */
  async #ofMove(
    volume: VolumeId,
    segment: SegmentId,
    decide: (move: ReplicaMove) => Promise<Confirmation | 'missing'>,
  ): Promise<Confirmation> {
    try {
      const answer = await decide(await readMove(this.#store, volume, segment));
      return answer === 'missing' ? 'refused' : answer;
    } catch (thrown) {
      return this.#unavailable(volume, thrown);
    }
  }

  /** Is this segment in the volume's pendingDelete, in a record no older than `revision`? */
  deletable(
    volume: VolumeId,
    segment: SegmentId,
    revision: Revision,
    done: (answer: Confirmation) => void,
  ): void {
    const ask = async (head: VolumeHead, look: Look, modRevision: Revision): Promise<boolean> => {
      if (modRevision < revision) return false;
      if (head.pendingDelete.some((one) => one.segment === segment)) return true;
      const entry = await look(segment);
      return entry !== null && (entry.dead || head.trash?.purging === true);
    };
    void this.#ask(volume, ask).then(done);
  }

  /** What the volume's chunks say of the segment; null when none has it. */
  async #entry(head: VolumeHead, segment: SegmentId): Promise<ChunkEntry | null> {
    const { volume, log } = head;
    const number = this.#places.get(segment) ?? log.newestChunk;
    if (number === null) return null;
    const { entry: found } = await this.#store.get(chunkKey(volume, number));
    const chunks = found === null ? [] : [chunkOf(volume, found)];
    return this.#find(chunks, segment) ?? (await this.#search(volume, segment));
  }

  /** A segment never moves to another chunk, but an import may cut them differently. */
  async #search(volume: VolumeId, segment: SegmentId): Promise<ChunkEntry | null> {
    this.#places.delete(segment);
    return this.#find((await readChunks(this.#store, volume)).chunks, segment);
  }

  #find(chunks: readonly StoredChunk[], segment: SegmentId): ChunkEntry | null {
    let found: ChunkEntry | null = null;
    for (const { number, entries } of chunks) {
      for (const entry of entries) {
        if (this.#places.size >= PLACES_MAX) this.#places.clear();
        this.#places.set(entry.sealed.segment, number);
        if (entry.sealed.segment === segment) found = entry;
      }
    }
    return found;
  }

  async #ask(volume: VolumeId, holds: Holds): Promise<Confirmation> {
    try {
      const answer = await this.#hold(volume, holds);
      return answer === 'missing' ? 'refused' : answer;
    } catch (thrown) {
      return this.#unavailable(volume, thrown);
    }
  }

  async #hold(volume: VolumeId, holds: Holds): Promise<Confirmation | 'missing'> {
    const { entry } = await this.#store.get(volumeKey(volume));
    if (entry === null) return 'missing';
    const { record: head, modRevision } = versionedHead(volume, entry);
    const stored = decodeStored(entry.value);
    const look: Look = async (segment) => {
      if (stored.type === 'head') return this.#entry(head, segment);
      const sealed = stored.record.sealed.find((one) => one.segment === segment);
      return sealed === undefined ? null : { sealed, dead: false };
    };
    return (await holds(head, look, modRevision)) ? 'confirmed' : 'refused';
  }

  #unavailable(volume: VolumeId, thrown: unknown): 'unavailable' {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    const fields = { volume, code: thrown.code, error: thrown.message };
    this.#log.warn(fields, 'The metadata store could not confirm a request; nothing is changed.');
    return 'unavailable';
  }
}

/** The segment as sealed, unless it has been given up. */
async function alive(
  head: VolumeHead,
  look: Look,
  segment: SegmentId,
): Promise<SealedSegment | null> {
  if (head.trash?.purging === true) return null;
  const entry = await look(segment);
  return entry === null || entry.dead ? null : entry.sealed;
}
