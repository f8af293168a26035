/** `holdfast status`: nodes with their disks, volumes, and what is wrong with any of them. */
import type { Command } from 'commander';
import type { DiskStatus } from '../block/wire/messages.js';
import { formatSize } from '../core/sizes.js';
import { readRepairReport } from '../metadata/repair-report.js';
import { readScrubs } from '../metadata/scrub-progress.js';
import { readSettings } from '../metadata/settings.js';
import { scrubText } from './cluster-set.js';
import { EXIT_PROBLEMS } from './errors.js';
import { wrongSecret } from './node-secret.js';
import { addExamples, printResult } from './output.js';
import { copiesAway, repairText } from './repair-text.js';
import { scrubProblems, scrubSummary } from './scrub-text.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import {
  allNodeFaults,
  isSecretWrong,
  type NodeState,
  stateText,
  survey,
  volumeProblems,
} from './survey.js';
import { table } from './text.js';
import { volumeTable } from './volume.js';

export function addStatusCommand(program: Command): void {
  const command = sessionOptions(program.command('status'))
    .description(
      `show nodes, disks and volumes; exit code ${EXIT_PROBLEMS} when something is wrong`,
    )
    .action((options: SessionOptions) => status(options));
  addExamples(command, [
    ['Of the cluster of "holdfast up" in this directory', 'holdfast status'],
    ['Of another one', 'holdfast status --metadata etcd://10.0.0.1:2379 --secret-file secret'],
    ['In a script', 'holdfast status --json > status.json || echo "something is wrong"'],
  ]);
}

async function status(options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const found = await survey(session);
    const { nodes, volumes } = found;
    if (isSecretWrong(nodes)) throw wrongSecret();
    const repair = await readRepairReport(session.store);
    const settings = await readSettings(session.store);
    const scrubs = await readScrubs(session.store);
    const disks = [...scrubs.values()].flat();
    const problems = [
      ...allNodeFaults(nodes).map(({ message }) => message),
      ...volumeProblems(found),
      ...nodes.flatMap(({ record }) => scrubProblems(record, scrubs.get(record.node) ?? [])),
    ];
    const { cluster, generation } = session.cluster;
    const metadata = session.store.name;
    const value = {
      cluster,
      generation,
      metadata,
      nodes: nodes.map(({ record, clock: _, wish, ...rest }) => ({
        ...{ ...record, ...rest },
        drainingSince: wish.drain?.since ?? null,
        maintenanceUntil: wish.maintenance?.until ?? null,
      })),
      volumes,
      repair,
      scrub: Object.fromEntries(scrubs),
      problems,
    };
    const text = [
      `cluster ${cluster}, generation ${generation}, metadata in ${metadata}`,
      nodeTable(nodes),
      volumeTable(volumes),
      ...(repair === null ? [] : [repairText(repair, copiesAway(volumes, nodes), settings)]),
      `scrub: ${scrubText(settings)}${scrubSummary(disks)}`,
      problems.length === 0 ? 'All is well.' : problems.map((one) => `! ${one}`).join('\n'),
    ].join('\n\n');
    printResult(options.json === true, value, text);
    if (problems.length > 0) process.exitCode = EXIT_PROBLEMS;
  });
}

/** SIZE and FREE are those of the disks' file systems, whatever else stands on them. */
function nodeTable(nodes: readonly NodeState[]): string {
  const rows = [...nodes]
    .sort((a, b) => (a.record.zone < b.record.zone ? -1 : 1))
    .map(({ record, live, disks, wish }) => {
      const sum = (of: (disk: DiskStatus) => number): number =>
        (disks ?? []).reduce((total, disk) => total + of(disk), 0);
      const total = sum((disk) => disk.totalBytes);
      return [
        record.node.slice(0, 8),
        record.address,
        record.zone,
        stateText(disks === null ? 'down' : live ? 'up' : 'up, lapsed', wish),
        disks === null ? '-' : String(disks.length),
        disks === null ? '-' : formatSize(total),
        disks === null ? '-' : formatSize(sum((disk) => disk.freeBytes)),
        disks === null ? '-' : String(sum((disk) => disk.segments)),
      ];
    });
  const heading = ['NODE', 'ADDRESS', 'ZONE', 'STATE', 'DISKS', 'SIZE', 'FREE', 'SEGMENTS'];
  return table(heading, rows);
}
