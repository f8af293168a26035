/**
 * Many files in one volume on real nodes: made, listed, mounted again, with the daemon's memory and
 * the time until the mount is ready; a huge sparse file and a large directory beside them.
 * HOLDFAST_SIZE=full: a million files, and the marks that they must meet.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed } from './mount-bed.js';
import { python } from './python.js';

const skip = cannotMount();
if (skip !== false) {
  t.comment(skip);
  process.exit(0);
}

const isFull = process.env.HOLDFAST_SIZE === 'full';
const FILES = Number(process.env.HOLDFAST_FILES ?? (isFull ? 1_000_000 : 10_000));
const LARGE = isFull ? 200_000 : 5_000;
const MAX_RSS_MIB = 400;
const MAX_READY_MS = isFull ? 10_000 : 30_000;
if (!isFull) t.comment(`with ${FILES} files; HOLDFAST_SIZE=full for a million`);
t.setTimeout(isFull ? 3_000_000 : 240_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());

/** Resident, and the most that ever was. */
function memory(pid: number): { readonly rss: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const value = (name: string): number => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status);
    return Math.round(Number(found?.[1]) / 1024);
  };
  return { rss: value('VmRSS'), peak: value('VmHWM') };
}

const SPARSE = `
import os
f = os.open('sparse', os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 100 << 30)
for i in range(1000):
    os.pwrite(f, b'x' * 4096, (i * 104857600) // 4096 * 4096)
os.fsync(f)
assert os.fstat(f).st_blocks == 8000, os.fstat(f).st_blocks
os.close(f)
f = os.open('sparse', os.O_RDONLY)
assert os.lseek(f, 4096, os.SEEK_DATA) == 104857600 // 4096 * 4096
assert os.pread(f, 4, (999 * 104857600) // 4096 * 4096) == b'xxxx'
assert os.pread(f, 4, (100 << 30) - 4) == bytes(4)
`;

const LIST = `
import os
found = 0
for where, directories, files in os.walk('.'):
    found += len(files)
print(found)
`;

t.test('many files', async (t) => {
  const made = await bed.holdfast('volume', 'create', 'many', '--size', '200GiB');
  t.equal(made.code, 0, made.stderr);
  const directory = bed.directory('many');
  const first = await bed.mount('many', directory);
  const timed = async (what: string, count: number, program: string): Promise<string> => {
    const started = performance.now();
    const text = await python(program, directory, isFull ? 1_200 : 120);
    const ms = performance.now() - started;
    const rate = Math.round((count / ms) * 1000);
    const now = (await bed.mounts())[0]?.live?.pid ?? first.live.pid;
    const { rss, peak } = memory(now);
    t.comment(`${what}: ${Math.round(ms)} ms, ${rate} a second; ${rss} MiB, at most ${peak}`);
    t.ok(peak < MAX_RSS_MIB, `${what}: ${peak} MiB`);
    return text;
  };
  await timed(
    'create',
    FILES,
    `
import os
for i in range(${FILES}):
    if i % 1000 == 0:
        d = 'd%d' % (i // 1000)
        os.mkdir(d)
    os.close(os.open('%s/file-number-%d' % (d, i), os.O_WRONLY | os.O_CREAT))
os.fsync(os.open('.', os.O_RDONLY))
`,
  );
  await timed(
    'large directory',
    LARGE,
    `
import os
os.mkdir('large')
for i in range(${LARGE}):
    os.close(os.open('large/file-number-%d' % i, os.O_WRONLY | os.O_CREAT))
assert len(os.listdir('large')) == ${LARGE}
`,
  );
  await timed('100 GiB sparse', 1_000, SPARSE);
  t.equal(await timed('list', FILES, LIST), String(FILES + LARGE + 1));
  t.equal((await bed.holdfast('umount', directory)).code, 0);

  const started = performance.now();
  const second = await bed.mount('many', directory);
  const ready = performance.now() - started;
  t.ok(ready < MAX_READY_MS, `ready after ${Math.round(ready)} ms`);
  t.comment(`mounted again in ${Math.round(ready)} ms: ${memory(second.live.pid).rss} MiB`);
  t.equal(await timed('list again', FILES, LIST), String(FILES + LARGE + 1));
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
