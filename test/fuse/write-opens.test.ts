/** Holes are told of only while nobody can have changed them behind our back. */
import { constants } from 'node:fs';
import { test } from 'tap';
import { WriteOpens } from '../../src/fuse/write-opens.js';
import { MemoryFilesystem } from '../fixtures/memory-filesystem.js';
import { errnoOf } from '../volume/harness.js';

const { O_RDONLY, O_WRONLY, O_RDWR } = constants;

function withHole(): { memory: MemoryFilesystem; inode: number } {
  const memory = new MemoryFilesystem();
  const { inode } = memory.mknod(1, Buffer.from('f'), 0o100644, 0, { uid: 0, gid: 0 });
  memory.setattr(inode, { size: 10_000 });
  return { memory, inode };
}

test('a file that is open for writing has no holes until the last of them is closed', async (t) => {
  const { memory, inode } = withHole();
  const opens = new WriteOpens(true);
  const hole = (): number => opens.seek(memory, inode, 100, 'hole');
  t.equal(hole(), 100);
  opens.opened(inode, O_RDONLY);
  t.equal(hole(), 100);
  opens.opened(inode, O_RDWR);
  opens.opened(inode, O_WRONLY);
  t.equal(hole(), 10_000);
  t.equal(opens.seek(memory, inode, 100, 'data'), 100);
  opens.released(inode, O_RDONLY);
  opens.released(inode, O_RDWR);
  t.equal(hole(), 10_000);
  t.equal(
    errnoOf(() => opens.seek(memory, inode, 10_000, 'data')),
    'ENXIO',
  );
  opens.released(inode, O_WRONLY);
  t.equal(hole(), 100);
  t.equal(
    errnoOf(() => opens.seek(memory, inode, 100, 'data')),
    'ENXIO',
  );
});

test('who took over a mount takes every file for one that is open for writing', async (t) => {
  const { memory, inode } = withHole();
  const opens = new WriteOpens(false);
  t.equal(opens.seek(memory, inode, 100, 'hole'), 10_000);
  opens.opened(inode, O_RDWR);
  opens.released(inode, O_RDWR);
  t.equal(opens.seek(memory, inode, 100, 'data'), 100);
});
