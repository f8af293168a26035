/**
 * Whether an export is older than what the nodes have: then the newest part of a volume's log is
 * not in it. An epoch that nodes have seen and the export has not says so; so does, within one
 * epoch, a segment that was created, sealed or deleted since. Such a record would lose what it does
 * not know, or a takeover of it would stop as INCONSISTENT.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { Epoch } from '../core/units.js';
import type { VolumeRecord } from './model.js';
import type { RebuildEntry, RebuildInventory } from './rebuild-types.js';
import { allSegments } from './record-invariant.js';

export interface StaleVolume {
  readonly volume: VolumeId;
  readonly name: string;
  /** A sentence. */
  readonly reason: string;
}

/** What nodes know, where they were asked. */
export interface NodeKnowledge {
  /** The largest epoch that any node knows of each volume. */
  readonly maxEpochs: ReadonlyMap<VolumeId, Epoch>;
  readonly inventories?: readonly RebuildInventory[];
}

export function staleVolumes(
  volumes: readonly VolumeRecord[],
  { maxEpochs, inventories = [] }: NodeKnowledge,
): StaleVolume[] {
  const entries = new Map<VolumeId, RebuildEntry[]>();
  for (const entry of inventories.flatMap((one) => one.entries)) {
    const list = entries.get(entry.volume);
    if (list === undefined) entries.set(entry.volume, [entry]);
    else list.push(entry);
  }
  return volumes.flatMap((record) => {
    const { volume, name, epoch } = record;
    const seen = maxEpochs.get(volume) ?? 0;
    const what =
      seen > epoch
        ? `was exported at epoch ${epoch}, but nodes have seen epoch ${seen}`
        : outgrown(record, entries.get(volume) ?? []);
    return what === null ? [] : [{ volume, name, reason: `volume "${name}" ${what}` }];
  });
}

/** What has become of the volume since, within the epoch of the record; null: nothing. */
function outgrown(record: VolumeRecord, entries: readonly RebuildEntry[]): string | null {
  const listed = new Set(allSegments(record).map(({ segment }) => segment));
  const open = new Set(record.open.map(({ segment }) => segment));
  const there = new Set<SegmentId>();
  for (const { segment, state, createEpoch } of entries) {
    if (state === 'deleted') continue;
    there.add(segment);
    // Copies of older epochs may be left of what was deleted while their disk was away.
    if (!listed.has(segment) && createEpoch >= record.epoch && record.epoch > 0) {
      return `was exported before segment ${segment} was created, which nodes have`;
    }
    if (state === 'sealed' && open.has(segment)) {
      return `was exported before segment ${segment} was sealed, as it is on nodes`;
    }
  }
  const deleted = new Set(entries.filter(({ state }) => state === 'deleted').map(idOf));
  const gone = [...record.sealed, ...record.open].map(idOf);
  const missing = gone.find((segment) => deleted.has(segment) && !there.has(segment));
  return missing === undefined
    ? null
    : `was exported before segment ${missing} was deleted, which it needs`;
}

function idOf({ segment }: { readonly segment: SegmentId }): SegmentId {
  return segment;
}
