/**
 * Looks for the newest checkpoint in the log of each rebuilt volume, on the nodes themselves: what
 * `metadata rebuild` knows is not yet in any store.
 */
import type { InventoryEntry } from '../block/wire/messages.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import { offset, PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { OpenSegment, Replica, SealedSegment, VolumeRecord } from '../metadata/model.js';
import type { RebuildRoot, RebuiltVolume } from '../metadata/rebuild-types.js';
import type { LogSpan } from '../replication/log-scan.js';
import type { SegmentReader } from '../replication/reader.js';
import { findRoot } from '../volume/find-root.js';
import { type FoundNode, readerOf } from './inventory.js';

/** `volumes`: rebuilt as if every loss were accepted, without roots. */
export async function rootsOf(
  nodes: readonly FoundNode[],
  volumes: readonly RebuiltVolume[],
  clock: Clock,
): Promise<Map<VolumeId, RebuildRoot>> {
  const roots = new Map<VolumeId, RebuildRoot>();
  const reader = readerOf(nodes, clock);
  const lengths = validLengths(nodes);
  try {
    for (const volume of volumes) {
      if (volume.type !== 'rebuilt') continue;
      roots.set(volume.record.volume, await rootOf(reader, volume.record, lengths));
    }
  } finally {
    reader.close();
  }
  return roots;
}

type Lengths = (segment: SegmentId, disk: Incarnation) => number;

async function rootOf(
  reader: SegmentReader,
  record: VolumeRecord,
  lengths: Lengths,
): Promise<RebuildRoot> {
  const spans = [
    ...record.sealed.map((one) => sealedSpan(record, one)),
    ...record.open.map((one) => openSpan(record, one, lengths)),
  ].filter(({ end }) => end > 0);
  const { found, unreadable } = await findRoot(reader, spans);
  if (found === null) return { root: null, images: [], others: [], unreadable };
  const { segment, page, lsn } = found.root;
  return { ...found, root: { segment, offset: offset(page * PAGE_BYTES), lsn }, unreadable };
}

function sealedSpan(record: VolumeRecord, sealed: SealedSegment): LogSpan {
  const { end, crc } = sealed;
  return { ...spanOf(record, sealed, sealed.replicas, end), endCrc: crc, committed: end };
}

/** As far as the longest copy goes; what a quorum of them has is committed. */
function openSpan(record: VolumeRecord, open: OpenSegment, lengths: Lengths): LogSpan {
  const all = open.replicas.map((replica) => ({
    replica,
    length: lengths(open.segment, replica.incarnation),
  }));
  all.sort((a, b) => b.length - a.length);
  const longest = all[0]?.length ?? 0;
  const replicas = all.filter(({ length }) => length === longest).map(({ replica }) => replica);
  const committed = offset(all[record.ackQuorum - 1]?.length ?? 0);
  return { ...spanOf(record, open, replicas, offset(longest)), endCrc: null, committed };
}

function spanOf(
  { volume }: VolumeRecord,
  { segment, createEpoch }: OpenSegment,
  replicas: readonly Replica[],
  end: SegmentOffset,
): Omit<LogSpan, 'committed' | 'endCrc'> {
  return { volume, segment, createEpoch, replicas, from: offset(0), end, prevCrc: 0 };
}

/** How many bytes of a segment each disk can vouch for. */
function validLengths(nodes: readonly FoundNode[]): Lengths {
  const lengths = new Map<string, number>();
  for (const { incarnation, entries } of nodes.flatMap((node) => node.inventories)) {
    for (const { segment, length, suspectFrom, state } of entries as readonly InventoryEntry[]) {
      if (state === 'deleted') continue;
      lengths.set(`${segment}/${incarnation}`, Math.min(length, suspectFrom ?? length));
    }
  }
  return (segment, disk) => lengths.get(`${segment}/${disk}`) ?? 0;
}
