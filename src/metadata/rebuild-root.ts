/**
 * Whether a rebuilt volume can be opened at the checkpoint that was found in its log, and what is
 * missing of it then: rebuild.ts's last decision, without I/O. Replay goes on from the checkpoint's
 * LSN, so from there on the log must be without a gap; before it only what the checkpoint refers to
 * counts, and what disks have deleted was not referred to any more.
 */
import type { SegmentId } from '../core/ids.js';
import type { Chain } from './rebuild-chain.js';
import type { FoundSegment, RebuildRoot } from './rebuild-types.js';

export interface RootVerdict {
  /** Why the volume could not be opened, one sentence each; empty: it can. */
  readonly broken: readonly string[];
  /** What would be lost, one sentence each. */
  readonly losses: readonly string[];
}

export function judgeRoot(
  chain: Extract<Chain, { type: 'found' }>,
  segments: readonly FoundSegment[],
  search: RebuildRoot,
): RootVerdict {
  const { root, images, others, unreadable } = search;
  const gap = gapFrom(chain, segments, root?.lsn ?? 0);
  if (gap !== null) {
    const what =
      root === null
        ? 'no checkpoint was found in the log, and its beginning is missing'
        : `the newest checkpoint found needs the log from LSN ${root.lsn} on`;
    return { broken: [`${what}: ${gap}`, ...chain.holes, ...unreadable], losses: [] };
  }
  const here = new Set<SegmentId>([...chain.sealed, ...chain.open].map(({ segment }) => segment));
  const needed = images.filter((segment) => !here.has(segment));
  if (needed.length > 0) {
    const what = `the newest checkpoint found stands in segment ${needed[0]} too, which is missing`;
    return { broken: [what, ...unreadable], losses: [] };
  }
  const deleted = new Set(segments.filter((found) => found.deleted).map(({ segment }) => segment));
  const missing = others.filter((segment) => !here.has(segment) && !deleted.has(segment));
  const losses = missing.map(
    (segment) => `segment ${segment} is missing: what files have in it would be lost`,
  );
  return { broken: [], losses: [...losses, ...chain.holes, ...unreadable] };
}

/** Where the log from an LSN on is not whole; null: it is. */
function gapFrom(
  { sealed, open }: Extract<Chain, { type: 'found' }>,
  segments: readonly FoundSegment[],
  from: number,
): string | null {
  const headers = new Map(segments.map(({ segment, header }) => [segment, header]));
  let reached = from;
  let isFirst = true;
  const all = [
    ...sealed.map(({ segment, endLsn }) => ({ segment, end: endLsn })),
    ...open.map(({ segment }) => ({ segment, end: null })),
  ];
  for (const { segment, end } of all) {
    const header = headers.get(segment);
    if ((end !== null && end <= from) || header == null) continue;
    const start = header.previous?.endLsn ?? 0;
    if (isFirst ? start > from : start !== reached) {
      return `segment ${segment} begins at LSN ${start}, the one before it ends at ${reached}`;
    }
    isFirst = false;
    if (end === null) return null;
    reached = end;
  }
  return null;
}
