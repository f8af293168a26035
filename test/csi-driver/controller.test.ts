/** The Controller service over a real socket: every fault of the standard, and what must not be. */
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { BLOCK, MOUNT } from './caller.js';
import { Driver } from './driver.js';

const GIB = 2 ** 30;
const UNKNOWN = 'f'.repeat(32);

function wanted(name: string, more: object = {}): object {
  return { name, volume_capabilities: [MOUNT], capacity_range: { required_bytes: GIB }, ...more };
}

function mode(number: number): object {
  return { mount: {}, access_mode: { mode: number } };
}

const BAD_CREATES: readonly (readonly [string, object, RegExp])[] = [
  ['no name', { volume_capabilities: [MOUNT] }, /^INVALID_ARGUMENT: name is missing/],
  ['a long name', wanted('x'.repeat(129)), /^INVALID_ARGUMENT: name has 129 bytes; 128 are/],
  ['a name with a line end', wanted('a\nb'), /^INVALID_ARGUMENT: The name has control/],
  ['no capability', { name: 'a' }, /^INVALID_ARGUMENT: volume_capabilities are missing/],
  [
    'neither block nor mount',
    wanted('a', { volume_capabilities: [{ access_mode: { mode: 1 } }] }),
    /^INVALID_ARGUMENT: .* neither block nor mount/,
  ],
  ...[3, 4, 5].map((one) => {
    const capability = { volume_capabilities: [mode(one)] };
    return ['many nodes', wanted('a', capability), /^INVALID_ARGUMENT: .*one node at a/] as const;
  }),
  ['no mode', wanted('a', { volume_capabilities: [mode(0)] }), /^INVALID_ARGUMENT: .*missing/],
  [
    'an unknown parameter',
    wanted('a', { parameters: { replica: '3' } }),
    /^INVALID_ARGUMENT: Parameter "replica" is not known; replicas, ack, type, fsType, /,
  ],
  ['no number', wanted('a', { parameters: { replicas: 'x' } }), /^INVALID_ARGUMENT: replicas is/],
  ['no time', wanted('a', { parameters: { commitInterval: 'x' } }), /^INVALID_ARGUMENT: .*time/],
  ['no type', wanted('a', { parameters: { type: 'object' } }), /^INVALID_ARGUMENT: type is/],
  [
    'no such filesystem',
    wanted('a', { parameters: { fsType: 'ntfs' } }),
    /^INVALID_ARGUMENT: There is no filesystem "ntfs": holdfast, ext4, xfs are known/,
  ],
  [
    'a block device of a filesystem',
    wanted('a', { volume_capabilities: [BLOCK], parameters: { type: 'filesystem' } }),
    /^INVALID_ARGUMENT: A volume with type "filesystem" cannot be used as a block device/,
  ],
  [
    'two filesystems',
    wanted('a', {
      volume_capabilities: [{ mount: { fs_type: 'xfs' }, access_mode: { mode: 1 } }],
      parameters: { fsType: 'ext4' },
    }),
    /^INVALID_ARGUMENT: One volume cannot have the filesystems ext4, xfs/,
  ],
  [
    'its own immutable parameter as a mutable one',
    wanted('a', { mutable_parameters: { replicas: '3' } }),
    /^INVALID_ARGUMENT: Parameter "replicas" is not known; ack, commitInterval are/,
  ],
  [
    'parameters beyond the limit',
    wanted('a', { parameters: { 'csi.storage.k8s.io/x': 'y'.repeat(4096) } }),
    /^INVALID_ARGUMENT: parameters has 4116 bytes; 4096 are allowed/,
  ],
  [
    'less than nothing',
    wanted('a', { capacity_range: { required_bytes: -1 } }),
    /^INVALID_ARGUMENT: required_bytes is -1/,
  ],
  [
    'a limit below what is required',
    wanted('a', { capacity_range: { required_bytes: 2 * GIB, limit_bytes: GIB } }),
    /^INVALID_ARGUMENT: limit_bytes/,
  ],
  [
    'too small',
    wanted('a', { capacity_range: { required_bytes: 1, limit_bytes: 4096 } }),
    /^OUT_OF_RANGE: A volume has 1048576 to/,
  ],
  [
    'too large',
    wanted('a', { capacity_range: { required_bytes: 2 ** 62 } }),
    /^OUT_OF_RANGE: A volume has/,
  ],
  [
    'too small for xfs',
    wanted('a', {
      parameters: { fsType: 'xfs' },
      capacity_range: { required_bytes: 1, limit_bytes: 100 * 2 ** 20 },
    }),
    /^OUT_OF_RANGE: A volume with xfs has 314572800 to/,
  ],
  [
    'a source',
    wanted('a', { volume_content_source: { volume: { volume_id: UNKNOWN } } }),
    /^INVALID_ARGUMENT: Volumes cannot be made from snapshots/,
  ],
  [
    'a zone that is not there',
    wanted('a', {
      accessibility_requirements: {
        requisite: [{ segments: { 'topology.holdfast.io/zone': 'moon' } }],
      },
    }),
    /^RESOURCE_EXHAUSTED: There is no node in moon; zones are: a, b/,
  ],
  [
    "somebody else's topology",
    wanted('a', { accessibility_requirements: { requisite: [{ segments: { rack: '1' } }] } }),
    /^RESOURCE_EXHAUSTED: There is no node in without topology.holdfast.io\/zone/,
  ],
  [
    'a topology that says nothing',
    wanted('a', { accessibility_requirements: {} }),
    /^INVALID_ARGUMENT: accessibility_requirements name no topology/,
  ],
];

test('bad requests for volumes are refused, and nothing is made', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  for (const [what, request, expected] of BAD_CREATES) {
    t.match(await driver.outcome('CreateVolume', request), expected, what);
  }
  t.same(driver.volumes.calls, [], 'no volume was touched');
});

test('a volume is made as the parameters say', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const { volume } = await driver.call('CreateVolume', {
    ...wanted('pvc-1'),
    parameters: {
      replicas: '2',
      ack: '2',
      commitInterval: '10',
      'csi.storage.k8s.io/pvc/name': 'data',
      'csi.storage.k8s.io/fstype': 'ext4',
      'csi.storage.k8s.io/provisioner-secret-name': 'not of interest',
    },
    mutable_parameters: { commitInterval: '2s' },
    secrets: { password: 'hunter2' },
  });
  const info = driver.volumes.infos.get(volume.volume_id);
  t.match(info, { name: 'pvc-1', kind: 'block', fsType: 'ext4', replicas: 2, sizeBytes: GIB });
  t.match(info, { ackQuorum: 2, commitIntervalMs: 2_000 }, 'the mutable one holds');
  t.same(info?.labels, {
    'csi.storage.k8s.io/pvc/name': 'data',
    'csi.holdfast.io/name': 'pvc-1',
  });
  t.match(volume, { capacity_bytes: String(GIB), accessible_topology: [] });
  const all = JSON.stringify([driver.logged, volume, info]);
  t.notMatch(all, /hunter2/, 'secrets are nowhere');
});

test('any name that the standard allows makes a volume, and the same one again', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const names = ['pvc-1', 'PVC-1', 'x'.repeat(128), '-', '/../etc', 'größe', '日本', 'a b', 'a  b'];
  const ids = new Set<string>();
  for (const name of names) {
    const { volume } = await driver.call('CreateVolume', wanted(name));
    const again = await driver.call('CreateVolume', wanted(name));
    t.equal(again.volume.volume_id, volume.volume_id, name);
    ids.add(volume.volume_id);
  }
  t.equal(ids.size, names.length, 'each name has a volume of its own');
  for (const { name } of driver.volumes.infos.values()) {
    t.match(name, /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/);
    t.ok(name.length <= 128);
  }
});

test('the same name with other wishes exists already', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  await driver.call('CreateVolume', wanted('a'));
  const exists = /^ALREADY_EXISTS: A volume named "a" exists with/;
  const larger = { capacity_range: { required_bytes: 2 * GIB } };
  t.match(await driver.outcome('CreateVolume', wanted('a', larger)), exists);
  const smaller = { capacity_range: { required_bytes: 2 ** 20, limit_bytes: 2 ** 21 } };
  t.match(await driver.outcome('CreateVolume', wanted('a', smaller)), exists);
  const unlimited = { capacity_range: { required_bytes: 2 ** 20 } };
  t.equal(await driver.outcome('CreateVolume', wanted('a', unlimited)), 'OK');
  const replicas = { parameters: { replicas: '2' } };
  t.match(await driver.outcome('CreateVolume', wanted('a', replicas)), exists);
  const block = { volume_capabilities: [BLOCK] };
  t.match(await driver.outcome('CreateVolume', wanted('a', block)), exists);
  await driver.volumes.create({ name: 'mine', sizeBytes: GIB });
  const other = await driver.outcome('CreateVolume', wanted('mine'));
  t.match(other, /^ALREADY_EXISTS: There is a volume "mine" that was made by somebody else/);
});

test('sizes are rounded, raised to what a filesystem needs, never above the limit', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const size = async (name: string, range: object | null, parameters = {}): Promise<string> => {
    const request = { ...wanted(name), capacity_range: range, parameters };
    return (await driver.call('CreateVolume', request)).volume.capacity_bytes;
  };
  t.equal(await size('unsaid', null), String(GIB));
  t.equal(await size('odd', { required_bytes: GIB + 1 }), String(GIB + 4096));
  t.equal(await size('limited', { limit_bytes: 2 ** 29 }), String(2 ** 29));
  t.equal(await size('xfs', { required_bytes: 1 }, { fsType: 'xfs' }), String(300 * 2 ** 20));
});

test('a volume keeps a topology only where it was asked to be in fewer than all', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const zone = (name: string) => ({ segments: { 'topology.holdfast.io/zone': name } });
  const topology = async (name: string, requisite: object[]): Promise<unknown> => {
    const request = wanted(name, { accessibility_requirements: { requisite } });
    return (await driver.call('CreateVolume', request)).volume.accessible_topology;
  };
  t.same(await topology('some', [zone('a'), zone('moon')]), [zone('a')]);
  t.same(await topology('all', [zone('a'), zone('b')]), []);
});

test('what volumes refuse is told in the words of the standard', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const { volumes } = driver;
  const faults: readonly (readonly [HoldfastError, RegExp])[] = [
    [new HoldfastError('UNAVAILABLE', 'etcd is down'), /^UNAVAILABLE: Etcd is down\.$/],
    [new HoldfastError('TIMEOUT', 'no answer'), /^DEADLINE_EXCEEDED: No answer\.$/],
    [new HoldfastError('UNKNOWN_OUTCOME', 'who knows'), /^ABORTED: Who knows\.$/],
    [new HoldfastError('BUSY', 'at work', { retryable: true }), /^ABORTED: At work\.$/],
    [
      new HoldfastError('BUSY', 'in use', { hint: 'Stop it.' }),
      /^FAILED_PRECONDITION: In use. Stop/,
    ],
    [new HoldfastError('CONFLICT', 'elsewhere'), /^FAILED_PRECONDITION: Elsewhere\.$/],
    [new HoldfastError('DISK_FULL', 'full'), /^RESOURCE_EXHAUSTED: Full\.$/],
    [new HoldfastError('INCONSISTENT', 'a\n  b'), /^INTERNAL: A b\.$/],
  ];
  for (const [fault, expected] of faults) {
    volumes.faults.set('remove', fault);
    t.match(await driver.outcome('DeleteVolume', { volume_id: UNKNOWN }), expected);
  }
  t.equal(await driver.outcome('DeleteVolume', { volume_id: 'no id at all' }), 'OK');
});

test('publishing to nodes', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const { volume } = await driver.call('CreateVolume', wanted('a'));
  await driver.volumes.registerMachine('n1', 'a');
  await driver.volumes.registerMachine('n2', 'b');
  const publish = (node: string, more: object = {}): Promise<string> => {
    const request = {
      volume_id: volume.volume_id,
      node_id: node,
      volume_capability: MOUNT,
      ...more,
    };
    return driver.outcome('ControllerPublishVolume', request);
  };
  t.match(await publish('n1', { volume_id: '' }), /^INVALID_ARGUMENT: volume_id is missing/);
  t.match(await publish(''), /^INVALID_ARGUMENT: node_id is missing/);
  t.match(await publish('n1', { volume_capability: null }), /^INVALID_ARGUMENT: .*capability/);
  t.match(
    await publish('n1', { volume_capability: BLOCK }),
    /^INVALID_ARGUMENT: The volume is a f/,
  );
  t.match(await publish('n1', { volume_id: UNKNOWN }), /^NOT_FOUND: There is no volume f/);
  t.match(await publish('moon'), /^NOT_FOUND: There is no machine "moon"/);
  t.equal(await publish('n1'), 'OK');
  t.equal(await publish('n1'), 'OK', 'again');
  t.match(await publish('n1', { readonly: true }), /^ALREADY_EXISTS/);
  t.match(await publish('n2'), /^FAILED_PRECONDITION: The volume is attached to n1/);
  const listed = await driver.call('ControllerGetVolume', { volume_id: volume.volume_id });
  t.same(listed.status.published_node_ids, ['n1']);
  const inUse = await driver.outcome('DeleteVolume', { volume_id: volume.volume_id });
  t.match(inUse, /^FAILED_PRECONDITION/);
  const unpublish = { volume_id: volume.volume_id, node_id: '' };
  t.equal(await driver.outcome('ControllerUnpublishVolume', unpublish), 'OK');
  t.equal(await publish('n2'), 'OK');
  const gone = { volume_id: UNKNOWN, node_id: 'n1' };
  t.equal(await driver.outcome('ControllerUnpublishVolume', gone), 'OK');
});

test('capabilities are confirmed, or it is said what is not so', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const { volume } = await driver.call('CreateVolume', wanted('a'));
  const validate = (request: object): Promise<{ confirmed: object | null; message: string }> =>
    driver.call('ValidateVolumeCapabilities', {
      volume_id: volume.volume_id,
      volume_capabilities: [MOUNT],
      ...request,
    });
  t.match((await validate({})).confirmed, { volume_capabilities: [{ access_type: 'mount' }] });
  const wrong = [
    [{ volume_capabilities: [MOUNT, BLOCK] }, /is a filesystem, not a block device/],
    [{ volume_capabilities: [mode(5)] }, /on one node at a time/],
    [{ parameters: { replicas: '2' } }, /has 3 replicas/],
    [{ parameters: { type: 'block' } }, /is a filesystem/],
    [{ mutable_parameters: { ack: '3' } }, /ack is 2/],
  ] as const;
  for (const [request, message] of wrong) {
    const said = await validate(request);
    t.equal(said.confirmed, null);
    t.match(said.message, message);
  }
  const request = { volume_id: UNKNOWN, volume_capabilities: [MOUNT] };
  t.match(await driver.outcome('ValidateVolumeCapabilities', request), /^NOT_FOUND/);
});

test('lists come in pages', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  for (const name of ['a', 'b', 'c', 'd', 'e']) await driver.call('CreateVolume', wanted(name));
  const seen: string[] = [];
  let token = '';
  do {
    const page = await driver.call('ListVolumes', { max_entries: 2, starting_token: token });
    for (const { volume } of page.entries) seen.push(volume.volume_context.name);
    token = page.next_token;
  } while (token !== '');
  t.same(seen, ['a', 'b', 'c', 'd', 'e']);
  const bad = await driver.outcome('ListVolumes', { starting_token: 'rubbish' });
  t.match(bad, /^ABORTED: starting_token is of no list/i);
  t.match(await driver.outcome('ListVolumes', { max_entries: -1 }), /^INVALID_ARGUMENT/);
});

test('capacity, growth and changes', async (t) => {
  const driver = await Driver.start('controller');
  t.teardown(() => driver.close());
  const { volume } = await driver.call('CreateVolume', wanted('a'));
  const id = volume.volume_id;
  const capacity = await driver.call('GetCapacity', { parameters: { replicas: '1' } });
  t.match(capacity, { available_capacity: String(3 * 2 ** 40) });
  const moon = { accessible_topology: { segments: { 'topology.holdfast.io/zone': 'moon' } } };
  t.match(await driver.call('GetCapacity', moon), { available_capacity: '0' });
  const expand = (range: object | null): Promise<string> =>
    driver.outcome('ControllerExpandVolume', { volume_id: id, capacity_range: range });
  t.match(await expand(null), /^INVALID_ARGUMENT: capacity_range is missing/);
  t.match(await expand({ required_bytes: 2 ** 62 }), /^OUT_OF_RANGE/);
  t.match(await expand({ required_bytes: 1, limit_bytes: GIB / 2 }), /^OUT_OF_RANGE: .*shrink/);
  t.equal(await expand({ required_bytes: 2 * GIB }), 'OK');
  t.equal(await expand({ required_bytes: GIB }), 'OK', 'it is large enough');
  t.equal(driver.volumes.infos.get(id)?.sizeBytes, 2 * GIB);
  const modify = (mutable_parameters: object): Promise<string> =>
    driver.outcome('ControllerModifyVolume', { volume_id: id, mutable_parameters });
  t.match(await modify({ size: '1' }), /^INVALID_ARGUMENT: Parameter "size" is not known/);
  t.equal(await modify({}), 'OK');
  t.equal(await modify({ ack: '3', commitInterval: '1s' }), 'OK');
  t.match(driver.volumes.infos.get(id), { nextAckQuorum: 3, commitIntervalMs: 1_000 });
  const none = { volume_id: UNKNOWN, mutable_parameters: {} };
  t.match(await driver.outcome('ControllerModifyVolume', none), /^NOT_FOUND/);
});
