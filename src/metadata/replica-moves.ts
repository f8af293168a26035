/**
 * Moves of replicas: how the list of a sealed segment's replicas is changed, without its owner, so
 * that at any moment the store names every disk that has, or may have, a copy. Beside the list (in
 * a chunk, sealed-chunks.ts) stands a move, while there is one:
 *
 *   begin    the move names a disk that is to get a copy (`filling`); COPY is allowed there
 *   finish   in one transaction the disk joins the list, another one leaves it, and the move says
 *            that the latter may still have its copy (`leaving`); only after the COPY was answered
 *   abandon  the disk to be filled is `leaving` instead
 *   note     a disk that has a copy although nothing names it is `leaving` from then on
 *   forget   a disk that has answered a DROP, or is gone for good, leaves the move
 *
 * INVARIANT: no copy is removed that a list or `filling` names. A DROP is confirmed by reading the
 * move first and the list after it: a disk named in between is filled anew, and its node begins no
 * COPY before the DROP has its answer.
 */
import { z } from 'zod';
import { HoldfastError, malformed } from '../core/errors.js';
import { type Incarnation, isId, type SegmentId, type VolumeId } from '../core/ids.js';
import { type Revision, revision } from '../core/units.js';
import { parseJson } from './encoding.js';
import { chunkKey, ROOT } from './keys.js';
import { RANGE_PAGE } from './limits.js';
import { METADATA_SCHEMA, type Replica } from './model.js';
import { notRemoved } from './node-states.js';
import { type ChunkEntry, encodeChunk } from './sealed-chunks.js';
import type { Compare, KeyValue, MetadataStore, Operation } from './store.js';
import type { StoredChunk, VersionedVolume } from './stored-volume.js';

export const MOVES = `${ROOT}moves/`;

export interface ReplicaMove {
  readonly filling: Replica | null;
  /** What `filling` takes the place of for the sake of balance; null: whatever counts least. */
  readonly instead: Replica | null;
  /** Disks that were replaced, or not filled after all, and may have a copy. */
  readonly leaving: readonly Replica[];
}

export interface VersionedMove extends ReplicaMove {
  readonly volume: VolumeId;
  readonly segment: SegmentId;
  /** 0: it is not in the store. */
  readonly modRevision: Revision;
}

/** Others changed it meanwhile: read again. Unknown: it may have happened. */
export type MoveOutcome = 'done' | 'changed' | 'unknown';

const LEAVING_MAX = 64;

const id = z.string().regex(/^[0-9a-f]{32}$/);
const replica = z.strictObject({ node: id, incarnation: id });
const stored = z.strictObject({
  schema: z.literal(METADATA_SCHEMA),
  filling: replica.nullable(),
  instead: replica.nullable(),
  leaving: z.array(replica).max(LEAVING_MAX),
});

function moveKey(volume: VolumeId, segment: SegmentId): string {
  return `${MOVES}${volume}/${segment}`;
}

function decodeMove({ key, value, modRevision }: KeyValue): VersionedMove {
  const [volume = '', segment = ''] = key.slice(MOVES.length).split('/');
  if (!isId(volume) || !isId(segment)) throw malformed(`"${key}" names no segment`);
  const parsed = stored.safeParse(parseJson(value, `move of ${segment}`, METADATA_SCHEMA));
  if (!parsed.success) throw malformed(`move of ${segment}: ${parsed.error.issues[0]?.message}`);
  const { filling, instead, leaving } = parsed.data as unknown as ReplicaMove;
  const ids = { volume: volume as VolumeId, segment: segment as SegmentId };
  return { ...ids, filling, instead, leaving, modRevision };
}

function noMove(volume: VolumeId, segment: SegmentId): VersionedMove {
  const none = { filling: null, instead: null, leaving: [] };
  return { volume, segment, ...none, modRevision: revision(0) };
}

export async function readMove(
  store: MetadataStore,
  volume: VolumeId,
  segment: SegmentId,
): Promise<VersionedMove> {
  const { entry } = await store.get(moveKey(volume, segment));
  return entry === null ? noMove(volume, segment) : decodeMove(entry);
}

/** All moves. Pages are read one after another: not one moment's view. */
export async function listMoves(store: MetadataStore): Promise<VersionedMove[]> {
  const moves: VersionedMove[] = [];
  for (let after: string | undefined; ; ) {
    const options = { limit: RANGE_PAGE, ...(after === undefined ? {} : { after }) };
    const page = await store.range(MOVES, options);
    for (const entry of page.entries) moves.push(decodeMove(entry));
    after = page.entries.at(-1)?.key;
    if (!page.more || after === undefined) return moves;
  }
}

/** Where a segment stands: the chunk to compare, and its entry there. */
interface Place {
  readonly chunk: StoredChunk;
  readonly entry: ChunkEntry;
}

function placeOf({ chunks, record }: VersionedVolume, segment: SegmentId): Place | null {
  if (record.trash?.purging === true) return null;
  for (const chunk of chunks) {
    const entry = chunk.entries.find(({ sealed }) => sealed.segment === segment);
    if (entry !== undefined) return entry.dead ? null : { chunk, entry };
  }
  return null;
}

/** Changes moves under the guard of whoever leads. */
export class ReplicaMoves {
  readonly #store: MetadataStore;
  readonly #guard: () => readonly Compare[] | null;

  /** `guard`: what is compared besides; null: nothing may be changed (any more). */
  constructor(store: MetadataStore, guard: () => readonly Compare[] | null) {
    this.#store = store;
    this.#guard = guard;
  }

  /** Names the disk that is to get a copy. */
  begin(
    volume: VersionedVolume,
    move: VersionedMove,
    to: Replica,
    instead: Replica | null,
  ): Promise<MoveOutcome> {
    const place = placeOf(volume, move.segment);
    if (place === null || move.filling !== null) return Promise.resolve('changed');
    const leaving = without(move.leaving, to);
    const chunk = chunkKey(move.volume, place.chunk.number);
    return this.#transact(
      [{ key: chunk, modRevision: place.chunk.modRevision }],
      move,
      { filling: plain(to), instead, leaving },
      [],
    );
  }

  /**
   * The copy is complete: `filling` joins the list, and `drop`, if any, leaves it. Not where the
   * node of `filling` was removed meanwhile: what it holds does not count, and it may be wiped.
   */
  finish(volume: VersionedVolume, move: VersionedMove, drop: Replica | null): Promise<MoveOutcome> {
    const place = placeOf(volume, move.segment);
    const { filling } = move;
    if (place === null || filling === null) return Promise.resolve('changed');
    const { number, modRevision, entries } = place.chunk;
    const kept =
      drop === null ? place.entry.sealed.replicas : without(place.entry.sealed.replicas, drop);
    const replicas = [...without(kept, filling), filling];
    const changed = entries.map((one) =>
      one === place.entry ? { ...one, sealed: { ...one.sealed, replicas } } : one,
    );
    const key = chunkKey(move.volume, number);
    const leaving = drop === null ? move.leaving : [...without(move.leaving, drop), plain(drop)];
    const compare = [{ key, modRevision }, notRemoved(filling.node)];
    return this.#transact(compare, move, { filling: null, instead: null, leaving }, [
      { type: 'put', key, value: encodeChunk(move.volume, changed) },
    ]);
  }

  /** The copy is not made after all; what there is of it is to be removed. */
  abandon(move: VersionedMove): Promise<MoveOutcome> {
    const { filling } = move;
    if (filling === null) return Promise.resolve('changed');
    const leaving = [...without(move.leaving, filling), filling];
    return this.#transact([], move, { filling: null, instead: null, leaving }, []);
  }

  /** `on` has a copy of a segment that is alive, and nothing has named it so far. */
  note(volume: VersionedVolume, move: VersionedMove, on: Replica): Promise<MoveOutcome> {
    const place = placeOf(volume, move.segment);
    const { filling, instead, leaving } = move;
    const named = [...(place?.entry.sealed.replicas ?? []), filling, ...leaving];
    const isFull = leaving.length >= LEAVING_MAX;
    if (place === null || isFull || names(named, on.incarnation)) return Promise.resolve('changed');
    const { number, modRevision } = place.chunk;
    const compare = [{ key: chunkKey(move.volume, number), modRevision }];
    return this.#transact(
      compare,
      move,
      { filling, instead, leaving: [...leaving, plain(on)] },
      [],
    );
  }

  /** A disk has no copy any more, or is gone for good. */
  forget(move: VersionedMove, replica: Replica): Promise<MoveOutcome> {
    const { filling, instead } = move;
    const leaving = without(move.leaving, replica);
    const isFilling = filling?.incarnation === replica.incarnation;
    return this.#transact([], move, { filling: isFilling ? null : filling, instead, leaving }, []);
  }

  async #transact(
    compare: readonly Compare[],
    { volume, segment, modRevision }: VersionedMove,
    after: ReplicaMove,
    operations: readonly Operation[],
  ): Promise<MoveOutcome> {
    const key = moveKey(volume, segment);
    const isOver = after.filling === null && after.leaving.length === 0;
    const change: Operation = isOver
      ? { type: 'delete', key }
      : { type: 'put', key, value: JSON.stringify({ schema: METADATA_SCHEMA, ...after }) };
    const guard = this.#guard();
    if (guard === null) return 'changed';
    try {
      const all = [...guard, { key, modRevision }, ...compare];
      const { committed } = await this.#store.transact(all, [change, ...operations]);
      return committed ? 'done' : 'changed';
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'UNKNOWN_OUTCOME') return 'unknown';
      throw thrown;
    }
  }
}

function without(list: readonly Replica[], gone: Replica): Replica[] {
  return list.filter(({ incarnation }) => incarnation !== gone.incarnation);
}

function plain({ node, incarnation }: Replica): Replica {
  return { node, incarnation };
}

export function names(list: readonly (Replica | null)[], disk: Incarnation): boolean {
  return list.some((one) => one?.incarnation === disk);
}

/** The move of a segment in what `listMoves` gave. */
export function moveOf(
  moves: ReadonlyMap<SegmentId, VersionedMove>,
  volume: VolumeId,
  segment: SegmentId,
): VersionedMove {
  return moves.get(segment) ?? noMove(volume, segment);
}
