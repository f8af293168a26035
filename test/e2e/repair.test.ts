/**
 * Redundancy that comes back by itself, and nodes that come and go, on real processes: a node is
 * killed and its copies are made elsewhere; it returns; another one is drained and removed; while a
 * program works on the mount and never sees an error.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { ClusterNode } from '../fixtures/cluster.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';
import { eventually, type ListedNode, RepairBed } from './repair-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
const DATA_MIB = 200;

t.setTimeout(600_000);

const bed = await MountBed.start({ nodes: 4, sizeBytes: 1 << 30 });
// Reads are to find their way round nodes that fail.
bed.localReads = false;
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');

const { json, nodeOf, holds, isWhole, steadily } = new RepairBed(bed, directory);

const [first, second, third] = bed.cluster.nodes as [ClusterNode, ClusterNode, ClusterNode];

t.test(
  'copies of a node that is gone are made elsewhere, of one that comes back not',
  async (t) => {
    await json(
      'cluster',
      'set',
      '--repair-grace',
      '3s',
      '--repair-rate',
      '1GiB',
      '--balance',
      'off',
    );
    const { operations, longestMs } = await steadily(async () => {
      const { status, text } = await shell(
        `timeout 120 dd if=/dev/urandom of=${directory}/data bs=1M count=${DATA_MIB} conv=fsync`,
      );
      t.equal(status, 0, text);
      await eventually('all is well before', isWhole);
      const had = await holds(first);
      t.ok(had > 0, `${had} sealed segments are on the node`);
      await first.kill();
      const took = await eventually(
        'its copies are elsewhere',
        async () => (await holds(first)) === 0,
      );
      await eventually('all copies are whole', isWhole);
      t.comment(`${had} copies were made elsewhere ${took} ms after the node was killed`);
      await first.start();
      await json('cluster', 'set', '--repair-grace', '10m');
      const kept = await holds(second);
      await second.kill();
      await sleep(15_000);
      t.match((await nodeOf(second)).state, /down/);
      await second.start();
      await eventually('the node is back', async () => /up/.test((await nodeOf(second)).state));
      t.ok((await holds(second)) >= kept, 'what it has counts again: nothing was moved meanwhile');
    });
    t.comment(`${operations} operations, the longest ${longestMs} ms`);
  },
);

t.test('a node is drained under load and removed', async (t) => {
  const before = await bed.holdfast('node', 'rm', (await nodeOf(third)).node);
  t.not(before.code, 0, 'one that takes part is not removed');
  t.match(before.stderr, /lives and takes part.*drain/s);
  const had = await holds(third);
  // One that nobody writes to while it is mounted.
  const still = bed.directory('still');
  await json('volume', 'create', 'still', '--size', '1GiB');
  await bed.mount('still', still);
  const { status, text } = await shell(`echo kept > ${still}/file && sync ${still}/file`);
  t.equal(status, 0, text);
  const { operations, longestMs } = await steadily(async () => {
    const drained = await bed.holdfast('node', 'drain', (await nodeOf(third)).address);
    t.equal(drained.code, 0, drained.stderr);
    t.match(drained.lines.join(), /is drained: nothing is on it/);
    const { sealedSegments, openSegments } = await nodeOf(third);
    t.equal(sealedSegments + openSegments, 0, 'although both volumes are mounted');
    await eventually('all copies are whole', isWhole);
  });
  t.comment(`${had} copies; ${operations} operations, the longest ${longestMs} ms`);
  t.equal((await shell(`timeout 10 cat ${still}/file`)).text, 'kept');
  t.equal((await bed.holdfast('umount', still)).code, 0);
  const { node } = await nodeOf(third);
  const removed = await bed.holdfast('node', 'rm', node);
  t.equal(removed.code, 0, removed.stderr);
  t.match(removed.lines, [/is no part of the cluster any more\. Stop it now\.$/]);
  await third.kill();
  t.equal((await json<ListedNode[]>('node', 'ls')).length, 3);
  const more = await bed.holdfast('node', 'drain', (await nodeOf(first)).node);
  t.not(more.code, 0, 'three copies need three nodes');
  t.match(more.stderr, /2 nodes are left.*--force/s);
});

t.test('afterwards every page of every copy is good', async (t) => {
  const { code, stderr, lines } = await bed.holdfast('volume', 'check', 'db');
  t.equal(code, 0, `${stderr}${lines.join('\n')}`);
});
