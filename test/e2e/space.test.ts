/**
 * Space on real nodes: a volume that is filled and emptied again and again, and a file that is
 * written at random for many times its size, take no more of the nodes' disks than what lives
 * warrants, once the cleaner has settled. HOLDFAST_SPACE=full does it with 2 GiB and ten times.
 */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';
import { python } from './python.js';

const skip = cannotMount();
if (skip !== false) {
  t.comment(skip);
  process.exit(0);
}

const isFull = process.env.HOLDFAST_SPACE === 'full';
const ROUNDS = Number(process.env.HOLDFAST_ROUNDS ?? (isFull ? 10 : 2));
const VOLUME_MIB = isFull ? 2_048 : 256;
/** Times its size that the file is written at random. */
const PARTS = isFull ? 4 : 2;
const FILE_MIB = isFull ? 1_024 : 128;
/** What a segment under way and the last sealed one may hold besides. */
const SLACK_MIB = isFull ? 0 : 128;
const REPLICAS = 3;
const SETTLED_MS = isFull ? 120_000 : 60_000;
if (!isFull) t.comment('with little data; HOLDFAST_SPACE=full for 2 GiB, ten times');
t.setTimeout(isFull ? 3_600_000 : 300_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());

/** MiB that the nodes' disks take, without their journals. */
function diskMiB(): number {
  const directories = bed.cluster.nodes.map(({ directory }) => directory);
  const args = ['-s', '-k', '-c', '--exclude=journal', ...directories];
  const total = execFileSync('du', args, { encoding: 'utf8' }).trim().split('\n').pop() ?? '';
  return Number.parseInt(total, 10) / 1024;
}

/** What the disks hold for a replica, above `before`, once that is below the bound or too late. */
async function settled(bound: number, before = 0): Promise<number> {
  const deadline = performance.now() + SETTLED_MS;
  for (;;) {
    const used = (diskMiB() - before) / REPLICAS;
    if (used < bound || performance.now() > deadline) return used;
    await sleep(500);
  }
}

/** Files of 64 MiB until there is no room; prints how many are whole. */
const FILL_UP = `
import errno, os
files = 0
try:
    while True:
        f = os.open('f%d' % files, os.O_WRONLY | os.O_CREAT)
        for i in range(64):
            assert os.write(f, os.urandom(1 << 20)) == 1 << 20
        os.close(f)
        files += 1
except OSError as error:
    assert error.errno == errno.ENOSPC, error
os.close(f)
os.remove('f%d' % files)
os.fsync(os.open('.', os.O_RDONLY))
print(files)
`;

t.test('fill, delete and fill again', async (t) => {
  await bed.holdfast('volume', 'create', 'fill', '--size', `${VOLUME_MIB}MiB`);
  const directory = bed.directory('fill');
  await bed.mount('fill', directory);
  for (let round = 1; round <= ROUNDS; round++) {
    const started = performance.now();
    const files = Number(await python(FILL_UP, directory, 900));
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    t.comment(`${files} files of 64 MiB in ${seconds} s, ${diskMiB().toFixed(0)} MiB on disks`);
    t.ok(files >= VOLUME_MIB / 64 - 2, `${files} files fit`);
    const live = files * 64;
    const used = await settled(1.6 * live + SLACK_MIB);
    t.ok(used < 1.6 * live + SLACK_MIB, `${used.toFixed(0)} MiB a replica for ${live} MiB`);
    const removed = await shell('rm -f f*', { cwd: directory });
    t.equal(removed.status, 0, removed.text);
  }
  const emptied = performance.now();
  const empty = await settled(140);
  t.ok(empty < 140, `${empty.toFixed(0)} MiB a replica for nothing`);
  t.comment(`${((performance.now() - emptied) / 1000).toFixed(1)} s after the last was removed`);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  t.equal((await bed.holdfast('volume', 'rm', 'fill', '--purge')).code, 0);
});

const FILL = `
import os
f = os.open('database', os.O_RDWR | os.O_CREAT)
for i in range(${FILE_MIB}):
    os.pwrite(f, os.urandom(1 << 20), i << 20)
os.fsync(f)
`;
const RANDOM_WRITES = `
import os, random
f = os.open('database', os.O_RDWR)
page = os.urandom(4096)
for i in range(${FILE_MIB} * 256):
    os.pwrite(f, page, random.randrange(${FILE_MIB} * 256) * 4096)
    if i % 256 == 0:
        os.fsync(f)
os.fsync(f)
`;

t.test('a file that is written at random for many times its size', async (t) => {
  await bed.holdfast('volume', 'create', 'random', '--size', `${FILE_MIB * 2}MiB`);
  const directory = bed.directory('random');
  await bed.mount('random', directory);
  const before = diskMiB();
  const started = performance.now();
  for (let part = 0; part < PARTS; part++) {
    await python(part === 0 ? FILL + RANDOM_WRITES : RANDOM_WRITES, directory, 600);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const used = ((diskMiB() - before) / REPLICAS).toFixed(0);
    t.comment(`part ${part}: ${seconds} s, ${used} MiB a replica`);
  }
  const used = await settled(1.6 * FILE_MIB + SLACK_MIB, before);
  t.ok(used < 1.6 * FILE_MIB + SLACK_MIB, `${used.toFixed(0)} MiB a replica for ${FILE_MIB} MiB`);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
