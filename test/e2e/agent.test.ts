/** Mounts that an agent makes for a driver in a container outlive the driver, agent and daemon. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { installRuntime, pruneRuntimes } from '../../src/cli/runtime.js';
import { writableGroup } from '../../src/cli/scopes.js';
import { MIB } from '../../src/core/units.js';
import { cannotMount } from '../fuse/mounted.js';
import { AgentProcess, cannotContain, Driver, groupOf } from './agent-bed.js';
import { isAlive, isMounted, MountBed, processesBelow, shell, until } from './mount-bed.js';

const skip = cannotMount() || cannotContain();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
process.env.HOLDFAST_RUN_DIR = bed.runDirectory;
const runtimes = join(bed.root, 'runtime');
const { directory: runtime, program, version } = await installRuntime(runtimes);
const agent = new AgentProcess(bed, program, '--scope', 'cgroup');
const shared = join(bed.root, 'shared');
t.teardown(async () => {
  await agent.kill();
  await bed.close();
});

interface Mounted {
  readonly directory: string;
  readonly mount: { readonly keeperPid: number; readonly live: { readonly pid: number } };
}

async function idOf(driver: Driver, name: string): Promise<string> {
  return String((await driver.call('byName', name)).result?.id);
}

t.test('the driver, its cgroup and its root directory go; then agent and daemon', async (t) => {
  t.match(await agent.start(), { scope: 'cgroup' });
  const driver = await Driver.start(bed, runtime, agent, 'alpha');
  const directory = join(shared, 'stage');
  const target = join(shared, 'pods', 'one');
  const { result, message } = await driver.call('mount', await idOf(driver, 'db'), directory);
  t.equal(message, undefined);
  const { keeperPid, live } = (result as unknown as Mounted).mount;
  t.same(await driver.call('bind', { source: directory, target }), { result: null });
  t.ok(isMounted(target), 'seen by the machine');
  const group = groupOf(live.pid);
  t.match(group, /\/holdfast\/mount-/, 'a cgroup of its own');
  t.equal(groupOf(keeperPid), group);
  t.equal(readlinkSync(`/proc/${live.pid}/exe`), join(runtime, 'bin/node'));
  const steady = shell(
    `cd ${target} && for i in $(seq 400); do echo $i >> log && sync log || exit 1; done`,
  );
  await driver.kill();
  t.notOk(existsSync(join(bed.root, 'root-alpha')));
  t.ok(isAlive(live.pid), 'the mount goes on');
  await agent.kill();
  t.ok(isAlive(live.pid), 'also without the agent');
  process.kill(live.pid, 'SIGKILL');
  t.same(await steady, { status: 0, text: '' }, 'no call of its user has failed');
  t.equal((await shell(`tail -n 1 ${target}/log`)).text, '400');
  await agent.start();
  const second = await Driver.start(bed, runtime, agent, 'alpha');
  const listed = await second.call('mount', await idOf(second, 'db'), directory);
  t.match(listed.result, { mount: { keeperPid }, targets: [target] }, 'found again');
  t.match(await second.call('stats', target), { result: { name: 'db', totalBytes: 1024 * MIB } });
  t.same(await second.call('unbind', target), { result: null });
  t.same(await second.call('unmount', directory), { result: null });
  await second.kill();
  t.equal(await agent.stop(), 0);
  await bed.assertNothingLeft();
});

t.test('a block volume by way of the agent', async (t) => {
  await agent.start();
  const driver = await Driver.start(bed, runtime, agent, 'alpha');
  const wanted = { name: 'disk', kind: 'block', sizeBytes: 64 * MIB };
  const id = String((await driver.call('create', wanted)).result?.id);
  const target = join(shared, 'pods', 'device');
  const { result } = await driver.call('openDevice', id);
  await driver.call('bind', { source: result?.device, target });
  await driver.kill();
  await agent.kill();
  t.equal((await shell(`printf kept | dd of=${target} conv=fsync,notrunc`)).status, 0);
  await agent.start();
  const second = await Driver.start(bed, runtime, agent, 'alpha');
  t.match(await second.call('closeDevice', id), { code: 'BUSY' });
  await second.call('unbind', target);
  t.same(await second.call('closeDevice', id), { result: null });
  await second.call('remove', id);
  await second.kill();
  await agent.stop();
  await bed.assertNothingLeft();
});

t.test(
  'what cannot be mounted leaves no directory; nor does an agent that is killed',
  async (t) => {
    await agent.start();
    const driver = await Driver.start(bed, runtime, agent, 'alpha');
    const id = await idOf(driver, 'db');
    const directory = join(shared, 'never');
    const [first, second] = bed.cluster.nodes;
    await first?.kill();
    await second?.kill();
    const late = await driver.call('mount', id, directory, { timeoutMs: 2_000 });
    t.match(late, { code: 'TIMEOUT', message: /step 2 of 4/ });
    t.notOk(existsSync(directory));
    const cut = driver.call('mount', id, directory);
    await sleep(1_500);
    await agent.kill();
    t.match(await cut, { code: 'UNAVAILABLE' });
    await agent.start();
    await first?.start();
    await second?.start();
    const again = await driver.call('mount', id, directory);
    t.match(again, { result: { directory } }, again.message ?? '');
    t.equal((await bed.mounts()).length, 1, 'what was begun before is what there is');
    t.equal((await shell(`echo x > ${directory}/x && sync ${directory}/x`)).status, 0);
    t.same(await driver.call('unmount', directory), { result: null });
    await driver.kill();
    await agent.stop();
    await bed.assertNothingLeft();
  },
);

t.test('versions that mounts use stay, others go when they are old', async (t) => {
  const old = join(runtimes, '0.0.1-old');
  await shell(`mkdir -p ${old}/bin && touch -d '1 day ago' ${old} ${runtime}`);
  const directory = bed.directory('by-runtime');
  const env = `HOLDFAST_RUN_DIR=${bed.runDirectory}`;
  const location = `--metadata ${bed.cluster.etcd.url} --secret-file ${bed.cluster.secretFile}`;
  const mounted = await shell(`${env} ${program} mount db ${directory} ${location}`);
  t.equal(mounted.status, 0, mounted.text);
  t.same(pruneRuntimes(runtimes, null), ['0.0.1-old']);
  t.equal((await installRuntime(runtimes)).isNew, false);
  t.equal((await shell(`${env} ${program} umount ${directory}`)).status, 0);
  await until('it has ended', () => bed.states.length === 0);
  t.same(pruneRuntimes(runtimes, version), []);
  t.same(pruneRuntimes(runtimes, null), [version]);
  t.same(readdirSync(runtimes), []);
  t.notMatch(groups(), /mount-/, 'no cgroup is left but the last, which the next start removes');
});

/** Groups of this bed's mounts. One that holds no process goes when another mount starts. */
function groups(): string {
  const root = writableGroup() ?? '';
  const ours = new Set(processesBelow(bed.runDirectory).map(String));
  return readdirSync(root)
    .filter((name) => name.startsWith('mount-'))
    .filter((name) => {
      const pids = readFileSync(join(root, name, 'cgroup.procs'), 'utf8').split('\n');
      return pids.some((pid) => ours.has(pid));
    })
    .join(' ');
}
