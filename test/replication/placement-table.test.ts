import t from 'tap';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS, REPLICA_COUNTS } from '../../src/core/limits.js';
import type { Monotonic } from '../../src/core/units.js';
import type { Clock } from '../../src/io/clock.js';
import { decodePlacement, encodeNode } from '../../src/metadata/encoding.js';
import { nodeKey, placementKey } from '../../src/metadata/keys.js';
import { type Call, MemoryServer, MemoryStore } from '../../src/metadata/memory.js';
import type { NodeRecord, PlacementRecord } from '../../src/metadata/model.js';
import type { Directory } from '../../src/replication/directory.js';
import { chooseGroup, updatePlacement } from '../../src/replication/placement-table.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { id } from './reader-nodes.js';

const clock: Clock = {
  monotonic: () => 0 as Monotonic,
  wall: () => 0,
  timeOfDay: () => ({ seconds: 0, nanoseconds: 0 }),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  soon: (callback) => setImmediate(callback),
};

function nodeRecord(n: number): NodeRecord {
  return {
    schema: 1,
    node: id<NodeId>(n),
    address: `127.0.0.1:${4000 + n}`,
    zone: `zone-${n}`,
    disks: [{ incarnation: id<Incarnation>(100 + n), capacityBytes: 1e12 }],
    version: '0.1.0',
  };
}

function world(): { server: MemoryServer; store: MemoryStore } {
  const server = new MemoryServer(clock);
  return { server, store: new MemoryStore(server, { clock }) };
}

async function register(store: MemoryStore, n: number): Promise<void> {
  const value = encodeNode(nodeRecord(n));
  await store.transact([], [{ type: 'put', key: nodeKey(id<NodeId>(n)), value }]);
}

async function table(store: MemoryStore, replicas: number): Promise<PlacementRecord> {
  const { entry } = await store.get(placementKey(replicas));
  if (entry === null) throw new Error(`no table of ${replicas}`);
  return decodePlacement(entry.value);
}

t.test(
  'tables follow the registered nodes, and are not written when nothing changed',
  async (t) => {
    const { store } = world();
    for (const n of [1, 2, 3, 4]) {
      await register(store, n);
      t.same(await updatePlacement(store), n === 4 ? [1, 2, 3, 5] : [...REPLICA_COUNTS]);
      for (const replicas of REPLICA_COUNTS) {
        const { groups } = await table(store, replicas);
        t.equal(groups.length, PLACEMENT_GROUPS);
        t.ok(groups.every((group) => group.length === Math.min(n, replicas)));
      }
    }
    const before = store.revision;
    t.same(await updatePlacement(store), []);
    t.equal(store.revision, before);
  },
);

t.test('nodes that register at once do not lose each other’s disks', async (t) => {
  for (let seed = 0; seed < 8; seed++) {
    const { server } = world();
    const random = new SimRandom(seed);
    const wait = (ms: number): number => Math.floor(random.fraction() * ms);
    // Swaps are slow, so that much happens between what they were made from and their arrival.
    const trip = ({ type }: Call) => ({ requestMs: wait(type === 'transact' ? 60 : 4) });
    const joining = [1, 2, 3, 4, 5].map(async (n) => {
      const store = new MemoryStore(server, { clock, trip });
      await register(store, n);
      await updatePlacement(store);
      return store;
    });
    const [store] = await Promise.all(joining);
    for (const replicas of REPLICA_COUNTS) {
      const { groups } = await table(store as MemoryStore, replicas);
      const known = new Set(groups.flat().map(({ node }) => node)).size;
      t.equal(known, 5, `seed ${seed}, ${replicas} replicas`);
    }
  }
});

async function directoryOf(live: (node: NodeId) => boolean, count = 5): Promise<Directory> {
  const { store } = world();
  for (let n = 1; n <= count; n++) await register(store, n);
  await updatePlacement(store);
  const tables = new Map<number, PlacementRecord>();
  for (const replicas of REPLICA_COUNTS) tables.set(replicas, await table(store, replicas));
  return {
    address: () => null,
    nodes: () => [],
    isLive: live,
    placement: (replicas) => tables.get(replicas) ?? null,
  };
}

const wish = { replicas: 3, ackQuorum: 2, avoid: new Set<NodeId>() };

t.test('a healthy group is chosen, each in its turn', async (t) => {
  const random = new SimRandom('choose');
  const directory = await directoryOf(() => true);
  const chosen = new Set<number>();
  for (let i = 0; i < 2000; i++) chosen.add(chooseGroup(directory, wish, random)?.group ?? -1);
  t.equal(chosen.size, PLACEMENT_GROUPS);
  const down = id<NodeId>(3);
  const without = await directoryOf((node) => node !== down);
  for (let i = 0; i < 200; i++) {
    const group = chooseGroup(without, wish, random);
    t.notOk(group?.replicas.some(({ node }) => node === down));
    const bad = chooseGroup(directory, { ...wish, avoid: new Set([down]) }, random);
    t.notOk(bad?.replicas.some(({ node }) => node === down));
  }
});

t.test(
  'with too few healthy nodes the least bad group is chosen, with too few nodes none',
  async (t) => {
    const random = new SimRandom('few');
    const none = await directoryOf(() => false);
    t.equal(chooseGroup(none, wish, random)?.replicas.length, 3);
    const two = await directoryOf(() => true, 2);
    t.equal(chooseGroup(two, wish, random)?.replicas.length, 2);
    const one = await directoryOf(() => true, 1);
    t.equal(chooseGroup(one, wish, random), null);
  },
);
