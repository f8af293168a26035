/** Real mounts, real programs: what users of a mounted volume see. */
import { type Test, test } from 'tap';
import { cannotMount, isMounted, Mounted, type Result } from './mounted.js';

const skip = cannotMount();

/** Runs a script in a directory of its own and compares all it says. */
async function says(
  t: Test,
  mounted: Mounted,
  script: string,
  expected: string | RegExp,
  uid = 0,
): Promise<Result> {
  const result = await mounted.run(script, uid);
  if (typeof expected === 'string') t.equal(result.text, expected, script);
  else t.match(result.text, expected, script);
  return result;
}

test('programs on a mount', { skip, timeout: 240_000 }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  await mounted.run('chmod 777 .');

  t.test('files, directories and links', async (t) => {
    await says(t, mounted, 'mkdir a && cd a && echo hello > f && cat f', 'hello');
    await says(t, mounted, 'cd a && echo more >> f && cat f && stat -c %s f', 'hello\nmore\n11');
    await says(t, mounted, 'cd a && ln f g && stat -c "%h %i" f g | uniq -c', /^2 2 \d+$/);
    await says(t, mounted, 'cd a && ln -s f s && readlink s && cat s', 'f\nhello\nmore');
    await says(t, mounted, 'cd a && mv f h && ls', 'g\nh\ns');
    await says(t, mounted, 'cd a && : > g && stat -c %s h', '0');
    await says(t, mounted, 'cd a && rm g h s && ls -a', '.\n..');
    await says(t, mounted, 'mkdir a/b && rmdir a', /Directory not empty/);
    await says(t, mounted, 'rm -r a && ls a', /No such file/);
    await says(t, mounted, 'ls -id . && ls -aid .. | wc -l', '1 .\n1');
  });

  t.test('special files', async (t) => {
    await says(t, mounted, 'mknod c c 1 3 && stat -c "%F %t:%T" c', 'character special file 1:3');
    await says(t, mounted, 'mknod b b 259 300 && stat -c "%t:%T" b', '103:12c');
    await says(t, mounted, 'mkfifo -m 600 p && stat -c "%F %a" p', 'fifo 600');
    await says(t, mounted, '(echo through > p & cat p)', 'through');
  });

  t.test('rename: noreplace, exchange, over, into itself', async (t) => {
    const rename = (from: string, to: string, flags: number): string => {
      const number = process.arch === 'arm64' ? 276 : 316;
      return (
        `perl -e '$! = 0; my ($f, $t) = ("${from}", "${to}"); ` +
        `syscall(${number}, -100, $f, -100, $t, ${flags}); print "$!\\n"'`
      );
    };
    await says(t, mounted, 'mkdir r && cd r && echo 1 > one && echo 2 > two && mkdir d', '');
    await says(t, mounted, `cd r && ${rename('one', 'two', 1)}`, 'File exists');
    await says(t, mounted, `cd r && ${rename('one', 'two', 2)}; cat one two`, '2\n1');
    await says(t, mounted, `cd r && ${rename('one', 'd', 2)}; cat d; ls -F`, '2\nd\none/\ntwo');
    await says(t, mounted, `cd r && ${rename('one', 'none', 2)}`, 'No such file or directory');
    await says(t, mounted, `cd r && ${rename('d', 'two', 4)}`, 'Invalid argument');
    await says(t, mounted, 'cd r && mv -f two d && cat d && ls', '1\nd\none');
    await says(t, mounted, `cd r && ${rename('one', 'one/x', 0)}`, 'Invalid argument');
  });

  t.test('names up to 255 bytes, of any bytes', async (t) => {
    const name = 'n'.repeat(255);
    await says(t, mounted, `: > ${name} && ls ${name} && rm ${name}`, name);
    await says(t, mounted, `: > ${name}n`, /File name too long/);
    await says(t, mounted, `stat ${name}n`, /File name too long/);
    await says(t, mounted, 'f=$(printf \'x\\377\\001y\'); : > "$f" && rm "$f" && echo ok', 'ok');
  });

  t.test('files belong to who makes them', async (t) => {
    await says(t, mounted, 'umask 027; mkdir u && : > u/f && stat -c "%u:%g %a" u u/f', /./, 1000);
    await says(t, mounted, 'stat -c "%u:%g %a" u u/f', '1000:1000 750\n1000:1000 640');
    await says(t, mounted, 'cat u/f', /Permission denied/, 2000);
    await says(t, mounted, 'ln -s x u/s && mkfifo u/p && stat -c %u u/s u/p', '1000\n1000', 1000);
    await says(t, mounted, 'mkdir -m 2777 sg && chgrp 77 sg && chmod g+s sg', '');
    await says(t, mounted, 'umask 0; mkdir sg/d && : > sg/f', '', 1000);
    await says(t, mounted, 'stat -c "%g %a" sg/d sg/f', '77 2777\n77 666');
  });

  t.test('setuid and setgid go when others write, truncate or own the file', async (t) => {
    const make = (name: string): string => `echo x > ${name}; chmod 6777 ${name}`;
    await says(t, mounted, `mkdir -m 777 k; cd k; ${make('w')}; ${make('t')}; ${make('o')}`, '');
    await says(t, mounted, 'cd k; echo y >> w; truncate -s 0 t', '', 1000);
    await says(t, mounted, 'cd k; stat -c %a w t o', '777\n777\n6777');
    await says(t, mounted, 'cd k; chown 5:5 o; stat -c %a o', '777');
    await says(t, mounted, `cd k; ${make('r')}; echo y >> r; stat -c %a r`, '6777');
    await says(t, mounted, `cd k; ${make('f')}; ${make('g')}`, '');
    await says(t, mounted, "cd k; xfs_io -c 'falloc 0 9000' f", '', 1000);
    await says(t, mounted, "cd k; xfs_io -c 'copy_range w' g", '', 1000);
    await says(t, mounted, 'cd k; stat -c %a f g', '777\n777');
  });

  t.test('setuid is gone for who runs a file next, also behind a direct write', async (t) => {
    // Over its first page its first page, so that it still runs.
    const write = (name: string): string =>
      `dd if=${name} of=${name} bs=4096 count=1 conv=notrunc oflag=direct status=none`;
    await says(t, mounted, 'mkdir run', '');
    for (const mode of ['4777', '6777']) {
      const make = `cp "$(command -v id)" x; chmod ${mode} x; stat -c %a x`;
      await says(t, mounted, `cd run; ${make}`, mode);
      await says(t, mounted, 'run/x -u', '0', 1000);
      await says(t, mounted, `cd run; ${write('x')}; ./x -u; ./x -g`, '1000\n1000', 1000);
      await says(t, mounted, 'stat -c %a run/x', '777');
    }
    // The same by another name, which the kernel learns from LINK and READDIRPLUS.
    await says(t, mounted, 'cd run; chmod 4777 x; ln x y; ls -l > /dev/null', '');
    await says(t, mounted, `cd run; ${write('y')}; ./y -u`, '1000', 1000);
  });

  t.test('times have nanoseconds and may be before 1970', async (t) => {
    const stamp = '2033-05-18 03:33:20.123456789';
    await says(t, mounted, `touch -d '${stamp} UTC' n && stat -c %y n`, `${stamp} +0000`);
    await says(t, mounted, `touch -a -d '1969-12-31 23:59:58.5 UTC' n && stat -c %.9X n`, /^-1\.5/);
    await says(t, mounted, 'stat -c %y n', `${stamp} +0000`);
    await says(t, mounted, 'a=$(stat -c %.9Z n); chmod 600 n; test $a != $(stat -c %.9Z n)', '');
    const future = '2500-01-01 00:00:00.000000001';
    await says(t, mounted, `touch -d '${future} UTC' n && stat -c %y n`, `${future} +0000`);
  });

  t.test('locks are the kernel’s own', async (t) => {
    await says(t, mounted, ': > l; flock -n l sh -c "flock -n l true || echo held"', 'held');
  });

  t.test('unlinked files live while they are open, and are freed then', async (t) => {
    const before = (await mounted.stats()).inodes;
    const script =
      'exec 3<>x; rm x; echo alive >&3; cat /proc/self/fd/3; stat -Lc %h /proc/self/fd/3';
    await says(t, mounted, `: > x; ${script}`, 'alive\n0');
    for (let tries = 0; (await mounted.stats()).inodes !== before && tries < 50; tries++) {
      await mounted.run('sleep 0.05');
    }
    t.equal((await mounted.stats()).inodes, before);
  });

  t.test('what the kernel knows it does not ask again', async (t) => {
    await mounted.run('mkdir cache; : > cache/f; ls -l cache cache/f; stat cache/none; ls cache');
    const before = (await mounted.stats()).seen;
    await mounted.run('ls -l cache cache/f; stat cache/none cache/f; ls cache');
    t.same((await mounted.stats()).seen, before, 'names, attributes, absence and listings');
    await says(t, mounted, ': > cache/none; ls cache; rm cache/f; ls cache', 'f\nnone\nnone');
  });

  t.test('large reads and writes come in large requests', async (t) => {
    await says(t, mounted, 'dd if=/dev/urandom of=big bs=1M count=16 status=none', '');
    t.ok((await mounted.stats()).seen.write >= 65_536);
    await says(t, mounted, 'dd if=big bs=1M iflag=direct status=none | cmp - big && rm big', '');
    const { seen } = await mounted.stats();
    t.equal(seen.read, 1_048_576);
    t.equal(seen.write, 1_048_576);
  });

  t.test('fsync, fdatasync, directory fsync and msync reach the filesystem', async (t) => {
    const commands = ['sync f', 'sync -d f', 'sync .'];
    commands.push("xfs_io -c 'mmap -rw 0 4096' -c 'mwrite 0 9' -c 'msync -s' f");
    await mounted.run('truncate -s 4096 f');
    for (const command of commands) {
      const { commits } = await mounted.stats();
      await says(t, mounted, command, '');
      t.ok((await mounted.stats()).commits > commits, command);
    }
  });

  t.test('unmounting ends the daemon, after a commit', async (t) => {
    const { commits } = await mounted.stats();
    await mounted.end();
    t.notOk(isMounted(mounted.directory));
    const words = await mounted.lastWords();
    t.match(words, { error: null, underWay: 0, complaints: [] });
    t.ok(words.commits > commits);
    t.equal(mounted.daemon.child.exitCode, 0);
  });
});

test('a full filesystem says so, and has room again after a delete', { skip }, async (t) => {
  const mounted = await Mounted.start('--capacity=8388608');
  t.teardown(() => mounted.end());
  await says(t, mounted, 'df -k --output=size,avail . | tail -1', /8192\s+8192/);
  await says(t, mounted, 'dd if=/dev/zero of=f bs=1M status=none', /No space left/);
  await says(
    t,
    mounted,
    'df -k --output=avail . | tail -1; : > f; df -k --output=avail .',
    /8192$/,
  );
  await says(t, mounted, 'dd if=/dev/zero of=f bs=1M count=7 status=none; stat -c %s f', '7340032');
});

test('a read-only mount refuses changes with EROFS, in the kernel and here', {
  skip,
}, async (t) => {
  for (const flags of [['--read-only'], ['--read-only', '--kernel-read-write']]) {
    const mounted = await Mounted.start(...flags);
    t.teardown(() => mounted.end());
    for (const change of [': > f', 'mkdir d', 'chmod 700 .', 'ln -s a b', 'touch .']) {
      await says(t, mounted, change, /Read-only file system/);
    }
    await says(t, mounted, 'ls -a && stat -c %a .', '.\n..\n755');
    await mounted.end();
  }
});

test('a directory of 200,000 entries', { skip, timeout: 240_000 }, async (t) => {
  const mounted = await Mounted.start('--many');
  t.teardown(() => mounted.end());
  await says(t, mounted, 'ls -f many | wc -l', '200002');
  await says(t, mounted, 'ls -U many | sort -u | wc -l', '200000');
  await says(t, mounted, 'ls -lU many | wc -l', '200001');
  await says(t, mounted, 'stat -c %F many/entry-199999', 'regular empty file');
  // Every third goes while the listing is read: what stays is listed exactly once.
  const remove = `opendir(D, "many"); my ($n, $all) = (0, 0);
    while (my $e = readdir(D)) { next if $e =~ /^\\./; $all++; unlink("many/$e") if $n++ % 3 == 0 }
    print "$all\\n"`;
  await says(t, mounted, `perl -e '${remove}'`, '200000');
  await says(t, mounted, 'ls -U many | wc -l', '133333');
  // Cookies stay good: telldir, remove, seekdir.
  const seek = `opendir(D, "many"); for (1..1000) { readdir(D) } my $at = telldir(D);
    my $next = readdir(D); rewinddir(D); for (1..500) { my $e = readdir(D);
    unlink("many/$e") if $e !~ /^\\./ } seekdir(D, $at);
    print readdir(D) eq $next ? "same" : "other"`;
  await says(t, mounted, `perl -e '${seek}'`, 'same');
  await says(t, mounted, 'find many -type f -delete; ls many | wc -l', '0');
  t.same((await mounted.stats()).complaints, []);
});
