/** The etcd store through outages of a real etcd: nothing lost, nothing promised that is not so. */
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { openMetadata } from '../../src/metadata/open.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { Recorder } from '../contract/metadata-store.js';
import { freePorts, startEtcd } from '../fixtures/etcd.js';
import { realClock, realRandom, until } from './real-parts.js';

const parts = { clock: realClock, random: realRandom, env: {} };
const put = (key: string, value: string) => ({ type: 'put', key, value }) as const;

/** Writes until it is known to have landed. */
async function surely(store: MetadataStore, key: string, value: string): Promise<void> {
  await until(`${key} is written`, async () => {
    try {
      return (await store.transact([], [put(key, value)])).committed;
    } catch (error) {
      const { code } = error as HoldfastError;
      if (code !== 'UNKNOWN_OUTCOME' && code !== 'UNAVAILABLE') throw error;
      return false;
    }
  });
}

test('a watch survives a restart and a compaction while disconnected', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  const [member] = etcd.members;
  const store = await openMetadata(etcd.url, parts);
  t.teardown(() => store.close());
  const recorder = new Recorder();
  store.watch('/w/', recorder);
  await until('the snapshot', () => recorder.snapshots === 1);
  await store.transact([], [put('/w/a', '1'), put('/w/gone', '1')]);
  await until('the event', () => recorder.state.get('/w/a') === '1');
  await member?.kill();
  await until('it notices', () => recorder.connected === false);
  t.equal(recorder.state.get('/w/a'), '1', 'what was known stays');
  await member?.restart();
  // Without this watch: changes, and a compaction that takes their history away.
  await etcd.ctl('put', '/w/a', '2');
  await etcd.ctl('del', '/w/gone');
  const status = JSON.parse(await etcd.ctl('endpoint', 'status', '-w', 'json'));
  await etcd.ctl('compact', String(status[0].Status.header.revision));
  await until('all is known again', () => recorder.state.get('/w/a') === '2');
  await until('the deletion as well', () => !recorder.state.has('/w/gone'));
  t.ok(recorder.snapshots >= 2);
  await surely(store, '/w/b', '3');
  await until('events again', () => recorder.state.get('/w/b') === '3');
  t.same(recorder.problems, []);
});

test('a paused etcd: bounded answers, and the transaction has an unknown outcome', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  const [member] = etcd.members;
  const store = await openMetadata(etcd.url, { ...parts, timeoutMs: 1_500 });
  t.teardown(() => store.close());
  await store.transact([], [put('/p/a', '0')]);
  const lease = await store.grantLease(30);
  await member?.pause();
  const began = performance.now();
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => 'no error',
      (error: HoldfastError) => error.code,
    );
  const codes = await Promise.all([
    code(store.get('/p/a')),
    code(store.range('/p/')),
    code(store.transact([], [put('/p/a', '1')])),
    code(lease.keepAlive()),
    code(store.grantLease(30)),
  ]);
  const took = performance.now() - began;
  const expected = ['TIMEOUT', 'TIMEOUT', 'UNKNOWN_OUTCOME', 'TIMEOUT', 'TIMEOUT'];
  t.same(codes, expected);
  t.ok(took >= 1_400 && took < 4_000, `in bounded time: ${Math.round(took)} ms`);
  member?.resume();
  await until('it answers again', async () => (await code(store.get('/p/a'))) === 'no error');
  t.equal(await lease.keepAlive(), true);
});

test('close while etcd is silent ends what waits', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  const store = await openMetadata(etcd.url, parts);
  store.watch('/c/', new Recorder());
  await store.get('/c/a');
  await etcd.members[0]?.pause();
  const read = store.get('/c/a');
  const swap = store.transact([], [put('/c/a', '1')]);
  await sleep(100);
  const began = performance.now();
  await Promise.all([
    t.rejects(read, { code: 'CLOSED' }),
    t.rejects(swap, { code: 'UNKNOWN_OUTCOME' }),
    store.close(),
  ]);
  t.ok(performance.now() - began < 1_000);
});

test('three members: a dead endpoint, and the loss of the leader', async (t) => {
  const etcd = await startEtcd({ members: 3 });
  t.teardown(() => etcd.close());
  const [dead = 0] = await freePorts(1);
  const began = performance.now();
  const hosts = [`127.0.0.1:${dead}`, ...etcd.endpoints].join(',');
  const store = await openMetadata(`etcd://${hosts}`, parts);
  t.teardown(() => store.close());
  t.ok(performance.now() - began < 4_000, 'the next endpoint answers');
  const recorder = new Recorder();
  store.watch('/l/', recorder);
  await until('the snapshot', () => recorder.snapshots === 1);

  // A counter that is swapped all the time: each success must be there in the end, once.
  let stop = false;
  let successes = 0;
  const unknown: string[] = [];
  let serial = 0;
  const writer = (async () => {
    while (!stop) {
      const name = `/l/${serial++}`;
      try {
        const result = await store.transact(
          [{ key: name, modRevision: 0 as never }],
          [put(name, 'x')],
        );
        if (!result.committed) throw new Error(`${name}: sent twice`);
        successes += 1;
      } catch (error) {
        const { code } = error as HoldfastError;
        if (code === 'UNKNOWN_OUTCOME') unknown.push(name);
        else if (code !== 'UNAVAILABLE') throw error;
      }
      await sleep(5);
    }
  })();
  await until('it writes', () => successes > 20);
  const leader = await etcd.leader();
  await leader.kill();
  const before = successes;
  await until('it writes again', () => successes > before + 20);
  stop = true;
  await writer;
  const { entries, revision } = await store.range('/l/');
  const there = new Set(entries.map((entry) => entry.key));
  const landed = unknown.filter((name) => there.has(name)).length;
  t.equal(there.size, successes + landed, 'no false success, no second execution');
  await until('the watch knows all', () => recorder.state.size === there.size);
  t.ok(recorder.revision >= revision || recorder.state.size === there.size);
  t.same(recorder.problems, []);
  t.comment(`${successes} written, ${unknown.length} unknown of which ${landed} landed`);

  // A member without a quorum must not answer.
  const rest = etcd.members.filter((member) => member !== leader);
  await rest[0]?.kill();
  const short = await openMetadata(`etcd://${rest[1]?.endpoint}`, {
    ...parts,
    timeoutMs: 1_500,
  }).then(
    () => 'answered',
    (error: HoldfastError) => error.code,
  );
  t.match(short, /TIMEOUT|UNAVAILABLE/);
  await until('the watch says that it is cut off', () => recorder.connected === false);
});
