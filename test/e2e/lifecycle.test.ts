/** The volume lifecycle on a real cluster: mounts, binds, devices, machines; each call repeated. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { openLifecycle } from '../../src/cli/lifecycle.js';
import { HoldfastError } from '../../src/core/errors.js';
import { MIB } from '../../src/core/units.js';
import type { BlockFilesystem } from '../../src/lifecycle/volume-types.js';
import { cannotMount } from '../fuse/mounted.js';
import { isMounted, MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
process.env.HOLDFAST_RUN_DIR = bed.runDirectory;
const location = { metadata: bed.cluster.etcd.url, secretFile: bed.cluster.secretFile };
const here = await openLifecycle(location, { machine: 'alpha' });
const { lifecycle } = here;
t.teardown(async () => {
  for (const { directory, name } of await lifecycle.machine.list()) {
    if (directory !== null) await lifecycle.unmount(directory, { lazy: true });
    else await lifecycle.machine.closeDevice(name);
  }
  await here.close();
  await bed.close();
});
t.afterEach(() => bed.assertNothingLeft());

/** The kernel asks for a capability that a machine's root may lack. */
function cannotGrowExt4(): string | false {
  const text = readFileSync('/proc/self/status', 'utf8');
  const held = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(text)?.[1] ?? '0'}`);
  const SYS_RESOURCE = 24n;
  return (held >> SYS_RESOURCE) % 2n === 1n ? false : 'no CAP_SYS_RESOURCE here';
}

const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
    return 'done';
  } catch (thrown) {
    return thrown instanceof HoldfastError ? thrown.code : String(thrown);
  }
};

t.test('a filesystem volume: made, mounted, bound, looked at, unmounted, removed', async (t) => {
  const wanted = { name: 'files', sizeBytes: 64 * MIB };
  const volume = await lifecycle.create(wanted);
  t.match(await lifecycle.create(wanted), { id: volume.id, condition: { abnormal: false } });
  t.equal(await codeOf(lifecycle.create({ ...wanted, kind: 'block' })), 'ALREADY_EXISTS');
  const directory = join(bed.root, 'stage', 'files');
  const mounted = await lifecycle.mount(volume.id, directory);
  t.match(mounted, { id: volume.id, directory, kind: 'filesystem', readOnly: false, targets: [] });
  t.match(await lifecycle.mount(volume.id, directory), { mount: { mount: mounted.mount.mount } });
  t.equal(
    await codeOf(lifecycle.mount(volume.id, directory, { readOnly: true })),
    'ALREADY_EXISTS',
  );
  const second = join(bed.root, 'elsewhere');
  t.equal(await codeOf(lifecycle.mount(volume.id, second)), 'CONFLICT');
  t.notOk(existsSync(second), 'no directory is left that looks like a volume');
  const targets = ['one', 'two'].map((name) => join(bed.root, 'pods', name));
  const [one = '', two = ''] = targets;
  for (const again of [false, true]) {
    await lifecycle.bind({ source: directory, target: one });
    await lifecycle.bind({ source: directory, target: two, readOnly: true });
    t.ok(isMounted(two), `again: ${again}`);
  }
  t.equal(await codeOf(lifecycle.bind({ source: directory, target: two })), 'ALREADY_EXISTS');
  t.equal(
    (await shell(`echo here > ${one}/file && sync ${one}/file && cat ${two}/file`)).text,
    'here',
  );
  t.match((await shell(`echo no > ${two}/other`)).text, /Read-only file system/);
  t.same((await lifecycle.here(volume.id))?.targets.toSorted(), targets);
  for (const path of [directory, one]) {
    const stats = await lifecycle.stats(path);
    t.match(stats, { id: volume.id, totalBytes: 64 * MIB, condition: { abnormal: false } });
    t.ok((stats.usedInodes ?? 0) >= 2 && (stats.availableInodes ?? 0) > 1000);
  }
  t.equal(await codeOf(lifecycle.stats(bed.root)), 'NOT_FOUND');
  t.equal(await codeOf(lifecycle.unmount(directory)), 'BUSY', 'it is bound elsewhere');
  await lifecycle.expand(volume.id, 128 * MIB);
  await lifecycle.growHere(volume.id);
  t.equal((await lifecycle.stats(one)).totalBytes, 128 * MIB);
  t.equal(await codeOf(lifecycle.remove(volume.id)), 'CONFLICT');
  for (const target of [one, one, two]) await lifecycle.unbind(target);
  t.notOk(existsSync(one) || existsSync(two));
  await lifecycle.unmount(directory);
  await lifecycle.unmount(directory);
  await lifecycle.remove(volume.id);
  await lifecycle.remove(volume.id);
  t.equal(await lifecycle.get(volume.id), null);
});

t.test('taken away lazily while somebody uses it: not mounted there, and refused', async (t) => {
  const volume = await lifecycle.create({ name: 'hidden', sizeBytes: 64 * MIB });
  const directory = join(bed.root, 'stage', 'hidden');
  t.match(await lifecycle.mount(volume.id, directory), { shown: true });
  const user = spawn('sleep', ['60'], { cwd: directory });
  t.teardown(() => user.kill('SIGKILL'));
  await lifecycle.unmount(directory, { lazy: true });
  t.match(await lifecycle.here(volume.id), { shown: false, mount: { state: 'mounted' } });
  await t.rejects(lifecycle.mount(volume.id, directory), {
    code: 'CONFLICT',
    message: /no longer mounted at .*, but still used there/,
  });
  t.notOk(isMounted(directory));
  user.kill('SIGKILL');
  const again = await lifecycle.mount(volume.id, directory);
  t.ok(again.shown && isMounted(directory), 'once its user has gone');
  await lifecycle.unmount(directory);
  await lifecycle.remove(volume.id);
});

t.test('a block volume: a device, a filesystem, nothing left', async (t) => {
  const volume = await lifecycle.create({ name: 'disk', sizeBytes: 96 * MIB, kind: 'block' });
  const raw = await lifecycle.openDevice(volume.id);
  const device = raw.device ?? '';
  t.match(raw, { directory: null, kind: 'block', device: /^\/dev\/loop\d+$/ });
  const marker = join(raw.mount.directory, 'formatting');
  t.equal((await shell(`touch ${marker}`)).status, 0, 'as of a format that was cut off');
  t.equal((await lifecycle.openDevice(volume.id)).device, device);
  t.not((await shell(`ls ${marker}`)).status, 0, 'what is written from now on is kept');
  const target = join(bed.root, 'pods', 'device');
  await lifecycle.bind({ source: device, target });
  await lifecycle.bind({ source: device, target });
  t.match(await lifecycle.here(volume.id), { targets: [target] });
  t.equal((await lifecycle.stats(target)).totalBytes, 96 * MIB);
  t.equal(await codeOf(lifecycle.closeDevice(volume.id)), 'BUSY');
  await lifecycle.unbind(target);
  t.notOk(existsSync(target));
  const directory = join(bed.root, 'stage', 'disk');
  const mounted = await lifecycle.mount(volume.id, directory);
  t.match(mounted, { directory, device, fsType: 'ext4' });
  t.equal((await lifecycle.mount(volume.id, directory)).device, device);
  t.equal(await codeOf(lifecycle.mount(volume.id, directory, { fsType: 'xfs' })), 'ALREADY_EXISTS');
  t.equal((await shell(`echo kept > ${directory}/file && sync ${directory}/file`)).status, 0);
  await lifecycle.unmount(directory);
  await lifecycle.unmount(directory);
  await lifecycle.closeDevice(volume.id);
  t.same(await lifecycle.machine.list(), []);
  t.equal(await codeOf(lifecycle.mount(volume.id, directory, { fsType: 'xfs' })), 'ALREADY_EXISTS');
  await lifecycle.mount(volume.id, directory);
  t.equal((await shell(`cat ${directory}/file`)).text, 'kept');
  const { text } = await shell(
    `dd if=/dev/zero of=${directory}/full bs=1M; rm ${directory}/full; sync ${directory}`,
  );
  t.match(text, /No space left/, 'the filesystem is full before the volume is');
  t.notMatch(text, /Input\/output/);
  await lifecycle.unmount(directory);
  const { text: loops } = await shell('losetup --list --noheadings --output BACK-FILE');
  t.notOk(loops.includes(bed.root), 'no loop device is left');
  await lifecycle.remove(volume.id);
});

/** Also of what is no FUSE mount. */
async function isThere(directory: string): Promise<boolean> {
  return (await shell(`mountpoint -q ${directory}`)).status === 0;
}

/** A block volume that is mounted, with a file that nobody has flushed; and what it is made of. */
async function unflushed(name: string) {
  const { id } = await lifecycle.create({ name, sizeBytes: 96 * MIB, kind: 'block' });
  const directory = join(bed.root, 'stage', name);
  const { mount } = await lifecycle.mount(id, directory);
  await shell(`head -c 20000000 /dev/urandom > ${directory}/new`);
  const sum = (await shell(`md5sum < ${directory}/new`)).text;
  return { id, directory, sum, keeper: mount.keeperPid ?? 0 };
}

/** Mounted again it holds what it held, and whatever its last user wrote. */
async function isWhole(t: Test, { id, directory, sum }: Awaited<ReturnType<typeof unflushed>>) {
  await bed.assertNothingLeft();
  const { text: loops } = await shell('losetup --list --noheadings --output BACK-FILE');
  t.notOk(loops.includes(id), 'no loop device is left');
  await lifecycle.mount(id, directory);
  t.equal((await shell(`md5sum < ${directory}/new && cat ${directory}/late`)).text, `${sum}\nlate`);
  await lifecycle.unmount(directory);
  await lifecycle.remove(id);
}

t.test('the orderly end of a mount takes nothing from the filesystem on it', async (t) => {
  const volume = await unflushed('ended');
  const { directory, keeper } = volume;
  // As a container has it: a copy of the mount, in which it writes until it ends.
  const user = shell(`unshare -m sh -c 'sleep 4; echo late > ${directory}/late'`);
  await sleep(1_000);
  process.kill(keeper, 'SIGTERM');
  await sleep(1_500);
  t.notOk(await isThere(directory), 'taken away here at once');
  t.equal((await user).status, 0);
  await isWhole(t, volume);
});

t.test('a block volume that is unmounted lazily ends with its last user', async (t) => {
  const volume = await unflushed('lazy');
  const { directory, id } = volume;
  const user = shell(`cd ${directory} && sleep 12 && echo late > late`);
  await sleep(500);
  t.equal(await codeOf(lifecycle.unmount(directory)), 'BUSY');
  t.equal(await codeOf(lifecycle.unmount(directory, { lazy: true })), 'done');
  t.notOk(await isThere(directory));
  for (const _ of [1, 2]) t.equal(await codeOf(lifecycle.openDevice(id)), 'CONFLICT', 'not yet');
  t.equal((await user).status, 0);
  await isWhole(t, volume);
});

t.test(
  'a block volume that is unmounted lazily is not taken from users at another place',
  async (t) => {
    const volume = await unflushed('bound');
    const { directory, id } = volume;
    const target = join(bed.root, 'pods', 'bound');
    await lifecycle.bind({ source: directory, target });
    t.equal(await codeOf(lifecycle.unmount(directory, { lazy: true })), 'done');
    const user = shell(`cd ${target} && sleep 3 && echo late > late`);
    await sleep(500);
    t.equal(await codeOf(lifecycle.unmount(target)), 'BUSY');
    t.ok(await isThere(target));
    t.equal(await codeOf(lifecycle.openDevice(id)), 'CONFLICT', 'not yet');
    t.equal((await user).status, 0);
    t.equal(await codeOf(lifecycle.unmount(target)), 'done');
    await isWhole(t, volume);
  },
);

t.test('the command line mounts block volumes as well', async (t) => {
  const made = await bed.holdfast(
    ...['volume', 'create', 'cli', '--size', '320MiB', '--kind', 'block', '--fs-type', 'xfs'],
  );
  t.equal(made.code, 0, made.stderr);
  const directory = bed.directory('cli');
  // What the configuration says of mounts is for others: no block volume serves numbers.
  const config = join(bed.root, 'mount.json');
  writeFileSync(config, JSON.stringify({ mount: { metrics: '127.0.0.1:0' } }));
  const { lines, code, stderr } = await bed.holdfast(
    ...['mount', 'cli', directory, '--json', '--config', config],
  );
  t.equal(code, 0, stderr);
  t.match(JSON.parse(lines[0] ?? ''), { directory, fsType: 'xfs', device: /^\/dev\/loop/ });
  const grown = await bed.holdfast('volume', 'expand', 'cli', '--size', '500MiB');
  t.equal(grown.code, 0, grown.stderr);
  const bytes = Number((await shell(`df --output=size -B1 ${directory} | tail -1`)).text);
  t.ok(bytes > 400 * MIB, `${bytes}`);
  const expected = [
    [['mount', 'cli', bed.directory('again')], 18],
    [['mount', 'db', bed.directory('files'), '--fs-type', 'ext4'], 2],
    [['volume', 'create', 'odd', '--size', '1GiB', '--fs-type', 'ext4'], 2],
    [['volume', 'create', 'odd', '--size', '1GiB', '--kind', 'block', '--fs-type', 'fat'], 2],
  ] as const;
  for (const [args, exit] of expected) {
    const said = await bed.holdfast(...args);
    t.equal(said.code, exit, `${args.join(' ')}: ${said.stderr}`);
    t.equal(said.stderr.trim().split('\n').length, 1, 'one line');
  }
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  t.equal((await bed.holdfast('umount', directory)).code, 12);
});

t.test('settings: a mount follows its commit interval, the next one its ack quorum', async (t) => {
  const { id } = await lifecycle.create({ name: 'set', sizeBytes: 64 * MIB });
  const directory = join(bed.root, 'stage', 'set');
  await lifecycle.modify(id, { commitIntervalMs: 60_000 });
  await lifecycle.mount(id, directory);
  await shell(`echo one > ${directory}/one`);
  const dirty = async (): Promise<number> =>
    (await lifecycle.here(id))?.mount.live?.dirtyBytes ?? -1;
  await sleep(7_000);
  t.ok((await dirty()) > 0, 'not within the usual 5 s');
  t.equal((await shell(`sync ${directory}/one`)).status, 0);
  t.match(await lifecycle.modify(id, { commitIntervalMs: 1_000, ackQuorum: 3 }), {
    ackQuorum: 2,
    nextAckQuorum: 3,
  });
  await sleep(4_000);
  await shell(`echo two > ${directory}/two`);
  await sleep(3_000);
  t.equal(await dirty(), 0);
  await lifecycle.unmount(directory);
  await lifecycle.mount(id, directory);
  t.match(await lifecycle.get(id), { ackQuorum: 3, nextAckQuorum: null });
  const [node] = bed.cluster.nodes;
  await node?.kill();
  const waits = shell(`cd ${directory} && cat one two && echo three > three && sync three`);
  const first = await Promise.race([waits, sleep(3_000, null)]);
  t.equal(first, null, 'an fsync waits for all three copies');
  await node?.start();
  t.same(await waits, { status: 0, text: 'one\ntwo' });
  await lifecycle.unmount(directory);
  await lifecycle.remove(id);
});

const growing: readonly [BlockFilesystem, number, string | false][] = [
  ['xfs', 320 * MIB, false],
  ['ext4', 96 * MIB, cannotGrowExt4()],
];
for (const [fsType, sizeBytes, skip] of growing) {
  t.test(`${fsType} on a device grows while it is used`, { skip }, async (t) => {
    const volume = await lifecycle.create({ name: fsType, sizeBytes, kind: 'block', fsType });
    const directory = join(bed.root, 'stage', fsType);
    t.match(await lifecycle.mount(volume.id, directory), { fsType });
    const before = await lifecycle.stats(directory);
    await lifecycle.expand(volume.id, sizeBytes + 100 * MIB);
    await lifecycle.growHere(volume.id);
    await lifecycle.growHere(volume.id);
    const after = await lifecycle.stats(directory);
    t.ok(after.totalBytes > before.totalBytes + 80 * MIB, `${before.totalBytes}…`);
    await lifecycle.unmount(directory);
    await lifecycle.remove(volume.id);
  });
}

t.test('a device that holds anything at all is not formatted', async (t) => {
  const volume = await lifecycle.create({ name: 'raw', sizeBytes: 32 * MIB, kind: 'block' });
  const { device } = await lifecycle.openDevice(volume.id);
  await shell(`printf data | dd of=${device} bs=4096 seek=100 conv=fsync`);
  const directory = join(bed.root, 'stage', 'raw');
  t.equal(await codeOf(lifecycle.mount(volume.id, directory)), 'INCONSISTENT');
  t.notOk(existsSync(directory));
  const { text } = await shell(`dd if=${device} bs=4096 skip=100 count=1 2>/dev/null | head -c 4`);
  t.equal(text, 'data');
  await lifecycle.closeDevice(volume.id);
  await lifecycle.remove(volume.id);
});
