/** Repair's plan on made-up clusters: each example says what must and must not be done next. */
import t from 'tap';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { GIB, MIB } from '../../src/core/units.js';
import type { Replica } from '../../src/metadata/model.js';
import {
  ending,
  planRepair,
  type RepairPlan,
  type RepairStep,
} from '../../src/replication/repair-plan.js';
import {
  type DiskState,
  type RepairDisk,
  type RepairSegment,
  type RepairView,
  stateIn,
} from '../../src/replication/repair-view.js';
import { SimRandom } from '../fixtures/sim-random.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const VOLUME = hex(0xf0) as VolumeId;

/** Disk 0 of node n. */
function on(node: number): Replica {
  return { node: hex(node) as NodeId, incarnation: hex(100 + node) as Incarnation };
}

function disk(node: number, state: DiskState = 'good', changes: Partial<RepairDisk> = {}) {
  const zone = `z${node}`;
  return { ...on(node), zone, capacityBytes: GIB, freeBytes: null, state, ...changes };
}

function segment(n: number, nodes: readonly number[], changes: Partial<RepairSegment> = {}) {
  const move = { filling: null, instead: null, leaving: [] };
  const nobody = new Set<Incarnation>();
  const none = { incomplete: nobody, unsealed: nobody, unlisted: [], ...move };
  const ids = { volume: VOLUME, segment: hex(1000 + n) as SegmentId };
  return { ...ids, bytes: 64 * MIB, wanted: 3, replicas: nodes.map(on), ...none, ...changes };
}

function plan(
  disks: readonly RepairDisk[],
  segments: readonly RepairSegment[],
  changes: Partial<RepairView> = {},
): RepairPlan {
  const bounds = { maxSteps: 8, maxPerNode: 8, balance: true, balancing: false };
  return planRepair({ disks, segments, busy: new Set(), load: new Map(), ...bounds, ...changes });
}

/** "fill 3 on 4": what is done, to which segment, on which node. */
function said(steps: readonly RepairStep[]): string[] {
  return steps.map((step) => {
    const of = Number.parseInt(step.of.segment, 16) - 1000;
    const where = step.type === 'abandon' ? '' : ` on ${Number.parseInt(step.to.node, 16)}`;
    return `${step.type} ${of}${where}`;
  });
}

t.test('what is away is waited for, what is gone is copied elsewhere', async (t) => {
  const away = [disk(1), disk(2), disk(3, 'away'), disk(4)];
  t.same(said(plan(away, [segment(1, [1, 2, 3])]).steps), []);
  const gone = [disk(1), disk(2), disk(3, 'gone'), disk(4)];
  const found = plan(gone, [segment(1, [1, 2, 3]), segment(2, [1, 2, 4])]);
  t.same(said(found.steps), ['fill 1 on 4']);
  t.match(found.summary, { degraded: 1, endangered: 0, copies: 1, bytes: 64 * MIB });
  const none = [disk(1), disk(2), disk(3, 'gone')];
  t.same(said(plan(none, [segment(1, [1, 2, 3])]).steps), [], 'there is no place');
  t.same(said(plan(gone, [segment(1, [1, 2, 9])]).steps), ['fill 1 on 4'], 'a disk of nobody');
});

t.test('most endangered first, within the bounds of all and of each node', async (t) => {
  const disks = [disk(1), disk(2, 'gone'), disk(3, 'gone'), disk(4), disk(5)];
  const segments = [segment(1, [1, 2, 4]), segment(2, [1, 2, 3]), segment(3, [1, 2, 5])];
  const all = plan(disks, segments);
  t.equal(said(all.steps)[0]?.slice(0, 6), 'fill 2', 'it has one copy left');
  t.equal(all.steps.length, 3, 'one step a segment');
  t.match(all.summary, { degraded: 3, endangered: 1, copies: 4 });
  t.equal(plan(disks, segments, { maxSteps: 1 }).steps.length, 1);
  const narrow = plan(disks, segments, { maxPerNode: 1 });
  t.equal(new Set(narrow.steps.map((step) => 'to' in step && step.to.node)).size, 2);
  t.equal(narrow.steps.length, 2);
  const busy = new Set([segment(2, []).segment]);
  t.equal(
    said(plan(disks, segments, { busy }).steps)
      .join()
      .includes(' 2 '),
    false,
  );
});

t.test('what cannot be read is not copied, and no copy goes to where one is', async (t) => {
  const disks = [disk(1, 'gone'), disk(2, 'gone'), disk(3, 'gone'), disk(4)];
  const lost = plan(disks, [segment(1, [1, 2, 3])]);
  t.same(lost.steps, []);
  t.equal(lost.summary.unreadable, 1);
  const twoDisks = [disk(1), { ...disk(1), incarnation: hex(777) as Incarnation }, disk(2)];
  const found = plan([...twoDisks, disk(3, 'gone')], [segment(1, [1, 2, 3])]);
  t.same(found.steps, [], 'the other disk of a node that has one is no place');
  const wiped = plan(
    [disk(1), disk(2), { ...disk(3), incarnation: hex(778) as Incarnation }],
    [segment(1, [1, 2, 3])],
  );
  t.same(said(wiped.steps), ['fill 1 on 3'], 'a new disk of the node whose disk is gone is one');
});

t.test('zones first, then a disk that may have the copy still, then the emptiest', async (t) => {
  const others = [segment(2, [5, 6, 7], { wanted: 3 })];
  const disks = [
    ...[disk(1), disk(2), disk(3, 'gone'), disk(4, 'good', { zone: 'z1' }), disk(5)],
    ...[disk(6, 'good', { capacityBytes: 100 * GIB }), disk(7)],
  ];
  t.same(said(plan(disks, [segment(1, [1, 2, 3]), ...others]).steps), ['fill 1 on 6']);
  const had = segment(1, [1, 2, 3], { leaving: [on(5)] });
  t.same(said(plan(disks, [had, ...others]).steps), ['fill 1 on 5']);
  const crowded = segment(1, [1, 2, 3], { leaving: [on(4)] });
  t.same(said(plan(disks, [crowded, ...others]).steps), ['fill 1 on 6'], 'z1 has one already');
  const full = disks.map((one) => (one.node === on(6).node ? { ...one, freeBytes: 0 } : one));
  t.not(said(plan(full, [segment(1, [1, 2, 3]), ...others]).steps).join(), 'fill 1 on 6');
});

t.test('a drained disk keeps its copies until others have taken their place', async (t) => {
  const disks = [disk(1), disk(2), disk(3, 'leaving'), disk(4)];
  const drained = segment(1, [1, 2, 3]);
  const found = plan(disks, [drained]);
  t.same(said(found.steps), ['fill 1 on 4']);
  t.match(found.summary, { degraded: 0, leaving: 1 });
  const state = (one: Replica): DiskState => stateIn(disks, one);
  const dropped = (of: RepairSegment, stateOf: (one: Replica) => DiskState, to = on(4)) => {
    const end = ending(of, stateOf, to, null);
    return end.type === 'abandon' ? end.type : end.drop;
  };
  t.same(dropped(drained, state), on(3));
  const worse = disks.map((one) => (one.node === on(2).node ? disk(2, 'gone') : one));
  const inWorse = (one: Replica): DiskState => stateIn(worse, one);
  t.same(dropped(drained, inWorse), on(2), 'what is gone goes first');
  const twin = { ...on(3), incarnation: hex(779) as Incarnation };
  t.same(dropped(drained, inWorse, twin), on(3), 'but one of a node');
  const well = [disk(1), disk(2), disk(3), disk(4)];
  const inWell = (one: Replica): DiskState => stateIn(well, one);
  t.equal(dropped(drained, inWell), 'abandon', 'all of them count');
  t.equal(dropped(drained, inWell, twin), 'abandon');
  t.equal(dropped({ ...drained, wanted: 4 }, state), null, 'there are too few anyway');
});

t.test('what was begun is ended, or abandoned when it is of no use any more', async (t) => {
  const begun = segment(1, [1, 2, 3], { filling: on(4) });
  const gone = [disk(1), disk(2), disk(3, 'gone'), disk(4)];
  t.same(said(plan(gone, [begun]).steps), ['fill 1 on 4']);
  const back = [disk(1), disk(2), disk(3), disk(4)];
  t.same(said(plan(back, [begun]).steps), ['abandon 1'], 'the node came back');
  const lost = [disk(1), disk(2), disk(3, 'gone'), disk(4, 'away')];
  t.same(said(plan(lost, [begun]).steps), ['abandon 1']);
  const balance = { ...begun, instead: on(3) };
  t.same(said(plan(back, [balance]).steps), ['fill 1 on 4'], 'for balance it still is');
});

t.test('a whole copy beside the list takes the place of one that cannot be read', async (t) => {
  const gone = [disk(1, 'gone'), disk(2, 'gone'), disk(3, 'gone'), disk(4), disk(5)];
  const left = segment(1, [1, 2, 3], { unlisted: [on(4)] });
  t.same(said(plan(gone, [left]).steps), ['fill 1 on 4']);
  t.same(said(plan(gone, [{ ...left, filling: on(4) }]).steps), ['fill 1 on 4']);
  t.same(said(plan(gone, [{ ...left, filling: on(5) }]).steps), ['abandon 1'], 'from nothing');
  const away = gone.map((one) => (one.node === on(4).node ? disk(4, 'away') : one));
  t.same(said(plan(away, [left]).steps), [], 'it cannot be read either');
  const twin = { ...on(4), incarnation: hex(777) as Incarnation };
  const counting = segment(1, [1, 2, 4], { unlisted: [twin] });
  const both = [...away, { ...disk(4), incarnation: twin.incarnation }];
  t.same(said(plan(both, [counting]).steps), [], 'one of its node is waited for');
});

t.test('a copy that is not whole is completed where it stands', async (t) => {
  const disks = [disk(1), disk(2), disk(3), disk(4)];
  const partial = segment(1, [1, 2, 3], { incomplete: new Set([on(3).incarnation]) });
  const found = plan(disks, [partial]);
  t.same(said(found.steps), ['complete 1 on 3']);
  t.match(found.summary, { degraded: 1, copies: 1 });
});

t.test('what cannot leave a drained disk is completed there', async (t) => {
  const disks = [disk(1), disk(2), disk(3, 'leaving')];
  const partial = segment(1, [1, 2, 3], { incomplete: new Set([on(3).incarnation]) });
  t.same(said(plan(disks, [partial]).steps), ['complete 1 on 3']);
  t.same(said(plan([...disks, disk(4)], [partial]).steps), ['fill 1 on 4']);
  const busy = new Map([[on(4).node, 8]]);
  t.same(said(plan([...disks, disk(4)], [partial], { load: busy }).steps), [], 'it has its turn');
  t.same(said(plan(disks, [segment(1, [1, 2, 3])]).steps), [], 'whole copies wait');
});

t.test('a copy that lacks only its SEAL can be read, and is completed alone', async (t) => {
  const disks = [disk(1), disk(2), disk(3), disk(4)];
  const incomplete = new Set([1, 2, 3].map((node) => on(node).incarnation));
  const lost = segment(1, [1, 2, 3], { incomplete });
  t.same(said(plan(disks, [lost]).steps), [], 'nothing to complete them from');
  t.match(plan(disks, [lost]).summary, { unreadable: 1 });
  const unsealed = new Set([on(2).incarnation]);
  const found = plan(disks, [segment(1, [1, 2, 3], { incomplete, unsealed })]);
  t.match(found.summary, { unreadable: 0, endangered: 1, copies: 3 });
  t.same(said(found.steps), ['complete 1 on 1']);
  const unlisted = [on(4)];
  const sure = plan(disks, [segment(1, [1, 2, 3], { incomplete, unsealed, unlisted })]);
  t.same(said(sure.steps), ['fill 1 on 4'], 'one that is known to be whole is surer');
  const alone = { wanted: 1, incomplete: unsealed, unsealed };
  t.same(said(plan(disks, [segment(1, [2], alone)]).steps), ['complete 1 on 2']);
});

/** Carries plans out, one after another, until there is nothing to do; counts what moved. */
function carriedOut(
  disks: readonly RepairDisk[],
  given: readonly RepairSegment[],
): { segments: RepairSegment[]; moved: number } {
  let segments = [...given];
  let balancing = false;
  let moved = 0;
  for (let turn = 0; turn < 2_000; turn++) {
    const found = plan(disks, segments, { balancing });
    balancing = found.balancing;
    if (found.steps.length === 0) return { segments, moved };
    for (const step of found.steps) {
      if (step.type !== 'fill') throw new Error(`a ${step.type} was not expected`);
      const end = ending(step.of, (one) => stateIn(disks, one), step.to, step.instead);
      if (end.type === 'abandon') throw new Error('a copy that nobody needs');
      const kept = step.of.replicas.filter((one) => one.incarnation !== end.drop?.incarnation);
      const replicas = [...kept, step.to];
      segments = segments.map((one) => (one === step.of ? { ...one, replicas } : one));
      moved += step.of.bytes;
    }
  }
  throw new Error('it does not end');
}

function levels(disks: readonly RepairDisk[], segments: readonly RepairSegment[]): number[] {
  return disks.map(({ incarnation, capacityBytes }) => {
    const here = segments.filter((one) => one.replicas.some((r) => r.incarnation === incarnation));
    return here.reduce((sum, one) => sum + one.bytes, 0) / capacityBytes;
  });
}

t.test('a new node gets its share, and little else moves', async (t) => {
  const random = new SimRandom('balance');
  const capacityOf = [100, 100, 200, 100, 150].map((n) => n * GIB);
  const disks = capacityOf.map((capacityBytes, i) => disk(i + 1, 'good', { capacityBytes }));
  const segments = Array.from({ length: 600 }, (_, n) => {
    const nodes = random.shuffle([1, 2, 3, 4]).slice(0, 3);
    return segment(n, nodes, { bytes: (8 + random.below(57)) * MIB });
  });
  const { segments: after, moved } = carriedOut(disks, segments);
  const found = levels(disks, after);
  const even = found.reduce((a, b) => a + b, 0) / found.length;
  for (const level of found) t.ok(Math.abs(level - even) < even * 0.1, `${level} of ${even}`);
  const total = segments.reduce((sum, one) => sum + one.bytes * 3, 0);
  const share = Math.max(...levels([disks[4] as RepairDisk], after)) * 150 * GIB;
  t.ok(moved < share * 1.5, `${moved / share} of what the new node has was moved`);
  t.ok(moved < total / 2);
  t.same(plan(disks, after).steps, [], 'and then it is quiet');
  t.equal(plan(disks, after).balancing, false);
  t.ok(after.every((one) => new Set(one.replicas.map((r) => r.node)).size === 3));
});

t.test('two copies in one zone part when there is another one', async (t) => {
  const zone = (n: number, name: string) => disk(n, 'good', { zone: name });
  const disks = [zone(1, 'a'), zone(2, 'a'), zone(3, 'b'), zone(4, 'c')];
  const { segments } = carriedOut(disks, [segment(1, [1, 2, 3]), segment(2, [1, 3, 4])]);
  for (const { replicas } of segments) {
    const zones = replicas.map((one) => disks.find((d) => d.node === one.node)?.zone);
    t.equal(new Set(zones).size, 3, zones.join());
  }
});

t.test('whatever happens, a plan makes copies on distinct living nodes, and ends', async (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new SimRandom(`plan ${seed}`);
    const nodes = 3 + random.below(5);
    const disks = Array.from({ length: nodes }, (_, i) => {
      const state = random.pick(['good', 'good', 'good', 'away', 'leaving', 'gone'] as const);
      return disk(i + 1, state, { zone: `z${random.below(3)}` });
    });
    const all = Array.from({ length: nodes }, (_, i) => i + 1);
    const segments = Array.from({ length: 1 + random.below(12) }, (_, n) =>
      segment(n, random.shuffle([...all]).slice(0, 3), { bytes: random.below(64) * MIB }),
    );
    const { segments: after } = carriedOut(disks, segments);
    for (const [index, one] of after.entries()) {
      t.ok(new Set(one.replicas.map((r) => r.node)).size === 3, `seed ${seed}`);
      const counts = (list: readonly Replica[]): number =>
        list.filter((r) => stateIn(disks, r) !== 'gone').length;
      t.ok(counts(one.replicas) >= counts(segments[index]?.replicas ?? []), `seed ${seed}`);
    }
  }
});
