/**
 * A mount outlives its daemon: programs work without any fsync while it is killed at random
 * moments, and see a pause, no error, and everything that they were told.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Sqlite } from '../../chaos/applications/sqlite.js';
import { distRoot, startNode } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';
import { Adopted, randomly, Worker } from './adoption-bed.js';
import { isAlive, isMounted, MountBed, shell, until } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(600_000);
/** HOLDFAST_KILLS: of the random tests. */
const KILLS = Number(process.env.HOLDFAST_KILLS ?? 4);
const WORKERS = 2;

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');

async function mount(...more: string[]): Promise<Adopted> {
  return new Adopted(bed, 'db', await bed.mount('db', directory, ...more));
}

async function unmount(): Promise<void> {
  const { code, stderr } = await bed.holdfast('umount', directory);
  if (code !== 0) throw new Error(`umount: ${stderr}`);
}

/** Any moment; but now and then one that serves for a while, so that the keeper goes on. */
async function soon({ kills }: Adopted): Promise<void> {
  if (kills % 3 === 0) await sleep(700);
  else await randomly(300);
}

t.test('killed again and again: no error, and every answered change is there', async (t) => {
  const mounted = await mount();
  const seed = Number(process.env.HOLDFAST_SEED ?? Date.now() % 1_000_000);
  t.comment(`seed ${seed}`);
  const workers = Array.from({ length: WORKERS }, (_, index) => {
    return new Worker(directory, `files-${seed}-${index}`, seed + index);
  });
  for (let i = 0; i < KILLS; i++) {
    await randomly(1_500);
    await mounted.killAndWait();
  }
  await sleep(500);
  for (const worker of workers) {
    const { fault, calls = 0, longestMs } = await worker.end();
    t.equal(fault, undefined);
    t.comment(`${calls} calls, the longest took ${longestMs} ms`);
    t.ok(calls > 100, 'it worked');
  }
  t.comment(mounted.pauses());
  await unmount();
});

t.test('each request is done once: files, directories and names made in tight loops', async (t) => {
  const mounted = await mount();
  const script = `
import os
os.chdir('${directory}'); os.mkdir('once'); os.chdir('once')
for i in range(2000):
    n = str(i)
    os.mkdir(n); os.rename(n, 'd' + n); os.rmdir('d' + n)
    os.close(os.open(n, os.O_CREAT | os.O_EXCL | os.O_WRONLY)); os.link(n, 'l' + n)
    os.symlink(n, 's' + n); os.unlink('s' + n); os.unlink(n)
print(len(os.listdir('.')))`;
  const loop = shell(`python3 -c "${script}"`);
  let isOver = false;
  void loop.then(() => {
    isOver = true;
  });
  await sleep(300);
  while (!isOver && mounted.kills < KILLS) {
    await mounted.killAndWait();
    await soon(mounted);
  }
  t.same(await loop, { status: 0, text: '2000' });
  t.ok(mounted.kills > 0);
  t.comment(mounted.pauses());
  await unmount();
});

t.test('in the middle of a large copy', async (t) => {
  const mounted = await mount();
  const copy = shell(
    `cd ${directory} && head -c 150000000 /dev/urandom > ${bed.root}/large
      dd if=${bed.root}/large of=large bs=1M 2>&1 && cmp large ${bed.root}/large && echo same`,
  );
  let isOver = false;
  void copy.then(() => {
    isOver = true;
  });
  await until('it began', () => isOver || bed.log('db').length > 0);
  while (!isOver && mounted.kills < KILLS / 2) {
    await sleep(700);
    await mounted.killAndWait();
  }
  t.match(await copy, { status: 0, text: /same$/ });
  t.equal((await shell(`rm ${directory}/large ${bed.root}/large`)).status, 0);
  t.comment(mounted.pauses());
  await unmount();
});

t.test('the successor is killed as well, at any moment of the adoption', async (t) => {
  const mounted = await mount();
  const worker = new Worker(directory, 'twice', 7);
  for (let i = 0; i < KILLS / 2; i++) {
    const before = mounted.pid;
    await mounted.kill();
    await until('there is a successor', () => mounted.pid !== 0 && mounted.pid !== before);
    await randomly(700);
    await mounted.killAndWait();
    await soon(mounted);
  }
  await sleep(300);
  const { fault, calls } = await worker.end();
  t.equal(fault, undefined);
  t.comment(`${calls} calls, ${mounted.kills} kills`);
  await unmount();
});

t.test('what was answered is in the volume after the mount has ended', async (t) => {
  const mounted = await mount('--commit-interval', '60');
  const made = await shell(
    `cd ${directory} && mkdir kept && cd kept && for i in $(seq 200); do echo $i > f$i; done
      echo one > log; for i in 2 3 4; do echo $i >> log; done; mv f1 f1-moved; rm f2`,
  );
  t.equal(made.status, 0, made.text);
  await mounted.killAndWait();
  await mounted.killAndWait();
  await unmount();
  await mount();
  const { text } = await shell(
    `cd ${directory}/kept && ls | wc -l && cat log && cat f1-moved && cat f200`,
  );
  t.equal(text, '200\none\n2\n3\n4\n1\n200');
  await unmount();
});

t.test('a plain umount with a daemon that dies at it: the next one commits', async (t) => {
  const mounted = await mount('--commit-interval', '60');
  const { pid } = mounted;
  process.kill(pid, 'SIGSTOP');
  const late = shell(`echo late > ${directory}/late; umount -i -c ${directory}`);
  await sleep(200);
  process.kill(pid, 'SIGCONT');
  t.equal((await late).status, 0);
  if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  await until('the mount has ended', () => bed.states.length === 0);
  await mount();
  t.equal((await shell(`cat ${directory}/late`)).text, 'late');
  await unmount();
});

t.test('SQLite goes on', async (t) => {
  const mounted = await mount();
  const sqlite = new Sqlite(`${directory}/sqlite`);
  t.teardown(() => sqlite.kill());
  await sqlite.prepare();
  await sqlite.start();
  for (let i = 0; i < KILLS / 2; i++) {
    await randomly(1_000);
    await mounted.killAndWait();
  }
  await sleep(500);
  t.same(sqlite.complaints(), []);
  await sqlite.kill();
  t.same(await sqlite.verify(), []);
  t.comment(sqlite.summary());
  await unmount();
});

t.test('without the metadata store the successor waits, and says for what', async (t) => {
  const mounted = await mount();
  const { members } = bed.cluster.etcd;
  const writer = shell(
    `cd ${directory} && for i in $(seq 40); do echo $i >> patient; sleep 0.1; done`,
  );
  await sleep(500);
  for (const member of members) await member.kill();
  await mounted.kill();
  await sleep(4_000);
  const [shown] = await bed.mounts();
  t.match(shown, { state: 'adopting', live: { detail: /waiting/ } });
  for (const member of members) {
    member.start();
    await member.ready();
  }
  t.same(await writer, { status: 0, text: '' });
  t.equal((await shell(`wc -l < ${directory}/patient`)).text, '40');
  await unmount();
});

t.test('SIGTERM while nobody serves: committed, unmounted, released', async (t) => {
  const mounted = await mount('--commit-interval', '60');
  t.equal((await shell(`echo kept > ${directory}/terminated`)).status, 0);
  await mounted.kill();
  process.kill(mounted.keeperPid, 'SIGTERM');
  await until('the mount has ended', () => bed.states.length === 0);
  t.notOk(isMounted(directory));
  await mount();
  t.equal((await shell(`cat ${directory}/terminated`)).text, 'kept');
  await unmount();
});

t.test('daemons that die one after the other are given up', async (t) => {
  const mounted = await mount();
  const { keeperPid } = mounted;
  while (isAlive(keeperPid)) {
    await mounted.kill().catch(() => {});
    await sleep(20);
  }
  await until('the mount is gone', () => !isMounted(directory));
  t.match(bed.log('db'), /10 daemons of \S+ have died one after the other: it is given up/);
  t.match(await bed.mounts(), [{ state: 'dead' }]);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test(
  'somebody else had the volume meanwhile: the mount ends, nothing is brought in',
  async (t) => {
    const mounted = await mount('--commit-interval', '60');
    t.equal((await shell(`echo mine > ${directory}/mine`)).status, 0);
    process.kill(mounted.keeperPid, 'SIGSTOP');
    process.kill(mounted.pid, 'SIGKILL');
    const { etcd, secretFile } = bed.cluster;
    const rival = startNode(`${distRoot}test/fixtures/log-worker.js`, [etcd.url, secretFile, 'db']);
    await rival.line(/^serving/, 60_000);
    rival.write('release');
    await rival.exited;
    process.kill(mounted.keeperPid, 'SIGCONT');
    await until('the mount is gone', () => !isMounted(directory) && !isAlive(mounted.keeperPid));
    t.match(bed.log('db'), /Not adopted: .*was taken over meanwhile/);
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    await mount();
    t.not((await shell(`cat ${directory}/mine`)).status, 0, 'what was not committed is lost');
    await unmount();
  },
);

t.test(
  'a kernel that cannot send requests again: all is committed, and the mount ends',
  async (t) => {
    const mounted = await mount('--commit-interval', '60');
    const [state = ''] = bed.states;
    const file = join(bed.runDirectory, 'mounts', state, 'init.json');
    const agreed = JSON.parse(readFileSync(file, 'utf8')) as { flags2: number };
    writeFileSync(file, JSON.stringify({ ...agreed, flags2: 0 }));
    t.equal((await shell(`echo kept > ${directory}/unsent`)).status, 0);
    await mounted.kill();
    await until('the mount is gone', () => !isMounted(directory) && !isAlive(mounted.keeperPid));
    t.match(bed.log('db'), /has lost its daemon/);
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    await mount();
    t.equal((await shell(`cat ${directory}/unsent`)).text, 'kept');
    await unmount();
  },
);

t.test('mapped files: what was changed through a mapping is written back', async (t) => {
  const mounted = await mount();
  const script = `
import mmap, os, random, time
f = os.open('${directory}/mapped', os.O_CREAT | os.O_RDWR); os.ftruncate(f, 4 << 20)
m = mmap.mmap(f, 4 << 20); model = bytearray(4 << 20); end = time.time() + 4
while time.time() < end:
    at = random.randrange((4 << 20) - 100); data = os.urandom(100)
    m[at:at + 100] = data; model[at:at + 100] = data
    if random.randrange(2000) == 0: m.flush()
m.close(); os.close(f)
print(open('${directory}/mapped', 'rb').read() == bytes(model))`;
  const mapped = shell(`python3 -c "${script}"`);
  for (let i = 0; i < 2; i++) {
    await sleep(700);
    await mounted.killAndWait();
  }
  t.same(await mapped, { status: 0, text: 'True' });
  await unmount();
  await mount();
  t.match(await shell(`wc -c < ${directory}/mapped`), { text: `${4 << 20}` });
  await unmount();
});

t.test('upgrade-mounts: a pause for whoever uses the mount', async (t) => {
  const mounted = await mount();
  const worker = new Worker(directory, 'upgraded', 9);
  for (let i = 0; i < 2; i++) {
    await randomly(500);
    const { pid } = mounted;
    const { code, lines, stderr } = await bed.holdfast('upgrade-mounts', '--all', '--json');
    t.equal(code, 0, stderr);
    const [done] = JSON.parse(lines[0] ?? '[]') as { to: string; tookMs: number }[];
    t.match(done, { directory, fault: null, to: /^\d+\.\d+/ });
    t.comment(`took ${done?.tookMs} ms`);
    t.not(mounted.pid, pid, 'another process serves it');
  }
  const { fault } = await worker.end();
  t.equal(fault, undefined);
  t.equal((await bed.holdfast('upgrade-mounts')).code, 2);
  const { members } = bed.cluster.etcd;
  for (const member of members) await member.kill();
  const dark = await bed.holdfast('upgrade-mounts', '--all', '--json');
  t.equal(dark.code, 3, dark.stderr);
  t.match(JSON.parse(dark.lines[0] ?? ''), [{ to: null, fault: { code: 'UNAVAILABLE' } }]);
  const [served] = JSON.parse((await bed.holdfast('mounts', '--json')).lines[0] ?? '');
  t.equal(served.state, 'mounted', 'it goes on with the one that it has');
  for (const member of members) {
    member.start();
    await member.ready();
  }
  t.equal((await bed.holdfast('upgrade-mounts', bed.directory('other'))).code, 12);
  await unmount();
});
