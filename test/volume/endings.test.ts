import { test } from 'tap';
import { MIB } from '../../src/core/units.js';
import { Bed, errnoOf, ROOT } from './harness.js';

const LARGE = 3_000;

/** A file of `LARGE` chunks of extents without a name. */
function orphan(bed: Bed): number {
  const inode = bed.file('large');
  for (let i = 0; i < LARGE; i++) bed.fs.fallocate(inode, i * MIB, 4096, 0);
  bed.fs.unlink(ROOT, Buffer.from('large'));
  bed.commit();
  return inode;
}

test('a large file is given up bit by bit', async (t) => {
  const bed = new Bed();
  const inode = orphan(bed);
  bed.fs.forget(inode, 1);
  const left = bed.fs.state.usedPages;
  t.ok(left > 0 && left < LARGE, `${left} pages after the first turn`);
  bed.fs.lookup(ROOT, Buffer.from('.'));
  bed.scheduler.runFor(10);
  t.equal(bed.fs.state.usedPages, 0);
  t.equal(bed.fs.state.orphans.size, 0);
  t.equal(
    errnoOf(() => bed.fs.getattr(inode)),
    'ESTALE',
  );
  t.ok(bed.isReproduced());
});

test('a crash in between leaves an orphan that the next mount ends', async (t) => {
  const bed = new Bed();
  const inode = orphan(bed);
  bed.fs.forget(inode, 1);
  bed.fs.history.close();
  const left = bed.fs.state.usedPages;
  bed.crash(10);
  t.ok(bed.fs.state.usedPages < left, 'the next mount goes on');
  bed.scheduler.runFor(10);
  t.equal(bed.fs.state.usedPages, 0);
  t.equal(bed.fs.state.orphans.size, 0);
  t.ok(bed.isReproduced());
});

test('space that is being given up is there for who needs it', async (t) => {
  const bed = new Bed({ sizeBytes: LARGE * 4096 + 4096 });
  const inode = orphan(bed);
  bed.fs.open(inode);
  const other = bed.file('other');
  t.equal(
    errnoOf(() => bed.fs.fallocate(other, 0, LARGE * 4096, 0)),
    'ENOSPC',
    'while it is held',
  );
  bed.fs.close(inode);
  bed.fs.forget(inode, 1);
  bed.fs.fallocate(other, 0, LARGE * 4096, 0);
  t.equal(bed.fs.state.usedPages, LARGE);
  bed.scheduler.runFor(10);
  t.ok(bed.isReproduced());
});
