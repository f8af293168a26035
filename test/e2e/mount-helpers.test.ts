/**
 * mount(8), umount(8) and fstab with our helpers. These look for helpers in /sbin only, so the
 * tests put them there for as long as they run, unless there are some.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { isMounted, MountBed, type Result, shell } from './mount-bed.js';

const PLACE = '/sbin';
const HELPERS = ['mount.fuse.holdfast', 'umount.fuse.holdfast'];
const present = HELPERS.some((name) => existsSync(join(PLACE, name)));
const skip = present ? 'the helpers of this machine are not to be replaced' : cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
const installed = await bed.holdfast('helpers', 'install');
t.teardown(async () => {
  await bed.holdfast('helpers', 'remove');
  await bed.close();
});
t.equal(installed.code, 0, installed.stderr);
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');
const { etcd, secretFile } = bed.cluster;
const where = `metadata=${etcd.url.replaceAll(',', ';')},secret=${secretFile}`;

const withRun = (script: string): Promise<Result> =>
  shell(`export HOLDFAST_RUN_DIR=${bed.runDirectory}\n${script}`);

t.test('mount -t fuse.holdfast, and umount, which commits and waits', async (t) => {
  const options = `-o ${where},commit-interval=60,noatime,nofail`;
  const made = await withRun(`mount -t fuse.holdfast db ${directory} ${options}`);
  t.equal(made.status, 0, made.text);
  t.ok(isMounted(directory));
  t.match((await shell(`grep ' ${directory} ' /proc/self/mountinfo`)).text, /noatime/);
  await shell(`echo kept > ${directory}/file`);
  t.equal((await withRun(`umount ${directory}`)).status, 0);
  t.same(bed.states, [], 'the volume is released when umount returns');
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/file`)).text, 'kept');
  t.equal((await withRun(`umount ${directory}`)).status, 0);
  t.same(bed.states, [], 'also where our own command mounted it');
  await bed.mount('db', directory);
  t.equal((await withRun(`umount -l ${directory}`)).status, 0);
});

t.test('from fstab', async (t) => {
  const fstab = join(bed.root, 'fstab');
  writeFileSync(
    fstab,
    `db ${directory} fuse.holdfast defaults,${where},ro,x-systemd.automount 0 0\n`,
  );
  const made = await withRun(`mount -T ${fstab} ${directory}`);
  t.equal(made.status, 0, made.text);
  t.match(await bed.mounts(), [{ volume: 'db', readOnly: true }]);
  t.equal((await withRun(`umount ${directory}`)).status, 0);
});

t.test('refusals pass through mount(8)', async (t) => {
  const made = await withRun(`mount -t fuse.holdfast none ${directory} -o ${where}`);
  t.not(made.status, 0);
  t.match(made.text, /no volume is named "none"/);
  const odd = await withRun(`mount -t fuse.holdfast db ${directory} -o ${where},fast`);
  t.match(odd.text, /"fast" is not a mount option/);
});

t.test('installing where that cannot be', async (t) => {
  const nowhere = await bed.holdfast('helpers', 'install', '--directory', join(bed.root, 'none'));
  t.equal(nowhere.code, 2, nowhere.stderr);
});
