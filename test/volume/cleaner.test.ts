import { test } from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { chooseVictims, type SegmentLoad } from '../../src/volume/cleaner.js';
import { digest } from '../../src/volume/state.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { Bed } from './harness.js';

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
  const limits = { logBytes: 1 * MIB };
  const bed = new Bed({ segmentPages: 256, mount: { checkpointLimits: limits } });
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
  bed.scheduler.runFor(2_000);
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
