import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { lsn, PAGE_BYTES } from '../../src/core/units.js';
import {
  decodeManifest,
  decodeTop,
  encodeManifest,
  encodeTop,
} from '../../src/volume/checkpoint-format.js';
import { digest } from '../../src/volume/state.js';
import { found } from '../fixtures/found.js';
import { Bed, checkBed, ROOT } from './harness.js';

const name = (text: string): Buffer => Buffer.from(text);

function checkpoint(bed: Bed): void {
  const error = bed.wait((done) => bed.fs.checkpoints.begin(done));
  if (error !== null) throw error;
}

function fill(bed: Bed, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    bed.write(bed.file(`file-${i}`), (i % 40) * 3_000, Buffer.alloc(5_000, i));
  }
}

test('a mount loads the checkpoint and replays only what came after', async (t) => {
  const bed = new Bed({ segmentPages: 200 });
  fill(bed, 0, 600);
  checkpoint(bed);
  const { root } = bed.log;
  t.ok(root !== null && root.lsn > 0);
  fill(bed, 600, 650);
  bed.fs.setxattr(found(bed.fs, ROOT, name('file-3')).inode, 'user.x', name('y'), 0);
  bed.commit();
  const live = digest(bed.fs.state);
  // The records before the root are not read: they could be gone.
  for (const stored of bed.log.records) {
    if (stored.lsn < (root?.lsn ?? 0)) (stored.record as Buffer).fill(0xff);
  }
  bed.crash();
  t.equal(digest(bed.fs.state), live);
  t.ok(
    bed
      .content(found(bed.fs, ROOT, name('file-599')).inode)
      .equals(Buffer.concat([Buffer.alloc(39 * 3_000), Buffer.alloc(5_000, 599)])),
  );
});

test('the next checkpoint writes only what changed', async (t) => {
  const bed = new Bed();
  fill(bed, 0, 2_000);
  bed.commit();
  checkpoint(bed);
  const pages = (): number => bed.log.records.at(-3)?.pageCount ?? 0;
  const first = pages();
  bed.write(found(bed.fs, ROOT, name('file-7')).inode, 0, 'changed');
  bed.commit();
  checkpoint(bed);
  t.ok(pages() * 4 < first, `${first} pages first, ${pages()} pages then`);
  const live = digest(bed.fs.state);
  bed.crash();
  t.equal(digest(bed.fs.state), live);
});

test('a checkpoint is of its moment, whatever happens while it is written', async (t) => {
  const bed = new Bed({ ackDelayMs: 5 });
  fill(bed, 0, 300);
  bed.file('x');
  let ended = false;
  // Groups are on their way, and go on changing while images are taken.
  bed.fs.checkpoints.begin(() => {
    ended = true;
  });
  for (let i = 0; !ended; i++) {
    const inode = found(bed.fs, ROOT, name(`file-${i % 300}`)).inode;
    bed.fs.write(inode, 0, Buffer.alloc(9_000, i), () => {});
    if (i % 3 === 0) bed.fs.rename(ROOT, name(`file-${i % 300}`), ROOT, name('x'), 2);
    bed.scheduler.runFor(1);
  }
  bed.commit();
  t.ok(bed.log.root !== null);
  const live = digest(bed.fs.state);
  t.equal(live, bed.replayDigest());
  bed.crash();
  t.equal(digest(bed.fs.state), live);
});

test('attributes of many files, of as many bytes as files may have', async (t) => {
  const bed = new Bed();
  const value = (i: number): Buffer => Buffer.alloc(30_000, i);
  for (let i = 0; i < 200; i++) {
    const inode = bed.file(`file-${i}`);
    for (const key of ['user.a', 'user.b']) bed.fs.setxattr(inode, key, value(i), 0);
  }
  // What has large values meanwhile is in the image as it was.
  let ended = false;
  bed.fs.checkpoints.begin((error) => {
    t.equal(error, null);
    ended = true;
  });
  for (let i = 0; !ended; i++) {
    const { inode } = found(bed.fs, ROOT, name(`file-${i % 200}`));
    bed.fs.setxattr(inode, 'user.b', value(i + 1), 0);
    bed.scheduler.runFor(1);
  }
  checkpoint(bed);
  bed.commit();
  t.ok(bed.log.root !== null);
  const live = digest(bed.fs.state);
  bed.crash();
  t.equal(digest(bed.fs.state), live);
  t.same(checkBed(bed).findings, []);
  t.same(bed.fs.getxattr(found(bed.fs, ROOT, name('file-199')).inode, 'user.a'), value(199));
});

test('a refused swap changes nothing; the next checkpoint is whole', async (t) => {
  const bed = new Bed();
  fill(bed, 0, 50);
  bed.log.swapError = new HoldfastError('UNAVAILABLE', 'the metadata store is down');
  t.match(
    bed.wait((done) => bed.fs.checkpoints.begin(done)),
    { code: 'UNAVAILABLE' },
  );
  t.equal(bed.log.root, null);
  bed.log.swapError = null;
  checkpoint(bed);
  const live = digest(bed.fs.state);
  bed.crash();
  t.equal(digest(bed.fs.state), live);
});

test('checkpoints begin by themselves when enough was logged', async (t) => {
  const bed = new Bed({ mount: { checkpointLimits: { logBytes: 1 << 20 } } });
  for (let i = 0; i < 12; i++) {
    bed.write(bed.file(`f${i}`), 0, Buffer.alloc(300_000, i));
    bed.commit();
  }
  bed.scheduler.runFor(100);
  t.ok(bed.log.root !== null);
  bed.crash();
  t.equal(bed.content(found(bed.fs, ROOT, name('f11')).inode).length, 300_000);
});

test('a manifest that is damaged is refused', async (t) => {
  const image = { segment: 1, offset: 2 ** 33, length: 77 };
  const manifest = {
    lsn: lsn(5),
    inodeSlots: 9,
    segments: [{ slot: 1, segment: 'ab'.repeat(16) as never }],
    pending: [{ chunk: 3, place: 2 ** 22 + 5 }],
    sections: [[image], [], [image, image], [], []],
  };
  const bytes = encodeManifest(manifest);
  t.same(decodeManifest(bytes), manifest);
  for (let length = 0; length < bytes.length; length++) {
    t.throws(() => decodeManifest(bytes.subarray(0, length)), { code: 'MALFORMED' });
  }
  const parts = [{ segment: 'cd'.repeat(16) as never, page: 8, pages: 2 }];
  t.same(decodeTop(encodeTop(bytes, parts)).parts, parts);
  t.throws(() => decodeTop(Buffer.alloc(4096)), { code: 'MALFORMED' });
  const bed = new Bed();
  fill(bed, 0, 3);
  checkpoint(bed);
  const segment = bed.log.segments[0];
  const top = segment?.pages.get(bed.log.root?.page ?? 0) as Buffer;
  top[12] = (top[12] as number) ^ 1;
  t.throws(() => bed.crash(), { code: 'MALFORMED' });
});

test('a checkpoint ends with the log, wherever it stands, and no timer outlives it', async (t) => {
  for (const sent of [0, 1, 2, 3]) {
    const bed = new Bed({ ackDelayMs: null });
    fill(bed, 0, 100);
    bed.fs.commit(() => {});
    let ended: unknown = 'never';
    bed.fs.checkpoints.begin((error) => {
      ended = error?.code;
    });
    for (let i = 0; i < sent; i++) {
      bed.owner.acknowledge(1);
      bed.scheduler.runFor(1);
    }
    bed.owner.fail(new HoldfastError('FENCED', 'a newer owner'));
    bed.scheduler.runFor(60_000);
    t.equal(ended, 'FENCED', `after ${sent} acknowledgements`);
    t.ok(bed.scheduler.idle);
  }
});

test('segments deleted after the checkpoint take no slot at the next mount', async (t) => {
  const bed = new Bed({ segmentPages: 64 });
  const inode = bed.file('f');
  for (let round = 0; round < 8; round++) {
    bed.write(inode, 0, Buffer.alloc(100 * PAGE_BYTES, round));
    bed.commit();
  }
  bed.scheduler.runFor(60_000);
  t.ok(bed.log.deleted.length > 3, `${bed.log.deleted.length} segments were deleted`);
  bed.crash();
  const { segments } = bed.fs.state;
  t.same(
    bed.log.deleted.filter((one) => segments.known(one) !== 0),
    [],
  );
  t.equal(bed.content(inode)[0], 7);
});
