/**
 * The CSI driver as Kubernetes uses it, over a real cluster and real mounts. After each test the
 * kernel's tables say what is left. The wrong ways are in csi-wrong-ways.test.ts.
 */
import { readFileSync } from 'node:fs';
import t, { test } from 'tap';
import { BLOCK, MOUNT } from '../csi-driver/caller.js';
import { does, KUBELET_TEST_MS as TEST_MS, world } from './csi-world.js';
import { Kubelet, mountsAt, stateOf } from './kubelet.js';
import { processesBelow, shell } from './mount-bed.js';

const MIB = 2 ** 20;

const { bed, driver, provision } = await world(t);
const { root } = bed.bed;

function withMount(more: object): object {
  return { mount: more, access_mode: { mode: 1 } };
}

test('a volume of files, from its creation to its end', { timeout: TEST_MS }, async (t) => {
  const capability = withMount({ volume_mount_group: '4711', mount_flags: ['noatime'] });
  const one = await provision({ name: 'pvc-files', capability });
  await one.attach();
  await one.stage();
  await does(
    t,
    `mkdir ${one.staging}/d && echo old > ${one.staging}/d/f && ln -s /etc/passwd \
${one.staging}/d/link && chmod 700 ${one.staging}/d && chmod 600 ${one.staging}/d/f && \
chgrp 0 ${one.staging}`,
  );
  const before = await does(t, 'stat -c %g:%a /etc/passwd');
  await one.publish('a');
  await one.publish('b', { readonly: true });
  const [a, b] = [one.target('a'), one.target('b')];
  t.equal(await does(t, `stat -c %g:%a ${a}/d/f`), '4711:660', 'the group may use what was there');
  t.equal(await does(t, `stat -c %g:%a ${a}/d`), '4711:2770');
  t.equal(await does(t, 'stat -c %g:%a /etc/passwd'), before, 'no link was followed');
  const user = { uid: 1000, gid: 4711 };
  await does(t, `chmod 711 ${bed.bed.root}`);
  t.equal((await shell(`echo new > ${a}/d/g`, user)).status, 0, 'the group writes');
  t.equal(await does(t, `stat -c %g ${a}/d/g`), '4711');
  t.match((await shell(`echo no > ${b}/d/h`)).text, /Read-only/);
  t.equal(await does(t, `cat ${b}/d/g`), 'new');
  t.match(await does(t, `findmnt -no OPTIONS ${a}`), /noatime/);
  const size = async (): Promise<number> =>
    Number(await does(t, `df -B1 --output=size ${a} | tail -1`));
  t.ok((await size()) <= 64 * MIB);
  const request = { volume_id: one.id, capacity_range: { required_bytes: 256 * MIB } };
  const grown = await one.driver.call('ControllerExpandVolume', request);
  t.match(grown, { capacity_bytes: String(256 * MIB), node_expansion_required: true });
  await one.driver.call('NodeExpandVolume', { ...request, volume_path: a });
  t.ok((await size()) > 200 * MIB, 'grown below a running pod');
  const stats = await one.driver.call('NodeGetVolumeStats', { volume_id: one.id, volume_path: a });
  t.match(stats, {
    usage: [{ total: String(256 * MIB) }, {}],
    volume_condition: { abnormal: false },
  });
  await one.unpublish('b');
  await one.end('a');
  t.same([stateOf(a), stateOf(b), mountsAt(one.staging)], ['absent', 'absent', 0]);
  await one.start('c');
  t.equal(await does(t, `cat ${one.target('c')}/d/f ${one.target('c')}/d/g`), 'old\nnew');
  const used = await one.driver.outcome('DeleteVolume', { volume_id: one.id });
  t.match(used, /^FAILED_PRECONDITION/, 'in use');
  await one.end('c');
  await one.delete();
  await one.delete();
  t.same(await bed.leftovers(), []);
});

test('a device', { timeout: TEST_MS }, async (t) => {
  const one = await provision({ name: 'pvc-device', capability: BLOCK });
  await one.start('a');
  const a = one.target('a');
  const size = (): Promise<string> => does(t, `blockdev --getsize64 ${a}`);
  t.equal(await size(), String(64 * MIB));
  await does(t, `echo hello | dd of=${a} bs=4096 seek=3 conv=sync,fsync 2>/dev/null`);
  const request = { volume_id: one.id, capacity_range: { required_bytes: 128 * MIB } };
  await one.driver.call('ControllerExpandVolume', request);
  await one.driver.call('NodeExpandVolume', { ...request, volume_path: a });
  t.equal(await size(), String(128 * MIB), 'grown while it is open to a pod');
  const stats = await one.driver.call('NodeGetVolumeStats', { volume_id: one.id, volume_path: a });
  t.match(stats.usage, [{ unit: 1, total: String(128 * MIB) }]);
  await one.end('a');
  t.equal(stateOf(a), 'absent');
  t.same(await bed.loops(), []);
  await one.start('b');
  t.equal(
    await does(t, `dd if=${one.target('b')} bs=4096 skip=3 count=1 2>/dev/null | tr -d '\\0'`),
    'hello',
  );
  await one.end('b');
  await one.delete();
  t.same(await bed.leftovers(), []);
});

/** The kernel asks for it where ext4 grows while it is mounted. */
function mayGrowExt4(): boolean {
  const CAP_SYS_RESOURCE = 24n;
  const status = readFileSync('/proc/self/status', 'utf8');
  const capabilities = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(status)?.[1] ?? '0'}`);
  return ((capabilities >> CAP_SYS_RESOURCE) & 1n) === 1n;
}

for (const fsType of ['ext4', 'xfs'] as const) {
  test(`${fsType} on a device`, { timeout: TEST_MS }, async (t) => {
    const sizeBytes = 320 * MIB;
    const capability = withMount({ fs_type: fsType });
    const one = await provision({ name: `pvc-${fsType}`, capability, sizeBytes });
    await one.start('a');
    const a = one.target('a');
    t.equal(await does(t, `findmnt -no FSTYPE ${a}`), fsType);
    await does(t, `echo kept > ${a}/f && sync ${a}/f`);
    const request = { volume_id: one.id, capacity_range: { required_bytes: 2 * sizeBytes } };
    const size = (at: string) => does(t, `df -B1 --output=size ${at} | tail -1`).then(Number);
    const before = await size(a);
    await one.driver.call('ControllerExpandVolume', request);
    const grown = await one.driver.outcome('NodeExpandVolume', { ...request, volume_path: a });
    if (fsType === 'ext4' && !mayGrowExt4()) {
      t.match(grown, /^UNAVAILABLE: .* cannot grow.*SYS_RESOURCE/, 'not below a running pod, here');
      t.equal(await size(a), before);
    } else {
      t.equal(grown, 'OK');
      t.ok((await size(a)) > 1.5 * before, 'grown below a running pod');
    }
    await one.end('a');
    await one.start('b');
    t.equal(await does(t, `cat ${one.target('b')}/f`), 'kept');
    t.ok((await size(one.target('b'))) > 1.5 * before, 'grown before it was mounted at the latest');
    t.match(await does(t, `findmnt -no OPTIONS ${one.target('b')}`), /^rw/);
    await one.end('b');
    await one.delete();
    t.same(await bed.leftovers(), []);
  });
}

test('from machine to machine', { timeout: TEST_MS }, async (t) => {
  const second = await bed.driver('node-2', { env: { HOLDFAST_RUN_DIR: `${root}/run2` } });
  await second.call('NodeGetInfo');
  const here = await provision({ name: 'pvc-moving', capability: MOUNT });
  const there = here.on(second, root);
  await here.start('a');
  await does(t, `echo first > ${here.target('a')}/f && sync ${here.target('a')}/f`);
  const attach = (): Promise<string> =>
    driver.outcome('ControllerPublishVolume', there.attachRequest);
  t.match(await attach(), /^FAILED_PRECONDITION: .*node-1/, 'one machine at a time');
  const stolen = await second.outcome('NodePublishVolume', there.publishRequest('a'));
  t.match(stolen, /^FAILED_PRECONDITION/, 'also for who does not ask');
  t.equal(stateOf(there.target('a')), 'absent');
  let since = Date.now();
  await here.end('a');
  await there.start('a');
  const orderly = Date.now() - since;
  t.equal(await does(t, `cat ${there.target('a')}/f`), 'first');
  t.ok(orderly < 20_000, `moved in ${orderly} ms after an orderly release`);
  await does(t, `echo second > ${there.target('a')}/f && sync ${there.target('a')}/f`);
  await there.end('a');
  await here.start('b');
  await does(t, `echo third > ${here.target('b')}/f && sync ${here.target('b')}/f`);
  // node-1 loses its power: its driver, its daemons and their keepers are no more.
  since = Date.now();
  await driver.kill();
  for (const pid of processesBelow(bed.bed.runDirectory)) process.kill(pid, 'SIGKILL');
  const late = await second.outcome('ControllerUnpublishVolume', here.attachRequest);
  t.equal(late, 'OK');
  t.equal(await second.outcome('ControllerPublishVolume', there.attachRequest), 'OK');
  await there.stage();
  await there.publish('b');
  t.comment(`moved in ${Date.now() - since} ms after the machine's death`);
  t.equal(await does(t, `cat ${there.target('b')}/f`), 'third');
  await there.end('b');
  const listed = await second.call('ControllerGetVolume', { volume_id: here.id });
  t.same(listed.status.published_node_ids, []);
  // node-1 is back, and its kubelet cleans up what it finds.
  await driver.start();
  await here.insist('NodeUnpublishVolume', here.unpublishRequest('b'));
  await here.insist('NodeUnstageVolume', here.unstageRequest);
  await here.delete();
  t.same(await bed.leftovers(), []);
});

test('an agent holds the mounts', { timeout: TEST_MS }, async (t) => {
  const socket = `${root}/agent.sock`;
  const contained = await bed.driver('node-3', { args: ['--agent', socket] });
  const early = await Kubelet.provision(contained, root, { name: 'pvc-early', capability: MOUNT });
  await contained.call('NodeGetInfo');
  await early.attach();
  const alone = await contained.outcome('NodePublishVolume', early.publishRequest('a'));
  t.match(alone, /^UNAVAILABLE/, 'the driver mounts nothing by itself');
  t.equal(stateOf(early.target('a')), 'absent');
  const agent = bed.bed.start(['agent', '--socket', socket, '--scope', 'session', '--json']);
  t.teardown(() => agent.kill());
  await agent.line(/"ready"/, 20_000);
  const since = Date.now();
  const one = await Kubelet.provision(contained, root, { name: 'pvc-held', capability: MOUNT });
  await one.start('a');
  t.comment(`created and mounted in ${Date.now() - since} ms`);
  await does(t, `echo kept > ${one.target('a')}/f`);
  await contained.restart();
  await agent.kill();
  t.equal(await does(t, `cat ${one.target('a')}/f`), 'kept', 'without driver and agent');
  const again = bed.bed.start(['agent', '--socket', socket, '--scope', 'session', '--json']);
  t.teardown(() => again.kill());
  await again.line(/"ready"/, 20_000);
  await one.publish('b');
  t.equal(await does(t, `cat ${one.target('b')}/f`), 'kept');
  await one.unpublish('b');
  await one.end('a');
  await early.detach();
  t.same(await bed.leftovers(), []);
});

test("kubelet's directory is a symbolic link", { timeout: TEST_MS }, async (t) => {
  await does(t, `mkdir ${root}/disk && ln -s disk ${root}/link`);
  const wish = { name: 'pvc-linked', capability: { mount: {}, access_mode: { mode: 6 } } };
  const one = await Kubelet.provision(driver, `${root}/link`, wish);
  const real = one.target('a').replace('/link/', '/disk/');
  for (const _ of [1, 2]) await one.start('a');
  t.equal(mountsAt(real), 1, 'once, also when it is asked for twice');
  const stats = { volume_id: one.id, volume_path: one.target('a') };
  t.equal(await driver.outcome('NodeGetVolumeStats', stats), 'OK');
  await one.end('a');
  t.same([stateOf(real), await bed.leftovers()], ['absent', []]);
});
