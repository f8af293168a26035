/** What the metadata store knows of volumes: created, listed, changed, attached, fenced. */
import { test } from 'tap';
import type { OwnerId, VolumeId } from '../../src/core/ids.js';
import { GIB } from '../../src/core/units.js';
import { mirrored } from '../../src/lifecycle/catalog.js';
import type { MachineVolumes } from '../../src/lifecycle/machine.js';
import { StoredVolumes } from '../../src/lifecycle/volume-lifecycle.js';
import type { VolumeInfo } from '../../src/lifecycle/volume-types.js';
import { everyVolume } from '../../src/lifecycle/volumes.js';
import { encodePresence } from '../../src/metadata/encoding.js';
import { ownerKey } from '../../src/metadata/keys.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { claimEpoch, release } from '../../src/metadata/volume-record.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { id, owner } from '../metadata/samples.js';
import { SimStores } from '../metadata/sim-store.js';

/** No volume is ever mounted here. */
const machine = { name: 'here', list: async () => [] } as unknown as MachineVolumes;
const FREE = [10, 20, 30, 40].map((free, at) => ({
  ...{ zone: `z${at % 2}`, freeBytes: free * GIB, wallMs: 0 },
}));

class Rig {
  readonly world = new SimStores();
  readonly #connected = this.world.connect();
  readonly store = this.#connected.store;
  readonly volumes = new Volumes(this.store, this.#connected.process.clock, this.world.random);
  readonly shutOut: string[] = [];
  told = FREE;
  #owners = 100;
  readonly lifecycle = new StoredVolumes({
    ...{ store: this.store, clock: this.#connected.process.clock, random: this.world.random },
    machine,
    ask: async () => this.told,
    shutOut: (record) => this.#shutOut(record),
  });

  async #shutOut({ volume }: VolumeRecord): Promise<VolumeRecord> {
    this.shutOut.push(volume);
    const found = await this.volumes.get(volume);
    if (found === null) throw new Error('no volume');
    const next = claimEpoch(found.record, { owner: owner(`${this.#owners++}`), planned: [] });
    const swapped = await this.volumes.swap(found, release(next, { epoch: next.epoch }));
    if (swapped === null) throw new Error('swapped by somebody else');
    return swapped.record;
  }

  wait<T>(promise: Promise<T>): Promise<T> {
    return this.world.wait(promise);
  }

  codeOf(promise: Promise<unknown>): Promise<string | null> {
    return this.world.codeOf(promise);
  }

  create(name: string): Promise<VolumeInfo> {
    return this.wait(this.lifecycle.create({ name, sizeBytes: GIB }));
  }

  /** As a mount on `host` does; `present`: its presence stands. */
  async own(volume: VolumeInfo, host: string, present: boolean): Promise<void> {
    const found = await this.wait(this.volumes.get(volume.id));
    if (found === null) throw new Error('no volume');
    const name = (this.#owners++).toString();
    const by = { ...owner(name), address: `${host}/7` };
    const next = claimEpoch(found.record, { owner: by, planned: [] });
    await this.wait(this.volumes.swap(found, next));
    if (!present) return;
    const record = {
      ...{ schema: 1, volume: volume.id, epoch: next.epoch, owner: id<OwnerId>(name), host },
      ...{ pid: 7, mountPoint: '/srv', since: '2026-01-01T00:00:00.000Z' },
    };
    const put = { type: 'put', key: ownerKey(volume.id), value: encodePresence(record) } as const;
    await this.wait(this.store.transact([], [put]));
  }

  async letGo(volume: VolumeInfo): Promise<void> {
    const found = await this.wait(this.volumes.get(volume.id));
    if (found === null) throw new Error('no volume');
    const { epoch } = found.record;
    await this.wait(this.volumes.swap(found, release(found.record, { epoch })));
    await this.wait(this.store.transact([], [{ type: 'delete', key: ownerKey(volume.id) }]));
  }
}

test('creating is idempotent by name, and what differs is said', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const wanted = { name: 'db', sizeBytes: GIB };
  const made = await rig.wait(lifecycle.create(wanted));
  t.match(made, { kind: 'filesystem', replicas: 3, ackQuorum: 2, held: false, attachments: [] });
  t.equal((await rig.wait(lifecycle.create(wanted))).id, made.id);
  const larger = { ...wanted, sizeBytes: GIB / 2, limitBytes: 2 * GIB };
  t.equal((await rig.wait(lifecycle.create(larger))).id, made.id, 'it lies within the limits');
  const others = [
    [{ kind: 'block' }, /the kind "filesystem", not "block"/],
    [{ sizeBytes: 2 * GIB }, /1073741824 bytes/],
    [{ replicas: 1 }, /3 replicas, not 1/],
    [{ ackQuorum: 3 }, /an ack quorum of 2, not 3/],
  ] as const;
  for (const [more, message] of others) {
    const thrown = await rig.wait(lifecycle.create({ ...wanted, ...more }).catch((e) => e));
    t.match(thrown, { code: 'ALREADY_EXISTS', message });
  }
  const bad = [{ fsType: 'xfs' }, { commitIntervalMs: 10 }, { limitBytes: 1 }, { replicas: 4 }];
  for (const more of bad as object[]) {
    const odd = { ...wanted, name: 'odd', ...more };
    t.equal(await rig.codeOf(lifecycle.create(odd)), 'INVALID_ARGUMENT', JSON.stringify(more));
  }
  t.equal(await rig.wait(lifecycle.byName('odd')), null, 'nothing half made');
  const both = [1, 2].map(() => lifecycle.create({ ...wanted, name: 'two' }).catch((e) => e.code));
  const [first, second] = await rig.wait(Promise.all(both));
  t.match(
    [first, second].find((one) => one !== 'BUSY'),
    { name: 'two' },
  );
});

test('lists have pages; what is no id is not found', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const names = ['a', 'b', 'c', 'd', 'e'];
  for (const name of names) await rig.create(name);
  let pages = 0;
  const list = (options: { readonly token?: string } = {}) => {
    pages += 1;
    return lifecycle.list({ ...options, limit: 2 });
  };
  const found = await rig.wait(everyVolume({ list }));
  t.equal(pages, 3);
  t.same(found.map(({ name }) => name).toSorted(), names);
  t.equal(await rig.codeOf(lifecycle.list({ token: 'x' })), 'INVALID_ARGUMENT');
  for (const odd of ['', 'x', '../..', '0'.repeat(32), 'é'.repeat(200)]) {
    t.equal(await rig.wait(lifecycle.get(odd)), null);
    t.equal(await rig.wait(lifecycle.byName(odd)), null);
    await rig.wait(lifecycle.remove(odd));
    await rig.wait(lifecycle.detach(odd, 'm'));
    t.equal(await rig.codeOf(lifecycle.expand(odd, GIB)), 'NOT_FOUND');
    t.equal(await rig.codeOf(lifecycle.attach(odd, 'm')), 'NOT_FOUND');
    t.equal(await rig.codeOf(lifecycle.fence(odd)), 'NOT_FOUND');
  }
});

test('settings: the commit interval at once, the ack quorum where it is safe', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const { id: volume } = await rig.create('db');
  const modify = (settings: object): Promise<VolumeInfo> =>
    rig.wait(lifecycle.modify(volume, settings));
  t.match(await modify({ commitIntervalMs: 1_000 }), { commitIntervalMs: 1_000 });
  t.match(await modify({ ackQuorum: 3 }), { ackQuorum: 3, nextAckQuorum: null });
  t.equal(await rig.codeOf(lifecycle.modify(volume, { ackQuorum: 1 })), 'INVALID_ARGUMENT');
  t.equal(await rig.codeOf(lifecycle.modify(volume, { commitIntervalMs: 1 })), 'INVALID_ARGUMENT');
  const grown = await rig.wait(lifecycle.expand(volume, 2 * GIB));
  t.match(grown, { sizeBytes: 2 * GIB, commitIntervalMs: 1_000 });
  t.match(await rig.wait(lifecycle.expand(volume, GIB)), { sizeBytes: 2 * GIB });
});

test('capacity is what all copies together have room for', async (t) => {
  const { lifecycle, wait } = { lifecycle: new Rig().lifecycle, wait: <T>(p: Promise<T>) => p };
  const of = async (options: object): Promise<number> =>
    (await wait(lifecycle.capacity(options))).availableBytes / GIB;
  t.equal(await of({ replicas: 1 }), 100);
  t.equal(await of({ replicas: 3 }), 30);
  t.equal(await of({ replicas: 2, zones: ['z0'] }), 10);
  t.equal(await of({ replicas: 3, zones: ['z0'] }), 0);
  t.equal(mirrored([5, 5, 5], 3), 5);
  t.equal(mirrored([1, 1, 100], 2), 2);
  t.equal(mirrored([], 1), 0);
});

test('a volume is attached to one machine', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const { id: volume } = await rig.create('db');
  const attach = (machine: string, readOnly = false) =>
    lifecycle.attach(volume, machine, { readOnly });
  t.equal(await rig.codeOf(attach('one')), 'NOT_FOUND');
  const odd = 'a/b c\n%'.padEnd(256, 'é').slice(0, 128);
  for (const name of ['one', 'two', odd]) await rig.wait(lifecycle.registerMachine(name, null));
  t.equal(await rig.codeOf(lifecycle.registerMachine('x'.repeat(257), null)), 'INVALID_ARGUMENT');
  const names = (await rig.wait(lifecycle.machines())).map(({ machine: name }) => name);
  t.same(names, [odd, 'one', 'two'].toSorted());
  const first = await rig.wait(attach('one'));
  t.same(await rig.wait(attach('one')), first);
  t.equal(await rig.codeOf(attach('one', true)), 'ALREADY_EXISTS');
  t.equal(await rig.codeOf(attach('two')), 'CONFLICT');
  const kept = await rig.wait(lifecycle.remove(volume).catch((thrown) => thrown));
  t.match(kept, { code: 'CONFLICT', message: /attached to one/ });
  t.equal(await rig.codeOf(lifecycle.forgetMachine('one')), 'CONFLICT');
  await rig.wait(lifecycle.detach(volume, 'two'));
  t.match(await rig.wait(lifecycle.get(volume)), { attachments: [{ machine: 'one' }] });
  await rig.wait(lifecycle.detach(volume, 'one'));
  await rig.wait(attach(odd, true));
  await rig.wait(lifecycle.detach(volume, odd));
  for (const name of ['one', 'one', odd]) await rig.wait(lifecycle.forgetMachine(name));
  await rig.wait(lifecycle.remove(volume));
  t.equal(await rig.codeOf(attach('two')), 'NOT_FOUND');
  t.same(rig.shutOut, [], 'nobody was there to be fenced');
});

test('a clock that is behind does not end the time of what is removed by it', async (t) => {
  const rig = new Rig();
  const { id } = await rig.create('db');
  const ahead = Date.parse('2040-01-01T00:00:00Z');
  rig.told = FREE.map((one, at) => ({ ...one, wallMs: at === 1 ? ahead : 0 }));
  await rig.wait(rig.lifecycle.remove(id, { keepMs: 86_400_000 }));
  const found = await rig.wait(rig.volumes.get(id as VolumeId));
  t.match(found?.record.trash, { keptUntil: '2040-01-02T00:00:00.000Z' });
});

test('a machine takes as many volumes as its driver said', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const ids = [];
  for (const name of ['a', 'b', 'c']) ids.push((await rig.create(name)).id);
  const [a = '', b = '', c = ''] = ids;
  const attach = (id: string) => rig.codeOf(lifecycle.attach(id, 'one'));
  await rig.wait(lifecycle.registerMachine('one', null, 2));
  t.same([await attach(a), await attach(b), await attach(c)], [null, null, 'TOO_LARGE']);
  t.equal(await attach(a), null, 'what is there stays');
  await rig.wait(lifecycle.detach(a, 'one'));
  t.equal(await attach(c), null);
  await rig.wait(lifecycle.registerMachine('one', null, 3));
  t.equal(await attach(a), null, 'its driver was started with another limit');
});

test('two that attach at once: one has it', async (t) => {
  const rig = new Rig();
  const { id: volume } = await rig.create('db');
  for (const name of ['one', 'two']) await rig.wait(rig.lifecycle.registerMachine(name, 'z'));
  const other = new StoredVolumes({
    ...{ store: rig.world.connect().store, clock: rig.world.connect().process.clock, machine },
    random: rig.world.random,
    ask: async () => [],
    shutOut: () => Promise.reject(new Error('not here')),
  });
  const both = await rig.wait(
    Promise.allSettled([rig.lifecycle.attach(volume, 'one'), other.attach(volume, 'two')]),
  );
  t.same(both.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
});

test('detaching waits for a release, for the end of a presence, and fences at last', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const volume = await rig.create('db');
  await rig.wait(lifecycle.registerMachine('one', null));
  const attach = () => rig.wait(lifecycle.attach(volume.id, 'one'));
  await attach();
  await rig.own(volume, 'one', true);
  const released = lifecycle.detach(volume.id, 'one');
  await rig.world.pass(3_000);
  t.match(await rig.wait(lifecycle.get(volume.id)), { attachments: [{}], held: true });
  await rig.letGo(volume);
  await rig.wait(released);
  t.same(rig.shutOut, []);
  await attach();
  await rig.own(volume, 'one', false);
  await rig.wait(lifecycle.detach(volume.id, 'one'));
  t.same(rig.shutOut, [volume.id], 'it is gone: fenced at once');
  await attach();
  await rig.own(volume, 'one', true);
  const late = lifecycle.detach(volume.id, 'one');
  await rig.world.pass(11_000);
  t.equal(rig.shutOut.length, 1);
  await rig.wait(late);
  t.equal(rig.shutOut.length, 2, 'it still has it: fenced after 12 s');
  t.match(await rig.wait(lifecycle.get(volume.id)), {
    attachments: [],
    mounted: null,
    held: false,
  });
  await attach();
  await rig.own(volume, 'elsewhere', true);
  await rig.wait(lifecycle.detach(volume.id, 'one'));
  t.equal(rig.shutOut.length, 2, 'who has it is not who loses it');
});

test('fencing says who it is that lives, and needs to be forced then', async (t) => {
  const rig = new Rig();
  const { lifecycle } = rig;
  const volume = await rig.create('db');
  t.match(await rig.wait(lifecycle.fence(volume.id)), { former: null });
  await rig.own(volume, 'one', true);
  const refused = await rig.wait(lifecycle.fence(volume.id).catch((thrown) => thrown));
  t.match(refused, { code: 'CONFLICT', message: /\/srv on one by process 7/, hint: /--force/ });
  const done = await rig.wait(lifecycle.fence(volume.id, { force: true }));
  t.match(done, { former: 'one/7', mounted: { machine: 'one', directory: '/srv' }, epoch: 2 });
  t.match(await rig.wait(lifecycle.get(volume.id)), { mounted: null, held: false });
  await rig.wait(lifecycle.remove(volume.id));
});
