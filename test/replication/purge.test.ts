/** Purging: whoever does it and wherever it dies, in the end no disk has anything of the volume. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { nameKey, volumeKey } from '../../src/metadata/keys.js';
import { type Call, MemoryStore, type Trip } from '../../src/metadata/memory.js';
import { VolumeTrash } from '../../src/metadata/trash.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { type PurgeOutcome, type PurgeParts, purgeVolume } from '../../src/replication/purge.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { FakeRequests } from './owner-nodes.js';
import { OwnerWorld, VOLUME } from './owner-world.js';

const TINY = { segmentSoftBytes: 8 * PAGE_BYTES };
const TIMEOUT_MS = 30_000;

/** A volume of several segments, released by its owner. */
async function written(): Promise<OwnerWorld> {
  const world = new OwnerWorld({ limits: TINY });
  world.server.transact([], [{ type: 'put', key: nameKey('data'), value: VOLUME }]);
  const one = await world.serving();
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  let released = false;
  one.owner.release(() => {
    released = true;
  });
  await world.until(() => released);
  return world;
}

/** A process that purges; `trip` says how its calls to the metadata store travel. */
function purger(world: OwnerWorld, trip: (call: Call) => Trip = () => ({})): PurgeParts {
  const process = new SimProcess(world.scheduler);
  const { clock } = process;
  const onSettled = (): void => world.scheduler.notePromise();
  const store = new MemoryStore(world.server, { clock, onSettled, trip });
  const random = new SimRandom('purge');
  const requests = new FakeRequests(world.nodes, world.scheduler, (call) => process.run(call));
  const trash = new VolumeTrash(store, clock, new Volumes(store, clock, random));
  return { clock, random, store, requests, trash, log: silentLog, directory: world.directory() };
}

async function settled<T>(world: OwnerWorld, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const note = (): void => {
    isSettled = true;
  };
  promise.then(note, note);
  await world.until(() => isSettled, 600_000);
  return promise;
}

function purge(world: OwnerWorld, parts: PurgeParts): Promise<PurgeOutcome> {
  return settled(world, purgeVolume(parts, VOLUME, { timeoutMs: TIMEOUT_MS }));
}

/** Segments that some disk still has. */
function left(world: OwnerWorld): number {
  const kept = world.nodes.flatMap(({ segments }) => {
    return [...segments.values()].filter(({ deleted }) => !deleted);
  });
  return kept.length;
}

const removal = { keepMs: 1000, force: false };

t.test('everything is deleted on all replicas, and then the record goes', async (t) => {
  const world = await written();
  t.ok(left(world) > 6, `${left(world)} copies before`);
  const parts = purger(world);
  const early = settled(world, purgeVolume(parts, VOLUME, { timeoutMs: TIMEOUT_MS }));
  await t.rejects(early, { code: 'CONFLICT', message: /not in the trash/ });
  await settled(world, parts.trash.remove(VOLUME, removal));
  t.equal(world.server.peek(nameKey('data')), null, 'the name is free');
  t.same(await purge(world, parts), { type: 'purged' });
  t.equal(left(world), 0);
  t.equal(world.server.peek(volumeKey(VOLUME)), null);
  await t.rejects(purge(world, parts), { code: 'NOT_FOUND' }, 'and there is nothing to do again');
});

t.test('a replica that does not answer keeps the record, until it does', async (t) => {
  const world = await written();
  const parts = purger(world);
  await settled(world, parts.trash.remove(VOLUME, removal));
  world.node(1).state = 'down';
  const began = parts.clock.monotonic();
  const outcome = await purge(world, parts);
  const tookMs = parts.clock.monotonic() - began;
  t.ok(tookMs < TIMEOUT_MS / 2, `other volumes wait for their turn: ${tookMs} ms`);
  t.match(outcome, { type: 'waiting', nodes: [world.node(1).node] });
  t.ok(world.record.pendingDelete.length > 0, 'what it may still have is listed');
  await t.rejects(settled(world, parts.trash.forget(VOLUME)), { code: 'CONFLICT' });
  await t.rejects(settled(world, parts.trash.restore(VOLUME, 'data')), { code: 'CONFLICT' });
  world.node(1).state = 'up';
  t.same(await purge(world, purger(world)), { type: 'purged' });
  t.equal(left(world), 0);
});

t.test('a node that is registered is waited for, whatever it answers', async (t) => {
  const world = await written();
  const parts = purger(world);
  await settled(world, parts.trash.remove(VOLUME, removal));
  const node = world.node(1);
  node.ignore.add('delete');
  world.scheduler.after(TIMEOUT_MS / 2, () => node.ignore.delete('delete'));
  t.same(await purge(world, parts), { type: 'purged' });
  t.equal(left(world), 0);
});

t.test('a disk that is gone for good is not waited for', async (t) => {
  const world = await written();
  const parts = purger(world);
  await settled(world, parts.trash.remove(VOLUME, removal));
  world.node(1).wipe();
  t.same(await purge(world, parts), { type: 'purged' });
  t.equal(world.server.peek(volumeKey(VOLUME)), null);
});

/** Lets a purge die at its n-th call to the metadata store, and another one end it. */
async function diesAt(n: number, lost: 'request' | 'reply'): Promise<'died' | 'purged'> {
  const world = await written();
  await settled(world, purger(world).trash.remove(VOLUME, removal));
  let calls = 0;
  // From that call on nothing of it gets through; of "reply" the call itself does.
  const dying = purger(world, () => {
    calls += 1;
    if (calls < n) return {};
    return { lost: calls === n ? lost : 'request' };
  });
  const first = await purge(world, dying).catch((thrown) => {
    if (thrown instanceof HoldfastError) return thrown;
    throw thrown;
  });
  if (world.server.peek(volumeKey(VOLUME)) !== null) await purge(world, purger(world));
  if (world.server.peek(volumeKey(VOLUME)) !== null) throw new Error(`a record is left (${n})`);
  if (left(world) > 0) throw new Error(`segments are left (${n})`);
  return first instanceof HoldfastError ? 'died' : 'purged';
}

t.test('wherever a purge dies, the next one ends it', async (t) => {
  for (const lost of ['request', 'reply'] as const) {
    let places = 1;
    while ((await diesAt(places, lost)) === 'died') places += 1;
    t.ok(places > 6, `it died at ${places - 1} places`);
  }
});

t.test('two at once do no harm', async (t) => {
  const world = await written();
  await settled(world, purger(world).trash.remove(VOLUME, removal));
  const both = [purger(world), purger(world)].map((parts) =>
    purgeVolume(parts, VOLUME, { timeoutMs: TIMEOUT_MS }),
  );
  for (const one of both) t.same(await settled(world, one), { type: 'purged' });
  t.equal(left(world), 0);
});

t.test('a volume in the trash is taken over by nobody, and comes back whole', async (t) => {
  const world = await written();
  const { trash } = purger(world);
  await settled(world, trash.remove(VOLUME, removal));
  const one = world.start();
  await world.until(() => one.owner.state.type === 'stopped');
  t.match(one.owner.state, { reason: { code: 'NOT_FOUND', message: /in the trash/ } });
  await settled(world, trash.restore(VOLUME, 'back'));
  const next = await world.serving();
  t.equal((await world.replayed(next)).length, 20);
  t.equal(world.record.name, 'back');
});

t.test('an owner that goes on while its volume is removed by force stops for good', async (t) => {
  const world = await written();
  const one = await world.serving();
  const { trash } = purger(world);
  const refused = settled(world, trash.remove(VOLUME, removal));
  await t.rejects(refused, { code: 'CONFLICT', message: /not released by its owner, here/ });
  await settled(world, trash.remove(VOLUME, { keepMs: null, force: true }));
  let reason: string | undefined;
  one.owner.release((error) => {
    reason = error?.code;
  });
  await world.until(() => reason !== undefined);
  t.equal(reason, 'FENCED');
});
