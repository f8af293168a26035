/**
 * Which sealed segments to move so that disks are filled evenly by capacity, and replicas stand in
 * as many zones as there are. Begins where a disk is more than 10 % away from even, ends at 5 %, so
 * that ordinary writing does not set it going again and again; each move brings two disks closer to
 * even, so that it ends, and no more bytes move than must.
 */
import type { Replica } from '../metadata/model.js';
import type { Disks, RepairDisk, RepairSegment, RepairView } from './repair-view.js';

const BEGIN_SPREAD = 0.1;
const END_SPREAD = 0.05;

export interface BalanceMove {
  readonly of: RepairSegment;
  readonly to: Replica;
  readonly instead: Replica;
}

export interface BalancePlan {
  readonly moves: readonly BalanceMove[];
  readonly balancing: boolean;
}

/** At most `view.maxSteps` moves. Nothing may be missing, away or leaving. */
export function planBalance(view: RepairView, disks: Disks): BalancePlan {
  const good = disks.all().filter(({ state }) => state === 'good');
  const moves: BalanceMove[] = [];
  const taken = new Set<RepairSegment>();
  const take = (move: BalanceMove | null): boolean => {
    if (move === null) return false;
    moves.push(move);
    taken.add(move.of);
    disks.add(move.instead.incarnation, -move.of.bytes);
    disks.add(move.to.incarnation, move.of.bytes);
    return true;
  };
  const free = view.segments.filter(({ segment }) => !view.busy.has(segment));
  for (const of of free) {
    if (moves.length < view.maxSteps) take(spreading(disks, good, of));
  }
  const isUneven = unevenness(disks, good) > (view.balancing ? END_SPREAD : BEGIN_SPREAD);
  let levelled = false;
  while (isUneven && moves.length < view.maxSteps) {
    if (!take(levelling(disks, good, free, taken))) break;
    levelled = true;
  }
  return { moves, balancing: levelled || (isUneven && view.busy.size > 0) };
}

function mean(disks: Disks, good: readonly RepairDisk[]): number {
  const used = good.reduce((sum, disk) => sum + disks.used(disk.incarnation), 0);
  const capacity = good.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  return used / Math.max(1, capacity);
}

/** How far the farthest disk is away from even, as a part of what it should have. */
function unevenness(disks: Disks, good: readonly RepairDisk[]): number {
  const even = mean(disks, good);
  if (even === 0) return 0;
  return Math.max(...good.map((disk) => Math.abs(disks.level(disk) - even) / even));
}

/** Moves one of two replicas in one zone to a zone that has none. */
function spreading(
  disks: Disks,
  good: readonly RepairDisk[],
  of: RepairSegment,
): BalanceMove | null {
  const crowding = disks.crowding(of.replicas);
  if (crowding === 0) return null;
  for (const instead of of.replicas) {
    const others = of.replicas.filter((one) => one !== instead);
    if (disks.crowding(others) === crowding) continue; // it is not one of those that crowd
    for (const to of byLevel(disks, good)) {
      if (!mayTake(disks, of, others, to)) continue;
      if (disks.crowding([...others, to]) < crowding) return moveOf(of, to, instead);
    }
  }
  return null;
}

function levelling(
  disks: Disks,
  good: readonly RepairDisk[],
  segments: readonly RepairSegment[],
  taken: ReadonlySet<RepairSegment>,
): BalanceMove | null {
  const even = mean(disks, good);
  const ordered = byLevel(disks, good);
  const surplus = (disk: RepairDisk): number =>
    disks.used(disk.incarnation) - even * disk.capacityBytes;
  for (const from of [...ordered].reverse()) {
    if (surplus(from) <= 0) break;
    const here = segments
      .filter((one) => one.bytes > 0 && !taken.has(one))
      .filter((one) => one.replicas.some((r) => r.incarnation === from.incarnation))
      .sort((a, b) => b.bytes - a.bytes || (a.segment < b.segment ? -1 : 1));
    for (const to of ordered) {
      if (surplus(to) >= 0) break;
      const of = here.find((one) => {
        // Each of them must come closer to even, or this would go on for ever.
        if (one.bytes >= 2 * surplus(from) || one.bytes >= -2 * surplus(to)) return false;
        const others = one.replicas.filter((r) => r.incarnation !== from.incarnation);
        return (
          mayTake(disks, one, others, to) &&
          disks.crowding([...others, to]) <= disks.crowding(one.replicas)
        );
      });
      if (of !== undefined) return moveOf(of, to, from);
    }
  }
  return null;
}

function mayTake(
  disks: Disks,
  of: RepairSegment,
  others: readonly Replica[],
  to: RepairDisk,
): boolean {
  if (of.replicas.some(({ incarnation }) => incarnation === to.incarnation)) return false;
  return !others.some(({ node }) => node === to.node) && disks.hasRoom(to, of.bytes);
}

function byLevel(disks: Disks, good: readonly RepairDisk[]): RepairDisk[] {
  return [...good].sort(
    (a, b) => disks.level(a) - disks.level(b) || (a.incarnation < b.incarnation ? -1 : 1),
  );
}

function moveOf(of: RepairSegment, to: Replica, instead: Replica): BalanceMove {
  const plain = ({ node, incarnation }: Replica): Replica => ({ node, incarnation });
  return { of, to: plain(to), instead: plain(instead) };
}
