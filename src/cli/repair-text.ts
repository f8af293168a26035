/** How repair goes, in one line for people. */
import { formatDuration } from '../core/durations.js';
import { formatSize } from '../core/sizes.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { RepairReport } from '../metadata/repair-report.js';
import type { ClusterSettings } from '../metadata/settings.js';
import type { NodeAnswer } from './survey.js';

/** Sealed copies on disks that no node has now: where repair makes no others, it waits for them. */
export function copiesAway(volumes: readonly VolumeRecord[], nodes: readonly NodeAnswer[]): number {
  const living = nodes.filter(({ live }) => live).flatMap(({ record }) => record.disks);
  const here = new Set(living.map(({ incarnation }) => incarnation));
  const listed = volumes.flatMap(({ sealed }) => sealed.flatMap(({ replicas }) => replicas));
  return listed.filter(({ incarnation }) => !here.has(incarnation)).length;
}

export function repairText(
  report: RepairReport,
  away: number,
  { repairGraceMs }: Pick<ClusterSettings, 'repairGraceMs'>,
): string {
  const { copies, bytes, running, endangered, unreadable, leaving, balancing } = report;
  const most = formatSize(report.bytesPerSecondMax);
  const rate = `${formatSize(report.bytesPerSecond)}/s of ${most}/s`;
  const grace = `repair-grace is ${formatDuration(repairGraceMs)}`;
  const words = [
    copies > 0
      ? `${copies} copies to make (${formatSize(bytes)}), ${running} under way, ${rate}`
      : '',
    copies === 0 && away > 0 ? `${away} copies are away, and waited for (${grace})` : '',
    endangered > 0 ? `${endangered} segments with a single copy` : '',
    unreadable > 0 ? `${unreadable} segments without a copy that answers` : '',
    leaving > 0 ? `${leaving} copies on nodes that are drained` : '',
    // Whatever is missing or drained comes first.
    balancing && copies === 0 && leaving === 0 && away === 0 ? 'balancing disks' : '',
  ].filter((one) => one !== '');
  return `repair: ${words.length === 0 ? 'nothing to do' : words.join('; ')}`;
}
