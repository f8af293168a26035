/**
 * `holdfast up`: a whole cluster on this machine, for the first five minutes and for development.
 * Storage nodes are real `holdfast node` processes; the metadata is embedded unless --metadata
 * names an etcd; a volume is mounted.
 *
 * INVARIANT: it stops in the order in which things need each other: the mount, the nodes, the
 * metadata; also when it is stopped during the start. Nothing but the data stays.
 */
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { HoldfastError } from '../core/errors.js';
import { silentLog } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { initCluster } from '../metadata/cluster.js';
import { DirectoryCache } from '../metadata/directory-cache.js';
import { openMetadata } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import { Volumes } from '../metadata/volumes.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { aborted } from './interrupt.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { nodeClients } from './session.js';
import {
  hasCluster,
  lostMetadata,
  makeDemos,
  nodeChild,
  type Place,
  placeOf,
  prepare,
  type Running,
  sleep,
  type UpOptions,
  untilRegistered,
  untilServing,
} from './up-cluster.js';
import { detachUp, tellParent } from './up-detach.js';
import { secretOf, UP_DIRECTORY, writeUpFile } from './up-file.js';
import { holdUpLock } from './up-lock.js';
import { type DemoMount, mountDemo, unmountDemo } from './up-mount.js';
import { proveVolume } from './up-proof.js';
import { report } from './up-report.js';

const METADATA_POLL_MS = 500;
const REPEATED_SIGNAL_MS = 1_000;
/** What a start that was interrupted may take to give everything back. */
const GIVE_UP_MS = 20_000;

export function addUpCommand(program: Command): void {
  const command = program
    .command('up')
    .description('run a whole cluster on this machine, with a volume that is mounted');
  command
    .option('--nodes <count>', 'storage nodes (default: 3, or as before)')
    .option('--data-dir <dir>', 'where everything is kept between runs', `./${UP_DIRECTORY}`)
    .option('--metadata <url>', 'etcd://HOST:PORT[,…]; default: embedded in the data directory')
    .option('--mount <dir>', 'where the demo volume is mounted, as root', './mnt')
    .option('--no-mount', 'mount nothing')
    .option('--detach', 'come back when everything runs; "holdfast down" stops it')
    .option('--json', 'print one JSON object when ready')
    .addOption(command.createOption('--detached').hideHelp())
    .action((options: UpOptions) => (options.detach === true ? detachUp(options) : up(options)));
  addExamples(command, [
    ['A cluster of three nodes that listens on loopback only', 'holdfast up'],
    ['In the background', 'holdfast up --detach && holdfast status && holdfast down'],
    ['Elsewhere, larger', 'holdfast up --data-dir /tmp/trial --nodes 5 --mount /tmp/files'],
    ['With an etcd', 'holdfast up --metadata etcd://127.0.0.1:2379'],
  ]);
}

async function up(options: UpOptions): Promise<void> {
  const directory = resolve(options.dataDir);
  // What is asked wrongly leaves nothing behind.
  placeOf(directory, options);
  const stopping = stopSignal();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = await holdUpLock(directory);
  try {
    const place = prepare(directory, options);
    const parts = { clock: nodeClock, random: nodeRandom, env: process.env };
    const store = await openMetadata(place.metadata, parts);
    try {
      await serve(options, place, store, stopping);
    } finally {
      await store.close();
    }
  } finally {
    lock.release();
  }
}

/**
 * Aborts at the first Ctrl-C. npm and scripts may pass on what the terminal has sent already: only
 * a signal some time later means "at once".
 */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  let since: number | null = null;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const now = nodeClock.monotonic();
      since ??= now;
      if (now - since > REPEATED_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
      stop.abort();
    });
  }
  return stop.signal;
}

async function serve(
  options: UpOptions,
  place: Place,
  store: MetadataStore,
  stopping: AbortSignal,
): Promise<void> {
  // A directory that has a cluster is never given another one: its metadata is lost, not absent.
  const cluster =
    place.before?.cluster ?? (await initCluster(store, nodeClock, nodeRandom)).cluster;
  const children = Array.from({ length: place.nodes }, (_, n) => nodeChild(place, n + 1));
  const running = { ...place, store, cluster, children, stopping };
  const stopped = aborted(stopping);
  let mount: DemoMount = { type: 'none', why: 'not yet' };
  try {
    for (const child of children) child.start();
    const shown = show(options, running, (demo) => {
      mount = demo;
    });
    await Promise.race([stopped, shown]);
    await stopped;
    if (options.json !== true) process.stdout.write('Stopping…\n');
    await givenUp(shown);
  } finally {
    await unmountDemo(mountDeps(process.env), mount);
    await Promise.all(children.map((child) => child.stop()));
  }
}

/** Waits for the end of a start that was interrupted; it reports nothing any more. */
async function givenUp(shown: Promise<void>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const late = nodeClock.after(GIVE_UP_MS, resolve);
    const ended = shown.catch((thrown) => {
      if (!(thrown instanceof HoldfastError)) throw thrown;
    });
    ended.then(resolve, reject).finally(() => late.cancel());
  });
}

/** Waits until everything works, proves it, mounts, and says what there is. */
async function show(
  options: UpOptions,
  running: Running,
  onMounted: (mount: DemoMount) => void,
): Promise<void> {
  const { store, children, cluster, directory, stopping, before } = running;
  const addresses = await untilServing(running);
  const planned = options.mount === false ? null : resolve(options.mount);
  const file = { ...running, addresses, mount: planned };
  // More nodes than before count once they are part of the cluster: a start that fails before may
  // be tried again without them.
  writeUpFile(directory, { ...file, nodes: before?.nodes ?? file.nodes });
  if (!(await hasCluster(store))) {
    process.stderr.write(lostMetadata(running));
    while (!(stopping.aborted || (await hasCluster(store)))) await sleep(METADATA_POLL_MS);
  }
  const nodes = new DirectoryCache({ store, clock: nodeClock, log: silentLog });
  const secretFile = secretOf(directory);
  const clients = nodeClients({ clock: nodeClock, random: nodeRandom, cluster, secretFile });
  try {
    await untilRegistered(running, nodes);
    writeUpFile(directory, file);
    const volumes = new Volumes(store, nodeClock, nodeRandom);
    const demos = await makeDemos(running, volumes);
    const proof = await proveVolume({ store, clients, nodes }, demos.log, hostname());
    const mount = await mountDemo(mountDeps(process.env), running, options.mount);
    onMounted(mount);
    const records = (await volumes.list()).map(({ record }) => record);
    const value = {
      cluster,
      metadata: running.metadata,
      dataDir: directory,
      pid: process.pid,
      nodes: children.map((child) => ({ address: child.address, pid: child.pid })),
      volumes: records.map(({ name }) => name),
      mount: mount.type === 'mounted' ? mount.directory : null,
      notMounted: mount.type === 'none' ? mount.why : null,
      proof,
    };
    const text = report(running, { nodes, records, proof, mount, detached: options.detached });
    if (options.detached === true) tellParent({ value, text });
    else printResult(options.json === true, value, text);
  } finally {
    clients.close();
    nodes.close();
  }
}
