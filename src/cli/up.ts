/**
 * `holdfast up`: a whole cluster on this machine, for the first five minutes and for development.
 * Storage nodes are real `holdfast node` processes; the metadata is embedded unless --metadata
 * names an etcd.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { HoldfastError, invalid } from '../core/errors.js';
import type { ClusterId } from '../core/ids.js';
import { GIB } from '../core/units.js';
import { silentLog } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { initCluster } from '../metadata/cluster.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import { CLUSTER_KEY } from '../metadata/keys.js';
import type { VolumeRecord } from '../metadata/model.js';
import { RAW_LOG_LABEL } from '../metadata/names.js';
import { openMetadata } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import { Volumes } from '../metadata/volumes.js';
import { NodeChild } from './node-children.js';
import { addExamples, printResult } from './output.js';
import { nodeClients } from './session.js';
import { formatSize, table } from './text.js';
import {
  embeddedIn,
  findUpFile,
  secretOf,
  UP_DIRECTORY,
  type UpFile,
  writeUpFile,
} from './up-file.js';
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
const REPEATED_SIGNAL_MS = 1_000;
const EXIT_INTERRUPTED = 130;
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

interface Place {
  readonly directory: string;
  readonly metadata: string;
  readonly nodes: number;
  /** What ran here before; null on the first start. */
  readonly before: UpFile | null;
}

interface Running extends Place {
  readonly store: MetadataStore;
  readonly cluster: ClusterId;
  readonly children: readonly NodeChild[];
}

async function up(options: UpOptions): Promise<void> {
  const directory = resolve(options.dataDir);
  const stopped = stopSignal();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = await holdUpLock(directory);
  try {
    const place = prepare(directory, options);
    const parts = { clock: nodeClock, random: nodeRandom, env: process.env };
    const store = await openMetadata(place.metadata, parts);
    try {
      await serve(options, place, store, stopped);
    } finally {
      await store.close();
    }
  } finally {
    lock.release();
  }
}

/**
 * Resolves at the first Ctrl-C. npm and scripts may pass on what the terminal has sent already:
 * only a signal some time later means "at once".
 */
function stopSignal(): Promise<void> {
  return new Promise((stop) => {
    let since: number | null = null;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        const now = nodeClock.monotonic();
        since ??= now;
        if (now - since > REPEATED_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
        stop();
      });
    }
  });
}

/** Checks what is asked against what ran here before, and makes the secret. */
function prepare(directory: string, options: UpOptions): Place {
  const before = findUpFile(directory);
  const wanted = options.nodes === undefined ? null : wholeNumber(options.nodes, '--nodes');
  const nodes = wanted ?? before?.nodes ?? DEFAULT_NODES;
  if (nodes < 1 || nodes > MAX_NODES) throw invalid(`${nodes} nodes`, `1 to ${MAX_NODES} can run.`);
  if (before !== null && nodes < before.nodes) {
    const hint = `Start it with --nodes ${before.nodes} or more, or use another --data-dir.`;
    throw invalid(`${directory} holds the data of ${before.nodes} nodes`, hint);
  }
  const metadata = options.metadata ?? before?.metadata ?? embeddedIn(directory);
  if (before !== null && metadata !== before.metadata) {
    throw invalid(`the cluster in ${directory} has its metadata in ${before.metadata}`);
  }
  const secretFile = secretOf(directory);
  if (before === null && !existsSync(secretFile)) {
    const secret = Buffer.from(nodeRandom.bytes(32)).toString('hex');
    writeFileSync(secretFile, `${secret}\n`, { mode: 0o600, flag: 'wx' });
  }
  return { directory, metadata, nodes, before };
}

async function serve(
  options: UpOptions,
  place: Place,
  store: MetadataStore,
  stopped: Promise<void>,
): Promise<void> {
  // A directory that has a cluster is never given another one: its metadata is lost, not absent.
  const cluster =
    place.before?.cluster ?? (await initCluster(store, nodeClock, nodeRandom)).cluster;
  const children = Array.from({ length: place.nodes }, (_, n) => nodeChild(place, n + 1));
  const running = { ...place, store, cluster, children };
  try {
    for (const child of children) child.start();
    await Promise.race([stopped, show(options, running)]);
    await stopped;
    if (options.json !== true) process.stdout.write('Stopping…\n');
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

function nodeChild({ directory, metadata, before }: Place, number: number): NodeChild {
  const name = `node-${number}`;
  const dataDir = join(directory, name);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  return new NodeChild({
    clock: nodeClock,
    logFile: join(directory, `${name}.log`),
    address: before?.addresses[number - 1],
    args: (address) => [
      'node',
      ...['--data-dir', dataDir],
      ...['--listen', address],
      ...['--metadata', metadata],
      ...['--secret-file', secretOf(directory)],
      ...['--zone', `zone-${number}`],
      ...['--exit-with-stdin', '--json'],
    ],
    onExit: (reason) => {
      process.stderr.write(`${name} ended (${reason}) and is started again; see ${name}.log\n`);
    },
  });
}

/** Waits until everything works, proves it, and says what there is. */
async function show(options: UpOptions, running: Running): Promise<void> {
  const { store, children, cluster, directory } = running;
  const addresses = await untilServing(running);
  writeUpFile(directory, { ...running, addresses });
  if (!(await hasCluster(store))) {
    process.stderr.write(lostMetadata(running));
    while (!(await hasCluster(store))) await sleep(POLL_MS * 10);
  }
  const nodes = new DirectoryCache({ store, clock: nodeClock, log: silentLog });
  const secretFile = secretOf(directory);
  const clients = nodeClients({ clock: nodeClock, random: nodeRandom, cluster, secretFile });
  try {
    await untilRegistered(running, nodes);
    const volumes = new Volumes(store, nodeClock, nodeRandom);
    await makeDemo(running, volumes);
    const demo = (await volumes.byName(DEMO)).record;
    const proof = await proveVolume({ store, clients, nodes }, demo, hostname());
    const records = (await volumes.list()).map(({ record }) => record);
    const value = {
      cluster,
      metadata: running.metadata,
      dataDir: directory,
      nodes: children.map((child) => ({ address: child.address, pid: child.pid })),
      volumes: records.map(({ name }) => name),
      proof,
    };
    printResult(options.json === true, value, report(running, nodes, records, proof));
  } finally {
    clients.close();
    nodes.close();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(ms, resolve));
}

async function hasCluster(store: MetadataStore): Promise<boolean> {
  return (await store.get(CLUSTER_KEY)).entry !== null;
}

function lostMetadata({ directory, cluster, metadata }: Running): string {
  return `The metadata in ${metadata} is gone.
The data of cluster ${cluster} is still on the nodes' disks.
The nodes are running. Put the metadata back in another terminal, then this goes on:
  holdfast metadata import FILE --data-dir ${directory}      # from an export
  holdfast metadata rebuild --data-dir ${directory}          # from the disks alone
`;
}

/** All nodes serve; returns their addresses. */
async function untilServing({ children }: Running): Promise<string[]> {
  const addresses = (): string[] =>
    children.map((child) => child.address).filter((address) => address !== null);
  await until(() => addresses().length === children.length, 'the nodes do not come up');
  return addresses();
}

/** All nodes are registered, and the placement table knows them. */
async function untilRegistered({ children }: Running, nodes: DirectoryCache): Promise<void> {
  await until(() => {
    const live = nodes.nodes().filter(({ node }) => nodes.isLive(node)).length;
    const groups = nodes.placement(Math.min(3, children.length))?.groups ?? [];
    const placed = new Set(groups.flat().map(({ node }) => node)).size;
    return nodes.ready && live >= children.length && placed >= children.length;
  }, 'the nodes do not register');
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = nodeClock.monotonic() + START_TIMEOUT_MS;
  while (!condition()) {
    if (nodeClock.monotonic() > deadline) {
      throw new HoldfastError('TIMEOUT', what, {
        hint: 'See node-1.log and its neighbours in the data directory.',
      });
    }
    await sleep(POLL_MS);
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
  nodes: DirectoryCache,
  volumes: readonly VolumeRecord[],
  proof: Proof,
): string {
  const { cluster, directory, metadata } = running;
  const rows = running.children.map((child, n) => {
    const record = nodes.nodes().find(({ address }) => address === child.address);
    const bytes = record?.disks.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0) ?? 0;
    const id = record?.node.slice(0, 8) ?? '-';
    return [`node-${n + 1}`, id, child.address ?? '-', formatSize(bytes), String(child.pid ?? '-')];
  });
  const commit = proof.commitMs.toFixed(1);
  // "npm start" and npx run a program that the shell does not find.
  const program = process.env.npm_command === undefined ? 'holdfast' : 'npx holdfast';
  const option = directory === resolve(UP_DIRECTORY) ? '' : ` --data-dir ${directory}`;
  return `
holdfast is up: cluster ${cluster.slice(0, 8)}, data in ${directory}, metadata in ${metadata}

${table(['', 'NODE', 'ADDRESS', 'CAPACITY', 'PID'], rows)}

${volumeTable(volumes)}

It works: ${proof.records} records with 4 KiB each were committed to "${DEMO}" (${commit} ms each),
read back from the nodes and verified.

To try next, in another terminal, in this directory:
  ${program} status${option}
  ${program} volume create db --size 10GiB${option}
  echo hello | ${program} log append ${DEMO}${option}
  ${program} log read ${DEMO}${option}
  kill -9 ${running.children[0]?.pid ?? 'PID'}        # a node dies: the log goes on without it

Ctrl-C stops everything; the data stays.
`;
}
