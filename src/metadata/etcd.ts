/**
 * The metadata store on etcd (3.4 or newer), over the few rpcs of etcd-rpc.ts (which says why not
 * the etcd3 package). Reads are linearizable, transactions are sent at most once, leases live by
 * their holder's keepAlive only, and watches begin again with the whole prefix after any error.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import { type Revision, revision } from '../core/units.js';
import { EtcdConnection, type EtcdConnectionOptions } from './etcd-connection.js';
import {
  type Int64,
  type RangeRequest,
  type RequestOp,
  RPC,
  type RpcCompare,
  type RpcKeyValue,
} from './etcd-rpc.js';
import { EtcdWatch } from './etcd-watch.js';
import { checkKey, checkPrefix, checkTransaction, prefixEnd } from './limits.js';
import type {
  Compare,
  KeyValue,
  Lease,
  MemberHealth,
  MetadataStore,
  Operation,
  RangeOptions,
  RangeResult,
  TransactionResult,
  Watch,
  WatchHandlers,
} from './store.js';

/** Keys of one page when a whole prefix is read. */
const PAGE = 256;
/** A compaction between two pages of one read is rare; three in a row are something else. */
const COMPACTED_RETRIES = 3;

export class EtcdStore implements MetadataStore {
  readonly name: string;
  readonly #options: EtcdConnectionOptions;
  readonly #connection: EtcdConnection;
  readonly #watches = new Set<EtcdWatch>();

  /** Connects when first asked. */
  constructor(options: EtcdConnectionOptions) {
    this.name = options.name;
    this.#options = options;
    this.#connection = new EtcdConnection(options);
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: Revision }> {
    checkKey(key);
    const reply = await this.#connection.repeatable(RPC.range, { key: Buffer.from(key) });
    const found = reply.kvs[0];
    return {
      entry: found === undefined ? null : entryOf(found),
      revision: revisionOf(reply.header.revision),
    };
  }

  members(): Promise<MemberHealth[]> {
    return Promise.all(this.#options.endpoints.map((endpoint) => this.#member(endpoint)));
  }

  /** Over a connection of its own, as the store's is to whichever member answers. */
  async #member(name: string): Promise<MemberHealth> {
    const connection = new EtcdConnection({ ...this.#options, endpoints: [name] });
    try {
      const { version, leader, dbSize, dbSizeQuota, errors } = await connection.repeatable(
        RPC.status,
        {},
      );
      const quotaBytes = dbSizeQuota === '0' ? null : Number(dbSizeQuota);
      const hasLeader = leader !== '0';
      const usedBytes = Number(dbSize);
      return { name, fault: null, version, hasLeader, usedBytes, quotaBytes, alarms: errors };
    } catch (thrown) {
      const fault = asFault(thrown, 'UNAVAILABLE').message;
      const unknown = { version: '', hasLeader: false, usedBytes: 0, quotaBytes: null, alarms: [] };
      return { name, fault, ...unknown };
    } finally {
      connection.close();
    }
  }

  async range(prefix: string, options: RangeOptions = {}): Promise<RangeResult> {
    checkPrefix(prefix);
    if (options.limit !== undefined && options.limit <= PAGE) {
      return this.#page(prefix, options, options.limit, undefined);
    }
    return this.#readAll(prefix, options);
  }

  async transact(
    compare: readonly Compare[],
    operations: readonly Operation[],
  ): Promise<TransactionResult> {
    checkTransaction(compare, operations);
    const reply = await this.#connection.once(RPC.txn, {
      compare: compare.map(
        ({ key, modRevision }): RpcCompare => ({
          result: 0,
          target: 2,
          key: Buffer.from(key),
          mod_revision: String(modRevision),
        }),
      ),
      success: operations.map(requestOp),
    });
    return { committed: reply.succeeded, revision: revisionOf(reply.header.revision) };
  }

  watch(prefix: string, handlers: WatchHandlers): Watch {
    checkPrefix(prefix);
    const connection = this.#connection;
    if (connection.closed) {
      throw new HoldfastError('CLOSED', `${this.name}: the store was closed`);
    }
    const watch = new EtcdWatch({
      connection,
      clock: this.#options.clock,
      prefix,
      handlers,
      readAll: () => this.#readAll(prefix, {}),
    });
    this.#watches.add(watch);
    // What a handler throws is a bug: as an unhandled rejection it stops the process.
    void watch.run();
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.close();
      },
    };
  }

  async grantLease(ttlSeconds: number): Promise<Lease> {
    // May be granted twice when a reply is lost; the one nobody knows expires by itself.
    const reply = await this.#connection.repeatable(RPC.leaseGrant, { TTL: ttlSeconds });
    const id = reply.ID;
    return {
      id,
      ttlSeconds: Number(reply.TTL),
      keepAlive: () => this.#keepAlive(id),
      revoke: () => this.#revoke(id),
    };
  }

  async close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#connection.close();
  }

  async #keepAlive(id: Int64): Promise<boolean> {
    const reply = await this.#connection.repeatableStream(RPC.leaseKeepAlive, { ID: id });
    return Number(reply.TTL) > 0;
  }

  async #revoke(id: Int64): Promise<void> {
    try {
      await this.#connection.repeatable(RPC.leaseRevoke, { ID: id });
    } catch (error) {
      if (!(error instanceof HoldfastError && error.code === 'NOT_FOUND')) throw error;
    }
  }

  /** All of a prefix as of one revision, in pages; once more if that revision is compacted away. */
  async #readAll(prefix: string, options: RangeOptions): Promise<RangeResult> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#readPages(prefix, options);
      } catch (error) {
        const compacted = error instanceof HoldfastError && error.code === 'CONFLICT';
        if (!compacted || attempt === COMPACTED_RETRIES) throw error;
      }
    }
  }

  async #readPages(prefix: string, options: RangeOptions): Promise<RangeResult> {
    const { limit, keysOnly = false } = options;
    const entries: KeyValue[] = [];
    let at: Revision | undefined;
    let behind = options.after;
    for (;;) {
      const wanted = limit === undefined ? PAGE : Math.min(PAGE, limit - entries.length);
      const rest = { keysOnly, ...(behind === undefined ? {} : { after: behind }) };
      const page = await this.#page(prefix, rest, wanted, at);
      at ??= page.revision;
      for (const entry of page.entries) entries.push(entry);
      behind = page.entries.at(-1)?.key;
      const full = limit !== undefined && entries.length >= limit;
      if (!page.more || full || behind === undefined) {
        return { entries, revision: at, more: page.more };
      }
    }
  }

  async #page(
    prefix: string,
    { after, keysOnly = false }: RangeOptions,
    limit: number,
    at: Revision | undefined,
  ): Promise<RangeResult> {
    const behind = after !== undefined && after >= prefix;
    const request: RangeRequest = {
      key: Buffer.from(behind ? `${after}\0` : prefix),
      range_end: Buffer.from(prefixEnd(prefix)),
      limit,
      ...(at === undefined ? {} : { revision: String(at) }),
      ...(keysOnly ? { keys_only: true } : {}),
    };
    const reply = await this.#connection.repeatable(RPC.range, request);
    return {
      entries: reply.kvs.map(entryOf),
      revision: at ?? revisionOf(reply.header.revision),
      more: reply.more,
    };
  }
}

function requestOp(operation: Operation): RequestOp {
  const key = Buffer.from(operation.key);
  if (operation.type === 'delete') return { request_delete_range: { key } };
  const { value, lease } = operation;
  return { request_put: { key, value: Buffer.from(value), lease: lease ?? '0' } };
}

function entryOf(found: RpcKeyValue): KeyValue {
  return {
    key: found.key.toString(),
    value: found.value.toString(),
    modRevision: revisionOf(found.mod_revision),
  };
}

function revisionOf(text: Int64): Revision {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw new HoldfastError('INCONSISTENT', `etcd revision ${text} is out of range`);
  }
  return revision(value);
}
