/**
 * The metadata store is lost at any moment of owners' lives, and made anew from what the nodes
 * hold: the next owner finds every acknowledged record, and nothing is refused that is whole.
 */
import t from 'tap';
import { batchSegmentBytes, decodeSegmentBatch } from '../../src/block/wire/batch.js';
import { type FoundNode, headersOf } from '../../src/cli/inventory.js';
import type { SegmentId } from '../../src/core/ids.js';
import { epoch, offset, PAGE_BYTES } from '../../src/core/units.js';
import { rebuildVolumes } from '../../src/metadata/rebuild.js';
import type {
  RebuildEntry,
  RebuildHeader,
  RebuiltVolume,
} from '../../src/metadata/rebuild-types.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { putVolume } from '../fixtures/volume-record.js';
import { type FakeNode, FakeRequests, type FakeSegment } from './owner-nodes.js';
import { OwnerWorld, type TestOwner, VOLUME } from './owner-world.js';

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

async function rebuilt(world: OwnerWorld, acceptLoss: boolean): Promise<RebuiltVolume> {
  const process = new SimProcess(world.scheduler, 'rebuild');
  const nodes = world.nodes.map((node) => asked(world, process, node));
  const found: ReadonlyMap<SegmentId, RebuildHeader>[] = [];
  void headersOf(nodes, process.clock).then((headers) => {
    found.push(headers);
    world.scheduler.notePromise();
  });
  await world.until(() => found.length > 0);
  const [volume] = rebuildVolumes({
    inventories: nodes.flatMap(({ inventories }) => inventories),
    headers: found[0] ?? new Map(),
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
