/**
 * A node's presence in the metadata store: its record, and a live key bound to a lease that its own
 * loop keeps alive. When the lease is lost (an outage longer than its time) the node registers
 * again; also when the store lost what it wrote (import, rebuild). Never in a store that holds
 * another cluster. All of it is a hint for others: a node serves whether or not it is registered.
 */
import { assert } from '../core/assert.js';
import { asFault, HoldfastError } from '../core/errors.js';
import type { ClusterId, NodeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS, RECONNECT_MAX_MS, RECONNECT_MIN_MS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { decodeCluster, decodeNode, encodeNode } from './encoding.js';
import { CLUSTER_KEY, liveKey, NODES, nodeKey } from './keys.js';
import type { NodeRecord } from './model.js';
import type { Compare, Lease, MetadataStore } from './store.js';
import { absent } from './volumes.js';

export interface NodeRegistrationOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly record: NodeRecord;
  /** A store without a cluster record will do: whoever puts it back asks the nodes found there. */
  readonly cluster: ClusterId;
  readonly ttlSeconds?: number;
  /** Called when the node becomes registered (true) or learns that it no longer is. */
  readonly onChange?: (registered: boolean) => void;
}

export class NodeRegistration {
  readonly #options: NodeRegistrationOptions;
  readonly #ttlSeconds: number;
  #record: NodeRecord;
  #lease: Lease | null = null;
  #recordWritten = false;
  #timer: Timer | null = null;
  #working: Promise<void> | null = null;
  #backOffMs = RECONNECT_MIN_MS;
  #state: 'new' | 'running' | 'stopped' = 'new';
  #registered = false;

  constructor(options: NodeRegistrationOptions) {
    this.#options = options;
    this.#record = options.record;
    this.#ttlSeconds = options.ttlSeconds ?? LEASE_TTL_SECONDS;
  }

  /** As far as this node knows. */
  get registered(): boolean {
    return this.#registered;
  }

  start(): void {
    assert(this.#state === 'new', 'a registration is started once');
    this.#state = 'running';
    this.#schedule(0);
  }

  /** Publishes a changed record (another address, a new disk) at the next turn of the loop. */
  update(record: NodeRecord): void {
    assert(record.node === this.#record.node, 'the registration of one node');
    this.#record = record;
    this.#recordWritten = false;
    if (this.#state === 'running') this.#schedule(0);
  }

  /** Ends the loop and takes the live key away, if the store can be reached. */
  async stop(): Promise<void> {
    this.#state = 'stopped';
    this.#timer?.cancel();
    this.#timer = null;
    await this.#working;
    const lease = this.#lease;
    this.#lease = null;
    this.#setRegistered(false);
    await lease?.revoke().catch(() => {}); // else it expires
  }

  #schedule(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => {
      this.#timer = null;
      if (this.#working !== null) return; // it schedules the next turn itself
      this.#working = this.#turn().finally(() => {
        this.#working = null;
      });
    });
  }

  async #turn(): Promise<void> {
    let next: number;
    try {
      await this.#renew();
      this.#backOffMs = RECONNECT_MIN_MS;
      next = this.#recordWritten ? (this.#ttlSeconds * 1000) / 3 : 0;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const error = asFault(thrown, 'UNAVAILABLE');
      // A put with a lease that is gone: begin again with a fresh one.
      if (error.code === 'NOT_FOUND' || error.code === 'WRONG_CLUSTER') this.#forgetLease();
      const fields = { node: this.#record.node, code: error.code, error: error.message };
      this.#options.log.warn(fields, 'The node could not be registered; trying again.');
      next = this.#backOffMs;
      this.#backOffMs = Math.min(this.#backOffMs * 2, RECONNECT_MAX_MS);
    }
    if (this.#state === 'running') this.#schedule(next);
  }

  async #renew(): Promise<void> {
    if (this.#lease !== null && !(await this.#lease.keepAlive())) {
      const fields = { node: this.#record.node };
      this.#options.log.warn(fields, "The node's lease had expired; registering again.");
      this.#forgetLease();
    }
    const guard = await this.#guard();
    if (this.#lease !== null && this.#recordWritten && (await this.#isStored())) return;
    const { store } = this.#options;
    this.#lease ??= await store.grantLease(this.#ttlSeconds);
    const record = this.#record;
    const { committed } = await store.transact(
      [guard],
      [
        { type: 'put', key: nodeKey(record.node), value: encodeNode(record) },
        {
          type: 'put',
          key: liveKey(record.node),
          value: record.address,
          lease: this.#lease.id,
        },
      ],
    );
    if (!committed) {
      const message = 'the cluster record changed meanwhile';
      throw new HoldfastError('CONFLICT', message, { retryable: true });
    }
    this.#recordWritten = this.#record === record;
    if (this.#state === 'running') this.#setRegistered(true);
  }

  /** Throws WRONG_CLUSTER when the store holds another cluster by now. */
  async #guard(): Promise<Compare> {
    const { store, cluster } = this.#options;
    const { entry } = await store.get(CLUSTER_KEY);
    if (entry === null) return absent(CLUSTER_KEY);
    const stored = decodeCluster(entry.value).cluster;
    if (stored === cluster) return { key: CLUSTER_KEY, modRevision: entry.modRevision };
    const message = `this node belongs to cluster ${cluster}, ${store.name} to ${stored}`;
    throw new HoldfastError('WRONG_CLUSTER', message);
  }

  /** False after somebody put the store's content back from an older state, or emptied it. */
  async #isStored(): Promise<boolean> {
    const { store } = this.#options;
    const stored = await store.get(nodeKey(this.#record.node));
    if (stored.entry?.value !== encodeNode(this.#record)) return false;
    return (await store.get(liveKey(this.#record.node))).entry !== null;
  }

  #forgetLease(): void {
    this.#lease = null;
    this.#recordWritten = false;
    this.#setRegistered(false);
  }

  #setRegistered(registered: boolean): void {
    if (registered === this.#registered) return;
    this.#registered = registered;
    this.#options.onChange?.(registered);
  }
}

/** Every node that ever registered, by id. */
export async function listNodes(store: MetadataStore): Promise<NodeRecord[]> {
  const { entries } = await store.range(NODES);
  return entries.map((entry) => decodeNode(entry.value));
}

/** Takes a node's record away. For an administrator who removed the machine. */
export async function removeNode(store: MetadataStore, node: NodeId): Promise<void> {
  await store.transact([], [{ type: 'delete', key: nodeKey(node) }]);
}
