/** A volume's life as a shell sees it, on real nodes and etcd: grown, removed, restored, purged. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { silentLog } from '../../src/io/log.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { METADATA_SCHEMA } from '../../src/metadata/model.js';
import { openMetadata } from '../../src/metadata/open.js';
import { Presence } from '../../src/metadata/presence.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { Cluster } from '../fixtures/cluster.js';
import { endAll, holdfastBin, startNode } from '../fixtures/processes.js';
import { type Ended, refused } from './node-fixture.js';

t.setTimeout(200_000);
t.afterEach(async () => {
  await endAll();
});

async function start(t: Test): Promise<Cluster> {
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  return cluster;
}

async function holdfast(cluster: Cluster, args: string[], input: string[] = []): Promise<Ended> {
  const at = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const child = startNode(holdfastBin, [...args, ...at]);
  for (const line of input) child.write(line);
  child.child.stdin?.end();
  const { code } = await child.exited;
  return { code, out: child.lines.join('\n'), err: child.stderr };
}

/** Files of segments on all disks. */
function segmentFiles(cluster: Cluster): string[] {
  return cluster.nodes.flatMap(({ directory }) => {
    const names = readdirSync(join(directory, 'segments'), { recursive: true, encoding: 'utf8' });
    return names.filter((name) => name.endsWith('.data'));
  });
}

t.test(
  'a volume is removed, restored, removed again and purged; its disks are empty',
  async (t) => {
    const cluster = await start(t);
    const appended = await holdfast(cluster, ['log', 'append', 'events'], ['one', 'two']);
    t.equal(appended.code, 0, appended.err);
    t.ok(await untilFiles(cluster, some));
    const plain = await holdfast(cluster, ['volume', 'set', 'events', '--remove-label', 'log']);
    refused(t, plain, 2, /"events", which was used, cannot be changed/);

    const removed = await holdfast(cluster, ['volume', 'rm', 'events', '--retention', '2d']);
    t.equal(removed.code, 0, removed.err);
    t.match(removed.out, /in the trash until \d{4}-.*\(2 days\).*volume restore events/);
    t.match((await holdfast(cluster, ['volume', 'ls'])).out, /^NAME[^\n]*$/, 'nothing is in use');
    t.match((await holdfast(cluster, ['volume', 'ls', '--trash'])).out, /events\s+[0-9a-f]{12}/);
    refused(
      t,
      await holdfast(cluster, ['log', 'read', 'events']),
      12,
      /no volume is named "events"/,
    );
    const commands = [
      ...['rm', 'show', 'check', 'fence', 'recover'].map((word) => ['volume', word, 'events']),
      ...[
        ['volume', 'set', 'events', '--ack', '2'],
        ['volume', 'expand', 'events', '--size', '2GiB'],
      ],
      ...[
        ['log', 'read', 'events'],
        ['mount', 'events', cluster.root],
      ],
    ];
    for (const words of commands) {
      const said = await holdfast(cluster, words);
      refused(t, said, 12, /in the trash: holdfast volume restore events/, words.join(' '));
    }

    const restored = await holdfast(cluster, ['volume', 'restore', 'events', '--as', 'old']);
    t.equal(restored.code, 0, restored.err);
    t.equal((await holdfast(cluster, ['log', 'read', 'old'])).out, 'one\ntwo');

    const purged = await holdfast(cluster, ['volume', 'rm', 'old', '--purge', '--json']);
    t.equal(purged.code, 0, purged.err);
    t.match(JSON.parse(purged.out), [{ name: 'old', state: 'purged', segmentsLeft: 0 }]);
    t.same(JSON.parse((await holdfast(cluster, ['volume', 'ls', '--trash', '--json'])).out), []);
    t.ok(await untilFiles(cluster, none), 'no disk has anything of it');
  },
);

/** Nodes write and remove files a moment after they have answered. */
async function untilFiles(cluster: Cluster, test: (count: number) => boolean): Promise<boolean> {
  for (let i = 0; i < 100 && !test(segmentFiles(cluster).length); i++) await sleep(100);
  return test(segmentFiles(cluster).length);
}

const some = (count: number): boolean => count >= 3;
const none = (count: number): boolean => count === 0;

/** Until the nodes have purged everything in the trash by themselves. */
async function untilPurged(cluster: Cluster): Promise<void> {
  for (let i = 0; i < 60; i++) {
    const listed = await holdfast(cluster, ['volume', 'ls', '--trash', '--json']);
    if (listed.out === '[]') return;
    await sleep(1000);
  }
  throw new Error('the nodes purge nothing');
}

t.test('nodes purge what has expired, and end a purge that lacked one of them', async (t) => {
  const cluster = await start(t);
  await holdfast(cluster, ['log', 'append', 'events'], ['one']);
  const [, , last] = cluster.nodes;
  await last?.kill();
  const removed = await holdfast(cluster, ['volume', 'rm', 'events', '--retention', '1s']);
  t.equal(removed.code, 0, removed.err);
  const at = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const purging = startNode(holdfastBin, ['volume', 'purge', 'events', ...at]);
  const isPurging = async (): Promise<boolean> => {
    const listed = await holdfast(cluster, ['volume', 'ls', '--trash', '--json']);
    return JSON.parse(listed.out)[0]?.trash.purging === true;
  };
  for (let i = 0; i < 100 && !(await isPurging()); i++);
  await purging.kill();
  t.ok(await isPurging(), 'one disk may still have something of it');
  const late = await holdfast(cluster, ['volume', 'restore', 'events']);
  refused(t, late, 18, /being purged: nothing of it comes back/);
  await last?.start();
  await untilPurged(cluster);
  t.ok(await untilFiles(cluster, none));

  await holdfast(cluster, ['volume', 'create', 'brief', '--size', '1GiB', '--label', 'log=plain']);
  await holdfast(cluster, ['log', 'append', 'brief'], ['one']);
  t.ok(await untilFiles(cluster, some));
  await holdfast(cluster, ['volume', 'rm', 'brief', '--retention', '1s']);
  await untilPurged(cluster);
  t.ok(await untilFiles(cluster, none));
});

t.test('who has a volume is said, and nothing happens to it', async (t) => {
  const cluster = await start(t);
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await openMetadata(cluster.etcd.url, parts);
  const { record } = await new Volumes(store, nodeClock, nodeRandom).byName('events');
  const presence = new Presence({
    store,
    clock: nodeClock,
    log: silentLog,
    record: {
      schema: METADATA_SCHEMA,
      volume: record.volume,
      epoch: 1 as never,
      owner: 'a'.repeat(32) as never,
      host: 'web-1',
      pid: 42,
      mountPoint: '/srv/events',
      since: record.createdAt,
    },
  });
  presence.start();
  for (let i = 0; i < 100 && !presence.published; i++) await sleep(50);
  for (const more of [[], ['--purge'], ['--force']]) {
    const said = await holdfast(cluster, ['volume', 'rm', 'events', ...more]);
    refused(t, said, 18, /mounted at \/srv\/events on web-1 \(pid 42\).*holdfast umount/);
  }
  await presence.stop();
  await store.close();

  const writer = startNode(holdfastBin, [
    ...['log', 'append', 'events', '--metadata', cluster.etcd.url],
    ...['--secret-file', cluster.secretFile],
  ]);
  writer.write('one');
  await writer.line(/^0$/, 30_000);
  const unreleased = await holdfast(cluster, ['volume', 'rm', 'events', '--purge']);
  refused(t, unreleased, 18, /not released by its owner.*--force/);
  await writer.kill();
  const forced = await holdfast(cluster, ['volume', 'rm', 'events', '--purge', '--force']);
  t.equal(forced.code, 0, forced.err);
});

t.test('a volume grows, again the same is nothing, and it does not shrink', async (t) => {
  const cluster = await start(t);
  const expand = (size: string) =>
    holdfast(cluster, ['volume', 'expand', 'events', '--size', size]);
  t.match((await expand('2GiB')).out, /has 2 GiB now, 1 GiB before/);
  t.match((await expand('2GiB')).out, /has 2 GiB already/);
  refused(t, await expand('1GiB'), 2, /cannot shrink/);
  refused(t, await expand('2GB'), 2, /unit "GB"/);
  refused(t, await expand('9PiB'), 2, /size/);
  const shown = await holdfast(cluster, ['volume', 'show', 'events', '--json']);
  t.equal(JSON.parse(shown.out).sizeBytes, 2 ** 31);
});

t.test('what is asked wrongly is refused', async (t) => {
  const cluster = await start(t);
  const wrong: [string[], number, RegExp][] = [
    [['rm', 'events', '--retention', 'soon'], 2, /--retention: retention "soon".*7d/],
    [['rm', 'events', '--retention', '9d', '--purge'], 2, /--purge keeps nothing/],
    [['rm', 'nothing'], 12, /no volume is named/],
    [['restore', 'nothing'], 12, /no volume "nothing" is in the trash/],
    [['purge'], 2, /Name volumes/],
    [['purge', 'events'], 12, /is in the trash/],
    [['ls', '--label', 'x'], 2, /KEY=VALUE/],
  ];
  for (const [args, code, words] of wrong) {
    refused(t, await holdfast(cluster, ['volume', ...args]), code, words, args.join(' '));
  }
});
