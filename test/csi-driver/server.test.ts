/** The server: what a process offers in each mode, who it says it is, what it logs, how it ends. */
import { test } from 'tap';
import { BLOCK, MOUNT } from './caller.js';
import { Driver } from './driver.js';

test('a process offers the services of its mode, and says so for the rest', async (t) => {
  const controller = await Driver.start('controller');
  t.teardown(() => controller.close());
  const node = await Driver.start('node');
  t.teardown(() => node.close());
  const unimplemented = /^code 12/;
  t.match(await controller.outcome('NodeGetInfo'), unimplemented);
  t.match(await node.outcome('ListVolumes'), unimplemented);
  for (const driver of [controller, node]) {
    t.match(await driver.call('GetPluginInfo'), { name: 'csi.holdfast.io', vendor_version: '9.9' });
    t.same(await driver.call('Probe'), { ready: { value: true } });
    const { capabilities } = await driver.call('GetPluginCapabilities');
    t.match(capabilities, [
      { service: { type: 1 } },
      { service: { type: 2 } },
      { volume_expansion: { type: 1 } },
    ]);
  }
});

test('what is announced is what there is', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  const types = async (method: string): Promise<number[]> => {
    const { capabilities } = await driver.call(method);
    return capabilities.map(({ rpc }: { rpc: { type: number } }) => rpc.type);
  };
  t.same(await types('ControllerGetCapabilities'), [1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14]);
  t.same(await types('NodeGetCapabilities'), [1, 2, 3, 4, 5, 6]);
});

test('each call is logged once, with its outcome and without secrets', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  const secrets = { key: 'hunter2' };
  const request = { name: 'a', volume_capabilities: [MOUNT], secrets };
  const { volume } = await driver.call('CreateVolume', request);
  await driver.outcome('CreateVolume', { ...request, volume_capabilities: [BLOCK] });
  await driver.call('Probe');
  await driver.outcome('NodeStageVolume', { volume_id: volume.volume_id, secrets });
  t.match(driver.logged, [
    { level: 'info', fields: { call: 'CreateVolume', name: 'a', code: 'OK', ms: Number } },
    { level: 'warn', fields: { call: 'CreateVolume', name: 'a', code: 'ALREADY_EXISTS' } },
    { level: 'warn', fields: { call: 'NodeStageVolume', code: 'INVALID_ARGUMENT' } },
  ]);
  t.equal(driver.logged.length, 3);
  t.notMatch(JSON.stringify(driver.logged), /hunter2/);
});

test('something unforeseen is told as such, with its trace in the log alone', async (t) => {
  const driver = await Driver.start();
  t.teardown(() => driver.close());
  driver.volumes.faults.set('list', new TypeError('x is not a function'));
  t.equal(await driver.outcome('ListVolumes'), 'INTERNAL: X is not a function.');
  t.match(driver.logged[0]?.fields, { stack: /TypeError/ });
  t.equal(await driver.outcome('ListVolumes'), 'OK', 'the process goes on');
});

test('a server that stops lets what is under way end', async (t) => {
  const driver = await Driver.start();
  const slow = driver.outcome('ListVolumes');
  await driver.close();
  t.match(await slow, /^(OK|UNAVAILABLE|code 1)/);
});
