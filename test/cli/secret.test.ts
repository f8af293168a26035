/**
 * What commands say to a wrong secret: that, and never that all nodes are down and all data lost.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Finding } from '../../src/cli/findings.js';
import { Cluster } from '../fixtures/cluster.js';
import { endAll } from '../fixtures/processes.js';
import { type Ended, holdfast, refused } from './node-fixture.js';

t.setTimeout(200_000);
const cluster = await Cluster.start();
t.teardown(async () => {
  await endAll();
  await cluster.close();
});
const wrong = join(cluster.root, 'wrong');
writeFileSync(wrong, 'not the secret of this cluster, at all');
const to = (secretFile: string): string[] => [
  ...['--metadata', cluster.etcd.url, '--secret-file', secretFile],
];
const run = (args: readonly string[], secretFile = cluster.secretFile): Promise<Ended> =>
  holdfast([...args, ...to(secretFile)], { HOLDFAST_RUN_DIR: join(cluster.root, 'run') });

/** What was given up of the volume. */
async function givenUp(): Promise<unknown> {
  const shown = await run(['volume', 'show', 'events', '--json']);
  return JSON.parse(shown.out).givenUp;
}

t.test('a wrong secret is said by whatever asks nodes, before anything else', async (t) => {
  const read = await run(['log', 'read', 'events']);
  t.equal(read.code, 0, read.err);
  const made = await run(['volume', 'create', 'db', '--size', '1GiB']);
  t.equal(made.code, 0, made.err);
  const address = `127.0.0.1:${cluster.nodes[0]?.port}`;
  const { cluster: id } = JSON.parse((await run(['cluster', 'show', '--json'])).out);
  const file = join(cluster.root, 'export');
  t.equal((await run(['metadata', 'export', file])).code, 0);
  const commands = [
    ['status'],
    ['volume', 'recover', 'events'],
    ['volume', 'recover', 'events', '--accept-loss'],
    ['volume', 'check', 'db'],
    ['volume', 'fence', 'events'],
    ['scrub'],
    ['node', 'rm', address, '--force', '--accept-loss'],
    ['volume', 'rm', 'db', '--purge'],
    ['metadata', 'rebuild', '--cluster', id, '--node', address, '--accept-loss', '--force'],
    ['metadata', 'import', file, '--accept-loss', '--force'],
    ['volume', 'purge', '--expired'],
    ['log', 'read', 'events'],
  ];
  for (const args of commands) {
    const words = /the secret is not the one that the nodes .* Copy the secret file of a node/;
    refused(t, await run(args, wrong), 16, words, args.join(' '));
  }
  t.equal(await givenUp(), null, 'nothing was given up');
  const doctor = await run(['doctor', '--json'], wrong);
  t.equal(doctor.code, 3, doctor.err);
  const { findings } = JSON.parse(doctor.out) as { findings: Finding[] };
  const bad = findings.filter(({ level }) => level === 'problem');
  t.match(
    bad.find(({ check }) => check === 'secret'),
    { message: /not the one/, advice: /^Copy the secret file/ },
  );
  t.notOk(bad.some(({ check }) => check === 'nodes' || check === 'volumes'));
  t.equal((await run(['status'])).code, 0, 'all is well');
});

t.test('a loss is noted only once the volume was taken over without it', async (t) => {
  const worker = cluster.worker();
  await worker.line(/serving/, 30_000);
  await worker.kill();
  const [first, second] = cluster.nodes;
  await Promise.all([first?.kill(), second?.kill()]);
  // Their registrations stand for a moment: the taker waits for them, longer than it may.
  const recover = ['volume', 'recover', 'events', '--accept-loss', '--timeout', '2s'];
  const late = await run(recover);
  t.equal(late.code, 21, late.err);
  t.equal(await givenUp(), null);
});
