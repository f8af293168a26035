/** POSIX and Linux on a mount: content by every way in and out, space, locks, attributes, ACLs. */
import { test } from 'tap';
import { cannotRun, does, fails, gives, Scenarios, type Step } from './posix-target.js';

const skip = cannotRun();
const [ALICE, BOB] = [2001, 2002];
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;
const CREATE = 1;
const REPLACE = 2;

const Tag = { OWNER: 1, USER: 2, GROUP_OWNER: 4, GROUP: 8, MASK: 16, OTHER: 32 };
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

/** An ACL as the kernel takes it, of [tag, permissions, user or group]. */
function acl(...entries: [tag: number, permissions: number, id?: number][]): string {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  for (const [index, [tag, permissions, id = 0xffff_ffff]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + index * 8);
    bytes.writeUInt16LE(permissions, 6 + index * 8);
    bytes.writeUInt32LE(id, 8 + index * 8);
  }
  return bytes.toString('latin1');
}

function opened(content: string | [number, number] = '', flags = 'O_RDWR'): Step[] {
  return [does('create', 'f', content), does('open', 'a', 'f', flags)];
}

test('data', { skip, timeout: 240_000 }, async (t) => {
  const on = await Scenarios.start(t);

  await t.test('mappings', async (t) => {
    await on.test(t, 'shared ones are one with reading and writing', [
      ...opened([65, 10_000]),
      does('mmap', 'm', 'a', 10_000),
      does('pwrite', 'a', 'written', 5_000),
      gives('Awritten', 'mread', 'm', 4_999, 8),
      does('mwrite', 'm', 'mapped', 4_094),
      gives('AmappedA', 'pread', 'a', 8, 4_093),
      gives('AmappedA', 'other', 'pread', 'a', 8, 4_093),
      does('msync', 'm'),
      does('munmap', 'm'),
      gives('AmappedA', 'pread', 'a', 8, 4_093),
      gives({ size: 10_000 }, 'stat', 'a'),
    ]);
    await on.test(t, 'private ones see the file and leave it', [
      ...opened([65, 8_192], 'O_RDONLY'),
      does('mmap', 'm', 'a', 8_192, 'MAP_PRIVATE'),
      does('mwrite', 'm', 'private', 0),
      gives('private', 'mread', 'm', 0, 7),
      gives('AAAAAAA', 'pread', 'a', 7, 0),
      does('open', 'b', 'f', 'O_RDWR'),
      does('pwrite', 'b', 'seen', 5_000),
      gives('seen', 'mread', 'm', 5_000, 4),
    ]);
    await on.test(t, 'what is behind the end is zero in its page, and a signal behind that', [
      ...opened([65, 8_192]),
      does('mmap', 'm', 'a', 8_192),
      does('ftruncate', 'a', 100),
      gives('A\0', 'mread', 'm', 99, 2),
      gives('SIGBUS', 'other', 'mread', 'm', 5_000, 1),
      does('ftruncate', 'a', 8_192),
      gives('\0\0\0\0', 'pread', 'a', 4, 8_000),
      gives('\0', 'mread', 'm', 5_000, 1),
    ]);
    await on.test(t, 'a hole that is written through a mapping', [
      ...opened(),
      does('ftruncate', 'a', 1_000_000),
      does('mmap', 'm', 'a', 1_000_000),
      does('mwrite', 'm', 'x', 500_000),
      does('msync', 'm'),
      gives('\0x\0', 'pread', 'a', 3, 499_999),
      does('fallocate', 'a', PUNCH_HOLE | KEEP_SIZE, 0, 1_000_000),
      gives('\0\0\0', 'mread', 'm', 499_999, 3),
    ]);
  });

  await t.test('direct I/O', async (t) => {
    await on.test(t, 'is one with the page cache', [
      ...opened([65, 16_384]),
      does('open', 'd', 'f', 'O_RDWR|O_DIRECT'),
      does('mmap', 'm', 'a', 16_384),
      gives('A', 'mread', 'm', 4_096, 1),
      gives(4_096, 'direct_write', 'd', [66, 4_096], 4_096),
      gives('AB', 'pread', 'a', 2, 4_095),
      gives('AB', 'mread', 'm', 4_095, 2),
      does('pwrite', 'a', 'cached', 8_192),
      does('mwrite', 'm', 'mapped', 12_288),
      gives({ bytes: 4_096 }, 'direct_read', 'd', 4_096, 8_192),
      does('open', 'e', 'g', 'O_CREAT|O_RDWR|O_DIRECT'),
      gives(4_096, 'direct_write', 'e', [67, 4_096], 0),
      gives({ size: 4_096 }, 'stat', 'e'),
      gives('', 'direct_read', 'e', 4_096, 4_096),
    ]);
    if (on.isVolume) {
      await on.test(t, 'need not be aligned', [
        ...opened([65, 10_000], 'O_RDWR|O_DIRECT'),
        gives(3, 'direct_write', 'a', 'abc', 4_095, 1),
        gives('AabcA', 'direct_read', 'a', 5, 4_094, 7),
        gives('A', 'direct_read', 'a', 100, 9_999, 3),
        gives(10, 'direct_write', 'a', 'appended..', 10_000),
        gives({ size: 10_010 }, 'stat', 'a'),
      ]);
    }
    await on.test(t, 'appends', [
      ...opened([65, 4_096], 'O_RDWR|O_DIRECT|O_APPEND'),
      gives(4_096, 'direct_write', 'a', [66, 4_096], 0),
      gives({ size: 8_192 }, 'stat', 'a'),
      gives({ bytes: 8_192 }, 'cat', 'f'),
    ]);
  });

  await t.test('space', async (t) => {
    await on.test(t, 'fallocate reserves, and keeps the size if asked', [
      ...opened(),
      does('fallocate', 'a', 0, 0, 10_000),
      gives({ size: 10_000, blocks: 24 }, 'stat', 'f'),
      does('fallocate', 'a', KEEP_SIZE, 4_096, 100_000),
      gives({ size: 10_000, blocks: 208 }, 'stat', 'f'),
      gives('\0', 'pread', 'a', 9, 9_999),
      does('ftruncate', 'a', 10_000),
      does('pwrite', 'a', 'x', 5_000),
      gives('\0x\0', 'pread', 'a', 3, 4_999),
      fails('EINVAL', 'fallocate', 'a', 0, 0, 0),
      fails('EINVAL', 'fallocate', 'a', 0, -1, 10),
      fails('EFBIG', 'fallocate', 'a', 0, 2 ** 62, 10),
      fails('ENOTSUP', 'fallocate', 'a', PUNCH_HOLE, 0, 10),
    ]);
    await on.test(t, 'what is reserved behind the end goes with a truncation, to any size', [
      ...opened([65, 10_000]),
      does('fallocate', 'a', KEEP_SIZE, 0, 5_000_000),
      gives({ size: 10_000, blocks: 9768 }, 'stat', 'f'),
      does('ftruncate', 'a', 10_000),
      gives({ size: 10_000, blocks: 24 }, 'stat', 'f'),
      gives('A', 'pread', 'a', 9, 9_999),
      does('fallocate', 'a', KEEP_SIZE, 2_000_000, 1),
      does('ftruncate', 'a', 0),
      does('fallocate', 'a', KEEP_SIZE, 2_000_000, 1),
      does('open', 'b', 'f', 'O_WRONLY|O_TRUNC'),
      gives({ size: 0, blocks: 0 }, 'stat', 'f'),
    ]);
    await on.test(t, 'holes are punched to the byte, and give whole pages back', [
      ...opened([65, 20_000]),
      does('fallocate', 'a', PUNCH_HOLE | KEEP_SIZE, 4_095, 8_194),
      gives('A\0', 'pread', 'a', 2, 4_094),
      gives('\0A', 'pread', 'a', 2, 12_288),
      gives({ size: 20_000, blocks: 24 }, 'stat', 'f'),
      does('fallocate', 'a', PUNCH_HOLE | KEEP_SIZE, 19_000, 1_000_000),
      gives({ size: 20_000 }, 'stat', 'f'),
      gives('\0', 'pread', 'a', 9, 19_999),
      does('fallocate', 'a', ZERO_RANGE, 100, 10),
      gives('A\0', 'pread', 'a', 2, 99),
      gives('\0A', 'pread', 'a', 2, 109),
      does('fallocate', 'a', ZERO_RANGE, 19_990, 20),
      gives({ size: 20_010 }, 'stat', 'f'),
      does('fallocate', 'a', ZERO_RANGE | KEEP_SIZE, 20_000, 1_000),
      gives({ size: 20_010 }, 'stat', 'f'),
    ]);
    await on.test(t, 'holes and data are found', [
      ...opened(),
      does('pwrite', 'a', [1, 8_192], 4_096),
      does('pwrite', 'a', [1, 100], 40_960),
      does('close', 'a'),
      does('open', 'r', 'f', 'O_RDONLY'),
      gives(4_096, 'lseek', 'r', 0, 'SEEK_DATA'),
      gives(5_000, 'lseek', 'r', 5_000, 'SEEK_DATA'),
      gives(12_288, 'lseek', 'r', 5_000, 'SEEK_HOLE'),
      gives(40_960, 'lseek', 'r', 12_288, 'SEEK_DATA'),
      gives(41_060, 'lseek', 'r', 40_960, 'SEEK_HOLE'),
      fails('ENXIO', 'lseek', 'r', 41_060, 'SEEK_DATA'),
      fails('ENXIO', 'lseek', 'r', 50_000, 'SEEK_HOLE'),
      does('truncate', 'f', 100_000),
      fails('ENXIO', 'lseek', 'r', 50_000, 'SEEK_DATA'),
      gives(50_000, 'lseek', 'r', 50_000, 'SEEK_HOLE'),
      fails('EINVAL', 'lseek', 'r', -1, 'SEEK_SET'),
    ]);
    await on.test(t, 'what was put into a hole through a mapping is data at once', [
      ...opened(),
      does('ftruncate', 'a', 1_000_000),
      does('mmap', 'm', 'a', 1_000_000),
      does('mwrite', 'm', 'x', 500_000),
      does('open', 'r', 'f', 'O_RDONLY'),
      does('close', 'a'),
      does('mwrite', 'm', 'y', 600_000),
      gives(600_000, 'lseek', 'r', 600_000, 'SEEK_DATA'),
      does('munmap', 'm'),
      gives(598_016, 'lseek', 'r', 550_000, 'SEEK_DATA'),
    ]);
    await on.test(t, 'copy_file_range, whatever the alignment', [
      ...opened([65, 100_000]),
      does('pwrite', 'a', 'mark', 50_000),
      does('open', 'b', 'g', 'O_RDWR|O_CREAT'),
      gives(100_000, 'copy', 'a', 0, 'b', 0, 200_000),
      gives('AmarkA', 'pread', 'b', 6, 49_999),
      gives(1_000, 'copy', 'a', 49_999, 'b', 200_001, 1_000),
      gives('\0AmarkA', 'pread', 'b', 7, 200_000),
      gives({ size: 201_001 }, 'stat', 'b'),
      does('pwrite', 'a', 'other', 50_000),
      gives('AmarkA', 'pread', 'b', 6, 49_999),
      does('pwrite', 'b', 'mine', 60_000),
      gives('AAAA', 'pread', 'a', 4, 60_000),
      gives(0, 'copy', 'a', 100_000, 'b', 0, 10),
      fails('EINVAL', 'copy', 'a', 0, 'a', 10, 100),
      gives(10, 'copy', 'a', 50_000, 'a', 0, 10),
      gives('otherA', 'pread', 'a', 6, 0),
      does('open', 'r', 'g', 'O_RDONLY'),
      fails('EBADF', 'copy', 'a', 0, 'r', 0, 10),
      does('open', 'd', '.', 'O_RDONLY'),
      fails('EISDIR', 'copy', 'd', 0, 'b', 0, 10),
    ]);
  });

  await t.test('locks', async (t) => {
    await on.test(t, 'of whole files, by open file', [
      ...opened('x'),
      does('open', 'b', 'f', 'O_RDWR'),
      does('flock', 'a', 'LOCK_EX'),
      fails('EAGAIN', 'flock', 'b', 'LOCK_SH|LOCK_NB'),
      does('flock', 'a', 'LOCK_SH'),
      does('flock', 'b', 'LOCK_SH|LOCK_NB'),
      fails('EAGAIN', 'flock', 'a', 'LOCK_EX|LOCK_NB'),
      does('close', 'b'),
      does('flock', 'a', 'LOCK_EX|LOCK_NB'),
    ]);
    await on.test(t, 'of ranges, by process', [
      ...opened([65, 100]),
      does('lock', 'a', 'LOCK_EX|LOCK_NB', 10, 20),
      gives('EAGAIN', 'other', 'lock', 'a', 'LOCK_SH|LOCK_NB', 29, 1),
      gives(null, 'other', 'lock', 'a', 'LOCK_EX|LOCK_NB', 30, 0),
      gives(null, 'other', 'lock', 'a', 'LOCK_EX|LOCK_NB', 0, 10),
      does('lock', 'a', 'LOCK_UN', 15, 5),
      gives(null, 'other', 'lock', 'a', 'LOCK_EX|LOCK_NB', 15, 5),
      gives('EAGAIN', 'other', 'lock', 'a', 'LOCK_EX|LOCK_NB', 15, 6),
      does('open', 'b', 'f', 'O_RDONLY'),
      does('close', 'b'),
      gives(null, 'other', 'lock', 'a', 'LOCK_EX|LOCK_NB', 10, 20),
    ]);
    await on.test(t, 'of ranges, by open file', [
      ...opened([65, 100]),
      does('open', 'b', 'f', 'O_RDWR'),
      does('ofd_lock', 'a', 'F_WRLCK', 0, 50),
      fails('EAGAIN', 'ofd_lock', 'b', 'F_RDLCK', 49, 1),
      does('ofd_lock', 'b', 'F_RDLCK', 50, 1),
      does('ofd_lock', 'a', 'F_UNLCK', 0, 50),
      does('ofd_lock', 'b', 'F_WRLCK', 0, 0),
    ]);
  });

  await t.test('extended attributes', async (t) => {
    await on.test(t, 'are set, replaced, listed and removed', [
      ...opened('x'),
      does('setxattr', 'f', 'user.a', 'one'),
      fails('EEXIST', 'setxattr', 'f', 'user.a', 'two', CREATE),
      fails('ENODATA', 'setxattr', 'f', 'user.b', 'two', REPLACE),
      does('setxattr', 'f', 'user.a', 'two', REPLACE),
      does('setxattr', 'a', 'user.empty', ''),
      does('setxattr', 'f', 'trusted.t', '\0\xff'),
      does('setxattr', 'f', 'user.big', [66, 3_000]),
      gives('two', 'getxattr', 'a', 'user.a'),
      gives('', 'getxattr', 'f', 'user.empty'),
      gives('\0\xff', 'getxattr', 'f', 'trusted.t'),
      gives({ bytes: 3_000 }, 'getxattr', 'f', 'user.big'),
      gives(['trusted.t', 'user.a', 'user.big', 'user.empty'], 'listxattr', 'f'),
      does('removexattr', 'f', 'user.a'),
      fails('ENODATA', 'removexattr', 'f', 'user.a'),
      fails('ENODATA', 'getxattr', 'f', 'user.a'),
      fails('ENOTSUP', 'setxattr', 'f', 'nothing.a', 'x'),
      fails('ERANGE', 'setxattr', 'f', `user.${'n'.repeat(251)}`, 'x'),
      does('setxattr', 'f', `user.${'n'.repeat(250)}`, 'x'),
      fails('E2BIG', 'setxattr', 'f', 'user.huge', [66, 65_537]),
    ]);
    await on.test(t, 'belong to who may write the file', [
      does('create', 'f', '', 0o644),
      does('setxattr', 'f', 'user.a', 'x'),
      does('setxattr', 'f', 'trusted.a', 'x'),
      does('mkdir', 'd', 0o755),
      does('symlink', 'f', 's'),
      does('mknod', 'p', 0o010666),
      fails('EPERM', 'setxattr', 'p', 'user.a', 'x'),
      does('become', ALICE),
      fails('EACCES', 'setxattr', 'f', 'user.a', 'y'),
      fails('EACCES', 'removexattr', 'f', 'user.a'),
      fails('EPERM', 'setxattr', 'f', 'trusted.b', 'y'),
      fails('ENODATA', 'getxattr', 'f', 'trusted.a'),
      fails('EACCES', 'setxattr', 'd', 'user.a', 'y'),
      gives('x', 'getxattr', 'f', 'user.a'),
      gives(['user.a'], 'listxattr', 'f'),
    ]);
  });

  await t.test('access control lists', async (t) => {
    const list = acl(
      [Tag.OWNER, 7],
      [Tag.USER, 7, ALICE],
      [Tag.GROUP_OWNER, 5],
      [Tag.GROUP, 2, 3001],
      [Tag.MASK, 6],
      [Tag.OTHER, 0],
    );
    await on.test(t, 'decide, within their mask', [
      ...opened('x'),
      does('setxattr', 'f', ACCESS, list),
      gives({ mode: 0o100760 }, 'stat', 'f'),
      gives(list, 'getxattr', 'f', ACCESS),
      does('become', ALICE),
      does('open', 'rw', 'f', 'O_RDWR'),
      gives(false, 'access', 'f', 'X_OK'),
      does('become', BOB, BOB, [3001]),
      does('open', 'w', 'f', 'O_WRONLY'),
      fails('EACCES', 'open', 'r', 'f', 'O_RDONLY'),
      does('become', BOB),
      fails('EACCES', 'open', 'r', 'f', 'O_RDONLY'),
      fails('EPERM', 'setxattr', 'f', ACCESS, list),
      fails('EPERM', 'removexattr', 'f', ACCESS),
      does('become', 0),
      does('chmod', 'f', 0o740),
      does('become', ALICE),
      fails('EACCES', 'open', 'rw', 'f', 'O_RDWR'),
      does('open', 'r', 'f', 'O_RDONLY'),
      does('become', 0),
      does('removexattr', 'f', ACCESS),
      gives({ mode: 0o100740 }, 'stat', 'f'),
      gives([], 'listxattr', 'f'),
    ]);
    await on.test(t, 'of directories become those of what is made in them', [
      does('mkdir', 'd'),
      does('setxattr', 'd', DEFAULT, list),
      does('umask', 0o077),
      does('create', 'd/f', 'x', 0o666),
      does('mkdir', 'd/e', 0o777),
      gives({ mode: 0o100660 }, 'stat', 'd/f'),
      gives({ mode: 0o040760 }, 'stat', 'd/e'),
      gives(list, 'getxattr', 'd/e', DEFAULT),
      fails('ENODATA', 'getxattr', 'd/f', DEFAULT),
      does('chmod', 'd', 0o755),
      does('become', ALICE),
      does('open', 'rw', 'd/f', 'O_RDWR'),
    ]);
    await on.test(t, 'that are none are refused', [
      ...opened('x'),
      does('symlink', 'nowhere', 's'),
      fails('ENOTSUP', 'setxattr', 'f', ACCESS, 'none'),
      fails('EINVAL', 'setxattr', 'f', ACCESS, acl([Tag.OWNER, 7])),
      fails('EINVAL', 'setxattr', 'f', ACCESS, acl([Tag.OTHER, 7], [Tag.OWNER, 7])),
      fails('EACCES', 'setxattr', 'f', DEFAULT, list),
      gives([], 'listxattr', 'f'),
      does('setxattr', 'f', ACCESS, acl([Tag.OWNER, 6], [Tag.GROUP_OWNER, 4], [Tag.OTHER, 0])),
      gives({ mode: 0o100640 }, 'stat', 'f'),
      gives([], 'listxattr', 'f'),
    ]);
  });

  await t.test('everything is there after a remount', async (t) => {
    await on.test(t, 'before', [
      does('create', 'f', [65, 10_000], 0o640),
      does('chown', 'f', ALICE, BOB),
      does('chmod', 'f', 0o6640),
      does('setxattr', 'f', 'user.a', 'x'),
      does('utimens', 'f', '1', '2'),
      does('link', 'f', 'g'),
      does('symlink', 'f', 's'),
      does('mkdir', 'd', 0o700),
      does('rename', 'g', 'd/g'),
      does('open', 'a', 'f', 'O_RDWR'),
      does('fallocate', 'a', PUNCH_HOLE | KEEP_SIZE, 100, 5_000),
      does('mknod', 'c', 0o020600, 0x103),
    ]);
    const before = await on.value('tree', on.directory);
    await on.remount();
    t.same(await on.value('tree', on.directory), before);
    await on.crash();
    t.same(await on.value('tree', on.directory), before);
  });
});
