/** The trash of volumes: what may happen to a removed one, in the record and in the store. */
import { test } from 'tap';
import type { VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, offset, revision } from '../../src/core/units.js';
import { Attachments } from '../../src/metadata/attachments.js';
import { initCluster } from '../../src/metadata/cluster.js';
import {
  decodeVolume,
  encodeAttachments,
  encodePresence,
  encodeVolume,
} from '../../src/metadata/encoding.js';
import {
  attachmentKey,
  leaderKey,
  nameKey,
  ownerKey,
  trashKey,
  volumeKey,
} from '../../src/metadata/keys.js';
import { METADATA_SCHEMA, type VolumeRecord } from '../../src/metadata/model.js';
import { rebuildVolumes } from '../../src/metadata/rebuild.js';
import { brokenSuccession } from '../../src/metadata/record-invariant.js';
import {
  decodeExport,
  encodeExport,
  exportCluster,
  importCluster,
} from '../../src/metadata/transfer.js';
import { FOREVER, isExpired, VolumeTrash } from '../../src/metadata/trash.js';
import {
  beginPurge,
  claimEpoch,
  clearDeleted,
  moveToTrash,
  restoreFromTrash,
  roll,
  sealAtTakeover,
  setRoot,
} from '../../src/metadata/volume-record.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { at, blank, fresh, id, owner, segmentId, THREE } from './samples.js';
import { SimStores } from './sim-store.js';

const removedAt = '2026-02-01T00:00:00.000Z';
const keptUntil = '2026-02-08T00:00:00.000Z';
const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
const serving = sealAtTakeover(claimed, {
  epoch: epoch(1),
  ends: [],
  promote: [segmentId('1'), segmentId('2')],
  plan: [fresh('3')],
});
const used = setRoot(
  roll(serving, { epoch: epoch(1), sealed: at('1', 4, 9), promote: null, plan: [fresh('4')] }),
  { epoch: epoch(1), root: { segment: segmentId('1'), offset: offset(4096), lsn: lsn(4) } },
);
const trashed = moveToTrash(used, { removedAt, keptUntil });

test('a removed volume keeps everything, is nobody’s, and comes back', async (t) => {
  t.equal(trashed.epoch, 2, 'a former owner is fenced');
  t.equal(trashed.owner, null);
  t.same(decodeVolume(encodeVolume(trashed)), trashed);
  const back = restoreFromTrash(trashed, { name: 'again' });
  const { trash: _, ...rest } = trashed;
  t.same(back, { ...rest, name: 'again' });
  t.notMatch(encodeVolume(back), /trash/, 'programs that know no trash read it');
  t.equal(isExpired(used, Number.MAX_VALUE), false, 'what is in use never expires');
  t.equal(isExpired(trashed, Date.parse(keptUntil) - 1), false);
  t.equal(isExpired(trashed, Date.parse(keptUntil)), true);
  const forever = moveToTrash(used, { removedAt, keptUntil: null });
  t.equal(isExpired(forever, Number.MAX_VALUE), false);
});

test('a purge lists everything, and nothing takes it back', async (t) => {
  const purging = beginPurge(trashed);
  const ids = purging.pendingDelete.map(({ segment }) => Number.parseInt(segment, 16)).sort();
  t.same(ids, [1, 2, 3, 4]);
  t.same([purging.planned, purging.open, purging.sealed, purging.root], [[], [], [], null]);
  t.equal(isExpired(purging, 0), true, 'it is to be ended at once');
  t.match(brokenSuccession(purging, { ...purging, trash: { ...trashed.trash } as never }), /purge/);
  t.match(brokenSuccession(purging, { ...purging, pendingDelete: [] }), null);
  t.equal(clearDeleted(purging, { segments: [segmentId('1')] }).pendingDelete.length, 3);
  const wrong: readonly (readonly [string, () => unknown, RegExp])[] = [
    ['restoring what is purged', () => restoreFromTrash(purging, { name: 'x' }), /whole/],
    ['removing twice', () => moveToTrash(trashed, { removedAt, keptUntil }), /once/],
    ['purging what is in use', () => beginPurge(used), /removed before/],
    ['purging twice', () => beginPurge(purging), /removed before/],
    ['claiming it', () => claimEpoch(trashed, { owner: owner('b'), planned: [] }), /has an owner/],
  ];
  for (const [name, act, message] of wrong) t.throws(act, { message }, name);
});

interface Place {
  readonly world: SimStores;
  readonly volumes: Volumes;
  readonly trash: VolumeTrash;
}

async function place(): Promise<Place> {
  const world = new SimStores();
  const { store, process } = world.connect();
  await world.wait(initCluster(store, process.clock, world.random));
  const volumes = new Volumes(store, process.clock, world.random);
  return { world, volumes, trash: new VolumeTrash(store, process.clock, volumes) };
}

const wanted = { name: 'db', kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
const removal = { keepMs: 1000, force: false };

async function made({ world, volumes }: Place, name = 'db'): Promise<VolumeId> {
  return (await world.wait(volumes.create({ ...wanted, name }))).record.volume;
}

test('the name is free at once, and taken again only while it is free', async (t) => {
  const all = await place();
  const { world, volumes, trash } = all;
  const first = await made(all);
  await world.wait(trash.remove(first, removal));
  t.equal(await world.codeOf(volumes.byName('db')), 'NOT_FOUND');
  t.same(await world.wait(volumes.list()), []);
  t.equal(await world.codeOf(volumes.grow(first, 2 ** 31)), 'NOT_FOUND');
  const second = await made(all);
  t.equal(await world.codeOf(trash.restore(first, 'db')), 'ALREADY_EXISTS');
  await world.wait(trash.remove(second, removal));
  await world.wait(trash.remove(second, removal));
  t.equal(await world.codeOf(trash.find('db')), 'INVALID_ARGUMENT', 'two have this name');
  t.equal((await world.wait(trash.find(first.slice(0, 12)))).record.volume, first);
  t.equal(await world.codeOf(trash.find('other')), 'NOT_FOUND');
  await world.wait(trash.restore(first, 'db'));
  await world.wait(trash.restore(first, 'db'));
  t.equal((await world.wait(volumes.byName('db'))).record.volume, first);
  t.equal((await world.wait(trash.find('db'))).record.volume, second);
});

test('a mounted volume is refused, saying who has it', async (t) => {
  const all = await place();
  const { world, trash } = all;
  const volume = await made(all);
  const presence = encodePresence({
    schema: METADATA_SCHEMA,
    volume,
    epoch: epoch(1),
    owner: owner('a').id,
    host: 'web-1',
    pid: 42,
    mountPoint: '/srv/db',
    since: removedAt,
  });
  const put = { type: 'put', key: ownerKey(volume), value: presence } as const;
  world.server.transact([], [put]);
  const refused = world.wait(trash.remove(volume, { keepMs: null, force: true }));
  await t.rejects(refused, { code: 'CONFLICT', message: /at \/srv\/db on web-1 \(pid 42\)/ });
  world.server.transact([], [{ type: 'delete', key: ownerKey(volume) }]);
  await world.wait(trash.remove(volume, removal));
  world.server.transact([], [put]);
  t.equal(await world.codeOf(trash.beginPurge(volume)), 'CONFLICT', 'nor is it purged');
  t.match(world.server.peek(volumeKey(volume))?.value, /"purging":false/);
});

test('what is purged stays so, and nobody purges who does not lead any more', async (t) => {
  const all = await place();
  const { world, trash } = all;
  const volume = await made(all);
  await world.wait(trash.remove(volume, removal));
  const former = { key: leaderKey('controller'), modRevision: revision(7) };
  t.equal(await world.codeOf(trash.beginPurge(volume, { guard: [former] })), 'CONFLICT');
  t.match((await world.wait(trash.list()))[0]?.record.trash, { purging: false });
  await world.wait(trash.beginPurge(volume));
  t.equal(await world.codeOf(trash.restore(volume, 'db')), 'CONFLICT');
});

test('what somebody mounts while its purge begins is not purged', async (t) => {
  const all = await place();
  const { world, volumes, trash } = all;
  const volume = await made(all);
  await world.wait(trash.remove(volume, removal));
  const value = encodePresence({
    ...{ schema: METADATA_SCHEMA, volume, epoch: epoch(9), owner: id('aa') },
    ...{ host: 'alpha', pid: 1, mountPoint: '/mnt', since: removedAt },
  });
  let isMounted = false;
  const { store, process } = world.connect({
    trip: ({ type }) => {
      if (type === 'transact' && !isMounted) {
        isMounted = true;
        world.server.transact([], [{ type: 'put', key: ownerKey(volume), value }]);
      }
      return {};
    },
  });
  const other = new VolumeTrash(store, process.clock, volumes);
  t.equal(await world.codeOf(other.beginPurge(volume)), 'CONFLICT');
  t.match((await world.wait(trash.list()))[0]?.record.trash, { purging: false });
});

test('a volume that is attached to a machine is not removed', async (t) => {
  const all = await place();
  const { world, volumes, trash } = all;
  const volume = await made(all);
  const { store, process } = world.connect();
  const { record } = await world.wait(volumes.byName('db'));
  const attachments = new Attachments(store, process.clock);
  await world.wait(attachments.attach(record, { machine: 'alpha', readOnly: false }));
  const refused = world.wait(trash.remove(volume, { ...removal, force: true }));
  await t.rejects(refused, { code: 'CONFLICT', message: /attached to alpha/ });
  await world.wait(attachments.detach(volume, 'alpha'));
  await world.wait(trash.remove(volume, removal));
});

test('attaching and detaching leave alone what others have done meanwhile', async (t) => {
  const all = await place();
  const { world, volumes } = all;
  const volume = await made(all);
  const { record } = await world.wait(volumes.byName('db'));
  let meanwhile = (): void => {};
  const { store, process } = world.connect({
    trip: ({ type }) => {
      if (type === 'transact') meanwhile();
      return {};
    },
  });
  const slow = new Attachments(store, process.clock);
  const alpha = { machine: 'alpha', readOnly: false };
  await world.wait(slow.attach(record, alpha));
  const beta = { machine: 'beta', readOnly: false, since: removedAt };
  const moved = { schema: METADATA_SCHEMA, volume, attachments: [beta] } as const;
  meanwhile = () => {
    const put = {
      type: 'put',
      key: attachmentKey(volume),
      value: encodeAttachments(moved),
    } as const;
    world.server.transact([], [put]);
  };
  await world.wait(slow.detach(volume, 'alpha'));
  t.same(await world.wait(slow.of(volume)), [beta], 'who has it by then keeps it');
  meanwhile = () => {};
  await world.wait(slow.detach(volume, 'beta'));
  meanwhile = () => {
    world.server.transact([], [{ type: 'delete', key: nameKey('db') }]);
  };
  t.equal(await world.codeOf(slow.attach(record, alpha)), 'NOT_FOUND', 'removed meanwhile');
  t.same(await world.wait(slow.of(volume)), []);
});

test('an answer that was lost does not make a removal happen twice', async (t) => {
  const all = await place();
  const { world } = all;
  const volume = await made(all);
  let isLost = false;
  const { store, process } = world.connect({
    trip: ({ type }) => {
      if (type !== 'transact' || isLost) return {};
      isLost = true;
      return { lost: 'reply' };
    },
  });
  const trash = new VolumeTrash(store, process.clock, all.volumes);
  const { record } = await world.wait(trash.remove(volume, removal));
  t.equal(isLost, true);
  t.equal(record.epoch, 1);
  t.equal(world.server.peek(nameKey('db')), null);
});

test('an export holds what is in the trash, and gives names to nobody in it', async (t) => {
  const all = await place();
  const { world, trash } = all;
  const removed = await made(all);
  await world.wait(trash.remove(removed, removal));
  const second = await made(all);
  const { store } = world.connect();
  const text = await world.wait(exportCluster(store));
  const other = new SimStores();
  const target = other.connect();
  const content = decodeExport(text);
  await other.wait(importCluster(target.store, content, { maxEpochs: new Map() }));
  const volumes = new Volumes(target.store, target.process.clock, other.random);
  t.equal((await other.wait(volumes.byName('db'))).record.volume, second);
  const back = new VolumeTrash(target.store, target.process.clock, volumes);
  t.equal((await other.wait(back.find('db'))).record.volume, removed);
  const twice = content.volumes.map(({ trash: _, ...record }): VolumeRecord => record);
  const doubled = decodeExport(encodeExport({ ...content, volumes: twice }, 1));
  const empty = new SimStores().connect();
  const imported = importCluster(empty.store, doubled, { maxEpochs: new Map() });
  await t.rejects(imported, { code: 'INCONSISTENT' });
});

test('what was restored after the export comes back in the trash and never expires', async (t) => {
  const all = await place();
  const { world, trash, volumes } = all;
  const [kept, purged] = [await made(all), await made(all, 'old')];
  for (const one of [kept, purged]) await world.wait(trash.remove(one, removal));
  await world.wait(trash.beginPurge(purged));
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  await world.wait(trash.restore(kept, 'db'));
  const options = { maxEpochs: new Map(), replace: true };
  await world.wait(importCluster(store, content, options));
  const head = async (volume: VolumeId) => (await world.wait(volumes.head(volume)))?.record;
  t.match((await head(kept))?.trash, { keptUntil: null, purging: false });
  t.equal(world.server.peek(trashKey(kept))?.value, FOREVER);
  const wallMs = Number.MAX_SAFE_INTEGER;
  t.equal(await world.codeOf(trash.beginPurge(kept, { wallMs })), 'CONFLICT');
  t.equal((await head(purged))?.trash?.purging, true, 'nothing of that one comes back');
  t.match((await world.wait(trash.restore(kept, 'db'))).record, { name: 'db' });
});

test('two volumes of one name come back from disks in the trash, and stay there', async (t) => {
  const volumes = [id<VolumeId>('f1'), id<VolumeId>('f2'), id<VolumeId>('f3')];
  const header = { previous: null, kind: 'filesystem', sizeBytes: 1 << 30, group: 3 } as const;
  const segments = volumes.map((volume, n) => ({ volume, segment: segmentId(`${n + 1}`) }));
  const inventories = THREE.map((disk) => ({
    ...disk,
    entries: segments.map(({ volume, segment }) => ({
      segment,
      volume,
      createEpoch: epoch(1),
      maxEpoch: epoch(1),
      length: offset(4096),
      state: 'open' as const,
      crc: 1,
      suspectFrom: null,
    })),
  }));
  const headers = new Map(
    segments.map(({ segment }, n) => {
      const name = n === 2 ? 'other' : 'db';
      return [segment, { ...header, name, replicas: 3, ackQuorum: 2 }];
    }),
  );
  const found = rebuildVolumes({ inventories, headers, createdAt: removedAt });
  const told = found.map((one) => (one.type === 'rebuilt' ? one.record.trash : one.type));
  const kept = { removedAt, keptUntil: null, purging: false };
  t.same(told, [kept, kept, undefined]);
  const [first] = found;
  t.match(first?.type === 'rebuilt' ? first.leftAlone : [], [/not the only.*restore 0000.*--as/]);
});
