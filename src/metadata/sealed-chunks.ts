/**
 * Chunks: where the sealed segments of a volume stand in the store, so that a swap writes a bounded
 * number of bytes however long the log is. Chunk numbers and the order within a chunk give the
 * order of the log; new segments go to the last chunk, or to a new one behind it when that is full.
 * A segment stays in its chunk until its replicas are deleted, marked as dead when it is given up;
 * a chunk that becomes empty is removed.
 *
 * Chunks change in the transactions of the head (stored-volume.ts), except for the replicas of a
 * segment: those may be changed by compare-and-swap on the chunk alone.
 */
import { z } from 'zod';
import { assert } from '../core/assert.js';
import { malformed } from '../core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import { KIB, lsn, offset, epoch as toEpoch } from '../core/units.js';
import { parseJson } from './encoding.js';
import type { Replica, SealedSegment } from './model.js';

/** Written into every chunk; a newer one is refused. */
const SCHEMA = 1;
/** Segments of one chunk. At most 85 bytes each, and 75 for each disk that holds any of them. */
export const CHUNK_SEGMENTS = 128;
export const CHUNK_MAX_BYTES = 64 * KIB;

export interface ChunkEntry {
  readonly sealed: SealedSegment;
  /** Given up: to be deleted on its replicas. */
  readonly dead: boolean;
}

const hex = z.string().regex(/^[0-9a-f]{32}$/);
const count = z.int().min(0);
const chunk = z.strictObject({
  schema: z.literal(SCHEMA),
  volume: hex,
  /** Node and incarnation: segments name them by their index. */
  disks: z.array(z.tuple([hex, hex])),
  /** Segment, group, createEpoch, end, endLsn, crc, dead (0 or 1), indexes of disks. */
  segments: z.array(
    z.tuple([hex, count, count, count, count, count, z.int().min(0).max(1), z.array(count)]),
  ),
});

export function encodeChunk(volume: VolumeId, entries: readonly ChunkEntry[]): string {
  const indexes = new Map<string, number>();
  const disks: [string, string][] = [];
  const indexOf = ({ node, incarnation }: Replica): number => {
    const key = node + incarnation;
    const known = indexes.get(key);
    if (known !== undefined) return known;
    indexes.set(key, disks.length);
    disks.push([node, incarnation]);
    return disks.length - 1;
  };
  const segments = entries.map(({ sealed, dead }) => {
    const { segment, group, createEpoch, end, endLsn, crc, replicas } = sealed;
    return [segment, group, createEpoch, end, endLsn, crc, dead ? 1 : 0, replicas.map(indexOf)];
  });
  const json = JSON.stringify({ schema: SCHEMA, volume, disks, segments });
  assert(json.length <= CHUNK_MAX_BYTES, `a chunk of ${json.length} bytes`);
  return json;
}

/** Throws MALFORMED or VERSION. What a record requires is checked where it is put together. */
export function decodeChunk(volume: VolumeId, json: string): ChunkEntry[] {
  const what = `chunk of volume ${volume}`;
  const parsed = chunk.safeParse(parseJson(json, what, SCHEMA));
  if (!parsed.success) throw malformed(`${what}: ${parsed.error.issues[0]?.message}`);
  if (parsed.data.volume !== volume) throw malformed(`${what}: it is of ${parsed.data.volume}`);
  const disks = parsed.data.disks.map(([node, incarnation]): Replica => {
    return { node: node as NodeId, incarnation: incarnation as Incarnation };
  });
  return parsed.data.segments.map((one) => {
    const [segment, group, createEpoch, end, endLsn, crc, dead, at] = one;
    const replicas = at.map((index) => {
      const disk = disks[index];
      if (disk === undefined) throw malformed(`${what}: disk ${index} is not listed`);
      return disk;
    });
    const sealed: SealedSegment = {
      segment: segment as SegmentId,
      group,
      createEpoch: toEpoch(createEpoch),
      replicas,
      end: offset(end),
      endLsn: lsn(endLsn),
      crc,
    };
    return { sealed, dead: dead === 1 };
  });
}
