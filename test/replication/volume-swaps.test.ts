/** What the layer above changes in the record through an owner: its root, and dead segments. */
import t from 'tap';
import { AssertionFailure } from '../../src/core/assert.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { Root } from '../../src/metadata/model.js';
import { resize } from '../../src/metadata/volume-record.js';
import { ownerGate } from '../../src/replication/owner-gate.js';
import { OwnerWorld, type TestOwner } from './owner-world.js';

const TINY = { segmentSoftBytes: 16 * PAGE_BYTES };

interface Bed {
  readonly world: OwnerWorld;
  readonly one: TestOwner;
  /** What the calls ended with, in the order in which they ended. */
  readonly ends: (string | null)[];
  root(at: number): void;
  delete(count: number): void;
}

/** An owner whose log has some sealed segments. */
async function bed(records = 60): Promise<Bed> {
  const world = new OwnerWorld({ limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < records; i++) await world.appended(one, 1);
  await world.pass(500);
  const ends: (string | null)[] = [];
  const ended = (name: string) => (error: HoldfastError | null) => {
    ends.push(error === null ? name : error.code);
  };
  return {
    world,
    one,
    ends,
    root: (at) => one.owner.setRoot(rootAt(one, at), ended(`root ${at}`)),
    delete: (count) => one.owner.deleteSealed(firstSealed(world, count), ended(`delete ${count}`)),
  };
}

/** A root at the page of the record `at`, from where it replays. */
function rootAt(one: TestOwner, at: number): Root {
  const place = one.acked.find((found) => found.lsn === at);
  if (place === undefined) throw new Error(`record ${at} was not acknowledged`);
  return { segment: place.segment, offset: offset(place.firstPage * PAGE_BYTES), lsn: lsn(at) };
}

function firstSealed(world: OwnerWorld, count: number): SegmentId[] {
  return world.record.sealed.slice(0, count).map(({ segment }) => segment);
}

async function replayCode(world: OwnerWorld, one: TestOwner, from: number): Promise<string> {
  let code: string | null = null;
  one.owner.replay(
    lsn(from),
    () => {},
    (error) => {
      code = error?.code ?? 'replayed';
    },
  );
  await world.until(() => code !== null);
  return code as never;
}

t.test('a root is swapped in, then dead segments go from the record and all disks', async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  const before = firstSealed(world, 3);
  root(50);
  give(3);
  root(55);
  t.same(ends, [], 'never before the call returns');
  await world.until(() => ends.length === 3);
  t.same(ends, ['root 50', 'delete 3', 'root 55'], 'in the order asked');
  t.equal(world.record.root?.lsn, 55);
  for (const segment of before) {
    t.notOk(world.record.sealed.some((sealed) => sealed.segment === segment));
  }
  await world.until(() => world.record.pendingDelete.length === 0);
  for (const segment of before) {
    for (const node of world.nodes) t.equal(node.segments.get(segment)?.deleted, true);
  }
  t.equal(await replayCode(world, one, 55), 'replayed');
  t.equal(await replayCode(world, one, 0), 'INCONSISTENT');
  await world.appended(one, 10);
  const second = await world.serving();
  t.equal(await replayCode(world, second, 55), 'replayed');
  t.equal(second.owner.record?.root?.lsn, 55);
});

t.test('nothing is given up before a durable root lies behind it, nor the last one', async (t) => {
  const rootless = await bed();
  t.throws(() => rootless.delete(1), AssertionFailure, 'there is no root');
  const { ends, world, root, delete: give } = await bed();
  root(5);
  await world.until(() => ends.length === 1);
  t.ok(world.record.sealed.length >= 4);
  t.throws(() => give(2), AssertionFailure, 'the root replays from it');
});

t.test('the last one sealed stays: a taker learns from it where the log ends', async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  await world.until(() => one.owner.inspect().frozen === null);
  root(59);
  await world.until(() => ends.length === 1);
  give(world.record.sealed.length - 1);
  await world.until(() => ends.length === 2);
  t.throws(() => give(1), AssertionFailure);
  one.process.kill();
  const second = await world.serving();
  t.equal(second.owner.committedLsn, 60);
  await world.appended(second, 5);
  t.equal(await replayCode(world, second, 59), 'replayed');
});

t.test('segments that are not sealed any more are left out', async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  root(50);
  give(3);
  give(3);
  await world.until(() => ends.length === 3);
  t.same(ends, ['root 50', 'delete 3', 'delete 3']);
  t.equal(one.owner.state.type, 'serving');
});

t.test('swaps with unknown outcomes land exactly once, whoever else swaps', async (t) => {
  for (const lost of ['request', 'reply'] as const) {
    const { world, one, ends, root, delete: give } = await bed();
    const lose = (): void => {
      one.trips.push((call) => {
        if (call.type !== 'transact') return null;
        world.amend((record) => resize(record, { sizeBytes: record.sizeBytes + 1 }));
        return { lost };
      });
    };
    const sealed = world.record.sealed.length;
    for (const [index, ask] of [() => root(50), () => give(3), () => root(52)].entries()) {
      lose();
      lose();
      ask();
      await world.until(() => ends.length === index + 1, 600_000);
      t.equal(world.record.root?.lsn, index < 2 ? 50 : 52, 'when it says so it is so');
    }
    t.same(ends, ['root 50', 'delete 3', 'root 52'], `${lost} lost`);
    t.equal(world.record.sealed.length, sealed - 3);
    t.equal(world.record.epoch, 1);
  }
});

t.test('they wait while the metadata store is away; the log does not', async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  one.store.setReachable(false);
  root(50);
  give(2);
  for (let i = 0; i < 30; i++) await world.appended(one, 1);
  t.same(ends, []);
  t.equal(world.record.root, null);
  one.store.setReachable(true);
  await world.until(() => ends.length === 2);
  await world.until(() => one.owner.inspect().frozen === null);
  for (let i = 0; i < 30; i++) await world.appended(one, 1);
  t.equal(await replayCode(world, one, 50), 'replayed');
});

t.test('a log that rolls all the time lets them through, and rolls on', async (t) => {
  const { world, one, ends, root } = await bed(10);
  // Each swap takes longer than a segment takes to fill, so a roll always waits.
  const slow = () => ({ requestMs: 40, replyMs: 40 });
  for (let i = 0; i < 400; i++) one.trips.push(slow);
  const before = world.record.sealed.length;
  for (let round = 0; round < 12; round++) {
    root(round + 1);
    for (let i = 0; i < 60; i++) await world.appended(one, 1);
  }
  t.ok(ends.length >= 8, `${ends.length} roots have landed`);
  const rolls = world.record.sealed.length - before;
  t.ok(rolls >= ends.length / 2, `${rolls} rolls beside them`);
});

t.test('a roll waits for the swap in flight only, not for those that wait', async (t) => {
  const { world, one, ends, root } = await bed(40);
  for (let i = 0; i < 400; i++) one.trips.push(() => ({ requestMs: 200, replyMs: 200 }));
  const before = world.record.sealed.length;
  for (let at = 1; at <= 8; at++) root(at);
  for (let i = 0; i < 30; i++) await world.appended(one, 1);
  await world.until(() => world.record.sealed.length > before);
  t.ok(ends.length <= 2, `${ends.length} roots came first`);
  await world.until(() => ends.length === 8);
});

t.test("an owner that was paused: its swaps do not land in its successor's record", async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  root(50);
  await world.until(() => ends.length === 1);
  one.process.pause();
  const second = await world.serving();
  const before = world.record;
  one.process.resume();
  root(58);
  give(3);
  await world.until(() => ends.length === 3);
  t.same(ends.slice(1), ['FENCED', 'FENCED']);
  await world.pass(5_000);
  t.same(world.record.root, before.root);
  t.same(
    firstSealed(world, before.sealed.length),
    before.sealed.map(({ segment }) => segment),
  );
  t.ok(
    world.nodes.every(
      (node) => ![...node.segments.values()].some((one) => one.sealed && one.deleted),
    ),
  );
  t.equal(await replayCode(world, second, 50), 'replayed');
  t.same(await world.replayed(second).then((log) => log.length), 60);
});

t.test('release waits for what was asked before it, and refuses what comes after', async (t) => {
  const { world, one, ends, root } = await bed();
  one.trips.push(() => ({ requestMs: 300, replyMs: 300 }));
  root(50);
  root(51);
  let released: string | undefined;
  one.owner.release((error) => {
    released = error === null ? 'released' : error.code;
  });
  root(52);
  await world.until(() => released !== undefined);
  t.equal(released, 'released');
  t.equal(world.record.root?.lsn, 51);
  t.same([...ends].sort(), ['CLOSED', 'root 50', 'root 51']);
});

t.test('stopping ends what waits with the reason', async (t) => {
  const { world, one, ends, root, delete: give } = await bed();
  root(50);
  give(1);
  one.owner.stop();
  root(51);
  await world.until(() => ends.length === 3);
  t.same(ends, ['CLOSED', 'CLOSED', 'CLOSED']);
});

t.test('copies that repair has made elsewhere are deleted too', async (t) => {
  const world = new OwnerWorld({ nodes: 4, limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 60; i++) await world.appended(one, 1);
  await world.pass(500);
  const [first] = world.record.sealed;
  const elsewhere = world.nodes.find(
    ({ node }) => !first?.replicas.some((replica) => replica.node === node),
  );
  world.move(first?.segment as SegmentId, [
    ...(first?.replicas.slice(1) ?? []),
    elsewhere?.replica as never,
  ]);
  let ended = 0;
  one.owner.setRoot(rootAt(one, 50), () => ended++);
  one.owner.deleteSealed([first?.segment as SegmentId], () => ended++);
  await world.until(() => ended === 2 && world.record.pendingDelete.length === 0);
  const asked = elsewhere?.log.filter(
    (request) => request.type === 'delete' && request.segment === first?.segment,
  );
  t.equal(asked?.length, 1);
});

t.test('the gate is open while the lease runs; an idle owner sends nothing', async (t) => {
  const { world, one } = await bed(3);
  const gate = ownerGate(one.owner);
  const pings = (): number =>
    world.nodes.flatMap(({ log }) => log.filter(({ type }) => type === 'ping')).length;
  t.ok(gate.open, 'an append just renewed it');
  for (let passed = 0; passed < 20_000; passed += 100) {
    if (!gate.open) t.fail('a lease that is asked for is renewed before it lapses');
    await world.pass(100);
  }
  const busy = pings();
  t.ok(busy > 20 && busy < 100, `${busy} PINGs in 20 s of use`);
  await world.pass(5_000);
  const idle = pings();
  t.notOk(gate.open, 'nobody asked: it has lapsed');
  await world.pass(600_000);
  t.equal(pings(), idle, 'no PING in ten idle minutes');
  t.notOk(gate.open);
  let opened: string | null | undefined;
  gate.wait((error) => {
    opened = error?.code ?? null;
  });
  await world.until(() => opened !== undefined, 100);
  t.equal(opened, null);
  t.ok(gate.open);
});

t.test('the gate of an owner that lost the volume never opens', async (t) => {
  const { world, one } = await bed(3);
  const gate = ownerGate(one.owner);
  one.process.pause();
  await world.serving();
  one.process.resume();
  t.notOk(gate.open);
  const codes: (string | undefined)[] = [];
  for (let i = 0; i < 2; i++) {
    gate.wait((error) => codes.push(error?.code));
    await world.until(() => codes.length === i + 1);
  }
  t.same(codes, ['FENCED', 'FENCED']);
});
