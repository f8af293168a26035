/**
 * What an owner knows of the cluster without asking: nodes, which of them live, and the placement
 * tables, kept by watches. It fits replication's Directory. While the store cannot be reached it
 * goes on answering what it knew; after an outage nobody is called dead for
 * LEASE_GRACE_AFTER_OUTAGE_MS, since leases ran out that nobody could renew.
 */
import { HoldfastError } from '../core/errors.js';
import type { NodeId } from '../core/ids.js';
import { LEASE_GRACE_AFTER_OUTAGE_MS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Address } from '../io/network.js';
import { decodeNode, decodePlacement } from './encoding.js';
import { LIVE, NODES, PLACEMENT } from './keys.js';
import type { NodeRecord, PlacementRecord } from './model.js';
import type { KeyValue, MetadataStore, Watch, WatchEvent } from './store.js';

export interface DirectoryCacheOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Called once, when everything has been read for the first time. */
  readonly onReady?: () => void;
  /** Called after each change. */
  readonly onChange?: () => void;
}

const PREFIXES = [NODES, LIVE, PLACEMENT] as const;
type Prefix = (typeof PREFIXES)[number];

export class DirectoryCache {
  readonly #options: DirectoryCacheOptions;
  readonly #nodes = new Map<NodeId, NodeRecord>();
  readonly #placement = new Map<number, PlacementRecord>();
  readonly #watches: readonly Watch[];
  readonly #read = new Set<Prefix>();
  #live = new Set<NodeId>();
  /** Who lived before the last outage; trusted until `#graceEnds`. */
  #liveBefore = new Set<NodeId>();
  #graceEnds = 0;
  #connected = false;
  #wasConnected = false;

  constructor(options: DirectoryCacheOptions) {
    this.#options = options;
    this.#watches = PREFIXES.map((prefix) =>
      options.store.watch(prefix, {
        onSnapshot: (entries) => this.#snapshot(prefix, entries),
        onEvents: (events) => this.#events(prefix, events),
        onConnected: (connected) => {
          if (prefix === LIVE) this.#setConnected(connected);
        },
      }),
    );
  }

  /** Everything has been read at least once. */
  get ready(): boolean {
    return this.#read.size === PREFIXES.length;
  }

  /** False while what is known may be stale. */
  get connected(): boolean {
    return this.#connected;
  }

  address(node: NodeId): Address | null {
    return this.#nodes.get(node)?.address ?? null;
  }

  nodes(): readonly NodeRecord[] {
    return [...this.#nodes.values()];
  }

  isLive(node: NodeId): boolean {
    if (this.#live.has(node)) return true;
    return this.#inGrace && this.#liveBefore.has(node);
  }

  get #inGrace(): boolean {
    return this.#options.clock.monotonic() < this.#graceEnds;
  }

  placement(replicas: number): PlacementRecord | null {
    return this.#placement.get(replicas) ?? null;
  }

  close(): void {
    for (const watch of this.#watches) watch.close();
  }

  #setConnected(connected: boolean): void {
    this.#connected = connected;
    if (!connected) {
      const before = this.#inGrace ? this.#liveBefore : [];
      this.#liveBefore = new Set([...before, ...this.#live]);
      return;
    }
    if (this.#wasConnected) {
      this.#graceEnds = this.#options.clock.monotonic() + LEASE_GRACE_AFTER_OUTAGE_MS;
    }
    this.#wasConnected = true;
  }

  #snapshot(prefix: Prefix, entries: readonly KeyValue[]): void {
    // Records that were known stay until they are known to be gone, not to be unreadable.
    const keys = new Set(entries.map((entry) => entry.key));
    for (const node of [...this.#nodes.keys()]) {
      if (prefix === NODES && !keys.has(NODES + node)) this.#nodes.delete(node);
    }
    for (const replicas of [...this.#placement.keys()]) {
      if (prefix === PLACEMENT && !keys.has(`${PLACEMENT}${replicas}`)) {
        this.#placement.delete(replicas);
      }
    }
    if (prefix === LIVE) this.#live = new Set();
    for (const entry of entries) this.#put(prefix, entry);
    this.#noteRead(prefix);
    this.#options.onChange?.();
  }

  #events(prefix: Prefix, events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (event.type === 'put') this.#put(prefix, event.entry);
      else this.#delete(prefix, event.key.slice(prefix.length));
    }
    this.#options.onChange?.();
  }

  #put(prefix: Prefix, entry: KeyValue): void {
    try {
      if (prefix === NODES) {
        const record = decodeNode(entry.value);
        this.#nodes.set(record.node, record);
      } else if (prefix === PLACEMENT) {
        const record = decodePlacement(entry.value);
        this.#placement.set(record.replicas, record);
      } else {
        this.#live.add(entry.key.slice(LIVE.length) as NodeId);
      }
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const fields = { key: entry.key, code: thrown.code, error: thrown.message };
      this.#options.log.error(fields, 'A metadata record cannot be read; the last good one stays.');
    }
  }

  #delete(prefix: Prefix, tail: string): void {
    if (prefix === NODES) this.#nodes.delete(tail as NodeId);
    else if (prefix === PLACEMENT) this.#placement.delete(Number(tail));
    else this.#live.delete(tail as NodeId);
  }

  #noteRead(prefix: Prefix): void {
    if (this.ready) return;
    this.#read.add(prefix);
    if (this.ready) this.#options.onReady?.();
  }
}
