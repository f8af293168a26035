import fc from 'fast-check';
import t from 'tap';
import type { Incarnation, NodeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { GIB } from '../../src/core/units.js';
import type { Replica } from '../../src/metadata/model.js';
import { placeGroups } from '../../src/replication/placement.js';
import { type PlacementDisk, placementTargets } from '../../src/replication/placement-targets.js';
import { id } from './reader-nodes.js';

interface Shape {
  zone: number;
  disks: number;
  size: number;
}

/** Ids that, like real ones, say nothing about their order. */
function scrambled<T extends string>(n: number): T {
  return id<T>((Math.imul(n + 1, 0x9e3779b1) >>> 0) * 4096 + n);
}

function disksOf(shapes: readonly Shape[]): PlacementDisk[] {
  return shapes.flatMap(({ zone, disks, size }, n) =>
    Array.from({ length: disks }, (_, d) => ({
      node: scrambled<NodeId>(n),
      incarnation: scrambled<Incarnation>(1000 + n * 10 + d),
      zone: `zone-${zone}`,
      capacityBytes: size * 100 * GIB,
    })),
  );
}

function nodes(count: number, zones = 1): PlacementDisk[] {
  return disksOf(Array.from({ length: count }, (_, n) => ({ zone: n % zones, disks: 1, size: 4 })));
}

const shape = fc.record({
  zone: fc.nat(4),
  disks: fc.integer({ min: 1, max: 3 }),
  size: fc.integer({ min: 1, max: 8 }),
});
const cluster = fc.array(shape, { minLength: 1, maxLength: 14 });
const replicaCount = fc.constantFrom(1, 2, 3, 5);

function zoneOf(disks: readonly PlacementDisk[]): (replica: Replica) => string {
  const zones = new Map(disks.map((disk) => [disk.incarnation, disk.zone]));
  return ({ incarnation }) => zones.get(incarnation) ?? 'gone';
}

/** What holds for every table. */
function check(disks: readonly PlacementDisk[], groups: Replica[][], replicas: number): void {
  const nodeCount = new Set(disks.map(({ node }) => node)).size;
  const zoneCount = new Set(disks.map(({ zone }) => zone)).size;
  const zone = zoneOf(disks);
  for (const group of groups) {
    if (group.length !== Math.min(replicas, nodeCount)) throw new Error(`${group.length} replicas`);
    if (new Set(group.map(({ node }) => node)).size !== group.length) throw new Error('same node');
    const zones = new Set(group.map(zone));
    if (zones.has('gone')) throw new Error('a disk that is gone');
    if (zoneCount >= replicas && zones.size !== replicas) throw new Error('same zone');
  }
}

function counts(groups: Replica[][]): Map<Incarnation, number> {
  const count = new Map<Incarnation, number>();
  for (const { incarnation } of groups.flat()) {
    count.set(incarnation, (count.get(incarnation) ?? 0) + 1);
  }
  return count;
}

function checkBalance(disks: PlacementDisk[], groups: Replica[][], replicas: number): void {
  const { disks: targets } = placementTargets(disks, groups.length, replicas);
  const count = counts(groups);
  for (const [incarnation, target] of targets) {
    const has = count.get(incarnation) ?? 0;
    const slack = Math.max(1, target * 0.1);
    if (Math.abs(has - target) > slack) throw new Error(`${has} replicas, share ${target}`);
  }
}

/** Replicas of `after` that stand on disks which did not hold their group before. */
function moved(before: Replica[][], after: Replica[][]): number {
  let count = 0;
  for (const [index, group] of after.entries()) {
    const had = new Set(before[index]?.map(({ incarnation }) => incarnation));
    count += group.filter(({ incarnation }) => !had.has(incarnation)).length;
  }
  return count;
}

t.test('property: distinct nodes always, distinct zones whenever there are enough', async () => {
  fc.assert(
    fc.property(cluster, replicaCount, (shapes, replicas) => {
      const disks = disksOf(shapes);
      check(disks, placeGroups(disks, null, replicas), replicas);
    }),
    { numRuns: 150 },
  );
});

t.test('property: shares follow capacity, within 10 % or one replica', async () => {
  fc.assert(
    fc.property(cluster, replicaCount, (shapes, replicas) => {
      const disks = disksOf(shapes);
      checkBalance(disks, placeGroups(disks, null, replicas), replicas);
    }),
    { numRuns: 150 },
  );
});

t.test('property: the same input gives the same table, in whatever order disks come', async () => {
  fc.assert(
    fc.property(cluster, replicaCount, (shapes, replicas) => {
      const disks = disksOf(shapes);
      const table = JSON.stringify(placeGroups(disks, null, replicas));
      return table === JSON.stringify(placeGroups([...disks].reverse(), null, replicas));
    }),
    { numRuns: 30 },
  );
});

t.test('property: rules and balance hold through any history of changes', async () => {
  const history = fc.array(cluster, { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(history, replicaCount, (clusters, replicas) => {
      let table: Replica[][] | null = null;
      for (const shapes of clusters) {
        const disks = disksOf(shapes);
        table = placeGroups(disks, table, replicas);
        check(disks, table, replicas);
        checkBalance(disks, table, replicas);
      }
    }),
    { numRuns: 60 },
  );
});

t.test('property: nothing moves when nothing changes', async () => {
  fc.assert(
    fc.property(cluster, replicaCount, (shapes, replicas) => {
      const disks = disksOf(shapes);
      const table = placeGroups(disks, null, replicas);
      return moved(table, placeGroups(disks, table, replicas)) === 0;
    }),
    { numRuns: 60 },
  );
});

t.test('a new disk takes its share, and nothing else moves', async (t) => {
  for (const [count, zones] of [
    [4, 1],
    [6, 3],
    [9, 3],
    [20, 5],
  ] as const) {
    const before = placeGroups(nodes(count, zones), null, 3);
    const after = placeGroups(nodes(count + 1, zones), before, 3);
    const joined = scrambled<Incarnation>(1000 + count * 10);
    const got = counts(after).get(joined) ?? 0;
    t.equal(moved(before, after), got, `${count} nodes, ${zones} zones: only to the new disk`);
    const share = placementTargets(nodes(count + 1, zones), PLACEMENT_GROUPS, 3);
    t.ok(Math.abs(got - (share.disks.get(joined) ?? 0)) <= 1, `${got} replicas`);
  }
});

t.test('a disk that goes moves its own replicas only', async (t) => {
  for (const [count, zones] of [
    [4, 1],
    [7, 1],
    [12, 4],
    [20, 5],
  ] as const) {
    const disks = nodes(count, zones);
    const before = placeGroups(disks, null, 3);
    for (let gone = 0; gone < count; gone++) {
      const left = disks.filter((_, n) => n !== gone);
      const after = placeGroups(left, before, 3);
      const own = counts(before).get(disks[gone]?.incarnation as Incarnation) ?? 0;
      const extra = moved(before, after) - own;
      t.ok(extra <= own * 0.1 + 2, `${count}/${zones} without ${gone}: ${extra} more than ${own}`);
      checkBalance(left, after, 3);
    }
  }
});

t.test('with three nodes every group is on all three, whatever their size', async (t) => {
  const disks = disksOf([
    { zone: 0, disks: 1, size: 1 },
    { zone: 0, disks: 3, size: 8 },
    { zone: 0, disks: 1, size: 2 },
  ]);
  const table = placeGroups(disks, null, 3);
  check(disks, table, 3);
  t.equal(counts(table).get(disks[0]?.incarnation as Incarnation), PLACEMENT_GROUPS);
});

t.test('too few nodes give shorter groups, which fill up as nodes come', async (t) => {
  t.same(
    placeGroups([], null, 3).map((group) => group.length),
    Array.from({ length: PLACEMENT_GROUPS }, () => 0),
  );
  let table: Replica[][] | null = null;
  for (const count of [1, 2, 3]) {
    const before: Replica[][] | null = table;
    table = placeGroups(nodes(count), before, 3);
    t.ok(table.every((group) => group.length === count));
    if (before !== null) t.equal(moved(before, table), PLACEMENT_GROUPS);
  }
});

t.test('a replaced disk takes the place of the former', async (t) => {
  const disks = nodes(5);
  const before = placeGroups(disks, null, 3);
  const replaced = disks.map((disk, n) =>
    n === 2 ? { ...disk, incarnation: id<Incarnation>(9) } : disk,
  );
  const after = placeGroups(replaced, before, 3);
  const own = counts(before).get(disks[2]?.incarnation as Incarnation) ?? 0;
  t.ok(moved(before, after) <= own * 1.1 + 2, `${moved(before, after)} moved for ${own}`);
});

t.test('the first replica of groups is spread over the disks', async (t) => {
  const table = placeGroups(nodes(3), null, 3);
  const first = counts(table.map((group) => group.slice(0, 1)));
  for (const count of first.values()) t.ok(count >= PLACEMENT_GROUPS / 6, `${count} times first`);
  t.equal(first.size, 3);
});

t.test('a hundred nodes are placed in reasonable time', async (t) => {
  const start = Date.now();
  const disks = nodes(100, 5);
  const table = placeGroups(disks, null, 3);
  placeGroups(nodes(101, 5), table, 3);
  placeGroups(disks.slice(1), table, 3);
  t.ok(Date.now() - start < 5_000, `${Date.now() - start} ms`);
});
