/**
 * Three real storage nodes on one file system, as processes, with a metadata store of their own,
 * all in a new directory that goes away with them.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NodeChild } from '../src/cli/node-children.js';
import type { ClusterId } from '../src/core/ids.js';
import { silentLog } from '../src/io/log.js';
import { nodeClock } from '../src/io/node/clock.js';
import { nodeRandom } from '../src/io/node/random.js';
import { initCluster } from '../src/metadata/cluster.js';
import { DirectoryCache } from '../src/metadata/directory-cache.js';
import { openMetadata } from '../src/metadata/open.js';
import type { MetadataStore } from '../src/metadata/store.js';
import { makeDirectory } from './filesystem/target.js';

export const NODES = 3;
const START_TIMEOUT_MS = 30_000;
const SAMPLE_MS = 100;

export interface NodesOptions {
  /** Everything is made, and removed at the end, in a new directory here. */
  readonly parent: string;
  /** Arguments for the nodes' Node.js, such as --cpu-prof. */
  readonly nodeArgs: readonly string[];
}

interface Parts {
  readonly directory: string;
  readonly metadata: string;
  readonly secretFile: string;
  readonly cluster: ClusterId;
  readonly store: MetadataStore;
  readonly directories: DirectoryCache;
  readonly children: readonly NodeChild[];
}

export class BenchNodes {
  readonly directory: string;
  /** The `--metadata` of every command that works with these nodes. */
  readonly metadata: string;
  readonly secretFile: string;
  readonly cluster: ClusterId;
  readonly store: MetadataStore;
  readonly directories: DirectoryCache;
  readonly #children: readonly NodeChild[];
  readonly #sampler: NodeJS.Timeout;
  /** The most resident memory of any node, in bytes. */
  maxNodeBytes = 0;

  private constructor(parts: Parts) {
    this.directory = parts.directory;
    this.metadata = parts.metadata;
    this.secretFile = parts.secretFile;
    this.cluster = parts.cluster;
    this.store = parts.store;
    this.directories = parts.directories;
    this.#children = parts.children;
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  static async start({ parent, nodeArgs }: NodesOptions): Promise<BenchNodes> {
    const directory = makeDirectory(parent, 'nodes');
    const metadata = `embedded:${join(directory, 'metadata')}`;
    const secretFile = join(directory, 'secret');
    writeFileSync(secretFile, Buffer.from(nodeRandom.bytes(32)).toString('hex'), { mode: 0o600 });
    const store = await openMetadata(metadata, { clock: nodeClock, random: nodeRandom, env: {} });
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
    const parts = { directory, metadata, secretFile, cluster, store, directories, children };
    const nodes = new BenchNodes(parts);
    try {
      await untilPlaced(directories);
    } catch (thrown) {
      await nodes.close();
      throw thrown;
    }
    return nodes;
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
    await Promise.all(this.#children.map((child) => child.stop()));
    this.directories.close();
    await this.store.close();
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
    await new Promise((done) => setTimeout(done, 20));
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
