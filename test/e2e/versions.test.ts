/**
 * Versions N and N − 1 (docs/FORMATS.md, Versions): what the older program has written is opened,
 * what a newer one has is refused, and nodes of both work together while a program writes, repair
 * moves copies between them, and they are upgraded one by one.
 *
 * HOLDFAST_OLDER names the older program (dist/src/cli/main.js of its tree); without it, nodes that
 * speak only the older protocol stand for it.
 */
import { createHash } from 'node:crypto';
import { openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { encodeSuperblock, readSuperblock } from '../../src/block/superblock.js';
import { installRuntime } from '../../src/cli/runtime.js';
import { programVersion } from '../../src/cli/version.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { CLUSTER_KEY, VOLUMES } from '../../src/metadata/keys.js';
import { openMetadata } from '../../src/metadata/open.js';
import { listMoves } from '../../src/metadata/replica-moves.js';
import type { ClusterNode } from '../fixtures/cluster.js';
import { distRoot, holdfastBin, Process, startNode } from '../fixtures/processes.js';
import { digestOf, readSaved, restoreDisk, restoreKeys } from '../fixtures/saved-cluster.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';
import { eventually, RepairBed } from './repair-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
const LONGEST_MS = 10_000;
const { HOLDFAST_OLDER: older } = process.env;
const PARTS = { clock: nodeClock, random: nodeRandom, env: {} };

t.setTimeout(400_000);

function change(path: string, what: RegExp, into: string): void {
  const text = readFileSync(path, 'utf8');
  if (!what.test(text)) throw new Error(`${path} has no ${what}`);
  writeFileSync(path, text.replace(what, into));
}

type Quartet = [ClusterNode, ClusterNode, ClusterNode, ClusterNode];

/** Makes it a node of the version before. */
function age(node: ClusterNode): void {
  if (older === undefined) node.env = { HOLDFAST_PROTOCOL: '1' };
  else node.command = [process.execPath, older];
}

function superblockOf({ directory }: ClusterNode): ReturnType<typeof readSuperblock>['block'] {
  const file = openSync(join(directory, 'superblock'), 'r');
  return readSuperblock((into, at) => readSync(file, into, 0, into.length, at)).block;
}

function setFormat(node: ClusterNode, format: number): void {
  const page = encodeSuperblock({ ...superblockOf(node), format });
  writeFileSync(join(node.directory, 'superblock'), Buffer.concat([page, page]));
}

/** Of everything in a directory. */
function hashOf(directory: string): string {
  const hash = createHash('sha256');
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries.filter((one) => one.isFile())) {
    const path = join(entry.parentPath, entry.name);
    hash.update(path).update(readFileSync(path));
  }
  return hash.digest('hex');
}

/** Starts a node that is to refuse; says what it said. */
async function refusal(node: ClusterNode): Promise<{ code: number | null; stderr: string }> {
  const started = node.launch();
  const timer = setTimeout(() => started.signal('SIGKILL'), 60_000);
  const { code } = await started.exited;
  clearTimeout(timer);
  return { code, stderr: started.stderr };
}

t.test('what the version before has written is opened, what a newer one has is not', async (t) => {
  const saved = readSaved('saved-cluster.json');
  const bed = await MountBed.start({
    prepare: async (cluster, store) => {
      writeFileSync(cluster.secretFile, saved.secret);
      await restoreKeys(saved, store);
      for (const [at, node] of cluster.nodes.entries()) {
        restoreDisk(saved.disks[at] ?? {}, node.directory);
      }
    },
  });
  t.teardown(() => bed.close());
  const directory = bed.directory('mnt');
  const [node] = bed.cluster.nodes as [ClusterNode];

  await bed.mount('events', directory);
  const { text } = await shell(`cd ${directory}; ${digestOf}`);
  t.equal(text.trim(), saved.files.trim(), 'every file is as it was');
  t.equal((await shell(`echo more > ${directory}/more; sync ${directory}/more`)).status, 0);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  t.equal((await bed.holdfast('volume', 'restore', 'gone')).code, 0, 'the trash is read');
  const checked = await bed.holdfast('volume', 'check', 'events');
  t.equal(checked.code, 0, checked.stderr);
  t.equal(superblockOf(node).format, 1, 'a node may still go back');

  await node.process?.stop();
  const superblock = join(node.directory, 'superblock');
  const kept = readFileSync(superblock);
  setFormat(node, 3);
  const before = hashOf(node.directory);
  const { code, stderr } = await refusal(node);
  t.equal(code, 11);
  t.match(JSON.parse(stderr.trim().split('\n').at(-1) ?? ''), {
    error: { code: 'VERSION', message: /disk format 3, known here are 1 to 2/ },
  });
  t.equal(hashOf(node.directory), before, 'and nothing was changed');
  writeFileSync(superblock, kept);
  await node.start();

  const store = await openMetadata(bed.cluster.etcd.url, PARTS);
  const heads = (await store.range(VOLUMES)).entries;
  const head = heads.find(({ value }) => value.includes('"name":"events"'))?.key ?? '';
  for (const key of [head, CLUSTER_KEY]) {
    const value = (await store.get(key)).entry?.value ?? '';
    const raised = JSON.stringify({ ...(JSON.parse(value) as object), schema: 99 });
    await store.transact([], [{ type: 'put', key, value: raised }]);
    const refused = await bed.holdfast('mount', 'events', directory);
    t.equal(refused.code, 11, key);
    t.match(refused.stderr, /schema 99 is newer than \d.*Upgrade this program/);
    t.equal(refused.stderr.trim().split('\n').length, 1, 'in one line');
    t.equal((await store.get(key)).entry?.value, raised, 'and nothing was changed');
    await store.transact([], [{ type: 'put', key, value }]);
  }
  await store.close();
  await bed.assertNothingLeft();
});

t.test('nodes of both versions work together, and are upgraded one by one', async (t) => {
  const bed = await MountBed.start({
    nodes: 4,
    prepare: async ({ nodes }, store) => {
      await initCluster(store, nodeClock, nodeRandom);
      for (const node of nodes.slice(2)) age(node);
    },
  });
  t.teardown(() => bed.close());
  const directory = bed.directory('mnt');
  const cluster = new RepairBed(bed, directory);
  const { holds, repair, isWhole, nodeOf, steadily } = cluster;
  const [first, second, third, fourth] = bed.cluster.nodes as Quartet;
  const store = await openMetadata(bed.cluster.etcd.url, PARTS);
  t.teardown(() => store.close());
  /** Copies that were replaced and are not dropped yet. */
  const replaced = async (): Promise<number> =>
    (await listMoves(store)).flatMap(({ leaving }) => leaving).length;
  const logs = (): string => bed.cluster.nodes.map((node) => node.process?.stderr ?? '').join('');

  await t.test('an older program, when it leads, leaves repair alone', async () => {
    for (const node of [third, fourth]) await node.process?.stop();
    const newer = await Promise.all([first, second].map(nodeOf));
    await eventually('a newer node leads', async () => {
      const leader = (await repair())?.node;
      return newer.some(({ node }) => node === leader);
    });
    for (const node of [third, fourth]) await node.start();
  });
  await cluster.json('cluster', 'set', '--repair-rate', '1GiB', '--balance', 'off');
  // Each takeover seals what the mount before has written.
  for (let round = 0; round < 4; round++) {
    await bed.mount('db', directory);
    const made = `head -c 3M /dev/urandom > ${directory}/${round}; sync ${directory}/${round}`;
    t.equal((await shell(made)).status, 0);
    t.equal((await bed.holdfast('umount', directory)).code, 0);
  }
  const { operations, longestMs } = await steadily(async () => {
    await eventually('all is well before', isWhole);
    const had = await holds(third);
    t.ok(had > 0, `an older node has ${had} copies`);
    for (const node of [second, third]) {
      const name = (await nodeOf(node)).node;
      const drained = await bed.holdfast('node', 'drain', name);
      t.equal(drained.code, 0, drained.stderr);
      t.equal(await holds(node), 0, 'what it had is elsewhere');
      await bed.holdfast('node', 'undrain', name);
    }
    await eventually('nothing but drops is left to do', async () => {
      const { copies, degraded, running } = await repair();
      return copies + degraded + running === 0;
    });
    t.ok((await replaced()) > 0, 'an older node keeps what nothing counts on');
    t.equal(superblockOf(third).format, 1);
    for (const node of [third, fourth]) {
      t.equal(await node.process?.stop(30_000), 0);
      node.command = [process.execPath, holdfastBin];
      node.env = {};
      await node.start();
      await sleep(2_000);
    }
    await eventually('nothing is left over', async () => (await replaced()) === 0);
    await eventually('all is whole', isWhole);
  });
  t.comment(`${operations} operations, the longest ${longestMs} ms`);
  t.ok(longestMs < LONGEST_MS, `a pause of ${longestMs} ms`);
  t.equal(superblockOf(third).format, 2, 'it has dropped what it was to drop');
  t.notMatch(logs(), /Closed a connection: request/, 'nobody was sent what it does not know');
  if (older !== undefined) {
    await third.process?.stop();
    third.command = [process.execPath, older];
    const { code, stderr } = await refusal(third);
    t.equal(code, 11, stderr);
  }
  const checked = await bed.holdfast('volume', 'check', 'db');
  t.equal(checked.code, 0, checked.stderr);
  await bed.assertNothingLeft();
});

t.test(
  'a running mount is handed to this program by an older one, if it is understood',
  async (t) => {
    const bed = await MountBed.start();
    t.teardown(() => bed.close());
    const { directory: runtime, program } = await installRuntime(join(bed.root, 'older'));
    change(join(runtime, 'package.json'), /"version": "[^"]*"/, '"version": "0.0.9"');
    // Everything was committed: nothing of this has to be understood.
    const compiled = join(runtime, 'dist/src/volume/intent-format.js');
    change(compiled, /^const VERSION = 1;$/m, 'const VERSION = 99;');
    const directory = bed.directory('mnt');
    const options = { env: bed.environment, cwd: '/' };
    const mounted = await bed.said(new Process(program, ['mount', 'db', directory], options));
    t.equal(mounted.code, 0, mounted.stderr);
    const worker = startNode(`${distRoot}test/fixtures/steady-worker.js`, [
      join(directory, 'file'),
    ]);
    await worker.line(/^steady/, 30_000);

    const [before] = await bed.mounts();
    const init = join(bed.runDirectory, 'mounts', before?.mount ?? '', 'init.json');
    const kept = readFileSync(init, 'utf8');
    writeFileSync(init, kept.replace('"major"', '"other"'));
    const refused = await bed.holdfast('upgrade-mounts', '--all', '--json');
    t.equal(refused.code, 3);
    t.match(JSON.parse(refused.lines[0] ?? ''), [{ to: null, fault: { code: 'VERSION' } }]);
    t.equal((await bed.mounts())[0]?.live?.pid, before?.live?.pid, 'it goes on as it is');
    writeFileSync(init, kept);

    const { code, lines, stderr } = await bed.holdfast('upgrade-mounts', '--all', '--json');
    t.equal(code, 0, stderr);
    t.match(JSON.parse(lines[0] ?? ''), [{ from: '0.0.9', to: programVersion(), fault: null }]);
    await sleep(1_000);
    worker.signal('SIGTERM');
    t.equal((await worker.exited).code, 0, `the program saw no error: ${worker.stderr}`);
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    await bed.assertNothingLeft();
  },
);

t.test('nodes too far apart say which is to be upgraded', async (t) => {
  const bed = await MountBed.start();
  t.teardown(() => bed.close());
  const HOLDFAST_PROTOCOL = '4-5';
  const said = 'the node speaks protocol 1 to 3, this program 4 to 5: upgrade the node';
  const status = await bed.said(bed.start(['status'], { HOLDFAST_PROTOCOL }));
  t.equal(status.code, 3);
  t.equal(status.lines.filter((line) => line.endsWith(said)).length, 3, 'of each node');
  const mount = ['mount', 'db', bed.directory('mnt'), '--timeout', '5'];
  const { code, stderr } = await bed.said(bed.start(mount, { HOLDFAST_PROTOCOL }));
  t.equal(code, 21, stderr);
  t.match(stderr, /Check with "holdfast status"/);
});
