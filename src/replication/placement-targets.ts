/**
 * How many replicas each disk should hold, ideally: shares by capacity, as even as these limits
 * allow: a node holds at most one replica of a group, a zone at most as many as there must be in
 * one.
 *
 * Shares are found by filling all disks to the same fraction of their capacity until the demand is
 * met (λ below), where nodes and zones stop at their limit and the others take more.
 */
import type { Incarnation, NodeId } from '../core/ids.js';

/** A disk that may hold replicas. */
export interface PlacementDisk {
  readonly node: NodeId;
  readonly incarnation: Incarnation;
  readonly zone: string;
  readonly capacityBytes: number;
}

export interface Targets {
  /** Replicas each group gets: fewer than asked when there are too few nodes. */
  readonly replicas: number;
  /** The most replicas of one group in one zone; 1 when there are enough zones. */
  readonly zoneLimit: number;
  readonly disks: ReadonlyMap<Incarnation, number>;
}

interface NodeShare {
  readonly disks: readonly PlacementDisk[];
  readonly weight: number;
}

/**
 * A disk counts as at least this part of the whole, so that the smallest one can be placed on too.
 */
const MIN_WEIGHT = 1e-9;
const BISECTIONS = 100;

export function placementTargets(
  disks: readonly PlacementDisk[],
  groups: number,
  replicas: number,
): Targets {
  const zones = byZone(disks);
  const nodeCount = [...zones.values()].reduce((sum, nodes) => sum + nodes.length, 0);
  const perGroup = Math.min(replicas, nodeCount);
  const zoneLimit = smallestZoneLimit([...zones.values()], perGroup);
  const shares = new Map<Incarnation, number>();
  const zoneCap = (nodes: readonly NodeShare[]): number =>
    groups * Math.min(nodes.length, zoneLimit);
  const zoneShare = (nodes: readonly NodeShare[], level: number): number =>
    Math.min(zoneCap(nodes), filled(nodes, level, groups));
  const level = solve(groups * perGroup, (tried) =>
    sum([...zones.values()].map((nodes) => zoneShare(nodes, tried))),
  );
  for (const nodes of zones.values()) {
    const share = zoneShare(nodes, level);
    const inside = solve(share, (tried) => filled(nodes, tried, groups));
    for (const node of nodes) {
      const nodeShare = Math.min(groups, inside * node.weight);
      for (const disk of node.disks) {
        const part =
          (weightOf(disk) + MIN_WEIGHT) / sum(node.disks.map((d) => weightOf(d) + MIN_WEIGHT));
        shares.set(disk.incarnation, nodeShare * part);
      }
    }
  }
  return { replicas: perGroup, zoneLimit, disks: shares };
}

/** How many replicas of one group a zone must take so that all find a place. */
function smallestZoneLimit(zones: readonly (readonly NodeShare[])[], replicas: number): number {
  for (let limit = 1; ; limit++) {
    if (sum(zones.map((nodes) => Math.min(nodes.length, limit))) >= replicas) return limit;
  }
}

function byZone(disks: readonly PlacementDisk[]): Map<string, NodeShare[]> {
  const total = sum(disks.map(weightOf)) || 1;
  const nodes = new Map<NodeId, PlacementDisk[]>();
  for (const disk of disks) nodes.set(disk.node, [...(nodes.get(disk.node) ?? []), disk]);
  const zones = new Map<string, NodeShare[]>();
  for (const own of nodes.values()) {
    const zone = (own[0] as PlacementDisk).zone;
    const weight = Math.max(MIN_WEIGHT, sum(own.map(weightOf)) / total);
    zones.set(zone, [...(zones.get(zone) ?? []), { disks: own, weight }]);
  }
  return zones;
}

function weightOf(disk: PlacementDisk): number {
  return Math.max(0, disk.capacityBytes);
}

function filled(nodes: readonly NodeShare[], level: number, groups: number): number {
  return sum(nodes.map((node) => Math.min(groups, level * node.weight)));
}

/** The smallest level (within rounding) at which `of` reaches `wanted`; `of` does not fall. */
function solve(wanted: number, of: (level: number) => number): number {
  let low = 0;
  let high = 1;
  while (of(high) < wanted && high < 1e18) high *= 2;
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break; // neighbouring numbers
    if (of(middle) < wanted) low = middle;
    else high = middle;
  }
  return high;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
