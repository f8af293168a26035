/**
 * `holdfast node ls|show|drain|undrain|rm`: who takes part in the cluster. What is asked for stands
 * in the metadata store; the controller, on the node that leads, brings it about.
 *
 * INVARIANT: nothing is taken out of the cluster that would lose data, unless told so in words.
 */
import type { Command } from 'commander';
import type { InventoryEntry } from '../block/wire/messages.js';
import { parseDuration } from '../core/durations.js';
import { HoldfastError, invalid } from '../core/errors.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import { formatSize } from '../core/sizes.js';
import type { NodeRecord, VolumeRecord } from '../metadata/model.js';
import {
  clearNodeWishes,
  type NodeWish,
  readNodeWishes,
  removeNode,
  startDrain,
  startMaintenance,
} from '../metadata/node-states.js';
import { readRepairReport } from '../metadata/repair-report.js';
import { readScrub } from '../metadata/scrub-progress.js';
import type { Directory } from '../replication/directory.js';
import { updatePlacement } from '../replication/placement-table.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { segmentsOn } from './inventory.js';
import {
  allVolumes,
  type FoundCopies,
  foundIn,
  type Holdings,
  holdingsOf,
  livingIn,
} from './node-holdings.js';
import { checkSession } from './node-secret.js';
import { addExamples, printResult, showProgress } from './output.js';
import { diskScrubText, scrubProblems } from './scrub-text.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { askNode, nodeName, stateText, usableDisks } from './survey.js';
import { table } from './text.js';

interface DrainOptions extends SessionOptions {
  readonly maintenance?: string;
  readonly detach?: boolean;
  readonly force?: boolean;
}

interface RemoveOptions extends SessionOptions {
  readonly force?: boolean;
  readonly acceptLoss?: boolean;
}

const POLL_MS = 1_000;
/** Twice what owners and the controller take until they leave or seal what is open on the node. */
const OPEN_WAIT_MS = 60_000;
const MAINTENANCE_MAX_MS = 7 * 86_400_000;

export function addNodeAdminCommands(node: Command): void {
  const ls = sessionOptions(node.command('ls'))
    .description('list the nodes, and how much of the data is on each')
    .action((options: SessionOptions) => list(options));
  addExamples(ls, [
    ['All nodes', 'holdfast node ls'],
    ['For scripts', 'holdfast node ls --json'],
  ]);
  const show = sessionOptions(node.command('show <node>'))
    .description('show a node: its disks, its state, what it holds')
    .action((word: string, options: SessionOptions) => showNode(word, options));
  addExamples(show, [
    ['By the first digits of its id', 'holdfast node show 3fa9c1d2'],
    ['By its address', 'holdfast node show 10.0.0.5:7400'],
  ]);
  const drain = sessionOptions(node.command('drain <node>'))
    .description('make the copies of a node elsewhere, and place nothing new on it')
    .option('--maintenance <time>', 'only wait for it, for so long, such as 30m: nothing is copied')
    .option('--detach', 'do not wait until all copies are elsewhere')
    .option('--force', 'also when too few nodes or zones are left for all copies')
    .action((word: string, options: DrainOptions) => drainNode(word, options));
  addExamples(drain, [
    [
      'Before the machine is taken away; waits, and shows how far it is',
      'holdfast node drain 3fa9',
    ],
    ['Before a reboot', 'holdfast node drain 3fa9 --maintenance 30m'],
  ]);
  const undrain = sessionOptions(node.command('undrain <node>'))
    .description('let a node take part again: ends its drain or maintenance')
    .action((word: string, options: SessionOptions) => undrainNode(word, options));
  addExamples(undrain, [['After the reboot', 'holdfast node undrain 3fa9']]);
  const rm = sessionOptions(node.command('rm <node>'))
    .description('take a node out of the cluster for good; what is on its disks does not count')
    .option('--force', 'also when it lives, or still has copies: these are made anew elsewhere')
    .option('--accept-loss', 'also when it has the only copy of something, which is lost then')
    .action((word: string, options: RemoveOptions) => rmNode(word, options));
  addExamples(rm, [
    ['One that was drained', 'holdfast node rm 3fa9'],
    ['A machine that burnt down', 'holdfast node rm 3fa9 --force'],
  ]);
}

/** By id, or its first digits, or address. NOT_FOUND; INVALID_ARGUMENT when several are meant. */
export function findNode(nodes: readonly NodeRecord[], word: string): NodeRecord {
  const found = nodes.filter(
    ({ node, address }) => address === word || (word.length >= 4 && node.startsWith(word)),
  );
  const [only, second] = found;
  if (only === undefined) {
    const hint = 'Name it by the first digits of its id (four at least) or by its address.';
    throw new HoldfastError('NOT_FOUND', `no node is "${word}"`, { hint });
  }
  if (second === undefined) return only;
  const ids = found.map(({ node }) => node.slice(0, 12)).join(', ');
  throw invalid(`"${word}" may be any of ${found.length} nodes`, `Write more of its id: ${ids}.`);
}

export interface Cluster {
  readonly directory: Directory;
  readonly nodes: readonly NodeRecord[];
  readonly volumes: readonly VolumeRecord[];
  readonly wishes: ReadonlyMap<NodeId, NodeWish>;
}

async function look(session: Session): Promise<Cluster> {
  const directory = await session.directory();
  const wishes = await readNodeWishes(session.store);
  return { directory, nodes: directory.nodes(), volumes: await allVolumes(session), wishes };
}

function holdings({ directory, volumes }: Cluster, { node }: NodeRecord): Holdings {
  return holdingsOf(node, volumes, livingIn(directory));
}

function facts(cluster: Cluster, record: NodeRecord) {
  const wish = cluster.wishes.get(record.node);
  const live = cluster.directory.isLive(record.node);
  const { sealedSegments, sealedBytes, openSegments } = holdings(cluster, record);
  const capacityBytes = record.disks.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  return {
    ...record,
    state: stateText(live ? 'up' : 'down', wish),
    live,
    drainingSince: wish?.drain?.since ?? null,
    maintenanceUntil: wish?.maintenance?.until ?? null,
    ...{ capacityBytes, sealedSegments, sealedBytes, openSegments },
  };
}

async function list(options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const cluster = await look(session);
    const all = cluster.nodes.map((record) => facts(cluster, record));
    all.sort((a, b) => (a.zone + a.address < b.zone + b.address ? -1 : 1));
    const rows = all.map((one) => [
      ...[one.node.slice(0, 8), one.address, one.zone, one.state, String(one.disks.length)],
      ...[formatSize(one.capacityBytes), formatSize(one.sealedBytes)],
      ...[String(one.sealedSegments), String(one.openSegments)],
    ]);
    const heading = ['NODE', 'ADDRESS', 'ZONE', 'STATE', 'DISKS', 'CAPACITY', 'DATA', 'SEALED'];
    printResult(options.json === true, all, table([...heading, 'OPEN'], rows));
  });
}

async function showNode(word: string, options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const cluster = await look(session);
    const record = findNode(cluster.nodes, word);
    const one = facts(cluster, record);
    const { only, needed } = holdings(cluster, record);
    const scrub = await readScrub(session.store, record.node);
    const until = one.maintenanceUntil === null ? '' : ` until ${one.maintenanceUntil}`;
    const text = [
      `node ${one.node} at ${one.address}, zone ${one.zone}, version ${one.version}`,
      `state      ${one.state}${until}`,
      ...one.disks.map(
        ({ incarnation, capacityBytes }) =>
          `disk       ${incarnation} ${formatSize(capacityBytes)}`,
      ),
      ...scrub.map((disk) => `scrub      ${diskScrubText(disk)}`),
      `holds      ${one.sealedSegments} sealed segments (${formatSize(one.sealedBytes)}), ` +
        `${one.openSegments} open ones`,
      ...only.map((name) => `! it has the only copy of something of volume ${name}`),
      ...needed.map((name) => `! volume ${name} cannot be written or taken over without it`),
      ...scrubProblems(record, scrub).map((problem) => `! ${problem}`),
    ].join('\n');
    const value = { ...one, onlyCopyOf: only, neededBy: needed, scrub };
    printResult(options.json === true, value, text);
  });
}

async function drainNode(word: string, options: DrainOptions): Promise<void> {
  const { maintenance } = options;
  const lastsMs = maintenance === undefined ? 0 : parseDuration(maintenance, '--maintenance');
  if (maintenance !== undefined && (lastsMs < 1_000 || lastsMs > MAINTENANCE_MAX_MS)) {
    throw invalid(`--maintenance ${maintenance} is not from one second to a week`);
  }
  await Session.run(options, async (session) => {
    const cluster = await look(session);
    const record = findNode(cluster.nodes, word);
    const name = nodeName(record);
    if (maintenance !== undefined) {
      await startMaintenance(session.store, session.clock, record.node, lastsMs);
      const until = new Date(session.clock.wall() + lastsMs).toISOString();
      const text = `${name} is waited for until ${until}; its copies are made nowhere else`;
      printResult(options.json === true, { node: record.node, maintenanceUntil: until }, text);
      return;
    }
    if (options.force !== true) refuseTooFew(cluster, record);
    await startDrain(session.store, session.clock, record.node);
    await updatePlacement(session.store);
    if (options.detach === true) {
      const text = `${name} is being drained; see "holdfast node show ${record.node.slice(0, 8)}"`;
      printResult(options.json === true, facts(await look(session), record), text);
      return;
    }
    const { signal } = untilInterrupted();
    signal.addEventListener('abort', () => leaveDraining(record, options));
    await drained(session, record, options);
  });
}

/** Shows how far it is, until nothing is there any more that somebody can take away. */
async function drained(session: Session, record: NodeRecord, options: DrainOptions): Promise<void> {
  const progress = showProgress(options);
  const first = holdings(await look(session), record);
  let openOnlySince = Number.POSITIVE_INFINITY;
  for (;;) {
    const cluster = await look(session);
    if (cluster.wishes.get(record.node)?.drain === undefined) {
      progress.end();
      throw new HoldfastError('CONFLICT', `the drain of ${nodeName(record)} was ended by others`);
    }
    const holds = holdings(cluster, record);
    const now = session.clock.monotonic();
    openOnlySince =
      holds.sealedSegments > 0 ? Number.POSITIVE_INFINITY : Math.min(openOnlySince, now);
    if (holds.openSegments === 0 ? openOnlySince <= now : now - openOnlySince > OPEN_WAIT_MS) {
      progress.end();
      printResult(options.json === true, facts(cluster, record), drainedText(record, holds));
      return;
    }
    const report = await readRepairReport(session.store);
    progress.say(drainProgress(first, holds, report?.bytesPerSecond ?? null));
    await new Promise<void>((resolve) => session.clock.after(POLL_MS, resolve));
  }
}

/** At Ctrl-C: only the waiting ends by that. */
function leaveDraining(record: NodeRecord, options: DrainOptions): never {
  const undrain = `holdfast node undrain ${record.node.slice(0, 8)}`;
  const text = `${nodeName(record)} is drained all the same; to end that: ${undrain}`;
  if (options.json !== true) process.stderr.write(`\n${text}\n`);
  process.exit(EXIT_INTERRUPTED);
}

function drainedText(record: NodeRecord, { openSegments, openIn }: Holdings): string {
  const name = nodeName(record);
  if (openSegments === 0) return `${name} is drained: nothing is on it`;
  return (
    `${name} is drained: no sealed segment is on it; ${openSegments} open ones stay until these ` +
    'volumes, whose mounts do not answer, are mounted again, or have been silent for the ' +
    `cluster's repair-grace: ${openIn.join(', ')}`
  );
}

function drainProgress(first: Holdings, now: Holdings, bytesPerSecond: number | null): string {
  const { sealedSegments, sealedBytes, openSegments } = now;
  if (sealedSegments === 0) return `waiting for ${openSegments} open segments to be sealed`;
  const rate = bytesPerSecond === null ? '' : `, ${formatSize(bytesPerSecond)}/s`;
  const done = Math.max(0, first.sealedSegments - sealedSegments);
  const left = `${formatSize(sealedBytes)} left${rate}`;
  return `${done} of ${done + sealedSegments} segments are elsewhere, ${left}`;
}

/** Throws CONFLICT when without this node some volume could not have all its copies now. */
export function refuseTooFew(cluster: Cluster, record: NodeRecord): void {
  const { mostReplicas } = holdings(cluster, record);
  if (mostReplicas === null) return;
  const takers = cluster.nodes.filter(({ node }) => {
    return node !== record.node && cluster.wishes.get(node)?.drain === undefined;
  });
  const left = takers.filter(({ node }) => cluster.directory.isLive(node));
  const down = takers.filter((one) => !left.includes(one)).map(nodeName);
  const { replicas, volume } = mostReplicas;
  const [first, up] =
    down.length === 0 ? ['Add', ''] : ['Start or add', ` that are up (down: ${down.join(', ')})`];
  const hint = `${first} nodes first. To drain it all the same, as far as that goes: --force.`;
  if (left.length < replicas) {
    const message =
      `without ${nodeName(record)} ${left.length} nodes${up} are left, ` +
      `and volume ${volume} keeps ${replicas} copies on as many`;
    throw new HoldfastError('CONFLICT', message, { hint });
  }
  const zones = new Set(left.map(({ zone }) => zone));
  // Where all nodes are in one zone, zones say nothing.
  if (zones.has(record.zone) || zones.size >= replicas) return;
  const message =
    `${nodeName(record)} is the last one in zone ${record.zone}: ${zones.size} zones` +
    `${up} are left for the ${replicas} copies of volume ${volume}`;
  throw new HoldfastError('CONFLICT', message, { hint });
}

async function undrainNode(word: string, options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const directory = await session.directory();
    const record = findNode(directory.nodes(), word);
    await clearNodeWishes(session.store, record.node);
    await updatePlacement(session.store);
    const text = `${nodeName(record)} takes part again`;
    printResult(options.json === true, { node: record.node, state: 'takes part' }, text);
  });
}

async function rmNode(word: string, options: RemoveOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const cluster = await look(session);
    const record = findNode(cluster.nodes, word);
    await checkSession(session);
    const copies = await copiesBeside(session, cluster, record);
    const held = holdingsOf(record.node, cluster.volumes, foundIn(copies));
    if (options.acceptLoss !== true) refuseLoss(record, held);
    if (options.force !== true && options.acceptLoss !== true) refuseUsed(cluster, record, held);
    // Its registration goes with it.
    const stop = cluster.directory.isLive(record.node) ? ' Stop it now.' : '';
    await removeNode(session.store, session.clock, record.node);
    await updatePlacement(session.store);
    const { sealedSegments } = held;
    const again = sealedSegments === 0 ? '' : `; ${sealedSegments} copies are made anew elsewhere`;
    const value = { node: record.node, address: record.address, ...held };
    const text = `${nodeName(record)} is no part of the cluster any more${again}.${stop}`;
    printResult(options.json === true, value, text);
  });
}

/** What other nodes have that live and answer now: a registration outlives its node. */
async function copiesBeside(
  session: Session,
  { directory, nodes }: Cluster,
  { node }: NodeRecord,
): Promise<FoundCopies> {
  const copies = new Map<Incarnation, readonly InventoryEntry[]>();
  const others = nodes.filter((one) => one.node !== node && directory.isLive(one.node));
  const asked = others.map(async (other) => {
    for (const incarnation of usableDisks([await askNode(session, directory, other)])) {
      const entries = await segmentsOn(session.clients, other, incarnation).catch(leftOut);
      if (entries !== null) copies.set(incarnation, entries);
    }
  });
  await Promise.all(asked);
  return copies;
}

function leftOut(thrown: unknown): null {
  if (thrown instanceof HoldfastError) return null;
  throw thrown;
}

function refuseLoss(record: NodeRecord, { only, needed }: Holdings): void {
  if (only.length > 0) {
    const message = `${nodeName(record)} has the only copy of parts of: ${only.join(', ')}`;
    const hint =
      'Bring the other nodes back, or wait until it is drained. ' +
      'To give these parts up for good: --accept-loss.';
    throw new HoldfastError('CONFLICT', message, { hint });
  }
  if (needed.length > 0) {
    const message =
      `without ${nodeName(record)} too few copies are left of what is written now in: ` +
      needed.join(', ');
    const hint =
      'Bring the other nodes back first. To give up what only it may know: --accept-loss.';
    throw new HoldfastError('CONFLICT', message, { hint });
  }
}

function refuseUsed(cluster: Cluster, record: NodeRecord, { sealedSegments }: Holdings): void {
  const short = record.node.slice(0, 8);
  const isDrained = cluster.wishes.get(record.node)?.drain !== undefined;
  if (cluster.directory.isLive(record.node) && !isDrained) {
    const hint = `Drain it first: holdfast node drain ${short}. Or remove it as it is: --force.`;
    throw new HoldfastError('CONFLICT', `${nodeName(record)} lives and takes part`, { hint });
  }
  if (sealedSegments === 0) return;
  const message = `${nodeName(record)} still has copies of ${sealedSegments} segments`;
  const hint = `Wait for: holdfast node drain ${short}. Or have them made anew: --force.`;
  throw new HoldfastError('CONFLICT', message, { hint });
}
