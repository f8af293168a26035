import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { chooseVictims, type SegmentLoad } from '../../src/volume/cleaner.js';
import { digest } from '../../src/volume/state.js';
import { found } from '../fixtures/found.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { Bed, ROOT } from './harness.js';

function load(name: number, pages: number, live: number): SegmentLoad {
  return { segment: String(name).padStart(32, '0') as SegmentId, pages, live };
}

test('victims are the emptiest segments, until enough of the log lives', async (t) => {
  const names = (loads: SegmentLoad[]): number[] =>
    chooseVictims(loads).map((one) => Number(one.segment));
  t.same(names([]), []);
  t.same(names([load(1, 100, 80), load(2, 100, 60)]), [], '70 % live is enough');
  t.same(names([load(1, 100, 80), load(2, 100, 10), load(3, 100, 50)]), [2, 3]);
  t.same(names([load(1, 100, 0), load(2, 100, 90)]), [], 'the dead one goes without moving');
  t.same(names([load(1, 100, 100), load(2, 100, 30), load(3, 100, 20)]), [3, 2]);
  t.same(names([load(1, 100, 300), load(2, 100, 20)]), [2], 'sharers count twice');
});

test('overwriting at random four times over keeps the log small, through crashes', async (t) => {
  const random = new SimRandom('cleaner');
  const pages = 1024;
  const checkpointLimits = { logBytes: 1 * MIB };
  const reclaimLimits = { intervalMs: 50, deadBytes: 2 * MIB, quietBytes: 0, restBytes: 1 * MIB };
  const bed = new Bed({ segmentPages: 256, mount: { checkpointLimits, reclaimLimits } });
  const inode = bed.file('database');
  const expected = Buffer.alloc(pages * PAGE_BYTES, 1);
  bed.write(inode, 0, expected);
  let largest = 0;
  for (let round = 0; round < 4 * pages; round++) {
    const offset = random.below(pages) * PAGE_BYTES;
    const data = Buffer.alloc(PAGE_BYTES, round);
    bed.write(inode, offset, data);
    expected.set(data, offset);
    if (round % 64 === 0) bed.commit();
    if (round % 8 === 0) bed.scheduler.runFor(1);
    if (round % 1_500 === 1_499) {
      bed.commit();
      bed.crash();
    }
    const used = bed.log.segments.reduce((sum, one) => sum + one.end, 0);
    if (round > 200) largest = Math.max(largest, used);
  }
  bed.commit();
  bed.scheduler.runFor(20_000);
  const settled = bed.log.segments.reduce((sum, one) => sum + one.end, 0);
  t.ok(bed.log.deleted.length > 8, `${bed.log.deleted.length} segments were deleted`);
  t.ok(settled < 1.6 * pages + 512, `${settled} pages for ${pages}`);
  t.ok(largest < 3 * pages, `${largest} pages at most`);
  t.ok(bed.content(inode).equals(expected));
  bed.commit();
  const live = digest(bed.fs.state);
  bed.crash();
  t.equal(digest(bed.fs.state), live);
  t.ok(bed.content(inode).equals(expected));
});

test('what a crash may bring back is not deleted', async (t) => {
  const bed = new Bed({ segmentPages: 32, ackDelayMs: null });
  const inode = bed.file('a');
  const version = (value: number): Buffer => Buffer.alloc(60 * PAGE_BYTES, value);
  const write = (value: number): void => {
    bed.fs.write(inode, 0, version(value), () => {});
    bed.fs.commit(() => {});
  };
  for (const value of [1, 2, 3]) write(value);
  bed.owner.acknowledge();
  bed.fs.checkpoints.begin(() => {});
  // Images, then the manifest; the top page stays on its way.
  for (let i = 0; i < 2; i++) {
    bed.owner.acknowledge(1);
    bed.scheduler.runFor(1);
  }
  t.equal(bed.owner.inFlight, 1);
  write(4);
  t.equal(bed.owner.inFlight, 2, 'version 3 is dead in memory only');
  bed.owner.acknowledge(1);
  bed.scheduler.runFor(1);
  t.equal(bed.log.deleted.length, 2, 'of the segments only those of versions 1 and 2 go');
  bed.crash(0);
  t.ok(bed.content(inode).equals(version(3)));
});

test('a segment is kept for the images of the newest checkpoint in it', async (t) => {
  const bed = new Bed({ segmentPages: 32 });
  const checkpoint = (): void => {
    bed.commit();
    const error = bed.wait((done) => bed.fs.checkpoints.begin(done));
    if (error !== null) throw error;
  };
  for (let i = 0; i < 3_000; i++) bed.file(`file-${i}`);
  checkpoint();
  const inode = bed.file('data');
  for (let round = 0; round < 6; round++) {
    bed.write(inode, 0, Buffer.alloc(40 * PAGE_BYTES, round));
    checkpoint();
    bed.scheduler.runFor(50);
  }
  t.ok(bed.log.deleted.length > 0, 'others are deleted');
  bed.commit();
  const live = digest(bed.fs.state);
  bed.crash();
  t.equal(digest(bed.fs.state), live);
});

test('a victim may die and be deleted while the others are still moved', async (t) => {
  const checkpointLimits = { logBytes: 4 * MIB };
  const bed = new Bed({ segmentPages: 256, mount: { checkpointLimits } });
  const [keep, waste] = [bed.file('keep'), bed.file('waste')];
  const page = (value: number): Buffer => Buffer.alloc(PAGE_BYTES, value);
  for (let i = 0; i < 6_000; i++) {
    bed.write(i % 3 === 0 ? keep : waste, i * PAGE_BYTES, page(i));
    if (i % 100 === 99) bed.commit();
  }
  bed.fs.setattr(waste, { size: 0 });
  const before = bed.log.segments.map(({ id }) => id);
  bed.commit();
  let ended = false;
  bed.fs.cleaner.clean((error) => {
    t.equal(error, null);
    ended = true;
  });
  // Everything that it wants to move is overwritten, and the checkpoints that come let it go.
  let gone = 0;
  for (let i = 0; i < 6_000; i++) {
    bed.write(keep, i * PAGE_BYTES, page(i + 1));
    if (i % 100 === 99) bed.commit();
    if (!ended) gone = before.filter((id) => bed.log.deleted.includes(id)).length;
  }
  t.ok(gone > 5, `${gone} segments are deleted while it is under way`);
  while (!ended) bed.scheduler.step();
  bed.crash();
  for (const at of [0, 17, 5_999])
    t.same(bed.read(keep, at * PAGE_BYTES, PAGE_BYTES), page(at + 1));
});

const pagesOf = (bed: Bed): number => bed.log.segments.reduce((sum, one) => sum + one.end, 0);

test('shared pages are moved once and stay shared', async (t) => {
  const bed = new Bed({ segmentPages: 256 });
  const keep = bed.file('keep');
  const waste = bed.file('waste');
  const copies = [bed.file('copy-1'), bed.file('copy-2')];
  const random = new SimRandom('shared');
  for (let page = 0; page < 150; page++) {
    const data = Buffer.alloc(PAGE_BYTES, page + 1);
    data.writeUInt32LE(random.below(1_000_000), 0);
    bed.write(keep, page * PAGE_BYTES, data);
    bed.write(waste, page * 5 * PAGE_BYTES, Buffer.alloc(5 * PAGE_BYTES, 7));
    if (page % 10 === 9) bed.commit();
  }
  for (const [index, copy] of copies.entries()) {
    const length = (150 - index * 40) * PAGE_BYTES;
    t.equal(bed.fs.copyRange(keep, 0, copy, index * PAGE_BYTES, length), length);
  }
  const shared = bed.content(copies[1] as number);
  // Some of them go their own ways before, and some while the cleaner looks for them.
  bed.write(copies[0] as number, 5 * PAGE_BYTES, 'own');
  bed.fs.setattr(waste, { size: 0 });
  bed.commit();
  const expected = bed.content(copies[0] as number);
  let ended = false;
  bed.fs.cleaner.clean((error) => {
    t.equal(error, null);
    ended = true;
  });
  bed.write(keep, 20 * PAGE_BYTES, 'changed');
  bed.write(copies[1] as number, 33 * PAGE_BYTES, 'changed');
  shared.set(Buffer.from('changed'), 33 * PAGE_BYTES);
  while (!ended) bed.scheduler.step();
  const moved = bed.fs.cleaner.movedPages;
  t.ok(moved > 100 && moved < 160, `${moved} pages were moved`);
  t.ok(bed.content(copies[0] as number).equals(expected));
  t.ok(bed.content(copies[1] as number).equals(shared));
  const { extents, inodes } = bed.fs.state;
  const [a, b] = [inodes.slotOf(keep), inodes.slotOf(copies[0] as number)];
  t.equal(extents.place(a, 40), extents.place(b, 40), 'still one page');
  t.not(extents.place(a, 20), extents.place(b, 20));
  t.ok(bed.isReproduced());
  bed.crash();
  t.ok(bed.content(copies[1] as number).equals(shared));
  t.ok(bed.isReproduced());
});

test('space comes back on a volume that nobody writes to, and then it is silent', async (t) => {
  const bed = new Bed({ segmentPages: 256 });
  for (let i = 0; i < 40; i++) {
    bed.write(bed.file(`f${i}`), 0, Buffer.alloc(50 * PAGE_BYTES, i));
    bed.commit();
  }
  const full = pagesOf(bed);
  for (let i = 0; i < 40; i++) {
    if (i % 4 === 0) continue;
    const { inode } = found(bed.fs, ROOT, Buffer.from(`f${i}`));
    bed.fs.unlink(ROOT, Buffer.from(`f${i}`));
    bed.fs.forget(inode, 2);
  }
  bed.commit();
  bed.scheduler.runFor(60_000);
  const live = 10 * 50;
  t.ok(pagesOf(bed) < live / 0.7 + 2 * 256, `${full} pages, then ${pagesOf(bed)} for ${live}`);
  const { length } = bed.log.records;
  bed.scheduler.runFor(3_600_000);
  t.equal(bed.log.records.length, length, 'nothing is written any more');
  t.ok(bed.scheduler.idle, 'and no timer runs');
});

test('a cycle that wins nothing is not repeated on a quiet volume', async (t) => {
  const bed = new Bed({ segmentPages: 64 });
  // A page for each commit: half of the log is heads. What the cleaner writes is dense.
  const inode = bed.file('a');
  for (let i = 0; i < 200; i++) {
    bed.write(inode, i * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, i));
    bed.commit();
  }
  bed.scheduler.runFor(60_000);
  const { length } = bed.log.records;
  bed.scheduler.runFor(3_600_000);
  t.equal(bed.log.records.length, length);
  t.ok(bed.scheduler.idle);
});

test('dead segments are deleted once the metadata store answers again', async (t) => {
  const bed = new Bed({ segmentPages: 64 });
  const inode = bed.file('a');
  for (let i = 0; i < 5; i++) {
    bed.write(inode, 0, Buffer.alloc(60 * PAGE_BYTES, i));
    bed.commit();
  }
  const down = new HoldfastError('UNAVAILABLE', 'the metadata store is down');
  const { deleteSegments } = bed.log;
  let refused = 0;
  bed.log.deleteSegments = (_ids, done) => {
    refused += 1;
    done(down);
  };
  bed.scheduler.runFor(20_000);
  t.ok(refused > 2 && refused < 20, `asked ${refused} times`);
  t.equal(bed.log.deleted.length, 0);
  bed.log.deleteSegments = deleteSegments;
  bed.scheduler.runFor(20_000);
  t.ok(bed.log.deleted.length > 1);
  t.ok(bed.scheduler.idle);
});

test('nothing is tried again once the log has failed', async (t) => {
  const bed = new Bed({ segmentPages: 64, ackDelayMs: null });
  const inode = bed.file('a');
  for (let i = 0; i < 5; i++) {
    bed.fs.write(inode, 0, Buffer.alloc(60 * PAGE_BYTES, i), () => {});
    bed.fs.commit(() => {});
  }
  bed.owner.acknowledge();
  bed.scheduler.runFor(20_000);
  t.ok(bed.fs.checkpoints.isRunning, 'a checkpoint is to show that segments are dead');
  bed.owner.fail(new HoldfastError('FENCED', 'a newer owner'));
  t.notOk(bed.fs.checkpoints.isRunning);
  bed.scheduler.runFor(20_000);
  t.ok(bed.scheduler.idle);
});
