/**
 * Three real storage nodes on one file system, as processes, and a volume's log owned by this
 * process.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeClients } from '../src/block/wire/client.js';
import { NodeChild } from '../src/cli/node-children.js';
import { OwnedLog } from '../src/cli/owned-log.js';
import { nodeClients } from '../src/cli/session.js';
import { GIB } from '../src/core/units.js';
import { silentLog } from '../src/io/log.js';
import { nodeClock } from '../src/io/node/clock.js';
import { nodeRandom } from '../src/io/node/random.js';
import { initCluster } from '../src/metadata/cluster.js';
import { DirectoryCache } from '../src/metadata/directory-cache.js';
import { openMetadata } from '../src/metadata/open.js';
import type { MetadataStore } from '../src/metadata/store.js';
import { Volumes } from '../src/metadata/volumes.js';

const NODES = 3;
const START_TIMEOUT_MS = 30_000;
const TAKE_TIMEOUT_MS = 30_000;
const SAMPLE_MS = 100;

export interface ClusterOptions {
  /** Everything is made, and removed at the end, in a new directory here. */
  readonly parent: string;
  /** Arguments for the nodes' Node.js, such as --cpu-prof. */
  readonly nodeArgs: readonly string[];
}

export class BenchCluster {
  readonly directory: string;
  readonly directories: DirectoryCache;
  readonly clients: NodeClients;
  readonly log: OwnedLog;
  readonly #store: MetadataStore;
  readonly #children: readonly NodeChild[];
  readonly #sampler: NodeJS.Timeout;
  /** The most resident memory of any node since the last reset, in bytes. */
  maxNodeBytes = 0;

  private constructor(
    directory: string,
    store: MetadataStore,
    children: readonly NodeChild[],
    directories: DirectoryCache,
    clients: NodeClients,
    log: OwnedLog,
  ) {
    this.directory = directory;
    this.#store = store;
    this.#children = children;
    this.directories = directories;
    this.clients = clients;
    this.log = log;
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  static async start({ parent, nodeArgs }: ClusterOptions): Promise<BenchCluster> {
    const directory = mkdtempSync(join(parent, 'holdfast-bench-'));
    const metadata = `embedded:${join(directory, 'metadata')}`;
    const secretFile = join(directory, 'secret');
    writeFileSync(secretFile, Buffer.from(nodeRandom.bytes(32)).toString('hex'), { mode: 0o600 });
    const base = { clock: nodeClock, random: nodeRandom };
    const store = await openMetadata(metadata, { ...base, env: {} });
    const { cluster } = await initCluster(store, nodeClock, nodeRandom);
    const children = Array.from({ length: NODES }, (_, n) => {
      const dataDir = join(directory, `node-${n + 1}`);
      mkdirSync(dataDir);
      return new NodeChild({
        clock: nodeClock,
        execArgs: nodeArgs,
        logFile: join(directory, `node-${n + 1}.log`),
        args: (address) => [
          ...['node', '--data-dir', dataDir, '--listen', address, '--zone', `zone-${n + 1}`],
          ...['--metadata', metadata, '--secret-file', secretFile],
          ...['--exit-with-stdin', '--json'],
        ],
      });
    });
    for (const child of children) child.start();
    const directories = new DirectoryCache({ store, clock: nodeClock, log: silentLog });
    await untilPlaced(directories);
    const clients = nodeClients({ ...base, cluster, secretFile });
    const volumes = new Volumes(store, nodeClock, nodeRandom);
    const wanted = { name: 'bench', kind: 'block', sizeBytes: GIB, replicas: NODES } as const;
    const { record } = await volumes.create(wanted);
    const parts = { ...base, store, requests: clients, directory: directories, log: silentLog };
    const log = await OwnedLog.take({ ...parts, address: 'bench' }, record.volume, TAKE_TIMEOUT_MS);
    return new BenchCluster(directory, store, children, directories, clients, log);
  }

  #sample(): void {
    for (const child of this.#children) {
      if (child.pid !== null) {
        this.maxNodeBytes = Math.max(this.maxNodeBytes, residentBytes(child.pid));
      }
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#sampler);
    await this.log.release();
    this.clients.close();
    await Promise.all(this.#children.map((child) => child.stop()));
    this.directories.close();
    await this.#store.close();
    rmSync(this.directory, { recursive: true });
  }
}

async function untilPlaced(directories: DirectoryCache): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const groups = directories.placement(NODES)?.groups ?? [];
    const live = directories.nodes().filter(({ node }) => directories.isLive(node)).length;
    if (live === NODES && groups.every((group) => group.length === NODES)) return;
    if (performance.now() > deadline) throw new Error('the nodes did not come up');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** From /proc; 0 when the process is gone. */
function residentBytes(pid: number): number {
  try {
    const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
