/**
 * The processes and the volumes of a `holdfast up`: its nodes as children, waiting for them, and
 * the volumes that there are to try things with.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { HoldfastError, invalid } from '../core/errors.js';
import type { ClusterId } from '../core/ids.js';
import { GIB } from '../core/units.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import { CLUSTER_KEY } from '../metadata/keys.js';
import type { VolumeFacts } from '../metadata/model.js';
import { RAW_LOG_LABEL } from '../metadata/names.js';
import { readNodeWishes } from '../metadata/node-states.js';
import { parseMetadataLocation } from '../metadata/open.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Volumes } from '../metadata/volumes.js';
import { variableOf } from './config.js';
import { SETTINGS } from './config-keys.js';
import { createDurably, replaceDurably } from './durable-file.js';
import { NodeChild } from './node-children.js';
import { wholeNumber } from './numbers.js';
import { embeddedIn, findUpFile, secretOf, type UpFile } from './up-file.js';

const DEFAULT_NODES = 3;
const MAX_NODES = 16;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const NODE_VARIABLES = (SETTINGS.node ?? []).map(variableOf);
/** The volume that is mounted. */
export const DEMO = 'demo';
/** The volume that shows that all works where nothing can be mounted. */
export const DEMO_LOG = 'events';

export interface UpOptions {
  readonly nodes?: string;
  readonly dataDir: string;
  readonly metadata?: string;
  /** The directory for the demo volume; false: it is not mounted. */
  readonly mount: string | false;
  readonly detach?: boolean;
  /** Set by the process that detaches this one: what to print goes to it as one line. */
  readonly detached?: boolean;
  readonly json?: boolean;
}

export interface Place {
  readonly directory: string;
  readonly metadata: string;
  readonly nodes: number;
  /** What ran here before; null on the first start. */
  readonly before: UpFile | null;
}

export interface Running extends Place {
  readonly store: MetadataStore;
  readonly cluster: ClusterId;
  readonly children: readonly NodeChild[];
  /** Aborted by Ctrl-C: whatever waits gives up with CLOSED. */
  readonly stopping: AbortSignal;
}

/** Checks what is asked against what ran here before. Changes nothing. */
export function placeOf(directory: string, options: UpOptions): Place {
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
  parseMetadataLocation(metadata, process.env);
  return { directory, metadata, nodes, before };
}

/** As placeOf, once nobody else is at work there, and makes the secret. */
export function prepare(directory: string, options: UpOptions): Place {
  const place = placeOf(directory, options);
  const secretFile = secretOf(directory);
  if (place.before === null && !existsSync(secretFile)) {
    const secret = Buffer.from(nodeRandom.bytes(32)).toString('hex');
    createDurably(secretFile, `${secret}\n`);
  }
  replaceDurably(nodeConfigOf(directory), '{}\n');
  return place;
}

/**
 * Of the nodes: what this machine's own node is told, such as its address and the port of its
 * metrics, is not for them.
 */
function nodeConfigOf(directory: string): string {
  return join(directory, 'node.json');
}

export function nodeChild({ directory, metadata, before }: Place, number: number): NodeChild {
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
      ...['--zone', `zone-${number}`, '--config', nodeConfigOf(directory)],
      ...['--exit-with-stdin', '--json'],
    ],
    env: Object.fromEntries(
      Object.entries(process.env).filter(([variable]) => !NODE_VARIABLES.includes(variable)),
    ),
    onExit: (reason) => {
      process.stderr.write(`${name} ended (${reason}) and is started again; see ${name}.log\n`);
    },
  });
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(ms, resolve));
}

export async function hasCluster(store: MetadataStore): Promise<boolean> {
  return (await store.get(CLUSTER_KEY)).entry !== null;
}

export function lostMetadata({ directory, cluster, metadata }: Running): string {
  return `The metadata in ${metadata} is gone.
The data of cluster ${cluster} is still on the nodes' disks.
The nodes are running. Put the metadata back in another terminal, then this goes on:
  holdfast metadata import FILE --data-dir ${directory}      # from an export
  holdfast metadata rebuild --data-dir ${directory}          # from the disks alone
`;
}

/** All nodes serve; returns their addresses. */
export async function untilServing({ children, stopping }: Running): Promise<string[]> {
  const addresses = (): string[] =>
    children.map((child) => child.address).filter((address) => address !== null);
  await until(stopping, () => addresses().length === children.length, 'the nodes do not come up');
  return addresses();
}

/** All nodes are registered, and the placement table knows those of them that are not drained. */
export async function untilRegistered(
  { store, children, stopping }: Running,
  nodes: DirectoryCache,
): Promise<void> {
  const wishes = await readNodeWishes(store);
  await until(
    stopping,
    () => {
      const live = nodes.nodes().filter(({ node }) => nodes.isLive(node));
      const takers = live.filter(({ node }) => wishes.get(node)?.drain === undefined);
      const groups = nodes.placement(Math.min(3, takers.length))?.groups ?? [];
      const placed = new Set(groups.flat().map(({ node }) => node));
      const arePlaced = takers.every(({ node }) => placed.has(node));
      return nodes.ready && live.length >= children.length && arePlaced;
    },
    'the nodes do not register',
  );
}

async function until(stopping: AbortSignal, condition: () => boolean, what: string): Promise<void> {
  const deadline = nodeClock.monotonic() + START_TIMEOUT_MS;
  while (!condition()) {
    if (stopping.aborted) throw new HoldfastError('CLOSED', 'stopped before it was up');
    if (nodeClock.monotonic() > deadline) {
      throw new HoldfastError('TIMEOUT', what, {
        hint: 'See node-1.log and its neighbours in the data directory.',
      });
    }
    await sleep(POLL_MS);
  }
}

/** Makes the volumes to try things with, unless they are there, and returns them. */
export async function makeDemos(
  { children }: Running,
  volumes: Volumes,
): Promise<{ readonly files: VolumeFacts; readonly log: VolumeFacts }> {
  const there = (await volumes.list()).map(({ record }) => record);
  const make = async (name: string, labels: Record<string, string>): Promise<VolumeFacts> => {
    const found = there.find((record) => record.name === name);
    if (found !== undefined) return found;
    const replicas = children.length >= 3 ? 3 : children.length;
    const wanted = { name, kind: 'filesystem', sizeBytes: GIB, replicas, labels } as const;
    return (await volumes.create(wanted)).record;
  };
  const log = await make(DEMO_LOG, { [RAW_LOG_LABEL.key]: RAW_LOG_LABEL.value });
  return { files: await make(DEMO, {}), log };
}
