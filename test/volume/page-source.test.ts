/** Fetches, what joins them, what is kept, and what a deleted segment takes along. */
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { VolumeOwner } from '../../src/replication/owner-api.js';
import { PageSource } from '../../src/volume/page-source.js';
import { placeOf, SegmentTable } from '../../src/volume/segments.js';
import { Bed } from './harness.js';

interface Asked {
  readonly segment: SegmentId;
  readonly page: number;
  readonly count: number;
  /** Answers with pages that each hold their own number; or fails. */
  answer(error?: HoldfastError): void;
}

const FIRST = 'a'.repeat(32) as SegmentId;
const SECOND = 'b'.repeat(32) as SegmentId;

function setUp(capacity?: number) {
  const asked: Asked[] = [];
  const readPages: VolumeOwner['readPages'] = (segment, page, count, done) => {
    const answer = (error?: HoldfastError): void => {
      const data = Buffer.alloc(count * PAGE_BYTES);
      for (let i = 0; i < count; i++) data.fill(page + i, i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
      if (error === undefined) done(null, data);
      else done(error, null);
    };
    asked.push({ segment, page, count, answer });
  };
  const segments = new SegmentTable();
  const source = new PageSource({ readPages } as VolumeOwner, segments, capacity);
  segments.onRelease = (slot) => source.forget(slot);
  return { asked, segments, source, place: placeOf(segments.slotOf(FIRST), 0) };
}

test('what was fetched ahead is in memory as one run; what is coming is joined', async (t) => {
  const { asked, source, place } = setUp();
  source.fetchAhead(place + 10, 20);
  t.match(asked, [{ segment: FIRST, page: 10, count: 20 }]);
  t.same(source.at(place + 12, 100), { kind: 'coming', count: 18 });
  t.same(source.at(place + 5, 100), { kind: 'absent', count: 5 });
  const got: unknown[] = [];
  source.fetch(place + 12, 2, (error, data) => got.push(error, data?.length, data?.[PAGE_BYTES]));
  t.equal(asked.length, 1, 'joined');
  asked[0]?.answer();
  t.same(got, [null, 2 * PAGE_BYTES, 13]);
  const found = source.at(place + 15, 100);
  t.match(found, { kind: 'memory', count: 15 });
  t.equal(found.kind === 'memory' && found.data[0], 15);
  source.fetchAhead(place + 8, 30);
  t.match(asked.slice(1), [
    { page: 8, count: 2 },
    { page: 30, count: 8 },
  ]);
});

test('a fetch ahead that fails costs those who joined it a fetch of their own', async (t) => {
  const { asked, source, place } = setUp();
  source.fetchAhead(place, 10);
  let got: unknown;
  source.fetch(place + 3, 1, (error, data) => {
    got = error ?? data?.[0];
  });
  asked[0]?.answer(new HoldfastError('DATA_LOST', 'page 7'));
  t.equal(got, undefined);
  t.match(asked.slice(1), [{ page: 3, count: 1 }]);
  asked[1]?.answer();
  t.equal(got, 3);
  t.equal(source.cached(place + 3), null);
});

test('nothing of a deleted segment is kept, though it comes late', async (t) => {
  const { asked, segments, source, place } = setUp();
  source.fetchAhead(place, 4);
  source.fetchAhead(place + 4, 4);
  asked[0]?.answer();
  source.keep(place + 100, Buffer.alloc(PAGE_BYTES));
  let got: unknown;
  source.fetch(place + 5, 1, (error, data) => {
    got = error ?? data?.[0];
  });
  segments.release(FIRST);
  t.equal(placeOf(segments.slotOf(SECOND), 0), place, 'its slot has another meaning');
  asked[1]?.answer();
  t.equal(got, 5, 'who asked before is answered');
  for (const page of [0, 4, 100]) t.equal(source.at(place + page, 1).kind, 'absent');
  source.fetch(place, 1, () => {});
  t.match(asked[2], { segment: SECOND, page: 0 });
});

test('who waits for a deleted segment never gets pages of the one in its slot', async (t) => {
  const { asked, segments, source, place } = setUp();
  source.fetchAhead(place, 4);
  let got: unknown;
  source.fetch(place + 1, 1, (error, data) => {
    got = error ?? data;
  });
  segments.release(FIRST);
  segments.slotOf(SECOND);
  asked[0]?.answer(new HoldfastError('NOT_FOUND', 'the segment is gone'));
  t.equal(asked.length, 1, 'nothing is asked of the other segment');
  t.match(got, { code: 'NOT_FOUND' });
});

test('a page that is kept does not keep the memory around it', async (t) => {
  const { segments } = setUp();
  const slab = Buffer.allocUnsafeSlow(16 * PAGE_BYTES);
  const data = slab.subarray(3 * PAGE_BYTES, 4 * PAGE_BYTES).fill(7);
  const readPages: VolumeOwner['readPages'] = (_segment, _page, _count, done) => done(null, data);
  const source = new PageSource({ readPages } as VolumeOwner, segments);
  const place = placeOf(segments.slotOf(FIRST), 0);
  source.fetchAhead(place, 1);
  const page = source.cached(place);
  t.same(page, Buffer.alloc(PAGE_BYTES, 7));
  t.equal(page?.buffer.byteLength, PAGE_BYTES);
});

test('memory and what is under way are bounded', async (t) => {
  const { asked, source, place } = setUp(40);
  for (let i = 0; i < 10; i++) source.fetchAhead(place + i * 5, 5);
  t.equal(asked.length, 2, 'ten pages on their way');
  for (let i = 0; i < 10; i++) {
    source.fetchAhead(place + i * 5, 5);
    for (const one of asked.splice(0)) one.answer();
  }
  const kinds = Array.from({ length: 10 }, (_, i) => source.at(place + i * 5, 1).kind);
  t.same(kinds, [...Array(6).fill('absent'), ...Array(4).fill('memory')]);
  for (let page = 0; page < 30; page++) source.keep(place + 1_000 + page, Buffer.alloc(1));
  t.equal(source.cached(place + 1_009), null);
  t.ok(source.cached(place + 1_010));
});

test('a file that is read in order comes before it is asked for', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  const pages = 4_000;
  const data = Buffer.alloc(pages * PAGE_BYTES);
  for (let page = 0; page < pages; page++) data.writeUInt32LE(page, page * PAGE_BYTES);
  bed.write(inode, 0, data);
  bed.commit();
  bed.crash();
  const step = 32 * PAGE_BYTES;
  const waits: number[] = [];
  for (let at = 0; at < data.length; at += step) {
    let answered = false;
    bed.fs.read(inode, at, step, (error, parts) => {
      t.equal(error, null);
      t.ok(Buffer.concat(parts).equals(data.subarray(at, at + step)));
      answered = true;
    });
    const { now } = bed.scheduler;
    while (bed.scheduler.step(now));
    if (!answered) waits.push(at / step);
    while (bed.scheduler.step(now + 2));
  }
  t.same(waits, [0], 'only the first read waits');
  t.ok(bed.owner.reads < 60, `${bed.owner.reads} fetches for ${pages} pages`);
  bed.crash();
  const before = bed.owner.reads;
  for (const page of [900, 17, 3_000, 1_234]) bed.read(inode, page * PAGE_BYTES, PAGE_BYTES);
  t.equal(bed.owner.reads - before, 4, 'random reads fetch what they ask for');
});

test('small files that are read one after the other come together', async (t) => {
  const bed = new Bed();
  const files = 1_000;
  const inodes: number[] = [];
  for (let i = 0; i < files; i++) {
    const inode = bed.file(`file-${i}`);
    bed.write(inode, 0, Buffer.alloc(100 + ((i * 37) % 9_000), i));
    inodes.push(inode);
  }
  bed.commit();
  bed.crash();
  const before = bed.owner.reads;
  // In the order of nothing, as a directory lists them.
  for (let i = 0; i < files; i++) {
    const at = (i * 619) % files;
    const inode = inodes[at] as number;
    t.ok(bed.content(inode).every((byte) => byte === (at & 0xff)));
  }
  const fetched = bed.owner.reads - before;
  t.ok(fetched < files / 8, `${fetched} fetches for ${files} files`);
  bed.crash();
  const cold = bed.owner.reads;
  bed.content(inodes[500] as number);
  t.equal(bed.owner.reads - cold, 1);
  const place = bed.fs.state.extents.place(inodes[500] as number, 0);
  t.equal(bed.fs.source.at(place, 1).kind, 'absent', 'one alone brings nothing but itself');
});

test('a write fails with its fetch, unless the page has moved meanwhile', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  bed.write(inode, 0, Buffer.alloc(PAGE_BYTES, 'a'));
  bed.commit();
  bed.crash();
  const other = bed.file('b');
  bed.write(other, 0, Buffer.alloc(PAGE_BYTES, 'b'));
  const lost = new HoldfastError('DATA_LOST', 'no good copy is left');
  const { readPages } = bed.owner;
  bed.owner.readPages = (_segment, _page, _count, done) => {
    bed.owner.readPages = readPages;
    bed.fs.copyRange(other, 0, inode, 0, PAGE_BYTES);
    bed.process.clock.soon(() => done(lost, null));
  };
  t.equal(bed.write(inode, 1, 'c'), null);
  t.equal(bed.read(inode, 0, 4).toString(), 'bcbb');
  bed.commit();
  bed.crash();
  let asked = 0;
  const gone = new HoldfastError('NOT_FOUND', 'the segment is not in the log');
  bed.owner.readPages = (_segment, _page, _count, done) => {
    asked += 1;
    bed.process.clock.soon(() => done(asked < 10 ? gone : lost, null));
  };
  t.match(bed.write(inode, 1, 'd'), { code: 'NOT_FOUND' });
});
