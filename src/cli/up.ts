/**
 * `holdfast up`: a whole cluster on this machine, for the first five minutes and for development. Storage
 * nodes are real `holdfast node` processes; the metadata is embedded unless --metadata names an etcd.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { NodeClients } from '../block/wire/client.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { GIB } from '../core/units.js';
import { silentLog } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { initCluster } from '../metadata/cluster.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import type { ClusterRecord, NodeRecord, VolumeRecord } from '../metadata/model.js';
import { openMetadata } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import { Volumes } from '../metadata/volumes.js';
import { RAW_LOG_LABEL } from './log.js';
import { NodeChild } from './node-children.js';
import { addExamples, printResult } from './output.js';
import { nodeClients } from './session.js';
import { formatSize, table } from './text.js';
import { findUpFile, readUpFile, UP_DIRECTORY, writeUpFile } from './up-file.js';
import { holdUpLock } from './up-lock.js';
import { type Proof, proveVolume } from './up-proof.js';
import { volumeTable, wholeNumber } from './volume.js';

interface UpOptions {
  readonly nodes?: string;
  readonly dataDir: string;
  readonly metadata?: string;
  readonly json?: boolean;
}

const DEFAULT_NODES = 3;
const MAX_NODES = 16;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const DEMO = 'demo';

export function addUpCommand(program: Command): void {
  const command = program
    .command('up')
    .description('run a whole cluster on this machine, until Ctrl-C');
  command
    .option('--nodes <count>', `storage nodes (default: ${DEFAULT_NODES}, or as before)`)
    .option('--data-dir <dir>', 'where everything is kept between runs', `./${UP_DIRECTORY}`)
    .option('--metadata <url>', 'etcd://HOST:PORT[,…]; default: embedded in the data directory')
    .option('--json', 'print one JSON object when ready')
    .action((options: UpOptions) => up(options));
  addExamples(command, [
    ['A cluster of three nodes that listens on loopback only', 'holdfast up'],
    ['Elsewhere, larger', 'holdfast up --data-dir /tmp/trial --nodes 5'],
    ['With an etcd', 'holdfast up --metadata etcd://127.0.0.1:2379'],
  ]);
}

interface Running {
  readonly directory: string;
  readonly metadata: string;
  readonly store: MetadataStore;
  readonly cluster: ClusterRecord;
  readonly children: readonly NodeChild[];
  readonly nodes: DirectoryCache;
  readonly clients: NodeClients;
}

async function up(options: UpOptions): Promise<void> {
  const directory = resolve(options.dataDir);
  const stopped = stopSignal();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = await holdUpLock(directory);
  try {
    const file = prepare(directory, options);
    const parts = { clock: nodeClock, random: nodeRandom, env: process.env };
    const store = await openMetadata(file.metadata, parts);
    try {
      await serve(options, directory, file, store, stopped);
    } finally {
      await store.close();
    }
  } finally {
    lock.release();
  }
}

/** The first Ctrl-C stops in order, a second one at once. */
function stopSignal(): Promise<void> {
  return new Promise((stop) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => stop());
    }
  });
}

/** Makes or checks what the directory says about the cluster. */
function prepare(directory: string, options: UpOptions): ReturnType<typeof readUpFile> {
  const found = findUpFile(directory);
  const wanted = options.nodes === undefined ? null : wholeNumber(options.nodes, '--nodes');
  const nodes = wanted ?? found?.nodes ?? DEFAULT_NODES;
  if (nodes < 1 || nodes > MAX_NODES) throw invalid(`${nodes} nodes`, `1 to ${MAX_NODES} can run.`);
  if (found !== null && nodes < found.nodes) {
    const hint = `Start it with --nodes ${found.nodes} or more, or use another --data-dir.`;
    throw invalid(`${directory} holds the data of ${found.nodes} nodes`, hint);
  }
  if (found !== null && options.metadata !== undefined && options.metadata !== found.metadata) {
    throw invalid(`the cluster in ${directory} has its metadata in ${found.metadata}`);
  }
  const secretFile = join(directory, 'secret');
  if (found === null && !existsSync(secretFile)) {
    const secret = Buffer.from(nodeRandom.bytes(32)).toString('hex');
    writeFileSync(secretFile, `${secret}\n`, { mode: 0o600, flag: 'wx' });
  }
  if (found === null || found.nodes !== nodes) {
    const embedded =
      found === null ? options.metadata === undefined : isInside(found.metadata, directory);
    writeUpFile(directory, embedded ? null : (options.metadata ?? found?.metadata ?? null), nodes);
  }
  return readUpFile(directory);
}

function isInside(metadata: string, directory: string): boolean {
  return metadata === `embedded:${join(directory, 'metadata')}`;
}

async function serve(
  options: UpOptions,
  directory: string,
  file: ReturnType<typeof readUpFile>,
  store: MetadataStore,
  stopped: Promise<void>,
): Promise<void> {
  const cluster = await initCluster(store, nodeClock, nodeRandom);
  const children = Array.from({ length: file.nodes }, (_, n) => nodeChild(directory, file, n + 1));
  const nodes = new DirectoryCache({ store, clock: nodeClock, log: silentLog });
  const clients = nodeClients({
    clock: nodeClock,
    random: nodeRandom,
    cluster: cluster.cluster,
    secretFile: file.secretFile,
  });
  const { metadata } = file;
  const running = { directory, metadata, store, cluster, children, nodes, clients };
  try {
    for (const child of children) child.start();
    await Promise.race([stopped, show(options, running)]);
    await stopped;
    if (options.json !== true) process.stdout.write('Stopping…\n');
  } finally {
    await Promise.all(children.map((child) => child.stop()));
    clients.close();
    nodes.close();
  }
}

function nodeChild(
  directory: string,
  file: ReturnType<typeof readUpFile>,
  number: number,
): NodeChild {
  const name = `node-${number}`;
  const dataDir = join(directory, name);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  return new NodeChild({
    clock: nodeClock,
    logFile: join(directory, `${name}.log`),
    args: [
      'node',
      ...['--data-dir', dataDir],
      ...['--listen', '127.0.0.1:0'],
      ...['--metadata', file.metadata],
      ...['--secret-file', file.secretFile],
      ...['--zone', `zone-${number}`],
      '--exit-with-stdin',
    ],
    onExit: (reason) => {
      process.stderr.write(`${name} ended (${reason}) and is started again; see ${name}.log\n`);
    },
  });
}

/** Waits until everything works, proves it, and says what there is. */
async function show(options: UpOptions, running: Running): Promise<void> {
  const { store } = running;
  await untilReady(running);
  const volumes = new Volumes(store, nodeClock, nodeRandom);
  await makeDemo(running, volumes);
  const demo = (await volumes.byName(DEMO)).record;
  const proof = await proveVolume(running, demo, hostname());
  const records = (await volumes.list()).map(({ record }) => record);
  const live = running.nodes.nodes().filter(({ node }) => running.nodes.isLive(node));
  const value = {
    cluster: running.cluster.cluster,
    metadata: running.metadata,
    dataDir: running.directory,
    nodes: live.map(({ node, address, zone }) => ({ node, address, zone })),
    pids: running.children.map((child) => child.pid),
    volumes: records.map(({ name }) => name),
    proof,
  };
  const text = report(running, live, records, proof);
  printResult(options.json === true, value, text);
}

/** The nodes live, and the placement table knows all of them. */
async function untilReady({ nodes, children }: Running): Promise<void> {
  const deadline = nodeClock.monotonic() + START_TIMEOUT_MS;
  const isReady = (): boolean => {
    const live = nodes.nodes().filter(({ node }) => nodes.isLive(node)).length;
    const groups = nodes.placement(Math.min(3, children.length))?.groups ?? [];
    const placed = new Set(groups.flat().map(({ node }) => node)).size;
    return live >= children.length && placed >= children.length;
  };
  while (!nodes.ready || !isReady()) {
    if (nodeClock.monotonic() > deadline) {
      throw new HoldfastError('TIMEOUT', 'the nodes did not come up', {
        hint: 'See node-1.log and its neighbours in the data directory.',
      });
    }
    await new Promise<void>((resolve) => nodeClock.after(POLL_MS, resolve));
  }
}

async function makeDemo({ children }: Running, volumes: Volumes): Promise<void> {
  if ((await volumes.list()).some(({ record }) => record.name === DEMO)) return;
  await volumes.create({
    name: DEMO,
    kind: 'filesystem',
    sizeBytes: GIB,
    replicas: children.length >= 3 ? 3 : children.length,
    labels: { [RAW_LOG_LABEL.key]: RAW_LOG_LABEL.value },
  });
}

function report(
  running: Running,
  live: readonly NodeRecord[],
  volumes: readonly VolumeRecord[],
  proof: Proof,
): string {
  const { cluster, directory, metadata } = running;
  const number = ({ zone }: NodeRecord): number => Number(zone.replace('zone-', ''));
  const rows = [...live]
    .sort((a, b) => number(a) - number(b))
    .map((record) => [
      record.node.slice(0, 8),
      record.address,
      record.zone,
      formatSize(record.disks.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0)),
      String(running.children[number(record) - 1]?.pid ?? '-'),
    ]);
  const commit = proof.commitMs.toFixed(1);
  const option = directory === resolve(UP_DIRECTORY) ? '' : ` --data-dir ${directory}`;
  return `
holdfast is up: cluster ${cluster.cluster.slice(0, 8)}, data in ${directory}, metadata in ${metadata}

${table(['NODE', 'ADDRESS', 'ZONE', 'CAPACITY', 'PID'], rows)}

${volumeTable(volumes)}

It works: ${proof.records} records with 4 KiB each were committed to "${DEMO}" (${commit} ms each), read back
from the nodes and verified.

To try next, in another terminal:
  holdfast status${option}
  holdfast volume create db --size 10GiB${option}
  echo hello | holdfast log append ${DEMO}${option}
  holdfast log read ${DEMO}${option}
  kill -9 ${running.children[0]?.pid ?? 'PID'}        # a node dies: the log goes on, and the node is started again

Ctrl-C stops everything; the data stays.
`;
}
