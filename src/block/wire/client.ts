/**
 * The client side of the wire: one connection for each node, shared by everything in this process
 * that talks to it (a volume's owner, its reader, a node's COPY). Bounded, deterministic, callback
 * style: it runs in the simulator as it is. The work is in client-link.ts.
 */
import { HoldfastError } from '../../core/errors.js';
import type { NodeId } from '../../core/ids.js';
import { ClientLink, type LinkOptions } from './client-link.js';
import type { Request } from './messages.js';
import type { NodeRequests, ReplyHandler, RequestTarget } from './requests.js';

export type NodeClientsOptions = LinkOptions;

export class NodeClients implements NodeRequests {
  readonly #options: NodeClientsOptions;
  readonly #links = new Map<NodeId, ClientLink>();
  #closed = false;

  constructor(options: NodeClientsOptions) {
    this.#options = options;
  }

  /** See NodeRequests. BUSY when more waits for this node than CONNECTION_MAX_QUEUED_BYTES. */
  send(target: RequestTarget, request: Request, timeoutMs: number, done: ReplyHandler): void {
    if (this.#closed) {
      const error = new HoldfastError('CLOSED', 'the client was closed');
      this.#options.clock.soon(() => done(error, null));
      return;
    }
    let link = this.#links.get(target.node);
    if (link === undefined) {
      link = new ClientLink(this.#options, target.node, target.address);
      this.#links.set(target.node, link);
    }
    link.send(target.address, request, timeoutMs, done);
  }

  queuedBytes(node: NodeId): number {
    return this.#links.get(node)?.queuedBytes ?? 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const links = [...this.#links.values()];
    this.#links.clear();
    for (const link of links) link.shut(new HoldfastError('CLOSED', 'the client was closed'));
  }
}
