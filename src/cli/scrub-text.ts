/** What the schedule of scrub has come to, in words: for `status` and `node show`. */
import type { NodeRecord } from '../metadata/model.js';
import type { DiskScrub } from '../metadata/scrub-progress.js';
import { nodeName } from './survey.js';

/** "; every disk by TIME; 3 copies repaired": behind the settings, about all disks. */
export function scrubSummary(disks: readonly DiskScrub[]): string {
  const repaired = disks.reduce((sum, disk) => sum + disk.repaired, 0);
  const running = disks.filter(({ after }) => after !== null).length;
  const ends = disks.map(({ endedAt }) => endedAt);
  const oldest = ends.reduce(
    (a, b) => (a === null || b === null ? null : a < b ? a : b),
    ends[0] ?? null,
  );
  const words = [
    oldest === null ? '' : `each disk was verified since ${oldest}`,
    running === 0 ? '' : `${running} are being read`,
    repaired === 0 ? '' : `${repaired} rotten copies were repaired`,
  ];
  return words
    .filter((one) => one !== '')
    .map((one) => `; ${one}`)
    .join('');
}

export function diskScrubText(disk: DiskScrub): string {
  const { incarnation, startedAt, endedAt, after, repaired } = disk;
  // Ids are random: how far through them it is tells how far through the bytes.
  const part = after === null ? 0 : Number.parseInt(after.slice(0, 8), 16) / 2 ** 32;
  const words = [
    endedAt === null ? 'never whole' : `last whole pass ended ${endedAt}`,
    after === null ? '' : `at ${Math.floor(part * 100)} % of the pass of ${startedAt}`,
    repaired === 0 ? '' : `${repaired} rotten copies repaired`,
  ];
  return `${incarnation} ${words.filter((one) => one !== '').join(', ')}`;
}

/** Rotten copies that could not be made good, one sentence a disk. */
export function scrubProblems(record: NodeRecord, disks: readonly DiskScrub[]): string[] {
  return disks.flatMap(({ incarnation, rotten, first }) => {
    const [one] = first;
    if (one === undefined) return [];
    const more = rotten > 1 ? `${rotten} copies are rotten, such as of` : 'the copy of';
    const is = rotten > 1 ? '' : ' is rotten';
    return [
      `${nodeName(record)}: disk ${incarnation}: ${more} segment ${one.segment}${is}: ${one.why}`,
    ];
  });
}
