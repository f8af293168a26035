/**
 * Shuts all owners out before the metadata is made anew from what disks hold: an owner needs no
 * metadata store to write, also into a spare that inventories show empty.
 *
 * INVARIANT: of what comes out every copy that is not sealed was fenced before its length was read,
 * above all epochs that any node knows. So nothing is acknowledged afterwards that is not in it, as
 * far as enough copies were found; and a copy that could not be fenced is not in it.
 */
import { ANY_NODE } from '../block/wire/handshake.js';
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import type { RebuildEntry, RebuildInventory } from '../metadata/rebuild-types.js';
import type { FoundNode } from './inventory.js';
import { ask } from './session.js';

export interface FencedNodes {
  readonly nodes: readonly FoundNode[];
  /** One sentence for each node that ceased to answer. */
  readonly missing: readonly string[];
}

/** Owners plan new segments while we fence those that we know. */
const ROUNDS = 10;
/** FENCEs under way on one node: each may wait for a read lease. */
const AT_ONCE = 64;

/**
 * `again` takes a node's inventory anew, of each node once at least. Can be run again at any time,
 * also after one that was killed: it fences higher. Rejects with CONFLICT when others go on taking
 * volumes over.
 */
export async function fenceUnsealed(
  nodes: readonly FoundNode[],
  again: (node: FoundNode) => Promise<FoundNode>,
): Promise<FencedNodes> {
  const epochs = new Map<VolumeId, Epoch>();
  const missing: string[] = [];
  let found = nodes;
  for (let round = 0; round < ROUNDS; round++) {
    raiseEpochs(epochs, found);
    if (round > 0 && found.every((node) => unfenced(node.inventories, epochs).length === 0)) {
      return { nodes: found, missing };
    }
    const asked = found.map(async (node) => {
      try {
        await fenceNode(node, epochs);
        return await again(node);
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        missing.push(`${node.address}: ${thrown.message}`);
        return null;
      }
    });
    found = (await Promise.all(asked)).filter((node) => node !== null);
  }
  throw new HoldfastError('CONFLICT', 'somebody goes on taking volumes over; nothing was changed', {
    retryable: true,
    hint: 'Unmount the volumes, and see that no other metadata store of this cluster is in use.',
  });
}

/** Above all that is known, once; again where somebody has gone as far meanwhile. */
function raiseEpochs(epochs: Map<VolumeId, Epoch>, nodes: readonly FoundNode[]): void {
  const largest = new Map<VolumeId, number>();
  for (const { entries } of nodes.flatMap(({ inventories }) => inventories)) {
    for (const { volume, maxEpoch, createEpoch } of entries) {
      // A segment that was created at the epoch that we fence at is another owner's.
      const seen = Math.max(maxEpoch, createEpoch + 1);
      largest.set(volume, Math.max(seen, largest.get(volume) ?? 0));
    }
  }
  for (const [volume, seen] of largest) {
    const chosen = epochs.get(volume);
    if (chosen === undefined || seen > chosen) epochs.set(volume, epoch(seen + 1));
  }
}

type Unfenced = Pick<RebuildInventory, 'incarnation'> & { readonly entry: RebuildEntry };

function unfenced(
  inventories: readonly RebuildInventory[],
  epochs: ReadonlyMap<VolumeId, Epoch>,
): Unfenced[] {
  return inventories.flatMap(({ incarnation, entries }) =>
    entries
      .filter(({ state }) => state === 'open' || state === 'tombstone')
      .filter(({ volume, maxEpoch }) => maxEpoch < (epochs.get(volume) ?? 0))
      .map((entry) => ({ incarnation, entry })),
  );
}

async function fenceNode(node: FoundNode, epochs: ReadonlyMap<VolumeId, Epoch>): Promise<void> {
  const all = unfenced(node.inventories, epochs);
  for (let at = 0; at < all.length; at += AT_ONCE) {
    await Promise.all(all.slice(at, at + AT_ONCE).map((one) => fence(node, one, epochs)));
  }
}

async function fence(
  { requests, address }: FoundNode,
  { incarnation, entry: { segment, volume } }: Unfenced,
  epochs: ReadonlyMap<VolumeId, Epoch>,
): Promise<void> {
  const at = epochs.get(volume);
  if (at === undefined) return;
  const request = {
    type: 'fence',
    incarnation,
    segment,
    volume,
    epoch: at,
    released: false,
  } as const;
  const reply = await ask(requests, { node: ANY_NODE, address }, request);
  // Fenced higher, or deleted, meanwhile: its next inventory says so.
  const isKnown = ['OK', 'STALE', 'DELETED'].includes(reply.status);
  if (isKnown && reply.incarnation === incarnation) return;
  const message = `segment ${segment} could not be fenced (${reply.status})`;
  throw new HoldfastError('UNAVAILABLE', message, { retryable: true });
}
