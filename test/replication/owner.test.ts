/** Owners against fake nodes: what DESIGN §4 promises, seen from outside. */
import t from 'tap';
import { present } from '../../src/core/assert.js';
import type { Incarnation, OwnerId, SegmentId } from '../../src/core/ids.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { OpenSegment, SealedSegment } from '../../src/metadata/model.js';
import { resize } from '../../src/metadata/volume-record.js';
import { type FakeNode, type FakeSegment, id } from './owner-nodes.js';
import { expectedLog, OwnerWorld } from './owner-world.js';

const TINY = { segmentSoftBytes: 16 * PAGE_BYTES };

t.test('a new volume is taken over, written, and read back', async (t) => {
  const world = new OwnerWorld();
  const one = await world.serving();
  t.equal(world.record.epoch, 1);
  t.equal(world.record.open.length, 2, 'a current segment and a spare are registered');
  await world.appended(one, 20);
  t.same(
    one.acked.map((place) => place.lsn),
    Array.from({ length: 20 }, (_, n) => n),
    'acknowledged in LSN order',
  );
  const place = one.acked[7];
  let data: Uint8Array | null = null;
  one.owner.readPages(place?.segment as never, place?.firstPage as number, 1, (error, bytes) => {
    t.equal(error, null);
    data = bytes;
  });
  await world.until(() => data !== null);
  t.equal((data as unknown as Uint8Array)[0], 8);
  t.same(await world.replayed(one), expectedLog(20));
});

t.test('a steady owner has a spare registered and one more planned and created', async (t) => {
  const world = new OwnerWorld();
  const one = await world.serving();
  await world.until(() => world.record.planned.length === 1);
  t.equal(one.owner.inspect().spare, world.record.open[1]?.segment);
});

t.test('a full segment is rolled, sealed on all replicas, and the log goes on', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 60; i++) await world.appended(one, 1);
  await world.until(() => world.record.sealed.length >= 5);
  await world.pass(1000);
  for (const sealed of world.record.sealed) {
    for (const node of world.nodes) {
      t.equal(node.segments.get(sealed.segment)?.sealed, true, 'sealed everywhere');
      t.equal(node.length(sealed.segment), sealed.end);
    }
  }
  t.same(await world.replayed(one), expectedLog(60));
});

t.test(
  'with one node down appends and reads go on, and no roll is made without a better spare',
  async (t) => {
    const world = new OwnerWorld();
    const one = await world.serving();
    await world.appended(one, 5);
    world.node(2).state = 'down';
    await world.appended(one, 5);
    await world.pass(5_000);
    await world.appended(one, 5);
    t.equal(world.record.sealed.length, 0, 'the spare has the same bad node');
    t.equal(one.owner.inspect().current?.replicas.filter((r) => r.mode === 'dropped').length, 1);
  },
);

t.test('a replica that comes back soon gets what it missed', async (t) => {
  const world = new OwnerWorld();
  const one = await world.serving();
  await world.appended(one, 5);
  world.node(2).state = 'down';
  await world.appended(one, 5);
  world.node(2).state = 'up';
  await world.pass(500);
  const { current } = one.owner.inspect();
  t.equal(world.holders(current?.segment as never, current?.nextOffset as number), 3);
});

t.test('a stalled replica makes the owner roll to a spare on healthier nodes', async (t) => {
  const world = new OwnerWorld({ nodes: 6 });
  const one = await world.serving();
  await world.appended(one, 5);
  const { replicas } = world.record.open[0] ?? { replicas: [] };
  const spare = world.record.open[1]?.replicas.map((replica) => replica.node) ?? [];
  const bad = replicas.find((replica) => !spare.includes(replica.node));
  const node = world.nodes.find((candidate) => candidate.node === bad?.node);
  if (node === undefined) return t.pass('the groups are the same: nothing to see');
  node.state = 'hung';
  await world.appended(one, 5);
  await world.until(() => world.record.sealed.length === 1);
  await world.appended(one, 5);
  t.same(await world.replayed(one), expectedLog(15));
});

t.test(
  'a second owner takes over; the first is fenced and nothing acknowledged is lost',
  async (t) => {
    const world = new OwnerWorld({ limits: TINY });
    const first = await world.serving();
    for (let i = 0; i < 30; i++) await world.appended(first, 1);
    const second = await world.serving();
    t.equal(world.record.epoch, 2);
    world.append(first, 1);
    await world.until(() => first.failed.length > 0);
    t.equal(first.failed[0]?.code, 'FENCED');
    t.same(await world.replayed(second), expectedLog(30));
    await world.appended(second, 10);
    t.same(await world.replayed(second), expectedLog(40));
  },
);

t.test(
  'a crash in the middle of appends: the next owner keeps every acknowledged record',
  async (t) => {
    for (let seed = 0; seed < 20; seed++) {
      const world = new OwnerWorld({ limits: TINY });
      const first = await world.serving();
      world.node(seed % 3).delayMs = 7;
      if (seed % 4 === 1) world.node(0).state = 'down';
      world.append(first, 40);
      await world.pass(2 + seed / 2);
      first.process.kill();
      const acked = first.acked.length;
      if (seed % 4 === 2) world.node(1).state = 'down';
      const second = await world.serving();
      const log = await world.replayed(second);
      t.ok(log.length >= acked, `${log.length} records, ${acked} acknowledged`);
      t.same(log, expectedLog(log.length));
    }
  },
);

t.test('takeover waits for the read lease of the owner before, unless it released', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 3);
  const before = world.scheduler.now;
  const second = await world.serving();
  t.ok(world.scheduler.now - before >= 1_900, 'waited for the lease');
  await world.appended(second, 1);
  let released = false;
  second.owner.release((error) => {
    t.equal(error, null);
    released = true;
  });
  await world.until(() => released);
  t.equal(world.record.owner?.released, true);
  const again = world.scheduler.now;
  await world.serving();
  t.ok(world.scheduler.now - again < 500, 'did not wait');
});

t.test('takeover does not wait for an owner whose supervisor saw it dead', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 3);
  first.process.kill();
  const before = world.scheduler.now;
  const second = await world.serving({ reaped: ownerOf(world) });
  t.ok(world.scheduler.now - before < 500, 'did not wait');
  await world.appended(second, 1);
  const another = world.record.volume as string as OwnerId;
  const { epoch } = world.record;
  const third = world.start({ reaped: another });
  await world.until(() => third.owner.state.type === 'stopped');
  t.match(third.owner.state, { reason: { code: 'FENCED' } }, 'another one is dead, not this');
  t.equal(world.record.epoch, epoch, 'which is not shut out');
  await world.appended(second, 1);
});

t.test('who follows a dead owner does not shut out one that came between', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  first.process.kill();
  const heir = world.start({ reaped: ownerOf(world) });
  // Its claim is on its way while another takes the volume.
  heir.trips.push(() => ({ requestMs: 1, replyMs: 1 }));
  heir.trips.push(() => ({ requestMs: 30_000, replyMs: 1 }));
  const other = await world.serving();
  const { epoch } = world.record;
  await world.until(() => heir.owner.state.type === 'stopped');
  t.match(heir.owner.state, { reason: { code: 'FENCED' } });
  t.equal(world.record.epoch, epoch);
  await world.appended(other, 1);
});

function ownerOf({ record }: OwnerWorld): OwnerId {
  return present(record.owner, 'an owner').id;
}

t.test('a paused owner does not answer a read from before its pause', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 3);
  const place = first.acked[0];
  first.process.pause();
  await world.serving();
  let answer: string | null = null;
  first.process.resume();
  await world.pass(1);
  first.owner.readPages(place?.segment as never, place?.firstPage as number, 1, (error) => {
    answer = error?.code ?? 'served';
  });
  await world.until(() => answer !== null);
  t.equal(answer, 'FENCED');
});

t.test('nor one that was on its way when the pause began', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 3);
  const place = first.acked[0];
  let answer: string | null = null;
  first.owner.readPages(place?.segment as never, place?.firstPage as number, 1, (error) => {
    answer = error?.code ?? 'served';
  });
  first.process.pause();
  const second = await world.serving();
  await world.appended(second, 1);
  t.equal(answer, null);
  first.process.resume();
  await world.until(() => answer !== null);
  t.equal(answer, 'FENCED');
});

t.test('a lease counts from when its grants were asked for', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  for (const node of world.nodes) node.delayMs = 400;
  const sentAt = first.process.clock.monotonic();
  await world.appended(first, 1);
  const { leaseValidUntil } = first.owner.inspect();
  t.ok(leaseValidUntil >= sentAt, 'the append was one');
  t.ok(leaseValidUntil <= sentAt + 1_800, `${leaseValidUntil - sentAt} ms`);
});

t.test('who wants idle volumes only leaves one alone that has got an owner', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  const { epoch } = world.record;
  const other = world.start({ address: 'controller', idleOnly: true });
  await world.until(() => other.owner.state.type === 'stopped');
  t.match(other.owner.state, { reason: { code: 'CONFLICT' } });
  t.equal(world.record.epoch, epoch);
  await world.appended(first, 1);
});

t.test('swaps with unknown outcomes land exactly once', async (t) => {
  for (const lost of ['request', 'reply'] as const) {
    const world = new OwnerWorld({ limits: TINY });
    const one = world.start();
    let left = 12;
    const trip = (call: { type: string }): { lost: 'request' | 'reply' } | null =>
      call.type === 'transact' ? { lost } : null;
    while (left-- > 0) one.trips.push(trip);
    await world.until(() => one.owner.state.type === 'serving', 600_000);
    for (let i = 0; i < 30; i++) await world.appended(one, 1);
    await world.until(() => world.record.sealed.length >= 2, 600_000);
    t.equal(world.record.epoch, 1, `claimed once (${lost} lost)`);
    t.same(await world.replayed(one), expectedLog(30));
  }
});

t.test(
  'another field changed meanwhile: the same change is made to the record found',
  async (t) => {
    const world = new OwnerWorld({ limits: TINY });
    const one = await world.serving();
    for (let i = 0; i < 30; i++) {
      await world.appended(one, 1);
      world.amend((record) => resize(record, { sizeBytes: record.sizeBytes + 1 }));
    }
    await world.until(() => world.record.sealed.length >= 2);
    t.equal(world.record.sizeBytes, (1 << 30) + 30);
    t.equal(one.owner.state.type, 'serving');
  },
);

t.test('with the metadata store and one node down, appends and reads go on', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  const one = await world.serving();
  await world.until(() => world.record.planned.length === 1);
  one.store.setReachable(false);
  world.node(1).state = 'down';
  for (let i = 0; i < 50; i++) await world.appended(one, 1);
  let read: string | null = null;
  const place = one.acked[49];
  one.owner.readPages(place?.segment as never, place?.firstPage as number, 1, (error) => {
    read = error?.code ?? 'served';
  });
  await world.until(() => read !== null);
  t.equal(read, 'served');
  t.ok(one.owner.inspect().frozen, 'rolled once, unconfirmed');
  one.store.setReachable(true);
  world.node(1).state = 'up';
  await world.until(() => world.record.sealed.length >= 2);
  t.same(await world.replayed(one), expectedLog(50));
});

t.test('what is waited for is told: commits, else the lease', async (t) => {
  const world = new OwnerWorld();
  const one = await world.serving();
  await world.appended(one, 3);
  await world.pass(10_000);
  t.equal(one.owner.awaited, null, 'nobody waits');
  for (const n of [0, 1]) world.node(n).state = 'down';
  let answered = false;
  one.owner.checkLease(() => {
    answered = true;
  });
  await world.pass(1_000);
  const lease = one.owner.awaited;
  t.not(lease, null, 'a read waits for its lease');
  world.append(one, 1);
  await world.pass(1_000);
  const commit = one.owner.awaited;
  t.equal(commit, one.owner.committedLsn);
  await world.pass(20_000);
  t.equal(one.owner.awaited, commit, 'for as long as nothing is granted');
  for (const n of [0, 1]) world.node(n).state = 'up';
  await world.until(() => answered && one.acked.length === 4);
  t.equal(one.owner.awaited, null);
});

t.test('competing takeovers: one wins, the others stop', async (t) => {
  const world = new OwnerWorld();
  const owners = [world.start(), world.start(), world.start()];
  const settled = (): boolean =>
    owners.every((one) => ['serving', 'stopped'].includes(one.owner.state.type));
  await world.until(settled);
  const serving = owners.filter((one) => one.owner.state.type === 'serving');
  t.equal(serving.length, 1);
  t.equal(serving[0]?.owner.inspect().epoch, world.record.epoch);
});

t.test('a wiped node is no evidence', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  world.node(2).state = 'down';
  await world.appended(first, 5);
  first.process.kill();
  world.node(0).wipe();
  world.node(2).state = 'up';
  const second = await world.serving().catch(() => null);
  t.not(second, null, 'node 1 has everything, node 2 answers too: R = 2');
  t.same(await world.replayed(second as never), expectedLog(5));
});

t.test('a wiped node and a silent one: the taker waits', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  world.node(2).state = 'down';
  await world.appended(first, 5);
  first.process.kill();
  world.node(0).wipe();
  const second = world.start();
  await world.pass(20_000);
  t.match(second.owner.state, { type: 'taking-over', step: 'fence' });
  world.node(2).state = 'up';
  await world.until(() => second.owner.state.type === 'serving');
  t.same(await world.replayed(second), expectedLog(5));
});

t.test('back-pressure: append says so and onDrain tells when it is over', async (t) => {
  const world = new OwnerWorld({ limits: { maxPendingBytes: 50_000 } });
  const one = await world.serving();
  let accepted = 0;
  while (one.owner.append({ record: Buffer.alloc(10), pages: [Buffer.alloc(4096)] }, () => {})) {
    accepted += 1;
  }
  t.equal(accepted, 12);
  let drained = false;
  one.owner.onDrain(() => {
    drained = true;
  });
  t.equal(drained, false);
  await world.until(() => drained);
});

t.test('abandoned and unneeded segments are deleted, and the record is cleared', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 3);
  await world.serving();
  await world.until(() => world.record.pendingDelete.length === 0);
  t.equal(world.record.sealed.length, 1);
});

t.test('single replicas and five of them work by the same rules', async (t) => {
  for (const [replicas, ackQuorum] of [
    [1, 1],
    [2, 2],
    [2, 1],
    [5, 3],
    [3, 3],
  ] as const) {
    const world = new OwnerWorld({ nodes: replicas, replicas, ackQuorum, limits: TINY });
    const first = await world.serving();
    for (let i = 0; i < 20; i++) await world.appended(first, 1);
    first.process.kill();
    const second = await world.serving();
    t.same(await world.replayed(second), expectedLog(20), `${ackQuorum} of ${replicas}`);
  }
});

t.test('a replica that missed a segment is completed after the seal', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 5; i++) await world.appended(one, 1);
  world.node(2).state = 'down';
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  await world.pass(3_000);
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  world.node(2).state = 'up';
  const { sealed } = world.record;
  t.ok(sealed.length >= 2);
  await world.until(() =>
    sealed.every((one) => world.holders(one.segment, one.end) === 3 || one.end === 0),
  );
});

t.test('a copy is completed on a disk that the directory does not list yet', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  world.listed.set(world.node(2), id<Incarnation>(0x999));
  const one = await world.serving();
  for (let i = 0; i < 5; i++) await world.appended(one, 1);
  // It answers, and lacks the end of what is sealed meanwhile.
  world.node(2).ignore.add('append');
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  world.node(2).ignore.clear();
  const { sealed } = world.record;
  t.ok(sealed.length >= 1);
  await world.until(() =>
    sealed.every((one) => world.holders(one.segment, one.end) === 3 || one.end === 0),
  );
});

t.test('a release waits for the spare that its last records need, and gets it', async (t) => {
  for (const [replicas, ackQuorum] of [
    [1, 1],
    [3, 2],
  ] as const) {
    const world = new OwnerWorld({ nodes: 9, replicas, ackQuorum, limits: TINY });
    const one = await world.serving();
    for (const node of world.nodes) node.mute.add('create');
    while (world.record.sealed.length === 0) {
      world.append(one, 1);
      await world.pass(1);
    }
    // Rolled, and the next spare is not there yet when the new segment's disks are replaced.
    t.equal(world.record.open.length, 1);
    const current = one.owner.inspect().current?.segment;
    const { replicas: at } = world.record.open.find((open) => open.segment === current) ?? {
      replicas: [],
    };
    t.equal(at.length, replicas);
    for (const node of world.nodes) {
      if (at.some((replica) => replica.node === node.node)) node.wipe();
      node.mute.delete('create');
    }
    world.append(one, 1);
    const appended = one.owner.inspect().nextLsn;
    let ended = false;
    one.owner.release(() => {
      ended = true;
    });
    await world.until(() => ended);
    t.equal(one.acked.length, appended, 'everything was acknowledged first');
    t.equal(world.record.owner?.released, true);
  }
});

t.test(
  'a segment is registered only with a quorum of CREATEs, if need be on another group',
  async (t) => {
    const world = new OwnerWorld({ nodes: 6, limits: { replanMs: 500 } });
    const muted = world.nodes.slice(0, 2);
    for (const node of muted) node.mute.add('create');
    const one = await world.serving();
    await world.until(() => world.record.planned.length === 1, 60_000);
    for (const { replicas } of world.record.open) {
      const good = replicas.filter((replica) => !muted.some((node) => node.node === replica.node));
      t.ok(good.length >= 2, 'enough have said that they created it');
    }
    t.equal(one.owner.state.type, 'serving');
  },
);

t.test('appends from within a callback keep their order', async (t) => {
  const world = new OwnerWorld();
  const one = await world.serving();
  const seen: number[] = [];
  const again = (): void => {
    const { nextLsn } = one.owner.inspect();
    if (nextLsn >= 40) return;
    one.owner.append({ record: Buffer.from(`${nextLsn}`), pages: [] }, (error, place) => {
      t.equal(error, null);
      seen.push(place?.lsn as number);
      again();
      again();
    });
  };
  again();
  await world.until(() => seen.length >= 40);
  t.same(seen, [...seen.keys()]);
  t.ok(
    world.nodes.every((node) => node.log.filter((request) => request.type === 'ping').length < 10),
  );
});

t.test('a replica behind a lost reply is asked how far it is', async (t) => {
  const world = new OwnerWorld({ limits: { requestTimeoutMs: 300 } });
  const one = await world.serving();
  await world.appended(one, 2);
  world.node(1).mute.add('append');
  world.append(one, 2);
  await world.until(() => one.acked.length === 4, 5_000);
  t.pass('PING told that it was durable');
});

t.test('replay reads from whoever has a copy by now, and waits while nobody answers', async (t) => {
  const world = new OwnerWorld({ nodes: 6, limits: TINY });
  const one = await world.serving();
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  await world.until(() => world.record.sealed.length >= 2);
  await world.pass(1_000);
  const { segment, replicas } = world.record.sealed[0] as SealedSegment;
  const first = world.nodes.filter((node) => replicas.some((one) => one.node === node.node));
  const elsewhere = world.nodes.find((node) => !first.includes(node)) as FakeNode;
  const copy = first[0]?.segments.get(segment);
  elsewhere.segments.set(segment, { ...(copy as FakeSegment) });
  world.move(segment, [...replicas.slice(1), elsewhere.replica]);
  // Replaced, deleted there since, and behind.
  first[0]?.wipe();
  (first[1]?.segments.get(segment) as FakeSegment).deleted = true;
  (first[2]?.segments.get(segment) as FakeSegment).bytes = Buffer.alloc(0);
  t.same(await world.replayed(one), expectedLog(20));

  elsewhere.ignore.add('read');
  world.scheduler.after(20_000, () => elsewhere.ignore.clear());
  t.same(await world.replayed(one), expectedLog(20));
});

t.test('a spare that does not answer is replaced, as long as others can have it', async (t) => {
  const limits = { maxLagMs: 100, retryMaxMs: 200, replanMs: 500 };
  const world = new OwnerWorld({ nodes: 6, limits });
  const one = await world.serving();
  await world.until(() => world.record.planned.length === 1);
  const [current, spare] = world.record.open as [OpenSegment, OpenSegment];
  const bad = world.nodes.find(
    ({ node }) =>
      spare.replicas.some((replica) => replica.node === node) &&
      !current.replicas.some((replica) => replica.node === node),
  );
  if (bad === undefined) return t.fail('the groups are the same: nothing to see');
  // It neither answers nor shows as dead: only asking tells.
  bad.ignore.add('ping');
  const used = async (rounds: number): Promise<void> => {
    for (let i = 0; i < rounds; i++) {
      await world.appended(one, 1);
      await world.pass(50);
    }
  };
  await used(100);
  const [same, better] = world.record.open as [OpenSegment, OpenSegment];
  t.equal(same.segment, current.segment, 'writing goes on where it was');
  t.not(better.segment, spare.segment);
  t.notOk(better.replicas.some((replica) => replica.node === bad.node));
  t.equal(one.owner.inspect().spare, better.segment);
  await used(40);
  t.equal(world.record.open[1]?.segment, better.segment, 'which is as good as can be');
  await world.until(() => world.record.pendingDelete.length === 0);
  for (const node of world.nodes) {
    t.equal(node.length(spare.segment), 0, 'nothing was ever written to it');
    t.not(node.segments.get(spare.segment)?.deleted, false, 'and it is deleted where it was');
  }
  t.same(await world.replayed(one), expectedLog(140));

  one.process.kill();
  const next = await world.serving();
  t.same(await world.replayed(next), expectedLog(140));
});

t.test(
  'where nothing better can be had a silent spare stays, and swaps do not go on',
  async (t) => {
    const world = new OwnerWorld({ limits: { maxLagMs: 100, retryMaxMs: 200 } });
    const one = await world.serving();
    await world.until(() => world.record.planned.length === 1);
    world.node(2).ignore.add('ping');
    const { open, planned } = world.record;
    for (let i = 0; i < 100; i++) {
      await world.appended(one, 1);
      await world.pass(50);
    }
    t.same(world.record.open, open);
    t.same(world.record.planned, planned);
  },
);

t.test('a lost data page at the end of the log costs itself, not the volume', async (t) => {
  const world = new OwnerWorld();
  const first = await world.serving();
  await world.appended(first, 20);
  const { segment, firstPage } = first.acked[11] as { segment: SegmentId; firstPage: number };
  for (const node of world.nodes) node.lost.add(`${segment} ${firstPage}`);
  first.process.kill();
  const second = await world.serving();
  t.same(await world.replayed(second), expectedLog(20));
  let code: string | undefined;
  second.owner.readPages(segment, firstPage, 1, (error) => {
    code = error?.code;
  });
  await world.until(() => code !== undefined);
  t.equal(code, 'DATA_LOST');
  await world.appended(second, 5);
  t.same(await world.replayed(second), expectedLog(25));
});

/** An owner in a world where no node has one of the pages that it wrote. */
async function withLostPage() {
  const world = new OwnerWorld();
  const one = await world.serving();
  await world.appended(one, 5);
  const { segment, firstPage } = one.acked[3] as { segment: SegmentId; firstPage: number };
  const page = `${segment} ${firstPage}`;
  for (const node of world.nodes) node.lost.add(page);
  const told: { code: string | null } = { code: null };
  /** Each call to the metadata store takes so long from now on. */
  const slowStore = (): void => {
    for (let i = 0; i < 50; i++) one.trips.push(() => ({ requestMs: 3_000, replyMs: 1 }));
  };
  const read = (): void => {
    one.owner.readPages(segment, firstPage, 1, (error) => {
      told.code = error?.code ?? 'OK';
    });
  };
  return { world, one, page, told, slowStore, read };
}

t.test('pages are not said to be lost by what nodes answered long before', async (t) => {
  const { world, one, page, told, read } = await withLostPage();
  one.trips.push(() => ({ requestMs: 4_000, replyMs: 1 }));
  read();
  await world.pass(2_000);
  t.equal(told.code, null, 'the metadata store is asked first');
  for (const node of world.nodes) node.lost.delete(page);
  await world.until(() => told.code !== null);
  t.equal(told.code, 'OK', 'the disks are back');
});

t.test('a loss is told while the metadata store is slow at each call', async (t) => {
  const { world, told, slowStore, read } = await withLostPage();
  slowStore();
  read();
  await world.pass(30_000);
  t.equal(told.code, 'DATA_LOST');
});

t.test('a loss that was said once is no reason to believe one long after', async (t) => {
  const { world, one, page, told, slowStore, read } = await withLostPage();
  slowStore();
  read();
  await world.pass(2_000);
  const node = world.node(0);
  node.state = 'down';
  await world.pass(60_000);
  t.equal(told.code, null, 'it may have the page');
  one.trips.length = 0;
  slowStore();
  // Its disk is opened a little later than the node answers.
  node.state = 'up';
  node.log.length = 0;
  await world.until(() => node.log.some(({ type }) => type === 'read'));
  await world.pass(1_000);
  node.lost.delete(page);
  await world.until(() => told.code !== null);
  t.equal(told.code, 'OK');
});

t.test('a loss that is said again is told as it is said, and not after the store', async (t) => {
  const { world, told, slowStore, read } = await withLostPage();
  slowStore();
  read();
  const reads = (): number => world.node(0).log.filter(({ type }) => type === 'read').length;
  let readAt = 0;
  for (let seen = 0; told.code === null; ) {
    await world.pass(20);
    if (reads() > seen) readAt = world.scheduler.now;
    seen = reads();
  }
  t.equal(told.code, 'DATA_LOST');
  t.ok(world.scheduler.now - readAt < 100, 'while no disk has it');
});
