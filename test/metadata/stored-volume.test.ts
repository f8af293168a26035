/** Head and chunks: how a record is cut, changed a little at a time, read together and migrated. */
import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { epoch, lsn, offset, type Revision, revision } from '../../src/core/units.js';
import { decodeStored, encodeVolume } from '../../src/metadata/encoding.js';
import { chunkKey, chunkPrefix, volumeKey } from '../../src/metadata/keys.js';
import { transactionBytes } from '../../src/metadata/limits.js';
import type { Replica, SealedSegment, VolumeRecord } from '../../src/metadata/model.js';
import { movedTo } from '../../src/metadata/moved.js';
import {
  CHUNK_MAX_BYTES,
  CHUNK_SEGMENTS,
  decodeChunk,
  encodeChunk,
} from '../../src/metadata/sealed-chunks.js';
import type { KeyValue, Operation, RangeOptions } from '../../src/metadata/store.js';
import {
  changeOf,
  checkSize,
  readVolume,
  SWAP_CHUNKS_MAX,
  type VersionedVolume,
  versionedHead,
  withinOneSwap,
} from '../../src/metadata/stored-volume.js';
import {
  beginPurge,
  claimEpoch,
  clearDeleted,
  deleteSealed,
  moveToTrash,
  planSpare,
  resize,
  roll,
  setRoot,
} from '../../src/metadata/volume-record.js';
import { peekVolume, putVolume, versioned, volumeRecord } from '../fixtures/volume-record.js';
import { at, fresh, id, owner, segmentId, THREE, VOLUME } from './samples.js';
import { SimStores } from './sim-store.js';

const NUMBERED = 0x1000;

function sealed(n: number): SealedSegment {
  const segment = segmentId((NUMBERED + n).toString(16));
  const place = { segment, group: n % 128, createEpoch: epoch(1), replicas: THREE };
  return { ...place, end: offset(4096), endLsn: lsn(n + 1), crc: 77 };
}

/** Owned and serving, with so many sealed segments; the root is in the last of them. */
function long(count: number): VolumeRecord {
  const list = Array.from({ length: count }, (_, n) => sealed(n));
  const last = list.at(-1);
  return volumeRecord(VOLUME, {
    epoch: epoch(1),
    owner: owner('a'),
    open: ['a1', 'a2'].map((one) => ({ ...fresh(one), createEpoch: epoch(1) })),
    sealed: list,
    root: last === undefined ? null : { ...last, offset: offset(0), lsn: lsn(count - 1) },
  });
}

const rootOnly = (record: VolumeRecord): VolumeRecord => {
  const { root } = record;
  const { segment, offset: from, lsn: first } = root as NonNullable<VolumeRecord['root']>;
  return { ...record, root: { segment, offset: from, lsn: first } };
};
const volume = (count: number): VolumeRecord => rootOnly(long(count));

const ids = (from: number, to: number): SegmentId[] =>
  Array.from({ length: to - from }, (_, n) => sealed(from + n).segment);

const keysOf = (operations: readonly Operation[]): string[] =>
  operations.map(({ type, key }) => `${type} ${key.slice(key.lastIndexOf('/') + 1)}`);

/** What is to be deleted has no order. */
function inOrder({ record, ...rest }: VersionedVolume): VersionedVolume {
  const pendingDelete = [...record.pendingDelete].sort((a, b) => (a.segment < b.segment ? -1 : 1));
  return { ...rest, record: { ...record, pendingDelete } };
}

/** What `change` writes into a store that holds `record`, in chunks of 4. */
function written(record: VolumeRecord, change: (record: VolumeRecord) => VolumeRecord): string[] {
  const before = changeOf(null, record, 4).at(revision(1));
  return keysOf(changeOf(before, change(record), 4).operations);
}

const rolled = (record: VolumeRecord): VolumeRecord =>
  roll(record, {
    epoch: epoch(1),
    sealed: { ...at('a1', 1, record.sealed.length + 1) },
    promote: null,
    plan: [],
  });

t.test('a swap writes the head and the chunks that it changes', async (t) => {
  const chunks = (...numbers: number[]): string[] => numbers.map((n) => `put 0000000${n}`);
  const head = `put ${VOLUME}`;
  t.same(keysOf(changeOf(null, volume(9), 4).operations), [head, ...chunks(0, 1, 2)]);
  t.same(written(volume(7), rolled), [head, ...chunks(1)], 'there was room in the last one');
  t.same(written(volume(8), rolled), [head, ...chunks(2)], 'there was none');
  const grown = (record: VolumeRecord): VolumeRecord =>
    resize(record, { sizeBytes: record.sizeBytes * 2 });
  t.same(written(volume(9), grown), [head]);
  const give =
    (...segments: SegmentId[]) =>
    (record: VolumeRecord) =>
      deleteSealed(record, { epoch: epoch(1), segments });
  t.same(written(volume(12), give(...ids(2, 5))), [head, ...chunks(0, 1)]);
  const given = give(...ids(0, 5))(volume(12));
  const clear = (record: VolumeRecord): VolumeRecord =>
    clearDeleted(record, { segments: ids(0, 5) });
  t.same(
    written(volume(12), (record) => clear(give(...ids(0, 5))(record))),
    [head, 'delete 00000000', ...chunks(1)],
  );
  const before = changeOf(null, given, 4).at(revision(1));
  t.equal(before.listed.length, 5, 'what was never in a chunk stands in the head');
});

t.test('what was read is what was written, and swaps build on each other', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  putVolume(world.server, volume(300));
  const read = async (): Promise<VersionedVolume> => {
    const found = await world.wait(readVolume(store, VOLUME));
    if (found === null) throw new Error('it is there');
    return found;
  };
  let known = await read();
  t.same(known.record, volume(300));
  const swap = async (after: VolumeRecord): Promise<void> => {
    const change = changeOf(known, after, 8);
    const result = await world.wait(store.transact(change.compare, change.operations));
    t.ok(result.committed);
    known = change.at(result.revision);
    t.same(inOrder(await read()), inOrder(known), 'as if it had been read');
  };
  await swap(rolled(known.record));
  await swap(planSpare(known.record, { epoch: epoch(1), plan: [fresh('b1')] }));
  await swap(deleteSealed(known.record, { epoch: epoch(1), segments: ids(3, 200) }));
  t.equal(known.record.sealed.length, 301 - 197);
  t.equal(known.record.pendingDelete.length, 197);
  await swap(clearDeleted(known.record, { segments: ids(3, 100) }));
  await swap(claimEpoch(known.record, { owner: owner('b'), planned: [fresh('b2')] }));
  const kept = { removedAt: '2026-02-01T00:00:00.000Z', keptUntil: null };
  await swap(moveToTrash(known.record, kept));
  const chunks = known.chunks.length;
  const change = changeOf(known, beginPurge(known.record));
  t.equal(change.operations.length, 1, 'a purge is one small swap, however long the log');
  await swap(beginPurge(known.record));
  t.equal(known.chunks.length, chunks);
  const all = known.record.pendingDelete.map(({ segment }) => segment);
  t.equal(new Set(all).size, 300 + 4 - 97);
  while (known.record.pendingDelete.length > 0) {
    const left = known.record.pendingDelete.map(({ segment }) => segment);
    await swap(clearDeleted(known.record, { segments: withinOneSwap(known, left) }));
  }
  t.same(world.server.peekRange(chunkPrefix(VOLUME)).entries, []);
});

t.test('a record of schema 1 is read, and cut by the next swap', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  const old = volume(2_400);
  const value = encodeVolume(old);
  t.ok(value.length > 800_000, `${value.length} bytes`);
  world.server.transact([], [{ type: 'put', key: volumeKey(VOLUME), value }]);
  const found = await world.wait(readVolume(store, VOLUME));
  t.same(found?.record, old);
  if (found === null) return;
  const entry = world.server.peek(volumeKey(VOLUME));
  if (entry === null) return;
  t.equal(versionedHead(VOLUME, entry).record.log.segments, 2_400);
  const after = claimEpoch(old, { owner: owner('b'), planned: [fresh('b1')] });
  const change = changeOf(found, after);
  checkSize(found, change);
  t.ok(transactionBytes(change.operations) < 400_000);
  const { committed } = await world.wait(store.transact(change.compare, change.operations));
  t.ok(committed);
  const stored = decodeStored(world.server.peek(volumeKey(VOLUME))?.value ?? '');
  t.equal(stored.type, 'head');
  t.same((await world.wait(readVolume(store, VOLUME)))?.record, after);
  world.server.transact([], [{ type: 'put', key: volumeKey(VOLUME), value }]);
  t.equal(await world.codeOf(readVolume(store, VOLUME)), 'INCONSISTENT', 'an older program wrote');
});

t.test('the bytes of a swap do not grow with the log', async (t) => {
  const bytes = (count: number): number => {
    const before = versioned(volume(count));
    return transactionBytes(changeOf(before, rolled(before.record)).operations);
  };
  const few = bytes(CHUNK_SEGMENTS * 2 - 2);
  const many = bytes(CHUNK_SEGMENTS * 150 - 2);
  t.comment(`${few} bytes with 254 segments, ${many} with 19,198`);
  // The numbers in it have more digits.
  t.ok(many < few + 500 && many < 20_000);
});

t.test('segments that were never sealed leave the head when they are many', async (t) => {
  const pending = Array.from({ length: 5_000 }, (_, n) => {
    return { ...fresh((0x9000 + n).toString(16)), createEpoch: epoch(1) };
  });
  const record = { ...volume(3), pendingDelete: pending };
  const before = changeOf(null, record).at(revision(1));
  t.same(before.listed, []);
  t.ok(transactionBytes([changeOf(null, record).operations[0] as Operation]) < 5_000);
  const world = new SimStores();
  putVolume(world.server, record);
  const found = peekVolume(world.server, VOLUME);
  t.same(found?.record.pendingDelete, pending);
  t.same(found?.record.sealed, record.sealed);
});

t.test('what is deleted at once is what one swap can take', async (t) => {
  const known = versioned(volume(CHUNK_SEGMENTS * 40));
  const wanted = ids(0, 5_000);
  const first = withinOneSwap(known, wanted);
  t.equal(first.length, CHUNK_SEGMENTS * SWAP_CHUNKS_MAX);
  const after = deleteSealed(known.record, { epoch: epoch(1), segments: first });
  const change = changeOf(known, after);
  checkSize(known, change);
  const spread = wanted.filter((_, n) => n % CHUNK_SEGMENTS === 0);
  t.equal(withinOneSwap(known, spread).length, SWAP_CHUNKS_MAX);
  t.same(withinOneSwap(known, [id('77')]), [id('77')], 'what stands in the head');
});

t.test('a change that no store would take is one clear error', async (t) => {
  const labels = Object.fromEntries(
    Array.from({ length: 64 }, (_, n) => [`label${n}`, 'x'.repeat(1024)]),
  );
  const known = versioned({ ...volume(CHUNK_SEGMENTS * 120), labels });
  const all = known.record.sealed.slice(0, -1).map(({ segment }) => segment);
  const after = deleteSealed(known.record, { epoch: epoch(1), segments: all });
  const error = t.throws(() => checkSize(known, changeOf(known, after)), { code: 'TOO_LARGE' });
  t.match((error as HoldfastError).message, /volume "data" takes \d+ bytes under \d+ keys/);
});

t.test('chunks of the most segments on the most disks fit', async (t) => {
  const entries = Array.from({ length: CHUNK_SEGMENTS }, (_, n) => {
    const replicas = Array.from({ length: 5 }, (__, i): Replica => {
      const number = (n * 5 + i).toString(16);
      return { node: id(number), incarnation: id(`d${number}`) };
    });
    const big = { end: offset(2 ** 34), endLsn: lsn(2 ** 52 + n), crc: 0xffff_ffff };
    return { sealed: { ...sealed(n), ...big, createEpoch: epoch(2 ** 40), replicas }, dead: true };
  });
  const value = encodeChunk(VOLUME, entries);
  t.ok(value.length < CHUNK_MAX_BYTES, `${value.length} bytes`);
  t.same(decodeChunk(VOLUME, value), entries);
  const usual = encodeChunk(
    VOLUME,
    Array.from({ length: CHUNK_SEGMENTS }, (_, n) => ({ sealed: sealed(n), dead: false })),
  );
  t.ok(usual.length < 12_000, `${usual.length} bytes`);
});

t.test('damaged chunks are refused', async (t) => {
  const value = encodeChunk(VOLUME, [{ sealed: sealed(1), dead: false }]);
  const cases: readonly (readonly [string, string])[] = [
    ['{', 'MALFORMED'],
    [value.replace('"schema":1', '"schema":2'), 'VERSION'],
    [value.replace('"disks"', '"more":1,"disks"'), 'MALFORMED'],
    [value.replace('[0,1,2]', '[0,1,9]'), 'MALFORMED'],
    [value.replaceAll(VOLUME, id('bad')), 'MALFORMED'],
  ];
  for (const [json, code] of cases) t.throws(() => decodeChunk(VOLUME, json), { code });
});

t.test('a head and chunks that do not belong together', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  const change = (operations: readonly Operation[]): void => {
    world.server.transact([], operations);
  };
  const whole = changeOf(null, volume(9), 4).operations;
  change(whole.slice(0, 3));
  t.equal(await world.codeOf(readVolume(store, VOLUME)), 'INCONSISTENT', 'a chunk is missing');
  change(whole);
  t.equal(await world.codeOf(readVolume(store, VOLUME)), null);
  change([{ type: 'delete', key: chunkKey(VOLUME, 1) }]);
  t.equal(await world.codeOf(readVolume(store, VOLUME)), 'INCONSISTENT');
});

t.test('a head that changes between its chunks and itself is read again', async (t) => {
  const world = new SimStores();
  const server = world.server;
  putVolume(server, volume(9));
  let calls = 0;
  const { store } = world.connect({
    trip: ({ type }) => {
      calls += 1;
      return type === 'get' ? { requestMs: 100 } : {};
    },
  });
  const reading = readVolume(store, VOLUME);
  await world.until(() => calls === 2);
  const before = peekVolume(server, VOLUME);
  if (before === null) throw new Error('it is there');
  server.transact([], changeOf(before, rolled(before.record)).operations);
  t.same((await world.wait(reading))?.record, rolled(volume(9)));
});

t.test('chunks that have not changed are not read again', async (t) => {
  const world = new SimStores();
  const server = world.server;
  putVolume(server, volume(CHUNK_SEGMENTS * 40));
  const { store } = world.connect();
  let bytes = 0;
  const counted = new Proxy(store, {
    get: (of, name) => {
      if (name === 'get') return async (key: string) => seen(await of.get(key));
      return async (prefix: string, options: RangeOptions) => {
        const page = await of.range(prefix, options);
        for (const entry of page.entries) seen({ entry });
        return page;
      };
    },
  });
  function seen<T extends { readonly entry: KeyValue | null }>(found: T): T {
    bytes += found.entry?.value.length ?? 0;
    return found;
  }
  const read = async (known: VersionedVolume | null): Promise<VersionedVolume> => {
    bytes = 0;
    const found = await world.wait(readVolume(counted, VOLUME, known));
    const whole = await world.wait(readVolume(store, VOLUME));
    t.ok(JSON.stringify(found) === JSON.stringify(whole), 'as if all had been read');
    return found as VersionedVolume;
  };
  const first = await read(null);
  const all = bytes;
  t.equal(await read(first), first, 'nothing has changed');
  t.ok(bytes < all / 20, `${bytes} bytes of ${all}`);

  const [chunk] = first.chunks;
  const elsewhere = [...THREE].reverse();
  const moved = (chunk?.entries ?? []).map(({ sealed: one, dead }) => {
    return { dead, sealed: { ...one, replicas: elsewhere } };
  });
  const value = encodeChunk(VOLUME, moved);
  server.transact([], [{ type: 'put', key: chunkKey(VOLUME, 0), value }]);
  const second = await read(first);
  t.same(second.record.sealed[0]?.replicas, elsewhere, 'what repair has moved');
  t.ok(bytes < all / 10, `${bytes} bytes of ${all}`);

  const gone = ids(CHUNK_SEGMENTS, 2 * CHUNK_SEGMENTS);
  const without = clearDeleted(deleteSealed(second.record, { epoch: epoch(1), segments: gone }), {
    segments: gone,
  });
  server.transact([], changeOf(second, without).operations);
  t.equal((await read(second)).chunks.length, 39, 'a chunk that is gone');
});

t.test('what repair has moved is taken over, and compared in the next swap', async (t) => {
  const before = versioned(volume(9));
  const elsewhere = [...THREE].reverse();
  const entries = (before.chunks[0]?.entries ?? []).map((entry, n) =>
    n === 4 ? { ...entry, sealed: { ...entry.sealed, replicas: elsewhere } } : entry,
  );
  const told = (modRevision: Revision, value = encodeChunk(VOLUME, entries)) => [
    { key: chunkKey(VOLUME, 0), value, modRevision },
  ];
  t.equal(movedTo(before, told(revision(1))), null, 'known already');
  const moved = movedTo(before, told(revision(5)));
  t.same(moved?.record.sealed[4]?.replicas, elsewhere);
  t.equal(moved?.record.sealed[3], before.record.sealed[3]);
  if (moved === null) return;
  const { compare, operations } = changeOf(moved, rolled(moved.record));
  t.same(
    compare.map(({ modRevision }) => modRevision),
    [1, 5],
  );
  const chunk = operations.find(({ key }) => key === chunkKey(VOLUME, 0));
  const value = chunk?.type === 'put' ? chunk.value : '';
  t.same(decodeChunk(VOLUME, value)[4]?.sealed.replicas, elsewhere, 'nothing is undone');
  const shorter = encodeChunk(VOLUME, entries.slice(1));
  t.equal(movedTo(before, told(revision(5), shorter)), null, 'a swap of somebody else');
  t.equal(movedTo(before, told(revision(5), '{')), null);
});

t.test('a root stays what it was', async (t) => {
  const before = versioned(volume(5));
  const root = { segment: segmentId('a1'), offset: offset(4096), lsn: lsn(6) };
  const after = setRoot(before.record, { epoch: epoch(1), root });
  t.equal(changeOf(before, after).operations.length, 1);
});
