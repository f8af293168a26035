/** Owners of volumes that nobody writes leave open segments that lack copies. */
import t from 'tap';
import type { OpenSegment } from '../../src/metadata/model.js';
import type { FakeNode } from './owner-nodes.js';
import { expectedLog, OwnerWorld, type TestOwner } from './owner-world.js';

const MINUTE = 60_000;

async function idle(world: OwnerWorld, records = 5): Promise<TestOwner> {
  const one = await world.serving();
  await world.appended(one, records);
  await world.until(() => world.record.planned.length === 1);
  return one;
}

function hasCopy(open: Pick<OpenSegment, 'replicas'>, { node }: FakeNode): boolean {
  return open.replicas.some((replica) => replica.node === node);
}

/** All that a mount may still write to. */
function used(world: OwnerWorld): Pick<OpenSegment, 'replicas'>[] {
  return [...world.record.open, ...world.record.planned];
}

/** The node of the current segment that the spare has none on, or another one of it. */
function lossy(world: OwnerWorld): FakeNode {
  const [current, spare] = world.record.open as [OpenSegment, OpenSegment];
  const found =
    world.nodes.find((node) => hasCopy(current, node) && hasCopy(spare, node)) ??
    world.nodes.find((node) => hasCopy(current, node));
  if (found === undefined) throw new Error('a node of the current segment');
  return found;
}

t.test('a node that stays away is left, although nothing is written', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  const one = await idle(world);
  const bad = lossy(world);
  const before = world.record;
  bad.state = 'down';
  await world.pass(0.7 * MINUTE);
  t.same(world.record.open, before.open, 'it may be a restart');
  await world.pass(1.5 * MINUTE);
  t.equal(world.record.sealed.length, 1, 'sealed, for repair to make the copy that it lacks');
  t.equal(world.record.sealed[0]?.segment, before.open[0]?.segment);
  for (const open of used(world)) t.notOk(hasCopy(open, bad), 'and nothing is there any more');
  t.same(await world.replayed(one), expectedLog(5));
  const { swapInFlight, planned } = one.owner.inspect();
  await world.pass(5 * MINUTE);
  t.equal(world.record.sealed.length, 1, 'once');
  t.same(one.owner.inspect().planned, planned);
  t.notOk(swapInFlight);
});

t.test('a node that is away for less than that is waited for', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  await idle(world);
  const bad = lossy(world);
  const { open } = world.record;
  for (let i = 0; i < 4; i++) {
    bad.state = 'down';
    await world.pass(0.6 * MINUTE);
    bad.state = 'up';
    await world.pass(0.6 * MINUTE);
  }
  t.same(world.record.open, open);
});

t.test('a drained node is left in half a minute, with all that could be written to', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  const one = await idle(world);
  const drained = lossy(world);
  world.drained.add(drained);
  await world.pass(0.5 * MINUTE);
  for (const open of used(world)) t.notOk(hasCopy(open, drained));
  t.equal(world.record.sealed.length, 1);
  t.equal(world.record.pendingDelete.length, 0);
  for (const [segment, state] of drained.segments) {
    const isSealed = world.record.sealed.some((sealed) => sealed.segment === segment);
    t.ok(isSealed || state.deleted, 'what stays there is sealed, and can be moved');
  }
  t.same(await world.replayed(one), expectedLog(5));
});

t.test('a disk that its node has not any more is left', async (t) => {
  const world = new OwnerWorld({ nodes: 5 });
  await idle(world);
  const bad = lossy(world);
  world.drained.add(bad);
  world.listed.set(bad, world.node(0).incarnation.replace(/^./, 'f') as never);
  await world.pass(2.5 * MINUTE);
  for (const open of used(world)) t.notOk(hasCopy(open, bad));
});

t.test('segments made with fewer copies are left once there are more nodes', async (t) => {
  const world = new OwnerWorld();
  const late = world.node(2);
  world.drained.add(late);
  const one = await idle(world);
  for (const open of used(world)) t.equal(open.replicas.length, 2);
  await world.pass(2 * MINUTE);
  t.equal(world.record.sealed.length, 0, 'as long as there is nothing better');
  world.drained.delete(late);
  await world.pass(1 * MINUTE);
  for (const open of used(world)) t.equal(open.replicas.length, 3);
  t.equal(world.record.sealed.length, 1);
  t.same(await world.replayed(one), expectedLog(5));
});

t.test('where nothing better can be had everything stays, and no swap is made', async (t) => {
  const world = new OwnerWorld();
  await idle(world);
  const { open, planned } = world.record;
  world.node(1).state = 'down';
  await world.pass(10 * MINUTE);
  t.same(world.record.open, open);
  t.same(world.record.planned, planned);
});

t.test('an open segment with records is sealed at its age, for scrub to read it', async (t) => {
  const world = new OwnerWorld({ limits: { segmentMaxAgeMs: 20 * MINUTE } });
  const one = await idle(world);
  await world.pass(19 * MINUTE);
  t.equal(world.record.sealed.length, 0);
  await world.pass(3 * MINUTE);
  t.equal(world.record.sealed.length, 1);
  await world.pass(60 * MINUTE);
  t.equal(world.record.sealed.length, 1, 'the next one has no records');
  await world.appended(one, 5);
  await world.pass(22 * MINUTE);
  t.equal(world.record.sealed.length, 2);
  t.same(await world.replayed(one), expectedLog(10));
});

t.test('nodes that serve, but cannot say that they live, do not take turns for ever', async (t) => {
  const world = new OwnerWorld({ nodes: 6 });
  const one = await idle(world);
  for (const node of world.nodes.slice(2)) world.lapsed.add(node);
  await world.pass(60 * MINUTE);
  const { sealed } = world.record;
  t.ok(sealed.length <= 2, `${sealed.length} segments were left for others that are no better`);
  t.same(await world.replayed(one), expectedLog(5));
});

t.test('where no node can say that it lives everything stays as it is', async (t) => {
  const world = new OwnerWorld({ nodes: 6 });
  await idle(world);
  const { open, planned } = world.record;
  for (const node of world.nodes) world.lapsed.add(node);
  await world.pass(60 * MINUTE);
  t.same(world.record.open, open);
  t.same(world.record.planned, planned);
});

t.test('a spare that was replaced is not created any more', async (t) => {
  const world = new OwnerWorld({ nodes: 4 });
  const [, , late, other] = world.nodes as [FakeNode, FakeNode, FakeNode, FakeNode];
  world.drained.add(other);
  late.state = 'down';
  await idle(world);
  const spare = world.record.open[1] as OpenSegment;
  t.ok(hasCopy(spare, late), 'which missed its CREATE');
  world.drained.delete(other);
  await world.pass(3 * MINUTE);
  t.notOk(world.record.open.some(({ segment }) => segment === spare.segment));
  late.state = 'up';
  await world.pass(1 * MINUTE);
  const asked = late.log.filter((request) => 'segment' in request && request.type === 'create');
  t.same(asked, [], 'it would be made after its DELETE, or answered with DELETED for ever');
});
