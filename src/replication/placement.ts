/**
 * Which disks hold which placement group. A group's replicas stand on distinct nodes always and in
 * as many zones as there are enough of; disks get their share by capacity; and when the cluster
 * changes, no more replicas move than must: those of disks that went, and a new disk's share.
 *
 * Pure and deterministic: the same disks and the same former table give the same table everywhere.
 */
import { assert } from '../core/assert.js';
import { crc32 } from '../core/checksum.js';
import type { Incarnation } from '../core/ids.js';
import { PLACEMENT_GROUPS } from '../core/limits.js';
import type { Replica } from '../metadata/model.js';
import { type PlacementDisk, placementTargets, type Targets } from './placement-targets.js';

export type Groups = readonly (readonly Replica[])[];

/** Moves of one rebalancing: far above what any change needs, against a loop without end. */
const MAX_MOVES = PLACEMENT_GROUPS * 16;

/**
 * The table for `replicas` copies of each group on these disks, as close to `previous` as its rules
 * allow. Groups are shorter than `replicas` when there are too few nodes, and empty without any.
 */
export function placeGroups(
  disks: readonly PlacementDisk[],
  previous: Groups | null,
  replicas: number,
  groups = PLACEMENT_GROUPS,
): Replica[][] {
  assert(replicas >= 1, 'a group has a replica');
  assert(previous === null || previous.length === groups, 'the former table has as many groups');
  const sorted = [...disks].sort((a, b) => (a.incarnation < b.incarnation ? -1 : 1));
  if (sorted.length === 0) return Array.from({ length: groups }, () => []);
  const table = new Table(sorted, placementTargets(sorted, groups, replicas));
  for (let group = 0; group < groups; group++) table.keep(previous?.[group] ?? []);
  table.fill();
  table.balance();
  return table.result();
}

/**
 * A number that depends on both, evenly: decides between disks that are equally good for a group.
 */
function affinity(group: number, { bytes }: Slot): number {
  let h = crc32(bytes, group + 1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

interface Slot {
  readonly disk: PlacementDisk;
  /** Of the incarnation, as text. */
  readonly bytes: Buffer;
  readonly target: number;
  count: number;
}

interface Move {
  readonly group: number;
  readonly from: Slot;
  readonly to: Slot;
}

class Table {
  readonly #slots: readonly Slot[];
  readonly #bySlot: ReadonlyMap<Incarnation, Slot>;
  readonly #targets: Targets;
  readonly #groups: Slot[][] = [];

  constructor(disks: readonly PlacementDisk[], targets: Targets) {
    this.#targets = targets;
    this.#slots = disks.map((disk) => {
      const target = targets.disks.get(disk.incarnation) ?? 0;
      return { disk, bytes: Buffer.from(disk.incarnation), target, count: 0 };
    });
    this.#bySlot = new Map(this.#slots.map((slot) => [slot.disk.incarnation, slot]));
  }

  result(): Replica[][] {
    return this.#groups.map((group) =>
      group.map(({ disk }) => ({ node: disk.node, incarnation: disk.incarnation })),
    );
  }

  /** Adds the next group with those of its former replicas that still may be. */
  keep(former: readonly Replica[]): void {
    const group: Slot[] = [];
    this.#groups.push(group);
    for (const { incarnation } of former) {
      const slot = this.#bySlot.get(incarnation);
      if (slot === undefined || group.length === this.#targets.replicas) continue;
      if (!this.#fits(group, slot, null)) continue;
      group.push(slot);
      slot.count += 1;
    }
  }

  /** Completes all groups, the emptiest disks first. */
  fill(): void {
    for (const [index, group] of this.#groups.entries()) {
      while (group.length < this.#targets.replicas) {
        const slot = this.#emptiest(index, group);
        // What was kept obeys the same limits, and these leave room for every replica.
        assert(slot !== null, 'a replica finds a place');
        group.push(slot);
        slot.count += 1;
      }
    }
  }

  /** Moves replicas, one at a time, until no disk is a whole replica away from its share. */
  balance(): void {
    for (let moves = 0; moves < MAX_MOVES; moves++) {
      const way = this.#nextWay();
      if (way === null) return;
      for (const move of way) {
        const group = this.#groups[move.group] as Slot[];
        group[group.indexOf(move.from)] = move.to;
        move.from.count -= 1;
        move.to.count += 1;
      }
    }
  }

  #nextWay(): Move[] | null {
    const excess = (slot: Slot): number => slot.count - slot.target;
    const ordered = [...this.#slots].sort((a, b) => excess(b) - excess(a));
    const over = ordered.filter((slot) => slot.count > Math.ceil(slot.target - 1e-6));
    const under = ordered.filter((slot) => slot.count < Math.floor(slot.target + 1e-6)).reverse();
    for (const from of over) {
      const way = this.#way(from, (slot) => excess(slot) < -1e-6);
      if (way !== null) return way;
    }
    for (const to of under) {
      for (const from of ordered.filter((slot) => excess(slot) > 1e-6)) {
        const way = this.#way(from, (slot) => slot === to);
        if (way !== null) return way;
      }
    }
    return null;
  }

  /** The shortest chain of moves by which `from` loses a replica and a wanted disk gains one. */
  #way(from: Slot, wanted: (slot: Slot) => boolean): Move[] | null {
    const reached = new Map<Slot, Move | null>([[from, null]]);
    const queue = [from];
    for (let slot = queue.shift(); slot !== undefined; slot = queue.shift()) {
      const best = new Map<Slot, number>();
      for (const [index, group] of this.#groups.entries()) {
        if (group.includes(slot)) this.#reachable(index, group, slot, best);
      }
      const next = [...best].sort(([a], [b]) => a.count - a.target - (b.count - b.target));
      for (const [to, index] of next) {
        if (reached.has(to)) continue;
        reached.set(to, { group: index, from: slot, to });
        if (wanted(to)) return this.#chain(to, reached);
        queue.push(to);
      }
    }
    return null;
  }

  /** For each disk that may take `slot`'s place in this group: the group with the best affinity. */
  #reachable(index: number, group: readonly Slot[], slot: Slot, best: Map<Slot, number>): void {
    for (const to of this.#slots) {
      if (to === slot || !this.#fits(group, to, slot)) continue;
      const known = best.get(to);
      const better = known === undefined || affinity(index, to) > affinity(known, to);
      if (better) best.set(to, index);
    }
  }

  /** The moves that lead to `to`, last first, or null if two of them would be in one group. */
  #chain(to: Slot, reached: ReadonlyMap<Slot, Move | null>): Move[] | null {
    const moves: Move[] = [];
    const seen = new Set<number>();
    for (let move = reached.get(to) ?? null; move !== null; move = reached.get(move.from) ?? null) {
      if (seen.has(move.group)) return null;
      seen.add(move.group);
      moves.push(move);
    }
    return moves;
  }

  /** Whether `slot` may stand in the group, in the place of `instead`. */
  #fits(group: readonly Slot[], slot: Slot, instead: Slot | null): boolean {
    let inZone = 0;
    for (const other of group) {
      if (other === instead) continue;
      if (other.disk.node === slot.disk.node) return false;
      if (other.disk.zone === slot.disk.zone) inZone += 1;
    }
    return inZone < this.#targets.zoneLimit;
  }

  #emptiest(index: number, group: readonly Slot[]): Slot | null {
    let best: Slot | null = null;
    let bestNeed = 0;
    for (const slot of this.#slots) {
      if (!this.#fits(group, slot, null)) continue;
      const need = (slot.target - slot.count) / Math.max(slot.target, 1e-9);
      const nearer =
        best === null ||
        need > bestNeed + 1e-9 ||
        (need > bestNeed - 1e-9 && affinity(index, slot) > affinity(index, best));
      if (!nearer) continue;
      best = slot;
      bestNeed = need;
    }
    return best;
  }
}
