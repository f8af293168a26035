/**
 * `holdfast log` and joining nodes on a real cluster: whatever ends a command, the next one works.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { readCluster } from '../../src/metadata/cluster.js';
import { CLUSTER_KEY } from '../../src/metadata/keys.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { openMetadata } from '../../src/metadata/open.js';
import { Cluster } from '../fixtures/cluster.js';
import { endAll, holdfastBin, type Process, startNode } from '../fixtures/processes.js';

t.setTimeout(200_000);
t.afterEach(async () => {
  await endAll();
});

t.test('a log command that fails or is stopped gives the volume back', async (t) => {
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  const where = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const start = (...args: string[]): Process => startNode(holdfastBin, [...args, ...where]);

  const append = start('log', 'append', cluster.volume);
  append.write('first');
  append.write('second');
  await append.line(/^1$/, 30_000);
  append.signal('SIGINT');
  t.same(await append.exited, { code: 30, signal: null });
  t.match(append.stderr, /stopped by SIGINT; each LSN printed is committed/);

  const beyond = start('log', 'read', cluster.volume, '--from', '1000');
  t.equal((await beyond.exited).code, 2, beyond.stderr);
  t.match(beyond.stderr, /ends before LSN 2/);

  const unread = start('log', 'read', cluster.volume);
  unread.child.stdout?.destroy();
  t.equal((await unread.exited).code, 0, unread.stderr);
  t.equal(unread.stderr, '');

  const read = start('log', 'read', cluster.volume);
  t.equal((await read.exited).code, 0, read.stderr);
  t.same(read.lines, ['first', 'second']);

  await Promise.all(cluster.nodes.slice(1).map((node) => node.kill()));
  const late = start('log', 'read', cluster.volume, '--timeout', '3');
  t.equal((await late.exited).code, 21, late.stderr);
  t.match(late.stderr, /^step 2 of 4, .*\n/, 'it says what it waits for, meanwhile');
  t.match(late.stderr, /could not be taken over in 3 s: step 2 of 4, .*holdfast status/);
});

t.test('whoever gives a takeover up is not left as the owner', async (t) => {
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  const where = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const start = (...args: string[]): Process => startNode(holdfastBin, [...args, ...where]);
  const owner = async (name: string): Promise<VolumeRecord['owner']> => {
    const shown = start('volume', 'show', name, '--json');
    await shown.exited;
    return (JSON.parse(shown.lines[0] ?? '') as VolumeRecord).owner;
  };
  await start('volume', 'create', 'db', '--size', '1GiB').exited;
  t.equal((await start('volume', 'check', 'db').exited).code, 0);
  t.equal((await start('log', 'read', cluster.volume).exited).code, 0);
  await Promise.all(cluster.nodes.slice(1).map((node) => node.kill()));

  const late = start('volume', 'check', 'db', '--timeout', '3s', '--json');
  t.equal((await late.exited).code, 21, late.stderr);
  t.match(JSON.parse(late.stderr), { error: { code: 'TIMEOUT' } }, 'nothing but the error');
  t.match(await owner('db'), { released: true });

  for (const [name, signal, ...args] of [
    ['db', 'SIGINT', 'volume', 'check'],
    [cluster.volume, 'SIGTERM', 'log', 'read'],
    [cluster.volume, 'SIGINT', 'log', 'append'],
  ] as const) {
    const stopped = start(...args, name);
    await stopped.until('progress', 30_000, () => /step 2 of 4/.test(stopped.stderr) || undefined);
    stopped.signal(signal);
    t.same(await stopped.exited, { code: 130, signal: null }, `${args.join(' ')}: ${signal}`);
    t.match(await owner(name), { released: true }, args.join(' '));
  }
  await Promise.all(cluster.nodes.slice(1).map((node) => node.start()));
  const read = start('log', 'read', cluster.volume);
  t.equal((await read.exited).code, 0, read.stderr);
});

t.test('a lost store is not given a new cluster beside its nodes, and is rebuilt', async (t) => {
  const cluster = await Cluster.start({ nodes: 1 });
  t.teardown(() => cluster.close());
  const where = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const create = ['volume', 'create', 'gone', '--size', '1GiB', '--replicas', '1', '--json'];
  const made = startNode(holdfastBin, [...create, '--label', 'log=plain', ...where]);
  t.equal((await made.exited).code, 0, made.stderr);
  const { volume: gone } = JSON.parse(made.lines[0] ?? '') as VolumeRecord;
  const append = startNode(holdfastBin, ['log', 'append', 'gone', ...where]);
  append.write('one');
  append.child.stdin?.end();
  t.equal((await append.exited).code, 0, append.stderr);
  const purge = startNode(holdfastBin, ['volume', 'rm', 'gone', '--purge', ...where]);
  t.equal((await purge.exited).code, 0, purge.stderr);
  const clock = nodeClock;
  const store = await openMetadata(cluster.etcd.url, { clock, random: nodeRandom, env: {} });
  const { cluster: id } = await readCluster(store);
  await store.transact([], [{ type: 'delete', key: CLUSTER_KEY }]);
  await store.close();
  const init = startNode(holdfastBin, ['cluster', 'init', ...where]);
  t.equal((await init.exited).code, 18, init.stderr);
  t.match(init.stderr, /has lost its cluster.*metadata rebuild/);
  const node = `127.0.0.1:${cluster.nodes[0]?.port}`;
  const other = `${id.startsWith('0') ? '1' : '0'}${id.slice(1)}`;
  const loss = ['--node', node, '--force', '--accept-loss', ...where];
  const typo = startNode(holdfastBin, ['metadata', 'rebuild', '--cluster', other, ...loss]);
  t.equal((await typo.exited).code, 20, typo.stderr);
  t.match(
    typo.stderr,
    /no node of this cluster answered.*nothing was changed\. .*correct --cluster/,
  );
  const args = ['metadata', 'rebuild', '--cluster', id, '--node', node, '--force', ...where];
  const rebuild = startNode(holdfastBin, args);
  t.equal((await rebuild.exited).code, 0, rebuild.stderr);
  t.match(rebuild.lines.join('\n'), /holds them now, as generation/);
  t.ok(rebuild.lines.includes(`  ${gone}: was purged; not rebuilt`), rebuild.lines.join('\n'));
});

t.test('a node with another secret is refused before it formats anything', async (t) => {
  const cluster = await Cluster.start({ nodes: 1 });
  t.teardown(() => cluster.close());
  const disk = join(cluster.root, 'joining');
  mkdirSync(disk);
  const other = join(cluster.root, 'other-secret');
  writeFileSync(other, 'another secret of this test, as long');
  const node = startNode(holdfastBin, [
    ...['node', '--data-dir', disk, '--listen', '127.0.0.1:0'],
    ...['--metadata', cluster.etcd.url, '--secret-file', other],
  ]);
  t.equal((await node.exited).code, 16, node.stderr);
  t.match(node.stderr, /secret is not the one/);
  t.same(readdirSync(disk), []);
});
