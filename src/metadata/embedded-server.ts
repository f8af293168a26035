/**
 * The one process that has an embedded store open serves it to all, itself included, over a unix
 * socket beside the database. Requests that change something run one after another; reads answer
 * from memory, which never runs ahead of the disk. Only the holder of level's lock touches the
 * socket's name.
 */
// biome-ignore lint/style/noRestrictedImports: the socket's name and its permissions.
import { chmodSync, rmSync } from 'node:fs';
// biome-ignore lint/style/noRestrictedImports: io/network has no unix sockets.
import { createServer, type Server, type Socket } from 'node:net';
import { HoldfastError } from '../core/errors.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Random } from '../io/random.js';
import type { EmbeddedDatabase } from './embedded-database.js';
import {
  CLIENT_MAX_QUEUED_BYTES,
  encodeLine,
  LineReader,
  PROTOCOL,
  type Request,
  type RequestBody,
  type ServerMessage,
} from './embedded-protocol.js';
import { eventsUnder } from './engine.js';
import { checkPrefix } from './limits.js';
import type { LeaseId, WatchEvent } from './store.js';

export interface EmbeddedServerOptions {
  readonly database: EmbeddedDatabase;
  readonly socketPath: string;
  readonly clock: Clock;
  readonly random: Random;
}

export class EmbeddedServer {
  readonly #options: EmbeddedServerOptions;
  readonly #database: EmbeddedDatabase;
  readonly #server: Server;
  readonly #clients = new Set<Client>();
  readonly #expiries = new Map<LeaseId, Timer>();
  /** The end of the queue of changes. */
  #tail: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | null = null;

  private constructor(options: EmbeddedServerOptions) {
    this.#options = options;
    this.#database = options.database;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Begins to serve. Closes the database if it cannot. */
  static async start(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
    const server = new EmbeddedServer(options);
    try {
      await server.#listen();
    } catch (thrown) {
      await options.database.close();
      throw thrown;
    }
    const { engine } = options.database;
    // Nobody could renew while nobody served: all leases begin anew.
    for (const id of engine.leases()) server.#arm(id);
    return server;
  }

  /** Ends all connections, finishes what is under way and gives the lock up. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const timer of this.#expiries.values()) timer.cancel();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) client.end();
    await closed;
    await this.#tail;
    await this.#database.close();
  }

  async #listen(): Promise<void> {
    const { socketPath } = this.#options;
    rmSync(socketPath, { force: true }); // left by a server that died: we hold the lock
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    chmodSync(socketPath, 0o600);
  }

  #accept(socket: Socket): void {
    if (this.#closing !== null) {
      socket.destroy();
      return;
    }
    const client = new Client(
      socket,
      (request) => this.#handle(client, request),
      () => this.#clients.delete(client),
    );
    this.#clients.add(client);
    client.send({ type: 'hello', protocol: PROTOCOL });
  }

  #handle(client: Client, request: Request): void {
    const { id, body } = request;
    if (body.type === 'unwatch') {
      client.watches.delete(body.watch);
    } else if (body.type === 'watch') {
      try {
        checkPrefix(body.prefix);
        const { entries, revision } = this.#database.engine.range(body.prefix);
        client.watches.set(id, body.prefix);
        client.send({ type: 'snapshot', id, entries, revision });
      } catch (thrown) {
        this.#refuse(client, id, thrown);
      }
    } else {
      this.#answer(body).then(
        (value) => client.send({ type: 'reply', id, value }),
        (thrown: unknown) => this.#refuse(client, id, thrown),
      );
    }
  }

  async #answer(body: RequestBody): Promise<unknown> {
    const { engine } = this.#database;
    switch (body.type) {
      case 'get':
        return { entry: engine.get(body.key), revision: engine.revision };
      case 'range':
        return engine.range(body.prefix, body);
      case 'transact':
        return this.#inTurn(async () => {
          const committed = engine.holds(body.compare, body.operations);
          if (committed) this.#publish(await this.#database.apply(body.operations));
          return { committed, revision: engine.revision };
        });
      case 'grant':
        return this.#inTurn(() => this.#grant(body.ttlSeconds));
      case 'keepAlive':
        return this.#inTurn(async () => {
          if (engine.leaseTtl(body.lease) === null) return false;
          this.#arm(body.lease);
          return true;
        });
      case 'revoke':
        return this.#inTurn(() => this.#endLease(body.lease));
      default:
        throw new HoldfastError('VERSION', `embedded metadata: "${body.type}" is not known here`);
    }
  }

  #refuse(client: Client, id: number, thrown: unknown): void {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    if (this.#database.failed) void this.close();
    client.send({ type: 'error', id, code: thrown.code, message: thrown.message });
  }

  /** Runs changes one after another, in the order in which they came. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(() => {
      if (this.#closing !== null || this.#database.failed) {
        throw new HoldfastError('UNAVAILABLE', 'embedded metadata: closing', { retryable: true });
      }
      return change();
    });
    this.#tail = mine.catch(() => {});
    return mine;
  }

  async #grant(ttlSeconds: number): Promise<LeaseId> {
    if (!(Number.isFinite(ttlSeconds) && ttlSeconds >= 1)) {
      throw new HoldfastError('INVALID_ARGUMENT', `a lease of ${ttlSeconds} s`);
    }
    const id = Buffer.from(this.#options.random.bytes(8)).toString('hex');
    await this.#database.grant(id, ttlSeconds);
    this.#arm(id);
    return id;
  }

  async #endLease(id: LeaseId): Promise<boolean> {
    this.#expiries.get(id)?.cancel();
    this.#expiries.delete(id);
    if (this.#database.engine.leaseTtl(id) === null) return false;
    this.#publish(await this.#database.endLease(id));
    return true;
  }

  #arm(id: LeaseId): void {
    const ttl = this.#database.engine.leaseTtl(id);
    if (ttl === null || this.#closing !== null) return;
    this.#expiries.get(id)?.cancel();
    // Behind a slow disk it may be renewed by what came before its end, and waits as this does.
    const end = async (): Promise<void> => {
      if (this.#expiries.get(id) === timer) await this.#endLease(id);
    };
    const expire = (): void => {
      this.#inTurn(end).catch((thrown: unknown) => {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        if (this.#database.failed) void this.close();
      });
    };
    const timer = this.#options.clock.after(ttl * 1000, expire);
    this.#expiries.set(id, timer);
  }

  #publish(events: readonly WatchEvent[]): void {
    if (events.length === 0) return;
    const { revision } = this.#database.engine;
    for (const client of this.#clients) {
      for (const [id, prefix] of client.watches) {
        const mine = eventsUnder(prefix, events);
        if (mine.length > 0) client.send({ type: 'events', id, events: mine, revision });
      }
    }
  }
}

/** One connected process. */
class Client {
  /** Prefix by the watch's number. */
  readonly watches = new Map<number, string>();
  readonly #socket: Socket;

  constructor(socket: Socket, onRequest: (request: Request) => void, onGone: () => void) {
    this.#socket = socket;
    const lines = new LineReader();
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', onGone);
    socket.on('data', (data: Buffer) => {
      let requests: unknown[];
      try {
        requests = lines.push(data);
      } catch {
        socket.destroy();
        return;
      }
      for (const request of requests) onRequest(request as Request);
    });
  }

  send(message: ServerMessage): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(encodeLine(message));
    if (this.#socket.writableLength > CLIENT_MAX_QUEUED_BYTES) this.#socket.destroy();
  }

  end(): void {
    this.#socket.destroy();
  }
}
