/**
 * What an operator does to a cluster in use, and what happens to it at night: nodes restarted one
 * by one, a node that stands still, the metadata store gone for long while a node dies. The program
 * on the mount waits at times, and never sees an error.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';
import { RepairBed } from './repair-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
/** Longer than any lease; HOLDFAST_OUTAGE sets other seconds. */
const OUTAGE_MS = Number(process.env.HOLDFAST_OUTAGE ?? 36) * 1_000;
const STALL_MS = 8_000;
/** A replica that lags is left behind after one second. */
const LONGEST_MS = 5_000;

t.setTimeout(400_000 + OUTAGE_MS);

const bed = await MountBed.start();
// Reads are to find their way round nodes that fail.
bed.localReads = false;
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');

const { steadily } = new RepairBed(bed, directory);

t.test('nodes are restarted one after another, in order', async (t) => {
  const { operations, longestMs } = await steadily(async () => {
    for (const node of bed.cluster.nodes) {
      t.equal(await node.process?.stop(30_000), 0, 'the node ends in order');
      await node.start();
      await sleep(3_000);
    }
  });
  t.comment(`${operations} operations, the longest ${longestMs} ms`);
  t.ok(longestMs < LONGEST_MS, `a pause of ${longestMs} ms`);
});

t.test('a node that stands still holds nobody up for long', async (t) => {
  const [node] = bed.cluster.nodes;
  const pid = node?.process?.pid ?? -1;
  const { operations, longestMs, slow } = await steadily(async () => {
    process.kill(pid, 'SIGSTOP');
    await sleep(STALL_MS);
    process.kill(pid, 'SIGCONT');
  });
  t.comment(`${operations} operations, the longest ${longestMs} ms`);
  t.ok(longestMs < LONGEST_MS, `a pause of ${longestMs} ms`);
  t.ok(slow <= 2, `${slow} operations took longer than a second`);
});

t.test('without the metadata store, and then without a node', async (t) => {
  const { members } = bed.cluster.etcd;
  const [, , node] = bed.cluster.nodes;
  const { operations, longestMs } = await steadily(async () => {
    for (const member of members) await member.kill();
    await sleep(OUTAGE_MS / 3);
    await node?.kill();
    await sleep(OUTAGE_MS / 3);
    const second = await bed.holdfast('status');
    t.not(second.code, 0, 'what needs the store fails');
    t.match(second.stderr, /metadata|etcd/i, 'and says what it waits for');
    await sleep(OUTAGE_MS / 3);
    for (const member of members) await member.start();
    await node?.start();
  });
  t.comment(`${operations} operations, the longest ${longestMs} ms`);
  t.ok(longestMs < LONGEST_MS, `a pause of ${longestMs} ms`);
  await bed.mount('db', directory);
  const { text } = await shell(`stat -c %s ${directory}/file`);
  t.equal(Number(text), operations * 512, 'every line is there at the next mount');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
