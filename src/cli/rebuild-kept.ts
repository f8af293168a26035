/**
 * What a rebuild leaves in the store as it is: volumes that it was told to leave out, and those of
 * which the nodes that were asked have nothing. Such a volume was never mounted, or its nodes were
 * not asked: what the store knows of it is all there is.
 */
import { HoldfastError } from '../core/errors.js';
import { parseId, type VolumeId } from '../core/ids.js';
import { nodeClock } from '../io/node/clock.js';
import { VOLUMES } from '../metadata/keys.js';
import type { VolumeRecord } from '../metadata/model.js';
import { type SeenHead, seenHeads } from '../metadata/seen.js';
import type { MetadataStore } from '../metadata/store.js';
import { readVolume } from '../metadata/stored-volume.js';
import { moveToTrash } from '../metadata/volume-record.js';
import type { FoundNode } from './inventory.js';

export interface KeepOptions {
  /** Ids. */
  readonly without: readonly string[];
  readonly acceptLoss?: boolean;
}

export interface Kept {
  readonly records: readonly VolumeRecord[];
  /** One sentence each. */
  readonly notes: readonly string[];
}

/** Throws MALFORMED etc. for what would be lost for good because it cannot be read. */
export async function keptOf(
  store: MetadataStore,
  nodes: readonly FoundNode[],
  { without, acceptLoss }: KeepOptions,
): Promise<Kept> {
  const known = new Set<VolumeId>();
  for (const { entries } of nodes.flatMap(({ inventories }) => inventories)) {
    for (const { volume } of entries) known.add(volume);
  }
  const records: VolumeRecord[] = [];
  const notes: string[] = [];
  for (const id of without) {
    const found = await readVolume(store, parseId<VolumeId>(id, '--without'));
    if (found !== null) records.push(found.record);
  }
  for (const head of seenHeads((await store.range(VOLUMES)).entries)) {
    if (known.has(head.volume) || without.includes(head.volume)) continue;
    try {
      const found = await readVolume(store, head.volume);
      if (found === null) continue;
      records.push(found.record);
      notes.push(`${found.record.name}: no node has anything of it; kept as the store has it`);
    } catch (thrown) {
      notes.push(givenUp(head, thrown, acceptLoss === true));
    }
  }
  return { records, notes };
}

const DAMAGE: ReadonlySet<string> = new Set(['INCONSISTENT', 'MALFORMED', 'VERSION']);

function givenUp({ volume, name }: SeenHead, thrown: unknown, acceptLoss: boolean): string {
  if (!(thrown instanceof HoldfastError) || !DAMAGE.has(thrown.code)) throw thrown;
  const what =
    `no node has anything of volume ${name ?? volume}, ` +
    `and its record in the store cannot be read (${thrown.message})`;
  if (acceptLoss) return what;
  const hint = 'Name all nodes with --node, or give this volume up: --accept-loss.';
  throw new HoldfastError(thrown.code, `${what}; nothing was changed`, { hint });
}

/** Both sorts; of one name, the one that was rebuilt has it, and the other is in the trash. */
export function besideRebuilt(
  rebuilt: readonly VolumeRecord[],
  kept: readonly VolumeRecord[],
): VolumeRecord[] {
  const names = new Set(rebuilt.filter(({ trash }) => trash === undefined).map(({ name }) => name));
  const removedAt = new Date(nodeClock.wall()).toISOString();
  const moved = kept.map((record) => {
    const isDouble = record.trash === undefined && names.has(record.name);
    return isDouble ? moveToTrash(record, { removedAt, keptUntil: null }) : record;
  });
  return [...rebuilt, ...moved];
}
