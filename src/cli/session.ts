/**
 * What a command works with: the metadata store, the clients of the nodes, the directory, built
 * from the options that all commands share. Everything is opened when first asked for, and closed
 * at the end.
 */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { z } from 'zod';
import { NodeClients } from '../block/wire/client.js';
import type { Credentials } from '../block/wire/handshake.js';
import type { Reply, Request } from '../block/wire/messages.js';
import type { NodeRequests, RequestTarget } from '../block/wire/requests.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { idFromBytes } from '../core/ids.js';
import { REQUEST_TIMEOUT_MS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { silentLog } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { tcpNetwork } from '../io/node/tcp.js';
import type { Random } from '../io/random.js';
import { readCluster } from '../metadata/cluster.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import type { ClusterRecord } from '../metadata/model.js';
import { openMetadata } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import type { VersionedVolume } from '../metadata/stored-volume.js';
import { VolumeTrash } from '../metadata/trash.js';
import { Volumes } from '../metadata/volumes.js';
import { type Environment, resolveSettings } from './config.js';
import { spokenVersions } from './protocol.js';
import { loadSecret } from './secret.js';
import { findUpFile, readUpFile, UP_DIRECTORY, type UpFile } from './up-file.js';

/** Options that every command which talks to a cluster has. */
export interface SessionOptions {
  readonly config?: string;
  readonly metadata?: string;
  readonly secretFile?: string;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** Adds the options of SessionOptions. */
export function sessionOptions(command: Command): Command {
  return command
    .option('--metadata <url>', 'etcd://HOST:PORT[,HOST:PORT…] or embedded:DIR')
    .option('--secret-file <file>', "holds the cluster's secret")
    .option('--data-dir <dir>', `of a "holdfast up"; default: ./${UP_DIRECTORY} if it exists`)
    .option('--config <file>', 'JSON with these settings')
    .option('--json', 'print JSON');
}

/** What is said where nothing names a cluster, which is no fault of what does. */
export const NO_CLUSTER = 'which cluster is meant?';

const settings = z.object({
  metadata: z.string().optional(),
  secretFile: z.string().optional(),
  // A list, said for all commands, is of a node's disks.
  dataDir: z.union([z.string(), z.array(z.string()).transform(() => undefined)]).optional(),
});

export interface ClusterLocation {
  readonly metadata: string;
  readonly secretFile: string | null;
  /** Of a `holdfast up` directory: what it is, and where its nodes serve. */
  readonly up: UpFile | null;
}

/**
 * Where the cluster is: from flags, environment or configuration, else a `holdfast up` directory.
 */
export function locate(options: SessionOptions, env: Environment): ClusterLocation {
  const sources = { command: 'session', flags: { ...options }, env };
  const { metadata, secretFile, dataDir } = resolveSettings(settings, sources);
  const up = metadata === undefined ? upOf(dataDir) : null;
  const found = metadata ?? up?.metadata;
  if (found === undefined) {
    const hint = 'Name it: --metadata etcd://HOST:PORT, or run "holdfast up" here first.';
    throw invalid(NO_CLUSTER, hint);
  }
  return { metadata: found, secretFile: secretFile ?? up?.secretFile ?? null, up };
}

/** What another cluster left near by is not even looked at when one was named. */
function upOf(dataDir: string | undefined): UpFile | null {
  return dataDir === undefined ? findUpFile(UP_DIRECTORY) : readUpFile(dataDir);
}

export class Session {
  readonly clock: Clock = nodeClock;
  readonly random: Random = nodeRandom;
  readonly log: Log = silentLog;
  readonly address = `${hostname()}/${process.pid}`;
  readonly store: MetadataStore;
  readonly cluster: ClusterRecord;
  readonly volumes: Volumes;
  readonly trash: VolumeTrash;
  readonly location: ClusterLocation;
  #clients: NodeClients | null = null;
  #directory: DirectoryCache | null = null;

  private constructor(store: MetadataStore, cluster: ClusterRecord, location: ClusterLocation) {
    this.store = store;
    this.cluster = cluster;
    this.volumes = new Volumes(store, this.clock, this.random);
    this.trash = new VolumeTrash(store, this.clock, this.volumes);
    this.location = location;
  }

  /** Opens, runs `work`, and closes whatever comes. */
  static async run<T>(options: SessionOptions, work: (session: Session) => Promise<T>): Promise<T> {
    const session = await Session.open(options);
    try {
      return await work(session);
    } finally {
      await session.close();
    }
  }

  /** For as long as a process needs it; the caller closes it. */
  static async open(options: SessionOptions): Promise<Session> {
    const location = locate(options, process.env);
    const parts = { clock: nodeClock, random: nodeRandom, env: process.env, mustExist: true };
    const store = await openMetadata(location.metadata, parts);
    try {
      return new Session(store, await readCluster(store), location);
    } catch (thrown) {
      await store.close();
      throw thrown;
    }
  }

  async close(): Promise<void> {
    this.#directory?.close();
    this.#clients?.close();
    await this.store.close();
  }

  /** NOT_FOUND when no volume in use has that name; one in the trash is a likely reason. */
  async volumeNamed(name: string): Promise<VersionedVolume> {
    try {
      return await this.volumes.byName(name);
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError) || thrown.code !== 'NOT_FOUND') throw thrown;
      const all = await this.trash.list();
      if (!all.some(({ record }) => record.name === name)) throw thrown;
      const hint = `One is in the trash: holdfast volume restore ${name}, or purge ${name}.`;
      throw new HoldfastError('NOT_FOUND', thrown.message, { hint });
    }
  }

  /** The clients of all nodes. Throws INVALID_ARGUMENT for an unusable secret. */
  get clients(): NodeClients {
    this.#clients ??= nodeClients({
      clock: this.clock,
      random: this.random,
      cluster: this.cluster.cluster,
      secretFile: this.location.secretFile,
    });
    return this.#clients;
  }

  /** Resolves once everything has been read for the first time. */
  directory(): Promise<DirectoryCache> {
    if (this.#directory?.ready === true) return Promise.resolve(this.#directory);
    return new Promise((resolve) => {
      const { store, clock, log } = this;
      const directory = new DirectoryCache({
        store,
        clock,
        log,
        onReady: () => clock.soon(() => resolve(directory)),
      });
      this.#directory = directory;
    });
  }
}

/** Throws INVALID_ARGUMENT for a missing or unusable secret. */
export function nodeClients(options: {
  readonly clock: Clock;
  readonly random: Random;
  readonly cluster: ClusterRecord['cluster'];
  readonly secretFile: string | null;
}): NodeClients {
  const { cluster, secretFile, ...parts } = options;
  const credentials = { cluster, secret: loadSecret(secretFile ?? undefined, process.env) };
  return toolClients({ ...parts, credentials });
}

export function toolClients(options: {
  readonly clock: Clock;
  readonly random: Random;
  readonly credentials: Credentials;
}): NodeClients {
  return new NodeClients({
    ...options,
    network: tcpNetwork,
    identity: { role: 'tool', id: idFromBytes(options.random.bytes(16)) },
    versions: spokenVersions(process.env),
  });
}

/** One request as a promise. Rejects with the error of NodeRequests.send. */
export function ask(
  clients: NodeRequests,
  target: RequestTarget,
  request: Request,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    clients.send(target, request, REQUEST_TIMEOUT_MS, (error, reply) => {
      if (error !== null) reject(error);
      else if (reply === null) reject(new HoldfastError('MALFORMED', 'an empty answer'));
      else resolve(reply);
    });
  });
}
