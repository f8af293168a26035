/**
 * A volume moves between machines (run directories of their own on this one): attached, detached,
 * fenced; and a former owner that wakes up can do no harm.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openLifecycle } from '../../src/cli/lifecycle.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { MountStatus } from '../../src/lifecycle/mount-types.js';
import { cannotMount } from '../fuse/mounted.js';
import { isAlive, isMounted, MountBed, type Said, shell, until } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
const location = { metadata: bed.cluster.etcd.url, secretFile: bed.cluster.secretFile };
const { lifecycle, close } = await openLifecycle(location, { machine: 'control' });
t.teardown(async () => {
  await close();
  await bed.close();
});

const alpha = { HOLDFAST_RUN_DIR: join(bed.root, 'run'), HOLDFAST_MACHINE: 'alpha' };
const beta = { HOLDFAST_RUN_DIR: join(bed.root, 'runb'), HOLDFAST_MACHINE: 'beta' };
const onAlpha = bed.directory('alpha');
const onBeta = bed.directory('beta');

const on = (machine: Record<string, string>, ...args: string[]): Promise<Said> =>
  bed.said(bed.start(args, machine));

async function mount(machine: Record<string, string>, directory: string): Promise<MountStatus> {
  const { code, lines, stderr } = await on(machine, 'mount', 'db', directory, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(lines[0] ?? '') as MountStatus;
}

async function id(): Promise<string> {
  return (await lifecycle.byName('db'))?.id ?? '';
}

const faultOf = async (promise: Promise<unknown>): Promise<HoldfastError> => {
  const thrown = await promise.then(
    () => new Error('no error'),
    (error: Error) => error,
  );
  if (thrown instanceof HoldfastError) return thrown;
  throw thrown;
};

t.test('a former owner that was stopped, fenced and woken up does no harm', async (t) => {
  const { live } = await mount(alpha, onAlpha);
  const pid = live?.pid ?? -1;
  await shell(`cd ${onAlpha} && dd if=/dev/zero of=file bs=4096 count=1 && sync file`);
  process.kill(pid, 'SIGSTOP');
  const refused = await on(beta, 'volume', 'fence', 'db');
  t.equal(refused.code, 18);
  t.match(refused.stderr, /"db" is mounted at .*alpha on alpha by process .* --force/);
  const fenced = await on(beta, 'volume', 'fence', 'db', '--force', '--json');
  t.equal(fenced.code, 0, fenced.stderr);
  t.match(JSON.parse(fenced.lines[0] ?? ''), { former: `alpha/${pid}`, mounted: { pid } });
  const again = await on(beta, 'volume', 'fence', 'db');
  t.match(again.lines[0], /no owner/);
  await mount(beta, onBeta);
  t.equal((await shell(`cd ${onBeta} && printf new > file && sync file`)).status, 0);
  const reader = shell(`dd if=${onAlpha}/file iflag=direct bs=4096 count=1 | head -c 3`);
  const writer = shell(`cd ${onAlpha} && echo stale > other && sync other`);
  await sleep(300);
  process.kill(pid, 'SIGCONT');
  t.match((await reader).text, /Input\/output|I\/O error|not connected|aborted/, 'no stale answer');
  t.match((await writer).text, /Input\/output|I\/O error|not connected|aborted/);
  await until('its mount is taken away', () => !isMounted(onAlpha) && !isAlive(pid));
  t.match(bed.log('db'), /"takenBy":"beta\/\d+".*The mount has lost its volume/);
  t.equal((await shell(`cd ${onBeta} && cat file && ls`)).text, 'newfile');
  t.equal((await on(beta, 'umount', onBeta)).code, 0);
  await on(alpha, 'umount', onAlpha);
  await bed.assertNothingLeft();
});

t.test('an owner whose presence has ended is fenced without being forced to', async (t) => {
  const { live } = await mount(alpha, onAlpha);
  const pid = live?.pid ?? -1;
  process.kill(pid, 'SIGSTOP');
  await sleep(12_000);
  const fenced = await on(beta, 'volume', 'fence', 'db', '--json');
  t.equal(fenced.code, 0, fenced.stderr);
  t.match(JSON.parse(fenced.lines[0] ?? ''), { former: `alpha/${pid}`, mounted: null });
  process.kill(pid, 'SIGCONT');
  await until('its mount is taken away', () => !isMounted(onAlpha) && !isAlive(pid));
  await on(alpha, 'umount', onAlpha);
  await bed.assertNothingLeft();
});

t.test('an attached volume is mounted there and nowhere else', async (t) => {
  const volume = await id();
  t.match(await faultOf(lifecycle.attach(volume, 'alpha')), { code: 'NOT_FOUND', message: /mach/ });
  for (const machine of ['alpha', 'beta']) await lifecycle.registerMachine(machine, 'zone0');
  const first = await lifecycle.attach(volume, 'alpha');
  t.same(await lifecycle.attach(volume, 'alpha'), first);
  t.match(await faultOf(lifecycle.attach(volume, 'alpha', { readOnly: true })), {
    code: 'ALREADY_EXISTS',
  });
  t.match(await faultOf(lifecycle.attach(volume, 'beta')), {
    code: 'CONFLICT',
    message: /attached to alpha/,
  });
  const elsewhere = await on(beta, 'mount', 'db', onBeta);
  t.equal(elsewhere.code, 18, elsewhere.stderr);
  t.match(elsewhere.stderr, /attached to alpha/);
  t.match(await faultOf(lifecycle.remove(volume)), { code: 'CONFLICT' });
  t.match(await faultOf(lifecycle.forgetMachine('alpha')), { code: 'CONFLICT' });
  await mount(alpha, onAlpha);
  const detached = lifecycle.detach(volume, 'alpha');
  t.equal((await on(alpha, 'umount', onAlpha)).code, 0);
  await detached;
  await lifecycle.detach(volume, 'alpha');
  t.match(await lifecycle.get(volume), { attachments: [], held: false, epoch: undefined });
  const listed = await on(alpha, 'machines', 'ls', '--json');
  t.match(JSON.parse(listed.lines[0] ?? ''), [{ machine: 'alpha', volumes: [] }, {}]);
  await bed.assertNothingLeft();
});

t.test('a machine that is lost with its volume loses it within 20 s', async (t) => {
  const volume = await id();
  await lifecycle.attach(volume, 'alpha');
  const { live, keeperPid } = await mount(alpha, onAlpha);
  await shell(`echo kept > ${onAlpha}/kept && sync ${onAlpha}/kept`);
  for (const pid of [keeperPid, live?.pid]) process.kill(pid ?? -1, 'SIGKILL');
  const start = Date.now();
  await lifecycle.detach(volume, 'alpha');
  await lifecycle.attach(volume, 'beta');
  await mount(beta, onBeta);
  t.ok(Date.now() - start < 20_000, `${Date.now() - start} ms`);
  t.equal((await shell(`cat ${onBeta}/kept`)).text, 'kept');
  await lifecycle.detach(volume, 'beta', { waitMs: 0 });
  await until('what was detached while mounted is fenced', () => !isMounted(onBeta));
  await on(beta, 'umount', onBeta);
  await on(alpha, 'umount', onAlpha);
  await bed.assertNothingLeft();
});
