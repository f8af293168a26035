/**
 * Asks whether the node that is about to serve does so elsewhere already: a copy of its directories
 * has its name and its disks' names. Both would register, whoever asks for the node would find now
 * the one and now the other, and what only one has would count as being on the node.
 */
import type { Credentials } from '../block/wire/handshake.js';
import { NODE_STATUS } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import type { NodeId } from '../core/ids.js';
import type { Address } from '../io/network.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { liveKey } from '../metadata/keys.js';
import type { MetadataStore } from '../metadata/store.js';
import { ask, toolClients } from './session.js';

/**
 * Throws DISK_IN_USE when `node` answers where it is registered, which is not `own`. One that was
 * killed stands in the store for as long as its lease lasts, and does not answer.
 */
export async function checkNoTwin(
  store: MetadataStore,
  credentials: Credentials,
  node: NodeId,
  own: Address | null,
): Promise<void> {
  const address = (await store.get(liveKey(node))).entry?.value as Address | undefined;
  if (address === undefined || address === own) return;
  const clients = toolClients({ clock: nodeClock, random: nodeRandom, credentials });
  try {
    // The handshake has the other side prove that it is this node.
    await ask(clients, { node, address }, NODE_STATUS);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return;
    throw thrown;
  } finally {
    clients.close();
  }
  const hint =
    'If these directories are a copy, empty them, for a new node. If they are not, stop it first.';
  const message = `node ${node.slice(0, 8)}, whose disks these are, serves at ${address} already`;
  throw new HoldfastError('DISK_IN_USE', message, { hint });
}
