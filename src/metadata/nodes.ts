/**
 * A node's presence in the metadata store: its record, and a live key bound to a lease that its own
 * loop keeps alive. When the lease is lost (an outage longer than its time) the node registers
 * again; also when the store lost what it wrote (import, rebuild). Never in a store that holds
 * another cluster, nor after it was removed from this one. All of it is a hint for others: a node
 * serves whether or not it is registered.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { ClusterId, NodeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { decodeCluster, decodeNode, encodeNode } from './encoding.js';
import { CLUSTER_KEY, liveKey, NODES, nodeKey } from './keys.js';
import { LeaseLoop } from './lease-loop.js';
import type { NodeRecord } from './model.js';
import { isRemoved, notRemoved } from './node-states.js';
import type { Compare, MetadataStore } from './store.js';
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
  readonly #loop: LeaseLoop;
  #record: NodeRecord;
  /** What holds as long as both keys stand as we wrote them, under our lease; null before that. */
  #standing: readonly Compare[] | null = null;
  #registered = false;

  constructor(options: NodeRegistrationOptions) {
    this.#options = options;
    this.#record = options.record;
    const { store, clock, ttlSeconds = LEASE_TTL_SECONDS } = options;
    const work = {
      publish: (loop: LeaseLoop) => this.#publish(loop),
      lost: () => this.#lost(),
      failed: ({ code, message, hint }: HoldfastError) => {
        const fields = { node: this.#record.node, code, error: message, hint };
        options.log.warn(fields, 'The node could not be registered; trying again.');
      },
    };
    this.#loop = new LeaseLoop({ store, clock, ttlSeconds, work });
  }

  /** As far as this node knows. */
  get registered(): boolean {
    return this.#registered;
  }

  start(): void {
    this.#loop.start();
  }

  /** Publishes a changed record (another address, a new disk) at the next turn of the loop. */
  update(record: NodeRecord): void {
    assert(record.node === this.#record.node, 'the registration of one node');
    this.#record = record;
    this.#standing = null;
    this.#loop.wake();
  }

  /** Ends the loop and takes the live key away, if the store can be reached. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#setRegistered(false);
  }

  async #publish(loop: LeaseLoop): Promise<boolean> {
    const { store } = this.#options;
    if (this.#standing !== null) {
      const { committed } = await store.transact(this.#standing, []);
      if (committed) return this.#standing !== null;
    }
    const guard = await this.#guard();
    const { node } = this.#record;
    if (await isRemoved(store, node)) {
      this.#setRegistered(false);
      throw wasRemoved(node);
    }
    const { id: lease } = await loop.lease();
    const record = this.#record;
    const compare = [guard, notRemoved(node)];
    const { committed, revision } = await store.transact(compare, [
      { type: 'put', key: nodeKey(node), value: encodeNode(record) },
      { type: 'put', key: liveKey(node), value: record.address, lease },
    ]);
    if (!committed) {
      const message = 'the cluster record changed meanwhile';
      throw new HoldfastError('CONFLICT', message, { retryable: true });
    }
    const written = [nodeKey(node), liveKey(node)].map((key) => ({ key, modRevision: revision }));
    this.#standing = this.#record === record ? [...compare, ...written] : null;
    if (loop.running) this.#setRegistered(true);
    return this.#standing !== null;
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

  #lost(): void {
    const fields = { node: this.#record.node };
    if (this.#registered) this.#options.log.warn(fields, 'The node is not registered any more.');
    this.#standing = null;
    this.#setRegistered(false);
  }

  #setRegistered(registered: boolean): void {
    if (registered === this.#registered) return;
    this.#registered = registered;
    this.#options.onChange?.(registered);
  }
}

/** For a node that is started, or runs, although it is no part of the cluster any more. */
export function wasRemoved(node: NodeId): HoldfastError {
  const hint = 'What it holds does not count. To use its disks again, empty their directories.';
  const message = `this node, ${node}, was removed from the cluster`;
  return new HoldfastError('CONFLICT', message, { hint });
}

/** Every node that ever registered, by id. */
export async function listNodes(store: MetadataStore): Promise<NodeRecord[]> {
  const { entries } = await store.range(NODES);
  return entries.map((entry) => decodeNode(entry.value));
}
