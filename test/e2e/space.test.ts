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

/** The disks' use once it has not changed for a while. */
async function settled(): Promise<number> {
  const deadline = performance.now() + SETTLED_MS;
  let last = diskMiB();
  let since = performance.now();
  while (performance.now() < deadline && performance.now() - since < 6_000) {
    await sleep(500);
    const now = diskMiB();
    if (Math.abs(now - last) > 1) since = performance.now();
    last = now;
  }
  return last;
}

t.test('fill, delete and fill again', async (t) => {
  await bed.holdfast('volume', 'create', 'fill', '--size', `${VOLUME_MIB}MiB`);
  const directory = bed.directory('fill');
  await bed.mount('fill', directory);
  for (let round = 1; round <= ROUNDS; round++) {
    const started = performance.now();
    const fill = await shell(
      `i=0; while head -c 67108864 /dev/urandom > f$i; do i=$((i+1)); done; rm f$i; sync . ; ` +
        `df -m --output=avail . | tail -1; ls | wc -l`,
      { cwd: directory },
    );
    t.match(fill.text, /No space left on device/, `round ${round} fills it`);
    const files = Number(fill.text.split('\n').pop());
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    t.comment(`${files} files of 64 MiB in ${seconds} s, ${diskMiB().toFixed(0)} MiB on disks`);
    t.ok(files >= VOLUME_MIB / 64 - 2, `${files} files fit`);
    const used = (await settled()) / REPLICAS;
    const live = files * 64;
    t.ok(used < 1.6 * live + SLACK_MIB, `${used.toFixed(0)} MiB a replica for ${live} MiB`);
    const removed = await shell('rm -f f*', { cwd: directory });
    t.equal(removed.status, 0, removed.text);
  }
  const empty = (await settled()) / REPLICAS;
  t.ok(empty < 140, `${empty.toFixed(0)} MiB a replica for nothing`);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  t.equal((await bed.holdfast('volume', 'rm', 'fill', '--purge')).code, 0);
});

const RANDOM_WRITES = `
import os, random, sys
mib, factor = int(sys.argv[1]), int(sys.argv[2])
f = os.open('database', os.O_RDWR | os.O_CREAT)
for i in range(mib):
    os.pwrite(f, os.urandom(1 << 20), i << 20)
os.fsync(f)
random.seed(7)
page = os.urandom(4096)
for i in range(mib * 256 * factor):
    os.pwrite(f, page, random.randrange(mib * 256) * 4096)
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
    const wrote = await shell(`python3 - ${FILE_MIB} 1 <<'E'\n${RANDOM_WRITES}\nE`, {
      cwd: directory,
    });
    t.equal(wrote.status, 0, wrote.text);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const used = ((diskMiB() - before) / REPLICAS).toFixed(0);
    t.comment(`part ${part}: ${seconds} s, ${used} MiB a replica`);
  }
  const used = ((await settled()) - before) / REPLICAS;
  t.ok(used < 1.6 * FILE_MIB + SLACK_MIB, `${used.toFixed(0)} MiB a replica for ${FILE_MIB} MiB`);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
