/**
 * The seam between whoever sends requests to storage nodes (owner, reader, COPY) and how they
 * travel. The one implementation is client.ts; it lives beside the wire format because owners and
 * nodes use it.
 */
import type { HoldfastError } from '../../core/errors.js';
import type { NodeId } from '../../core/ids.js';
import type { Address } from '../../io/network.js';
import type { Reply, Request } from './messages.js';

export interface RequestTarget {
  readonly node: NodeId;
  readonly address: Address;
}

/**
 * Exactly one of error and reply is null. An error (UNAVAILABLE, TIMEOUT, UNAUTHENTICATED,
 * WRONG_CLUSTER, VERSION, CLOSED) says nothing about whether the node acted: it may have, or may
 * yet do so later.
 */
export type ReplyHandler = (error: HoldfastError | null, reply: Reply | null) => void;

export interface NodeRequests {
  /**
   * Sends a request and calls `done` once, never before this call returns. Requests to one node
   * travel in the order of the calls while a connection lasts; when it breaks, all that wait fail
   * with UNAVAILABLE and the next request connects anew (with back-off; requests fail fast
   * meanwhile).
   */
  send(target: RequestTarget, request: Request, timeoutMs: number, done: ReplyHandler): void;
  /** Bytes queued to this node and not yet handed to the network, for pacing. */
  queuedBytes(node: NodeId): number;
  /** Fails everything that waits with CLOSED. */
  close(): void;
}
