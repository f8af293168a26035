/**
 * The runbook for the loss of a zone (docs/RUNBOOKS.md), as it says: both nodes of a zone are
 * killed for good while a program writes, which goes on; they are given up, and copies come back
 * as far as there are nodes; nodes in a new zone take part. Draining the last node of a zone is
 * refused.
 */
import t from 'tap';
import type { NodeRecord, VolumeRecord } from '../../src/metadata/model.js';
import { cannotMount } from '../fuse/mounted.js';
import { AddedNodes } from './added-nodes.js';
import { MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
const nodes = new AddedNodes(bed);
t.teardown(async () => {
  await nodes.close();
  await bed.close();
});
const directory = bed.directory('mnt');

async function json<T>(...args: string[]): Promise<T> {
  const { lines, stderr } = await bed.holdfast(...args, '--json');
  if (lines[0] === undefined) throw new Error(stderr);
  return JSON.parse(lines[0]) as T;
}

/** How many copies each sealed segment with data has, and in how many zones, as the record says. */
async function spread(): Promise<{ readonly copies: number; readonly zones: number }[]> {
  const nodes = await json<NodeRecord[]>('node', 'ls');
  const zones = new Map<string, string>(nodes.map(({ node, zone }) => [node, zone]));
  const { sealed } = await json<VolumeRecord>('volume', 'show', 'db');
  return sealed
    .filter(({ end }) => end > 0)
    .map(({ replicas }) => {
      const there = replicas.flatMap(({ node }) => zones.get(node) ?? []);
      return { copies: there.length, zones: new Set(there).size };
    });
}

t.test('both nodes of a zone are killed while a program writes, and given up', async (t) => {
  await nodes.start('zone1');
  const lost = await nodes.start('zone2');
  const last = `127.0.0.1:${bed.cluster.nodes[0]?.port}`;
  const refused = await bed.holdfast('node', 'drain', last);
  t.equal(refused.code, 18);
  t.match(refused.stderr, /is the last one in zone zone0: 2 zones are left for the 3 .*--force/);
  t.equal((await bed.holdfast('node', 'drain', last, '--force', '--detach')).code, 0);
  t.equal((await bed.holdfast('node', 'undrain', last)).code, 0);
  await bed.mount('db', directory);
  const first = await shell(`dd if=/dev/urandom of=${directory}/before bs=1M count=4 conv=fsync`);
  t.equal(first.status, 0, first.text);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await bed.mount('db', directory);
  const each = 'echo $i >> log && sync log && sleep 0.1 || exit 1';
  const writing = shell(`cd ${directory} && for i in $(seq 60); do ${each}; done`);
  await Promise.all([lost.kill(), bed.cluster.nodes[2]?.kill()]);
  const { status, text } = await writing;
  t.equal(status, 0, text);
  t.equal((await shell(`md5sum ${directory}/before && wc -l < ${directory}/log`)).status, 0);
  const dead = (await json<NodeRecord[]>('node', 'ls')).filter(({ zone }) => zone === 'zone2');
  t.equal(dead.length, 2);
  for (const { address } of dead) {
    const removed = await bed.holdfast('node', 'rm', address, '--force');
    t.equal(removed.code, 0, removed.stderr);
  }
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await nodes.until('three copies again', async () =>
    (await spread()).every(({ copies }) => copies === 3),
  );
  t.ok(
    (await spread()).every(({ zones }) => zones === 2),
    'in the two zones that are left',
  );
});

t.test('nodes in a new zone take part', async (t) => {
  await nodes.start('zone3');
  await nodes.start('zone3');
  await nodes.until('copies in three zones', async () =>
    (await spread()).every(({ copies, zones }) => copies === 3 && zones === 3),
  );
  const checked = await bed.holdfast('volume', 'check', 'db');
  t.equal(checked.code, 0, `${checked.stderr}${checked.lines.join('\n')}`);
  await bed.assertNothingLeft();
});
