/**
 * The metadata store as the rest of Holdfast sees it: a small ordered key-value store with
 * revisions, compare-and-swap transactions, watches and leases. Three implementations pass one
 * contract suite (test/contract/metadata-store.ts): etcd.ts, embedded.ts (level, one machine) and
 * memory.ts.
 *
 * All reads are linearizable. Every call is bounded by METADATA_TIMEOUT_MS and fails with
 * UNAVAILABLE or TIMEOUT (retryable); a transaction that may or may not have happened fails with
 * UNKNOWN_OUTCOME and is never retried inside. Keys are ASCII paths without spaces; values are
 * UTF-8 text (JSON).
 */
import type { Revision } from '../core/units.js';

export interface KeyValue {
  readonly key: string;
  readonly value: string;
  /** The store's revision when this key was last changed. */
  readonly modRevision: Revision;
}

/** True when the key's modRevision is this; 0 means that the key does not exist. */
export interface Compare {
  readonly key: string;
  readonly modRevision: Revision;
}

export type Operation =
  | { readonly type: 'put'; readonly key: string; readonly value: string; readonly lease?: LeaseId }
  | { readonly type: 'delete'; readonly key: string };

export interface TransactionResult {
  /** Whether every comparison held and all operations were applied. */
  readonly committed: boolean;
  readonly revision: Revision;
}

export interface RangeOptions {
  readonly limit?: number;
  readonly after?: string;
  /** Values are not wanted: they may be empty. For finding out which keys have changed. */
  readonly keysOnly?: boolean;
}

export interface RangeResult {
  /** Sorted by key. */
  readonly entries: readonly KeyValue[];
  readonly revision: Revision;
  /** More keys follow after the last entry (only when `limit` was given). */
  readonly more: boolean;
}

export type WatchEvent =
  | { readonly type: 'put'; readonly entry: KeyValue }
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: Revision };

export interface WatchHandlers {
  /**
   * The whole prefix as of `revision`: first, and again after any gap. Replaces all that was known.
   */
  onSnapshot(entries: readonly KeyValue[], revision: Revision): void;
  /** Changes in order, each once, all newer than the snapshot before them. */
  onEvents(events: readonly WatchEvent[], revision: Revision): void;
  /**
   * False while the store cannot be reached (what is known may be stale), true when it can again.
   */
  onConnected(connected: boolean): void;
}

export interface Watch {
  /** Idempotent; no handler runs afterwards. */
  close(): void;
}

/** Opaque to callers. */
export type LeaseId = string;

export interface Lease {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
  /**
   * Resolves to true when renewed, false when the store says that it is gone; rejects when
   * unreachable.
   */
  keepAlive(): Promise<boolean>;
  /** Removes the lease and its keys. Resolves also when it was gone already. */
  revoke(): Promise<void>;
}

/** One server of a store, as it sees itself. */
export interface MemberHealth {
  readonly name: string;
  /** Why it does not answer; then the rest is empty. */
  readonly fault: string | null;
  readonly version: string;
  readonly hasLeader: boolean;
  readonly usedBytes: number;
  /** Null when it does not tell. */
  readonly quotaBytes: number | null;
  readonly alarms: readonly string[];
}

export interface MetadataStore {
  /** For messages to people, without credentials: "etcd://127.0.0.1:2379" or "embedded:DIR". */
  readonly name: string;
  get(key: string): Promise<{ entry: KeyValue | null; revision: Revision }>;
  /** All keys that begin with `prefix`, which must end in '/'. `after` continues behind a key. */
  range(prefix: string, options?: RangeOptions): Promise<RangeResult>;
  /** Applies `operations` at once if every comparison holds. */
  transact(
    compare: readonly Compare[],
    operations: readonly Operation[],
  ): Promise<TransactionResult>;
  /** `prefix` must end in '/'. Keeps itself going through outages until closed. */
  watch(prefix: string, handlers: WatchHandlers): Watch;
  /** Nobody renews a lease but its holder, by keepAlive from the loop that does the work. */
  grantLease(ttlSeconds: number): Promise<Lease>;
  /** For finding out what is wrong. Only stores with servers of their own have it. */
  members?(): Promise<MemberHealth[]>;
  close(): Promise<void>;
}
