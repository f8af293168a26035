/**
 * Asks the nodes of a cluster whether a node that wants to join has their secret: with another one
 * it would register, be given data, and nobody could reach it.
 */
import type { Credentials } from '../block/wire/handshake.js';
import { NODE_STATUS } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import type { NodeRecord } from '../metadata/model.js';
import { ask, toolClients } from './session.js';

/** One node that accepts it is enough; none that answers proves nothing. Throws UNAUTHENTICATED. */
export async function checkSecret(
  credentials: Credentials,
  nodes: readonly NodeRecord[],
): Promise<void> {
  const clients = toolClients({ clock: nodeClock, random: nodeRandom, credentials });
  let refused = false;
  const asked = nodes.map(async ({ node, address }) => {
    try {
      await ask(clients, { node, address }, NODE_STATUS);
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'UNAUTHENTICATED') refused = true;
      throw thrown;
    }
  });
  const isAccepted = await Promise.any(asked).then(
    () => true,
    () => false,
  );
  clients.close();
  if (isAccepted || !refused) return;
  const hint = 'Copy the secret file of a node that runs to this machine.';
  const message = 'the secret is not the one that the nodes of this cluster have';
  throw new HoldfastError('UNAUTHENTICATED', message, { hint });
}
