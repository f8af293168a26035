/**
 * The state of a small key-value store with revisions and leases, without I/O or time: what
 * memory.ts and embedded.ts share. It follows etcd's rules (one revision a transaction that changes
 * something, a put without lease detaches the key from its former one), which the contract suite
 * compares.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { type Revision, revision } from '../core/units.js';
import { checkKey, checkPrefix, checkTransaction } from './limits.js';
import type {
  Compare,
  KeyValue,
  LeaseId,
  Operation,
  RangeOptions,
  RangeResult,
  WatchEvent,
} from './store.js';

export interface StoredEntry extends KeyValue {
  readonly lease: LeaseId | null;
}

interface LeaseState {
  readonly ttlSeconds: number;
  readonly keys: Set<string>;
}

export function leaseGone(id: LeaseId): HoldfastError {
  return new HoldfastError('NOT_FOUND', `lease ${id} has expired or was revoked`);
}

export class Engine {
  readonly #entries = new Map<string, StoredEntry>();
  readonly #leases = new Map<LeaseId, LeaseState>();
  /** Sorted keys; null after a key came or went. */
  #sorted: readonly string[] | null = [];
  #revision = 1;

  get revision(): Revision {
    return revision(this.#revision);
  }

  get(key: string): KeyValue | null {
    checkKey(key);
    const found = this.#entries.get(key);
    return found === undefined ? null : plain(found);
  }

  range(prefix: string, options: RangeOptions = {}): RangeResult {
    checkPrefix(prefix);
    const keys = this.#keys();
    const from = options.after !== undefined && options.after > prefix ? options.after : prefix;
    const entries: KeyValue[] = [];
    let more = false;
    for (let at = firstAtOrAfter(keys, from); at < keys.length; at++) {
      const key = keys[at] as string;
      if (!key.startsWith(prefix)) break;
      if (key === options.after) continue;
      if (options.limit !== undefined && entries.length >= options.limit) {
        more = true;
        break;
      }
      const entry = plain(this.#entries.get(key) as StoredEntry);
      entries.push(options.keysOnly === true ? { ...entry, value: '' } : entry);
    }
    return { entries, revision: this.revision, more };
  }

  /**
   * Whether a transaction would be applied now. Throws INVALID_ARGUMENT, or NOT_FOUND for a lease.
   */
  holds(compare: readonly Compare[], operations: readonly Operation[]): boolean {
    checkTransaction(compare, operations);
    for (const { key, modRevision } of compare) {
      if ((this.#entries.get(key)?.modRevision ?? 0) !== modRevision) return false;
    }
    for (const operation of operations) {
      if (operation.type !== 'put' || operation.lease === undefined) continue;
      if (!this.#leases.has(operation.lease)) throw leaseGone(operation.lease);
    }
    return true;
  }

  /** Applies a transaction that `holds`; returns what changed, all at one new revision. */
  apply(operations: readonly Operation[]): WatchEvent[] {
    const next = revision(this.#revision + 1);
    const events: WatchEvent[] = [];
    for (const operation of operations) {
      const { key } = operation;
      const before = this.#entries.get(key);
      if (before?.lease != null) this.#leases.get(before.lease)?.keys.delete(key);
      if (operation.type === 'delete') {
        if (before === undefined) continue;
        this.#entries.delete(key);
        this.#sorted = null;
        events.push({ type: 'delete', key, modRevision: next });
        continue;
      }
      const lease = operation.lease ?? null;
      if (lease !== null) this.#attach(lease, key);
      const entry = { key, value: operation.value, modRevision: next, lease };
      if (before === undefined) this.#sorted = null;
      this.#entries.set(key, entry);
      events.push({ type: 'put', entry: plain(entry) });
    }
    if (events.length > 0) this.#revision = next;
    return events;
  }

  grant(id: LeaseId, ttlSeconds: number): void {
    assert(!this.#leases.has(id), 'lease ids are never reused');
    this.#leases.set(id, { ttlSeconds, keys: new Set() });
  }

  leaseTtl(id: LeaseId): number | null {
    return this.#leases.get(id)?.ttlSeconds ?? null;
  }

  leases(): readonly LeaseId[] {
    return [...this.#leases.keys()];
  }

  /** The deletions that end a lease, in key order; empty when it is gone or holds nothing. */
  revocation(id: LeaseId): Operation[] {
    const keys = [...(this.#leases.get(id)?.keys ?? [])].sort();
    return keys.map((key) => ({ type: 'delete', key }));
  }

  forgetLease(id: LeaseId): void {
    assert((this.#leases.get(id)?.keys.size ?? 0) === 0, 'the keys of the lease are gone');
    this.#leases.delete(id);
  }

  /** Puts back what was stored: for a store that starts. Leases come first. */
  load(entries: readonly StoredEntry[], at: Revision): void {
    assert(this.#entries.size === 0, 'loads an empty store');
    for (const entry of entries) {
      this.#entries.set(entry.key, entry);
      if (entry.lease !== null) this.#attach(entry.lease, entry.key);
    }
    this.#sorted = null;
    this.#revision = at;
  }

  #attach(lease: LeaseId, key: string): void {
    const state = this.#leases.get(lease);
    assert(state !== undefined, `lease ${lease} exists`);
    state.keys.add(key);
  }

  #keys(): readonly string[] {
    this.#sorted ??= [...this.#entries.keys()].sort();
    return this.#sorted;
  }
}

function plain(entry: StoredEntry): KeyValue {
  return { key: entry.key, value: entry.value, modRevision: entry.modRevision };
}

/** Index of the first key not below `from`, by bisection. Keys are ASCII: code units are bytes. */
function firstAtOrAfter(keys: readonly string[], from: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < from) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The events that a watch of `prefix` is to see. */
export function eventsUnder(prefix: string, events: readonly WatchEvent[]): WatchEvent[] {
  return events.filter((event) =>
    (event.type === 'put' ? event.entry.key : event.key).startsWith(prefix),
  );
}
