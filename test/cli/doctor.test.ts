/** `holdfast doctor` and `status`: each thing that can be wrong, alone and on a real cluster. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { DiskStatus } from '../../src/block/wire/messages.js';
import { clusterFinding } from '../../src/cli/doctor.js';
import {
  checkClocks,
  checkDisks,
  checkMember,
  checkNodes,
  checkVersions,
} from '../../src/cli/doctor-cluster.js';
import {
  checkCapabilities,
  checkKernel,
  checkLimits,
  checkNodeVersion,
  checkRunDirectory,
} from '../../src/cli/doctor-machine.js';
import { describeFindings, type Finding } from '../../src/cli/findings.js';
import { NO_CLUSTER } from '../../src/cli/session.js';
import type { NodeState } from '../../src/cli/survey.js';
import { type ErrorCode, invalid } from '../../src/core/errors.js';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { chunkKey } from '../../src/metadata/keys.js';
import { openMetadata } from '../../src/metadata/open.js';
import { encodeChunk } from '../../src/metadata/sealed-chunks.js';
import type { MemberHealth, MetadataStore, Operation } from '../../src/metadata/store.js';
import { Cluster } from '../fixtures/cluster.js';
import { endAll, holdfastBin } from '../fixtures/processes.js';
import { holdfast, Place, refused } from './node-fixture.js';

const GIB = 2 ** 30;

t.setTimeout(200_000);
t.afterEach(async () => {
  await endAll();
});

async function withStore<T>(url: string, work: (store: MetadataStore) => Promise<T>): Promise<T> {
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await openMetadata(url, parts);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

const levels = (found: readonly Finding[]): string => found.map(({ level }) => level).join(' ');

t.test('this machine', async (t) => {
  t.equal(checkNodeVersion('20.15.0').level, 'ok');
  t.equal(checkNodeVersion('22.1.0').level, 'ok');
  t.match(checkNodeVersion('20.14.9'), { level: 'problem', advice: /20\.15 or newer/ });
  t.equal(checkKernel('6.9.0-rc1').level, 'ok');
  t.equal(checkKernel('7.0').level, 'ok');
  t.match(checkKernel('6.8.12-generic'), { level: 'problem', advice: /6\.9/ });
  t.equal(checkKernel('5.15.0').level, 'problem');
  const limits = (most: string): Finding[] =>
    checkLimits(`Limit  Soft  Hard  Units\nMax open files   ${most}   ${most}   files\n`);
  t.equal(levels(limits('65536')), 'ok');
  t.equal(levels(limits('unlimited')), 'ok');
  t.match(limits('1024'), [{ level: 'problem', advice: /LimitNOFILE/ }]);
  t.equal(levels(checkLimits('')), 'note');
  t.equal(checkCapabilities('CapEff:\t000001ffffffffff\n').level, 'ok');
  t.match(checkCapabilities('CapEff:\t00000000a80425fb\n'), {
    level: 'problem',
    advice: /--cap-add SYS_ADMIN/,
  });
});

t.test('a run directory without room', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'hf-doctor-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  t.equal(checkRunDirectory('/').level, 'ok');
  t.equal(checkRunDirectory(join(root, 'not', 'yet')).level, 'ok');
  const small = ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', root];
  if (spawnSync('mount', small).status !== 0) {
    t.pass('mounting is not allowed here');
    return;
  }
  t.teardown(() => spawnSync('umount', [root]));
  const found = { level: 'problem', message: /has 4 MiB left: volumes cannot be/, advice: /df -h/ };
  t.match(checkRunDirectory(join(root, 'holdfast')), found);
});

t.test('what only root may do says so in one line', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'hf-doctor-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'mount.fuse.holdfast'));
  const removed = await holdfast(['helpers', 'remove', '--directory', root]);
  refused(t, removed, 20, /mount\.fuse\.holdfast cannot be removed: .* Run it as root/);
  const socket = join(root, 'socket');
  writeFileSync(join(root, 'run'), '');
  const env = { HOLDFAST_RUN_DIR: join(root, 'run') };
  const agent = await holdfast(['agent', '--scope', 'session', '--socket', socket], env);
  refused(t, agent, 20, /run\/agent cannot be used: .* Run it as root/);
});

const member: MemberHealth = {
  name: '10.0.0.1:2379',
  fault: null,
  version: '3.5.1',
  hasLeader: true,
  usedBytes: 1 << 20,
  quotaBytes: null,
  alarms: [],
};

t.test('a member of etcd', async (t) => {
  const cases: [Partial<MemberHealth>, RegExp | null][] = [
    [{}, null],
    [{ quotaBytes: 8 * GIB, usedBytes: 3 * GIB }, null],
    [{ fault: 'refused' }, /does not answer: refused/],
    [{ hasLeader: false }, /no leader/],
    [{ alarms: ['memberID:1 alarm:NOSPACE '] }, /NOSPACE/],
    [{ usedBytes: 1.9 * GIB }, /1\.9 GiB of 2 GiB/],
    [{ version: '3.3.27' }, /3\.3\.27 is not supported/],
    [{ version: '3.10.0' }, null],
  ];
  for (const [change, words] of cases) {
    const found = checkMember({ ...member, ...change });
    if (words === null) t.equal(levels(found), 'ok', JSON.stringify(change));
    else t.match(found, [{ level: 'problem', message: words }]);
  }
  t.match(checkMember({ ...member, alarms: ['NOSPACE'] }), [{ advice: /alarm disarm/ }]);
});

function state(n: number, change: Partial<NodeState> & { readonly host?: string } = {}): NodeState {
  const { host = `10.0.0.${n}`, ...rest } = change;
  const node = `${n}`.repeat(32) as NodeId;
  const incarnation = `d${n}`.padEnd(32, '0') as Incarnation;
  const disk = { incarnation, state: 'ok', totalBytes: 100 * GIB, freeBytes: 50 * GIB } as const;
  return {
    record: { schema: 1, node, address: `${host}:7400`, zone: '', disks: [], version: '0.1.0' },
    live: true,
    wish: {},
    disks: [{ ...disk, segments: 1 }],
    problem: null,
    problemCode: null,
    clock: { aheadMs: 0, errorMs: 1 },
    ...rest,
  };
}

t.test('clocks: what the way of the answer explains is no difference', async (t) => {
  const at = (aheadMs: number, errorMs: number): NodeState =>
    state(1, { clock: { aheadMs, errorMs } });
  t.equal(levels(checkClocks([at(900, 5), state(2)])), 'ok');
  t.equal(levels(checkClocks([at(1500, 800)])), 'ok');
  t.match(checkClocks([at(3200, 5)]), [{ level: 'problem', message: /3\.2 s ahead of this/ }]);
  t.match(checkClocks([at(-3200, 5)]), [{ message: /10\.0\.0\.1.*3\.2 s behind this/ }]);
  t.equal(levels(checkClocks([state(1, { clock: null })])), 'note');
});

t.test('disks: nearly full ones, and one that is counted twice', async (t) => {
  t.equal(levels(checkDisks([state(1), state(2)])), 'ok');
  const [disk] = state(1).disks ?? [];
  const full = state(1, { disks: [{ ...(disk as NonNullable<typeof disk>), freeBytes: GIB }] });
  t.match(checkDisks([full, state(2)]), [{ level: 'problem', message: /1 GiB left/ }]);
  const twice = [state(1), state(2, { host: '10.0.0.1' })];
  t.match(checkDisks(twice), [{ level: 'note', message: /2 on 10\.0\.0\.1 .*one file system/ }]);
  const local = [1, 2, 3].map((n) => state(n, { host: '127.0.0.1' }));
  t.equal(levels(checkDisks(local)), 'note', 'as of holdfast up');
  t.equal(levels(checkDisks([state(1, { disks: null })])), 'note');
});

t.test('nodes: each kind of fault has an advice of its own', async (t) => {
  const [disk] = state(1).disks ?? [];
  const silent = (problemCode: ErrorCode): Partial<NodeState> => ({
    ...{ disks: null, problem: 'so it says', problemCode },
  });
  const withDisk = (of: DiskStatus['state']): Partial<NodeState> => ({
    disks: [{ ...(disk as DiskStatus), state: of }],
  });
  const { incarnation } = disk as DiskStatus;
  const { record } = state(1);
  const gone = { record: { ...record, disks: [{ incarnation, capacityBytes: 1 }] }, disks: [] };
  const cases: [Partial<NodeState>, RegExp, RegExp][] = [
    [silent('UNAVAILABLE'), /does not answer: so it says/, /mend the network.* start it again/],
    [silent('UNAUTHENTICATED'), /refuses the secret/, /^Copy the secret file/],
    [silent('WRONG_CLUSTER'), /is another one now/, /serves at its address/],
    [silent('VERSION'), /cannot be talked to/, /^Upgrade/],
    [{ live: false }, /registration has lapsed/, /metadata store/],
    [withDisk('full'), /is full/, /^Remove or purge volumes/],
    [withDisk('failed'), /is failed/, /read-only: .*dmesg/],
    [gone, /registered and not there/, /^Mount it/],
  ];
  for (const [change, message, advice] of cases) {
    t.match(checkNodes([state(1, change)]), [{ level: 'problem', message, advice }]);
  }
  t.match(checkNodes([]), [{ message: /no node has ever/, advice: /holdfast node/ }]);
  t.equal(levels(checkNodes([state(1)])), 'ok');
});

t.test('versions and what findings look like', async (t) => {
  t.equal(levels(checkVersions([state(1)], '0.1.0')), 'ok');
  const mixed = checkVersions([state(1)], '0.2.0');
  t.match(mixed, [{ level: 'note', message: /0\.1\.0, 0\.2\.0/ }]);
  const lines = describeFindings([...mixed, ...checkVersions([], '1')]).split('\n');
  t.match(lines, [/^ {2}- {2}versions/, /→ Fine during an upgrade/, /^ {2}ok versions/]);
});

t.test('a cluster: well, with a node down, with etcd down', async (t) => {
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  const run = mkdtempSync(join(tmpdir(), 'hf-run-'));
  t.teardown(() => rmSync(run, { recursive: true, force: true }));
  const at = ['--metadata', cluster.etcd.url, '--secret-file', cluster.secretFile];
  const env = { HOLDFAST_RUN_DIR: run };
  const doctor = async () => {
    const { code, out, err } = await holdfast(['doctor', '--json', ...at], env);
    t.equal(err, '');
    const { findings } = JSON.parse(out) as { findings: Finding[] };
    const ofCluster = findings.filter(({ check }) => !/^(root|mount|umount|\/dev)/.test(check));
    return { code, bad: ofCluster.filter(({ level }) => level === 'problem'), findings };
  };
  const append = await holdfast(['log', 'read', 'events', ...at]);
  t.equal(append.code, 0, append.err);

  const well = await doctor();
  t.same(well.bad, []);
  t.match(
    well.findings.find(({ check }) => check.startsWith('etcd ')),
    { level: 'ok', message: /^version 3\.\d+/ },
  );
  t.equal((await holdfast(['status', ...at])).code, 0);

  const change = (operation: Operation): Promise<unknown> =>
    withStore(cluster.etcd.url, (store) => store.transact([], [operation]));
  const { volume } = JSON.parse(
    (await holdfast(['volume', 'show', 'events', '--json', ...at])).out,
  );
  const key = chunkKey(volume, 99);
  await change({ type: 'put', key, value: encodeChunk(volume, []) });
  const strange = await doctor();
  t.equal(strange.code, 3);
  t.match(strange.bad, [
    { check: 'volumes', message: /events cannot be mounted: .*newestChunk/, advice: /rebuild/ },
  ]);
  const told = await holdfast(['status', ...at]);
  t.equal(told.code, 3);
  t.match(told.out, /^! volume events cannot be mounted: volume record [0-9a-f]{32}: its chunks/m);
  await change({ type: 'delete', key });

  const node = `127.0.0.1:${cluster.nodes[0]?.port}`;
  const drain = await holdfast(['node', 'drain', node, '--force', '--detach', ...at]);
  t.equal(drain.code, 0, drain.err);
  const few = await holdfast(['status', ...at]);
  t.equal(few.code, 3);
  t.match(few.out, / up, draining /);
  t.match(few.out, /^! volume events: keeps 3 copies on as many nodes, and 2 take part$/m);
  t.equal((await holdfast(['node', 'undrain', node, ...at])).code, 0);
  t.notMatch((await holdfast(['status', ...at])).out, /draining|take part/);

  await cluster.nodes[0]?.kill();
  const lame = await doctor();
  t.equal(lame.code, 3);
  t.match(lame.bad, [{ check: 'nodes', message: /does not answer/ }]);
  t.ok(lame.bad.some(({ check, message }) => check === 'volumes' && /too few/.test(message)));
  const status = await holdfast(['status', ...at]);
  t.equal(status.code, 3, 'as monitoring expects');
  t.match(status.out, /^! node .* does not answer/m);

  for (const one of cluster.etcd.members) await one.kill();
  const dark = await doctor();
  t.equal(dark.code, 3);
  t.match(dark.bad, [{ check: 'cluster', advice: /metadata store runs/ }]);
  refused(t, await holdfast(['status', ...at]), 20, /metadata store/);
});

t.test('a cluster without nodes is not well', async (t) => {
  const place = await Place.make(t);
  const at = ['--metadata', place.metadata, '--secret-file', place.secretFile];
  const status = await holdfast(['status', ...at]);
  t.equal(status.code, 3);
  t.match(status.out, /^! no node has ever registered$/m);
  t.notMatch(status.out, /All is well/);
});

const asUser = process.getuid?.() === 0 ? false : 'not root';
t.test('a normal user is told of the rest', { skip: asUser }, async (t) => {
  const run = mkdtempSync(join(tmpdir(), 'hf-run-'));
  t.teardown(() => rmSync(run, { recursive: true, force: true }));
  mkdirSync(join(run, 'mounts'), { mode: 0o700 });
  const env = { PATH: process.env.PATH ?? '', HOLDFAST_RUN_DIR: run };
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [holdfastBin, 'doctor', '--json', '--metadata', 'nonsense'],
    { uid: 65_534, gid: 65_534, cwd: '/', env, encoding: 'utf8', timeout: 30_000 },
  );
  t.equal(status, 3, stderr);
  const { findings } = JSON.parse(stdout) as { findings: Finding[] };
  t.match(
    findings.find(({ check }) => check === 'mounts'),
    { level: 'note', message: /EACCES/, advice: /as root/ },
  );
  t.ok(findings.some(({ check }) => check === 'cluster'));
});

t.test('what keeps it from a cluster that the machine has is a problem', async (t) => {
  const secret = invalid('the secret file /etc/holdfast/secret cannot be read: ENOENT');
  t.equal(clusterFinding(secret, false).level, 'problem');
  const config = invalid('the configuration file /etc/holdfast/config.json is not JSON');
  t.match(clusterFinding(config, false), { level: 'problem', advice: /docs/ });
  t.equal(clusterFinding(invalid(NO_CLUSTER, 'Name it'), true).level, 'problem');
  t.match(clusterFinding(invalid(NO_CLUSTER, 'Name it'), false), {
    level: 'note',
    advice: 'Name it',
  });
});

t.test('without a cluster it looks at the machine', async (t) => {
  const nowhere = mkdtempSync(join(tmpdir(), 'hf-nowhere-'));
  t.teardown(() => rmSync(nowhere, { recursive: true, force: true }));
  const found = await holdfast(['doctor'], { HOLDFAST_RUN_DIR: nowhere });
  t.match(found.out, /ok node\.js/);
  t.match(found.out, / - {2}cluster +which cluster is meant\?\n +→ Name it/);
  const wrong = await holdfast(['doctor', '--metadata', 'nonsense'], { HOLDFAST_RUN_DIR: nowhere });
  t.equal(wrong.code, 3, 'one that was named must be found');
});
