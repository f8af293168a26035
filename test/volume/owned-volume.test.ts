/**
 * The volume layer on real log owners: checkpoints, rolled and deleted segments, takeovers, pauses
 * and crashes. What must hold is DESIGN's invariants 13 (no deleted segment is reachable) and 14
 * (root and log give the live state).
 */
import { test } from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { logRoots } from '../../src/volume/log-roots.js';
import { digest } from '../../src/volume/state.js';
import type { OwnerWorld } from '../replication/owner-world.js';
import { errnoOf } from './harness.js';
import { isReproduced, mountOwned, type OwnedVolume, volumeWorld } from './owned-volume.js';

/** Segments that the disks were told to delete, or would have been. */
function deleted(world: OwnerWorld): Set<SegmentId> {
  const found = new Set<SegmentId>();
  for (const node of world.nodes) {
    for (const [id, { deleted: gone, sealed }] of node.segments) if (gone && sealed) found.add(id);
  }
  return found;
}

/** READs that the nodes have answered. */
function reads(world: OwnerWorld): number {
  return world.nodes.flatMap(({ log }) => log.filter(({ type }) => type === 'read')).length;
}

/** Some files, one of them overwritten again and again; what it holds last. */
async function churn(volume: OwnedVolume, rounds: number): Promise<Buffer> {
  for (let i = 0; i < 20; i++) {
    await volume.write(volume.file(`small-${i}`), i * 100, Buffer.from(`content ${i}`));
  }
  const inode = volume.file('database');
  for (let round = 1; round <= rounds; round++) {
    await volume.fill(inode, 40, round);
    await volume.checkpoint();
    await volume.world.pass(200);
  }
  return Buffer.alloc(40 * PAGE_BYTES, rounds);
}

test('the log alone gives the live state to the next owner', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  for (let i = 0; i < 30; i++) {
    const inode = first.file(`file-${i}`);
    await first.write(inode, i * 1000, Buffer.alloc(20_000, i + 1));
    if (i % 5 === 0) first.fs.setxattr(inode, 'user.n', Buffer.from(`${i}`), 0);
    await first.commit();
    await world.pass(20);
  }
  const live = await first.digest();
  t.ok(world.record.sealed.length > 3, 'over many segments');
  t.equal(world.record.root, null);
  t.ok(await isReproduced(first));
  first.one.process.kill();
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), live);
});

test('checkpoints bound the log: segments go, and the next owner finds the same', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  const expected = await churn(first, 12);
  await world.until(() => world.record.pendingDelete.length === 0);
  const gone = deleted(world);
  t.ok(gone.size > 10, `${gone.size} segments were deleted`);
  const pages = world.record.sealed.reduce((sum, { end }) => sum + end / PAGE_BYTES, 0);
  t.ok(pages < 6 * 40, `${pages} pages are left of ${12 * 40} written`);
  const live = await first.digest();
  first.one.process.kill();

  const before = reads(world);
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), live);
  const mounted = reads(world);
  t.ok(mounted > before, 'the checkpoint was read from the nodes');
  t.ok((await second.content(second.inode('database'))).equals(expected));
  t.ok(reads(world) > mounted, 'so were the pages');
  for (let i = 0; i < 20; i++) {
    const content = await second.content(second.inode(`small-${i}`));
    t.equal(content.subarray(i * 100).toString(), `content ${i}`);
  }
  t.ok(await isReproduced(second));
  await second.fill(second.inode('database'), 40, 99);
  await second.checkpoint();
  const after = await second.digest();
  second.one.process.kill();
  const third = await mountOwned(world);
  t.equal(digest(third.fs.state), after);
  for (const { segment } of world.record.sealed) t.notOk(deleted(world).has(segment));
});

test('an owner that was paused: its root and its deletions do not land', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  await churn(first, 4);
  const inode = first.inode('database');
  await first.fill(inode, 40, 77);
  const durable = await first.digest();
  first.one.process.pause();
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), durable);
  const { root, sealed } = world.record;
  const gone = deleted(world).size;
  // What the former owner had in mind when it fell asleep, and what it does when it wakes up.
  let swapped = false;
  first.fs.checkpoints.onDurable = () => {
    swapped = true;
  };
  first.fs.checkpoints.begin(() => {});
  first.one.process.resume();
  const behind = sealed.find(({ endLsn }) => endLsn <= (root?.lsn ?? 0));
  let refused: unknown;
  logRoots(first.one.owner).deleteSegments([behind?.segment as SegmentId], (error) => {
    refused = error;
  });
  await world.until(() => refused !== undefined && first.fs.history.failure !== null);
  t.equal(first.fs.history.failure?.code, 'FENCED');
  t.notOk(swapped);
  t.match(refused, { code: 'FENCED' });
  t.ok(behind);
  t.same(world.record.root, root);
  t.equal(deleted(world).size, gone);
  t.equal(
    errnoOf(() => first.fs.lookup(1, Buffer.from('database'))),
    'EIO',
  );
  t.equal(await second.digest(), durable);
  await second.fill(second.inode('database'), 40, 78);
  await second.checkpoint();
  const live = await second.digest();
  second.one.process.kill();
  t.equal(digest((await mountOwned(world)).fs.state), live);
});

test('a crash between the checkpoint and its swap: the older root and the log do', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  await churn(first, 4);
  await first.fill(first.inode('database'), 40, 50);
  const durable = await first.digest();
  await world.pass(1_000);
  const { root } = world.record;
  const segments = deleted(world).size;
  first.one.store.setReachable(false);
  let ended = false;
  first.fs.checkpoints.begin(() => {
    ended = true;
  });
  await world.until(() => first.one.owner.inspect().swapInFlight === 'root');
  await world.pass(5_000);
  t.notOk(ended, 'the checkpoint waits for its swap');
  t.equal(deleted(world).size, segments, 'and nothing is deleted before');
  first.one.process.kill();
  t.same(world.record.root, root);
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), durable);
  await second.checkpoint();
  t.ok((world.record.root?.lsn ?? 0) > (root?.lsn ?? 0));
});

test('a crash before the reply of its swap: the newer root does', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  await churn(first, 3);
  await first.fill(first.inode('database'), 40, 50);
  const durable = await first.digest();
  const { root } = world.record;
  first.one.trips.push((call) => (call.type === 'transact' ? { lost: 'reply' } : null));
  first.fs.checkpoints.begin(() => {});
  await world.until(() => (world.record.root?.lsn ?? 0) > (root?.lsn ?? 0));
  first.one.process.kill();
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), durable);
});

test('metadata away, checkpoints asked for: all is well when it is back', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world, { checkpointLimits: { logBytes: 60 * PAGE_BYTES } });
  const inode = first.file('database');
  for (let round = 0; round < 12; round++) {
    first.one.store.setReachable(round % 4 !== 3);
    await first.fill(inode, 40, round + 1);
    await world.pass(500);
  }
  first.one.store.setReachable(true);
  await world.pass(10_000);
  t.ok(deleted(world).size > 4);
  const live = await first.digest();
  first.one.process.kill();
  const second = await mountOwned(world);
  t.equal(digest(second.fs.state), live);
  t.ok((await second.content(second.inode('database'))).equals(Buffer.alloc(40 * PAGE_BYTES, 12)));
});

test('release: commit, let go, and be taken over at once with everything', async (t) => {
  const world = volumeWorld();
  const first = await mountOwned(world);
  await churn(first, 2);
  const live = await first.digest();
  await first.must((done) => first.one.owner.release(done));
  const before = world.scheduler.now;
  const second = await mountOwned(world);
  t.ok(world.scheduler.now - before < 1_000, 'no lease is waited for');
  t.equal(digest(second.fs.state), live);
});
