/**
 * fio writes blocks with checksums at random places and reads them back: at once, and after a
 * remount. HOLDFAST_FIO_SIZE (default 8m) makes it longer.
 */
import { spawnSync } from 'node:child_process';
import { test } from 'tap';
import { shell } from '../fuse/mounted.js';
import { cannotRun, startTarget } from './posix-target.js';

const { HOLDFAST_FIO_SIZE = '8m' } = process.env;
const absent = spawnSync('fio', ['--version'], { stdio: 'ignore' }).status !== 0;
const skip = cannotRun() || (absent && 'not installed: fio');

const JOBS: Record<string, string> = {
  'buffered-4k': '--rw=randrw --bs=4k --fsync=64',
  'buffered-unaligned': '--rw=randwrite --bsrange=512-70k --blockalign=512',
  'sequential-1m': '--rw=rw --bs=1m --fsync=4',
  'direct-4k': '--rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=16',
  'direct-64k': '--rw=randwrite --bs=64k --direct=1 --ioengine=libaio --iodepth=8',
  mmap: '--rw=randrw --bs=4k --ioengine=mmap --fsync=256',
  'mmap-large': '--rw=randwrite --bs=128k --ioengine=mmap',
};

test('fio finds what it wrote', { skip, timeout: 280_000 }, async (t) => {
  const target = await startTarget();
  t.teardown(() => target.end());
  const fio = async (name: string, options: string): Promise<void> => {
    const common = `--name=${name} --filename=${name} --size=${HOLDFAST_FIO_SIZE} --randseed=7`;
    const verify = '--verify=crc32c --verify_fatal=1 --verify_state_save=0';
    const script = `fio ${common} ${verify} ${JOBS[name]} ${options} --output-format=terse`;
    const { status, text } = await shell(script, { cwd: target.directory });
    t.equal(status, 0, `${name} ${options}`, status === 0 ? {} : { text });
  };
  for (const name of Object.keys(JOBS)) await fio(name, '');
  await target.remount();
  for (const name of Object.keys(JOBS)) await fio(name, '--verify_only');
});
