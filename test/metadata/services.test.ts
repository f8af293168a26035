/** Volumes, cluster, nodes, leader, directory and confirmations, on the simulated memory store. */
import { test } from 'tap';
import type { ClusterId, Incarnation, NodeId } from '../../src/core/ids.js';
import { epoch, revision } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { initCluster, readCluster } from '../../src/metadata/cluster.js';
import { MetadataConfirmations } from '../../src/metadata/confirmations.js';
import { DirectoryCache } from '../../src/metadata/directory-cache.js';
import { encodeNode, encodeVolume } from '../../src/metadata/encoding.js';
import { leaderKey, liveKey, nodeKey, volumeKey } from '../../src/metadata/keys.js';
import { LeaderElection } from '../../src/metadata/leader.js';
import type { Call, Trip } from '../../src/metadata/memory.js';
import { NodeRegistration } from '../../src/metadata/nodes.js';
import { claimEpoch, roll, sealAtTakeover } from '../../src/metadata/volume-record.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { at, blank, fresh, id, owner, segmentId, VOLUME } from './samples.js';
import { RecordedLog, SimStores } from './sim-store.js';

const NODE = id<NodeId>('1');
const CLUSTER = id<ClusterId>('c');
const record = {
  schema: 1,
  node: NODE,
  address: '127.0.0.1:7001',
  zone: 'a',
  disks: [{ incarnation: id<Incarnation>('d1'), capacityBytes: 1 << 30 }],
  version: '0.1.0',
};
const wanted = { name: 'db', kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;

function volumesOf(world: SimStores): Volumes {
  const { store, process } = world.connect();
  return new Volumes(store, process.clock, world.random);
}

test('a volume is created once, found by name, listed and grown', async (t) => {
  const world = new SimStores();
  const volumes = volumesOf(world);
  const both = await world.wait(
    Promise.allSettled([volumes.create(wanted), volumesOf(world).create(wanted)]),
  );
  t.same(both.map((one) => one.status).sort(), ['fulfilled', 'rejected'], 'one of two wins');
  t.equal(await world.codeOf(volumes.create(wanted)), 'ALREADY_EXISTS');
  await world.wait(volumes.create({ ...wanted, name: 'a.b-c_0' }));
  const found = await world.wait(volumes.byName('db'));
  t.equal(found.record.ackQuorum, 2);
  t.equal(found.record.epoch, 0);
  t.same(await world.wait(volumes.get(found.record.volume)), found);
  const names = (await world.wait(volumes.list())).map((one) => one.record.name);
  t.same(names, ['a.b-c_0', 'db']);
  t.equal(await world.codeOf(volumes.byName('none')), 'NOT_FOUND');
  const grown = await world.wait(volumes.grow(found.record.volume, (1 << 31) >>> 0));
  t.equal(grown.record.sizeBytes, 2 ** 31);
  t.equal(await world.codeOf(volumes.grow(found.record.volume, 1 << 30)), 'INVALID_ARGUMENT');
  const stale = claimEpoch(found.record, { owner: owner('a'), planned: [] });
  t.equal(await world.wait(volumes.swap(found, stale)), null, 'changed since');
  const next = claimEpoch(grown.record, { owner: owner('a'), planned: [] });
  t.not(await world.wait(volumes.swap(grown, next)), null);
});

test('what a user may ask for', async (t) => {
  const world = new SimStores();
  const volumes = volumesOf(world);
  const names = ['', '-a', 'a-', 'A', 'a/b', '..', 'a b', 'é', 'a'.repeat(129)];
  for (const name of names) {
    t.throws(() => volumes.make({ ...wanted, name }), { code: 'INVALID_ARGUMENT' }, name);
  }
  for (const name of ['a', '0', 'a'.repeat(128), 'a..b']) t.ok(volumes.make({ ...wanted, name }));
  for (const sizeBytes of [0, 1.5, Number.NaN, 2 ** 60]) {
    t.throws(() => volumes.make({ ...wanted, sizeBytes }), { code: 'INVALID_ARGUMENT' });
  }
  const allowed: Record<number, number[]> = { 1: [1], 2: [2], 3: [2, 3], 4: [], 5: [3, 4, 5] };
  for (const [replicas, quorums] of Object.entries(allowed)) {
    for (let ackQuorum = 0; ackQuorum <= 6; ackQuorum++) {
      const make = () => volumes.make({ ...wanted, replicas: Number(replicas), ackQuorum });
      if (quorums.includes(ackQuorum)) t.equal(make().ackQuorum, ackQuorum);
      else t.throws(make, { code: 'INVALID_ARGUMENT' }, `${ackQuorum} of ${replicas}`);
    }
  }
});

test('a volume under a wrong id or a wrong name is not believed', async (t) => {
  const world = new SimStores();
  const volumes = volumesOf(world);
  const other = id<typeof VOLUME>('bad');
  world.server.transact([], [{ type: 'put', key: volumeKey(other), value: encodeVolume(blank) }]);
  t.equal(await world.codeOf(volumes.get(other)), 'INCONSISTENT');
  world.server.transact([], [{ type: 'put', key: '/holdfast/v1/names/x', value: VOLUME }]);
  t.equal(await world.codeOf(volumes.byName('x')), 'INCONSISTENT');
});

test('the cluster is made once', async (t) => {
  const world = new SimStores();
  const one = world.connect();
  const two = world.connect();
  t.equal(await world.codeOf(readCluster(one.store)), 'NOT_FOUND');
  const [a, b] = await world.wait(
    Promise.all([
      initCluster(one.store, one.process.clock, world.random),
      initCluster(two.store, two.process.clock, world.random),
    ]),
  );
  t.same(a, b);
  const again = await world.wait(initCluster(two.store, two.process.clock, world.random));
  t.same(again, a);
  t.equal(again.cluster, a.cluster as ClusterId);
});

/** A node that began to register a minute ago, and what it was told of its registration. */
async function registering() {
  const world = new SimStores();
  const calls: string[] = [];
  const trip = ({ type }: Call): Trip => {
    calls.push(type);
    return {};
  };
  const { store, process } = world.connect({ trip });
  const changes: boolean[] = [];
  const registration = new NodeRegistration({
    store,
    clock: process.clock,
    log: silentLog,
    record,
    cluster: CLUSTER,
    onChange: (registered) => changes.push(registered),
  });
  registration.start();
  await world.pass(60_000);
  return { world, store, process, calls, changes, registration };
}

test('a node stays registered, and registers again after an outage', async (t) => {
  const { world, store, calls, changes, registration } = await registering();
  t.same(calls.slice(-4), ['keepAlive', 'transact', 'keepAlive', 'transact'], 'two calls a turn');
  t.ok(world.server.peek(nodeKey(NODE)));
  t.equal(world.server.peek(liveKey(NODE))?.value, record.address);
  const kept = world.server.peek(liveKey(NODE))?.modRevision;
  t.equal(kept, world.server.revision, 'a lease renewed writes nothing');
  store.setReachable(false);
  await world.pass(30_000);
  t.equal(world.server.peek(liveKey(NODE)), null);
  t.ok(world.server.peek(nodeKey(NODE)), 'the record stays');
  store.setReachable(true);
  await world.pass(5_000);
  t.ok(world.server.peek(liveKey(NODE)));
  t.same(changes, [true, false, true]);
  registration.update({ ...record, address: '127.0.0.1:7002' });
  await world.pass(1_000);
  t.equal(world.server.peek(liveKey(NODE))?.value, '127.0.0.1:7002');
  await world.wait(registration.stop());
  t.equal(world.server.peek(liveKey(NODE)), null, 'an orderly stop says so at once');
});

test('a node registers again in a store put back, and never in another cluster', async (t) => {
  const { world, process, changes, registration } = await registering();
  t.same(changes, [true], 'also while the store holds no cluster at all');
  const older = encodeNode({ ...record, address: '127.0.0.1:6000' });
  world.server.transact(
    [],
    [
      { type: 'put', key: nodeKey(NODE), value: older },
      { type: 'delete', key: liveKey(NODE) },
    ],
  );
  await world.pass(20_000);
  t.equal(world.server.peek(nodeKey(NODE))?.value, encodeNode(record), 'not the imported one');
  t.ok(world.server.peek(liveKey(NODE)));
  world.server.transact([], [{ type: 'delete', key: liveKey(NODE) }]);
  await world.pass(20_000);
  t.ok(world.server.peek(liveKey(NODE)), 'nor without its live key');

  await world.wait(initCluster(world.connect().store, process.clock, world.random));
  world.server.transact([], [{ type: 'delete', key: nodeKey(NODE) }]);
  await world.pass(60_000);
  t.same(changes, [true, false], 'the store holds another cluster now');
  t.equal(world.server.peek(nodeKey(NODE)), null);
  t.equal(world.server.peek(liveKey(NODE)), null, 'its lease ran out');
  await world.wait(registration.stop());
});

test('a node that died before an outage is not called live after it', async (t) => {
  const world = new SimStores();
  const { store, process } = world.connect();
  const { clock } = process;
  const directory = new DirectoryCache({ store, clock, log: new RecordedLog() });
  const outage = async (ms: number): Promise<void> => {
    store.setReachable(false);
    await world.pass(ms);
    store.setReachable(true);
    await world.until(() => directory.connected);
  };
  const put = { type: 'put', key: liveKey(NODE), value: 'a' } as const;
  world.server.transact([], [put]);
  await world.pass(1_000);
  await outage(10_000);
  await world.pass(60_000);
  t.ok(directory.isLive(NODE));
  world.server.transact([], [{ type: 'delete', key: liveKey(NODE) }]);
  await world.pass(1_000);
  t.notOk(directory.isLive(NODE), 'it has died');
  await outage(1_000);
  t.notOk(directory.isLive(NODE), 'and an outage does not bring it back');
  world.server.transact([], [put]);
  await world.pass(1_000);
  store.setReachable(false);
  await world.pass(1_000);
  world.server.transact([], [{ type: 'delete', key: liveKey(NODE) }]);
  store.setReachable(true);
  await world.until(() => directory.connected);
  await outage(1_000);
  t.ok(directory.isLive(NODE), 'one that lived has its time after the second of two outages, too');
  directory.close();
});

test('the directory answers while the store is away and gives grace afterwards', async (t) => {
  const world = new SimStores();
  const { store, process } = world.connect();
  const log = new RecordedLog();
  let ready = 0;
  const options = { store, clock: process.clock, log, onReady: () => void ready++ };
  const directory = new DirectoryCache(options);
  await world.pass(10);
  t.equal(ready, 1);
  t.equal(directory.address(NODE), null);
  const node = world.connect();
  const registration = new NodeRegistration({
    store: node.store,
    clock: node.process.clock,
    log: silentLog,
    record,
    cluster: CLUSTER,
  });
  registration.start();
  await world.pass(100);
  t.equal(directory.address(NODE), record.address);
  t.ok(directory.isLive(NODE));
  store.setReachable(false);
  node.store.setReachable(false);
  await world.pass(60_000);
  t.equal(directory.connected, false);
  t.ok(directory.isLive(NODE), 'stale, but not invented');
  t.equal(directory.address(NODE), record.address);
  store.setReachable(true);
  await world.pass(29_000);
  t.ok(directory.isLive(NODE), 'its lease ran out in the outage: no judgement yet');
  await world.pass(2_000);
  t.notOk(directory.isLive(NODE));
  node.store.setReachable(true);
  await world.pass(5_000);
  t.ok(directory.isLive(NODE));
  world.server.transact([], [{ type: 'put', key: nodeKey(NODE), value: '{' }]);
  await world.pass(10);
  t.equal(directory.address(NODE), record.address, 'the last good record stays');
  t.match(log.messages, [/cannot be read/]);
  world.server.transact([], [{ type: 'delete', key: nodeKey(NODE) }]);
  await world.pass(10);
  t.equal(directory.address(NODE), null);
  directory.close();
});

test('one leader at a time, and the next one after it', async (t) => {
  const world = new SimStores();
  const candidates = ['a', 'b', 'c'].map((candidate) => {
    const { store, process } = world.connect();
    const changes: boolean[] = [];
    const election = new LeaderElection({
      store,
      clock: process.clock,
      role: 'controller',
      candidate,
      onChange: (leading) => changes.push(leading),
    });
    election.start();
    return { store, process, election, changes };
  });
  const leaders = () => candidates.filter((one) => one.election.leading);
  let most = 0;
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      await world.pass(100);
      most = Math.max(most, leaders().length);
    }
  };
  await pass(60_000);
  t.equal(leaders().length, 1);
  const [first] = leaders();
  const guard = first?.election.guard;
  first?.store.setReachable(false);
  await pass(7_900);
  t.equal(first?.election.leading, false, 'steps down before its lease can end');
  await pass(30_000);
  const [second] = leaders();
  t.not(second, first);
  t.ok(second, 'another one leads');
  first?.store.setReachable(true);
  const late = first?.store.transact(guard === undefined ? [] : [guard], []);
  t.equal((await world.wait(late ?? Promise.reject(new Error()))).committed, false, 'fenced');
  await world.wait(second?.election.stop() ?? Promise.resolve());
  await pass(5_000);
  t.equal(leaders().length, 1, 'after an orderly stop at once');
  t.equal(most, 1, 'never two');
  t.same(first?.changes.slice(0, 2), [true, false]);
});

test('who leads counts from when its lease was renewed, however late it hears of it', async (t) => {
  const world = new SimStores();
  let renewals = Number.NEGATIVE_INFINITY;
  const { store, process } = world.connect({
    trip: ({ type }): Trip => {
      if (type !== 'keepAlive') return {};
      renewals += 1;
      return renewals === 1 ? { replyMs: 4_900 } : renewals > 1 ? { lost: 'request' } : {};
    },
  });
  const election = new LeaderElection({
    ...{ store, clock: process.clock, role: 'controller', candidate: 'a' },
    onChange: () => {},
  });
  election.start();
  await world.pass(5_000);
  const { key } = election.guard;
  renewals = 0;
  while (renewals < 1) await world.pass(50);
  await world.pass(7_500);
  t.ok(election.leading, 'the renewal counts');
  while (election.leading) await world.pass(50);
  t.not(world.server.peek(key), null, 'and no longer than the store holds its key');
  await world.wait(election.stop());
});

test('a leader whose key was taken away leads no more, and stands again', async (t) => {
  const world = new SimStores();
  const { store, process } = world.connect();
  const changes: boolean[] = [];
  const election = new LeaderElection({
    ...{ store, clock: process.clock, role: 'controller', candidate: 'a' },
    onChange: (leading) => changes.push(leading),
  });
  election.start();
  await world.pass(5_000);
  t.ok(election.leading);
  // As an import does; the lease lives on.
  await world.wait(store.transact([], [{ type: 'delete', key: leaderKey('controller') }]));
  await world.pass(20_000);
  t.ok(election.leading);
  const { committed } = await world.wait(store.transact([election.guard], []));
  t.ok(committed, 'its guard holds');
  t.same(changes, [true, false, true]);
  await world.wait(election.stop());
});

test('a node is told yes only for what the record says', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  const confirmations = new MetadataConfirmations(store, silentLog);
  const ask = (start: (done: (answer: string) => void) => void): Promise<string> =>
    world.wait(
      new Promise((resolve) => {
        start((answer) => {
          resolve(answer);
          world.scheduler.notePromise();
        });
      }),
    );
  const { end, crc } = at('1', 4, 9);
  const sealed = (segment: string, pages: number, sum: number): Promise<string> =>
    ask((done) => {
      confirmations.sealed(VOLUME, segmentId(segment), at('1', pages, 9).end, sum, done);
    });
  const deletable = (segment: string, since: number): Promise<string> =>
    ask((done) => confirmations.deletable(VOLUME, segmentId(segment), revision(since), done));
  t.equal(await sealed('1', 4, crc), 'refused', 'no record is no evidence');
  t.equal(await deletable('4', 0), 'refused');
  const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
  const promote = [segmentId('1'), segmentId('2')];
  const one = epoch(1);
  const serving = sealAtTakeover(claimed, { epoch: one, ends: [], promote, plan: [fresh('4')] });
  const rolled = roll(serving, { epoch: one, sealed: at('1', 4, 9), promote: null, plan: [] });
  const again = claimEpoch(rolled, { owner: owner('b'), planned: [] });
  const written = world.server.transact(
    [],
    [{ type: 'put', key: volumeKey(VOLUME), value: encodeVolume(again) }],
  );
  t.equal(end, 4 * 4096);
  t.equal(await sealed('1', 4, crc), 'confirmed');
  t.equal(await sealed('1', 5, crc), 'refused', 'another end');
  t.equal(await sealed('1', 4, crc + 1), 'refused', 'another crc');
  t.equal(await sealed('2', 4, crc), 'refused', 'open');
  t.equal(await deletable('4', written.revision), 'confirmed');
  t.equal(await deletable('4', written.revision + 1), 'refused', 'not as of then');
  t.equal(await deletable('1', 0), 'refused', 'sealed');
  world.server.transact([], [{ type: 'put', key: volumeKey(VOLUME), value: '{"schema":2}' }]);
  t.equal(await deletable('4', 0), 'unavailable', 'a record that cannot be read');
  store.setReachable(false);
  t.equal(await sealed('1', 4, crc), 'unavailable');
});
