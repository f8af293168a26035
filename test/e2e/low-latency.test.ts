/** Processors are kept awake while a mount is busy, by its daemon and by its nodes; not after. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { processorsAwake } from '../../src/io/node/low-latency.js';
import { openFiles } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed } from './mount-bed.js';
import { python } from './python.js';

const noDevice = processorsAwake() === null && 'no processors of this machine can be kept awake';
const skip = cannotMount() || noDevice;
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

/** Small synchronous writes for three seconds, one after the other; prints how many. */
const WRITES = `
import os, time
fd = os.open("f", os.O_CREAT | os.O_WRONLY)
end = time.monotonic() + 3
count = 0
while time.monotonic() < end:
    os.pwrite(fd, b"x" * 4096, 4096 * (count % 64))
    os.fsync(fd)
    count += 1
print(count)
`;
/** How long after the last request they may be kept awake, and a busy machine's share. */
const GONE_MS = 3_000;

const bed = await MountBed.start();
t.teardown(() => bed.close());
const directory = bed.directory('mnt');

const asks = (pid: number): boolean =>
  openFiles(pid).some((path) => path.endsWith('cpu_dma_latency'));

/** Which of the processes ever asked while the writes went on. */
async function askedDuringWrites(pids: readonly number[]): Promise<number[]> {
  const found = new Set<number>();
  let isOver = false;
  const writes = python(WRITES, directory, 60).finally(() => {
    isOver = true;
  });
  while (!isOver) {
    for (const pid of pids) if (asks(pid)) found.add(pid);
    await sleep(20);
  }
  t.ok(Number(await writes) > 0);
  return [...found];
}

t.test('a daemon and its nodes ask while they are busy', async (t) => {
  const { live } = await bed.mount('db', directory);
  const nodes = bed.cluster.nodes.map(({ process }) => process?.pid ?? -1);
  const pids = [live.pid, ...nodes];
  t.same(pids.filter(asks), [], 'an idle mount asks for nothing');
  // A machine so busy that no 25 ms have ten requests gets another chance.
  let asked: number[] = [];
  for (let tries = 0; tries < 5 && asked.length < pids.length; tries++) {
    asked = [...new Set([...asked, ...(await askedDuringWrites(pids))])];
  }
  t.same(asked.sort(), pids.sort());
  await sleep(GONE_MS);
  t.same(pids.filter(asks), [], 'and nobody asks any more');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('the operator can say no', async (t) => {
  const args = ['mount', 'db', directory, '--json'];
  const said = await bed.said(bed.start(args, { HOLDFAST_LOW_LATENCY: 'no' }));
  t.equal(said.code, 0, said.stderr);
  const { live } = JSON.parse(said.lines[0] ?? '') as { live: { pid: number } };
  t.same(await askedDuringWrites([live.pid]), []);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await bed.assertNothingLeft();
});
