/** Data that was given up, at the owner: nobody waits for it, and all else goes on. */
import t from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { type GivenUpPages, writeGivenUp } from '../../src/metadata/given-up.js';
import type { SealedSegment } from '../../src/metadata/model.js';
import type { FakeNode } from './owner-nodes.js';
import { expectedLog, OwnerWorld, type TestOwner, VOLUME } from './owner-world.js';

const TINY = { segmentSoftBytes: 16 * PAGE_BYTES };
const SINCE = '2026-01-01T00:00:00.000Z';

/** The code that a read of pages ends with, 'OK', or null while it waits. */
function reading(
  one: TestOwner,
  { segment }: SealedSegment,
  page = 1,
  count = 1,
): () => string | null {
  let result: string | null = null;
  one.owner.readPages(segment, page, count, (error) => {
    result = error?.code ?? 'OK';
  });
  return () => result;
}

async function note(world: OwnerWorld, { store }: TestOwner, pages: GivenUpPages): Promise<void> {
  const noted = writeGivenUp(store, VOLUME, { at: SINCE, segments: [pages], losses: [], end: [] });
  await world.pass(1_000);
  await noted;
}

/** The nodes of the current segment. */
function holders(world: OwnerWorld): FakeNode[] {
  const [current] = world.record.open;
  return world.nodes.filter(({ replica }) =>
    current?.replicas.some(({ node }) => node === replica.node),
  );
}

/** What `volume recover` says to stay of the open segments. */
function said(world: OwnerWorld): Map<SegmentId, number> {
  const lengths = world.record.open.map(({ segment }): [SegmentId, number] => {
    return [segment, Math.max(...world.nodes.map((node) => node.length(segment)))];
  });
  return new Map(lengths);
}

t.test('a read of what only silent nodes have waits until that is given up', async (t) => {
  const world = new OwnerWorld({ nodes: 5, limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 60; i++) await world.appended(one, 1);
  await world.until(() => world.record.sealed.length >= 2);
  const [lost, other] = world.record.sealed as [SealedSegment, SealedSegment];
  const dead = world.nodes.filter(({ state, replica }) => {
    const isOther = other.replicas.some(({ node }) => node === replica.node);
    const { open } = world.record;
    return state === 'up' && !isOther && !open.some(({ replicas }) => replicas.includes(replica));
  });
  const [first = world.node(4)] = dead;
  world.move(lost.segment, [first.replica]);
  first.state = 'down';
  await world.pass(1_000);
  const before = reading(one, lost);
  await world.pass(30_000);
  t.equal(before(), null, 'its node may come back');
  t.equal(one.owner.awaited, 0, 'which its user waits for');
  const pages = [{ page: 1, count: 1 }];
  await note(world, one, { segment: lost.segment, pages });
  await world.until(() => before() !== null);
  t.equal(before(), 'DATA_LOST');
  t.equal(one.owner.awaited, null, 'nobody waits any more');
  const rest = reading(one, other);
  await world.until(() => rest() !== null);
  t.equal(rest(), 'OK', 'all else is read');
  await world.appended(one, 5);
  first.state = 'up';
  world.move(lost.segment, lost.replicas);
  await world.pass(1_000);
  const again = reading(one, lost);
  await world.until(() => again() !== null);
  t.equal(again(), 'OK', 'what comes back is read, given up or not');
});

t.test('of a segment that was given up in part, the other pages are waited for', async (t) => {
  const world = new OwnerWorld({ nodes: 6, limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 60; i++) await world.appended(one, 1);
  await world.until(() => world.record.sealed.length >= 2);
  const [sealed] = world.record.sealed as [SealedSegment];
  const { segment, replicas } = sealed;
  await note(world, one, { segment, pages: [{ page: 3, count: 2 }] });
  const isHolder = ({ node }: FakeNode): boolean => replicas.some((copy) => copy.node === node);
  const nodes = world.nodes.filter(isHolder);
  for (const node of nodes) node.state = 'down';
  const given = [reading(one, sealed, 4), reading(one, sealed, 2, 2), reading(one, sealed, 1, 9)];
  const others = [reading(one, sealed, 2), reading(one, sealed, 1, 2), reading(one, sealed, 5)];
  await world.until(() => given.every((result) => result() !== null));
  await world.pass(10_000);
  for (const result of given) t.equal(result(), 'DATA_LOST');
  for (const result of others) t.equal(result(), null, 'its nodes will come back');
  for (const node of nodes) node.state = 'up';
  await world.until(() => others.every((result) => result() === 'OK'));
});

t.test('a taker that accepts the loss goes on with the one replica that answers', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  const one = await world.serving();
  await world.appended(one, 20);
  one.process.kill();
  for (const node of holders(world).slice(1)) node.state = 'down';
  const patient = world.start();
  await world.pass(60_000);
  t.equal(patient.owner.state.type, 'taking-over', 'they may have more');
  patient.owner.stop();
  const taker = await world.serving({ acceptLoss: said(world) });
  t.same(await world.replayed(taker), expectedLog(20), 'the one had all of it');
  await world.appended(taker, 5);
  t.same(await world.replayed(taker), expectedLog(25));
});

t.test('a node that was said to have the rest is waited for, others are not', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  const one = await world.serving();
  await world.appended(one, 20);
  one.process.kill();
  const stays = said(world);
  const [kept, ...others] = holders(world);
  for (const node of others) node.state = 'down';
  if (kept !== undefined) kept.state = 'down';
  const taker = world.start({ acceptLoss: stays });
  await world.pass(15_000);
  t.equal(taker.owner.state.type, 'taking-over', 'nobody has what was said to stay');
  if (kept !== undefined) kept.state = 'up';
  await world.until(() => taker.owner.state.type === 'serving');
  t.same(await world.replayed(taker), expectedLog(20), 'it restarted');
});
