/**
 * The CSI driver in the wrong ways that kubelet takes, and when something dies below it: what is
 * left behind is right each time, as the kernel's tables have it.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { test } from 'tap';
import { BLOCK, MOUNT } from '../csi-driver/caller.js';
import { does, KUBELET_TEST_MS as TEST_MS, world } from './csi-world.js';
import { mountsAt, stateOf } from './kubelet.js';

const { bed, driver, provision } = await world(t);

test('published without being staged', { timeout: TEST_MS }, async (t) => {
  const one = await provision({ name: 'pvc-unstaged', capability: MOUNT });
  await one.attach();
  await one.publish('a');
  t.same([mountsAt(one.staging), stateOf(one.target('a'))], [1, 1]);
  await does(t, `echo kept > ${one.target('a')}/f`);
  t.match(
    await one.driver.outcome('NodeUnstageVolume', one.unstageRequest),
    /^FAILED_PRECONDITION: The volume is still published at/,
    'unstaged too early',
  );
  await one.unpublish('a');
  // Somebody took the staged mount out of the tree, and kubelet does not know.
  await does(t, `umount -l ${one.staging}`);
  await one.driver.restart();
  await one.insist('NodePublishVolume', one.publishRequest('b'));
  t.same([mountsAt(one.staging), stateOf(one.target('b'))], [1, 1]);
  t.equal(await does(t, `cat ${one.target('b')}/f`), 'kept');
  await one.end('b');
  t.same(await bed.leftovers(), []);
});

test('staged before unstaging has ended, and everything at once', {
  timeout: TEST_MS,
}, async (t) => {
  const one = await provision({ name: 'pvc-hasty', capability: MOUNT });
  const allowed = /^OK$|^ABORTED|still published/;
  await one.start('a');
  await does(t, `echo kept > ${one.target('a')}/f`);
  await one.unpublish('a');
  const unstaging = one.driver.outcome('NodeUnstageVolume', one.unstageRequest);
  await sleep(50);
  const staging = one.driver.outcome('NodeStageVolume', one.stageRequest);
  t.match(await unstaging, allowed);
  t.match(await staging, allowed);
  await one.insist('NodeStageVolume', one.stageRequest);
  t.equal(mountsAt(one.staging), 1);
  const many = <T>(times: number, call: () => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: times }, call));
  const calls: readonly (readonly [string, object])[] = [
    ['NodeStageVolume', one.stageRequest],
    ['NodePublishVolume', one.publishRequest('b')],
    ['NodePublishVolume', one.publishRequest('c')],
  ];
  for (const [method, request] of calls) {
    const outcomes = await many(8, () => one.driver.outcome(method, request));
    for (const outcome of outcomes) t.match(outcome, allowed, method);
    await one.insist(method, request);
  }
  t.same([one.staging, one.target('b'), one.target('c')].map(stateOf), [1, 1, 1]);
  t.equal(await does(t, `cat ${one.target('c')}/f`), 'kept');
  const ends: readonly (readonly [string, object])[] = [
    ['NodeUnpublishVolume', one.unpublishRequest('b')],
    ['NodeUnpublishVolume', one.unpublishRequest('c')],
    ['NodeUnstageVolume', one.unstageRequest],
    ['ControllerUnpublishVolume', one.attachRequest],
    ['DeleteVolume', { volume_id: one.id }],
  ];
  const all = await Promise.all(
    ends.flatMap(([method, request]) => {
      return [1, 2, 3].map(() => one.driver.outcome(method, request));
    }),
  );
  t.ok(all.includes('OK'), 'mixed up, each ends or is to be repeated');
  for (const [method, request] of ends) await one.insist(method, request);
  t.same(await bed.leftovers(), []);
});

for (const [what, capability] of [
  ['files', MOUNT],
  ['a device', BLOCK],
] as const) {
  test(`the driver dies in the middle of each call, ${what}`, { timeout: TEST_MS }, async (t) => {
    const one = await provision({ name: `pvc-killed-${what.replace(/\W/g, '-')}`, capability });
    const a = one.target('a');
    const steps: readonly (readonly [string, object])[] = [
      ['ControllerPublishVolume', one.attachRequest],
      ['NodeStageVolume', one.stageRequest],
      ['NodePublishVolume', one.publishRequest('a')],
      ['NodeUnpublishVolume', one.unpublishRequest('a')],
      ['NodeUnstageVolume', one.unstageRequest],
      ['ControllerUnpublishVolume', one.attachRequest],
    ];
    for (const delayMs of [20, 250]) {
      for (const [method, request] of steps) {
        const outcome = one.driver.outcome(method, request);
        await sleep(delayMs);
        await one.driver.restart();
        const said = await outcome;
        // A program that the dead driver had started may still look at the device.
        t.match(said, /^OK$|^UNAVAILABLE|^ABORTED|^code 1:| is in use/, `${method}, ${delayMs} ms`);
        const isPublished = method === 'NodePublishVolume';
        if (isPublished && said === 'OK') t.equal(stateOf(a), 1, 'OK means that it is there');
        await one.insist(method, request);
        if (isPublished) t.equal(stateOf(a), 1);
      }
      t.equal(stateOf(a), 'absent');
      t.same(await bed.leftovers(), [], `nothing is left at ${delayMs} ms`);
    }
  });
}

test('unstaged by the next driver while the agent still mounts', {
  timeout: TEST_MS,
}, async (t) => {
  const { root } = bed.bed;
  const socket = join(root, 'agent.sock');
  const agent = bed.bed.start(['agent', '--socket', socket, '--scope', 'session', '--json']);
  t.teardown(() => agent.kill());
  await agent.line(/"ready"/, 60_000);
  const first = await bed.driver('node-2', { args: ['--agent', socket] });
  await first.call('NodeGetInfo');
  const one = (await provision({ name: 'pvc-begun', capability: MOUNT })).on(first, root);
  for (const delayMs of [50, 400, 900]) {
    await one.attach();
    const staging = first.outcome('NodeStageVolume', one.stageRequest);
    await sleep(delayMs);
    await first.restart();
    await staging;
    await one.insist('NodeUnstageVolume', one.unstageRequest);
    const left = [mountsAt(one.staging), await bed.bed.mounts()];
    t.same(left, [0, []], `OK after ${delayMs} ms means that nothing is or will be there`);
    await one.insist('ControllerUnpublishVolume', one.attachRequest);
  }
  const there = one.on(driver, root);
  await there.start('a');
  t.equal(stateOf(there.target('a')), 1, 'any other machine may have it');
  await there.end('a');
  await agent.kill();
  t.same(await bed.leftovers(), []);
});

test('what cannot be mounted leaves nothing to start on', { timeout: TEST_MS }, async (t) => {
  const one = await provision({ name: 'pvc-blocked', capability: MOUNT });
  await one.attach();
  await does(t, `mkdir -p $(dirname ${one.staging}) && touch ${one.staging}`);
  const foreign = await driver.outcome('NodePublishVolume', one.publishRequest('a'));
  t.match(foreign, /^(INVALID_ARGUMENT|UNAVAILABLE): .*globalmount/, 'a file is in the way');
  t.equal(stateOf(one.target('a')), 'absent');
  await does(t, `rm ${one.staging} && mkdir ${one.staging} && mount -t tmpfs none ${one.staging}`);
  const hidden = await driver.outcome('NodeStageVolume', one.stageRequest);
  t.match(hidden, /^ALREADY_EXISTS: .*has none \(tmpfs\)/, 'nothing is mounted over what is there');
  t.equal(mountsAt(one.staging), 1);
  await does(t, `umount ${one.staging} && rmdir ${one.staging}`);
  await does(t, `mkdir -p ${one.target('b')} && mount -t tmpfs none ${one.target('b')}`);
  const taken = await driver.outcome('NodePublishVolume', one.publishRequest('b'));
  t.match(taken, /^ALREADY_EXISTS: .*has none \(tmpfs\)/, 'something else is at the target');
  t.equal(mountsAt(one.target('b')), 1, "and is somebody else's");
  await does(t, `umount ${one.target('b')} && rmdir ${one.target('b')}`);
  await one.unstage();
  for (const node of bed.bed.cluster.nodes) node.process?.signal('SIGSTOP');
  const paused = one.driver.outcome('NodePublishVolume', one.publishRequest('c'));
  await sleep(3_000);
  t.not(stateOf(one.target('c')), 'empty', 'no directory while the volume is not there');
  for (const node of bed.bed.cluster.nodes) node.process?.signal('SIGCONT');
  t.equal(await paused, 'OK');
  await one.end('c');
  t.same(await bed.leftovers(), []);
});

const EXT4 = { mount: { fs_type: 'ext4' }, access_mode: { mode: 1 } };

/** What is left of the mount below a staged ext4 when it ends: it cannot be written to any more. */
const endings: readonly (readonly [string, (directory: string, state: string) => string])[] = [
  ['a mount that answers nothing', () => 'true'],
  ['its state, as when it was fenced', (directory) => `umount -i -c -l ${directory}`],
  ['nothing', (directory, state) => `umount -i -c -l ${directory} && rm -r ${state}`],
];
for (const [left, ending] of endings) {
  test(`the mount below an ext4 ends, and leaves ${left}`, { timeout: TEST_MS }, async (t) => {
    const name = `pvc-ended-${left.length}`;
    const one = await provision({ name, capability: EXT4, sizeBytes: 96 * 2 ** 20 });
    const end = async (): Promise<void> => {
      const [mount] = await bed.bed.mounts();
      if (mount === undefined) throw new Error('it is not mounted');
      process.kill(mount.keeperPid ?? 0, 'SIGKILL');
      process.kill(mount.live?.pid ?? 0, 'SIGKILL');
      await sleep(300);
      const state = join(bed.bed.runDirectory, 'mounts', mount.mount);
      await does(t, ending(mount.directory, state));
    };
    await one.start('a');
    await does(t, `echo kept > ${one.target('a')}/f && sync ${one.target('a')}/f`);
    await end();
    await one.insist('NodeStageVolume', one.stageRequest);
    t.equal(mountsAt(one.staging), 1, 'staged again, over it');
    await one.unpublish('a');
    await one.publish('b');
    t.equal(await does(t, `echo 2 >> ${one.target('b')}/f && sync ${one.target('b')}/f`), '');
    await end();
    await one.unpublish('b');
    for (const _ of [1, 2]) await one.unstage();
    t.equal(mountsAt(one.staging), 0, 'unstaged');
    t.same(await bed.loops(), []);
    await one.insist('NodeStageVolume', one.stageRequest);
    await one.publish('c');
    t.equal(await does(t, `cat ${one.target('c')}/f`), 'kept\n2');
    await one.end('c');
    t.same(await bed.leftovers(), []);
  });
}

test('without the metadata store', { timeout: TEST_MS }, async (t) => {
  const one = await provision({ name: 'pvc-lonely', capability: MOUNT });
  await one.start('a');
  await does(t, `echo kept > ${one.target('a')}/f`);
  const [etcd] = bed.bed.cluster.etcd.members;
  await etcd?.kill();
  await driver.restart();
  t.equal(await driver.outcome('Probe'), 'OK');
  await one.publish('b');
  t.equal(await does(t, `cat ${one.target('b')}/f`), 'kept', 'one more pod of this machine');
  const stats = { volume_id: one.id, volume_path: one.target('b') };
  t.equal(await driver.outcome('NodeGetVolumeStats', stats), 'OK');
  await one.unpublish('a');
  await one.unpublish('b');
  t.same([stateOf(one.target('a')), stateOf(one.target('b'))], ['absent', 'absent']);
  const wish = { name: 'pvc-new', volume_capabilities: [MOUNT] };
  t.match(await driver.outcome('CreateVolume', wish), /^(UNAVAILABLE|DEADLINE_EXCEEDED)/);
  t.match(await driver.outcome('CreateVolume', { name: 'x' }), /^INVALID_ARGUMENT/);
  etcd?.start();
  await etcd?.ready();
  await one.insist('NodeUnstageVolume', one.unstageRequest);
  await one.insist('ControllerUnpublishVolume', one.attachRequest);
  await one.insist('DeleteVolume', { volume_id: one.id });
  t.same(await bed.leftovers(), []);
});
