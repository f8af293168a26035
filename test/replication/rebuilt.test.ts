/**
 * The metadata store is lost at any moment of owners' lives, and made anew from what the nodes
 * hold: the next owner finds every acknowledged record, and nothing is refused that is whole.
 */
import t from 'tap';
import { batchSegmentBytes, decodeSegmentBatch } from '../../src/block/wire/batch.js';
import { type FoundNode, headersOf } from '../../src/cli/inventory.js';
import { fenceUnsealed } from '../../src/cli/rebuild-fence.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { epoch, offset, PAGE_BYTES } from '../../src/core/units.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { nameKey, VOLUMES } from '../../src/metadata/keys.js';
import type { OpenSegment } from '../../src/metadata/model.js';
import { largestEpochs, rebuildVolumes } from '../../src/metadata/rebuild.js';
import type { RebuildEntry, RebuiltVolume } from '../../src/metadata/rebuild-types.js';
import {
  decodeExport,
  exportCluster,
  type ImportOptions,
  importCluster,
} from '../../src/metadata/transfer.js';
import { resize } from '../../src/metadata/volume-record.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { putVolume } from '../fixtures/volume-record.js';
import { type FakeNode, FakeRequests, type FakeSegment, id } from './owner-nodes.js';
import { expectedLog, OwnerWorld, type TestOwner, VOLUME } from './owner-world.js';

const SEEDS = 120;
const SHAPES = [
  [3, 2],
  [3, 2],
  [5, 3],
  [3, 3],
  [1, 1],
] as const;

const UNUSED =
  /were found, all empty: if it was in use, what was acknowledged in it would be lost$/;

/** The chain crc at the end of what a fake node holds. */
function crcOf({ bytes }: FakeSegment): number {
  let crc = 0;
  for (let at = 0; at < bytes.length; ) {
    const header = decodeSegmentBatch(bytes, at);
    crc = header.headerCrc;
    at += batchSegmentBytes(header);
  }
  return crc;
}

function entryOf(segment: SegmentId, state: FakeSegment): RebuildEntry {
  const { created, sealed, deleted, suspectFrom } = state;
  const kept = deleted ? { length: 0, crc: 0 } : { length: state.bytes.length, crc: crcOf(state) };
  const open = created ? 'open' : 'tombstone';
  return {
    segment,
    volume: VOLUME,
    createEpoch: epoch(state.createEpoch),
    maxEpoch: epoch(state.maxEpoch),
    length: offset(kept.length),
    crc: kept.crc,
    state: deleted ? 'deleted' : sealed ? 'sealed' : open,
    suspectFrom: suspectFrom === null ? null : offset(suspectFrom),
  };
}

/** What asking a node for its status and inventory would give. */
function asked(world: OwnerWorld, process: SimProcess, fake: FakeNode): FoundNode {
  const { node, incarnation, segments } = fake;
  const run = (callback: () => void): void => {
    process.run(callback);
  };
  const requests = new FakeRequests(world.nodes, world.scheduler, run);
  return {
    address: node,
    requests: {
      send: (target, request, timeoutMs, done) => {
        requests.send({ ...target, node }, request, timeoutMs, done);
      },
      queuedBytes: () => 0,
      close: () => {},
    },
    status: { type: 'status', node, zone: '', version: '', disks: [], wallMs: 0 },
    inventories: [
      { node, incarnation, entries: [...segments].map(([id, state]) => entryOf(id, state)) },
    ],
  };
}

/** Time passes until the promise is settled. */
async function settled<T>(world: OwnerWorld, promise: Promise<T>): Promise<T> {
  let done = false;
  const settle = (): void => {
    done = true;
    world.scheduler.notePromise();
  };
  promise.then(settle, settle);
  await world.until(() => done);
  return await promise;
}

async function rebuilt(world: OwnerWorld, acceptLoss: boolean): Promise<RebuiltVolume> {
  const process = new SimProcess(world.scheduler, 'rebuild');
  return await rebuiltFrom(
    world,
    world.nodes.map((node) => asked(world, process, node)),
    acceptLoss,
  );
}

async function rebuiltFrom(
  world: OwnerWorld,
  nodes: readonly FoundNode[],
  acceptLoss = false,
): Promise<RebuiltVolume> {
  const { clock } = new SimProcess(world.scheduler, 'rebuild');
  const headers = await settled(world, headersOf(nodes, clock));
  const [volume] = rebuildVolumes({
    inventories: nodes.flatMap(({ inventories }) => inventories),
    headers,
    createdAt: '2026-01-02T00:00:00.000Z',
    acceptLoss,
  });
  if (volume === undefined) throw new Error('no disk knows the volume');
  return volume;
}

/** Records name their owner, so that one that was never acknowledged cannot pass for another. */
function append({ owner }: TestOwner, index: number, acked: Map<number, string>): void {
  const text = `owner ${index} lsn ${owner.inspect().nextLsn}`;
  owner.append({ record: Buffer.from(text), pages: [] }, (error, appended) => {
    if (error === null && appended !== null) acked.set(appended.lsn, text);
  });
}

/** One owner after the other, each of which may go on beside the next; then all are dead. */
async function live(world: OwnerWorld, random: SimRandom): Promise<Map<number, string>> {
  const acked = new Map<number, string>();
  const lives = 1 + random.below(5);
  for (let index = 0; index < lives; index++) {
    const one = world.start();
    const steps = 5 + random.below(60);
    for (let step = 0; step < steps; step++) {
      const serves = one.owner.state.type === 'serving';
      for (let i = serves ? random.below(4) : 0; i > 0; i--) append(one, index, acked);
      disturb(world, random);
      await world.pass(random.pick([1, 2, 5, 40, 400]));
    }
    if (random.chance(0.7)) one.process.kill();
  }
  for (const { process } of world.owners) process.kill();
  return acked;
}

function disturb(world: OwnerWorld, random: SimRandom): void {
  for (const node of world.nodes) {
    if (random.chance(0.05)) node.state = random.pick(['down', 'hung'] as const);
    else if (random.chance(0.3)) node.state = 'up';
    if (random.chance(0.05)) node.delayMs = random.pick([1, 1, 7, 60]);
    node.mute.clear();
    if (random.chance(0.1)) node.mute.add(random.pick(['append', 'create', 'seal', 'fence']));
    node.ignore.clear();
    if (random.chance(0.1)) node.ignore.add(random.pick(['append', 'create', 'seal']));
  }
}

async function heal(world: OwnerWorld): Promise<void> {
  for (const node of world.nodes) {
    node.state = 'up';
    node.delayMs = 1;
    node.mute.clear();
    node.ignore.clear();
  }
  await world.pass(10_000);
}

/** What is wrong with the log that the next owner of a rebuilt volume finds; null: nothing. */
async function judge(
  world: OwnerWorld,
  acked: ReadonlyMap<number, string>,
): Promise<string | null> {
  const strict = await rebuilt(world, false);
  // Of a planned segment too few replicas may have been created to know that it was never used.
  const isUnsure = strict.type === 'refused' && strict.reasons.every((one) => UNUSED.test(one));
  const volume = isUnsure ? await rebuilt(world, true) : strict;
  if (volume.type !== 'rebuilt') return JSON.stringify(volume);
  putVolume(world.server, volume.record);
  const { owner, ...last } = world.start();
  await world.until(() => owner.state.type === 'serving' || owner.state.type === 'stopped');
  if (owner.state.type === 'stopped') return owner.state.reason.message;
  const lines = await world.replayed({ owner, ...last });
  const log = new Map(lines.map((line) => [Number.parseInt(line, 10), line]));
  const missing = [...acked].filter(([lsn, text]) => log.get(lsn) !== `${lsn}:${text}`);
  return missing.length === 0 ? null : `${missing.length} lost, such as ${missing[0]}`;
}

t.test('the metadata is lost at any moment, and every node can be asked', async (t) => {
  let used = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = new SimRandom(`rebuilt ${seed}`);
    const [replicas, ackQuorum] = random.pick(SHAPES);
    const limits = { segmentSoftBytes: random.pick([4, 16, 1_000]) * PAGE_BYTES };
    const world = new OwnerWorld({ nodes: 6, replicas, ackQuorum, limits });
    const acked = await live(world, random);
    await heal(world);
    if (acked.size === 0) continue;
    used += 1;
    const wrong = await judge(world, acked);
    if (wrong !== null) t.fail(`seed ${seed}, ${ackQuorum} of ${replicas}: ${wrong}`);
  }
  t.ok(used > SEEDS / 2, `${used} of ${SEEDS} seeds`);
});

t.test('a volume that was grown while it was in use comes back at its new size', async (t) => {
  const world = new OwnerWorld({ limits: { segmentSoftBytes: 8 * PAGE_BYTES } });
  const one = await world.serving();
  await world.appended(one, 5);
  const sizeBytes = 10 * world.record.sizeBytes;
  world.amend((record) => resize(record, { sizeBytes }));
  for (let i = 0; i < 10; i++) {
    await world.appended(one, 2);
    await world.pass(600);
  }
  const volume = await rebuilt(world, false);
  if (volume.type !== 'rebuilt') throw new Error(JSON.stringify(volume));
  t.ok(volume.record.sealed.length > 1, 'it has rolled since');
  t.equal(volume.record.sizeBytes, sizeBytes);
});

/** A mounted volume, an export of it, and what store and nodes said when the import began. */
async function exported(records = 1) {
  const world = new OwnerWorld({ limits: { segmentSoftBytes: 8 * PAGE_BYTES } });
  const { store, deps } = world.connect('cli');
  await settled(world, initCluster(store, deps.clock, new SimRandom('import')));
  const { name, volume } = world.record;
  world.server.transact([], [{ type: 'put', key: nameKey(name), value: volume }]);
  const one = await world.serving();
  for (let i = 0; i < records; i++) await world.appended(one, 1);
  await world.pass(2_000);
  const content = decodeExport(await settled(world, exportCluster(store)));
  const { entries: headsBefore } = await settled(world, store.range(VOLUMES));
  const process = new SimProcess(world.scheduler, 'cli');
  const inventories = world.nodes.flatMap((node) => asked(world, process, node).inventories);
  const known = { maxEpochs: largestEpochs(inventories), inventories, replace: true };
  const run = (more: Partial<ImportOptions> = {}) =>
    settled(world, importCluster(store, content, { ...known, ...more }));
  return { world, one, run, headsBefore };
}

for (const muted of [false, true]) {
  const how = muted ? 'and nodes are not told' : 'and nodes are told';
  t.test(`an import over a volume that rolls after the nodes were asked, ${how}`, async (t) => {
    const { world, one, run } = await exported();
    if (muted) for (const node of world.nodes) node.ignore.add('seal');
    for (let i = 0; i < 14; i++) await world.appended(one, 1);
    const message = /^volume "data" was exported before segment .* as it is in the store; nothing/;
    await t.rejects(run(), { code: 'DATA_LOST', message });
    await world.pass(10_000);
    await world.appended(one, 5);
    const log = await world.replayed(await world.serving());
    t.same(log.slice(0, 20), expectedLog(20), 'all that was acknowledged');
  });
}

t.test('an import over a volume that gives segments up after the nodes were asked', async (t) => {
  const { world, one, run, headsBefore } = await exported(30);
  const place = one.acked.at(-1);
  if (place === undefined) throw new Error('nothing was acknowledged');
  const at = { segment: place.segment, offset: offset(place.firstPage * PAGE_BYTES) };
  const dead = world.record.sealed.slice(0, 2).map(({ segment }) => segment);
  const { open } = world.record;
  let ended = 0;
  const done = (error: HoldfastError | null): void => {
    t.equal(error, null);
    ended += 1;
  };
  one.owner.setRoot({ ...at, lsn: place.lsn }, done);
  one.owner.deleteSealed(dead, done);
  await world.until(() => ended === 2);
  await world.pass(1_000);
  t.same(world.record.open, open, 'it is still written where it was');
  await t.rejects(run({ headsBefore }), { code: 'CONFLICT', message: /nothing was changed$/ });
  t.same(world.record.root?.lsn, place.lsn);
  const next = await world.serving();
  t.equal((await world.replayed(next, place.lsn)).length, 1, 'what its root reaches is there');
});

t.test(
  'an import over a volume that is written to, and does not roll, loses nothing',
  async (t) => {
    const { world, one, run } = await exported();
    await world.appended(one, 1);
    await run();
    world.append(one, 3);
    await world.pass(30_000);
    const count = one.acked.length;
    const log = await world.replayed(await world.serving());
    t.same(log.slice(0, count), expectedLog(count));
  },
);

interface Unattended {
  readonly world: OwnerWorld;
  readonly one: TestOwner;
  readonly ask: () => FoundNode[];
  readonly again: (node: FoundNode) => Promise<FoundNode>;
}

/** An owner that has lost the metadata store and serves on; and how rebuild asks the nodes. */
async function unattended(): Promise<Unattended> {
  const world = new OwnerWorld({ nodes: 6, limits: { segmentSoftBytes: 16 * PAGE_BYTES } });
  const one = await world.serving();
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  await world.pass(2_000);
  for (let i = 0; i < 1_000; i++) one.trips.push(() => ({ lost: 'request' }));
  const process = new SimProcess(world.scheduler, 'rebuild');
  const ask = (): FoundNode[] => world.nodes.map((fake) => asked(world, process, fake));
  const again = async ({ address }: FoundNode): Promise<FoundNode> =>
    ask().find((node) => node.address === address) as FoundNode;
  return { world, one, ask, again };
}

t.test('an owner that serves without the store is shut out, and then believed', async (t) => {
  const { world, one, ask, again } = await unattended();
  const before = ask();
  // Into the spare, which the inventories show empty.
  for (let i = 0; i < 20; i++) await world.appended(one, 1);
  const { nodes, missing } = await settled(world, fenceUnsealed(before, again));
  t.same(missing, []);
  world.append(one, 5);
  const volume = await rebuiltFrom(world, nodes);
  if (volume.type !== 'rebuilt') throw new Error(JSON.stringify(volume));
  const { open, pendingDelete, epoch: at } = volume.record;
  t.equal(open.length, 2, 'the spare has data');
  const used = new Set(one.acked.map(({ segment }) => segment));
  t.notOk(pendingDelete.some(({ segment }) => used.has(segment)));
  await world.until(() => one.owner.state.type === 'stopped');
  t.match(one.owner.state, { reason: { code: 'FENCED' } });
  // Again, as after one that was killed before it wrote anything.
  const second = await settled(world, fenceUnsealed(ask(), again));
  const anew = await rebuiltFrom(world, second.nodes);
  if (anew.type !== 'rebuilt') throw new Error(JSON.stringify(anew));
  t.ok(anew.record.epoch > at);
  t.same({ ...anew.record, epoch: at }, volume.record);
  putVolume(world.server, anew.record);
  const log = await world.replayed(await world.serving());
  t.equal(one.acked.length, 40);
  t.same(log.slice(0, 40), expectedLog(40), 'all that was acknowledged');
});

t.test('who takes a volume over while it is rebuilt loses nothing', async (t) => {
  const { world, one, ask, again } = await unattended();
  const { store, deps } = world.connect('cli');
  await settled(world, initCluster(store, deps.clock, new SimRandom('rebuild')));
  const { name } = world.record;
  world.server.transact([], [{ type: 'put', key: nameKey(name), value: VOLUME }]);
  const content = decodeExport(await settled(world, exportCluster(store)));
  const shutOut = await settled(world, fenceUnsealed(ask(), again));
  const { entries: headsBefore } = await settled(world, store.range(VOLUMES));
  const { nodes } = await settled(world, fenceUnsealed(shutOut.nodes, again));
  const volume = await rebuiltFrom(world, nodes);
  if (volume.type !== 'rebuilt') throw new Error(JSON.stringify(volume));
  // Its supervisor tries again until it comes above the epoch of the fences.
  one.owner.stop();
  let next = world.start();
  for (let tries = 0; next.owner.state.type !== 'serving' && tries < 20; tries++) {
    await world.pass(5_000);
    if (next.owner.state.type === 'stopped') next = world.start();
  }
  const before = one.acked.length;
  await world.appended(next, 5);
  next.owner.stop();
  const maxEpochs = largestEpochs(nodes.flatMap((node) => node.inventories));
  const options = { maxEpochs, replace: true, acceptLoss: true, headsBefore };
  const found = { ...content, volumes: [volume.record] };
  await t.rejects(settled(world, importCluster(store, found, options)), { code: 'CONFLICT' });
  const log = await world.replayed(await world.serving());
  t.same(log, expectedLog(before + 5), 'all that was acknowledged');
});

t.test('a segment that is created while others are fenced is fenced as well', async (t) => {
  const { world, ask, again } = await unattended();
  const [first] = world.nodes as [FakeNode];
  const segment = id<SegmentId>(0xabc);
  const request = { type: 'create', segment, volume: VOLUME, epoch: epoch(1) } as const;
  let asks = 0;
  const late = (node: FoundNode): Promise<FoundNode> => {
    if (asks++ === 0) first.handle({ ...request, incarnation: first.incarnation }, () => {});
    return again(node);
  };
  const { nodes } = await settled(world, fenceUnsealed(ask(), late));
  const entries = nodes.flatMap(({ inventories }) => inventories.flatMap((one) => one.entries));
  const unsealed = entries.filter(({ state }) => state === 'open');
  t.ok(unsealed.some((one) => one.segment === segment));
  t.equal(new Set(unsealed.map(({ maxEpoch }) => maxEpoch)).size, 1);
});

t.test('a node of which a copy cannot be fenced does not count', async (t) => {
  const { world, ask, again } = await unattended();
  const [{ replicas }] = world.record.open as [OpenSegment];
  const holder = world.nodes.find(({ node }) => node === replicas[0]?.node) as FakeNode;
  holder.ignore.add('fence');
  const { nodes, missing } = await settled(world, fenceUnsealed(ask(), again));
  t.same(missing, [`${holder.node}: no answer`]);
  t.notOk(nodes.some(({ status }) => status.node === holder.node));
});
