/** Mounts of real volumes from their making to each of the ways in which they end. */
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { isAlive, isMounted, MountBed, shell, until } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(400_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());

t.test('what was written is there after umount and mount', async (t) => {
  const directory = bed.directory('plain');
  const mount = await bed.mount('db', directory);
  t.match(mount, { volume: 'db', directory, state: 'mounted', readOnly: false });
  t.ok(isMounted(directory));
  const written = await shell(
    `cd ${directory} && mkdir d && head -c 3000000 /dev/urandom > d/f && sync d/f && md5sum d/f`,
  );
  t.equal(written.status, 0, written.text);
  const [listed] = await bed.mounts();
  t.match(listed, { mount: mount.mount, state: 'mounted', live: { files: 3, epoch: 1 } });
  t.ok((listed?.live?.usedBytes ?? 0) > 3_000_000);
  t.match(listed?.live?.lastCommit, /^\d{4}-/);
  const ended = await bed.holdfast('umount', directory);
  t.equal(ended.code, 0, ended.stderr);
  t.notOk(isMounted(directory));
  t.notOk(isAlive(mount.live.pid), 'the daemon is gone when umount returns');
  const { lines } = await bed.holdfast('volume', 'show', 'db', '--json');
  t.equal(JSON.parse(lines[0] ?? '').owner.released, true);

  await bed.mount('db', directory);
  t.equal((await shell(`cd ${directory} && md5sum d/f`)).text, written.text);
  t.equal((await shell(`umount ${directory}`)).status, 0, 'plain umount(8) ends it as well');
});

t.test('sync commits what nobody has fsynced', async (t) => {
  const directory = bed.directory('sync');
  const mount = await bed.mount('db', directory, '--commit-interval', '60');
  await shell(`echo kept > ${directory}/synced`);
  const before = await bed.mounts();
  t.ok((before[0]?.live?.dirtyBytes ?? 0) > 0);
  t.equal((await bed.holdfast('sync', directory)).code, 0);
  t.equal((await bed.mounts())[0]?.live?.dirtyBytes, 0);
  for (const pid of [mount.keeperPid ?? -1, mount.live.pid]) process.kill(pid, 'SIGKILL');
  await until('both are gone', () => !isAlive(mount.live.pid));
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/synced`)).text, 'kept');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a symbolic link to a directory will do for it', async (t) => {
  const directory = bed.directory('linked');
  const link = join(bed.root, 'link');
  symlinkSync(directory, link);
  t.equal((await bed.mount('db', link)).directory, directory);
  t.equal((await shell(`echo there > ${link}/by-link`)).status, 0);
  t.equal((await bed.holdfast('sync', link)).code, 0);
  const ended = await bed.holdfast('umount', link);
  t.equal(ended.code, 0, ended.stderr);
  t.notOk(isMounted(directory));
  const made = await bed.holdfast('volume', 'create', 'disk', '--size', '64MiB', '--kind', 'block');
  t.equal(made.code, 0, made.stderr);
  const mounted = await bed.holdfast('mount', 'disk', link);
  t.match(mounted.lines, [`disk is mounted at ${directory} (ext4`], mounted.stderr);
  const unmounted = await bed.holdfast('umount', link);
  t.equal(unmounted.code, 0, unmounted.stderr);
  t.equal((await bed.holdfast('volume', 'rm', 'disk')).code, 0);
  await bed.assertNothingLeft();
});

t.test('read-only', async (t) => {
  const directory = bed.directory('ro');
  await bed.mount('db', directory, '-o', 'ro,noatime');
  const tried = await shell(`cat ${directory}/synced; echo no > ${directory}/new`);
  t.match(tried.text, /kept[\s\S]*Read-only file system/);
  t.match(await bed.mounts(), [{ readOnly: true }]);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a mount in use is not unmounted, but lazily', async (t) => {
  const directory = bed.directory('busy');
  const mount = await bed.mount('db', directory);
  const go = join(bed.root, 'go');
  const user = shell(
    `cd ${directory} && exec 3> open && touch ${go} && while [ -e ${go} ]; do sleep 0.1; done; ` +
      'echo late >&3 && sync open && echo done',
  );
  await until('the user runs', () => existsSync(go));
  const busy = await bed.holdfast('umount', directory);
  t.equal(busy.code, 22, busy.stderr);
  t.match(busy.stderr, /in use.*--lazy/);
  t.ok(isMounted(directory));
  t.equal((await bed.holdfast('umount', '--lazy', directory)).code, 0);
  t.notOk(isMounted(directory));
  t.ok(isAlive(mount.live.pid), 'it serves its last user');
  const listed = (await bed.holdfast('mounts')).lines.join('\n');
  t.match(listed, /busy +detached +\d+ +\d{4}-\d\d-\d\d \d\d:\d\dZ /);
  t.match(listed, new RegExp(`busy: mounted no more, .*: kill ${mount.live.pid}$`, 'm'));
  const held = await bed.holdfast('mount', 'db', directory);
  t.equal(held.code, 18, held.stderr);
  t.match(held.stderr, /no longer mounted at .*, but still used there.*kill \d+/);
  await shell(`rm ${go}`);
  t.equal((await user).text, 'done');
  t.same(await bed.leftovers(), []);
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/open`)).text, 'late');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('what was unmounted lazily is ended under its users', async (t) => {
  const directory = bed.directory('busy');
  const { live } = await bed.mount('db', directory, '--commit-interval', '60');
  const go = join(bed.root, 'held');
  const user = shell(
    `cd ${directory} && exec 3> held && echo early >&3 && touch ${go} &&
      while [ -e ${go} ]; do sleep 0.1; done; echo late >&3`,
  );
  await until('the user runs', () => existsSync(go));
  t.equal((await bed.holdfast('umount', '--lazy', directory)).code, 0);
  process.kill(live.pid, 'SIGTERM');
  await until('the daemon is gone', () => !isAlive(live.pid));
  await shell(`rm ${go}`);
  t.match((await user).text, /not connected|connection abort|I\/O error|Input\/output/);
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/held`)).text, 'early', 'what was written is there');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a volume is mounted once; whoever comes second is told by whom', async (t) => {
  const directory = bed.directory('first');
  const mount = await bed.mount('db', directory);
  const second = bed.directory('second');
  const here = await bed.holdfast('mount', 'db', second);
  t.equal(here.code, 18, here.stderr);
  t.match(here.stderr, `mounted at ${directory} by process ${mount.live.pid} since`);
  const again = await bed.holdfast('mount', 'db', directory);
  t.equal(again.code, 13, again.stderr);
  t.ok(isMounted(directory));
  t.match(await shell(`echo still > ${directory}/works && cat ${directory}/works`), {
    text: 'still',
  });
  t.match(await bed.mounts(), [{ live: { epoch: mount.live.epoch } }], 'nobody took it over');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('in the foreground until Ctrl-C', async (t) => {
  const directory = bed.directory('foreground');
  const command = bed.start(['mount', 'db', directory, '--foreground', '--json']);
  await command.line(/"mounted"/, 60_000);
  await shell(`echo uncommitted > ${directory}/last`);
  command.signal('SIGINT');
  const { code, stderr } = await bed.said(command);
  t.equal(code, 0, stderr);
  t.notOk(isMounted(directory));

  const killed = bed.start(['mount', 'db', directory, '--foreground', '--json']);
  await killed.line(/"mounted"/, 60_000);
  t.equal((await shell(`cat ${directory}/last`)).text, 'uncommitted');
  await killed.kill();
  t.same(await bed.leftovers(), [], 'it ends with the process that started it, however that ends');
});

t.test('SIGTERM to the daemon and its keeper commits, unmounts and releases', async (t) => {
  const directory = bed.directory('term');
  const mount = await bed.mount('db', directory, '--commit-interval', '60');
  await shell(`echo uncommitted > ${directory}/terminated`);
  // As at the end of a systemd service: to all processes at once.
  process.kill(mount.keeperPid as number, 'SIGTERM');
  process.kill(mount.live.pid, 'SIGTERM');
  t.same(await bed.leftovers(), []);
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/terminated`)).text, 'uncommitted');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a volume that grows is larger on its mount', async (t) => {
  const directory = bed.directory('grown');
  await bed.mount('db', directory);
  const size = async (): Promise<string> =>
    (await shell(`stat -f -c '%b*%S' ${directory} | tr '*' ' '`)).text;
  const before = await size();
  const grown = await bed.holdfast('volume', 'expand', 'db', '--size', '2GiB');
  t.equal(grown.code, 0, grown.stderr);
  let after = before;
  for (let i = 0; i < 40 && after === before; i++) {
    await sleep(250);
    after = await size();
  }
  const [blocks, bytes] = after.split(' ').map(Number);
  t.equal((blocks ?? 0) * (bytes ?? 0), 2 ** 31);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
