/**
 * Makes volume records from what the disks alone know, when the metadata store is lost: inventories
 * of all nodes and the headers of segments. Pure. It refuses a volume rather than guess, and says
 * why: a record that leaves out acknowledged data would make the next takeover lose it for good.
 * Nothing is given to deletion unless it was deleted before, or enough replicas show that nothing
 * was ever acknowledged there.
 *
 * The end of the log is left to takeover: the last segments come back as open ones, at an epoch
 * above all that any node knows, and fencing decides where they end.
 *
 * Disks do not know of the trash. What was in it comes back as if in use; where two volumes have
 * one name, both come back in the trash, to be kept until somebody says which one is meant.
 */
import { assert } from '../core/assert.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import { METADATA_SCHEMA, type VolumeRecord } from './model.js';
import { findChain } from './rebuild-chain.js';
import { judgeRoot, type RootVerdict } from './rebuild-root.js';
import type {
  Copy,
  FoundSegment,
  RebuildEntry,
  RebuildHeader,
  RebuildInput,
  RebuildInventory,
  RebuiltVolume,
} from './rebuild-types.js';
import { brokenInvariant } from './record-invariant.js';
import { moveToTrash } from './volume-record.js';

/** One result for each volume that any disk knows, by volume id. */
export function rebuildVolumes(input: RebuildInput): RebuiltVolume[] {
  const volumes = new Map<VolumeId, Copy[]>();
  for (const { node, incarnation, entries } of input.inventories) {
    for (const entry of entries) {
      const copies = volumes.get(entry.volume) ?? [];
      copies.push({ node, incarnation, entry });
      volumes.set(entry.volume, copies);
    }
  }
  const found = [...volumes].sort(byFirst);
  return withoutDoubles(
    found.map(([volume, copies]) => rebuildOne(volume, copies, input)),
    input.createdAt,
  );
}

function withoutDoubles(volumes: readonly RebuiltVolume[], removedAt: string): RebuiltVolume[] {
  const counts = new Map<string, number>();
  for (const one of volumes) {
    if (one.type === 'rebuilt') {
      counts.set(one.record.name, (counts.get(one.record.name) ?? 0) + 1);
    }
  }
  return volumes.map((one) => {
    if (one.type !== 'rebuilt' || counts.get(one.record.name) === 1) return one;
    const record = moveToTrash(one.record, { removedAt, keptUntil: null });
    const { volume, name } = record;
    const how = `"holdfast volume restore ${volume.slice(0, 12)} --as NAME"`;
    const note = `${volume} is not the only volume named "${name}": in the trash, ${how}`;
    return { ...one, record, leftAlone: [...one.leftAlone, note] };
  });
}

type Refusal = Extract<RebuiltVolume, { type: 'refused' }>['code'];

function rebuildOne(volume: VolumeId, copies: readonly Copy[], input: RebuildInput): RebuiltVolume {
  const segments = gather(copies, input.headers);
  if (isPurged(copies.map(({ entry }) => entry))) return purged(volume, segments);
  const newest = segments
    .filter((found) => found.header !== null)
    .sort((a, b) => b.createEpoch - a.createEpoch)[0]?.header;
  const refuse = (reasons: readonly string[], code: Refusal = 'INCONSISTENT'): RebuiltVolume => {
    return { type: 'refused', volume, name: newest?.name ?? null, code, reasons };
  };
  const problem = firstContradiction(segments);
  if (problem !== null) return refuse([problem]);
  if (newest == null) {
    return refuse(['no segment header was found, so neither its name nor its size is known']);
  }
  const chain = findChain(segments, newest);
  if (chain.type === 'broken') return refuse([chain.reason]);
  const search = input.roots?.get(volume);
  const [hole] = chain.holes;
  if (search === undefined && hole !== undefined && input.acceptLoss !== true)
    return refuse([hole]);
  const verdict: RootVerdict =
    search === undefined ? { broken: [], losses: chain.holes } : judgeRoot(chain, segments, search);
  const losses = [...chain.losses, ...verdict.losses];
  if (verdict.broken.length > 0) return refuse(verdict.broken);
  if (losses.length > 0 && input.acceptLoss !== true) return refuse(losses, 'DATA_LOST');
  if (chain.unfinished.length > 0) return refuse(chain.unfinished);
  const { name, kind, replicas, ackQuorum } = newest;
  const record: VolumeRecord = {
    schema: METADATA_SCHEMA,
    volume,
    name,
    kind,
    sizeBytes: Math.max(...segments.map((found) => found.header?.sizeBytes ?? 0)),
    replicas,
    ackQuorum,
    labels: {},
    createdAt: input.createdAt,
    epoch: epoch(largestEpoch(copies) + 1),
    owner: null,
    planned: [],
    open: chain.open,
    sealed: chain.sealed,
    root: search?.root ?? null,
    pendingDelete: chain.pendingDelete,
  };
  const broken = brokenInvariant(record);
  if (broken !== null) return refuse([broken]);
  return { type: 'rebuilt', record, losses, leftAlone: chain.leftAlone };
}

function gather(
  copies: readonly Copy[],
  headers: ReadonlyMap<SegmentId, RebuildHeader>,
): FoundSegment[] {
  const bySegment = new Map<SegmentId, Copy[]>();
  for (const copy of copies) {
    const list = bySegment.get(copy.entry.segment) ?? [];
    list.push(copy);
    bySegment.set(copy.entry.segment, list);
  }
  return [...bySegment].sort(byFirst).map(([segment, found]) => {
    const kept = found.filter((copy) => copy.entry.state !== 'deleted');
    const created = kept.filter(wasCreated);
    return {
      segment,
      createEpoch: epoch(Math.max(0, ...created.map((copy) => copy.entry.createEpoch))),
      header: headers.get(segment) ?? null,
      copies: oneOfEachNode(kept),
      deleted: kept.length < found.length,
    };
  });
}

/**
 * A copy that is made on another disk of its node stands there beside the one that it replaces,
 * until that is dropped. One that is sealed has all that there is.
 */
function oneOfEachNode(copies: readonly Copy[]): Copy[] {
  const valid = ({ entry }: Copy): number =>
    Math.min(entry.length, entry.suspectFrom ?? entry.length);
  const replaces = (other: Copy, copy: Copy): boolean => {
    const { state, length, crc } = copy.entry;
    if (other === copy || other.node !== copy.node || other.entry.state !== 'sealed') return false;
    if (state !== 'sealed') return state === 'open' && valid(other) >= valid(copy);
    // Two that do not fit together are told, and so is none of two that are alike.
    if (other.entry.length !== length || other.entry.crc !== crc) return false;
    const more = valid(other) - valid(copy);
    return more > 0 || (more === 0 && copies.indexOf(other) < copies.indexOf(copy));
  };
  return copies.filter((copy) => !copies.some((other) => replaces(other, copy)));
}

/** A tombstone, also one that was sealed at 0 since, knows no epoch but the fence's. */
function wasCreated({ entry }: Copy): boolean {
  return entry.state !== 'tombstone' && entry.createEpoch > 0;
}

/** Of one volume: something was deleted, and nothing with data was not. */
export function isPurged(entries: readonly RebuildEntry[]): boolean {
  const deleted = new Set<SegmentId>();
  for (const { segment, state } of entries) if (state === 'deleted') deleted.add(segment);
  const isLeft = ({ segment, length }: RebuildEntry): boolean =>
    length > 0 && !deleted.has(segment);
  return deleted.size > 0 && !entries.some(isLeft);
}

function purged(volume: VolumeId, segments: readonly FoundSegment[]): RebuiltVolume {
  const left = segments.filter(({ copies }) => copies.length > 0);
  const leftAlone = left.map(({ segment }) => `segment ${segment} is left of a purged volume`);
  return { type: 'purged', volume, leftAlone };
}

/** What no order of events can explain. */
function firstContradiction(segments: readonly FoundSegment[]): string | null {
  for (const { segment, copies, createEpoch, header, deleted } of segments) {
    const created = copies.filter(wasCreated);
    if (created.some((copy) => copy.entry.createEpoch !== createEpoch)) {
      return `copies of segment ${segment} were created at different epochs`;
    }
    const ends = new Set<string>();
    for (const { entry } of copies) {
      if (entry.state === 'sealed') ends.add(`${entry.length} ${entry.crc}`);
    }
    if (ends.size > 1) return `copies of segment ${segment} are sealed at different ends`;
    const nodes = new Set(copies.map((copy) => copy.node));
    if (nodes.size !== copies.length) return `one node holds segment ${segment} twice`;
    if (!deleted && header === null && copies.some((copy) => copy.entry.length > 0)) {
      return `segment ${segment} has data, but its header could not be read from any copy`;
    }
  }
  return null;
}

function largestEpoch(copies: readonly Copy[]): number {
  let largest = 0;
  for (const { entry } of copies) {
    largest = Math.max(largest, entry.maxEpoch, entry.createEpoch);
  }
  assert(Number.isSafeInteger(largest), 'epochs are integers');
  return largest;
}

/** The largest epoch that any disk knows of each volume: for importCluster as well. */
export function largestEpochs(inventories: readonly RebuildInventory[]): Map<VolumeId, Epoch> {
  const largest = new Map<VolumeId, Epoch>();
  for (const { entries } of inventories) {
    for (const { volume, maxEpoch, createEpoch } of entries) {
      const seen = epoch(Math.max(maxEpoch, createEpoch, largest.get(volume) ?? 0));
      largest.set(volume, seen);
    }
  }
  return largest;
}

function byFirst(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}
