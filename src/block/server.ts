/**
 * The node's front door: accepts connections, lets nobody in without the handshake, decodes
 * requests, hands them to the storage node and sends its replies. A peer can make it close that
 * peer's connection, nothing more. The work for one connection is in server-connection.ts.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import { NODE_MAX_CONNECTIONS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Address, Connection, Listener, Network } from '../io/network.js';
import type { Random } from '../io/random.js';
import { ServerMetrics } from './metrics.js';
import { type RequestHandler, ServerConnection } from './server-connection.js';
import type { Credentials } from './wire/handshake.js';

export interface NodeServerOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly credentials: Credentials;
  readonly node: NodeId;
  /** Asked at each handshake. */
  readonly disks: () => readonly Incarnation[];
  readonly handler: RequestHandler;
  readonly metrics?: ServerMetrics;
}

export class NodeServer {
  readonly metrics: ServerMetrics;
  readonly #options: NodeServerOptions;
  readonly #connections = new Set<ServerConnection>();
  #listener: Listener | null = null;
  #stopping: { readonly done: () => void; readonly timer: Timer } | null = null;
  #stopped = false;

  constructor(options: NodeServerOptions) {
    this.#options = options;
    this.metrics = options.metrics ?? new ServerMetrics();
  }

  /** Calls back with the address (the real port, if 0 was asked), or ADDRESS_IN_USE etc. Once. */
  listen(
    address: Address,
    done: (error: HoldfastError | null, address: Address | null) => void,
  ): void {
    const accept = (connection: Connection): void => this.#accept(connection);
    this.#options.network.listen(address, accept, (error, listener) => {
      if (listener === null) {
        done(error, null);
        return;
      }
      if (this.#stopped || this.#stopping !== null) {
        listener.close();
        return done(new HoldfastError('CLOSED', 'the server was stopped'), null);
      }
      this.#listener = listener;
      done(null, listener.address);
    });
  }

  /**
   * Stops accepting connections and requests, answers what it has, ends after `graceMs` at the
   * latest.
   */
  stop(graceMs: number, done: () => void): void {
    assert(this.#stopping === null, 'a server stops once');
    this.#listener?.close();
    const timer = this.#options.clock.after(graceMs, () => {
      const count = this.#connections.size;
      this.#options.log.warn(
        { connections: count },
        'Not everything was answered before the stop.',
      );
      for (const connection of [...this.#connections]) connection.abort();
    });
    this.#stopping = { done, timer };
    for (const connection of [...this.#connections]) connection.drain();
    if (this.#connections.size === 0) this.#options.clock.soon(() => this.#ended());
  }

  #accept(connection: Connection): void {
    const { metrics } = this;
    if (this.#stopping !== null || this.#connections.size >= NODE_MAX_CONNECTIONS) {
      metrics.connectionsRefused += 1;
      connection.handle({ onFrame: () => {}, onDrain: () => {}, onClose: () => {} });
      connection.close(true);
      return;
    }
    metrics.connectionsTotal += 1;
    const { clock, random, log, credentials, node, disks, handler } = this.#options;
    const accepted = new ServerConnection(connection, {
      clock,
      random,
      log,
      credentials,
      node,
      disks: disks(),
      handler,
      metrics,
      onEnd: () => {
        this.#connections.delete(accepted);
        metrics.connections = this.#connections.size;
        if (this.#connections.size === 0) this.#ended();
      },
    });
    this.#connections.add(accepted);
    metrics.connections = this.#connections.size;
  }

  #ended(): void {
    const stopping = this.#stopping;
    if (stopping === null || this.#stopped || this.#connections.size > 0) return;
    this.#stopped = true;
    stopping.timer.cancel();
    stopping.done();
  }
}
