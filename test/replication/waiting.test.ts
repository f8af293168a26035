/** Owners that wait for nodes leave nothing behind by waiting. */
import t from 'tap';
import { PAGE_BYTES } from '../../src/core/units.js';
import { configure } from '../../src/metadata/volume-record.js';
import { OwnerWorld } from './owner-world.js';

const LIMITS = { segmentSoftBytes: 16 * PAGE_BYTES, segmentHardBytes: 256 * PAGE_BYTES };
const MINUTE = 60_000;
/** Segments that may be given up before it is known that no others are better. */
const FEW = 4;

t.test('a takeover that lacks nodes does not plan segments again and again', async (t) => {
  for (const [replicas, ackQuorum, away] of [
    [2, 2, 1],
    [3, 2, 2],
    [3, 3, 1],
  ] as const) {
    const world = new OwnerWorld({ nodes: replicas, replicas, ackQuorum, limits: LIMITS });
    const one = await world.serving();
    await world.appended(one, 5);
    one.process.kill();
    for (let n = 0; n < away; n++) world.node(n).state = 'down';
    const next = world.start();
    await world.pass(20 * MINUTE);
    const title = `${replicas} replicas, ${away} away`;
    t.ok(
      world.record.pendingDelete.length <= FEW,
      `${title}: ${world.record.pendingDelete.length}`,
    );
    for (const node of world.nodes) node.state = 'up';
    await world.until(() => next.owner.state.type === 'serving');
    await world.appended(next, 5);
    const tombstones = world.nodes.map(
      ({ segments }) => [...segments.values()].filter(({ deleted }) => deleted).length,
    );
    t.ok(Math.max(...tombstones) <= FEW + 2, `${title}: tombstones ${tombstones}`);
  }
});

t.test('nor does an owner that lacks a node for its next spare', async (t) => {
  const world = new OwnerWorld({ nodes: 3, ackQuorum: 3, limits: LIMITS });
  const one = await world.serving();
  // It takes what is written, and no new segments.
  world.node(2).ignore.add('create');
  for (let i = 0; i < 60; i++) {
    await world.appended(one, 1);
    await world.pass(MINUTE / 3);
  }
  const given = world.nodes.map(
    ({ segments }) => [...segments.values()].filter(({ deleted }) => deleted).length,
  );
  t.ok(Math.max(...given) <= FEW, `tombstones ${given}`);
  world.node(2).ignore.clear();
  await world.until(() => world.record.open.length === 2);
  await world.appended(one, 40);
});

t.test('a takeover finds another node that has come up meanwhile', async (t) => {
  const world = new OwnerWorld({ nodes: 4, limits: LIMITS });
  const one = await world.serving();
  await world.appended(one, 5);
  const { open } = world.record;
  one.process.kill();
  const holders = world.nodes.filter(({ node }) =>
    open.every(({ replicas }) => replicas.some((replica) => replica.node === node)),
  );
  t.ok(holders.length >= 2, 'nodes that both open segments are on');
  for (const node of world.nodes) if (!holders.slice(0, 1).includes(node)) node.state = 'down';
  const next = world.start();
  await world.pass(10 * MINUTE);
  t.not(next.owner.state.type, 'serving');
  (holders[1] as (typeof holders)[number]).state = 'up';
  await world.until(() => next.owner.state.type === 'serving', 10 * MINUTE);
  await world.appended(next, 5);
});

t.test('after the ack quorum was lowered spares need no more than it', async (t) => {
  const world = new OwnerWorld({ ackQuorum: 3, limits: LIMITS });
  const first = await world.serving();
  await world.appended(first, 5);
  world.amend((record) => configure(record, { nextAckQuorum: 2 }));
  let isReleased = false;
  first.owner.release(() => {
    isReleased = true;
  });
  await world.until(() => isReleased);
  const second = await world.serving();
  t.equal(world.record.ackQuorum, 2);
  world.node(2).state = 'down';
  for (let i = 0; i < 200; i++) {
    await world.appended(second, 1);
    await world.pass(100);
  }
  t.ok(world.record.sealed.length >= 8, 'it rolled as it should');
});
