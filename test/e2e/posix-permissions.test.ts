/** POSIX on a mount: who may do what, and what modes and owners become by it. */
import { test } from 'tap';
import { cannotRun, does, fails, gives, Scenarios, type Step } from './posix-target.js';

const skip = cannotRun();
const [ALICE, BOB] = [2001, 2002];
const [STAFF, GUESTS] = [3001, 3002];
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const EXCHANGE = 2;

/** From here on, somebody makes the calls. */
function as(uid: number, gid = uid, groups: readonly number[] = []): Step {
  return does('become', uid, gid, groups);
}

function modeOf(path: string, mode: number): Step {
  return gives({ mode: 0o100000 | mode }, 'stat', path);
}

test('permissions', { skip, timeout: 240_000 }, async (t) => {
  const on = await Scenarios.start(t);

  await t.test('reading and writing by owner, group and others', async (t) => {
    const rows: [who: string, step: Step, shift: number][] = [
      ['the owner', as(ALICE), 6],
      ['the group', as(BOB, STAFF), 3],
      ['a supplementary group', as(BOB, BOB, [GUESTS, STAFF]), 3],
      ['others', as(BOB, GUESTS), 0],
    ];
    for (const [who, become, shift] of rows) {
      const steps: Step[] = [];
      for (let bits = 0; bits <= 7; bits++) {
        const path = `f${bits}`;
        const allowed = (bit: number, ...call: [string, ...unknown[]]): Step =>
          (bits & bit) !== 0 ? does(...call) : fails('EACCES', ...call);
        steps.push(
          as(0),
          does('create', path, 'x'),
          does('chown', path, ALICE, STAFF),
          does('chmod', path, bits << shift),
          become,
          allowed(4, 'cat', path),
          allowed(2, 'open', 'w', path, 'O_WRONLY'),
          allowed(2, 'truncate', path, 0),
          gives((bits & 1) !== 0, 'access', path, 'X_OK'),
          gives((bits & 6) === 6, 'access', path, 'R_OK|W_OK'),
        );
      }
      await on.test(t, who, steps);
    }
  });

  await on.test(t, 'directories: search, list, write', [
    does('mkdir', 'd', 0o755),
    does('create', 'd/f', 'x'),
    does('chmod', 'd/f', 0o666),
    does('chmod', 'd', 0o711),
    as(ALICE),
    gives('x', 'cat', 'd/f'),
    fails('EACCES', 'list', 'd'),
    fails('EACCES', 'create', 'd/g'),
    fails('EACCES', 'unlink', 'd/f'),
    fails('EACCES', 'rmdir', 'd/f'),
    fails('EACCES', 'mkdir', 'd/e'),
    fails('EACCES', 'mknod', 'd/p', S_IFIFO | 0o644),
    fails('EACCES', 'symlink', 'x', 'd/s'),
    fails('EACCES', 'link', 'd/f', 'd/g'),
    fails('EACCES', 'rename', 'd/f', 'd/g'),
    fails('EACCES', 'rename', 'd/f', 'g'),
    as(0),
    does('chmod', 'd', 0o644),
    as(ALICE),
    gives(['f'], 'list', 'd'),
    fails('EACCES', 'stat', 'd/f'),
    fails('EACCES', 'cat', 'd/f'),
    fails('EACCES', 'stat', 'd/none'),
    as(0),
    does('chmod', 'd', 0o777),
    as(ALICE),
    does('create', 'd/mine'),
    gives({ uid: ALICE, gid: ALICE }, 'stat', 'd/mine'),
    does('unlink', 'd/f'),
  ]);

  await on.test(t, 'root needs none of it, but an executable bit to execute', [
    does('create', 'f', 'x', 0),
    gives('x', 'cat', 'f'),
    gives(true, 'access', 'f', 'R_OK|W_OK'),
    gives(false, 'access', 'f', 'X_OK'),
    does('mkdir', 'd', 0),
    does('create', 'd/f'),
  ]);

  await t.test('the sticky bit', async (t) => {
    const made: Step[] = [
      does('mkdir', 'd'),
      does('chmod', 'd', 0o1777),
      as(ALICE),
      does('create', 'd/a'),
      does('mkdir', 'd/ad'),
      as(BOB),
      does('create', 'd/b'),
      does('mkdir', 'd/bd'),
    ];
    await on.test(t, 'others may not remove or move', [
      ...made,
      fails('EPERM', 'unlink', 'd/a'),
      fails('EPERM', 'rmdir', 'd/ad'),
      fails('EPERM', 'rename', 'd/a', 'd/x'),
      fails('EPERM', 'rename', 'd/a', 'x'),
      fails('EPERM', 'rename', 'd/b', 'd/a'),
      fails('EPERM', 'rename', 'd/bd', 'd/ad'),
      fails('EPERM', 'rename', 'd/b', 'd/a', EXCHANGE),
      does('rename', 'd/b', 'd/c'),
      does('unlink', 'd/c'),
      does('rmdir', 'd/bd'),
    ]);
    await on.test(t, 'the owner of the directory, and root, may', [
      ...made,
      as(0),
      does('chown', 'd', BOB, BOB),
      as(BOB),
      does('unlink', 'd/a'),
      does('rmdir', 'd/ad'),
      as(ALICE),
      fails('EPERM', 'unlink', 'd/b'),
      as(0),
      does('unlink', 'd/b'),
    ]);
  });

  await t.test('chmod', async (t) => {
    await on.test(t, 'is for the owner and root', [
      does('create', 'f'),
      does('chown', 'f', ALICE, STAFF),
      does('watch', 'f'),
      as(BOB, STAFF),
      fails('EPERM', 'chmod', 'f', 0o777),
      gives('', 'changed', 'f'),
      as(ALICE, STAFF),
      does('chmod', 'f', 0o7751),
      gives('ctime', 'changed', 'f'),
      modeOf('f', 0o7751),
      as(0),
      does('chmod', 'f', 0),
      modeOf('f', 0),
    ]);
    await on.test(t, 'the setgid bit goes when the caller is not in the group', [
      does('create', 'f'),
      does('chown', 'f', ALICE, STAFF),
      as(ALICE, GUESTS),
      does('chmod', 'f', 0o2755),
      modeOf('f', 0o755),
      as(ALICE, GUESTS, [STAFF]),
      does('chmod', 'f', 0o2755),
      modeOf('f', 0o2755),
      as(0),
      does('chmod', 'f', 0o6755),
      modeOf('f', 0o6755),
    ]);
    await on.test(t, 'of open files and through symbolic links', [
      does('create', 'f'),
      does('symlink', 'f', 's'),
      does('chmod', 's', 0o600),
      modeOf('f', 0o600),
      does('open', 'f', 'f', 'O_RDWR'),
      does('unlink', 'f'),
      does('chmod', 'f', 0o611),
      modeOf('f', 0o611),
      fails('ENOENT', 'chmod', 's', 0o700),
    ]);
  });

  await t.test('chown', async (t) => {
    await on.test(t, 'the owner may give the file to a group of theirs, and no more', [
      does('create', 'f'),
      does('chown', 'f', ALICE, GUESTS),
      does('watch', 'f'),
      as(ALICE, GUESTS, [STAFF]),
      fails('EPERM', 'chown', 'f', BOB, -1),
      fails('EPERM', 'chown', 'f', -1, 9999),
      fails('EPERM', 'chown', 'f', BOB, STAFF),
      gives('', 'changed', 'f'),
      does('chown', 'f', -1, STAFF),
      gives('ctime', 'changed', 'f'),
      does('chown', 'f', ALICE, GUESTS),
      gives({ uid: ALICE, gid: GUESTS }, 'stat', 'f'),
      as(BOB, GUESTS),
      fails('EPERM', 'chown', 'f', -1, GUESTS),
      fails('EPERM', 'chown', 'f', BOB, GUESTS),
    ]);
    await on.test(t, 'takes setuid and setgid from files, not from directories', [
      does('create', 'f'),
      does('chmod', 'f', 0o6777),
      does('chown', 'f', ALICE, STAFF),
      modeOf('f', 0o777),
      does('chmod', 'f', 0o6767),
      does('chown', 'f', BOB, GUESTS),
      modeOf('f', 0o2767),
      does('chown', 'f', ALICE, STAFF),
      does('chmod', 'f', 0o6777),
      as(ALICE, STAFF, [GUESTS]),
      does('chown', 'f', -1, GUESTS),
      modeOf('f', 0o777),
      as(0),
      does('mkdir', 'd'),
      does('chmod', 'd', 0o6777),
      does('chown', 'd', ALICE, STAFF),
      gives({ mode: 0o046777 }, 'stat', 'd'),
    ]);
    await on.test(t, 'lchown changes the link itself', [
      does('create', 'f'),
      does('symlink', 'f', 's'),
      does('lchown', 's', ALICE, STAFF),
      gives({ uid: ALICE, gid: STAFF, mode: 0o120777 }, 'lstat', 's'),
      gives({ uid: 0, gid: 0 }, 'stat', 's'),
      does('chown', 's', BOB, GUESTS),
      gives({ uid: BOB, gid: GUESTS }, 'stat', 'f'),
    ]);
  });

  await t.test('setuid and setgid go with writing by others', async (t) => {
    const rows: [what: string, ...steps: Step[]][] = [
      ['write', does('open', 'f', 'f', 'O_WRONLY'), does('write', 'f', 'x')],
      ['append', does('open', 'f', 'f', 'O_WRONLY|O_APPEND'), does('write', 'f', 'x')],
      [
        'direct write',
        does('open', 'f', 'f', 'O_RDWR|O_DIRECT'),
        does('direct_write', 'f', [7, 4096], 0),
      ],
      ['truncate', does('truncate', 'f', 1)],
      ['ftruncate', does('open', 'f', 'f', 'O_WRONLY'), does('ftruncate', 'f', 1)],
      ['O_TRUNC', does('open', 'f', 'f', 'O_WRONLY|O_TRUNC')],
      ['fallocate', does('open', 'f', 'f', 'O_WRONLY'), does('fallocate', 'f', 0, 0, 9000)],
      [
        'copy_file_range',
        does('open', 'f', 'f', 'O_WRONLY'),
        does('open', 'g', 'g', 'O_RDONLY'),
        does('copy', 'g', 0, 'f', 0, 5),
      ],
    ];
    for (const [what, ...steps] of rows) {
      const ready: Step[] = [
        does('create', 'f', 'content'),
        does('create', 'g', 'content'),
        does('chmod', 'f', 0o6777),
        modeOf('f', 0o6777),
      ];
      await on.test(t, `by ${what}`, [...ready, as(ALICE), ...steps, modeOf('f', 0o777)]);
      await on.test(t, `not by root's ${what}`, [...ready, ...steps, modeOf('f', 0o6777)]);
    }
    await on.test(t, 'reading and failing take nothing', [
      does('create', 'f', 'content'),
      does('chmod', 'f', 0o6775),
      as(ALICE),
      gives('content', 'cat', 'f'),
      fails('EACCES', 'truncate', 'f', 0),
      modeOf('f', 0o6775),
    ]);
  });

  await t.test('who owns what is made', async (t) => {
    await on.test(t, 'the maker and the umask', [
      as(ALICE, STAFF),
      does('umask', 0o027),
      does('create', 'f', '', 0o666),
      does('mkdir', 'd', 0o777),
      does('mknod', 'p', S_IFIFO | 0o666),
      does('symlink', 'x', 's'),
      gives({ uid: ALICE, gid: STAFF, mode: 0o100640 }, 'stat', 'f'),
      gives({ uid: ALICE, gid: STAFF, mode: 0o040750 }, 'stat', 'd'),
      gives({ uid: ALICE, gid: STAFF, mode: 0o010640 }, 'stat', 'p'),
      gives({ uid: ALICE, gid: STAFF, mode: 0o120777 }, 'lstat', 's'),
      fails('EPERM', 'mknod', 'c', S_IFCHR | 0o666, 0x103),
    ]);
    await on.test(t, 'in a setgid directory, the group of the directory', [
      does('mkdir', 'd'),
      does('chown', 'd', 0, GUESTS),
      does('chmod', 'd', 0o2777),
      as(ALICE, STAFF),
      does('umask', 0),
      does('create', 'd/f', '', 0o2770),
      does('mkdir', 'd/e', 0o700),
      does('mknod', 'd/p', S_IFIFO | 0o600),
      does('symlink', 'x', 'd/s'),
      gives({ uid: ALICE, gid: GUESTS, mode: 0o100770 }, 'stat', 'd/f'),
      gives({ uid: ALICE, gid: GUESTS, mode: 0o042700 }, 'stat', 'd/e'),
      gives({ gid: GUESTS }, 'stat', 'd/p'),
      gives({ gid: GUESTS }, 'lstat', 'd/s'),
      as(ALICE, STAFF, [GUESTS]),
      does('create', 'd/g', '', 0o2770),
      gives({ gid: GUESTS, mode: 0o102770 }, 'stat', 'd/g'),
      as(0),
      does('create', 'd/h', '', 0o2770),
      gives({ gid: GUESTS, mode: 0o102770 }, 'stat', 'd/h'),
    ]);
    await on.test(t, 'a file that its mode lets nobody open is open to its maker', [
      as(ALICE),
      does('open', 'f', 'f', 'O_CREAT|O_RDWR', 0),
      does('write', 'f', 'x'),
      gives('x', 'pread', 'f', 1, 0),
      modeOf('f', 0),
      fails('EACCES', 'open', 'g', 'f', 'O_RDONLY'),
    ]);
  });
});
