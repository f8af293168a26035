/**
 * The placement table in the metadata store: brought up to date when nodes register
 * (updatePlacement), and asked by the owner for a healthy group when it plans a segment
 * (chooseGroup).
 */
import { isDeepStrictEqual } from 'node:util';
import { HoldfastError } from '../core/errors.js';
import type { NodeId } from '../core/ids.js';
import { REPLICA_COUNTS } from '../core/limits.js';
import { revision } from '../core/units.js';
import type { Random } from '../io/random.js';
import { decodeNode, decodePlacement, encodePlacement } from '../metadata/encoding.js';
import { NODES, PLACEMENT, placementKey } from '../metadata/keys.js';
import { RANGE_PAGE } from '../metadata/limits.js';
import { METADATA_SCHEMA, type NodeRecord, type Replica } from '../metadata/model.js';
import { readNodeWishes } from '../metadata/node-states.js';
import type { KeyValue, MetadataStore } from '../metadata/store.js';
import type { Directory } from './directory.js';
import { placeGroups } from './placement.js';
import type { PlacementDisk } from './placement-targets.js';

const RETRIES = 20;

export function disksOfNodes(nodes: readonly NodeRecord[]): PlacementDisk[] {
  return nodes.flatMap(({ node, zone, disks }) =>
    disks.map(({ incarnation, capacityBytes }) => ({ node, zone, incarnation, capacityBytes })),
  );
}

/**
 * Makes the stored tables fit the registered nodes that are not drained, each by compare-and-swap;
 * idempotent, and safe to run on several nodes at once. Groups are shorter than the replica count
 * while there are too few nodes. Returns the replica counts whose table changed. Throws CONFLICT
 * (retryable) if others keep changing it.
 */
export async function updatePlacement(store: MetadataStore): Promise<number[]> {
  const changed: number[] = [];
  for (let attempt = 0; attempt < RETRIES; attempt++) {
    // The tables are read before the nodes: whoever swaps later has seen every node that an earlier
    // one saw.
    const { entries } = await store.range(PLACEMENT);
    const nodes = await registeredNodes(store);
    const wishes = await readNodeWishes(store);
    const disks = disksOfNodes(nodes.filter(({ node }) => wishes.get(node)?.drain === undefined));
    let isDone = true;
    for (const replicas of REPLICA_COUNTS) {
      const entry = entries.find(({ key }) => key === placementKey(replicas)) ?? null;
      const outcome = await updateTable(store, disks, replicas, entry);
      if (outcome === 'changed') changed.push(replicas);
      if (outcome === 'conflict') isDone = false;
    }
    if (isDone) return changed;
  }
  throw new HoldfastError('CONFLICT', 'the placement tables change all the time', {
    retryable: true,
  });
}

async function updateTable(
  store: MetadataStore,
  disks: readonly PlacementDisk[],
  replicas: number,
  entry: KeyValue | null,
): Promise<'fits' | 'changed' | 'conflict'> {
  const before = entry === null ? null : decodePlacement(entry.value);
  const groups = placeGroups(disks, before?.groups ?? null, replicas);
  if (isDeepStrictEqual(groups, before?.groups)) return 'fits';
  const key = placementKey(replicas);
  const value = encodePlacement({ schema: METADATA_SCHEMA, replicas, groups });
  const compare = [{ key, modRevision: entry?.modRevision ?? revision(0) }];
  const { committed } = await store.transact(compare, [{ type: 'put', key, value }]);
  return committed ? 'changed' : 'conflict';
}

async function registeredNodes(store: MetadataStore): Promise<NodeRecord[]> {
  const nodes: NodeRecord[] = [];
  for (let after: string | undefined; ; ) {
    const options = { limit: RANGE_PAGE, ...(after === undefined ? {} : { after }) };
    const page = await store.range(NODES, options);
    for (const { value } of page.entries) nodes.push(decodeNode(value));
    after = page.entries.at(-1)?.key;
    if (!page.more || after === undefined) return nodes;
  }
}

export interface GroupWish {
  readonly replicas: number;
  /** A group with fewer replicas than this is of no use. */
  readonly ackQuorum: number;
  /** Nodes that the owner itself has found bad: they count as not live. */
  readonly avoid: ReadonlySet<NodeId>;
}

export interface ChosenGroup {
  readonly group: number;
  readonly replicas: readonly Replica[];
}

/**
 * A random one among the healthiest groups: most live replicas first, then fewest that are not.
 * Liveness is a hint, so a group is given as long as one has ackQuorum replicas at all; null when
 * none has.
 */
export function chooseGroup(
  directory: Directory,
  wish: GroupWish,
  random: Random,
): ChosenGroup | null {
  const groups = directory.placement(wish.replicas)?.groups ?? [];
  let best: ChosenGroup[] = [];
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const [group, replicas] of groups.entries()) {
    if (replicas.length < wish.ackQuorum) continue;
    const live = replicas.filter(
      ({ node }) => directory.isLive(node) && !wish.avoid.has(node),
    ).length;
    const score = live * 100 - (replicas.length - live);
    if (score > bestScore) {
      best = [];
      bestScore = score;
    }
    if (score === bestScore) best.push({ group, replicas });
  }
  return best[Math.floor(random.fraction() * best.length)] ?? null;
}
