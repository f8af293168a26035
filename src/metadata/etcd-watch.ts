/**
 * A watch of a prefix in etcd that keeps itself going: read the whole prefix at one revision, then
 * follow the events behind it. After any error, cancellation or compaction it begins again with the
 * whole prefix; it never tries to resume a stream, so there is one way to be complete and no gap to
 * reason about. Watches require a leader: a member cut off from the cluster ends them.
 */
import { assert } from '../core/assert.js';
import { METADATA_TIMEOUT_MS, RECONNECT_MAX_MS, RECONNECT_MIN_MS } from '../core/limits.js';
import { type Revision, revision } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { EtcdConnection } from './etcd-connection.js';
import { RPC, type WatchResponse } from './etcd-rpc.js';
import { prefixEnd } from './limits.js';
import type { RangeResult, WatchEvent, WatchHandlers } from './store.js';

export interface EtcdWatchOptions {
  readonly connection: EtcdConnection;
  readonly clock: Clock;
  readonly prefix: string;
  readonly handlers: WatchHandlers;
  /** The whole prefix at one revision. */
  readonly readAll: () => Promise<RangeResult>;
}

export class EtcdWatch {
  readonly #options: EtcdWatchOptions;
  #closed = false;
  #connected = false;
  #end: (() => void) | null = null;

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
  }

  /** Runs until closed. Only a handler's own failure comes out of it. */
  async run(): Promise<void> {
    const { connection } = this.#options;
    let backOff = RECONNECT_MIN_MS;
    while (!this.#over()) {
      const snapshot = await this.#options.readAll().catch(() => null);
      if (this.#over()) return;
      if (snapshot !== null) {
        this.#setConnected(true);
        if (this.#over()) return;
        this.#options.handlers.onSnapshot(snapshot.entries, snapshot.revision);
        const followed = await this.#follow(snapshot.revision);
        if (followed) backOff = RECONNECT_MIN_MS;
        if (this.#over()) return;
      }
      this.#setConnected(false);
      await connection.sleep(backOff);
      backOff = Math.min(backOff * 2, RECONNECT_MAX_MS);
    }
  }

  close(): void {
    this.#closed = true;
    this.#end?.();
  }

  #over(): boolean {
    return this.#closed || this.#options.connection.closed;
  }

  #setConnected(connected: boolean): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    this.#options.handlers.onConnected(connected);
  }

  /** Delivers what comes after `from` until the stream ends; true if it had begun. */
  async #follow(from: Revision): Promise<boolean> {
    const { connection, clock, prefix } = this.#options;
    let last: number = from;
    let created = false;
    let timer: Timer | null = null;
    let cancel: (() => void) | null = null;
    const ended = new Promise<void>((resolve) => {
      this.#end = () => {
        this.#end = null;
        timer?.cancel();
        cancel?.();
        resolve();
      };
    });
    const stop = (): void => this.#end?.();
    // A member that accepts the stream and says nothing is left.
    timer = clock.after(METADATA_TIMEOUT_MS, () => {
      connection.leave();
      stop();
    });
    const request = {
      create_request: {
        key: Buffer.from(prefix),
        range_end: Buffer.from(prefixEnd(prefix)),
        start_revision: String(from + 1),
      },
    };
    const data = (message: WatchResponse): void => {
      if (this.#end === null || this.#over()) return;
      if (message.created) {
        created = true;
        timer?.cancel();
      }
      if (message.canceled || message.compact_revision !== '0') {
        if (/auth|permission/.test(message.cancel_reason)) connection.dropToken();
        stop();
        return;
      }
      last = this.#deliver(message, last);
    };
    try {
      const stream = await connection.stream(RPC.watch, request, { data, end: stop });
      cancel = stream.cancel;
      if (this.#end === null || this.#over()) stream.cancel();
    } catch {
      stop(); // could not be opened
    }
    await ended;
    return created;
  }

  /** Returns the revision that is complete now. */
  #deliver(message: WatchResponse, last: number): number {
    const events: WatchEvent[] = [];
    let newest = last;
    for (const { type, kv } of message.events) {
      const at = Number(kv.mod_revision);
      assert(Number.isSafeInteger(at), 'revisions stay below 2^53');
      if (at <= last) continue;
      assert(at >= newest, 'etcd sends events in order');
      newest = at;
      const key = kv.key.toString();
      const modRevision = revision(at);
      if (type === 1) events.push({ type: 'delete', key, modRevision });
      else events.push({ type: 'put', entry: { key, value: kv.value.toString(), modRevision } });
    }
    if (events.length > 0) this.#options.handlers.onEvents(events, revision(newest));
    return newest;
  }
}
