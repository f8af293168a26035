/**
 * Repair changes where the replicas of sealed segments are by compare-and-swap on a chunk alone. An
 * owner that hears of such a chunk takes the new places over into the record that it knows, so that
 * it reads from where the copies are and its next swap of that chunk is made from it.
 */
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { SealedSegment } from './model.js';
import { placesOf } from './record-invariant.js';
import type { ChunkEntry } from './sealed-chunks.js';
import type { KeyValue } from './store.js';
import { chunkOf, type StoredChunk, type VersionedVolume } from './stored-volume.js';

/**
 * The volume with the places that these chunks name; null when they are not newer. A chunk whose
 * segments are others than known was changed by a swap: it is left to the next reading.
 */
export function movedTo(known: VersionedVolume, told: readonly KeyValue[]): VersionedVolume | null {
  const newer = told.flatMap((entry) => {
    const found = decoded(known, entry);
    const was = known.chunks.find(({ number }) => number === found?.number);
    const isNews = found !== null && was !== undefined && found.modRevision > was.modRevision;
    return isNews && hasSameSegments(was, found) ? [[was, found] as const] : [];
  });
  if (newer.length === 0) return null;
  const moved = new Map<SegmentId, SealedSegment>();
  const chunks = [...known.chunks];
  for (const [was, found] of newer) {
    const entries = found.entries.map((entry, index): ChunkEntry => {
      const before = was.entries[index] as ChunkEntry;
      const { sealed } = entry;
      const places = { name: 'sealed', segment: sealed } as const;
      if (placesOf(places) === placesOf({ ...places, segment: before.sealed })) return before;
      moved.set(sealed.segment, sealed);
      return entry;
    });
    chunks[chunks.indexOf(was)] = { ...found, entries };
  }
  const { record } = known;
  const sealed = record.sealed.map((one) => moved.get(one.segment) ?? one);
  const pendingDelete = record.pendingDelete.map((one) => {
    const replicas = moved.get(one.segment)?.replicas;
    return replicas === undefined ? one : { ...one, replicas };
  });
  return { ...known, chunks, record: { ...record, sealed, pendingDelete } };
}

/** Null for what cannot be read: the next reading of the record says why. */
function decoded(known: VersionedVolume, entry: KeyValue): StoredChunk | null {
  try {
    return chunkOf(known.record.volume, entry, known);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return null;
    throw thrown;
  }
}

function hasSameSegments(a: StoredChunk, b: StoredChunk): boolean {
  if (a.entries.length !== b.entries.length) return false;
  return a.entries.every(({ sealed, dead }, index) => {
    const other = b.entries[index];
    return other?.sealed.segment === sealed.segment && other.dead === dead;
  });
}
