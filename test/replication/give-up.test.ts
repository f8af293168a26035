/** Takeovers that are given up before they end: what the record says of the volume afterwards. */
import t from 'tap';
import { expectedLog, OwnerWorld, type TestOwner } from './owner-world.js';

/** Gives a takeover up, and waits for the end of that. */
async function givenUp(world: OwnerWorld, one: TestOwner): Promise<void> {
  let ended = false;
  one.owner.release((error) => {
    t.equal(error, null);
    ended = true;
  });
  await world.until(() => ended);
  t.equal(one.owner.state.type, 'stopped');
}

t.test('a takeover that is given up leaves the volume as released as it found it', async (t) => {
  const world = new OwnerWorld();
  const fresh = world.start();
  await world.until(() => world.record.epoch === 1);
  await givenUp(world, fresh);
  t.equal(world.record.owner?.released, true, 'nobody has served it yet');
  const first = await world.serving();
  await world.appended(first, 3);
  await givenUp(world, first);

  for (const node of world.nodes) node.mute.add('fence');
  const late = world.start();
  await world.until(() => world.record.epoch === 3);
  await world.pass(500);
  t.match(late.owner.state, { type: 'taking-over', step: 'fence' });
  await givenUp(world, late);
  t.match(world.record, { epoch: 3, owner: { released: true } });
  for (const node of world.nodes) node.mute.clear();
  const before = world.scheduler.now;
  const second = await world.serving();
  t.ok(world.scheduler.now - before < 500, 'nobody waits for a lease');
  t.same(await world.replayed(second), expectedLog(3));

  for (const node of world.nodes) node.mute.add('fence');
  const hasty = world.start();
  await world.until(() => world.record.epoch === 5);
  await givenUp(world, hasty);
  t.match(world.record, { epoch: 5, owner: { released: false } }, 'a lease may run');
  for (const node of world.nodes) node.mute.clear();
  const since = world.scheduler.now;
  await world.serving();
  t.ok(world.scheduler.now - since >= 1_000, 'waited for it');
});

t.test('a takeover that is given up while a swap of it is under way', async (t) => {
  for (const purpose of ['claim', 'seal']) {
    const world = new OwnerWorld();
    const one = world.start();
    await world.until(() => one.owner.inspect().swapInFlight === purpose);
    await givenUp(world, one);
    t.equal(world.record.owner?.released, true, purpose);
    t.equal(world.record.open.length, purpose === 'seal' ? 2 : 0);
    t.notOk(one.states.some(({ type }) => type === 'serving'));
    const next = await world.serving();
    await world.appended(next, 2);
  }
});

t.test('a takeover that is given up before it has claimed anything', async (t) => {
  const world = new OwnerWorld({ nodes: 1 });
  world.drained.add(world.node(0));
  const one = world.start();
  await world.pass(100);
  await givenUp(world, one);
  t.match(world.record, { epoch: 0, owner: null });
});
