/** POSIX on a mount: making, linking, moving and removing names, and which errno comes first. */
import { test } from 'tap';
import { cannotRun, does, fails, gives, Scenarios, type Step } from './posix-target.js';

const skip = cannotRun();
const NOREPLACE = 1;
const EXCHANGE = 2;
const NAME = 'n'.repeat(255);
const LONG_NAME = `${NAME}n`;
const KINDS = ['file', 'directory', 'fifo', 'character', 'block', 'socket', 'symlink'] as const;
type Kind = (typeof KINDS)[number];

const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;

function make(kind: Kind, path: string): Step {
  switch (kind) {
    case 'file':
      return does('create', path, path);
    case 'directory':
      return does('mkdir', path);
    case 'fifo':
      return does('mknod', path, S_IFIFO | 0o644);
    case 'character':
      return does('mknod', path, S_IFCHR | 0o644, 0x103);
    case 'block':
      return does('mknod', path, S_IFBLK | 0o644, 0x12345678);
    case 'socket':
      return does('bind', path);
    case 'symlink':
      return does('symlink', 'nowhere', path);
  }
}

function remove(kind: Kind, path: string): Step {
  return does(kind === 'directory' ? 'rmdir' : 'unlink', path);
}

test('names', { skip, timeout: 240_000 }, async (t) => {
  const on = await Scenarios.start(t);

  for (const kind of KINDS) {
    await on.test(t, `a ${kind} is made once, and its directory tells`, [
      does('watch', '.'),
      make(kind, 'a'),
      gives('mtime ctime', 'changed', '.'),
      does('watch', '.', 'a'),
      fails('EEXIST', 'mkdir', 'a'),
      fails('EEXIST', 'mknod', 'a', S_IFIFO | 0o644),
      fails('EEXIST', 'symlink', 'x', 'a'),
      fails('EEXIST', 'open', 'f', 'a', 'O_CREAT|O_EXCL|O_RDWR'),
      gives('', 'changed', '.'),
      gives('', 'changed', 'a'),
      remove(kind, 'a'),
      gives('mtime ctime', 'changed', '.'),
      fails('ENOENT', 'lstat', 'a'),
    ]);
  }

  for (const kind of KINDS.filter((one) => one !== 'directory')) {
    await on.test(t, `a ${kind} has as many names as it gets`, [
      make(kind, 'a'),
      does('mkdir', 'd'),
      does('watch', 'a', '.', 'd'),
      does('link', 'a', 'd/b'),
      gives('ctime', 'changed', 'a'),
      gives('', 'changed', '.'),
      gives('mtime ctime', 'changed', 'd'),
      gives({ nlink: 2 }, 'lstat', 'd/b'),
      fails('EEXIST', 'link', 'a', 'd/b'),
      fails('EEXIST', 'link', 'a', 'd'),
      does('watch', 'd/b'),
      does('unlink', 'a'),
      gives('ctime', 'changed', 'd/b'),
      gives({ nlink: 1 }, 'lstat', 'd/b'),
    ]);
  }

  await on.test(t, 'what cannot be linked', [
    does('mkdir', 'd'),
    fails('EPERM', 'link', 'd', 'e'),
    fails('ENOENT', 'link', 'none', 'e'),
    fails('ENOENT', 'link', 'd', 'none/e'),
    does('create', 'f'),
    fails('ENOTDIR', 'link', 'f', 'f/e'),
    fails('ENOTDIR', 'link', 'f/x', 'e'),
    fails('ENAMETOOLONG', 'link', 'f', LONG_NAME),
    does('link', 'f', NAME),
    does('symlink', 'f', 's'),
    does('link', 's', 't'),
    gives('f', 'readlink', 't'),
    does('link', 's', 'u', true),
    gives({ nlink: 3 }, 'lstat', 'u'),
  ]);

  await t.test('removing', async (t) => {
    await on.test(t, 'directories and files are removed by different calls', [
      does('mkdir', 'd'),
      does('create', 'd/f'),
      does('watch', '.', 'd', 'd/f'),
      fails('EISDIR', 'unlink', 'd'),
      fails('ENOTEMPTY', 'rmdir', 'd'),
      fails('ENOTDIR', 'rmdir', 'd/f'),
      fails('ENOENT', 'unlink', 'd/none'),
      fails('ENOENT', 'rmdir', 'd/none'),
      fails('ENOTDIR', 'unlink', 'd/f/x'),
      fails('EINVAL', 'rmdir', 'd/.'),
      fails('ENOTEMPTY', 'rmdir', 'd/..'),
      fails('ENAMETOOLONG', 'unlink', LONG_NAME),
      fails('ENAMETOOLONG', 'rmdir', LONG_NAME),
      gives('', 'changed', '.'),
      gives('', 'changed', 'd'),
      gives('', 'changed', 'd/f'),
      does('unlink', 'd/f'),
      does('rmdir', 'd'),
      gives([], 'list'),
    ]);
    await on.test(t, 'links of directories are counted', [
      does('mkdir', 'd'),
      gives({ nlink: 2 }, 'stat', 'd'),
      does('mkdir', 'd/e'),
      does('mkdir', 'd/f'),
      gives({ nlink: 4 }, 'stat', 'd'),
      does('create', 'd/g'),
      gives({ nlink: 4 }, 'stat', 'd'),
      does('rename', 'd/e', 'e'),
      gives({ nlink: 3 }, 'stat', 'd'),
      does('rmdir', 'd/f'),
      gives({ nlink: 2 }, 'stat', 'd'),
      does('rename', 'd', 'e/d'),
      gives({ nlink: 3 }, 'stat', 'e'),
    ]);
    await on.test(t, 'a removed directory that somebody is in is empty and takes nothing', [
      does('mkdir', 'd'),
      does('open', 'd', 'd', 'O_RDONLY|O_DIRECTORY'),
      does('chdir', 'd'),
      does('rmdir', '../d'),
      gives([], 'list'),
      fails('ENOENT', 'create', 'f'),
      fails('ENOENT', 'mkdir', 'e'),
      fails('ENOENT', 'symlink', 'x', 's'),
      fails('ENOENT', 'mknod', 'p', S_IFIFO | 0o644),
      gives({ nlink: 0 }, 'stat', 'd'),
      does('chmod', 'd', 0o700),
    ]);
  });

  await t.test('renaming', async (t) => {
    for (const kind of KINDS) {
      await on.test(t, `a ${kind} keeps its inode and moves`, [
        make(kind, 'a'),
        does('mkdir', 'd'),
        does('watch', 'a', '.', 'd'),
        does('rename', 'a', 'd/b'),
        fails('ENOENT', 'lstat', 'a'),
        gives('mtime ctime', 'changed', '.'),
        gives('mtime ctime', 'changed', 'd'),
        fails('ENOENT', 'rename', 'a', 'b'),
        fails('ENOENT', 'rename', 'd/b', 'none/b'),
        fails('EEXIST', 'rename', 'd/b', 'd', NOREPLACE),
        does('rename', 'd/b', 'c', NOREPLACE),
        remove(kind, 'c'),
      ]);
    }
    for (const over of KINDS) {
      const isDirectory = over === 'directory';
      await on.test(t, `over a ${over}`, [
        make(over, 'a'),
        does('create', 'f', 'content'),
        does('mkdir', 'd'),
        ...(isDirectory
          ? [fails('EISDIR', 'rename', 'f', 'a'), does('rename', 'd', 'a')]
          : [fails('ENOTDIR', 'rename', 'd', 'a'), does('rename', 'f', 'a')]),
        gives(isDirectory ? ['a', 'f'] : ['a', 'd'], 'list'),
        ...(isDirectory ? [] : [gives('content', 'cat', 'a')]),
      ]);
      await on.test(t, `exchanging with a ${over}`, [
        make(over, 'a'),
        does('mkdir', 'd'),
        does('create', 'd/f', 'content'),
        does('watch', 'a', 'd/f'),
        does('rename', 'a', 'd/f', EXCHANGE),
        gives('content', 'cat', 'a'),
        gives({ nlink: isDirectory ? 3 : 2 }, 'stat', 'd'),
        fails('EINVAL', 'rename', 'd', 'd/f', EXCHANGE),
        fails('EINVAL', 'rename', 'd/f', 'd', EXCHANGE),
        remove(over, 'd/f'),
      ]);
    }
    await on.test(t, 'what cannot be renamed', [
      does('mkdir', 'd'),
      does('mkdir', 'd/e'),
      does('mkdir', 'full'),
      does('create', 'full/f'),
      does('create', 'f'),
      does('watch', '.', 'd', 'd/e', 'full', 'f'),
      fails('EINVAL', 'rename', 'd', 'd/x'),
      fails('EINVAL', 'rename', 'd', 'd/e/x'),
      fails('ENOTEMPTY', 'rename', 'd', 'full'),
      fails('ENOTEMPTY', 'rename', 'd/e', 'd'),
      fails('ENOTDIR', 'rename', 'd', 'f'),
      fails('EISDIR', 'rename', 'f', 'd'),
      fails('ENOENT', 'rename', 'none', 'f'),
      fails('ENOENT', 'rename', 'none', 'd'),
      fails('ENOENT', 'rename', 'f', ''),
      fails('ENOTDIR', 'rename', 'f/x', 'g'),
      fails('ENOTDIR', 'rename', 'f', 'f/x'),
      fails('EBUSY', 'rename', 'd/.', 'g'),
      fails('EBUSY', 'rename', 'd/..', 'g'),
      fails('EBUSY', 'rename', 'd', 'full/..'),
      fails('ENAMETOOLONG', 'rename', 'f', LONG_NAME),
      fails('ENAMETOOLONG', 'rename', LONG_NAME, 'f'),
      fails('EEXIST', 'rename', 'f', 'd', NOREPLACE),
      fails('ENOENT', 'rename', 'f', 'none', EXCHANGE),
      fails('EINVAL', 'rename', 'f', 'd', NOREPLACE | EXCHANGE),
      fails('EINVAL', 'rename', 'f', 'g', 64),
      gives('', 'changed', '.'),
      gives('', 'changed', 'd'),
      gives('', 'changed', 'd/e'),
      gives('', 'changed', 'f'),
      gives('', 'changed', 'full'),
    ]);
    await on.test(t, 'onto another name of the same file nothing happens', [
      does('create', 'a', 'x'),
      does('link', 'a', 'b'),
      does('rename', 'a', 'b'),
      gives(['a', 'b'], 'list'),
      gives({ nlink: 2 }, 'stat', 'a'),
      does('rename', 'a', 'a'),
      fails('EEXIST', 'rename', 'a', 'a', NOREPLACE),
    ]);
    await on.test(t, 'the file that lost its name to another keeps its other names', [
      does('create', 'a', 'new'),
      does('create', 'b', 'old'),
      does('link', 'b', 'c'),
      does('open', 'b', 'b', 'O_RDONLY'),
      does('watch', 'c'),
      does('rename', 'a', 'b'),
      gives('ctime', 'changed', 'c'),
      gives({ nlink: 1 }, 'stat', 'c'),
      gives('old', 'pread', 'b', 9, 0),
      gives('new', 'cat', 'b'),
      does('unlink', 'c'),
      gives({ nlink: 0 }, 'stat', 'b'),
      gives('old', 'pread', 'b', 9, 0),
    ]);
    await on.test(t, 'parents follow', [
      does('mkdir', 'd'),
      does('mkdir', 'e'),
      does('create', 'd/in-d'),
      does('create', 'e/in-e'),
      does('mkdir', 'd/s'),
      does('chdir', 'd/s'),
      gives(['in-d', 's'], 'list', '..'),
      does('rename', '../s', '../../e/s'),
      gives(['in-e', 's'], 'list', '..'),
      does('rename', '../s', '../../d', EXCHANGE),
      gives(
        ['d', 'e', 's'].filter((name) => name !== 's'),
        'list',
        '..',
      ),
    ]);
  });

  await t.test('paths', async (t) => {
    const parts = Array.from({ length: 15 }, () => NAME).join('/');
    const down = Array.from({ length: 15 }, () => [does('mkdir', NAME), does('chdir', NAME)]);
    await on.test(t, 'names of any bytes, and paths of up to 4095', [
      does('create', 'sp ace\n\x01\xff', 'x'),
      gives(['sp ace\n\x01\xff'], 'list'),
      fails('ENOENT', 'open', 'f', '', 'O_RDONLY'),
      ...down.flat(),
      does('chdir', Array.from({ length: 15 }, () => '..').join('/')),
      does('create', `${parts}/${'x'.repeat(4095 - parts.length - 1)}`, 'deep'),
      gives('deep', 'cat', `${parts}/${'x'.repeat(4095 - parts.length - 1)}`),
      fails('ENAMETOOLONG', 'create', `${parts}/${'x'.repeat(4096 - parts.length - 1)}`),
    ]);
    await on.test(t, 'symbolic links', [
      does('symlink', 'y'.repeat(4095), 'long'),
      gives({ size: 4095, mode: 0o120777 }, 'lstat', 'long'),
      gives('y'.repeat(4095), 'readlink', 'long'),
      fails('ENAMETOOLONG', 'symlink', 'y'.repeat(4096), 'longer'),
      fails('ENOENT', 'symlink', '', 'empty'),
      fails('ENAMETOOLONG', 'symlink', 'x', LONG_NAME),
      does('symlink', 'b', 'a'),
      does('symlink', 'a', 'b'),
      fails('ELOOP', 'stat', 'a'),
      fails('ELOOP', 'open', 'f', 'a', 'O_RDONLY|O_NOFOLLOW'),
      fails('EINVAL', 'readlink', '.'),
      does('create', 'f', 'through'),
      does('symlink', 'f', 's'),
      gives('through', 'cat', 's'),
      fails('ENOTDIR', 'stat', 's/x'),
      fails('ENOTDIR', 'rmdir', 's'),
    ]);
  });
});
