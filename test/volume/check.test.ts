import { test } from 'tap';
import { assert } from '../../src/core/assert.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { type CheckReport, checkVolume } from '../../src/volume/check.js';
import { checkData } from '../../src/volume/check-data.js';
import { Findings } from '../../src/volume/check-findings.js';
import type { CheckedSegment, SegmentCopy } from '../../src/volume/check-pages.js';
import { checkNamespace, checkTrees } from '../../src/volume/check-state.js';
import { Field } from '../../src/volume/inode-table.js';
import type { VolumeState } from '../../src/volume/state.js';
import { Bed, CALLER, checkBed, copyOf, ROOT } from './harness.js';

const name = (text: string): Buffer => Buffer.from(text);

/** A volume with some of everything; inode numbers are slots. */
function volume(): Bed {
  const bed = new Bed({ segmentPages: 64 });
  const { fs } = bed;
  const directory = fs.mkdir(ROOT, name('directory'), 0o755, CALLER).inode;
  const inner = fs.mkdir(directory, name('inner'), 0o755, CALLER).inode;
  const file = bed.file('file', inner);
  fs.link(file, ROOT, name('second'));
  bed.write(file, 0, Buffer.alloc(40 * PAGE_BYTES, 5));
  fs.setattr(file, { size: 30 * PAGE_BYTES + 77 });
  fs.symlink(ROOT, name('link'), name('to/there'), CALLER);
  fs.setxattr(file, 'user.a', name('1'), 0);
  fs.setxattr(file, 'user.b', name('2'), 0);
  const sparse = bed.file('sparse');
  for (let i = 0; i < 300; i++) fs.fallocate(sparse, i * 2 * MIB, 5000, 0);
  const orphan = bed.file('orphan');
  bed.write(orphan, 0, 'held');
  fs.unlink(ROOT, name('orphan'));
  fs.forget(bed.file('gone'), 1);
  fs.unlink(ROOT, name('gone'));
  bed.commit();
  return bed;
}

const [DIRECTORY, INNER, FILE, LINK, SPARSE, ORPHAN, GONE] = [2, 3, 4, 5, 6, 7, 8];

function checkpoint(bed: Bed): void {
  const error = bed.wait((done) => bed.fs.checkpoints.begin(done));
  assert(error === null, 'a checkpoint');
}

const kinds = ({ findings }: Pick<CheckReport, 'findings'>): string[] => [
  ...new Set(findings.map(({ kind }) => kind)),
];

test('a sound volume has no findings, with and without a checkpoint', async (t) => {
  const bed = volume();
  t.same(checkBed(bed).findings, []);
  checkpoint(bed);
  bed.fs.unlink(ROOT, name('second'));
  bed.commit();
  const { length } = bed.log.records;
  const report = checkBed(bed);
  t.same(report.findings, []);
  t.match(report, { files: 4, directories: 3, orphans: 1, comparedWithHistory: true });
  t.ok(report.records > 0);
  t.equal(report.bytesRead, bed.log.segments.reduce((sum, one) => sum + one.end, 0) * PAGE_BYTES);
  t.equal(bed.log.records.length, length, 'and nothing was changed');
});

type Damage = readonly [what: string, kind: string, seed: (state: VolumeState) => void];

/** What an image would hold if this had gone wrong in memory or on the way there. */
const DAMAGE: readonly Damage[] = [
  ['a type that is none', 'inode', ({ inodes }) => inodes.set(FILE, Field.mode, 0o170644)],
  ['a directory that takes pages', 'inode', ({ inodes }) => inodes.set(INNER, Field.pages, 3)],
  ['a size beyond all', 'inode', ({ inodes }) => inodes.set(FILE, Field.sizeHigh, 0xffff)],
  ['a free slot with an owner', 'inode', ({ inodes }) => inodes.set(GONE, Field.uid, 5)],
  ['a root that is a file', 'inode', ({ inodes }) => inodes.set(ROOT, Field.mode, 0o100644)],
  ['an empty link', 'inode', ({ inodes }) => inodes.setSize(LINK, 0)],
  ['one link too many', 'links', ({ inodes }) => inodes.set(FILE, Field.nlink, 3)],
  ['one link too few', 'links', ({ inodes }) => inodes.set(FILE, Field.nlink, 1)],
  ['links of a directory', 'links', ({ inodes }) => inodes.set(DIRECTORY, Field.nlink, 2)],
  ['a wrong ".."', 'entry', ({ inodes }) => inodes.set(INNER, Field.extra, ROOT)],
  ['a name of nothing', 'entry', (state) => state.directory.insert(ROOT, name('no'), GONE)],
  ['a name in a file', 'entry', (state) => state.directory.insert(FILE, name('no'), SPARSE)],
  ['a name that is none', 'entry', (state) => state.directory.insert(ROOT, name('a/b'), FILE)],
  ['a name twice', 'entry', (state) => state.directory.insert(ROOT, name('second'), FILE)],
  ['a name under a wrong hash', 'entry', (state) => misplace(state)],
  ['a directory with two names', 'links', (s) => s.directory.insert(ROOT, name('also'), INNER)],
  ['directories in a ring', 'links', (state) => ring(state)],
  ['a name of an orphan', 'links', (s) => s.directory.insert(ROOT, name('was'), ORPHAN)],
  ['an inode without a name', 'links', (s) => s.directory.remove(ROOT, name('sparse'))],
  ['fewer pages than counted', 'space', ({ inodes }) => inodes.set(FILE, Field.pages, 99)],
  ['data behind the end', 'extent', ({ inodes }) => inodes.setSize(FILE, 5)],
  ['extents of a directory', 'extent', (s) => s.extents.set(INNER, 0, 1, 1)],
  ['extents of nothing', 'extent', (s) => s.extents.set(GONE, 0, 1, 1)],
  ['a place behind the segment', 'extent', (s) => s.extents.set(FILE, 3, 1, 2 ** 22 + 100_000)],
  ['a place in a head', 'extent', (s) => s.extents.set(FILE, 3, 1, 2 ** 22)],
  ['a chunk that is none', 'extent', (state) => breakChunk(state)],
  ['a mask of nothing', 'mask', (state) => state.masks.add(GONE, 1, 5, 9)],
  ['a mask without data', 'mask', (state) => state.masks.add(SPARSE, 0, 5, 9)],
  ['a mask longer than its page', 'mask', (state) => state.masks.add(FILE, 2, 5, 5000)],
  ['a target of the wrong length', 'attribute', ({ inodes }) => inodes.setSize(LINK, 3)],
  ['attributes of nothing', 'attribute', (s) => s.attributes.setTarget(GONE, name('x'))],
  ['attributes counted wrongly', 'attribute', (s) => s.inodes.set(FILE, Field.attributeBytes, 1)],
  ['attributes that are none', 'attribute', (state) => breakXattrs(state)],
];

function misplace({ directory, arena }: VolumeState): void {
  const blob = arena.store(Buffer.concat([Buffer.from([FILE, 0, 0, 0]), name('elsewhere')]));
  directory.tree.set(ROOT, 64, blob);
}

/** Two directories below each other. */
function ring({ directory, inodes }: VolumeState): void {
  directory.remove(ROOT, name('directory'));
  directory.insert(INNER, name('ring'), DIRECTORY);
  inodes.set(DIRECTORY, Field.extra, INNER);
}

function breakChunk({ extents, arena }: VolumeState): void {
  const blob = extents.tree.prepare(FILE, 0);
  arena.words(blob)[arena.wordAt(blob)] = 250 + 99 * 0x100;
}

function breakXattrs({ attributes, arena }: VolumeState): void {
  const blob = attributes.tree.prepare(FILE, 1);
  arena.bytes(blob)[arena.byteAt(blob)] = 200;
}

test('each kind of damage in a checkpoint is found', async (t) => {
  for (const [what, kind, seed] of DAMAGE) {
    const bed = volume();
    seed(bed.fs.state);
    checkpoint(bed);
    const found = checkBed(bed, { withoutPages: true });
    t.ok(kinds(found).includes(kind), `${what}: ${JSON.stringify(found.findings)}`);
  }
});

/** What a checkpoint does not keep, in memory. */
const MEMORY: readonly Damage[] = [
  ['pages counted wrongly', 'space', (state) => Object.assign(state, { usedPages: 1 })],
  ['an orphan forgotten', 'orphan', (state) => void state.orphans.delete(ORPHAN)],
  ['an orphan with a name', 'orphan', (state) => void state.orphans.add(FILE)],
  ['an orphan that is free', 'orphan', (state) => void state.orphans.add(GONE)],
  ['live pages counted wrongly', 'segment', (state) => state.segments.count(2 ** 22, 1)],
  ['a key out of order', 'tree', ({ extents }) => extents.tree.first.items.set([0xffff], 3)],
  ['an item without a piece', 'tree', ({ extents }) => extents.tree.first.items.set([0], 2)],
  ['a leaf out of the chain', 'tree', ({ extents }) => unchain(extents.tree)],
  ['an item that was not counted', 'tree', ({ extents }) => uncount(extents.tree)],
];

function unchain({ first }: VolumeState['extents']['tree']): void {
  assert(first.next !== null, 'several leaves');
  first.next = first.next.next;
}

function uncount({ first }: VolumeState['extents']['tree']): void {
  let last = first;
  while (last.next !== null) last = last.next;
  last.count -= 1;
}

test('each kind of damage in memory is found', async (t) => {
  for (const [what, kind, seed] of MEMORY) {
    const bed = volume();
    const { state } = bed.fs;
    const ends = new Map(bed.log.segments.map((one) => [one.id, one.end]));
    const look = (): string[] => {
      const findings = new Findings();
      for (const check of [checkTrees(state, findings), checkNamespace(state, findings)]) {
        while (check.next().done !== true);
      }
      const data = checkData(state, ends, findings);
      while (data.next().done !== true);
      return kinds({ findings: findings.all });
    };
    t.same(look(), [], `${what}: none before`);
    seed(state);
    t.ok(look().includes(kind), what);
  }
});

test('a checkpoint that is not what the log gives is found', async (t) => {
  const bed = volume();
  bed.fs.state.inodes.set(FILE, Field.uid, 4711);
  checkpoint(bed);
  t.match(checkBed(bed).findings, [{ kind: 'checkpoint' }]);
});

test('a checkpoint that cannot be loaded is found, and pages are read all the same', async (t) => {
  const bed = volume();
  checkpoint(bed);
  const { root } = bed.log;
  assert(root !== null, 'a root');
  const top = bed.log.segment(root.segment)?.pages.get(root.page) as Buffer;
  top[12] = (top[12] as number) ^ 1;
  const report = checkBed(bed);
  t.match(report.findings, [{ kind: 'checkpoint', what: /checksum mismatch/ }]);
  t.ok(report.bytesRead > 0);
});

test('a segment that is not in the log any more is found', async (t) => {
  const bed = volume();
  checkpoint(bed);
  const place = bed.fs.state.extents.place(FILE, 3);
  const gone = bed.fs.state.segments.idOf(Math.floor(place / 2 ** 22));
  const found = checkBed(bed, { withoutPages: true }, (segments) =>
    segments.filter(({ segment }) => segment !== gone),
  );
  t.ok(
    found.findings.some((one) => one.inode === FILE && /is not in the log/.test(one.what)),
    JSON.stringify(found.findings),
  );
});

/** A copy that has no good bytes of some pages. */
function badCopy(bed: Bed, segment: SegmentId, bad: readonly number[], at = 0): SegmentCopy {
  const copy = copyOf(bed.owner, segment);
  return {
    name: `node ${at}`,
    read: (page, count, done) => {
      const hit = bad.some((one) => one >= page && one < page + count);
      if (hit) bed.process.clock.soon(() => done(new HoldfastError('DATA_LOST', 'bad'), null));
      else copy.read(page, count, done);
    },
  };
}

test('bad copies are told from lost data, which is named', async (t) => {
  const bed = volume();
  const place = bed.fs.state.extents.place(FILE, 7);
  const page = place % 2 ** 22;
  const id = bed.fs.state.segments.idOf(Math.floor(place / 2 ** 22));
  const damaged = (copies: readonly (readonly number[])[]) => (all: readonly CheckedSegment[]) =>
    all.map((one) => {
      const bad = copies.map((pages, at) => badCopy(bed, id, pages, at));
      return one.segment === id ? { ...one, copies: bad } : one;
    });
  const one = checkBed(bed, {}, damaged([[], [page, page + 2], []]));
  t.match(one.findings, [{ kind: 'copy', what: new RegExp(`pages ${page} ${page + 2} are bad`) }]);
  const several = checkBed(bed, {}, damaged([[page], [page + 1], [page + 2]]));
  t.same(kinds(several), ['copy'], 'each page is somewhere');
  const all = checkBed(bed, {}, damaged([[page], [page], [page, page + 1]]));
  t.match(all.findings[3], { kind: 'page', inode: FILE, what: 'page 7 is lost' });
  t.equal(all.findings.length, 4);
});

test('copies that are moved while they are read are read where they are', async (t) => {
  const bed = volume();
  const moves = (times: number, last: readonly number[]) => (all: readonly CheckedSegment[]) =>
    all.map((one) => {
      let moved = 0;
      const copies = [badCopy(bed, one.segment, [0])];
      return {
        ...{ ...one, copies },
        moved: (done: Parameters<NonNullable<CheckedSegment['moved']>>[0]) => {
          const isLast = moved === times;
          moved += 1;
          const next = moved === times ? [badCopy(bed, one.segment, last)] : copies;
          bed.process.clock.soon(() => done(null, isLast ? null : next));
        },
      };
    });
  t.same(kinds(checkBed(bed, {}, moves(1, []))), [], 'good where it is now');
  t.same(kinds(checkBed(bed, {}, moves(3, []))), [], 'moved and moved again');
  t.ok(kinds(checkBed(bed, {}, moves(1, [0]))).includes('copy'), 'bad there, too');
  t.ok(kinds(checkBed(bed, {}, moves(1e9, []))).includes('copy'), 'not for ever');
});

test('whether copies were moved cannot be asked: an error, not a finding', async (t) => {
  const bed = volume();
  const down = new HoldfastError('UNAVAILABLE', 'metadata store: no answer');
  const check = (): unknown =>
    checkBed(bed, {}, (segments) =>
      segments.map((one) => ({
        ...{ ...one, copies: [badCopy(bed, one.segment, [0])] },
        moved: (done) => bed.process.clock.soon(() => done(down, null)),
      })),
    );
  t.throws(check, { code: 'UNAVAILABLE' });
});

test('a copy that does not answer is said to be so, and nothing is called lost', async (t) => {
  const bed = volume();
  const down = new HoldfastError('UNAVAILABLE', 'node 2 does not answer');
  const silent: SegmentCopy = {
    name: 'silent',
    read: (_page, _count, done) => bed.process.clock.soon(() => done(down, null)),
  };
  const found = checkBed(bed, {}, (segments) =>
    segments.map((one) => ({ ...one, copies: [badCopy(bed, one.segment, [1]), silent] })),
  );
  t.same(kinds(found), ['copy']);
  t.ok(found.findings.some(({ what }) => /does not answer/.test(what)));
});

test('a log that cannot be read now is an error, not a finding', async (t) => {
  const bed = volume();
  checkpoint(bed);
  const down = new HoldfastError('UNAVAILABLE', 'no node answers');
  bed.owner.readPages = (_segment, _page, _count, done) =>
    bed.process.clock.soon(() => done(down, null));
  const source = { owner: bed.owner, clock: bed.process.clock, root: bed.log.root, segments: [] };
  t.match(
    bed.wait((done) => checkVolume(source, (error) => done(error))),
    { code: 'UNAVAILABLE' },
  );
});
