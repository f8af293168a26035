/** Which files need pages of the log that are lost, and which parts of them. */
import { test } from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import {
  type LostFile,
  type LostPages,
  lostFiles,
  newestChange,
} from '../../src/volume/lost-files.js';
import type { VolumeState } from '../../src/volume/state.js';
import { Bed, CALLER, ROOT } from './harness.js';

const name = (text: string): Buffer => Buffer.from(text);

function walk(state: VolumeState, lost: LostPages): LostFile[] {
  const pieces = lostFiles(state, lost);
  for (;;) {
    const { done, value } = pieces.next();
    if (done === true) return value;
  }
}

test('files are named with the ranges that need what is lost', (t) => {
  const bed = new Bed({ segmentPages: 64 });
  const { fs } = bed;
  const directory = fs.mkdir(ROOT, name('a'), 0o755, CALLER).inode;
  const inner = fs.mkdir(directory, name('b'), 0o755, CALLER).inode;
  const file = bed.file('file', inner);
  bed.write(file, 0, Buffer.alloc(8 * PAGE_BYTES, 5));
  bed.commit();
  const other = bed.file('other');
  bed.write(other, 0, Buffer.alloc(2 * PAGE_BYTES, 6));
  const orphan = bed.file('orphan');
  bed.write(orphan, 0, 'held');
  fs.unlink(ROOT, name('orphan'));
  bed.commit();
  const { state } = fs;
  const ids = Array.from({ length: state.segments.slots - 1 }, (_, at) =>
    state.segments.at(at + 1),
  );
  const segments = ids.flatMap((use) => (use === null ? [] : [use.segment]));
  const all = new Map<SegmentId, { page: number; count: number }[]>();
  for (const segment of segments) all.set(segment, [{ page: 0, count: 1_000 }]);
  t.match(walk(state, all), [
    { inode: file, path: '/a/b/file', ranges: [{ offset: 0, length: 8 * PAGE_BYTES }] },
    { inode: other, path: '/other', ranges: [{ offset: 0, length: 2 * PAGE_BYTES }] },
    { inode: orphan, path: null, ranges: [{ offset: 0, length: PAGE_BYTES }] },
  ]);
  let place = 0;
  state.extents.visit({ slot: 0, chunk: 0 }, 1, (_slot, page, _count, at) => {
    if (page === 0) place = at;
  });
  t.ok(place > 0);
  t.same(walk(state, new Map()), [], 'nothing is lost');
  const [segment] = segments as [SegmentId];
  const first = place % 2 ** 22;
  const some = new Map([
    [
      segment,
      [
        { page: first + 1, count: 1 },
        { page: first + 2, count: 1 },
        { page: first + 5, count: 2 },
      ],
    ],
  ]);
  t.match(walk(state, some)[0], {
    path: '/a/b/file',
    ranges: [
      { offset: PAGE_BYTES, length: 2 * PAGE_BYTES },
      { offset: 5 * PAGE_BYTES, length: 2 * PAGE_BYTES },
    ],
  });
  t.ok((newestChange(state) ?? 0) > 0);
  t.end();
});
