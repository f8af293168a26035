/**
 * Real mounts of a volume: what was written synchronously is there after its daemon died with all
 * that was not committed, whichever way the bytes took through the kernel.
 */
import { spawnSync } from 'node:child_process';
import { test } from 'tap';
import { cannotMount, Mounted } from './mounted.js';

const absent = (command: string): boolean =>
  spawnSync(command, ['--version'], { stdio: 'ignore' }).status !== 0;
const skip = cannotMount() || (absent('python3') && 'not installed: python3');

/** Overwrites a page of a file that is there and committed. */
function overwrite(name: string, flags: string, perWrite = '0'): string {
  return `python3 - <<'P'
import mmap, os
fd = os.open('${name}', os.O_CREAT | os.O_RDWR, 0o644)
os.write(fd, b'o' * 8192); os.fsync(fd); os.close(fd)
fd = os.open('${name}', os.O_RDWR | ${flags})
page = mmap.mmap(-1, 4096); page.write(b'N' * 4096)
print(os.pwritev(fd, [page], 4096, ${perWrite}))
P`;
}

const first = (name: string): string => `tail -c 4096 ${name} | head -c 1`;

test('what was written synchronously survives', { skip, timeout: 240_000 }, async (t) => {
  const mounted = await Mounted.start('--volume');
  t.teardown(() => mounted.end());
  const ways: [name: string, flags: string, perWrite?: string][] = [
    ['dsync', 'os.O_DSYNC'],
    ['sync', 'os.O_SYNC'],
    ['per-write', '0', 'os.RWF_DSYNC'],
    ['direct-dsync', 'os.O_DIRECT | os.O_DSYNC'],
    ['direct-sync', 'os.O_DIRECT | os.O_SYNC'],
    ['direct-per-write', 'os.O_DIRECT', 'os.RWF_DSYNC'],
    ['direct-per-write-sync', 'os.O_DIRECT', 'os.RWF_SYNC'],
  ];
  for (const [name, flags, perWrite] of ways) {
    t.equal((await mounted.run(overwrite(name, flags, perWrite))).text, '4096', name);
    await mounted.crash();
    t.equal((await mounted.run(first(name))).text, 'N', name);
  }

  await t.test('and nothing else does, so that this proves something', async (t) => {
    for (const [name, flags] of [
      ['plain', '0'],
      ['direct', 'os.O_DIRECT'],
    ] as const) {
      t.equal((await mounted.run(overwrite(name, flags))).text, '4096', name);
      await mounted.crash();
      t.equal((await mounted.run(first(name))).text, 'o', name);
    }
  });

  await t.test('an O_DIRECT flag that comes and goes changes nothing', async (t) => {
    const script = (from: string, to: string): string => `python3 - <<'P'
import fcntl, mmap, os
fd = os.open('flags', os.O_CREAT | os.O_RDWR, 0o644)
os.write(fd, b'o' * 8192); os.fsync(fd); os.close(fd)
fd = os.open('flags', os.O_RDWR | os.O_DSYNC | ${from})
fcntl.fcntl(fd, fcntl.F_SETFL, ${to})
page = mmap.mmap(-1, 4096); page.write(b'N' * 4096)
print(os.pwritev(fd, [page], 4096))
P`;
    for (const [from, to] of [
      ['os.O_DIRECT', '0'],
      ['0', 'os.O_DIRECT'],
    ] as const) {
      t.equal((await mounted.run(script(from, to))).text, '4096');
      await mounted.crash();
      t.equal((await mounted.run(first('flags'))).text, 'N', `${from}, then ${to}`);
    }
  });

  await t.test('asynchronous I/O', { skip: absent('fio') && 'not installed: fio' }, async (t) => {
    // Less than what a group takes, which is committed when it is full.
    const common = '--name=a --filename=a --size=800k --bs=4k --rw=randwrite --randseed=7';
    const direct = '--direct=1 --ioengine=libaio --iodepth=8';
    const verify = '--verify=crc32c --verify_fatal=1 --verify_state_save=0';
    const fio = (more: string): string => `fio ${common} ${direct} ${more} --output-format=terse`;
    for (const sync of ['sync', 'dsync']) {
      await mounted.run('head -c 800K /dev/zero > a; sync a');
      const written = await mounted.run(fio(`${verify} --do_verify=0 --sync=${sync}`));
      t.equal(written.status, 0, sync, { text: written.text });
      await mounted.crash();
      const found = await mounted.run(fio(`${verify} --verify_only`));
      t.equal(found.status, 0, `${sync} verify`, { text: found.text });
      await mounted.run('rm a');
    }
  });
});
