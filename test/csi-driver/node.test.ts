/** The Node service over a real socket, with a machine in memory. */
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { BLOCK, MOUNT } from './caller.js';
import { Driver } from './driver.js';

const UNKNOWN = 'f'.repeat(32);
const STAGING = '/k/staging';
const TARGET = '/k/pods/1/mount';

/** A driver with a volume that is attached to this machine, and its id. */
async function withVolume(
  capability: object = MOUNT,
  options: { readonly unpublishUnstages?: boolean } = {},
): Promise<{ driver: Driver; id: string }> {
  const driver = await Driver.start('all', options);
  await driver.call('NodeGetInfo');
  const { volume } = await driver.call('CreateVolume', {
    name: 'a',
    volume_capabilities: [capability],
  });
  const id: string = volume.volume_id;
  const node = { volume_id: id, node_id: 'node-1', volume_capability: capability };
  await driver.call('ControllerPublishVolume', node);
  driver.volumes.calls.length = 0;
  return { driver, id };
}

function stage(id: string, more: object = {}): object {
  return { volume_id: id, staging_target_path: STAGING, volume_capability: MOUNT, ...more };
}

function publish(id: string, more: object = {}): object {
  return { ...stage(id), target_path: TARGET, ...more };
}

test('a node says where it is, and is known to the controller from then on', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  t.match(await driver.call('NodeGetInfo'), {
    node_id: 'node-1',
    max_volumes_per_node: '0',
    accessible_topology: { segments: { 'topology.holdfast.io/zone': 'a' } },
  });
  t.match(driver.volumes.known, [{ machine: 'node-1', zone: 'a' }]);
});

test('arguments are looked at before anything else', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  const cases: readonly (readonly [string, object, RegExp])[] = [
    ['NodeStageVolume', stage(''), /^INVALID_ARGUMENT: volume_id is missing/i],
    ['NodeStageVolume', stage('x', { staging_target_path: '' }), /^INVALID_ARGUMENT: Staging/i],
    ['NodeStageVolume', stage('x', { volume_capability: null }), /^INVALID_ARGUMENT/],
    ['NodeStageVolume', stage('x', { staging_target_path: 'a' }), /^INVALID.*not absolute/],
    ['NodeStageVolume', stage('x', { staging_target_path: '/a/../b' }), /^INVALID.*"\.\." in it/],
    ['NodeStageVolume', stage('x', { staging_target_path: '/' }), /^INVALID.*root of the machine/],
    ['NodeUnstageVolume', { volume_id: 'x' }, /^INVALID_ARGUMENT/],
    ['NodePublishVolume', publish('x', { target_path: '' }), /^INVALID_ARGUMENT: target_path is/],
    ['NodePublishVolume', publish('x', { target_path: STAGING }), /^INVALID_ARGUMENT.*are one/],
    ['NodePublishVolume', publish('x', { staging_target_path: '' }), /^FAILED_PRECONDITION/],
    ['NodeUnpublishVolume', { volume_id: 'x' }, /^INVALID_ARGUMENT: target_path is missing/],
    ['NodeGetVolumeStats', { volume_id: 'x' }, /^INVALID_ARGUMENT: volume_path is missing/],
    ['NodeExpandVolume', { volume_id: 'x' }, /^INVALID_ARGUMENT: volume_path is missing/],
  ];
  for (const [method, request, expected] of cases) {
    t.match(await driver.outcome(method, request), expected, method);
  }
  const group = { mount: { volume_mount_group: 'staff' }, access_mode: { mode: 1 } };
  const grouped = await driver.outcome('NodeStageVolume', stage('x', { volume_capability: group }));
  t.match(grouped, /^INVALID_ARGUMENT: volume_mount_group "staff" is not/);
  t.same(driver.volumes.calls, []);
});

test('unknown volumes: what takes away is done, what gives is not found', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  for (const id of [UNKNOWN, 'rubbish', 'x'.repeat(500)]) {
    t.match(await driver.outcome('NodeStageVolume', stage(id)), /^NOT_FOUND: There is no volume/);
    t.match(await driver.outcome('NodePublishVolume', publish(id)), /^NOT_FOUND/);
    const unstage = { volume_id: id, staging_target_path: STAGING };
    t.equal(await driver.outcome('NodeUnstageVolume', unstage), 'OK');
    const unpublish = { volume_id: id, target_path: TARGET };
    t.equal(await driver.outcome('NodeUnpublishVolume', unpublish), 'OK');
    const stats = { volume_id: id, volume_path: '/some/path' };
    t.match(await driver.outcome('NodeGetVolumeStats', stats), /^NOT_FOUND/);
    t.match(await driver.outcome('NodeExpandVolume', stats), /^NOT_FOUND/);
  }
});

test('the life of a mounted volume on a node', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  const grouped = { mount: { volume_mount_group: '1234' }, access_mode: { mode: 1 } };
  const capability = { volume_capability: grouped };
  t.equal(await driver.outcome('NodeStageVolume', stage(id, capability)), 'OK');
  t.equal(await driver.outcome('NodePublishVolume', publish(id, capability)), 'OK');
  t.same(driver.granted, [`1234 ${STAGING}`, `1234 ${STAGING}`]);
  const stats = await driver.call('NodeGetVolumeStats', { volume_id: id, volume_path: TARGET });
  t.match(stats, {
    usage: [
      { unit: 1, total: '100', used: '40', available: '60' },
      { unit: 2, total: '10', used: '4', available: '6' },
    ],
    volume_condition: { abnormal: false },
  });
  const elsewhere = { volume_id: id, volume_path: '/elsewhere' };
  t.match(await driver.outcome('NodeGetVolumeStats', elsewhere), /^NOT_FOUND/);
  const other = { volume_id: UNKNOWN, volume_path: TARGET };
  t.match(await driver.outcome('NodeGetVolumeStats', other), /^NOT_FOUND/);
  const unstage = { volume_id: id, staging_target_path: STAGING };
  const early = await driver.outcome('NodeUnstageVolume', unstage);
  t.match(early, /^FAILED_PRECONDITION: The volume is still published at \/k\/pods\/1\/mount/);
  const wrong = { volume_id: UNKNOWN, target_path: TARGET };
  const refused = await driver.outcome('NodeUnpublishVolume', wrong);
  t.match(refused, /^FAILED_PRECONDITION: .* shows another volume/);
  t.equal(await driver.outcome('NodeUnpublishVolume', { ...wrong, volume_id: id }), 'OK');
  t.equal(await driver.outcome('NodeUnstageVolume', unstage), 'OK');
  t.equal(driver.volumes.local.size, 0);
});

test('the life of a device', async (t) => {
  const { driver, id } = await withVolume(BLOCK);
  t.teardown(() => driver.close());
  const capability = { volume_capability: BLOCK };
  t.equal(await driver.outcome('NodeStageVolume', stage(id, capability)), 'OK');
  t.equal(await driver.outcome('NodePublishVolume', publish(id, capability)), 'OK');
  t.same(driver.volumes.local.get(id)?.targets, [TARGET]);
  const stats = await driver.call('NodeGetVolumeStats', { volume_id: id, volume_path: TARGET });
  t.equal(stats.usage.length, 1, 'no inodes');
  const asMount = await driver.outcome('NodePublishVolume', publish(id, { target_path: '/k/b' }));
  t.match(asMount, /^ALREADY_EXISTS|^FAILED_PRECONDITION|^INVALID/);
  const readOnly = publish(id, { ...capability, target_path: '/k/b', readonly: true });
  const writable = await driver.outcome('NodePublishVolume', readOnly);
  t.match(writable, /^FAILED_PRECONDITION: The device is open for writing/);
  await driver.call('NodeUnpublishVolume', { volume_id: id, target_path: TARGET });
  await driver.call('NodeUnstageVolume', { volume_id: id, staging_target_path: STAGING });
  t.equal(driver.volumes.local.size, 0);
});

for (const capability of [MOUNT, BLOCK]) {
  test('where nobody unstages, the last unpublish does', async (t) => {
    const { driver, id } = await withVolume(capability, { unpublishUnstages: true });
    t.teardown(() => driver.close());
    const wish = { volume_capability: capability };
    t.equal(await driver.outcome('NodeStageVolume', stage(id, wish)), 'OK');
    for (const target_path of [TARGET, '/k/b']) {
      t.equal(
        await driver.outcome('NodePublishVolume', publish(id, { ...wish, target_path })),
        'OK',
      );
    }
    await driver.call('NodeUnpublishVolume', { volume_id: id, target_path: TARGET });
    t.equal(driver.volumes.local.size, 1, 'another container has it');
    for (const _ of [1, 2]) {
      await driver.call('NodeUnpublishVolume', { volume_id: id, target_path: '/k/b' });
      t.equal(driver.volumes.local.size, 0);
    }
    t.equal(await driver.outcome('NodePublishVolume', publish(id, wish)), 'OK', 'staged again');
  });
}

test('published only where it was seen to be the volume', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  driver.volumes.bindsNothing = true;
  const said = await driver.outcome('NodePublishVolume', publish(id));
  t.match(said, /^UNAVAILABLE: .* does not show the volume after it was bound/);
  t.equal(driver.volumes.calls.at(-1), 'unbind', 'no target is left');
  driver.volumes.bindsNothing = false;
  driver.volumes.faults.set('bind', new HoldfastError('UNAVAILABLE', 'mount failed'));
  t.match(await driver.outcome('NodePublishVolume', publish(id)), /^UNAVAILABLE: Mount failed/);
  t.equal(driver.volumes.calls.at(-1), 'unbind');
  t.equal(await driver.outcome('NodePublishVolume', publish(id)), 'OK');
  driver.volumes.faults.set('bind', new HoldfastError('UNAVAILABLE', 'mount failed'));
  t.match(await driver.outcome('NodePublishVolume', publish(id)), /^UNAVAILABLE: Mount failed/);
  t.not(driver.volumes.calls.at(-1), 'unbind', 'what a pod uses already is not taken away');
});

test('what kubelet took for staged is staged again', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  t.equal(await driver.outcome('NodePublishVolume', publish(id)), 'OK');
  t.same(
    driver.volumes.calls.filter((name) => name === 'mount' || name === 'bind'),
    ['mount', 'bind'],
  );
});

test('a single writer is published once, and again where it is', async (t) => {
  const single = { mount: {}, access_mode: { mode: 6 } };
  const { driver, id } = await withVolume(single);
  t.teardown(() => driver.close());
  const request = (target: string) =>
    publish(id, { volume_capability: single, target_path: target });
  t.equal(await driver.outcome('NodePublishVolume', request('/k/one')), 'OK');
  const second = await driver.outcome('NodePublishVolume', request('/k/two'));
  t.match(
    second,
    /^FAILED_PRECONDITION: The volume is published at \/k\/one, and may be once only/,
  );
  t.equal(await driver.outcome('NodePublishVolume', request('/k/one')), 'OK');
});

test('a reader cannot write, whoever says that it reads only', async (t) => {
  const reader = { mount: {}, access_mode: { mode: 2 } };
  const { driver, id } = await withVolume(reader);
  t.teardown(() => driver.close());
  t.match(driver.volumes.infos.get(id)?.attachments, [{ readOnly: true }]);
  await driver.call('NodeStageVolume', stage(id));
  t.equal(driver.volumes.local.get(id)?.readOnly, true, 'the attachment says so');
});

test('growth is seen here once the controller has done its part', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  await driver.call('NodePublishVolume', publish(id));
  const expand = (more: object): Promise<string> =>
    driver.outcome('NodeExpandVolume', { volume_id: id, volume_path: TARGET, ...more });
  t.equal(await expand({}), 'OK');
  t.match(await expand({ volume_path: '/elsewhere' }), /^NOT_FOUND/);
  t.match(await expand({ capacity_range: { required_bytes: 2 ** 40 } }), /^OUT_OF_RANGE/);
});

test('a mount that only begins is not taken for none', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  const unstage = { volume_id: id, staging_target_path: STAGING };
  t.equal(await driver.outcome('NodeUnstageVolume', unstage), 'OK');
  const asked = ['stats', 'unmount'];
  t.same(driver.volumes.calls, asked, 'it may wait for its turn, and be seen nowhere');
  driver.volumes.faults.set('unmount', new HoldfastError('BUSY', 'it starts', { retryable: true }));
  t.match(await driver.outcome('NodeUnstageVolume', unstage), /^ABORTED: It starts/i);
  await driver.call('NodeStageVolume', stage(id));
  const staged = driver.volumes.local.get(id);
  if (staged === undefined) throw new Error('it is staged');
  driver.volumes.local.set(id, { ...staged, id: null });
  t.equal(await driver.outcome('NodeUnstageVolume', unstage), 'OK');
  t.equal(driver.volumes.local.size, 0, 'what does not know its volume yet');
  await driver.call('NodeStageVolume', stage(id));
  const other = { ...unstage, volume_id: UNKNOWN };
  t.equal(await driver.outcome('NodeUnstageVolume', other), 'OK');
  t.equal(driver.volumes.local.size, 1, 'another volume stays');
});

test('a call meets the one before it', async (t) => {
  const { driver, id } = await withVolume();
  t.teardown(() => driver.close());
  const calls = Array.from({ length: 8 }, () => driver.outcome('NodePublishVolume', publish(id)));
  t.same(new Set(await Promise.all(calls)), new Set(['OK']));
  t.same(driver.volumes.local.get(id)?.targets, [TARGET]);
  t.equal(driver.volumes.calls.filter((name) => name === 'mount').length, 1);
});
