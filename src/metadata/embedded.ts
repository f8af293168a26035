/**
 * The metadata store of one machine: a level database in a directory, which every local process may
 * use. Each of them is a client of the unix socket there; whoever finds nobody serving and gets
 * level's lock serves the others until it closes or dies, and then another one does. Permissions
 * are those of the directory (0700) and the socket (0600): who may connect may do everything.
 */
// biome-ignore lint/style/noRestrictedImports: the directory's permissions.
import { existsSync, mkdirSync } from 'node:fs';
// biome-ignore lint/style/noRestrictedImports: io/network has no unix sockets.
import { createConnection, type Socket } from 'node:net';
import { type ErrorCode, HoldfastError, invalid } from '../core/errors.js';
import { METADATA_TIMEOUT_MS, RECONNECT_MIN_MS } from '../core/limits.js';
import { type Revision, revision } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Random } from '../io/random.js';
import { EmbeddedDatabase } from './embedded-database.js';
import {
  encodeLine,
  LineReader,
  PROTOCOL,
  type RequestBody,
  type ServerMessage,
} from './embedded-protocol.js';
import { EmbeddedServer } from './embedded-server.js';
import { checkKey, checkPrefix, checkTransaction } from './limits.js';
import type {
  Compare,
  KeyValue,
  Lease,
  MetadataStore,
  Operation,
  RangeOptions,
  RangeResult,
  TransactionResult,
  Watch,
  WatchHandlers,
} from './store.js';

export interface EmbeddedStoreOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Bounds every call. Default METADATA_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

/** What the kernel takes as a socket's name. */
const SOCKET_PATH_MAX_BYTES = 107;
const RETRY_MAX_MS = 200;

interface PendingCall {
  readonly body: RequestBody;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: HoldfastError) => void;
  sent: boolean;
}

interface PendingWatch {
  readonly prefix: string;
  readonly handlers: WatchHandlers;
  connected: boolean;
}

export class EmbeddedStore implements MetadataStore {
  readonly name: string;
  readonly #options: EmbeddedStoreOptions;
  readonly #clock: Clock;
  readonly #socketPath: string;
  readonly #timeoutMs: number;
  readonly #calls = new Map<number, PendingCall>();
  readonly #watches = new Map<number, PendingWatch>();
  #lastId = 0;
  /** Set once the server has greeted. */
  #socket: Socket | null = null;
  #server: EmbeddedServer | null = null;
  #connecting: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #problem: HoldfastError | null = null;
  #closed = false;

  /**
   * Connects when first asked. Throws INVALID_ARGUMENT for a path that is too long for a socket.
   */
  constructor(options: EmbeddedStoreOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs ?? METADATA_TIMEOUT_MS;
    this.name = `embedded:${options.directory}`;
    this.#socketPath = `${options.directory}/socket`;
    if (Buffer.byteLength(this.#socketPath) > SOCKET_PATH_MAX_BYTES) {
      const hint = `Its path with "/socket" must not exceed ${SOCKET_PATH_MAX_BYTES} bytes.`;
      throw invalid(`${this.name}: the directory's path is too long`, hint);
    }
  }

  /** Throws NOT_FOUND where no store was ever made: a name may be mistyped. */
  static refuseMissing(directory: string): void {
    if (existsSync(databaseIn(directory))) return;
    const hint = 'Check --metadata. A new cluster: "holdfast cluster init".';
    const message = `embedded:${directory} holds no Holdfast cluster: it does not exist`;
    throw new HoldfastError('NOT_FOUND', message, { hint });
  }

  /** Whether this process is the one that serves the others now. */
  get serving(): boolean {
    return this.#server !== null;
  }

  async get(key: string): Promise<{ entry: KeyValue | null; revision: Revision }> {
    checkKey(key);
    return (await this.#call({ type: 'get', key })) as {
      entry: KeyValue | null;
      revision: Revision;
    };
  }

  async range(prefix: string, options: RangeOptions = {}): Promise<RangeResult> {
    checkPrefix(prefix);
    return (await this.#call({ type: 'range', prefix, ...options })) as RangeResult;
  }

  async transact(
    compare: readonly Compare[],
    operations: readonly Operation[],
  ): Promise<TransactionResult> {
    checkTransaction(compare, operations);
    const body = { type: 'transact', compare, operations } as const;
    return (await this.#call(body)) as TransactionResult;
  }

  watch(prefix: string, handlers: WatchHandlers): Watch {
    checkPrefix(prefix);
    if (this.#closed) throw this.#closedError();
    const id = ++this.#lastId;
    this.#watches.set(id, { prefix, handlers, connected: false });
    // Not at once: no handler runs before this call returns.
    if (this.#socket === null) this.#connect();
    else this.#socket.write(encodeLine({ id, body: { type: 'watch', prefix } }));
    return {
      close: () => {
        if (!this.#watches.delete(id)) return;
        const body = { type: 'unwatch', watch: id } as const;
        this.#socket?.write(encodeLine({ id: ++this.#lastId, body }));
      },
    };
  }

  async grantLease(ttlSeconds: number): Promise<Lease> {
    const id = (await this.#call({ type: 'grant', ttlSeconds })) as string;
    return {
      id,
      ttlSeconds,
      keepAlive: async () => (await this.#call({ type: 'keepAlive', lease: id })) === true,
      revoke: async () => {
        await this.#call({ type: 'revoke', lease: id });
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const call of [...this.#calls.values()]) call.reject(this.#closedError());
    this.#watches.clear();
    this.#wake?.();
    this.#socket?.destroy();
    await this.#connecting;
    this.#socket?.destroy();
    await this.#server?.close();
    this.#server = null;
  }

  #call(body: RequestBody): Promise<unknown> {
    if (this.#closed) return Promise.reject(this.#closedError());
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      let timer: Timer | null = null;
      const over = (): void => {
        timer?.cancel();
        this.#calls.delete(id);
      };
      const call: PendingCall = {
        body,
        sent: false,
        resolve: (value) => {
          over();
          resolve(value);
        },
        reject: (error) => {
          over();
          const unknown = body.type === 'transact' && call.sent && isSilence(error);
          reject(unknown ? this.#unknown() : error);
        },
      };
      this.#calls.set(id, call);
      timer = this.#clock.after(this.#timeoutMs, () => call.reject(this.#outOfTime(call.sent)));
      if (this.#socket === null) this.#connect();
      else this.#send(this.#socket, id, call);
    });
  }

  #send(socket: Socket, id: number, call: PendingCall): void {
    call.sent = true;
    socket.write(encodeLine({ id, body: call.body }));
  }

  /** Goes on until connected or closed, as long as anybody waits for it. */
  #connect(): void {
    if (this.#connecting !== null || this.#closed) return;
    this.#connecting = this.#connectLoop().finally(() => {
      this.#connecting = null;
      // The connection may have ended again before this: then begin anew.
      if (this.#socket === null && this.#wanted()) this.#connect();
    });
  }

  #wanted(): boolean {
    return !this.#closed && this.#calls.size + this.#watches.size > 0;
  }

  async #connectLoop(): Promise<void> {
    let backOff = RECONNECT_MIN_MS;
    while (this.#wanted() && this.#socket === null) {
      if (await this.#connectOnce()) return;
      try {
        if (await this.#serve()) continue;
      } catch (thrown) {
        this.#problem = this.#fault(thrown);
      }
      await new Promise<void>((resolve) => {
        const timer = this.#clock.after(backOff, resolve);
        this.#wake = () => {
          timer.cancel();
          resolve();
        };
      });
      this.#wake = null;
      backOff = Math.min(backOff * 2, RETRY_MAX_MS);
    }
  }

  /** Becomes the server; false when another process has the database open. */
  async #serve(): Promise<boolean> {
    if (this.#closed) return false;
    await this.#server?.close(); // one whose database failed
    this.#server = null;
    const { directory, clock, random } = this.#options;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const database = await EmbeddedDatabase.open(databaseIn(directory));
    if (database === null) return false;
    const socketPath = this.#socketPath;
    this.#server = await EmbeddedServer.start({ database, socketPath, clock, random });
    return true;
  }

  /** True when the server there has greeted. */
  #connectOnce(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = createConnection(this.#socketPath);
      const lines = new LineReader();
      const timer = this.#clock.after(this.#timeoutMs, () => socket.destroy());
      this.#wake = () => socket.destroy();
      socket.on('error', (error: NodeJS.ErrnoException) => {
        const nobody = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
        if (!nobody) this.#problem = this.#fault(error);
      });
      socket.on('close', () => {
        timer.cancel();
        this.#lost(socket);
        resolve(false);
      });
      socket.on('data', (data: Buffer) => {
        for (const message of this.#parse(socket, lines, data)) {
          if (message.type === 'hello') {
            timer.cancel();
            if (this.#greeted(socket, message.protocol)) resolve(true);
          } else {
            this.#receive(message);
          }
        }
      });
    });
  }

  #parse(socket: Socket, lines: LineReader, data: Buffer): ServerMessage[] {
    try {
      return lines.push(data) as ServerMessage[];
    } catch (thrown) {
      this.#problem = this.#fault(thrown);
      socket.destroy();
      return [];
    }
  }

  #greeted(socket: Socket, protocol: number): boolean {
    if (protocol !== PROTOCOL) {
      const message = `${this.name}: served by a program of another version`;
      this.#problem = new HoldfastError('VERSION', message, { retryable: true });
      socket.destroy();
      return false;
    }
    this.#wake = null;
    this.#socket = socket;
    this.#problem = null;
    for (const [id, watch] of this.#watches) {
      socket.write(encodeLine({ id, body: { type: 'watch', prefix: watch.prefix } }));
    }
    for (const [id, call] of this.#calls) this.#send(socket, id, call);
    return true;
  }

  #receive(message: Exclude<ServerMessage, { type: 'hello' }>): void {
    const { id } = message;
    const watch = this.#watches.get(id);
    switch (message.type) {
      case 'reply':
        this.#calls.get(id)?.resolve(message.value);
        return;
      case 'error':
        this.#calls.get(id)?.reject(
          new HoldfastError(message.code as ErrorCode, message.message, {
            retryable: message.code === 'UNAVAILABLE',
          }),
        );
        return;
      case 'snapshot':
        if (watch === undefined) return;
        watch.connected = true;
        watch.handlers.onConnected(true);
        // That handler may have closed the watch.
        if (!this.#watches.has(id)) return;
        watch.handlers.onSnapshot(message.entries, revision(message.revision));
        return;
      case 'events':
        watch?.handlers.onEvents(message.events, revision(message.revision));
    }
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#socket = null;
    for (const call of [...this.#calls.values()]) {
      // Whether it happened is unknown; everything else is simply asked again.
      if (call.body.type === 'transact' && call.sent) call.reject(this.#unknown());
    }
    for (const [id, watch] of [...this.#watches]) {
      if (!this.#watches.has(id) || !watch.connected) continue;
      watch.connected = false;
      watch.handlers.onConnected(false);
    }
    if (this.#wanted()) this.#connect();
  }

  #fault(thrown: unknown): HoldfastError {
    if (thrown instanceof HoldfastError) return thrown;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    const message = `${this.name}: cannot be reached (${reason})`;
    return new HoldfastError('UNAVAILABLE', message, { retryable: true, cause: thrown });
  }

  #outOfTime(sent: boolean): HoldfastError {
    if (!sent && this.#problem !== null) return this.#problem;
    const message = `${this.name}: no answer within ${this.#timeoutMs} ms`;
    return new HoldfastError(sent ? 'TIMEOUT' : 'UNAVAILABLE', message, { retryable: true });
  }

  #unknown(): HoldfastError {
    return new HoldfastError('UNKNOWN_OUTCOME', `${this.name}: no reply to a transaction`);
  }

  #closedError(): HoldfastError {
    return new HoldfastError('CLOSED', `${this.name}: the store was closed`);
  }
}

function databaseIn(directory: string): string {
  return `${directory}/db`;
}

/** Nothing was heard, as against a server that said why it refused. */
function isSilence(error: HoldfastError): boolean {
  return error.code === 'TIMEOUT' || error.code === 'CLOSED';
}
