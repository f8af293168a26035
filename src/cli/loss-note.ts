/**
 * The note of what was given up (metadata/given-up.ts) compared with what is lost now. What is
 * there again leaves it: readers wait for nodes that have it, as for all else.
 */
import type { GivenUp, GivenUpPages } from '../metadata/given-up.js';
import type { LostSegment } from './loss-survey.js';

type Lost = readonly Pick<LostSegment, 'sealed' | 'pages'>[];

/** Of a segment in more pieces everything from the first to the last is noted. */
const SPANS_NOTED = 16;
/** Sentences that the note has room for, of each kind. */
const LOSSES_NOTED = 200;

/** What the note says of pages when all that is lost is given up. */
export function givenUpPages(lost: Lost): GivenUpPages[] {
  return lost.map(({ sealed: { segment }, pages }) => {
    const [first, last] = [pages[0], pages.at(-1)];
    if (pages.length <= SPANS_NOTED || first === undefined || last === undefined) {
      return { segment, pages: pages.map(({ page, count }) => ({ page, count })) };
    }
    return { segment, pages: [{ page: first.page, count: last.page + last.count - first.page }] };
  });
}

/** Whether all that is lost was given up before. */
export function isNoted(noted: GivenUp | null, lost: Lost): boolean {
  const known = new Map(noted?.segments.map(({ segment, pages }) => [segment, pages]));
  return lost.every(({ sealed, pages }) =>
    pages.every(({ page, count }) =>
      known
        .get(sealed.segment)
        ?.some((span) => span.page <= page && page + count <= span.page + span.count),
    ),
  );
}

/**
 * `noted`, which covers all that is `lost`, without what is not lost any more, and with the
 * sentences of now; null: nothing is left of it. What it says of the log's end stays: that is gone
 * for good. The same object when nothing is to be changed.
 */
export function withoutRecovered(
  noted: GivenUp | null,
  lost: Lost,
  losses: readonly string[],
): GivenUp | null {
  const segments = givenUpPages(lost);
  if (noted === null || JSON.stringify(noted.segments) === JSON.stringify(segments)) return noted;
  if (segments.length === 0 && noted.end.length === 0) return null;
  return { ...noted, segments, losses: notedLosses(losses) };
}

export function notedLosses(losses: readonly string[]): readonly string[] {
  const more = losses.length - LOSSES_NOTED;
  return more > 0 ? [...losses.slice(0, LOSSES_NOTED), `and ${more} more`] : losses;
}
