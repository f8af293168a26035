/**
 * The metadata store in memory, for tests and the simulator. `MemoryServer` is the store itself;
 * each process connects to it with a `MemoryStore` of its own, whose way to the server can be cut,
 * slowed and made to lose replies, so that every outcome etcd can have is had here, and the same
 * run gives the same trace: there is no time but the Clock's and no order but that of its events.
 */
import { HoldfastError } from '../core/errors.js';
import { METADATA_TIMEOUT_MS } from '../core/limits.js';
import type { Revision } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import { Engine, eventsUnder } from './engine.js';
import { checkKey, checkPrefix, checkTransaction } from './limits.js';
import type {
  Compare,
  KeyValue,
  Lease,
  LeaseId,
  MetadataStore,
  Operation,
  RangeOptions,
  RangeResult,
  TransactionResult,
  Watch,
  WatchEvent,
  WatchHandlers,
} from './store.js';

/** The server's side: state, leases, and who is to be told of changes. */
export class MemoryServer {
  /** The world's: that of a process which is never paused or killed. */
  readonly clock: Clock;
  readonly #engine = new Engine();
  readonly #expiries = new Map<LeaseId, Timer>();
  readonly #listeners = new Set<(events: readonly WatchEvent[], revision: Revision) => void>();
  #lastLease = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  get revision(): Revision {
    return this.#engine.revision;
  }

  /** What stands under the key now, without a call: for the simulator's checks. */
  peek(key: string): KeyValue | null {
    return this.#engine.get(key);
  }

  /** All keys under the prefix now, without a call. */
  peekRange(prefix: string, options?: RangeOptions): RangeResult {
    return this.#engine.range(prefix, options);
  }

  /** Ends a lease at once, as if its time had passed. */
  expire(id: LeaseId): void {
    this.#expiries.get(id)?.cancel();
    this.#expiries.delete(id);
    this.#applied(this.#engine.revocation(id));
    this.#engine.forgetLease(id);
  }

  transact(compare: readonly Compare[], operations: readonly Operation[]): TransactionResult {
    const committed = this.#engine.holds(compare, operations);
    if (committed) this.#applied(operations);
    return { committed, revision: this.revision };
  }

  grant(ttlSeconds: number): LeaseId {
    const id = String(++this.#lastLease);
    this.#engine.grant(id, ttlSeconds);
    this.#arm(id, ttlSeconds);
    return id;
  }

  /** False when the lease is gone. */
  renew(id: LeaseId): boolean {
    const ttl = this.#engine.leaseTtl(id);
    if (ttl === null) return false;
    this.#expiries.get(id)?.cancel();
    this.#arm(id, ttl);
    return true;
  }

  listen(listener: (events: readonly WatchEvent[], revision: Revision) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Cancels the timers of leases: for a test that is over. */
  close(): void {
    for (const timer of this.#expiries.values()) timer.cancel();
    this.#expiries.clear();
  }

  #arm(id: LeaseId, ttlSeconds: number): void {
    this.#expiries.set(
      id,
      this.clock.after(ttlSeconds * 1000, () => this.expire(id)),
    );
  }

  #applied(operations: readonly Operation[]): void {
    const events = this.#engine.apply(operations);
    if (events.length === 0) return;
    for (const listener of [...this.#listeners]) listener(events, this.revision);
  }
}

/** How one call travels. Lost: the caller learns nothing until its timeout. */
export interface Trip {
  readonly requestMs?: number;
  readonly replyMs?: number;
  readonly lost?: 'request' | 'reply';
}

export interface Call {
  readonly type: 'get' | 'range' | 'transact' | 'grant' | 'keepAlive' | 'revoke';
  /** The first key, prefix or lease concerned. */
  readonly subject: string;
}

export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly name?: string;
  /** Asked for each call; without it calls take no time but a turn of the event loop each way. */
  readonly trip?: (call: Call) => Trip;
  /** Called as a call's promise settles, so that a simulator lets its reactions run. */
  readonly onSettled?: () => void;
}

/** One process's connection to the server. */
export class MemoryStore implements MetadataStore {
  readonly name: string;
  readonly server: MemoryServer;
  readonly #options: MemoryStoreOptions;
  readonly #clock: Clock;
  readonly #watches = new Set<MemoryWatch>();
  /** Calls under way, to be told that the way is cut or that the store was closed. */
  readonly #pending = new Set<(error: HoldfastError) => void>();
  #reachable = true;
  #closed = false;

  constructor(server: MemoryServer, options: MemoryStoreOptions) {
    this.server = server;
    this.#options = options;
    this.#clock = options.clock;
    this.name = options.name ?? 'memory';
  }

  get revision(): Revision {
    return this.server.revision;
  }

  /** Cuts (false) or restores the way to the server. Replies under way are lost. */
  setReachable(reachable: boolean): void {
    if (reachable === this.#reachable || this.#closed) return;
    this.#reachable = reachable;
    if (!reachable) this.#failPending(unavailable(this.name));
    for (const watch of [...this.#watches]) watch.setReachable(reachable);
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: Revision }> {
    checkKey(key);
    return this.#call({ type: 'get', subject: key }, () => ({
      entry: this.server.peek(key),
      revision: this.server.revision,
    }));
  }

  async range(prefix: string, options?: RangeOptions): Promise<RangeResult> {
    checkPrefix(prefix);
    return this.#call({ type: 'range', subject: prefix }, () =>
      this.server.peekRange(prefix, options),
    );
  }

  async transact(
    compare: readonly Compare[],
    operations: readonly Operation[],
  ): Promise<TransactionResult> {
    checkTransaction(compare, operations);
    const subject = compare[0]?.key ?? operations[0]?.key ?? '';
    return this.#call({ type: 'transact', subject }, () =>
      this.server.transact(compare, operations),
    );
  }

  watch(prefix: string, handlers: WatchHandlers): Watch {
    checkPrefix(prefix);
    if (this.#closed) throw closedError(this.name);
    const watch = new MemoryWatch(this.server, this.#clock, prefix, handlers);
    this.#watches.add(watch);
    if (this.#reachable) watch.setReachable(true);
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.close();
      },
    };
  }

  async grantLease(ttlSeconds: number): Promise<Lease> {
    const id = await this.#call({ type: 'grant', subject: '' }, () =>
      this.server.grant(ttlSeconds),
    );
    return {
      id,
      ttlSeconds,
      keepAlive: () => this.#call({ type: 'keepAlive', subject: id }, () => this.server.renew(id)),
      revoke: () => this.#call({ type: 'revoke', subject: id }, () => this.server.expire(id)),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#failPending(closedError(this.name));
  }

  #failPending(error: HoldfastError): void {
    for (const fail of [...this.#pending]) fail(error);
  }

  #call<T>(call: Call, act: () => T): Promise<T> {
    if (this.#closed) return Promise.reject(closedError(this.name));
    return new Promise((resolve, reject) => {
      let sent = false;
      const timers: Timer[] = [];
      const end = (settle: () => void): void => {
        if (!this.#pending.delete(fail)) return;
        for (const timer of timers) timer.cancel();
        settle();
        this.#options.onSettled?.();
      };
      // What has been sent may have happened: only a transaction's caller has to know.
      const fail = (error: HoldfastError): void =>
        end(() => reject(sent && call.type === 'transact' ? unknownOutcome(this.name) : error));
      this.#pending.add(fail);
      const later = (ms: number, next: () => void): void => {
        timers.push(this.#clock.after(ms, next));
      };
      if (!this.#reachable) {
        later(0, () => fail(unavailable(this.name)));
        return;
      }
      const trip = this.#options.trip?.(call) ?? {};
      sent = true;
      later(METADATA_TIMEOUT_MS, () => fail(timeout(this.name)));
      if (trip.lost === 'request') return;
      // What is on its way arrives even if the caller is cut off, paused or killed meanwhile.
      this.server.clock.after(trip.requestMs ?? 0, () => {
        const outcome = attempt(act);
        if (trip.lost === 'reply' || !this.#pending.has(fail)) return;
        later(trip.replyMs ?? 0, () => end(() => outcome(resolve, reject)));
      });
    });
  }
}

type Outcome<T> = (resolve: (value: T) => void, reject: (error: unknown) => void) => void;

function attempt<T>(act: () => T): Outcome<T> {
  try {
    const value = act();
    return (resolve) => resolve(value);
  } catch (thrown) {
    return (_, reject) => reject(thrown);
  }
}

class MemoryWatch {
  readonly #server: MemoryServer;
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #handlers: WatchHandlers;
  #queue: (() => void)[] = [];
  #timer: Timer | null = null;
  #unlisten: (() => void) | null = null;
  #connected = false;

  constructor(server: MemoryServer, clock: Clock, prefix: string, handlers: WatchHandlers) {
    this.#server = server;
    this.#clock = clock;
    this.#prefix = prefix;
    this.#handlers = handlers;
  }

  setReachable(reachable: boolean): void {
    this.close();
    if (!reachable) {
      this.#enqueue(() => {
        if (!this.#connected) return;
        this.#connected = false;
        this.#handlers.onConnected(false);
      });
      return;
    }
    const snapshot = this.#server.peekRange(this.#prefix);
    this.#enqueue(() => {
      if (this.#connected) return;
      this.#connected = true;
      this.#handlers.onConnected(true);
    });
    this.#enqueue(() => this.#handlers.onSnapshot(snapshot.entries, snapshot.revision));
    this.#unlisten = this.#server.listen((events, revision) => {
      const mine = eventsUnder(this.#prefix, events);
      if (mine.length > 0) this.#enqueue(() => this.#handlers.onEvents(mine, revision));
    });
  }

  close(): void {
    this.#unlisten?.();
    this.#unlisten = null;
    this.#timer?.cancel();
    this.#timer = null;
    this.#queue = [];
  }

  /** One timer for what waits, so that nothing overtakes what was before it. */
  #enqueue(deliver: () => void): void {
    this.#queue.push(deliver);
    this.#timer ??= this.#clock.after(0, () => {
      this.#timer = null;
      const due = this.#queue;
      this.#queue = [];
      for (const one of due) {
        one();
        // A handler closed the watch, or the way was cut: what is left must not be delivered.
        if (this.#unlisten === null) break;
      }
    });
  }
}

function unavailable(name: string): HoldfastError {
  return new HoldfastError('UNAVAILABLE', `${name}: cannot be reached`, { retryable: true });
}

function timeout(name: string): HoldfastError {
  const message = `${name}: no answer within ${METADATA_TIMEOUT_MS} ms`;
  return new HoldfastError('TIMEOUT', message, { retryable: true });
}

function unknownOutcome(name: string): HoldfastError {
  return new HoldfastError('UNKNOWN_OUTCOME', `${name}: no reply to a transaction`);
}

function closedError(name: string): HoldfastError {
  return new HoldfastError('CLOSED', `${name}: the store was closed`);
}
