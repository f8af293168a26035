/** What new files get from their directory, and what is left where there is no room for it. */
import { test } from 'tap';
import { ACL_DEFAULT } from '../../src/fuse/acl.js';
import { createIn } from '../../src/fuse/creation.js';
import { type Attributes, FsError, ROOT_INODE } from '../../src/volume/filesystem-api.js';
import { MemoryFilesystem } from '../fixtures/memory-filesystem.js';
import { errnoOf } from '../volume/harness.js';

const CALLER = { uid: 1000, gid: 1000 };
const REGULAR = 0o100000;
const DIRECTORY = 0o040000;
const FIFO = 0o010000;
/** Owner, a named user, group, mask, others. */
const LIST = Buffer.from(
  [
    ...['02000000', '01000700ffffffff', '02000700d1070000'],
    ...['04000500ffffffff', '10000700ffffffff', '20000500ffffffff'],
  ].join(''),
  'hex',
);

/** A directory with a default ACL, on a filesystem that has no room for any other ACL. */
function crowded(): { filesystem: MemoryFilesystem; made: Attributes[]; make: Make } {
  const filesystem = new MemoryFilesystem();
  filesystem.setxattr(ROOT_INODE, ACL_DEFAULT, LIST, 0);
  filesystem.setxattr = () => {
    throw new FsError('ENOSPC', 'the volume is full');
  };
  const made: Attributes[] = [];
  const make = (name: Buffer | null, type: number): void => {
    const wanted = { parent: ROOT_INODE, name, mode: type | 0o660, umask: 0, caller: CALLER };
    createIn(filesystem, wanted, (mode, owner) => {
      let one: Attributes;
      if (name === null) one = filesystem.tmpfile(ROOT_INODE, mode, owner);
      else if (type === DIRECTORY) one = filesystem.mkdir(ROOT_INODE, name, mode, owner);
      else one = filesystem.mknod(ROOT_INODE, name, mode, 0, owner);
      made.push(one);
      return one;
    });
  };
  return { filesystem, made, make };
}

type Make = (name: Buffer | null, type: number) => void;

test('without room for its ACL there is no file', async (t) => {
  const { filesystem, made, make } = crowded();
  const name = Buffer.from('new');
  for (const [what, type] of [
    [name, REGULAR],
    [name, FIFO],
    [name, DIRECTORY],
    [null, REGULAR],
  ] as const) {
    t.equal(
      errnoOf(() => make(what, type)),
      'ENOSPC',
    );
    t.equal(filesystem.lookup(ROOT_INODE, name), null, 'as the kernel goes on to say');
  }
  t.equal(filesystem.getattr(ROOT_INODE).nlink, 2);
  for (const { inode } of made) {
    t.equal(
      errnoOf(() => filesystem.getattr(inode)),
      'ESTALE',
    );
  }
});
