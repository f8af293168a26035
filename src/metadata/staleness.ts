/**
 * Whether an export is older than what the nodes have: then the newest part of a volume's log is
 * not in it. An epoch that nodes have seen and the export has not says so; so does, within one
 * epoch, a segment that was created, sealed or deleted since. Such a record would lose what it does
 * not know, or a takeover of it would stop as INCONSISTENT. Of a volume that was created since the
 * export has nothing at all: nodes tell of it by its id once it was mounted, and the store that is
 * to be replaced by its name.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { Epoch } from '../core/units.js';
import type { VolumeRecord } from './model.js';
import { isPurged } from './rebuild.js';
import type { RebuildEntry, RebuildInventory } from './rebuild-types.js';
import { allSegments } from './record-invariant.js';
import type { SeenHead } from './seen.js';

export interface StaleVolume {
  readonly volume: VolumeId;
  /** Where there is more of it than the export has. */
  readonly foundIn: 'nodes' | 'store';
  /** False: the export has nothing of it. */
  readonly exported: boolean;
  /** A sentence. */
  readonly reason: string;
}

/** What nodes know, where they were asked. */
export interface NodeKnowledge {
  /** The largest epoch that any node knows of each volume. */
  readonly maxEpochs: ReadonlyMap<VolumeId, Epoch>;
  readonly inventories?: readonly RebuildInventory[];
}

/** `heads`: of the store that is to be replaced. */
export function staleVolumes(
  volumes: readonly VolumeRecord[],
  { maxEpochs, inventories = [] }: NodeKnowledge,
  heads: readonly SeenHead[] = [],
): StaleVolume[] {
  const entries = new Map<VolumeId, RebuildEntry[]>();
  for (const entry of inventories.flatMap((one) => one.entries)) {
    const list = entries.get(entry.volume);
    if (list === undefined) entries.set(entry.volume, [entry]);
    else list.push(entry);
  }
  const open = new Map(heads.map((head) => [head.volume, head.open]));
  const outdated = volumes.flatMap((record): StaleVolume[] => {
    const { volume, name, epoch } = record;
    const seen = maxEpochs.get(volume) ?? 0;
    const what =
      seen > epoch
        ? `was exported at epoch ${epoch}, but nodes have seen epoch ${seen}`
        : (outgrown(record, entries.get(volume) ?? []) ?? opened(record, open.get(volume) ?? []));
    if (what === null) return [];
    return [{ volume, foundIn: 'nodes', exported: true, reason: `volume "${name}" ${what}` }];
  });
  return [...outdated, ...missing(new Set(volumes.map(({ volume }) => volume)), entries, heads)];
}

/** Volumes that are not in the export; without what was purged, or will be. */
function missing(
  exported: ReadonlySet<VolumeId>,
  entries: ReadonlyMap<VolumeId, readonly RebuildEntry[]>,
  heads: readonly SeenHead[],
): StaleVolume[] {
  const ignored = new Set(exported);
  const found: StaleVolume[] = [];
  const add = (volume: VolumeId, foundIn: StaleVolume['foundIn'], reason: string): void => {
    found.push({ volume, foundIn, exported: false, reason });
    ignored.add(volume);
  };
  for (const { volume, name, purging } of heads) {
    if (ignored.has(volume)) continue;
    const called = name === null ? volume : `"${name}"`;
    const isOnNodes = entries.has(volume);
    if (purging) ignored.add(volume);
    else {
      const what = `volume ${called} is not in the export, but in the store that it would replace`;
      add(volume, isOnNodes ? 'nodes' : 'store', what);
    }
  }
  for (const [volume, all] of entries) {
    if (ignored.has(volume) || isPurged(all)) continue;
    const there = all.filter(({ state }) => state !== 'deleted').map(idOf);
    const what = `volume ${volume} is not in the export, but nodes have segments of it`;
    add(volume, 'nodes', `${what} (${new Set(there).size})`);
  }
  return found;
}

/**
 * What the store says that it is written to by now, whatever nodes said before: an owner
 * acknowledges nothing in a segment that is not open there. Null: nothing that would be lost.
 */
function opened({ open, sealed }: VolumeRecord, now: readonly SegmentId[]): string | null {
  if (now.length === 0) return null;
  const known = new Set([...open, ...sealed].map(idOf));
  const segment = now.find((one) => !known.has(one));
  if (segment === undefined) return null;
  return `was exported before segment ${segment} was opened, as it is in the store`;
}

/** What has become of the volume since, within the epoch of the record; null: nothing. */
function outgrown(record: VolumeRecord, entries: readonly RebuildEntry[]): string | null {
  const listed = new Set(allSegments(record).map(({ segment }) => segment));
  const open = new Set(record.open.map(({ segment }) => segment));
  const planned = new Set(record.planned.map(idOf));
  const there = new Set<SegmentId>();
  for (const { segment, state, createEpoch, length } of entries) {
    if (state === 'deleted') continue;
    there.add(segment);
    // Copies of older epochs may be left of what was deleted while their disk was away.
    if (!listed.has(segment) && createEpoch >= record.epoch && record.epoch > 0) {
      return `was exported before segment ${segment} was created, which nodes have`;
    }
    if (planned.has(segment) && length > 0) {
      return `was exported before segment ${segment} was written to, as it is on nodes`;
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
