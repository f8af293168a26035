/** Owners and the chunks of their sealed segments: many of them, and replicas that are moved. */
import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import { encodeVolume } from '../../src/metadata/encoding.js';
import { chunkKey, chunkPrefix, volumeKey } from '../../src/metadata/keys.js';
import { transactionBytes } from '../../src/metadata/limits.js';
import { encodeChunk } from '../../src/metadata/sealed-chunks.js';
import type { Compare, Operation } from '../../src/metadata/store.js';
import { SWAP_CHUNKS_MAX } from '../../src/metadata/stored-volume.js';
import { peekVolume } from '../fixtures/volume-record.js';
import { expectedLog, OwnerWorld, type TestOwner, VOLUME } from './owner-world.js';

const CHUNK = 4;
const TINY = { segmentSoftBytes: 16 * PAGE_BYTES, chunkSegments: CHUNK };

/** An owner that has appended until so many segments were sealed. */
async function sealed(world: OwnerWorld, segments: number): Promise<TestOwner> {
  const one = await world.serving();
  while (world.record.sealed.length < segments) await world.appended(one, 20);
  await world.pass(2_000);
  return one;
}

const chunks = (world: OwnerWorld): number =>
  world.server.peekRange(chunkPrefix(VOLUME)).entries.length;

/** The keys that each transaction from now on changes. */
function watched(world: OwnerWorld): Operation[][] {
  const all: Operation[][] = [];
  const { server } = world;
  const transact = server.transact.bind(server);
  server.transact = (compare: readonly Compare[], operations: readonly Operation[]) => {
    const result = transact(compare, operations);
    if (result.committed) all.push([...operations]);
    return result;
  };
  return all;
}

t.test('hundreds of segments: small swaps, a takeover, deletion of many at once', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  const swaps = watched(world);
  const one = await sealed(world, 160);
  t.equal(chunks(world), Math.ceil(world.record.sealed.length / CHUNK));
  const most = Math.max(...swaps.map((operations) => operations.length));
  t.ok(most <= 3, `${most} keys in a swap`);
  const bytes = Math.max(...swaps.map(transactionBytes));
  t.ok(bytes < 8_000, `${bytes} bytes in a swap`);
  const count = one.acked.length;
  one.process.kill();
  const second = await world.serving();
  t.same(await world.replayed(second), expectedLog(count), 'the log is whole');
  const last = one.acked.at(-1);
  if (last === undefined) throw new Error('something was acknowledged');
  const ends: (HoldfastError | null)[] = [];
  const root = { segment: last.segment, offset: offset(last.firstPage * PAGE_BYTES) };
  second.owner.setRoot({ ...root, lsn: lsn(last.lsn) }, (error) => ends.push(error));
  await world.until(() => ends.length === 1);
  const dead = world.record.sealed.slice(0, 120).map(({ segment }) => segment);
  swaps.length = 0;
  second.owner.deleteSealed(dead, (error) => ends.push(error));
  await world.until(() => ends.length === 2);
  t.same(ends, [null, null]);
  const some = SWAP_CHUNKS_MAX * CHUNK;
  t.ok(swaps.length >= Math.ceil(120 / some), `in ${swaps.length} swaps`);
  t.ok(swaps.every((operations) => operations.length <= SWAP_CHUNKS_MAX + 1));
  await world.until(() => world.record.pendingDelete.length === 0);
  const left = world.record.sealed.map(({ segment }) => segment);
  t.notOk(dead.some((segment) => left.includes(segment)));
  t.equal(chunks(world), Math.ceil(left.length / CHUNK), 'empty chunks are gone');
  for (const node of world.nodes) {
    t.ok(dead.every((segment) => node.segments.get(segment)?.deleted === true));
  }
});

t.test('a record of schema 1 is taken over and cut', async (t) => {
  const world = new OwnerWorld({ limits: TINY });
  const first = await sealed(world, 10);
  first.process.kill();
  const old = world.record;
  const { entries } = world.server.peekRange(chunkPrefix(VOLUME));
  world.server.transact(
    [],
    [
      { type: 'put', key: volumeKey(VOLUME), value: encodeVolume(old) },
      ...entries.map(({ key }) => ({ type: 'delete', key }) as const),
    ],
  );
  const second = await world.serving();
  t.match(world.server.peek(volumeKey(VOLUME))?.value, /"schema":2/);
  t.ok(chunks(world) >= 3);
  t.same(await world.replayed(second), expectedLog(first.acked.length));
});

/** As repair does it: each first replica goes to the node without one, in the chunk alone. */
function move(world: OwnerWorld, number: number): void {
  const chunk = peekVolume(world.server, VOLUME)?.chunks.find((one) => one.number === number);
  if (chunk === undefined) throw new Error(`no chunk ${number}`);
  const entries = chunk.entries.map((entry) => {
    const { segment, replicas } = entry.sealed;
    const holders = world.nodes.filter((one) => replicas.some(({ node }) => node === one.node));
    const spare = world.nodes.find((one) => !holders.includes(one));
    const [gone, copy] = [holders[0], holders[0]?.segments.get(segment)];
    if (spare === undefined || copy === undefined) throw new Error('three of four have it');
    spare.segments.set(segment, { ...copy });
    const moved = replicas.map((one) => (one.node === gone?.node ? spare.replica : one));
    return { ...entry, sealed: { ...entry.sealed, replicas: moved } };
  });
  const key = chunkKey(VOLUME, number);
  const { committed } = world.server.transact(
    [{ key, modRevision: chunk.modRevision }],
    [{ type: 'put', key, value: encodeChunk(VOLUME, entries) }],
  );
  if (!committed) throw new Error('the chunk changed');
}

function listed(world: OwnerWorld, number: number): string[] {
  const chunk = peekVolume(world.server, VOLUME)?.chunks.find((one) => one.number === number);
  const entries = chunk?.entries ?? [];
  return entries.map(({ sealed: { replicas } }) => replicas.map(({ node }) => node).join());
}

t.test('an owner hears of replicas that were moved, and reads from them', async (t) => {
  const world = new OwnerWorld({ nodes: 4, limits: TINY });
  const one = await sealed(world, 9);
  const before = world.record.sealed[1];
  if (before === undefined) throw new Error('nine are sealed');
  const { segment } = before;
  const read = async (): Promise<string> => {
    let code: string | null = null;
    one.owner.readPages(segment, 0, 1, (error) => {
      code = error?.code ?? 'read';
    });
    await world.until(() => code !== null);
    return code as never;
  };
  t.equal(await read(), 'read');
  move(world, 0);
  await world.pass(100);
  t.same(one.owner.record?.sealed, world.record.sealed, 'without a swap of its own');
  for (const { node } of before.replicas) {
    world.nodes.find((known) => known.node === node)?.segments.delete(segment);
  }
  t.equal(await read(), 'read', 'from the only copy left, the moved one');
});

t.test('a swap that meets a moved chunk is made anew, and undoes nothing', async (t) => {
  const world = new OwnerWorld({ nodes: 4, limits: TINY });
  const one = await sealed(world, CHUNK * 2 + 1);
  const newest = chunks(world) - 1;
  // The next swap is on its way while the chunk changes under it.
  one.trips.push((call) => (call.type === 'transact' ? { requestMs: 200, replyMs: 1 } : null));
  const before = world.record.sealed.length;
  world.append(one, 20);
  await world.pass(100);
  t.equal(one.owner.inspect().swapInFlight, 'roll', 'on its way');
  const unmoved = listed(world, newest);
  move(world, newest);
  const moved = listed(world, newest);
  t.not(moved.join(), unmoved.join());
  while (world.record.sealed.length < before + 3) await world.appended(one, 5);
  const after = listed(world, newest).slice(0, moved.length);
  t.same(after, moved, 'where the replicas are now is still there');
  t.equal(one.owner.state.type, 'serving');
  await world.pass(2_000);
  const second = await world.serving();
  t.same(await world.replayed(second), expectedLog(one.acked.length));
});
