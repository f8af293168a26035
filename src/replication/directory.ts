/**
 * What an owner knows of the cluster without asking: nodes' addresses and the placement table, kept
 * by a watch (metadata/directory-cache.ts) and still usable, though perhaps stale, when the
 * metadata store is down.
 */
import type { NodeId } from '../core/ids.js';
import type { Address } from '../io/network.js';
import type { NodeRecord, PlacementRecord } from '../metadata/model.js';

export interface Directory {
  /** Null for a node that never registered or was removed. */
  address(node: NodeId): Address | null;
  nodes(): readonly NodeRecord[];
  /** Whether the node's liveness key stands. A hint only. */
  isLive(node: NodeId): boolean;
  placement(replicas: number): PlacementRecord | null;
}
