/** The bench's nodes, and a volume's log on them, owned by this process. */
import type { NodeClients } from '../src/block/wire/client.js';
import { OwnedLog } from '../src/cli/owned-log.js';
import { nodeClients } from '../src/cli/session.js';
import { GIB } from '../src/core/units.js';
import { silentLog } from '../src/io/log.js';
import { nodeClock } from '../src/io/node/clock.js';
import { nodeRandom } from '../src/io/node/random.js';
import type { DirectoryCache } from '../src/metadata/directory-cache.js';
import { Volumes } from '../src/metadata/volumes.js';
import { BenchNodes, NODES, type NodesOptions } from './nodes.js';

const TAKE_TIMEOUT_MS = 30_000;

export class BenchCluster {
  readonly clients: NodeClients;
  readonly log: OwnedLog;
  readonly #nodes: BenchNodes;

  private constructor(nodes: BenchNodes, clients: NodeClients, log: OwnedLog) {
    this.#nodes = nodes;
    this.clients = clients;
    this.log = log;
  }

  static async start(options: NodesOptions): Promise<BenchCluster> {
    const nodes = await BenchNodes.start(options);
    const { store, cluster, secretFile, directories: directory } = nodes;
    const base = { clock: nodeClock, random: nodeRandom };
    const clients = nodeClients({ ...base, cluster, secretFile });
    const volumes = new Volumes(store, nodeClock, nodeRandom);
    const wanted = { name: 'bench', kind: 'block', sizeBytes: GIB, replicas: NODES } as const;
    const { record } = await volumes.create(wanted);
    const parts = { ...base, store, requests: clients, directory, log: silentLog };
    const timeoutMs = TAKE_TIMEOUT_MS;
    const log = await OwnedLog.take({ ...parts, address: 'bench' }, record, { timeoutMs });
    return new BenchCluster(nodes, clients, log);
  }

  get directory(): string {
    return this.#nodes.directory;
  }

  get directories(): DirectoryCache {
    return this.#nodes.directories;
  }

  get maxNodeBytes(): number {
    return this.#nodes.maxNodeBytes;
  }

  async close(): Promise<void> {
    await this.log.release();
    this.clients.close();
    await this.#nodes.close();
  }
}
