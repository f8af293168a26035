/**
 * What there is in a cluster and what is wrong with it: asks every node, and compares what the
 * answers mean for each volume. For `status` and `doctor`.
 */
import { type DiskStatus, NODE_STATUS } from '../block/wire/messages.js';
import { type ErrorCode, HoldfastError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import type { NodeRecord, Replica, VolumeRecord } from '../metadata/model.js';
import { type NodeWish, readNodeWishes } from '../metadata/node-states.js';
import { changeOf, checkSize } from '../metadata/stored-volume.js';
import type { Directory } from '../replication/directory.js';
import { ask, type Session } from './session.js';

/** What a node answers. */
export interface NodeAnswer {
  readonly record: NodeRecord;
  readonly live: boolean;
  /** Null when it did not answer: `problem` says why. */
  readonly disks: readonly DiskStatus[] | null;
  readonly problem: string | null;
  /** What kind of problem that is. */
  readonly problemCode: ErrorCode | null;
  /** How far its clock is ahead of ours, and how wrong that may be; null when it did not answer. */
  readonly clock: { readonly aheadMs: number; readonly errorMs: number } | null;
}

export interface NodeState extends NodeAnswer {
  /** What an administrator wants of it. */
  readonly wish: NodeWish;
}

export interface Survey {
  readonly nodes: readonly NodeState[];
  /** In use, by name. */
  readonly volumes: readonly VolumeRecord[];
  /** Of volumes whose records can be of no use, one sentence each. */
  readonly unusable: readonly string[];
}

export async function survey(session: Session): Promise<Survey> {
  const directory = await session.directory();
  const wishes = await readNodeWishes(session.store);
  const nodes = await Promise.all(
    directory.nodes().map(async (record): Promise<NodeState> => {
      const answer = await askNode(session, directory, record);
      return { ...answer, wish: wishes.get(record.node) ?? {} };
    }),
  );
  const volumes: VolumeRecord[] = [];
  const unusable: string[] = [];
  for (const { record } of await session.volumes.list()) {
    try {
      // One that was removed meanwhile is not in use any more.
      const found = await session.volumes.get(record.volume);
      if (found === null || found.record.trash !== undefined) continue;
      volumes.push(found.record);
      checkSize(found, changeOf(found, found.record));
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError && USELESS.has(thrown.code))) throw thrown;
      unusable.push(`volume ${record.name} cannot be mounted: ${thrown.message}`);
    }
  }
  return { nodes, volumes, unusable };
}

/** What is wrong with a record itself, whoever asks for it and however often. */
const USELESS: ReadonlySet<string> = new Set(['INCONSISTENT', 'MALFORMED', 'VERSION', 'TOO_LARGE']);

/** What a node says of itself; `disks` null when it does not answer. */
export async function askNode(
  session: Session,
  directory: Directory,
  record: NodeRecord,
): Promise<NodeAnswer> {
  const { node, address } = record;
  const { clock: ours, clients } = session;
  const live = directory.isLive(node);
  try {
    // The second answer comes over an open connection: its way takes the least time.
    await ask(clients, { node, address }, NODE_STATUS);
    const sentAt = ours.monotonic();
    const { body } = await ask(clients, { node, address }, NODE_STATUS);
    const errorMs = (ours.monotonic() - sentAt) / 2;
    if (body?.type !== 'status') throw new HoldfastError('MALFORMED', 'an answer without status');
    const clock = { aheadMs: body.wallMs - (ours.wall() - errorMs), errorMs };
    return { record, live, disks: body.disks, problem: null, problemCode: null, clock };
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    const { message: problem, code: problemCode } = thrown;
    return { record, live, disks: null, problem, problemCode, clock: null };
  }
}

/** Disks that take what is written, and from which copies are made. */
export function usableDisks(nodes: readonly NodeAnswer[]): ReadonlySet<Incarnation> {
  return disksIn(nodes, ({ state }) => state !== 'failed');
}

function disksIn(
  nodes: readonly NodeAnswer[],
  isMeant: (disk: DiskStatus) => boolean,
): ReadonlySet<Incarnation> {
  const found = nodes.flatMap(({ disks }) => disks ?? []).filter(isMeant);
  return new Set(found.map(({ incarnation }) => incarnation));
}

export function nodeName({ node, address }: NodeRecord): string {
  return `node ${node.slice(0, 8)} (${address})`;
}

/** With what an administrator wants of it, for people. */
export function stateText(word: string, wish: NodeWish | undefined): string {
  const wanted = [
    ...(wish?.drain === undefined ? [] : ['draining']),
    ...(wish?.maintenance === undefined ? [] : ['maintenance']),
  ];
  return [word, ...wanted].join(', ');
}

/**
 * Whether nodes refuse our secret, and none accepts it: then nothing is known of any of them, and
 * nobody may take them for down.
 */
export function isSecretWrong(nodes: readonly NodeAnswer[]): boolean {
  const isRefused = nodes.some(({ problemCode }) => problemCode === 'UNAUTHENTICATED');
  return isRefused && nodes.every(({ disks }) => disks === null);
}

/** What is wrong with a node, and what to do about that. */
export interface NodeFault {
  readonly message: string;
  readonly advice: string;
}

export const NO_NODES: NodeFault = {
  message: 'no node has ever registered',
  advice: 'Start "holdfast node" on machines.',
};

/** Of all of them; that there is none is one as well. */
export function allNodeFaults(nodes: readonly NodeAnswer[]): NodeFault[] {
  return nodes.length === 0 ? [NO_NODES] : nodes.flatMap(nodeFaults);
}

function nodeFaults(answer: NodeAnswer): NodeFault[] {
  const { record, live, disks } = answer;
  const name = nodeName(record);
  if (disks === null) return [silence(name, answer)];
  const faults: NodeFault[] = [];
  if (!live) {
    const advice =
      'It cannot reach the metadata store, or is slow to: see its log, and its network to there.';
    faults.push({ message: `${name} answers, but its registration has lapsed`, advice });
  }
  for (const { state, incarnation } of disks) {
    if (state === 'ok') continue;
    const advice = DISK_ADVICE[state] ?? 'See its log.';
    faults.push({ message: `${name}: disk ${incarnation} is ${state}`, advice });
  }
  for (const { incarnation } of record.disks) {
    if (disks.some((disk) => disk.incarnation === incarnation)) continue;
    const message = `${name}: disk ${incarnation} is registered and not there`;
    const advice =
      'Mount it, and start the node again with its --data-dir; started without it the node gives ' +
      'it up, and what it had is copied from others.';
    faults.push({ message, advice });
  }
  return faults;
}

const DISK_ADVICE: Readonly<Record<string, string>> = {
  full: 'Remove or purge volumes, add nodes, or free what else stands on it.',
  failed:
    'It cannot be written or read, or is read-only: the node\'s log and "dmesg" say why. Mend it ' +
    'and start the node again, or replace it: what it had is copied from others.',
};

function silence(name: string, { problem, problemCode }: NodeAnswer): NodeFault {
  switch (problemCode) {
    case 'UNAUTHENTICATED':
      return {
        message: `${name} refuses the secret that others accept: ${problem}`,
        advice: 'Copy the secret file of another node to its machine, and start it again.',
      };
    case 'WRONG_CLUSTER':
    case 'WRONG_NODE':
      return {
        message: `${name} is another one now: ${problem}`,
        advice: 'Something else serves at its address: look at what runs there.',
      };
    case 'VERSION':
      return {
        message: `${name} cannot be talked to: ${problem}`,
        advice: 'Upgrade the older of the two.',
      };
    default:
      return {
        message: `${name} does not answer: ${problem}`,
        advice:
          'If it runs, mend the network to it; else start it again on its machine. Its log says ' +
          'why it ended.',
      };
  }
}

/** Which volumes could lose data, or cannot be written, because of nodes that do not answer. */
export function volumeProblems({ volumes, nodes, unusable }: Survey): string[] {
  const works = usableDisks(nodes);
  // One that has failed may still be read.
  const answers = disksIn(nodes, () => true);
  const takers = nodes.filter(({ wish }) => wish.drain === undefined).length;
  const found = volumes.flatMap((volume) => {
    const problems: string[] = [];
    if (volume.replicas > takers) {
      const has = `keeps ${volume.replicas} copies on as many nodes`;
      problems.push(`volume ${volume.name}: ${has}, and ${takers} take part`);
    }
    const missing = (replicas: readonly Replica[], here = works): number =>
      replicas.filter(({ incarnation }) => !here.has(incarnation)).length;
    const reduced = [...volume.sealed, ...volume.open].filter(
      ({ replicas }) => missing(replicas) > 0 || replicas.length < volume.replicas,
    );
    const lost = reduced.filter(({ replicas }) => missing(replicas, answers) === replicas.length);
    if (reduced.length > 0) {
      problems.push(`volume ${volume.name}: ${reduced.length} segments have too few replicas now`);
    }
    const blocked = volume.open.some(({ replicas }) => {
      return replicas.length - missing(replicas) < volume.ackQuorum;
    });
    if (blocked) problems.push(`volume ${volume.name}: cannot be written now`);
    if (lost.length > 0) {
      problems.push(`volume ${volume.name}: ${lost.length} segments cannot be read now`);
    }
    return problems;
  });
  return [...found, ...unusable];
}
