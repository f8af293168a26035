/** With systemd, each mount of the agent is a service of its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLifecycle } from '../../src/cli/lifecycle.js';
import { installRuntime } from '../../src/cli/runtime.js';
import { cannotBoot, Systemd } from '../fixtures/systemd.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed } from './mount-bed.js';

const skip = cannotMount() || cannotBoot();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
const shared = bed.directory('shared');
const socket = join(shared, 'agent.sock');
const { program } = await installRuntime(join(shared, 'runtime'));
const systemd = await Systemd.start(join(bed.root, 'systemd'), [shared]);
const location = { metadata: bed.cluster.etcd.url, secretFile: bed.cluster.secretFile };
const { lifecycle, close } = await openLifecycle(location, { machine: 'alpha', agent: socket });
t.teardown(async () => {
  await close();
  await systemd.close();
  await bed.close();
});

const directory = join(shared, 'mnt');
const run = (command: string): ReturnType<Systemd['run']> => systemd.run('sh', '-c', command);

async function startAgent(): Promise<void> {
  const env = `--setenv=HOLDFAST_RUN_DIR=${shared}/run`;
  const unit = `systemd-run --quiet --collect --unit=holdfast-agent ${env}`;
  const { status, text } = await run(`${unit} ${program} agent --socket ${socket}`);
  if (status !== 0) throw new Error(text);
  for (let tries = 0; ; tries++) {
    const listed = await lifecycle.machine.list().catch(() => null);
    if (listed !== null) return;
    if (tries === 100) throw new Error('the agent does not answer');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const units = async (): Promise<string[]> => {
  const all = 'systemctl list-units --plain --no-legend --all "holdfast-mount-*"';
  const { text } = await run(`${all} | cut -d " " -f 1`);
  return text === '' ? [] : text.split('\n');
};

t.test('a mount is a service that outlives the agent, its daemon, and ends in order', async (t) => {
  await startAgent();
  const id = (await lifecycle.byName('db'))?.id ?? '';
  const mounted = await lifecycle.mount(id, directory);
  t.match(mounted, { directory, condition: { abnormal: false } });
  const [unit = '', ...more] = await units();
  t.same(more, []);
  const properties = 'ActiveState,KillMode,Slice,OOMScoreAdjust,MainPID,MemoryMax';
  const { text } = await run(`systemctl show ${unit} --property=${properties}`);
  t.match(text, /ActiveState=active/);
  t.match(text, /KillMode=control-group/);
  t.match(text, /Slice=holdfast\.slice/);
  t.match(text, /OOMScoreAdjust=-900/);
  t.match(text, /MemoryMax=2147483648/);
  t.match(text, new RegExp(`MainPID=${mounted.mount.keeperPid}\\b`), 'the keeper');
  t.equal((await run(`echo one > ${directory}/one && sync ${directory}/one`)).status, 0);
  await run('systemctl kill --signal=KILL holdfast-agent; sleep 1');
  t.match((await run('systemctl is-active holdfast-agent')).text, /inactive|failed/);
  t.equal((await run(`cat ${directory}/one`)).text, 'one', 'it goes on without the agent');
  await run(`kill -9 ${mounted.mount.live?.pid}`);
  const { text: after } = await run(`echo two > ${directory}/two && cat ${directory}/one`);
  t.equal(after, 'one', 'and with another daemon');
  t.equal((await run(`systemctl is-active ${unit}`)).text, 'active');
  await startAgent();
  t.equal((await lifecycle.mount(id, directory)).mount.keeperPid, mounted.mount.keeperPid);
  await run('systemctl stop holdfast-agent');
  t.equal((await run(`cat ${directory}/two`)).text, 'two', 'an orderly stop ends no mount either');
  t.equal((await run(`systemctl stop ${unit}`)).status, 0);
  t.match(await lifecycle.get(id), { held: false }, 'stopped, it was committed and released');
  t.same(await units(), []);
  t.notMatch((await run('cat /proc/self/mountinfo')).text, /fuse\.holdfast/);
});

t.test('unmounting ends the service; a start that fails leaves none', async (t) => {
  await startAgent();
  const id = (await lifecycle.byName('db'))?.id ?? '';
  await lifecycle.mount(id, directory);
  t.equal((await run(`cat ${directory}/two`)).text, 'two');
  await lifecycle.unmount(directory);
  for (let tries = 0; tries < 50 && (await units()).length > 0; tries++) await run('sleep 0.1');
  t.same(await units(), []);
  for (const node of bed.cluster.nodes) await node.kill();
  const never = join(shared, 'never');
  await t.rejects(lifecycle.mount(id, never, { timeoutMs: 2_000 }), { code: 'TIMEOUT' });
  t.same(await units(), []);
  t.not((await run(`test -e ${never}`)).status, 0);
  const log = readFileSync(join(shared, 'run/log/db.log'), 'utf8');
  t.match(log, /Stopping the mount/);
});
