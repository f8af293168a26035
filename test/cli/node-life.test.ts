/**
 * `holdfast node` from its first start to its stop: formatting, the ready line, settings from
 * flags, environment and file, monitoring, outages of the metadata store, strangers, signals. Real
 * processes.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DISK_MAX_THREADS, NODE_MAX_DISKS, NODE_SPARE_THREADS } from '../../src/core/limits.js';
import { parseAddress } from '../../src/io/address.js';
import { startEtcd } from '../fixtures/etcd.js';
import type { Process } from '../fixtures/processes.js';
import { contents, holdfast, Place, type Ready } from './node-fixture.js';

/** The limit of a node under load; how much an idle one takes depends on garbage collection. */
const BARE_RSS_MAX_BYTES = 200 * 2 ** 20;
/** Generous: other tests run at the same time. */
const PATIENCE_MS = 30_000;

async function fetchJson(
  ready: Ready,
  path: string,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`http://${ready.metrics}${path}`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function eventually(t: Test, what: string, test: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await test())) {
    if (Date.now() > deadline) {
      t.fail(what);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.pass(what);
}

const isReady = async (ready: Ready): Promise<boolean> =>
  (await fetchJson(ready, '/ready')).status === 200;

function residentBytes(child: Process): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

function threadsOf(child: Process): number {
  return readdirSync(`/proc/${child.pid}/task`).length;
}

t.test('a node formats, serves, is watched, stops, and comes back as itself', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const args = place.args(directory, '--metrics-listen', '127.0.0.1:0', '--zone', 'r1');
  const { child, ready } = await place.start(t, args);
  t.match(ready, { pid: child.pid, advertise: ready.address, node: /^[0-9a-f]{32}$/ });
  await eventually(t, 'it becomes ready', () => isReady(ready));
  const health = await fetchJson(ready, '/health');
  t.match(health, { status: 200, body: { ok: true, reasons: [] } });
  const metrics = await (await fetch(`http://${ready.metrics}/metrics`)).text();
  t.match(metrics, /^holdfast_disk_state\{disk="[0-9a-f]{32}",state="ok"\} 1$/m);
  t.match(metrics, /^holdfast_disk_journal_bytes\{.*\} 4194304$/m);
  t.match(metrics, /^# TYPE holdfast_request_duration_seconds histogram$/m);
  t.match(metrics, /^holdfast_registered 1$/m);
  t.match(metrics, /^# TYPE holdfast_disk_scrub_rotten_copies gauge$/m);
  t.equal((await fetch(`http://${ready.metrics}/other`)).status, 404);
  t.equal((await fetch(`http://${ready.metrics}/health`, { method: 'POST' })).status, 405);
  const rss = residentBytes(child);
  t.ok(rss < BARE_RSS_MAX_BYTES, `${Math.round(rss / 2 ** 20)} MiB resident`);
  t.equal(await child.stop(), 0);
  t.match(child.stderr, /"reason":"SIGTERM"/);
  t.notMatch(contents(directory).join(), /(?:^|,)lock/, 'the lock is gone');

  const again = await place.start(t, args);
  t.equal(again.ready.node, ready.node);
  t.equal(again.ready.cluster, ready.cluster);
});

t.test('a node takes a further, empty directory as a new disk', async (t) => {
  const place = await Place.make(t);
  const first = await place.formatted(t, 'first');
  const more = ['--data-dir', place.directory('second'), '--metrics-listen', '127.0.0.1:0'];
  const { ready } = await place.start(t, place.args(first, ...more));
  const metrics = await (await fetch(`http://${ready.metrics}/metrics`)).text();
  t.equal(metrics.match(/^holdfast_disk_bytes/gm)?.length, 2);
});

t.test('the thread pool has room for all disks, wherever they are named', async (t) => {
  const place = await Place.make(t);
  const args = ['node', '--listen', '127.0.0.1:0', '--metadata', place.metadata, '--json'];
  const secret = ['--secret-file', place.secretFile];
  const file = join(place.root, 'config.json');
  writeFileSync(file, JSON.stringify({ node: { dataDir: [place.directory('c')] } }));
  const two = [`--data-dir=${place.directory('a')}`, '--data-dir', place.directory('b')];
  const dirs = ['d', 'e', 'f'].map((name) => place.directory(name)).join();
  const cases: [string, readonly string[], Record<string, string>, number][] = [
    ['flags', two, {}, 2],
    ['the environment', [], { HOLDFAST_DATA_DIR: dirs }, 3],
    ['a file', ['--config', file], {}, NODE_MAX_DISKS],
  ];
  const { child: least } = await place.start(t, [...args, ...secret, ...two], {
    UV_THREADPOOL_SIZE: '1',
  });
  const others = threadsOf(least) - 1;
  await least.stop();
  for (const [name, more, env, disks] of cases) {
    const { child } = await place.start(t, [...args, ...secret, ...more], env);
    const wanted = disks * DISK_MAX_THREADS + NODE_SPARE_THREADS;
    const pool = threadsOf(child) - others;
    // The database of the embedded metadata store has a thread now and then.
    t.ok(Math.abs(pool - wanted) < DISK_MAX_THREADS / 2, `${name}: ${pool} of ${wanted}`);
    await child.stop();
  }
});

t.test(
  'flags win over the environment, that over the file, its own part over the rest',
  async (t) => {
    const place = await Place.make(t);
    const file = join(place.root, 'config.json');
    const dataDir = [place.directory('data')];
    const node = { dataDir, journalSize: '4MiB', advertise: '127.0.0.1:3', json: true };
    const shared = { metadata: place.metadata, secretFile: '/no/such/file', listen: '127.0.0.1:0' };
    writeFileSync(file, JSON.stringify({ ...shared, advertise: '127.0.0.1:4', node }));
    const env = { HOLDFAST_CONFIG: file, HOLDFAST_SECRET_FILE: place.secretFile };
    const fromFile = await place.start(t, ['node'], env);
    t.equal(fromFile.ready.advertise, '127.0.0.1:3');
    await fromFile.child.stop();
    const fromEnv = await place.start(t, ['node'], { ...env, HOLDFAST_ADVERTISE: '127.0.0.1:2' });
    t.equal(fromEnv.ready.advertise, '127.0.0.1:2');
    await fromEnv.child.stop();
    const flags = ['node', '--advertise', '127.0.0.1:1'];
    const fromFlag = await place.start(t, flags, { ...env, HOLDFAST_ADVERTISE: '127.0.0.1:2' });
    t.equal(fromFlag.ready.advertise, '127.0.0.1:1');
  },
);

t.test('a formatted node serves while etcd is down, and registers when it is back', async (t) => {
  const place = await Place.make(t);
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  await place.addCluster(etcd.url);
  const directory = place.directory('data');
  const more = ['--metadata', etcd.url, '--metrics-listen', '127.0.0.1:0'];
  const first = await place.start(t, place.args(directory, ...more));
  await eventually(t, 'registered', () => isReady(first.ready));
  await first.child.stop();
  const [member] = etcd.members;
  await member?.kill();
  const second = await place.start(t, place.args(directory, ...more));
  const { status, body } = await fetchJson(second.ready, '/ready');
  t.equal(status, 503);
  t.match(body, { ok: false, reasons: [/not registered/] });
  t.equal((await fetchJson(second.ready, '/health')).status, 200);
  await member?.restart();
  await eventually(t, 'registered after the outage', () => isReady(second.ready));
  await member?.kill();
  t.equal(await second.child.stop(), 0, 'it stops in time without etcd');
});

t.test('strangers are shut out and the node goes on', async (t) => {
  const place = await Place.make(t);
  const { child, ready } = await place.start(t, place.args(place.directory('data')));
  const { host, port } = parseAddress(ready.address);
  const say = (bytes: Buffer): Promise<Buffer> =>
    new Promise((resolve) => {
      const heard: Buffer[] = [];
      const socket = createConnection(port, host, () => socket.write(bytes));
      socket.on('data', (data) => heard.push(data));
      socket.on('error', () => {});
      socket.on('close', () => resolve(Buffer.concat(heard)));
    });
  t.equal(
    (await say(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).length,
    0,
    'no word to who speaks HTTP',
  );
  // HELLO of a program that speaks protocol 9 to 9 only: refused, with what this node speaks.
  const hello = Buffer.from(`4846485301${'0900'}${'0900'}${'00'.repeat(81)}`, 'hex');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(hello.length);
  const answer = await say(Buffer.concat([length, hello]));
  t.equal(answer.toString('hex'), `0a000000${'4846485305'}${'02'}${'0100'}${'0300'}`);
  t.match(child.stderr, /"code":"VERSION"/);
  t.match(child.stderr, /"code":"MALFORMED"/);
  t.equal(await child.stop(), 0);
});

t.test('a node ends with its parent’s pipe, if told to', async (t) => {
  const place = await Place.make(t);
  const args = place.args(place.directory('data'), '--exit-with-stdin');
  const { child } = await place.start(t, args);
  child.child.stdin?.end();
  t.equal((await child.exited).code, 0);
});

t.test(
  'a stop is bounded when the metadata store hangs; a second signal ends it at once',
  async (t) => {
    const place = await Place.make(t);
    const etcd = await startEtcd();
    t.teardown(() => etcd.close());
    await place.addCluster(etcd.url);
    const more = ['--metadata', etcd.url, '--metrics-listen', '127.0.0.1:0'];
    const nodes = [];
    for (const name of ['patient', 'hasty']) {
      const node = await place.start(t, place.args(place.directory(name), ...more));
      await eventually(t, 'registered', () => isReady(node.ready));
      nodes.push(node.child);
    }
    const [patient, hasty] = nodes as [Process, Process];
    await etcd.members[0]?.pause();
    for (const child of [patient, hasty]) child.signal('SIGTERM');
    await hasty.until('the stop begins', PATIENCE_MS, () =>
      hasty.stderr.includes('Stopping') ? true : undefined,
    );
    hasty.signal('SIGINT');
    t.same(await hasty.exited, { code: 130, signal: null });
    t.same(await patient.exited, { code: 0, signal: null });
    etcd.members[0]?.resume();
  },
);

t.test('help says everything, costs little, and exits with 0', async (t) => {
  const help = await holdfast(['node', '--help']);
  t.equal(help.code, 0);
  for (const word of ['--data-dir', '--secret-file', 'Examples:', 'HOLDFAST_DATA_DIR']) {
    t.match(help.out, word);
  }
  const top = await holdfast(['--help']);
  t.match(top.out, /Exit codes:[\s\S]*26 DISK_IN_USE[\s\S]*70 a bug/);
});
