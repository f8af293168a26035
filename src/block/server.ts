/**
 * The node's front door: accepts connections, lets nobody in without the handshake, decodes
 * requests, hands them to the storage node and sends its replies. A peer can make it close that
 * peer's connection, nothing more. The work for one connection is in server-connection.ts.
 *
 * INVARIANT: strangers take no place that a peer who knows the secret could have: those who have
 * not proved it are counted apart, and of too many the oldest goes.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import { NODE_MAX_CONNECTIONS, NODE_MAX_UNPROVEN_CONNECTIONS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Address, Connection, Listener, Network } from '../io/network.js';
import type { Random } from '../io/random.js';
import { ServerMetrics } from './metrics.js';
import { type RequestHandler, ServerConnection } from './server-connection.js';
import type { Credentials, VersionRange } from './wire/handshake.js';

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
  /** Protocol versions to speak; default: all that this program does. */
  readonly versions?: VersionRange | undefined;
}

export class NodeServer {
  readonly metrics: ServerMetrics;
  readonly #options: NodeServerOptions;
  readonly #connections = new Set<ServerConnection>();
  /** Those of them that have not proved the secret and are not ending, oldest first. */
  readonly #unproven = new Set<ServerConnection>();
  #proven = 0;
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
    if (this.#stopping !== null) {
      metrics.connectionsRefused += 1;
      connection.handle({ onFrame: () => {}, onDrain: () => {}, onClose: () => {} });
      connection.close(true);
      return;
    }
    metrics.connectionsTotal += 1;
    const { clock, random, log, credentials, versions, node, disks, handler } = this.#options;
    let isProven = false;
    const accepted = new ServerConnection(connection, {
      clock,
      random,
      log,
      credentials,
      versions,
      node,
      disks: disks(),
      handler,
      metrics,
      admit: () => {
        isProven = this.#admit(accepted);
        return isProven;
      },
      onEnd: () => {
        if (isProven) this.#proven -= 1;
        this.#unproven.delete(accepted);
        this.#connections.delete(accepted);
        metrics.connections = this.#connections.size;
        if (this.#connections.size === 0) this.#ended();
      },
    });
    this.#connections.add(accepted);
    this.#unproven.add(accepted);
    metrics.connections = this.#connections.size;
    this.#shedStrangers();
  }

  /** A peer has proved itself: it leaves the strangers, and stays if there is room. */
  #admit(connection: ServerConnection): boolean {
    this.#unproven.delete(connection);
    if (this.#proven >= NODE_MAX_CONNECTIONS) {
      this.metrics.connectionsRefused += 1;
      return false;
    }
    this.#proven += 1;
    return true;
  }

  /** The oldest has had the most time to prove itself. */
  #shedStrangers(): void {
    for (const oldest of this.#unproven) {
      if (this.#unproven.size <= NODE_MAX_UNPROVEN_CONNECTIONS) return;
      this.#unproven.delete(oldest);
      this.metrics.connectionsRefused += 1;
      oldest.abort();
    }
  }

  #ended(): void {
    const stopping = this.#stopping;
    if (stopping === null || this.#stopped || this.#connections.size > 0) return;
    this.#stopped = true;
    stopping.timer.cancel();
    stopping.done();
  }
}
