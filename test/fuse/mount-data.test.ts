/** Real mounts: extended attributes, ACLs, holes, mappings, direct and shared I/O. */
import { spawnSync } from 'node:child_process';
import { type Test, test } from 'tap';
import { cannotMount, Mounted } from './mounted.js';

function missing(...commands: string[]): string | false {
  const absent = commands.filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' }).status !== 0,
  );
  return absent.length > 0 && `not installed: ${absent.join(' ')}`;
}

const skip = cannotMount() || missing('xfs_io', 'perl', 'setpriv');

async function says(t: Test, mounted: Mounted, script: string, expected: string | RegExp, uid = 0) {
  const { text } = await mounted.run(script, uid);
  if (typeof expected === 'string') t.equal(text, expected, script);
  else t.match(text, expected, script);
}

test('data on a mount', { skip, timeout: 240_000 }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  await mounted.run('chmod 777 .');

  t.test('extended attributes', { skip: missing('setfattr', 'setcap') }, async (t) => {
    await says(
      t,
      mounted,
      ': > x && setfattr -n user.a -v 1 x && setfattr -n trusted.b -v 2 x',
      '',
    );
    await says(t, mounted, 'getfattr -dm - x', '# file: x\ntrusted.b="2"\nuser.a="1"');
    await says(t, mounted, 'setfattr -x user.a x; getfattr -n user.a x', /No such attribute/);
    await says(t, mounted, 'getfattr -dm - --only-values x', '2');
    const big = 'head -c 45000 /dev/zero | base64 -w0 | cut -c1-60000';
    await says(t, mounted, `setfattr -n user.big -v "$(${big})" x`, '');
    await says(t, mounted, 'getfattr -n user.big --only-values x | wc -c', '60000');
    await says(t, mounted, 'setcap cap_net_raw+ep x && getcap x', 'x cap_net_raw=ep');
    await says(t, mounted, 'chmod 666 x', '');
    await says(t, mounted, 'echo > x; getcap x', '', 1000);
    await says(t, mounted, 'setcap cap_net_raw+ep x && chown 7 x && getcap x', '');
    // Writing takes them, whoever writes and on which way; what is only mapped keeps them.
    const page = 'head -c 4096 /dev/zero | dd of=x bs=4096 conv=notrunc status=none';
    for (const flag of ['', ' oflag=direct']) {
      await says(t, mounted, 'setcap cap_net_raw+ep x && getcap x', 'x cap_net_raw=ep');
      await says(t, mounted, `setfattr -n user.b -v 1 x; ${page}${flag}; getcap x`, '');
      await says(t, mounted, 'getfattr --only-values -n user.b x', '1');
    }
    const late = 'sleep 0.3; setcap cap_net_raw+ep x; echo msync -s';
    const mapped = `{ echo mmap -rw 0 4096; echo mwrite 0 9; ${late}; } | xfs_io x > /dev/null`;
    await says(t, mounted, `${mapped}; tr -d '\\0' < x | wc -c; getcap x`, '9\nx cap_net_raw=ep');
  });

  t.test('access control lists', { skip: missing('setfacl') }, async (t) => {
    const acl = (name: string): string => `getfacl -cpn ${name} | tr '\\n' ' '`;
    await says(t, mounted, 'mkdir l && cd l && echo in > f && chmod 600 f', '');
    await says(t, mounted, 'cat l/f', /Permission denied/, 1000);
    await says(t, mounted, 'cd l && setfacl -m u:1000:r f && stat -c %a f', '640');
    await says(t, mounted, 'cat l/f', 'in', 1000);
    await says(t, mounted, 'cat l/f', /Permission denied/, 2000);
    await says(
      t,
      mounted,
      `${acl('l/f')}`,
      'user::rw- user:1000:r-- group::--- mask::r-- other::---',
    );
    await says(t, mounted, 'chmod 600 l/f', '');
    await says(t, mounted, 'cat l/f', /Permission denied/, 1000);
    await says(
      t,
      mounted,
      `${acl('l/f')}`,
      /^user::rw- user:1000:r--\s+#effective:--- group::--- mask::--- other::---$/,
    );
    await says(t, mounted, `setfacl -b l/f && ${acl('l/f')}`, 'user::rw- group::--- other::---');
    await says(t, mounted, 'setfacl -b l/f && getfattr -dm - l/f', '');
    await says(t, mounted, 'setfacl -d -m u:1000:rwx,g::rx,o::- l', '');
    await says(t, mounted, 'umask 0777; mkdir l/d && : > l/g; stat -c %a l/d l/g', '770\n660');
    const inherited = 'user::rw- user:1000:rwx #effective:rw- group::r-x #effective:r-- mask::rw-';
    const shown = `${acl('l/g')} | tr -s '\\t ' ' '`;
    await says(t, mounted, shown, `${inherited} other::---`);
    await says(t, mounted, 'getfacl -dcpn l/d | head -2', 'user::rwx\nuser:1000:rwx');
    await says(t, mounted, ': > l/d/made && stat -c %u:%a l/d/made', '1000:660', 1000);
    // An ACL set by an owner who is not in the file's group takes its setgid bit.
    await says(t, mounted, ': > sg; chown 1000:77 sg; chmod 2755 sg', '');
    await says(t, mounted, 'setfacl -m u:5:r sg; stat -c %a sg', '755', 1000);
    await says(t, mounted, 'umask 022; : > plain && stat -c %a plain', '644');
  });

  t.test('O_TMPFILE', async (t) => {
    await says(
      t,
      mounted,
      "mkdir tmp; xfs_io -T -c 'pwrite -q 0 5' -c 'flink tmp/f' tmp; ls tmp",
      'f',
    );
    await says(t, mounted, 'stat -c "%h %s %a" tmp/f', '1 5 600');
    const { inodes } = await mounted.stats();
    await says(t, mounted, "xfs_io -T -c 'pwrite -q 0 5' tmp; ls tmp", 'f');
    for (let tries = 0; (await mounted.stats()).inodes > inodes && tries < 50; tries++) {
      await mounted.run('sleep 0.05');
    }
    t.equal((await mounted.stats()).inodes, inodes, 'it is gone with its last close');
  });

  t.test('direct I/O, beside the page cache', async (t) => {
    await says(t, mounted, 'head -c 20000 /dev/zero > d; cat d > /dev/null', '');
    await says(t, mounted, "xfs_io -d -c 'pwrite -q -S 0x61 4096 4096' d", '');
    await says(
      t,
      mounted,
      'tr -d "\\0" < d | sort | uniq -c | cut -c1-10; tr -d "\\0" < d | wc -c',
      /4096$/,
    );
    await says(t, mounted, 'printf zz | dd of=d conv=notrunc bs=1 seek=4096 status=none', '');
    await says(t, mounted, "xfs_io -d -c 'pread -v 4096 3' d | head -1", /7a 7a 61/);
    await says(t, mounted, "xfs_io -d -c 'pwrite -q 19990 100' d && stat -c %s d", '20090');
    await says(t, mounted, "xfs_io -d -a -c 'pwrite -q 0 10' d && stat -c %s d", '20100');
  });

  t.test('shared mappings', async (t) => {
    const map = "-c 'mmap -rw 0 8192' -c 'mwrite -S 0x6d 4000 200'";
    await says(t, mounted, 'head -c 8192 /dev/zero > m', '');
    await says(t, mounted, `xfs_io ${map} -c 'msync -s' m; tr -d '\\0' < m | wc -c`, '200');
    await says(t, mounted, `xfs_io -c 'mmap -rw 0 8192' -c 'mwrite -S 0 0 8192' m`, '');
    await says(t, mounted, `xfs_io -d -c 'pread -v 4000 2' m | head -1`, /00 00/);
    // Databases and test programs map files that they opened with O_DIRECT.
    await says(t, mounted, `xfs_io -d ${map} -c 'msync -s' m; tr -d '\\0' < m | wc -c`, '200');
    await says(t, mounted, 'cp /bin/true prog && ./prog && echo ran', 'ran');
  });

  t.test('append writes from several processes do not overwrite each other', async (t) => {
    const writer = 'for j in $(seq 200); do echo $1$j >> ap; done';
    const all = `for i in a b c; do sh -c '${writer}' x $i & done; wait`;
    const script = `: > ap; ${all}; sort -u ap | wc -l`;
    await says(t, mounted, script, '600');
  });

  t.test('fallocate, holes and seeking', async (t) => {
    const seek = (whence: string): string =>
      `xfs_io -r -c 'seek ${whence}' h | tail -n +2 | tr '\\n\\t' '  '`;
    await says(t, mounted, "xfs_io -f -c 'falloc 0 10000' h; stat -c '%s %b' h", '10000 24');
    await says(t, mounted, "xfs_io -c 'falloc -k 0 100000' h; stat -c '%s %b' h", '10000 200');
    await says(t, mounted, "xfs_io -c 'pwrite -q -S 1 0 20000' -c 'fpunch 4096 8192' h", '');
    await says(t, mounted, seek('-a -r 0'), 'DATA 0 HOLE 4096 DATA 12288 HOLE 20000');
    await says(t, mounted, "xfs_io -c 'fzero 0 100' h; tr -d '\\0' < h | wc -c", '11708');
    await says(t, mounted, "xfs_io -c 'fzero -k 15000 9000' h; stat -c %s h", '20000');
    await says(t, mounted, "xfs_io -c 'fcollapse 0 4096' h", /not supported/i);
    await says(
      t,
      mounted,
      'truncate -s 1T big && stat -c "%s %b" big && rm big',
      '1099511627776 0',
    );
    await says(t, mounted, 'truncate -s 5E e', /File too large/);
    await says(t, mounted, "xfs_io -f -c 'pwrite 4611686018427387904 1' e", /File too large/);
  });

  t.test('copy_file_range within the volume', async (t) => {
    await says(t, mounted, 'head -c 300000 /dev/urandom > s; : > c', '');
    await says(t, mounted, "xfs_io -c 'copy_range s' c && cmp s c && echo same", 'same');
    await says(
      t,
      mounted,
      "xfs_io -c 'copy_range -s 100 -d 290000 -l 50000 s' c; stat -c %s c",
      '340000',
    );
    await says(
      t,
      mounted,
      'head -c 50100 s | tail -c 50000 > p1; tail -c 50000 c | cmp - p1 && echo same',
      'same',
    );
    await says(
      t,
      mounted,
      'cp --reflink=auto --sparse=always s s2 && cmp s s2 && echo same',
      'same',
    );
  });

  t.test('renamed and removed directories that are in use', async (t) => {
    await says(t, mounted, 'mkdir -p w/d && cd w/d && rmdir ../d && mkdir f', /No such file/);
    await says(t, mounted, 'mkdir -p w/e && cd w/e && mv ../e ../g && : > f && ls ../g', 'f');
    await says(t, mounted, 'mkdir -p w/i && mv w w/i', /subdirectory of itself|Invalid/);
  });

  t.test('handles of files (name_to_handle_at) lead back to them', async (t) => {
    const open = (name: string): string => {
      const [to, by] = process.arch === 'arm64' ? [264, 265] : [303, 304];
      return `perl -e 'my $h = pack("IiZ128", 128, 0, ""); my $m = pack("i", 0); my $n = "${name}";
        syscall(${to}, -100, $n, $h, $m, 0) == 0 or die "to: $!";
        open(D, ".") or die; my $fd = syscall(${by}, fileno(D), $h, 0); die "by: $!" if $fd < 0;
        open(F, "<&=", $fd) or die "open: $!"; 
        print((stat(F))[1] == (stat($n))[1] ? "same" : "other")'`;
    };
    await says(t, mounted, `echo x > nh; ${open('nh')}`, 'same');
  });

  t.test('the kernel and the filesystem agree on who is known', async (t) => {
    t.same((await mounted.stats()).complaints, []);
  });
});
