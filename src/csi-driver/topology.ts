/**
 * Where volumes can be used: everywhere. So a volume gets no topology of its own, and a pod may
 * move to zones that did not exist when it was made, unless its orchestrator asked for less than
 * all zones; then that is kept.
 */
import { invalidArgument } from './checks.js';
import { CsiError } from './errors.js';
import type { Topology, TopologyRequirement } from './messages.js';

export const ZONE_KEY = 'topology.holdfast.io/zone';

export function topologyOf(zone: string): Topology {
  return { segments: { [ZONE_KEY]: zone } };
}

/**
 * The zones of which the volume is to be accessible from one at least; empty: all. Throws
 * INVALID_ARGUMENT for what says nothing, RESOURCE_EXHAUSTED when no zone that is asked for exists.
 */
export function accessibleTopology(
  required: TopologyRequirement | null,
  known: readonly string[],
): readonly Topology[] {
  if (required === null) return [];
  const { requisite, preferred } = required;
  if (requisite.length + preferred.length === 0) {
    throw invalidArgument('accessibility_requirements name no topology.');
  }
  // Without requisites anywhere will do, the preferred ones first: a volume is in all of them.
  if (requisite.length === 0) return [];
  const zones = [...new Set(requisite.map(zoneOf))];
  const possible = zones.filter((zone) => zone !== null && known.includes(zone));
  if (possible.length === 0) {
    const asked = zones.map((zone) => zone ?? `without ${ZONE_KEY}`).join(', ');
    const message = `There is no node in ${asked}; zones are: ${known.join(', ') || 'none'}.`;
    throw new CsiError('RESOURCE_EXHAUSTED', message);
  }
  const isEverywhere = known.every((zone) => possible.includes(zone));
  return isEverywhere ? [] : possible.map((zone) => topologyOf(zone as string));
}

/** Whether volumes can be used there. */
export function isPossible(topology: Topology | null, known: readonly string[]): boolean {
  if (topology === null || Object.keys(topology.segments).length === 0) return true;
  const zone = zoneOf(topology);
  return zone !== null && known.includes(zone);
}

/** Null when it is of somebody else's making. */
function zoneOf(topology: Topology): string | null {
  const { [ZONE_KEY]: zone, ...rest } = topology.segments;
  return zone === undefined || Object.keys(rest).length > 0 ? null : zone;
}
