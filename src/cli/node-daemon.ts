/**
 * A storage node as a process: checks everything before it touches anything, then puts the real
 * disks, engine, server, metadata and monitoring together, and takes them apart in order at the
 * end.
 */
import { DiskStore } from '../block/disk-store.js';
import type { DiskStats } from '../block/disk-store-api.js';
import { NodeServer } from '../block/server.js';
import type { RequestHandler } from '../block/server-connection.js';
import { StorageNode } from '../block/storage-node.js';
import { NodeClients } from '../block/wire/client.js';
import type { Request } from '../block/wire/messages.js';
import { present } from '../core/assert.js';
import { type ErrorCode, HoldfastError } from '../core/errors.js';
import { type ClusterId, idFromBytes, type NodeId } from '../core/ids.js';
import { STOP_GRACE_MS } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import { parseAddress } from '../io/address.js';
import type { Log } from '../io/log.js';
import type { Address } from '../io/network.js';
import { nodeClock } from '../io/node/clock.js';
import { type OpenedDisk, openNodeDisk } from '../io/node/disk.js';
import type { HttpService } from '../io/node/http.js';
import { createLog, type LogLevel } from '../io/node/log.js';
import { lowLatencyHere } from '../io/node/low-latency.js';
import { expectBuffers, onStopRequest, optimizeEarly, shareBuffers } from '../io/node/process.js';
import { nodeRandom } from '../io/node/random.js';
import { tcpNetwork } from '../io/node/tcp.js';
import { readCluster } from '../metadata/cluster.js';
import { METADATA_SCHEMA, type NodeRecord } from '../metadata/model.js';
import { isRemoved } from '../metadata/node-states.js';
import { listNodes, wasRemoved } from '../metadata/nodes.js';
import type { MetadataStore } from '../metadata/store.js';
import type { ScrubbedDisks } from '../replication/scrubber.js';
import { EXIT_CODES } from './errors.js';
import {
  checkCluster,
  checkNotMissing,
  checkRoom,
  commonIdentity,
  type DataDirectory,
  type DiskIdentity,
  inspectDirectories,
} from './node-directories.js';
import { NodeMetadata } from './node-metadata.js';
import { startMonitor } from './node-monitor.js';
import { checkSecret } from './node-secret.js';
import { checkNoTwin } from './node-twin.js';
import { spokenVersions } from './protocol.js';
import { programVersion } from './version.js';

/** How long a node with formatted disks waits for the metadata store before it serves without. */
const METADATA_PATIENCE_MS = 1_000;
/** Kept of the grace for what comes after the last connection. */
const CLOSING_MS = 2_000;
/** These do not pass by waiting. */
const LASTING: readonly ErrorCode[] = [
  'INVALID_ARGUMENT',
  'UNAUTHENTICATED',
  'WRONG_CLUSTER',
  'CONFLICT',
  'VERSION',
];

/** Turns a callback into a promise. */
function later<T>(
  start: (done: (error: HoldfastError | null, value: T | null) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => {
      if (error !== null) reject(error);
      else resolve(value as T);
    });
  });
}

/** What scrub is to look at. */
function disksOf(storage: StorageNode): ScrubbedDisks {
  const works = ({ state }: DiskStats): boolean => state === 'ok' || state === 'full';
  return {
    incarnations: () =>
      storage
        .stats()
        .filter(works)
        .map(({ incarnation }) => incarnation),
    handle: (request, reply) => storage.handle(request, reply),
    takeRotten: (disk) => storage.takeRotten(disk),
  };
}

/** What a request moves, for `LowLatency`. */
function bytesOf(request: Request): number {
  if (request.type === 'read') return request.count * PAGE_BYTES;
  if (request.type !== 'append') return 0;
  return request.batch.reduce((sum, part) => sum + part.length, 0);
}

/** Processors do not fall asleep while small requests come one after the other. */
function heeded(storage: StorageNode): RequestHandler {
  const lowLatency = lowLatencyHere(process.env);
  if (lowLatency === null) return storage;
  return {
    handle: (request, reply) => {
      lowLatency.came(bytesOf(request));
      storage.handle(request, reply);
    },
  };
}

/** Checked; node.ts says where they come from. */
export interface NodeSettings {
  readonly dataDir: readonly string[];
  readonly listen: Address;
  readonly advertise?: Address | undefined;
  readonly metadata: string;
  readonly zone: string;
  readonly capacity?: number | undefined;
  readonly journalSize: number;
  readonly secret: Uint8Array;
  readonly metricsListen?: Address | undefined;
  readonly logLevel: LogLevel;
  readonly json: boolean;
  readonly exitWithStdin: boolean;
}

export class NodeDaemon {
  readonly #settings: NodeSettings;
  readonly #log: Log;
  readonly #metadata: NodeMetadata;
  readonly #disks: OpenedDisk[] = [];
  #identity: DiskIdentity | null = null;
  #directories: readonly DataDirectory[] = [];
  #troubles: string[] = [];
  #clients: NodeClients | null = null;
  #server: NodeServer | null = null;
  #storage: StorageNode | null = null;
  #monitor: HttpService | null = null;

  constructor(settings: NodeSettings) {
    this.#settings = settings;
    this.#log = createLog({ level: settings.logLevel });
    this.#metadata = new NodeMetadata({
      url: settings.metadata,
      clock: nodeClock,
      random: nodeRandom,
      log: this.#log,
      env: process.env,
      check: async (store) => {
        const { cluster } = await readCluster(store);
        this.#identity ??= { cluster, node: idFromBytes<NodeId>(nodeRandom.bytes(16)) };
        checkCluster(this.#identity, cluster, store.name);
        const { node } = this.#identity;
        if (await isRemoved(store, node)) throw wasRemoved(node);
        // Later than this daemon's start; before, it is done once the disks are locked.
        if (this.#disks.length > 0) await this.#checkNoTwin(store, this.#identity);
        if (!this.#isJoining) return;
        const nodes = await listNodes(store);
        checkNotMissing(this.#directories, this.#lastingAddress(), nodes);
        await checkSecret({ cluster, secret: settings.secret }, nodes);
      },
    });
  }

  /** Resolves when the node has stopped in order; rejects with what kept it from starting. */
  async run(): Promise<void> {
    let stop: (reason: string) => void = () => {};
    const stopped = new Promise<string>((resolve) => {
      stop = resolve;
    });
    expectBuffers();
    shareBuffers();
    optimizeEarly();
    const forget = onStopRequest({ stdin: this.#settings.exitWithStdin }, stop);
    try {
      await this.#start();
      const reason = await stopped;
      this.#log.info({ reason }, 'Stopping.');
    } finally {
      const giveUp = nodeClock.after(STOP_GRACE_MS, () => process.exit(EXIT_CODES.TIMEOUT));
      await this.#stop();
      giveUp.cancel();
      forget();
    }
  }

  async #start(): Promise<void> {
    const { dataDir, listen, metricsListen } = this.#settings;
    const directories = inspectDirectories(dataDir);
    this.#directories = directories;
    this.#identity = commonIdentity(directories);
    const isOpen = await this.#openMetadata(this.#isJoining);
    const identity = this.#identity as DiskIdentity;
    await this.#probe(listen);
    if (metricsListen !== undefined) await this.#probe(metricsListen);
    await this.#prepareDisks(identity, directories);
    const { server, storage } = await this.#compose(identity);
    if (metricsListen !== undefined) this.#monitor = await this.#startMonitor(server, storage);
    const bound = await later<Address>((done) => server.listen(listen, done));
    const address = this.#advertised(bound);
    const { cluster, node } = identity;
    const record = this.#record(node, address, storage);
    const requests = present(this.#clients, 'clients');
    this.#metadata.register({ record, cluster, requests, disks: disksOf(storage) });
    if (!isOpen) this.#metadata.keepOpening();
    this.#announce(identity, bound, address);
  }

  /** Whether a data directory is to be formatted. */
  get #isJoining(): boolean {
    return this.#directories.some(({ superblock }) => superblock === null);
  }

  /** Whether the store is open. Without a formatted disk it must be, to know the cluster. */
  async #openMetadata(isNeeded: boolean): Promise<boolean> {
    const opening = this.#metadata.open();
    if (isNeeded) {
      await opening;
      return true;
    }
    const patience = new Promise<'late'>((resolve) => {
      nodeClock.after(METADATA_PATIENCE_MS, () => resolve('late'));
    });
    let isLate = false;
    opening.catch((thrown) => {
      if (!isLate) return;
      if (!(thrown instanceof HoldfastError)) throw thrown;
      this.#metadata.warn(thrown);
      this.#metadata.keepOpening();
    });
    try {
      isLate = (await Promise.race([opening, patience])) === 'late';
      return true;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError) || LASTING.includes(thrown.code)) throw thrown;
      this.#metadata.warn(thrown);
      return false;
    }
  }

  #checkNoTwin(store: MetadataStore, { cluster, node }: DiskIdentity): Promise<void> {
    const credentials = { cluster, secret: this.#settings.secret };
    return checkNoTwin(store, credentials, node, this.#lastingAddress());
  }

  /** Throws ADDRESS_IN_USE or INVALID_ARGUMENT before any disk is touched. */
  async #probe(address: Address): Promise<void> {
    const refuse = (): void => {};
    const listener = await later<{ close(): void }>((done) => {
      tcpNetwork.listen(address, refuse, done);
    });
    listener.close();
  }

  async #prepareDisks(
    identity: DiskIdentity,
    directories: readonly DataDirectory[],
  ): Promise<void> {
    const { journalSize: journalBytes } = this.#settings;
    for (const { path, superblock } of directories) {
      if (superblock === null) checkRoom(path, journalBytes);
    }
    for (const { path } of directories) {
      this.#disks.push(await later<OpenedDisk>((done) => openNodeDisk(path, done)));
    }
    // Behind the locks: who starts twice on the same directories is told so instead.
    await this.#metadata.look((store) => this.#checkNoTwin(store, identity));
    for (const [at, { superblock, path }] of directories.entries()) {
      if (superblock !== null) continue;
      const { disk } = this.#disks[at] as OpenedDisk;
      await later((done) => {
        DiskStore.format(disk, { ...identity, journalBytes }, nodeRandom, done);
      });
      this.#log.info({ disk: path, node: identity.node }, 'Formatted an empty data directory.');
    }
  }

  async #compose(
    identity: DiskIdentity,
  ): Promise<{ readonly server: NodeServer; readonly storage: StorageNode }> {
    const { cluster, node } = identity;
    const credentials = { cluster, secret: this.#settings.secret };
    const versions = spokenVersions(process.env);
    const io = { clock: nodeClock, random: nodeRandom, network: tcpNetwork };
    const base = { ...io, credentials, versions };
    const clients = new NodeClients({ ...base, identity: { role: 'node', id: node } });
    this.#clients = clients;
    const storage = await this.#openStorage(identity, clients);
    const server = new NodeServer({
      ...base,
      log: this.#log,
      node,
      disks: () => storage.stats().map(({ incarnation }) => incarnation),
      handler: heeded(storage),
    });
    this.#server = server;
    return { server, storage };
  }

  async #openStorage(
    { cluster, node }: { readonly cluster: ClusterId; readonly node: NodeId },
    requests: NodeClients,
  ): Promise<StorageNode> {
    const shared = {
      clock: nodeClock,
      random: nodeRandom,
      log: this.#log,
      cluster,
      node,
      requests,
    };
    const { confirmations } = this.#metadata;
    const stores = this.#disks.map(({ disk }) => new DiskStore({ ...shared, disk, confirmations }));
    const { zone } = this.#settings;
    const version = programVersion();
    const storage = new StorageNode({ node, zone, version, stores, clock: nodeClock });
    this.#storage = storage;
    const failures = await new Promise<Parameters<Parameters<StorageNode['open']>[0]>[0]>(
      (resolve) => storage.open(resolve),
    );
    const [first] = failures;
    if (first !== undefined && failures.length === stores.length) throw first.error;
    for (const { disk, error } of failures) {
      this.#log.error({ disk, code: error.code, error: error.message }, 'A disk cannot be used.');
      this.#troubles.push(`disk ${disk}: ${error.message}`);
    }
    return storage;
  }

  #startMonitor(server: NodeServer, storage: StorageNode): Promise<HttpService> {
    return startMonitor(this.#settings.metricsListen as Address, {
      server: server.metrics,
      disks: () => storage.stats(),
      isRegistered: () => this.#metadata.isRegistered,
      repair: () => this.#metadata.repair,
      scrub: () => this.#metadata.scrub,
      troubles: () => {
        const bad = storage.stats().filter(({ state }) => state !== 'ok' && state !== 'full');
        const disks = bad.map(({ incarnation, state }) => `disk ${incarnation} is ${state}`);
        const lost = this.#metadata.isRegistered ? [] : ['not registered in the metadata store'];
        return [...this.#troubles, ...disks, ...lost];
      },
    });
  }

  /** Where others reach this node: as told, with the port that was really taken. */
  #advertised(bound: Address): Address {
    return this.#lastingAddress() ?? bound;
  }

  /** Null where every start takes another port. */
  #lastingAddress(): Address | null {
    const { advertise, listen } = this.#settings;
    return advertise ?? (parseAddress(listen).port === 0 ? null : listen);
  }

  #record(node: NodeId, address: Address, storage: StorageNode): NodeRecord {
    const { zone, capacity } = this.#settings;
    const disks = storage.stats().map(({ incarnation, totalBytes }) => {
      return { incarnation, capacityBytes: Math.min(capacity ?? totalBytes, totalBytes) };
    });
    return { schema: METADATA_SCHEMA, node, address, zone, disks, version: programVersion() };
  }

  #announce({ cluster, node }: DiskIdentity, bound: Address, address: Address): void {
    const { pid } = process;
    const metrics = this.#monitor?.address ?? null;
    const facts = {
      event: 'ready',
      address: bound,
      advertise: address,
      node,
      cluster,
      pid,
      metrics,
    };
    const text = `holdfast node ready: address=${bound} node=${node} cluster=${cluster} pid=${pid}`;
    process.stdout.write(`${this.#settings.json ? JSON.stringify(facts) : text}\n`);
  }

  /**
   * Answers what is in progress, tells the metadata store, lets disks settle. Each step is bounded.
   */
  async #stop(): Promise<void> {
    const server = this.#server;
    const drained = new Promise<void>((resolve) => {
      if (server === null) resolve();
      else server.stop(STOP_GRACE_MS - CLOSING_MS, resolve);
    });
    await Promise.all([drained, this.#metadata.close(CLOSING_MS)]);
    this.#clients?.close();
    const storage = this.#storage;
    if (storage !== null) await new Promise<void>((resolve) => storage.stop(resolve));
    for (const disk of this.#disks) disk.release();
    this.#monitor?.close();
  }
}
