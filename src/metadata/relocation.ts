/**
 * Where the copies of sealed segments are by now, for an export that is older than some moves of
 * them: a move changes neither the epoch nor what segments there are, so the export does not look
 * old, but its lists name disks that have dropped theirs, and not those that have them.
 *
 * INVARIANT: a disk leaves a list only for one that has the whole segment, as it was sealed.
 */
import type { SegmentId } from '../core/ids.js';
import type { Replica, SealedSegment, VolumeRecord } from './model.js';
import type { Copy, RebuildInventory } from './rebuild-types.js';
import { names } from './replica-moves.js';

/** The records with the disks first that have a whole copy, as far as `inventories` tell. */
export function relocated(
  volumes: readonly VolumeRecord[],
  inventories: readonly RebuildInventory[],
): VolumeRecord[] {
  const copies = new Map<SegmentId, Copy[]>();
  for (const { node, incarnation, entries } of inventories) {
    for (const entry of entries) {
      if (entry.state !== 'sealed' || entry.suspectFrom !== null) continue;
      const list = copies.get(entry.segment);
      if (list === undefined) copies.set(entry.segment, [{ node, incarnation, entry }]);
      else list.push({ node, incarnation, entry });
    }
  }
  return volumes.map((record) => ({
    ...record,
    sealed: record.sealed.map((one) => placed(one, record, copies.get(one.segment) ?? [])),
  }));
}

function placed(
  sealed: SealedSegment,
  { volume, replicas: most }: VolumeRecord,
  copies: readonly Copy[],
): SealedSegment {
  const whole = copies.filter(({ entry }) => {
    return entry.volume === volume && entry.length === sealed.end && entry.crc === sealed.crc;
  });
  const listed = sealed.replicas.filter((one) => names(whole, one.incarnation));
  const isKnownBetter = listed.length < sealed.replicas.length && listed.length < whole.length;
  if (!isKnownBetter) return sealed;
  const replicas: Replica[] = [];
  for (const { node, incarnation } of [...listed, ...whole, ...sealed.replicas]) {
    if (replicas.length === most || replicas.some((one) => one.node === node)) continue;
    replicas.push({ node, incarnation });
  }
  return { ...sealed, replicas };
}
