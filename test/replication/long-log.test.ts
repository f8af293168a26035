/**
 * Volumes of 1.25 TiB of log, 20,000 sealed segments, in real metadata stores: opening, swapping,
 * giving up 5,000 at once, confirming, purging, exporting, importing and rebuilding them. The
 * nodes agree to everything, so the times are those of the metadata.
 */
import t, { type Test } from 'tap';
import type { OwnerId } from '../../src/core/ids.js';
import { epoch, offset, revision } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { MetadataConfirmations } from '../../src/metadata/confirmations.js';
import { EmbeddedStore } from '../../src/metadata/embedded.js';
import { nameKey, ROOT } from '../../src/metadata/keys.js';
import { openMetadata } from '../../src/metadata/open.js';
import { rebuildVolumes } from '../../src/metadata/rebuild.js';
import type { RebuildHeader, RebuildInventory } from '../../src/metadata/rebuild-types.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { changeOf } from '../../src/metadata/stored-volume.js';
import { decodeExport, exportCluster, importCluster } from '../../src/metadata/transfer.js';
import { VolumeTrash } from '../../src/metadata/trash.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { LogOwner } from '../../src/replication/owner.js';
import { purgeVolume } from '../../src/replication/purge.js';
import { startEtcd } from '../fixtures/etcd.js';
import { realClock, realRandom, temporaryDirectory, until } from '../metadata/real-parts.js';
import {
  AgreeableNodes,
  LONG,
  longDirectory,
  longRecord,
  longSegment,
  measured,
} from './long-log.js';

const SEGMENTS = 20_000;
const GIVEN_UP = 5_000;
/** Of one swap, however long the log is: head, and a chunk or two. */
const SWAP_MAX_BYTES = 40_000;
const parts = { clock: realClock, random: realRandom, env: {} };
t.setTimeout(240_000);

const stores: readonly (readonly [string, (t: Test) => Promise<MetadataStore>])[] = [
  [
    'etcd',
    async (t) => {
      const etcd = await startEtcd();
      t.teardown(() => etcd.close());
      return openMetadata(etcd.url, parts);
    },
  ],
  [
    'embedded',
    async (t) =>
      new EmbeddedStore({ directory: temporaryDirectory(t), clock: realClock, random: realRandom }),
  ],
];

async function timed<T>(t: Test, what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  t.comment(`${what}: ${Math.round(performance.now() - started)} ms`);
  return result;
}

/** Writes the volume past everybody. */
async function written(store: MetadataStore): Promise<void> {
  await initCluster(store, realClock, realRandom);
  const record = longRecord(SEGMENTS);
  const { operations } = changeOf(null, record);
  for (let at = 0; at < operations.length; at += 40) {
    await store.transact([], operations.slice(at, at + 40));
  }
  await store.transact([], [{ type: 'put', key: nameKey(record.name), value: LONG }]);
}

function ownerOn(store: MetadataStore, nodes: AgreeableNodes, number: number): LogOwner {
  const seams = { ...parts, store, requests: nodes, directory: longDirectory, log: silentLog };
  const owner = number.toString(16).padStart(32, '0') as OwnerId;
  return new LogOwner(seams, { volume: LONG, owner, address: 'here' });
}

async function serving(owner: LogOwner): Promise<void> {
  owner.start(() => {});
  await until('it serves', () => owner.state.type !== 'idle' && owner.state.type !== 'taking-over');
  if (owner.state.type === 'stopped') throw owner.state.reason;
}

async function owned(t: Test, store: MetadataStore): Promise<void> {
  const nodes = new AgreeableNodes();
  const seen = measured(store);
  const owner = ownerOn(seen.store, nodes, 1);
  await timed(t, 'takeover', () => serving(owner));
  t.equal(owner.record?.sealed.length, SEGMENTS);
  t.ok(Math.max(...seen.bytes) < SWAP_MAX_BYTES, `swaps of ${seen.bytes.join(', ')} bytes`);
  await timed(t, `${3 * SEGMENTS} SEALs`, () =>
    until('SEALs', () => (nodes.counts.get('seal') ?? 0) >= 3 * SEGMENTS, 60_000),
  );
  seen.bytes.length = 0;
  const dead = Array.from({ length: GIVEN_UP }, (_, n) => longSegment(n * 2).segment);
  await timed(t, `${GIVEN_UP} segments given up`, async () => {
    const error = await new Promise((resolve) => owner.deleteSealed(dead, resolve));
    if (error !== null) throw error;
  });
  t.ok(seen.bytes.length > 1, `${seen.bytes.length} swaps of ${seen.bytes[0]} bytes`);
  await timed(t, 'and deleted', () =>
    until('nothing is listed', () => owner.record?.pendingDelete.length === 0, 60_000),
  );
  t.equal(owner.record?.sealed.length, SEGMENTS - GIVEN_UP);
  await new Promise((resolve) => owner.release(resolve));
}

async function confirmed(t: Test, store: MetadataStore): Promise<void> {
  const confirmations = new MetadataConfirmations(store, silentLog);
  const ask = (n: number, crc = 77): Promise<string> => {
    const { segment, end } = longSegment(n);
    return new Promise((resolve) => confirmations.sealed(LONG, segment, end, crc, resolve));
  };
  t.equal(await ask(SEGMENTS - 1), 'confirmed');
  t.equal(await ask(SEGMENTS - 1, 78), 'refused');
  t.equal(await ask(0), 'refused', 'it was deleted');
  await timed(t, '100 confirmations', async () => {
    for (let n = 1; n < 200; n += 2) t.equal(await ask(n), 'confirmed');
  });
  const deletable = (n: number): Promise<string> => {
    const { segment } = longSegment(n);
    return new Promise((resolve) => {
      confirmations.deletable(LONG, segment, revision(1), resolve);
    });
  };
  t.equal(await deletable(1), 'refused', 'it is sealed');
  t.equal(await deletable(0), 'refused', 'it is not listed any more');
}

async function transferred(t: Test, store: MetadataStore): Promise<void> {
  const text = await timed(t, 'export', () => exportCluster(store));
  const target = new EmbeddedStore({ ...parts, directory: temporaryDirectory(t) });
  const content = decodeExport(text);
  await timed(t, `import of ${text.length} bytes`, () =>
    importCluster(target, content, { maxEpochs: new Map() }),
  );
  const volumes = new Volumes(target, realClock, realRandom);
  const { record } = await volumes.byName('long');
  t.same(record.sealed, content.volumes[0]?.sealed);
  t.ok(record.epoch > (content.volumes[0]?.epoch ?? 0));
  await target.close();
}

async function purged(t: Test, store: MetadataStore): Promise<void> {
  const volumes = new Volumes(store, realClock, realRandom);
  const trash = new VolumeTrash(store, realClock, volumes);
  const seen = measured(store);
  await trash.remove(LONG, { keepMs: 0, force: false });
  const directory = longDirectory;
  const around = { ...parts, store: seen.store, trash, directory, log: silentLog };
  const requests = new AgreeableNodes();
  const outcome = await timed(t, 'purge', () =>
    purgeVolume({ ...around, requests }, LONG, { timeoutMs: 120_000 }),
  );
  t.same(outcome, { type: 'purged' });
  t.ok((requests.counts.get('delete') ?? 0) >= 3 * (SEGMENTS - GIVEN_UP));
  const { entries } = await store.range(ROOT);
  t.same(
    entries.map(({ key }) => key),
    [`${ROOT}cluster`],
    'nothing is left of it',
  );
}

for (const [name, open] of stores) {
  t.test(`${SEGMENTS} sealed segments in ${name}`, async (t) => {
    const store = await open(t);
    t.teardown(() => store.close());
    await written(store);
    await owned(t, store);
    await confirmed(t, store);
    await transferred(t, store);
    await purged(t, store);
  });
}

t.test(`${SEGMENTS} segments are rebuilt`, async (t) => {
  const { sealed } = longRecord(SEGMENTS);
  const headers = new Map<string, RebuildHeader>();
  const disks = new Map<string, RebuildInventory & { entries: unknown[] }>();
  const facts = { name: 'long', kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
  for (const [n, one] of sealed.entries()) {
    const before = sealed[n - 1] ?? null;
    const state = n === SEGMENTS - 1 ? 'open' : 'sealed';
    headers.set(one.segment, { ...facts, ackQuorum: 2, group: one.group, previous: before });
    for (const { node, incarnation } of one.replicas) {
      const disk = disks.get(incarnation) ?? { node, incarnation, entries: [] };
      disks.set(incarnation, disk);
      const { segment, end, crc, createEpoch } = one;
      const known = { segment, volume: LONG, createEpoch, maxEpoch: epoch(1), crc };
      disk.entries.push({ ...known, length: offset(end), state, suspectFrom: null });
    }
  }
  const input = { inventories: [...disks.values()], createdAt: '2026-01-01T00:00:00.000Z' };
  const [result] = await timed(t, 'rebuild', async () =>
    rebuildVolumes({ ...input, headers: headers as never }),
  );
  t.equal(result?.type, 'rebuilt');
  if (result?.type === 'rebuilt') t.equal(result.record.sealed.length, SEGMENTS - 1);
});
