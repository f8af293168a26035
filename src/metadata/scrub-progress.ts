/**
 * How far each node has verified its copies, in the metadata store: what it goes on from after a
 * restart, and what `status` and `node show` tell. A key a node, which that node alone writes.
 */
import { z } from 'zod';
import { malformed } from '../core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import { parseJson } from './encoding.js';
import { nodeOfKey, SCRUBS, scrubKey } from './keys.js';
import { METADATA_SCHEMA } from './model.js';
import { notRemoved } from './node-states.js';
import type { MetadataStore } from './store.js';

/** Rotten copies of a disk that are told of one by one; the others only count. */
export const SCRUB_ROTTEN_MAX = 32;

const id = z.string().regex(/^[0-9a-f]{32}$/);
const count = z.int().min(0);
const rotten = z.object({ segment: id, volume: id, why: z.string().max(1_000) });
const disk = z.object({
  incarnation: id,
  /** When the newest pass began, ISO 8601; null: none has. */
  startedAt: z.string().nullable(),
  /** When the last whole pass ended; null: none has. */
  endedAt: z.string().nullable(),
  /** The pass goes on behind this segment, in the order of ids; null: none is under way. */
  after: id.nullable(),
  /** Copies of which something was rotten, and that were made good, since the disk is in use. */
  repaired: count,
  /** Copies that are rotten and could not be made good, and the first of them. */
  rotten: count,
  first: z.array(rotten),
});
const stored = z.object({ schema: z.literal(METADATA_SCHEMA), disks: z.array(disk) });

export interface RottenCopy {
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  readonly why: string;
}

export interface DiskScrub {
  readonly incarnation: Incarnation;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly after: SegmentId | null;
  readonly repaired: number;
  readonly rotten: number;
  readonly first: readonly RottenCopy[];
}

/** Of all nodes that have told anything. Throws MALFORMED or VERSION. */
export async function readScrubs(store: MetadataStore): Promise<Map<NodeId, DiskScrub[]>> {
  const { entries } = await store.range(SCRUBS);
  return new Map(entries.map(({ key, value }) => [nodeOfKey(key, SCRUBS), decoded(value)]));
}

export async function readScrub(store: MetadataStore, node: NodeId): Promise<DiskScrub[]> {
  const { entry } = await store.get(scrubKey(node));
  return entry === null ? [] : decoded(entry.value);
}

/** Does nothing for a node that was removed from the cluster. */
export async function writeScrub(
  store: MetadataStore,
  node: NodeId,
  disks: readonly DiskScrub[],
): Promise<void> {
  const value = JSON.stringify({ schema: METADATA_SCHEMA, disks });
  await store.transact([notRemoved(node)], [{ type: 'put', key: scrubKey(node), value }]);
}

function decoded(json: string): DiskScrub[] {
  const parsed = stored.safeParse(parseJson(json, 'scrub progress', METADATA_SCHEMA));
  if (!parsed.success) throw malformed('scrub progress: not what it should be');
  return parsed.data.disks as unknown as DiskScrub[];
}
