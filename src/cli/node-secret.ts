/**
 * Asks the nodes of a cluster whether a node that wants to join has their secret: with another one
 * it would register, be given data, and nobody could reach it.
 */
import { NodeClients } from '../block/wire/client.js';
import type { Credentials } from '../block/wire/handshake.js';
import { HoldfastError } from '../core/errors.js';
import { type Incarnation, idFromBytes } from '../core/ids.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { tcpNetwork } from '../io/node/tcp.js';
import type { NodeRecord } from '../metadata/model.js';
import { ask } from './session.js';

/** A request that every node answers, if only by saying that it has no such disk. */
export const SIGN_OF_LIFE = {
  type: 'status',
  incarnation: '0'.repeat(32) as Incarnation,
} as const;

export function askingClients(credentials: Credentials): NodeClients {
  return new NodeClients({
    network: tcpNetwork,
    clock: nodeClock,
    random: nodeRandom,
    credentials,
    identity: { role: 'tool', id: idFromBytes(nodeRandom.bytes(16)) },
  });
}

/** One node that accepts it is enough; none that answers proves nothing. Throws UNAUTHENTICATED. */
export async function checkSecret(
  credentials: Credentials,
  nodes: readonly NodeRecord[],
): Promise<void> {
  const clients = askingClients(credentials);
  let refused = false;
  const asked = nodes.map(async ({ node, address }) => {
    try {
      await ask(clients, { node, address }, SIGN_OF_LIFE);
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
