/**
 * The way to an etcd cluster: one channel an endpoint, one of them in use, the next one after a
 * failure. Every call is bounded by METADATA_TIMEOUT_MS on the monotonic clock. Reads and other
 * calls that may be repeated are, elsewhere, until then; a call made `once` is sent only on a
 * channel that is ready, never sent again, and ends in UNKNOWN_OUTCOME unless the server answered
 * or refused it.
 */
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { METADATA_TIMEOUT_MS, RECONNECT_MAX_MS, RECONNECT_MIN_MS } from '../core/limits.js';
import { MIB } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import { faultOf, verdict } from './etcd-errors.js';
import { RPC, type Rpc } from './etcd-rpc.js';

export interface EtcdConnectionOptions {
  /** HOST:PORT of each member. */
  readonly endpoints: readonly string[];
  readonly credentials: ChannelCredentials;
  readonly user: { readonly name: string; readonly password: string } | null;
  readonly clock: Clock;
  /** For messages. */
  readonly name: string;
  /** Bounds every call. Default METADATA_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

const CHANNEL_OPTIONS = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS,
  'grpc.enable_retries': 0,
  'grpc.max_receive_message_length': 512 * MIB,
};

/** With several endpoints one that does not answer is left after this part of the whole time. */
const ATTEMPT_FRACTION = 0.3;
/** How long a channel may take to be ready before the next endpoint is tried. */
const READY_MS = 1_000;

type Attempt<T> =
  | { readonly type: 'answered'; readonly value: T }
  | { readonly type: 'failed'; readonly error: ServiceError }
  | { readonly type: 'timeout' };

export class EtcdConnection {
  readonly name: string;
  readonly #options: EtcdConnectionOptions;
  readonly #clock: Clock;
  readonly #clients: readonly Client[];
  readonly #timeoutMs: number;
  /** Ends of what is under way, for `close`. */
  readonly #open = new Set<() => void>();
  #active = 0;
  #token: Promise<string | null> | null = null;
  #lastError: HoldfastError | null = null;
  #closed = false;

  constructor(options: EtcdConnectionOptions) {
    assert(options.endpoints.length > 0, 'at least one endpoint');
    this.#options = options;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs ?? METADATA_TIMEOUT_MS;
    this.name = options.name;
    this.#clients = options.endpoints.map(
      (endpoint) => new Client(`dns:${endpoint}`, options.credentials, CHANNEL_OPTIONS),
    );
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls until an answer, a refusal or the timeout. For calls that may happen twice. */
  async repeatable<Q, R>(rpc: Rpc<Q, R>, request: Q): Promise<R> {
    return this.#repeat((client, metadata, ms) => this.#unary(client, rpc, request, metadata, ms));
  }

  /** The same over a stream of which one message is sent and one awaited. */
  async repeatableStream<Q, R>(rpc: Rpc<Q, R>, request: Q): Promise<R> {
    return this.#repeat((client, metadata, ms) => {
      return this.#oneReply(client, rpc, request, metadata, ms);
    });
  }

  /** Calls at most once. UNAVAILABLE: not sent. UNKNOWN_OUTCOME: sent, and no answer. */
  async once<Q, R>(rpc: Rpc<Q, R>, request: Q): Promise<R> {
    const end = this.#clock.monotonic() + this.#timeoutMs;
    for (let again = false; ; again = true) {
      const metadata = await this.#metadata(end);
      const client = await this.#readyClient(end);
      const left = Math.max(1, end - this.#clock.monotonic());
      const attempt = await this.#unary(client, rpc, request, metadata, left);
      if (attempt.type === 'answered') return attempt.value;
      if (attempt.type === 'timeout') {
        this.#rotate(client);
        throw this.#closed ? this.#unknown('closed meanwhile') : this.#unknown('no answer in time');
      }
      const found = verdict(attempt.error);
      if (found === 'authenticate' && this.#options.user !== null && !again) {
        this.#token = null;
        continue; // refused for its token before anything else was looked at
      }
      if (found !== 'elsewhere') throw faultOf(attempt.error, this.name);
      this.#rotate(client);
      throw this.#unknown(attempt.error.details);
    }
  }

  /** A stream to the endpoint in use. `onEnd` is called once, and tells the error that ended it. */
  async stream<Q, R>(
    rpc: Rpc<Q, R>,
    first: Q,
    on: { data(message: R): void; end(error: ServiceError | null): void },
  ): Promise<{ cancel(): void }> {
    const end = this.#clock.monotonic() + this.#timeoutMs;
    const metadata = await this.#metadata(end);
    const client = await this.#readyClient(end);
    const call = this.#duplex(client, rpc, metadata);
    let over = false;
    const finish = (error: ServiceError | null): void => {
      if (over) return;
      over = true;
      this.#open.delete(cancel);
      if (error !== null) {
        if (verdict(error) === 'authenticate') this.#token = null;
        if (!this.#closed) this.#rotate(client);
      }
      on.end(error);
    };
    const cancel = (): void => call.cancel();
    this.#open.add(cancel);
    call.on('data', (message: R) => {
      if (!over) on.data(message);
    });
    call.on('error', (error: ServiceError) => finish(error));
    call.on('end', () => finish(null));
    call.write(first);
    return {
      cancel: () => {
        over = true;
        this.#open.delete(cancel);
        call.cancel();
      },
    };
  }

  /** The next call takes a fresh token. */
  dropToken(): void {
    this.#token = null;
  }

  /** The next call goes to another endpoint: this one does not do its work. */
  leave(): void {
    this.#rotate(this.#client());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of [...this.#open]) end();
    for (const client of this.#clients) client.close();
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | null = null;
      const wake = (): void => {
        timer?.cancel();
        this.#open.delete(wake);
        resolve();
      };
      timer = this.#clock.after(ms, wake);
      this.#open.add(wake);
    });
  }

  async #repeat<R>(
    call: (client: Client, metadata: Metadata, ms: number) => Promise<Attempt<R>>,
  ): Promise<R> {
    const end = this.#clock.monotonic() + this.#timeoutMs;
    let backOff = RECONNECT_MIN_MS;
    let reached = false;
    for (;;) {
      this.#checkOpen();
      if (this.#clock.monotonic() >= end) throw this.#outOfTime(reached);
      const metadata = await this.#metadata(end);
      const client = this.#client();
      const ms = this.#attemptMs(end);
      const attempt = await call(client, metadata, ms);
      if (attempt.type === 'answered') return attempt.value;
      this.#checkOpen();
      if (attempt.type === 'timeout') {
        reached = true;
        this.#rotate(client);
        continue;
      }
      const found = verdict(attempt.error);
      if (found === 'refused') throw faultOf(attempt.error, this.name);
      if (found === 'authenticate') {
        if (this.#options.user === null) throw faultOf(attempt.error, this.name);
        this.#token = null;
      } else {
        this.#lastError = faultOf(attempt.error, this.name);
        this.#rotate(client);
      }
      await this.sleep(Math.min(backOff, Math.max(1, end - this.#clock.monotonic())));
      backOff = Math.min(backOff * 2, RECONNECT_MAX_MS / 4);
    }
  }

  /** With several endpoints, one that is silent must leave time for the others. */
  #attemptMs(end: number): number {
    const left = Math.max(1, end - this.#clock.monotonic());
    return this.#clients.length > 1 ? Math.min(left, this.#timeoutMs * ATTEMPT_FRACTION) : left;
  }

  #client(): Client {
    return this.#clients[this.#active] as Client;
  }

  #rotate(from: Client): void {
    // Several calls may fail at the same endpoint: only the first of them moves on.
    if (this.#client() === from) this.#active = (this.#active + 1) % this.#clients.length;
  }

  /**
   * A client whose channel is ready, so that a failure to connect is known to be no more than that.
   */
  async #readyClient(end: number): Promise<Client> {
    for (;;) {
      this.#checkOpen();
      const left = end - this.#clock.monotonic();
      if (left <= 0) throw this.#outOfTime(false);
      const client = this.#client();
      if (await this.#becomesReady(client, Math.min(left, READY_MS))) return client;
      this.#rotate(client);
      await this.sleep(RECONNECT_MIN_MS);
    }
  }

  #becomesReady(client: Client, ms: number): Promise<boolean> {
    const channel = client.getChannel();
    return new Promise((resolve) => {
      let over = false;
      const finish = (ready: boolean): void => {
        if (over) return;
        over = true;
        timer.cancel();
        this.#open.delete(stop);
        resolve(ready);
      };
      const stop = (): void => finish(false);
      const timer = this.#clock.after(ms, stop);
      this.#open.add(stop);
      const look = (): void => {
        if (over) return;
        const state = channel.getConnectivityState(true);
        if (state === connectivityState.READY) finish(true);
        else if (state === connectivityState.SHUTDOWN) finish(false);
        else channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, look);
      };
      look();
    });
  }

  /** What goes with every call: only a member that has a leader may answer, and the token. */
  async #metadata(end: number): Promise<Metadata> {
    const metadata = new Metadata();
    metadata.set('hasleader', 'true');
    if (this.#options.user === null) return metadata;
    this.#token ??= this.#authenticate(end);
    const mine = this.#token;
    try {
      const token = await mine;
      if (token !== null) metadata.set('token', token);
      return metadata;
    } catch (error) {
      if (this.#token === mine) this.#token = null;
      throw error;
    }
  }

  /** Null when the cluster does not ask for authentication. */
  async #authenticate(end: number): Promise<string | null> {
    const { user } = this.#options;
    assert(user !== null, 'there is a user');
    const request = { name: user.name, password: user.password };
    let backOff = RECONNECT_MIN_MS;
    for (;;) {
      this.#checkOpen();
      if (this.#clock.monotonic() >= end) throw this.#outOfTime(false);
      const at = this.#client();
      const ms = this.#attemptMs(end);
      const attempt = await this.#unary(at, RPC.authenticate, request, new Metadata(), ms);
      if (attempt.type === 'answered') return attempt.value.token;
      if (attempt.type === 'failed') {
        const { code, details } = attempt.error;
        if (code === status.FAILED_PRECONDITION && /not enabled/.test(details)) return null;
        const fault = faultOf(attempt.error, this.name);
        if (verdict(attempt.error) === 'refused') throw fault;
        this.#lastError = fault;
      }
      this.#rotate(at);
      await this.sleep(backOff);
      backOff = Math.min(backOff * 2, RECONNECT_MAX_MS / 4);
    }
  }

  #unary<Q, R>(
    client: Client,
    rpc: Rpc<Q, R>,
    request: Q,
    metadata: Metadata,
    ms: number,
  ): Promise<Attempt<R>> {
    return this.#bounded(ms, (settle) => {
      const { path, requestSerialize, responseDeserialize } = rpc;
      const call = client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        (error, value) => {
          if (error !== null) settle({ type: 'failed', error });
          else settle({ type: 'answered', value: value as R });
        },
      );
      return () => call.cancel();
    });
  }

  #oneReply<Q, R>(
    client: Client,
    rpc: Rpc<Q, R>,
    request: Q,
    metadata: Metadata,
    ms: number,
  ): Promise<Attempt<R>> {
    return this.#bounded(ms, (settle) => {
      const call = this.#duplex(client, rpc, metadata);
      call.on('data', (value: R) => {
        settle({ type: 'answered', value });
        call.cancel();
      });
      call.on('error', (error: ServiceError) => settle({ type: 'failed', error }));
      call.on('end', () => settle({ type: 'timeout' }));
      call.write(request);
      return () => call.cancel();
    });
  }

  #duplex<Q, R>(client: Client, rpc: Rpc<Q, R>, metadata: Metadata): ClientDuplexStream<Q, R> {
    const { path, requestSerialize, responseDeserialize } = rpc;
    return client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
  }

  #bounded<R>(
    ms: number,
    begin: (settle: (attempt: Attempt<R>) => void) => () => void,
  ): Promise<Attempt<R>> {
    return new Promise((resolve) => {
      let over = false;
      const settle = (attempt: Attempt<R>): void => {
        if (over) return;
        over = true;
        timer.cancel();
        this.#open.delete(stop);
        resolve(attempt);
      };
      const stop = (): void => {
        settle({ type: 'timeout' });
        cancel();
      };
      const timer = this.#clock.after(ms, stop);
      this.#open.add(stop);
      const cancel = begin(settle);
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new HoldfastError('CLOSED', `${this.name}: the store was closed`);
  }

  #outOfTime(reached: boolean): HoldfastError {
    if (!reached && this.#lastError !== null) return this.#lastError;
    const code = reached ? 'TIMEOUT' : 'UNAVAILABLE';
    const message = `${this.name}: no answer within ${this.#timeoutMs} ms`;
    return new HoldfastError(code, message, { retryable: true });
  }

  #unknown(why: string): HoldfastError {
    const message = `${this.name}: no reply to a transaction (${why.slice(0, 200)})`;
    return new HoldfastError('UNKNOWN_OUTCOME', message);
  }
}
