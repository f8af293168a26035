/** `holdfast status`: nodes with their disks, volumes, and what is wrong with any of them. */
import type { Command } from 'commander';
import type { DiskStatus } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import type { NodeRecord, VolumeRecord } from '../metadata/model.js';
import type { Directory } from '../replication/directory.js';
import { addExamples, printResult } from './output.js';
import { ask, Session, type SessionOptions, sessionOptions } from './session.js';
import { formatSize, table } from './text.js';
import { volumeTable } from './volume.js';

const ANY_DISK = '0'.repeat(32) as Incarnation;

export function addStatusCommand(program: Command): void {
  const command = sessionOptions(program.command('status'))
    .description('show nodes, disks and volumes, and what is wrong with them')
    .action((options: SessionOptions) => status(options));
  addExamples(command, [
    ['Of the cluster of "holdfast up" in this directory', 'holdfast status'],
    ['Of another one', 'holdfast status --metadata etcd://10.0.0.1:2379 --secret-file secret'],
  ]);
}

interface NodeState {
  readonly record: NodeRecord;
  readonly live: boolean;
  /** Null when it did not answer: `problem` says why. */
  readonly disks: readonly DiskStatus[] | null;
  readonly problem: string | null;
}

async function status(options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const directory = await session.directory();
    const nodes = await Promise.all(
      directory.nodes().map((record) => askNode(session, directory, record)),
    );
    const volumes = (await session.volumes.list()).map(({ record }) => record);
    const problems = [...nodes.flatMap(nodeProblems), ...volumeProblems(volumes, nodes)];
    const { cluster, generation } = session.cluster;
    const metadata = session.store.name;
    const value = {
      cluster,
      generation,
      metadata,
      nodes: nodes.map(({ record, ...rest }) => ({ ...record, ...rest })),
      volumes,
      problems,
    };
    const text = [
      `cluster ${cluster}, generation ${generation}, metadata in ${metadata}`,
      nodeTable(nodes),
      volumeTable(volumes),
      problems.length === 0 ? 'All is well.' : problems.map((one) => `! ${one}`).join('\n'),
    ].join('\n\n');
    printResult(options.json === true, value, text);
  });
}

async function askNode(
  session: Session,
  directory: Directory,
  record: NodeRecord,
): Promise<NodeState> {
  const { node, address } = record;
  const live = directory.isLive(node);
  try {
    const request = { type: 'status', incarnation: ANY_DISK } as const;
    const { body } = await ask(session.clients, { node, address }, request);
    const disks = body?.type === 'status' ? body.disks : [];
    return { record, live, disks, problem: null };
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    return { record, live, disks: null, problem: thrown.message };
  }
}

function nodeProblems({ record, live, disks, problem }: NodeState): string[] {
  const name = `node ${record.node} (${record.address})`;
  if (disks === null) return [`${name} does not answer: ${problem}`];
  const problems = live ? [] : [`${name} answers, but its registration has lapsed`];
  for (const disk of disks) {
    if (disk.state !== 'ok') problems.push(`${name}: disk ${disk.incarnation} is ${disk.state}`);
  }
  for (const { incarnation } of record.disks) {
    if (disks.some((disk) => disk.incarnation === incarnation)) continue;
    problems.push(`${name}: disk ${incarnation} is registered and not there`);
  }
  return problems;
}

/** Which volumes could lose data, or cannot be written, because of nodes that do not answer. */
function volumeProblems(volumes: readonly VolumeRecord[], nodes: readonly NodeState[]): string[] {
  const here = new Set(
    nodes.flatMap(({ disks }) => (disks ?? []).map(({ incarnation }) => incarnation)),
  );
  return volumes.flatMap((volume) => {
    const problems: string[] = [];
    const missing = (replicas: readonly { readonly incarnation: Incarnation }[]): number =>
      replicas.filter(({ incarnation }) => !here.has(incarnation)).length;
    const reduced = [...volume.sealed, ...volume.open].filter(
      ({ replicas }) => missing(replicas) > 0 || replicas.length < volume.replicas,
    );
    const lost = reduced.filter(({ replicas }) => missing(replicas) === replicas.length);
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
}

/** SIZE and FREE are those of the disks' file systems, whatever else stands on them. */
function nodeTable(nodes: readonly NodeState[]): string {
  const rows = [...nodes]
    .sort((a, b) => (a.record.zone < b.record.zone ? -1 : 1))
    .map(({ record, live, disks }) => {
      const sum = (of: (disk: DiskStatus) => number): number =>
        (disks ?? []).reduce((total, disk) => total + of(disk), 0);
      const total = sum((disk) => disk.totalBytes);
      return [
        record.node.slice(0, 8),
        record.address,
        record.zone,
        disks === null ? 'down' : live ? 'up' : 'up, lapsed',
        disks === null ? '-' : String(disks.length),
        disks === null ? '-' : formatSize(total),
        disks === null ? '-' : formatSize(sum((disk) => disk.freeBytes)),
        disks === null ? '-' : String(sum((disk) => disk.segments)),
      ];
    });
  const heading = ['NODE', 'ADDRESS', 'ZONE', 'STATE', 'DISKS', 'SIZE', 'FREE', 'SEGMENTS'];
  return table(heading, rows);
}
