/** POSIX on a mount: opening, sizes, times, kinds of files, files without a name, free space. */
import { test } from 'tap';
import { cannotRun, does, fails, gives, Scenarios, type Step } from './posix-target.js';

const skip = cannotRun();
const ALICE = 2001;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;

const SECOND = 1_000_000_000n;
const ns = (seconds: bigint, nanoseconds: bigint): string => String(seconds * SECOND + nanoseconds);

test('files', { skip, timeout: 240_000 }, async (t) => {
  const on = await Scenarios.start(t);

  await t.test('opening', async (t) => {
    await on.test(t, 'what cannot be opened', [
      does('create', 'f', 'x'),
      does('mkdir', 'd'),
      fails('ENOENT', 'open', 'a', 'none', 'O_RDONLY'),
      fails('ENOENT', 'open', 'a', 'none/f', 'O_CREAT|O_RDWR'),
      fails('ENOTDIR', 'open', 'a', 'f/x', 'O_CREAT|O_RDWR'),
      fails('ENOTDIR', 'open', 'a', 'f', 'O_RDONLY|O_DIRECTORY'),
      fails('EISDIR', 'open', 'a', 'd', 'O_WRONLY'),
      fails('EISDIR', 'open', 'a', 'd', 'O_RDWR'),
      fails('EISDIR', 'open', 'a', 'd', 'O_RDONLY|O_TRUNC'),
      fails('EISDIR', 'open', 'a', 'd', 'O_RDONLY|O_CREAT'),
      fails('EEXIST', 'open', 'a', 'f', 'O_RDWR|O_CREAT|O_EXCL'),
      fails('EEXIST', 'open', 'a', 'd', 'O_RDWR|O_CREAT|O_EXCL'),
      fails('ENAMETOOLONG', 'open', 'a', 'n'.repeat(256), 'O_RDWR|O_CREAT'),
      gives('x', 'cat', 'f'),
    ]);
    await on.test(t, 'O_TRUNC empties, and tells so by the times, only of what had content', [
      does('create', 'f', 'content'),
      does('watch', 'f', '.'),
      does('open', 'a', 'f', 'O_RDWR|O_CREAT'),
      gives('', 'changed', 'f'),
      does('open', 'b', 'f', 'O_RDWR|O_TRUNC'),
      gives('mtime ctime', 'changed', 'f'),
      gives('', 'changed', '.'),
      gives({ size: 0 }, 'stat', 'a'),
      gives('', 'read', 'a', 9),
    ]);
    await on.test(t, 'O_APPEND writes at the end, wherever that has come to be', [
      does('create', 'f', 'one'),
      does('open', 'a', 'f', 'O_RDWR|O_APPEND'),
      does('open', 'b', 'f', 'O_WRONLY|O_APPEND'),
      does('write', 'a', ' two'),
      does('write', 'b', ' three'),
      does('lseek', 'a', 0, 'SEEK_SET'),
      does('write', 'a', ' four'),
      gives('one two three four', 'cat', 'f'),
      does('ftruncate', 'b', 3),
      does('write', 'a', '!'),
      gives('one!', 'cat', 'f'),
      gives(4, 'lseek', 'a', 0, 'SEEK_END'),
    ]);
    await on.test(t, 'access modes', [
      does('create', 'f', 'x'),
      does('open', 'r', 'f', 'O_RDONLY'),
      does('open', 'w', 'f', 'O_WRONLY'),
      fails('EBADF', 'write', 'r', 'x'),
      fails('EBADF', 'read', 'w', 1),
      fails('EINVAL', 'ftruncate', 'r', 0),
      fails('EBADF', 'fallocate', 'r', 0, 0, 1),
      fails('EACCES', 'mmap', 'm', 'r', 1, 'MAP_SHARED', 'PROT_READ|PROT_WRITE'),
      does('mmap', 'p', 'r', 1, 'MAP_PRIVATE', 'PROT_READ|PROT_WRITE'),
      does('open', 'd', '.', 'O_RDONLY|O_DIRECTORY'),
      fails('EISDIR', 'read', 'd', 1),
    ]);
    await on.test(t, 'O_SYNC and O_DSYNC, and the descriptors of directories, can be flushed', [
      does('open', 's', 'f', 'O_CREAT|O_RDWR|O_SYNC'),
      does('open', 'd', 'f', 'O_RDWR|O_DSYNC'),
      gives(1, 'write', 's', 'a'),
      gives(1, 'write', 'd', 'b'),
      does('fsync', 's'),
      does('fdatasync', 'd'),
      does('open', 'dir', '.', 'O_RDONLY|O_DIRECTORY'),
      does('fsync', 'dir'),
      gives('b', 'cat', 'f'),
    ]);
  });

  await t.test('sizes', async (t) => {
    for (const how of ['truncate', 'ftruncate']) {
      const to = (size: number): Step =>
        how === 'truncate' ? does(how, 'f', size) : does(how, 'a', size);
      await on.test(t, `${how} cuts, grows with zeroes, and changes the times`, [
        does('create', 'f', [65, 10_000]),
        does('open', 'a', 'f', 'O_RDWR'),
        does('watch', 'f'),
        to(5_000),
        gives('mtime ctime', 'changed', 'f'),
        to(10_000),
        gives('AA\0\0', 'pread', 'a', 4, 4_998),
        gives('\0', 'pread', 'a', 9, 9_999),
        to(0),
        gives({ size: 0, blocks: 0 }, 'stat', 'f'),
        to(1_000_000_000_000),
        gives({ size: 1_000_000_000_000 }, 'stat', 'f'),
        gives('\0', 'pread', 'a', 9, 999_999_999_999),
      ]);
    }
    await on.test(t, 'what has no size to be changed', [
      does('mkdir', 'd'),
      does('mknod', 'p', S_IFIFO | 0o666),
      does('watch', 'd'),
      fails('EISDIR', 'truncate', 'd', 0),
      fails('EINVAL', 'truncate', 'p', 0),
      fails('ENOENT', 'truncate', 'none', 0),
      fails('ENOTDIR', 'truncate', 'p/x', 0),
      fails('ENOENT', 'truncate', '', 0),
      does('create', 'f'),
      fails('EINVAL', 'truncate', 'f', -1),
      fails('EFBIG', 'truncate', 'f', 2 ** 53),
      gives('', 'changed', 'd'),
    ]);
    await on.test(t, 'writing far behind the end leaves a hole', [
      does('open', 'a', 'f', 'O_RDWR|O_CREAT'),
      gives(1, 'pwrite', 'a', 'x', 10_000_000),
      gives({ size: 10_000_001 }, 'stat', 'f'),
      gives('\0\0x', 'pread', 'a', 9, 9_999_998),
      gives('', 'pread', 'a', 9, 10_000_001),
      fails('EFBIG', 'pwrite', 'a', 'x', 2 ** 53),
      gives(0, 'pwrite', 'a', '', 20_000_000),
      gives({ size: 10_000_001 }, 'stat', 'f'),
    ]);
  });

  await t.test('times', async (t) => {
    await on.test(t, 'to the nanosecond, before 1970 and after 2038', [
      does('create', 'f'),
      does('utimens', 'f', ns(1_234_567_890n, 123_456_789n), ns(4_102_444_800n, 999_999_999n)),
      gives(
        { atime: ns(1_234_567_890n, 123_456_789n), mtime: ns(4_102_444_800n, 999_999_999n) },
        'stat',
        'f',
      ),
      does('utimens', 'f', ns(-2n, 500_000_000n), ns(-2_000_000_000n, 1n)),
      gives({ atime: ns(-2n, 500_000_000n), mtime: ns(-2_000_000_000n, 1n) }, 'stat', 'f'),
      does('utimens', 'f', '0', '0'),
      gives({ atime: '0', mtime: '0' }, 'stat', 'f'),
    ]);
    await on.test(t, 'now, omitted, and what utimensat changes besides', [
      does('create', 'f'),
      does('utimens', 'f', '1', '2'),
      does('watch', 'f'),
      does('utimens', 'f', 'omit', 'omit'),
      gives('', 'changed', 'f'),
      does('utimens', 'f', 'omit', '3'),
      gives('mtime ctime', 'changed', 'f'),
      gives({ atime: '1', mtime: '3' }, 'stat', 'f'),
      does('utimens', 'f', 'now', 'omit'),
      gives('atime mtime ctime', 'changed', 'f'),
      gives({ mtime: '3' }, 'stat', 'f'),
      does('utimens_null', 'f'),
      gives({ mtime: /^1\d{18}$/, atime: /^1\d{18}$/ }, 'stat', 'f'),
      does('open', 'a', 'f', 'O_RDONLY'),
      does('utimens', 'a', '4', '5'),
      gives({ atime: '4', mtime: '5' }, 'stat', 'f'),
    ]);
    await on.test(t, 'of symbolic links, directories and fifos', [
      does('create', 'f'),
      does('symlink', 'f', 's'),
      does('utimens', 's', '1', '2', false),
      gives({ atime: '1', mtime: '2' }, 'lstat', 's'),
      does('utimens', 's', '3', '4'),
      gives({ atime: '3', mtime: '4' }, 'stat', 'f'),
      does('mkdir', 'd'),
      does('utimens', 'd', '5', '6'),
      gives({ mtime: '6' }, 'stat', 'd'),
      does('mknod', 'p', S_IFIFO | 0o600),
      does('utimens', 'p', '7', '8'),
      gives({ mtime: '8' }, 'stat', 'p'),
    ]);
    await on.test(t, 'who may set them', [
      does('create', 'f', '', 0o644),
      does('create', 'w', '', 0o644),
      does('chmod', 'w', 0o666),
      does('become', ALICE),
      fails('EPERM', 'utimens', 'f', '1', '2'),
      fails('EACCES', 'utimens_null', 'f'),
      fails('EPERM', 'utimens', 'w', '1', '2'),
      fails('EPERM', 'utimens', 'w', 'now', 'omit'),
      does('utimens_null', 'w'),
      does('utimens', 'w', 'now', 'now'),
    ]);
    await on.test(t, 'writing and truncating change mtime and ctime, reading and failing nothing', [
      does('create', 'f', 'content'),
      does('open', 'a', 'f', 'O_RDWR'),
      does('watch', 'f'),
      does('pread', 'a', 1, 100),
      fails('EINVAL', 'pread', 'a', 1, -1),
      fails('EFBIG', 'pwrite', 'a', 'x', 2 ** 53),
      gives(0, 'pwrite', 'a', '', 0),
      fails('EINVAL', 'ftruncate', 'a', -1),
      fails('ENOTSUP', 'fallocate', 'a', 2, 0, 10),
      gives('', 'changed', 'f'),
      does('pwrite', 'a', 'x', 0),
      gives('mtime ctime', 'changed', 'f'),
      does('watch', 'f'),
      does('ftruncate', 'a', 7),
      gives('mtime ctime', 'changed', 'f'),
      does('watch', 'f'),
      does('fallocate', 'a', 0, 0, 100),
      gives('mtime ctime', 'changed', 'f'),
      does('watch', 'f'),
      does('setxattr', 'f', 'user.a', 'x'),
      gives('ctime', 'changed', 'f'),
      does('watch', 'f'),
      does('mmap', 'm', 'a', 100),
      does('mwrite', 'm', 'y', 50),
      does('msync', 'm'),
      gives('mtime ctime', 'changed', 'f'),
    ]);
  });

  await t.test('kinds', async (t) => {
    await on.test(t, 'device numbers', [
      does('mknod', 'c', S_IFCHR | 0o640, 0x103),
      gives({ mode: 0o020640, rdev: 0x103, size: 0, nlink: 1 }, 'stat', 'c'),
      does('mknod', 'b', S_IFBLK | 0o600, 0x12310345),
      gives({ mode: 0o060600, rdev: 0x12310345 }, 'stat', 'b'),
      does('open', 'null', 'c', 'O_RDWR'),
      gives(5, 'write', 'null', 'gone!'),
      gives('', 'read', 'null', 5),
      does('link', 'c', 'c2'),
      gives({ rdev: 0x103 }, 'stat', 'c2'),
    ]);
    await on.test(t, 'fifos and sockets are places to meet', [
      does('mknod', 'p', S_IFIFO | 0o600),
      fails('ENXIO', 'open', 'w', 'p', 'O_WRONLY|O_NONBLOCK'),
      does('open', 'r', 'p', 'O_RDONLY|O_NONBLOCK'),
      does('open', 'w', 'p', 'O_WRONLY|O_NONBLOCK'),
      does('write', 'w', 'through'),
      gives('through', 'read', 'r', 9),
      fails('ESPIPE', 'lseek', 'r', 0, 'SEEK_SET'),
      does('bind', 's'),
      gives({ mode: /./ }, 'stat', 's'),
      fails('EADDRINUSE', 'bind', 's'),
      fails('ENXIO', 'open', 'a', 's', 'O_RDWR'),
      does('mknod', 't', S_IFSOCK | 0o600),
      does('mknod', 'plain', 0o600),
      gives({ mode: 0o100600, size: 0 }, 'stat', 'plain'),
    ]);
  });

  await t.test('files without a name', async (t) => {
    await on.test(t, 'live while they are open', [
      does('create', 'f', 'content'),
      does('open', 'a', 'f', 'O_RDWR'),
      does('open', 'b', 'f', 'O_RDONLY'),
      does('unlink', 'f'),
      gives({ nlink: 0, size: 7 }, 'stat', 'a'),
      does('close', 'b'),
      does('pwrite', 'a', ' and more', 7),
      does('ftruncate', 'a', 11),
      does('fsync', 'a'),
      does('chmod', 'a', 0o600),
      does('setxattr', 'a', 'user.x', 'y'),
      gives('y', 'getxattr', 'a', 'user.x'),
      gives('content and', 'pread', 'a', 99, 0),
      fails('ENOENT', 'linkfd', 'a', 'g'),
      does('create', 'f', 'another'),
      gives('content and', 'pread', 'a', 99, 0),
    ]);
    await on.test(t, 'O_TMPFILE, which may get a name', [
      does('open', 'a', '.', 'O_TMPFILE|O_RDWR', 0o640),
      does('write', 'a', 'content'),
      gives({ nlink: 0, mode: 0o100640 }, 'stat', 'a'),
      gives([], 'list'),
      does('linkfd', 'a', 'f'),
      gives('content', 'cat', 'f'),
      gives({ nlink: 1 }, 'stat', 'a'),
      fails('EEXIST', 'linkfd', 'a', 'f'),
      does('open', 'b', '.', 'O_TMPFILE|O_RDWR|O_EXCL', 0o600),
      fails('ENOENT', 'linkfd', 'b', 'g'),
      fails('EINVAL', 'open', 'c', '.', 'O_TMPFILE|O_RDONLY'),
      does('open', 'd', '.', 'O_TMPFILE|O_WRONLY', 0o600),
      fails('ENOTDIR', 'open', 'e', 'f', 'O_TMPFILE|O_RDWR'),
    ]);
    await on.test(t, 'a renamed file stays the one that is open', [
      does('create', 'f', 'one'),
      does('open', 'a', 'f', 'O_RDWR'),
      does('mkdir', 'd'),
      does('rename', 'f', 'd/g'),
      does('write', 'a', 'two'),
      gives('two', 'cat', 'd/g'),
    ]);
  });

  await t.test('free space', async (t) => {
    if (!on.isVolume) return t.comment('other filesystems count otherwise');
    const space = async (): Promise<Record<string, number>> =>
      (await on.value('statvfs', on.directory)) as Record<string, number>;
    const before = await space();
    await on.test(t, 'what a file takes is missing from what is free', [
      does('open', 'a', 'f', 'O_RDWR|O_CREAT'),
      does('pwrite', 'a', [1, 1_000_000], 0),
      does('fallocate', 'a', 0, 1_000_000, 7_388_608),
    ]);
    const now = await space();
    t.match(now, { bsize: 4096, frsize: 4096, namemax: 255, blocks: before.blocks });
    const taken = (before.bfree ?? 0) - (now.bfree ?? 0);
    const blocks = 8_388_608 / 4096;
    t.ok(taken >= blocks && taken <= blocks + 2, `${taken} blocks for ${blocks}`);
    const used = ({ files = 0, ffree = 0 }: Record<string, number>): number => files - ffree;
    t.equal(used(now), used(before) + 2, 'a directory and a file more');
  });
});
