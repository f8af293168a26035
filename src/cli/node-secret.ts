/**
 * Asks the nodes of a cluster whether a process has their secret. With another one a node would
 * register, be given data, and nobody could reach it; and to a command every node would look as if
 * it were down for good.
 */
import type { Credentials } from '../block/wire/handshake.js';
import { NODE_STATUS } from '../block/wire/messages.js';
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import type { NodeRecord } from '../metadata/model.js';
import { ask, type Session, toolClients } from './session.js';

/** One node that accepts it is enough; none that answers proves nothing. Throws UNAUTHENTICATED. */
export async function checkSecret(
  credentials: Credentials,
  nodes: readonly NodeRecord[],
): Promise<void> {
  const clients = toolClients({ clock: nodeClock, random: nodeRandom, credentials });
  try {
    await checkClients(clients, nodes);
  } finally {
    clients.close();
  }
}

/** As checkSecret, before a command believes what it does not hear. */
export async function checkSession(session: Session): Promise<void> {
  const nodes = (await session.directory()).nodes();
  if (nodes.length > 0) await checkClients(session.clients, nodes);
}

async function checkClients(clients: NodeRequests, nodes: readonly NodeRecord[]): Promise<void> {
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
  if (!isAccepted && refused) throw wrongSecret();
}

export function wrongSecret(): HoldfastError {
  const hint = 'Copy the secret file of a node that runs to this machine.';
  const message = 'the secret is not the one that the nodes of this cluster have';
  return new HoldfastError('UNAUTHENTICATED', message, { hint });
}
