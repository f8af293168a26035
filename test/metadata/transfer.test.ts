/** Export and import: what comes out goes in, nothing damaged does, and old owners stay out. */
import { test } from 'tap';
import { present } from '../../src/core/assert.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { type Epoch, epoch, lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import { initCluster, readCluster } from '../../src/metadata/cluster.js';
import {
  encodeCluster,
  encodeNode,
  encodePlacement,
  encodeVolume,
} from '../../src/metadata/encoding.js';
import {
  CLUSTER_KEY,
  chunkPrefix,
  IMPORT_KEY,
  leaderKey,
  liveKey,
  nameKey,
  nodeKey,
  ownerKey,
  placementKey,
  ROOT,
  VOLUMES,
  volumeKey,
} from '../../src/metadata/keys.js';
import type { Replica } from '../../src/metadata/model.js';
import type { RebuildEntry, RebuildInventory } from '../../src/metadata/rebuild-types.js';
import { REPORT_KEY } from '../../src/metadata/repair-report.js';
import { staleVolumes } from '../../src/metadata/staleness.js';
import { changeOf } from '../../src/metadata/stored-volume.js';
import {
  decodeExport,
  encodeExport,
  exportCluster,
  importCluster,
  raiseEpoch,
} from '../../src/metadata/transfer.js';
import { VolumeTrash } from '../../src/metadata/trash.js';
import { claimEpoch, roll, sealAtTakeover } from '../../src/metadata/volume-record.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { peekVolume, putVolume } from '../fixtures/volume-record.js';
import { at, blank, fresh, id, owner, replicas, segmentId, THREE, VOLUME } from './samples.js';
import { SimStores } from './sim-store.js';

const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1')] });
const node = {
  schema: 1,
  node: id<NodeId>('1'),
  address: '127.0.0.1:1',
  zone: '',
  disks: [],
  version: '1',
};
/** A later state of the same volume, of three chunks. */
const longer = {
  ...claimed,
  sealed: Array.from({ length: 300 }, (_, n) => {
    const place = { ...fresh((0x1000 + n).toString(16)), createEpoch: epoch(1) };
    return { ...place, end: offset(4096), endLsn: lsn(n + 1), crc: 77 };
  }),
};
const groups = Array.from({ length: PLACEMENT_GROUPS }, () => THREE);

/** A cluster with a node, a placement table and many volumes, one of them owned. */
async function filled(): Promise<SimStores> {
  const world = new SimStores();
  const { store, process } = world.connect();
  await world.wait(initCluster(store, process.clock, world.random));
  const volumes = new Volumes(store, process.clock, world.random);
  for (let at = 0; at < 70; at++) {
    const wanted = { name: `v${at}`, kind: 'block', sizeBytes: 1 << 30, replicas: 3 } as const;
    await world.wait(volumes.create(wanted));
  }
  const placement = encodePlacement({ schema: 1, replicas: 3, groups });
  world.server.transact(
    [],
    [
      { type: 'put', key: volumeKey(VOLUME), value: encodeVolume(claimed) },
      { type: 'put', key: nameKey(claimed.name), value: VOLUME },
      { type: 'put', key: nodeKey(node.node), value: encodeNode(node) },
      { type: 'put', key: placementKey(3), value: placement },
    ],
  );
  return world;
}

test('what is exported can be imported: no owners, higher epochs and generation', async (t) => {
  const source = await filled();
  const from = source.connect().store;
  const text = await source.wait(exportCluster(from));
  const content = decodeExport(text);
  const target = new SimStores();
  const { store, process } = target.connect();
  const maxEpochs = new Map([[VOLUME, epoch(1)]]);
  const { cluster } = await target.wait(importCluster(store, content, { maxEpochs }));
  const before = await source.wait(readCluster(from));
  t.same(cluster, { ...before, generation: 2 });
  t.same(await target.wait(readCluster(store)), cluster);
  const keys = (world: SimStores): string[] =>
    world.server.peekRange(ROOT).entries.map((entry) => entry.key);
  t.same(keys(target), keys(source));
  const volumes = new Volumes(store, process.clock, target.random);
  t.equal((await target.wait(volumes.list())).length, 71);
  const { record } = await target.wait(volumes.byName('data'));
  t.equal(record.epoch, 2, 'above its own and all that nodes know');
  t.equal(record.owner, null);
  t.same(record.planned, claimed.planned, 'what may have been created is still known');
  t.equal((await target.wait(volumes.byName('v1'))).record.epoch, 1);
});

test('what running nodes write into a store that lost everything stops no import', async (t) => {
  const source = await filled();
  const content = decodeExport(await source.wait(exportCluster(source.connect().store)));
  const target = new SimStores();
  const { store } = target.connect();
  const [node] = content.nodes;
  if (node === undefined) throw new Error('the sample has nodes');
  target.server.transact(
    [],
    [
      { type: 'put', key: nodeKey(node.node), value: encodeNode(node) },
      { type: 'put', key: liveKey(node.node), value: node.address },
      { type: 'put', key: leaderKey('repair'), value: 'one of them' },
      { type: 'put', key: ownerKey(VOLUME), value: 'a mount that goes on' },
      { type: 'put', key: REPORT_KEY, value: '{}' },
    ],
  );
  const maxEpochs = new Map([[VOLUME, epoch(1)]]);
  await target.wait(importCluster(store, content, { maxEpochs }));
  t.ok(target.server.peek(liveKey(node.node)), 'its lease says whether it lives');
});

test('raiseEpoch is above all that is known', async (t) => {
  t.equal(raiseEpoch(claimed, epoch(0)).epoch, 2);
  t.equal(raiseEpoch(claimed, epoch(9)).epoch, 10);
});

test('a store that holds something is left alone unless told', async (t) => {
  const world = await filled();
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  const again = { ...content, volumes: content.volumes.filter((one) => one.volume === VOLUME) };
  const maxEpochs = new Map<VolumeId, ReturnType<typeof epoch>>();
  const { revision } = world.server;
  t.equal(await world.codeOf(importCluster(store, again, { maxEpochs })), 'INVALID_ARGUMENT');
  t.equal(world.server.revision, revision, 'nothing was changed');
  const taken = claimEpoch(claimed, { owner: owner('b'), planned: [] });
  world.server.transact([], [{ type: 'put', key: volumeKey(VOLUME), value: encodeVolume(taken) }]);
  const replaced = { maxEpochs, replace: true, acceptLoss: true };
  const { cluster, losses } = await world.wait(importCluster(store, again, replaced));
  t.equal(losses.length, 70, 'all that the export lacks');
  t.equal(cluster.generation, 2);
  const stored = JSON.parse(world.server.peek(volumeKey(VOLUME))?.value ?? '{}');
  t.equal(stored.epoch, 3, 'above what the replaced store had promised as well');
  t.equal(world.server.peek(nameKey('v1')), null, 'what is not imported is gone');
});

test('an export older than what nodes have seen is refused', async (t) => {
  const source = await filled();
  const content = decodeExport(await source.wait(exportCluster(source.connect().store)));
  const world = new SimStores();
  const { store } = world.connect();
  const maxEpochs = new Map([[VOLUME, epoch(5)]]);
  t.equal(await world.codeOf(importCluster(store, content, { maxEpochs })), 'DATA_LOST');
  t.equal(world.server.revision, 1, 'nothing was written');
  await world.wait(importCluster(store, content, { maxEpochs, acceptLoss: true }));
  t.equal(JSON.parse(world.server.peek(volumeKey(VOLUME))?.value ?? '{}').epoch, 6);
});

test('an import does not begin over a cluster record that has changed', async (t) => {
  const world = await filled();
  const content = decodeExport(await world.wait(exportCluster(world.connect().store)));
  const { cluster } = content;
  const value = encodeCluster({ ...cluster, generation: cluster.generation + 7 });
  const { store } = world.connect({
    trip: ({ type }) => {
      if (type === 'transact') {
        world.server.transact([], [{ type: 'put', key: CLUSTER_KEY, value }]);
      }
      return {};
    },
  });
  const options = { maxEpochs: new Map<VolumeId, Epoch>(), replace: true };
  t.equal(await world.codeOf(importCluster(store, content, options)), 'CONFLICT');
  t.equal(world.server.peek(CLUSTER_KEY)?.value, value, 'its generation would have fallen');
  t.equal(world.server.peek(IMPORT_KEY), null);
});

test('somebody who initialises the store during an import stops it', async (t) => {
  const source = await filled();
  const content = decodeExport(await source.wait(exportCluster(source.connect().store)));
  const world = new SimStores();
  let calls = 0;
  const { store, process } = world.connect({
    trip: () => {
      calls += 1;
      return { requestMs: 10 };
    },
  });
  const importing = importCluster(store, content, { maxEpochs: new Map() });
  importing.catch(() => {});
  await world.until(() => calls === 3);
  const other = world.connect().store;
  t.equal(await world.codeOf(initCluster(other, process.clock, world.random)), 'CONFLICT');
  t.equal(await world.codeOf(readCluster(other)), 'CONFLICT');
  world.server.transact([], [{ type: 'put', key: CLUSTER_KEY, value: 'forced' }]);
  t.equal(await world.codeOf(importing), 'CONFLICT');
});

test('an import that is interrupted anywhere never lowers the generation', async (t) => {
  const stops = ['request', 'reply'] as const;
  for (let n = 1; n <= 12; n++) {
    for (const lost of stops) {
      const world = await filled();
      const before = await world.wait(readCluster(world.connect().store));
      const value = encodeCluster({ ...before, generation: 5 });
      world.server.transact([], [{ type: 'put', key: CLUSTER_KEY, value }]);
      const old = decodeExport(await world.wait(exportCluster(world.connect().store)));
      putVolume(world.server, { ...claimed, epoch: epoch(7) });
      // An export of long ago, with one volume.
      const cluster = { ...old.cluster, generation: 1 };
      const content = { ...old, cluster, volumes: [longer] };
      let calls = 0;
      const dying = world.connect({
        trip: () => {
          calls += 1;
          if (calls < n) return {};
          return { lost: calls === n ? lost : 'request' };
        },
      });
      const maxEpochs = new Map<VolumeId, Epoch>();
      const options = { maxEpochs, replace: true, acceptLoss: true };
      await world.codeOf(importCluster(dying.store, content, options));
      const { store, process } = world.connect();
      const there = world.server.peek(CLUSTER_KEY);
      if (there === null) {
        const code = await world.codeOf(initCluster(store, process.clock, world.random));
        t.equal(code, 'CONFLICT', 'nothing works on it meanwhile');
      }
      const { cluster: done } = await world.wait(importCluster(store, content, options));
      t.ok(done.generation >= 6, `generation ${done.generation} after ${lost} ${n} was lost`);
      const found = await world.wait(new Volumes(store, process.clock, world.random).get(VOLUME));
      t.same(found?.record.sealed, longer.sealed);
      t.ok((found?.record.epoch ?? 0) > 7, 'above what the replaced store had promised');
      t.equal(world.server.peek(IMPORT_KEY), null);
      t.equal(world.server.peekRange(chunkPrefix(VOLUME)).entries.length, 3);
    }
  }
});

test('an owner of before puts nothing into what is imported', async (t) => {
  const world = await filled();
  const { server } = world;
  const volumes = new Volumes(world.connect().store, world.connect().process.clock, world.random);
  const before = await world.wait(volumes.get(VOLUME));
  if (before === null) throw new Error('it is there');
  const content = decodeExport(await world.wait(exportCluster(world.connect().store)));
  const slow = world.connect({ trip: () => ({ requestMs: 10 }) }).store;
  const maxEpochs = new Map<VolumeId, Epoch>();
  const importing = importCluster(slow, content, { maxEpochs, replace: true });
  const after = { ...longer, sealed: longer.sealed.slice(0, 3) };
  const { compare, operations } = changeOf(before, after, 1);
  let tried = 0;
  while (server.peek(IMPORT_KEY) === null) await world.pass(1);
  // Its swap was made from what it knew, and is sent at any moment of the import.
  while (server.peek(IMPORT_KEY) !== null) {
    const head = server.peek(volumeKey(VOLUME));
    if (head?.modRevision !== before.modRevision) {
      t.equal(server.transact(compare, operations).committed, false);
      tried += 1;
    }
    await world.pass(1);
  }
  await world.wait(importing);
  t.ok(tried > 5, `${tried} times`);
  t.equal((await world.wait(volumes.get(VOLUME)))?.record.sealed.length, 0);
});

test('an export of the same epoch that is older than the nodes', async (t) => {
  const [first, second] = ['1', '2'].map((one) => segmentId(one));
  const entry = (segment: SegmentId | undefined, more: Partial<RebuildEntry>): RebuildEntry => ({
    segment: segment ?? segmentId('9'),
    volume: VOLUME,
    createEpoch: epoch(1),
    maxEpoch: epoch(1),
    length: offset(4096),
    state: 'open',
    crc: 77,
    suspectFrom: null,
    ...more,
  });
  const open = sealAtTakeover(
    claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] }),
    { epoch: epoch(1), ends: [], promote: [segmentId('1'), segmentId('2')], plan: [] },
  );
  const planning = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1')] });
  const rolled = roll(open, { epoch: epoch(1), sealed: at('1', 1, 5), promote: null, plan: [] });
  const seen = (entries: readonly RebuildEntry[], record = rolled): string | undefined => {
    const inventories = [{ node: id<NodeId>('1'), incarnation: id<Incarnation>('d1'), entries }];
    return staleVolumes([record], { maxEpochs: new Map(), inventories })[0]?.reason;
  };
  const whole = [entry(first, { state: 'sealed' }), entry(second, {})];
  t.equal(seen(whole), undefined, 'what the nodes have is what it says');
  t.equal(seen([...whole, entry(segmentId('8'), { createEpoch: epoch(0) })]), undefined);
  t.match(seen([...whole, entry(segmentId('3'), {})]), /before segment 0+3 was created/);
  t.match(seen([entry(first, { state: 'sealed' })], open), /before segment 0+1 was sealed/);
  t.equal(seen([entry(first, { length: offset(0) })], planning), undefined, 'created');
  t.match(seen([entry(first, {})], planning), /before segment 0+1 was written to/);
  t.match(seen([entry(first, { state: 'deleted' })]), /before segment 0+1 was deleted, which it/);
  t.match(seen(whole.map((one) => ({ ...one, volume: id('f') }))), /^volume 0+f is not in the/);
});

/** A volume of 64 pages in one segment, as the three nodes tell of it. */
function inventoriesOf(volume: VolumeId, more: Partial<RebuildEntry> = {}): RebuildInventory[] {
  return THREE.map(({ node, incarnation }) => ({
    node,
    incarnation,
    entries: [
      {
        segment: segmentId('77'),
        volume,
        createEpoch: epoch(1),
        maxEpoch: epoch(1),
        length: offset(64 * PAGE_BYTES),
        state: 'open',
        crc: 7,
        suspectFrom: null,
        ...more,
      },
    ],
  }));
}

test('an export that is older than a volume is refused for it', async (t) => {
  const source = await filled();
  const { store, process } = source.connect();
  const content = decodeExport(await source.wait(exportCluster(store)));
  const volumes = new Volumes(store, process.clock, source.random);
  const size = { kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
  const made = async (name: string): Promise<VolumeId> =>
    (await source.wait(volumes.create({ ...size, name }))).record.volume;
  const mounted = await made('mounted');
  const unused = await made('unused');
  const inventories = inventoriesOf(mounted);
  const known = { maxEpochs: new Map([[mounted, epoch(1)]]), inventories };

  const empty = new SimStores();
  const other = empty.connect().store;
  const refused = await empty.wait(importCluster(other, content, known).catch((one) => one));
  t.match(refused, { code: 'DATA_LOST', message: mounted });
  t.match(refused.hint, /metadata rebuild.*--accept-loss/);
  t.equal(empty.server.revision, 1, 'nothing was written');
  const took = await empty.wait(importCluster(other, content, { ...known, acceptLoss: true }));
  t.match(took.losses, [{ volume: mounted, foundIn: 'nodes', exported: false }]);

  const { revision } = source.server;
  const replace = { ...known, replace: true };
  const kept = await source.wait(importCluster(store, content, replace).catch((one) => one));
  t.match(kept, { code: 'DATA_LOST', message: /^(volume "\w+" is not in .*; ){2}nothing was/ });
  for (const name of ['mounted', 'unused']) t.match(kept.message, `volume "${name}"`);
  t.equal(source.server.revision, revision, 'nothing was written');
  const lost = await source.wait(importCluster(store, content, { ...replace, acceptLoss: true }));
  const found = new Map(lost.losses.map(({ volume, foundIn }) => [volume, foundIn]));
  t.same([found.size, found.get(mounted), found.get(unused)], [2, 'nodes', 'store']);
});

test('damage in the store that is replaced does not stop an import', async (t) => {
  const damages = [
    '{"schema":2,',
    '{"schema":9,"epoch":11}',
    JSON.stringify({ ...claimed, epoch: 11, open: 'none' }),
    JSON.stringify({ ...claimed, epoch: 11, planned: [...claimed.planned, ...claimed.planned] }),
  ];
  for (const value of damages) {
    const world = await filled();
    const { store } = world.connect();
    const content = decodeExport(await world.wait(exportCluster(store)));
    world.server.transact(
      [],
      [
        { type: 'put', key: volumeKey(VOLUME), value },
        { type: 'put', key: CLUSTER_KEY, value: '{"generation":7' },
        { type: 'put', key: IMPORT_KEY, value: 'nothing' },
      ],
    );
    const replace = { maxEpochs: new Map([[VOLUME, epoch(1)]]), replace: true };
    const { cluster } = await world.wait(importCluster(store, content, replace));
    t.equal(cluster.generation, 2);
    const found = peekVolume(world.server, VOLUME)?.record.epoch;
    t.equal(found, value.includes('11') ? 12 : 2, `above what can be read of ${value}`);
  }
});

test('without any node the epoch of a damaged head is not guessed', async (t) => {
  const world = await filled();
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  world.server.transact([], [{ type: 'put', key: volumeKey(VOLUME), value: '{"schema":2,' }]);
  const { revision } = world.server;
  const options = { maxEpochs: new Map<VolumeId, Epoch>(), replace: true, acceptLoss: true };
  t.equal(await world.codeOf(importCluster(store, content, options)), 'INCONSISTENT');
  t.equal(world.server.revision, revision, 'nothing was changed');
  const [one] = THREE as [Replica, ...Replica[]];
  const asked = { ...options, inventories: [{ ...one, entries: [] }] };
  await world.wait(importCluster(store, content, asked));
  t.equal(peekVolume(world.server, VOLUME)?.record.epoch, 2);
});

test('a volume that goes on while it is replaced stops the import in time', async (t) => {
  const world = await filled();
  const { server } = world;
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  const before = server.peek(CLUSTER_KEY)?.value;
  const slow = world.connect({ trip: () => ({ requestMs: 10 }) }).store;
  // All heads fit into one transaction.
  const volumes = content.volumes.filter(({ name }) => name === 'data' || name === 'v1');
  const gone = content.volumes.filter((one) => !volumes.includes(one));
  for (const { volume } of gone) server.transact([], [{ type: 'delete', key: volumeKey(volume) }]);
  const known = { maxEpochs: new Map<VolumeId, Epoch>(), replace: true };
  const importing = importCluster(slow, { ...content, volumes }, known).catch((error) => error);
  while (server.peek(IMPORT_KEY) === null) await world.pass(1);
  putVolume(server, longer);
  const head = server.peek(volumeKey(VOLUME));
  t.match(await world.wait(importing), {
    code: 'CONFLICT',
    message: /was changed while it was to be replaced; nothing was changed/,
  });
  t.same(server.peek(volumeKey(VOLUME)), head, 'what the owner wrote stays');
  t.equal(server.peek(CLUSTER_KEY)?.value, before, 'and the store is in use again');
  t.equal(server.peek(IMPORT_KEY), null);
  await world.wait(importCluster(store, { ...content, volumes }, known));
});

test('what was found on nodes replaces no head that has changed since', async (t) => {
  const world = await filled();
  const { server } = world;
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  const { entries: headsBefore } = await world.wait(store.range(VOLUMES));
  const cluster = server.peek(CLUSTER_KEY)?.value;
  // Rebuild accepts what it could not find; but this was not there to be found.
  putVolume(server, longer);
  const head = server.peek(volumeKey(VOLUME));
  const volumes = content.volumes.filter(({ volume }) => volume === VOLUME);
  for (const { volume } of content.volumes) {
    const key = volumeKey(volume);
    if (volume !== VOLUME) server.transact([], [{ type: 'delete', key }]);
  }
  const options = { maxEpochs: new Map<VolumeId, Epoch>(), replace: true, acceptLoss: true };
  const found = { ...content, volumes };
  const importing = importCluster(store, found, { ...options, headsBefore });
  t.match(await world.wait(importing.catch((error) => error)), {
    code: 'CONFLICT',
    message: /was changed while it was to be replaced; nothing was changed/,
  });
  t.same(server.peek(volumeKey(VOLUME)), head);
  t.equal(server.peek(CLUSTER_KEY)?.value, cluster);
  const { entries: now } = await world.wait(store.range(VOLUMES));
  await world.wait(importCluster(store, found, { ...options, headsBefore: now }));
});

test('what changed while nodes were asked stops an import before it begins', async (t) => {
  const world = await filled();
  const { server } = world;
  const { store } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  const { entries: headsBefore } = await world.wait(store.range(VOLUMES));
  const last = present(content.volumes.at(-1), 'a volume').volume;
  // More heads than one transaction takes, and the last one is another by now.
  const { record } = present(peekVolume(server, last), 'a head');
  putVolume(server, { ...record, sizeBytes: 2 ** 31 });
  const before = (await world.wait(store.range(ROOT))).entries;
  const options = { maxEpochs: new Map<VolumeId, Epoch>(), replace: true, acceptLoss: true };
  const importing = importCluster(store, content, { ...options, headsBefore });
  const refused = { code: 'CONFLICT', message: /nothing was changed/ };
  t.match(await world.wait(importing.catch((error) => error)), refused);
  t.same((await world.wait(store.range(ROOT))).entries, before);
});

test('what is left of a purged volume is no loss', async (t) => {
  const world = await filled();
  const { store, process } = world.connect();
  const content = decodeExport(await world.wait(exportCluster(store)));
  const gone = id<VolumeId>('66');
  const [first, ...others] = inventoriesOf(gone);
  const deleted = inventoriesOf(gone, { state: 'deleted', length: offset(0), crc: 0 });
  const of = (inventories: readonly (RebuildInventory | undefined)[]): string[] =>
    staleVolumes(content.volumes, {
      maxEpochs: new Map(),
      inventories: inventories.filter((one) => one !== undefined),
    }).map(({ volume }) => volume);
  t.same(of([first, ...others]), [gone]);
  t.same(of([first, ...deleted.slice(1)]), [], 'a node was away when it was purged');
  t.same(of(deleted), []);

  const volumes = new Volumes(store, process.clock, world.random);
  const trash = new VolumeTrash(store, process.clock, volumes);
  const size = { kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
  const { record } = await world.wait(volumes.create({ ...size, name: 'short-lived' }));
  await world.wait(trash.remove(record.volume, { keepMs: null, force: false }));
  const removed = {
    maxEpochs: new Map(),
    inventories: inventoriesOf(record.volume),
    replace: true,
  };
  t.equal(await world.codeOf(importCluster(store, content, removed)), 'DATA_LOST', 'in the trash');
  await world.wait(trash.beginPurge(record.volume));
  const { losses } = await world.wait(importCluster(store, content, removed));
  t.same(losses, [], 'its purge had begun');
});

test('a list follows the moves that the export does not know of', async (t) => {
  const source = await filled();
  const exported = decodeExport(await source.wait(exportCluster(source.connect().store)));
  const [sealed] = longer.sealed;
  if (sealed === undefined) throw new Error('the sample has segments');
  const content = { ...exported, volumes: [{ ...longer, sealed: [sealed] }] };
  const [a, b, c, d, e] = replicas('1', '2', '3', '4', '5') as [Replica, ...Replica[]];
  const twin = { node: id<NodeId>('4'), incarnation: id<Incarnation>('d44') };
  const { segment, end: length, crc, createEpoch } = sealed;
  const whole = { segment, volume: VOLUME, createEpoch, maxEpoch: epoch(1), length, crc };
  const listed = async (
    holders: readonly (Replica | undefined)[],
    changes: Partial<RebuildEntry> = {},
  ): Promise<readonly Replica[]> => {
    const entry = { ...whole, state: 'sealed', suspectFrom: null, ...changes } as const;
    const inventories = [a, b, c, d, e, twin].map((one) => ({
      ...(one as Replica),
      entries: holders.includes(one) ? [entry] : [],
    }));
    const target = new SimStores();
    const { store } = target.connect();
    const options = { maxEpochs: new Map<VolumeId, Epoch>(), inventories };
    await target.wait(importCluster(store, content, options));
    return peekVolume(target.server, VOLUME)?.record.sealed[0]?.replicas ?? [];
  };
  t.same(await listed([a, b, c, d]), [a, b, c], 'all that are listed have it');
  t.same(await listed([b, c, d]), [b, c, d], 'moved to one that is not listed');
  t.same(await listed([d, e]), [d, e, a], 'one that has none has a place where there is one');
  t.same(await listed([a, d, twin]), [a, d, b], 'one of a node');
  t.same(await listed([]), [a, b, c], 'nobody knows better');
  t.same(await listed([d, e], { state: 'open' }), [a, b, c], 'a copy that was begun is none');
  t.same(await listed([d, e], { crc: 78 }), [a, b, c], 'these are other bytes');
  t.same(await listed([d, e], { suspectFrom: offset(0) }), [a, b, c]);
});

test('a damaged export is refused', async (t) => {
  const world = await filled();
  const text = await world.wait(exportCluster(world.connect().store));
  const [head = '', body = ''] = text.split('\n');
  const newer = head.replace('"format":1', '"format":2');
  const content = decodeExport(text);
  t.equal(text, encodeExport(content, JSON.parse(head).revision), 'a fixed form');
  const cases: readonly (readonly [string, string, string])[] = [
    ['empty', '', 'MALFORMED'],
    ['something else', '{"a":1}\n{}\n', 'MALFORMED'],
    ['cut', text.slice(0, -2), 'MALFORMED'],
    ['a flipped digit', `${head}\n${body.replace('"epoch":1', '"epoch":2')}\n`, 'MALFORMED'],
    ['longer', `${text}x\n`, 'MALFORMED'],
    ['newer', `${newer}\n${body}\n`, 'VERSION'],
  ];
  for (const [name, damaged, code] of cases) t.throws(() => decodeExport(damaged), { code }, name);
  const twice = { ...content, volumes: [claimed, claimed] };
  const { store } = new SimStores().connect();
  await t.rejects(importCluster(store, twice, { maxEpochs: new Map() }), { code: 'INCONSISTENT' });
  world.server.transact([], [{ type: 'delete', key: nameKey('data') }]);
  t.equal(await world.codeOf(exportCluster(world.connect().store)), 'INCONSISTENT');
});
