/** What `volume recover` makes of the note, given what is lost now. */
import t from 'tap';
import { givenUpPages, isNoted, withoutRecovered } from '../../src/cli/loss-note.js';
import type { LostSegment } from '../../src/cli/loss-survey.js';
import type { SegmentId } from '../../src/core/ids.js';
import { lsn, offset } from '../../src/core/units.js';
import type { GivenUp } from '../../src/metadata/given-up.js';

type Lost = Pick<LostSegment, 'sealed' | 'pages'>;

const idOf = (n: number): SegmentId => n.toString(16).padStart(32, '0') as SegmentId;

/** Of segment `n` these pages, each pair the first and their count. */
function lost(n: number, ...pages: [number, number][]): Lost {
  const sealed = { segment: idOf(n), end: offset(1 << 20), endLsn: lsn(9), crc: 1 };
  return {
    sealed: { ...sealed, group: 0, createEpoch: 1, replicas: [] } as never,
    pages: pages.map(([page, count]) => ({ page, count })),
  };
}

function noteOf(all: readonly Lost[], end: readonly string[] = []): GivenUp {
  return { at: '2026-01-01T00:00:00.000Z', segments: givenUpPages(all), losses: ['then'], end };
}

t.test('whether all that is lost was given up', (t) => {
  const noted = noteOf([lost(1, [4, 4]), lost(2, [0, 9])]);
  t.ok(isNoted(null, []));
  t.ok(isNoted(noted, []));
  t.ok(isNoted(noted, [lost(1, [4, 4])]));
  t.ok(isNoted(noted, [lost(1, [4, 1], [7, 1]), lost(2, [8, 1])]));
  t.notOk(isNoted(null, [lost(1, [4, 1])]));
  t.notOk(isNoted(noted, [lost(3, [4, 1])]));
  t.notOk(isNoted(noted, [lost(1, [4, 5])]), 'a page more');
  t.notOk(isNoted(noted, [lost(1, [3, 1])]));
  t.end();
});

t.test('what is there again leaves the note', (t) => {
  const all = [lost(1, [4, 4]), lost(2, [0, 9])];
  const noted = noteOf(all);
  t.equal(withoutRecovered(noted, all, ['now']), noted, 'nothing is');
  const [some] = [[lost(1, [5, 1])]];
  t.same(withoutRecovered(noted, some, ['now']), { ...noteOf(some), losses: ['now'] });
  t.equal(withoutRecovered(noted, [], []), null);
  t.equal(withoutRecovered(null, [], []), null);
  const ended = withoutRecovered(noteOf(all, ['the end']), [], []);
  t.match(ended, { segments: [], losses: [], end: ['the end'] }, 'that is lost for good');
  t.equal(withoutRecovered(ended, [], []), ended);
  t.end();
});

t.test('of a segment in pieces the note says no more than it has room for', (t) => {
  const pieces = Array.from({ length: 17 }, (_, n): [number, number] => [3 + 2 * n, 1]);
  const many = lost(1, ...pieces);
  t.same(givenUpPages([many]), [{ segment: idOf(1), pages: [{ page: 3, count: 33 }] }]);
  t.ok(isNoted(noteOf([many]), [many]));
  t.equal(givenUpPages([lost(1, ...pieces.slice(1))])[0]?.pages.length, 16);
  t.end();
});
