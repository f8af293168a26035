/**
 * What repair, drain and rebalancing do next, without I/O: which copies are made where, in which
 * order, and which replica each of them takes the place of. Pure and deterministic: driven by
 * repair.ts, which reads what there is and carries the steps out.
 *
 * INVARIANT: a step only ever adds a copy. What it takes the place of is dropped when the new copy
 * is complete, one for one, and chosen then (`ending`): a replica that counts is never given up
 * while one that does not is kept, so nothing that this plans lowers the number of good copies.
 */
import type { NodeId } from '../core/ids.js';
import type { Replica } from '../metadata/model.js';
import { names } from '../metadata/replica-moves.js';
import { planBalance } from './balance-plan.js';
import {
  type DiskState,
  Disks,
  isReadable,
  type RepairDisk,
  type RepairSegment,
  type RepairView,
} from './repair-view.js';

export type RepairStep =
  /** A listed replica lacks something. */
  | { readonly type: 'complete'; readonly of: RepairSegment; readonly to: Replica }
  /** A new copy; also one that was begun before, or that is there and not listed. */
  | {
      readonly type: 'fill';
      readonly of: RepairSegment;
      readonly to: Replica;
      readonly instead: Replica | null;
      readonly why: Why;
    }
  /** What was begun cannot be ended there. */
  | { readonly type: 'abandon'; readonly of: RepairSegment };

export type Why = 'repair' | 'drain' | 'balance';

export interface RepairSummary {
  /** Segments with fewer copies that count than their volume wants. */
  readonly degraded: number;
  /** Of these, with a single one that can be read now. */
  readonly endangered: number;
  /** No copy can be read now. */
  readonly unreadable: number;
  /** Copies that are to be made, and their bytes. */
  readonly copies: number;
  readonly bytes: number;
  /** Copies on disks that are drained. */
  readonly leaving: number;
}

export interface RepairPlan {
  readonly steps: readonly RepairStep[];
  readonly summary: RepairSummary;
  readonly balancing: boolean;
}

/** The best disk for another copy beside `others`, or null: distinct node, fewest in a zone. */
export function targetFor(
  disks: Disks,
  segment: RepairSegment,
  others: readonly Replica[],
  allowed: (disk: RepairDisk) => boolean,
): RepairDisk | null {
  const had = new Set(segment.leaving.map(({ incarnation }) => incarnation));
  let best: RepairDisk | null = null;
  let bestScore: readonly number[] = [];
  for (const disk of disks.all()) {
    if (disk.state !== 'good' || !allowed(disk)) continue;
    if (segment.replicas.some(({ incarnation }) => incarnation === disk.incarnation)) continue;
    if (others.some(({ node }) => node === disk.node)) continue;
    if (!disks.hasRoom(disk, segment.bytes)) continue;
    // One that had a copy may have it still: then nothing needs to be fetched.
    const score = [
      disks.crowding([...others, disk]),
      had.has(disk.incarnation) ? 0 : 1,
      disks.level(disk, segment.bytes),
    ];
    if (best === null || isLess(score, bestScore) || isTie(score, bestScore, disk, best)) {
      best = disk;
      bestScore = score;
    }
  }
  return best;
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  for (const [index, value] of a.entries()) {
    const other = b[index] ?? 0;
    if (value !== other) return value < other;
  }
  return false;
}

function isTie(a: readonly number[], b: readonly number[], x: Replica, y: Replica): boolean {
  return a.every((value, index) => value === b[index]) && x.incarnation < y.incarnation;
}

/** What becomes of a copy when it is complete. */
export type Ending =
  /** It joins the list; `drop`, if any, leaves it. */
  | { readonly type: 'finish'; readonly drop: Replica | null }
  /** It is not needed any more. */
  | { readonly type: 'abandon' };

/**
 * What a new copy on `to` takes the place of. What does not count goes first, then what is drained;
 * `instead` is for rebalancing. Of one node there can only be one, so another disk of `to`'s node
 * goes if any does.
 */
export function ending(
  segment: Pick<RepairSegment, 'replicas' | 'wanted' | 'incomplete'>,
  stateOf: (replica: Replica) => DiskState,
  to: Replica,
  instead: Replica | null,
): Ending {
  const rank = (one: Replica): number => {
    const state = stateOf(one);
    if (state === 'gone') return 5;
    if (state === 'leaving') return segment.incomplete.has(one.incarnation) ? 4 : 3;
    if (segment.incomplete.has(one.incarnation)) return 2;
    return one.incarnation === instead?.incarnation ? 1 : 0;
  };
  const twin = segment.replicas.find((one) => one.node === to.node);
  let drop: Replica | null = null;
  for (const one of twin === undefined ? segment.replicas : [twin]) {
    if (rank(one) > (drop === null ? 0 : rank(drop))) drop = one;
  }
  if (twin === undefined && segment.replicas.length < segment.wanted) {
    return { type: 'finish', drop: null };
  }
  return drop === null ? { type: 'abandon' } : { type: 'finish', drop };
}

interface Need {
  readonly of: RepairSegment;
  /** Copies that can be read now: the fewer, the sooner. */
  readonly readable: number;
  /** Of these, those that are known to be whole. */
  readonly whole: number;
  readonly why: Why;
  /** What is wanted: the list's other replicas, without the one that is to go. */
  readonly others: readonly Replica[];
}

/** The next steps, most endangered segments first. */
export function planRepair(view: RepairView): RepairPlan {
  const disks = new Disks(view);
  const turn = new Turn(view);
  const needs: Need[] = [];
  const sum = { degraded: 0, endangered: 0, unreadable: 0, copies: 0, bytes: 0, leaving: 0 };
  const unsettled: RepairSegment[] = [];
  for (const of of view.segments) {
    const found = look(disks, of);
    if (found.counting < of.wanted) sum.degraded += 1;
    if (found.counting < of.wanted && found.readable === 1) sum.endangered += 1;
    if (found.readable === 0) sum.unreadable += 1;
    sum.leaving += found.leaving;
    const missing = Math.max(0, of.wanted - found.lasting) + found.toComplete.length;
    sum.copies += missing;
    sum.bytes += missing * of.bytes;
    if (missing > 0 || of.filling !== null) unsettled.push(of);
    if (view.busy.has(of.segment)) continue;
    if (of.filling !== null || missing > 0) {
      const why = found.counting < of.wanted || found.leaving === 0 ? 'repair' : 'drain';
      const { readable, whole, others } = found;
      needs.push({ of, readable, whole, why, others });
    }
  }
  needs.sort((a, b) => a.readable - b.readable || (a.of.segment < b.of.segment ? -1 : 1));
  for (const need of needs) turn.take(disks, need);
  const isQuiet =
    view.balance &&
    unsettled.length === 0 &&
    view.disks.every(({ state }) => state === 'good' || state === 'gone');
  const balance = isQuiet ? planBalance(view, disks) : { moves: [], balancing: view.balancing };
  for (const move of balance.moves) turn.add({ type: 'fill', ...move, why: 'balance' });
  return { steps: turn.steps, summary: sum, balancing: balance.balancing };
}

interface Look {
  /** Copies that count for redundancy. */
  readonly counting: number;
  /** Of them, those that are meant to stay. */
  readonly lasting: number;
  readonly leaving: number;
  /** Copies that can be read now, and those of them that are known to be whole. */
  readonly readable: number;
  readonly whole: number;
  readonly toComplete: readonly Replica[];
  readonly others: readonly Replica[];
}

function look(disks: Disks, of: RepairSegment): Look {
  let counting = 0;
  let lasting = 0;
  let leaving = 0;
  let readable = 0;
  let whole = 0;
  const toComplete: Replica[] = [];
  const others: Replica[] = [];
  for (const replica of of.replicas) {
    const state = disks.state(replica);
    const isWhole = !of.incomplete.has(replica.incarnation);
    if (isWhole && state !== 'gone') counting += 1;
    if (isReadable(of, replica, state)) {
      readable += 1;
      if (isWhole) whole += 1;
    }
    if (state === 'leaving') leaving += 1;
    if (state === 'good' && !isWhole) toComplete.push(replica);
    if (state !== 'good' && state !== 'away') continue;
    others.push(replica);
    // An incomplete one is completed where it stands, and is no reason for another copy.
    lasting += 1;
  }
  return { counting, lasting, leaving, readable, whole, toComplete, others };
}

/** Whole copies that nothing counts on, and that may take the place of one that cannot be read. */
function useful(disks: Disks, of: RepairSegment): readonly Replica[] {
  return of.unlisted.filter((one) => {
    const end = ending(of, (replica) => disks.state(replica), one, null);
    return disks.state(one) === 'good' && end.type === 'finish';
  });
}

/** One turn's steps, within its bounds. */
class Turn {
  readonly #view: RepairView;
  readonly #load: Map<NodeId, number>;
  readonly steps: RepairStep[] = [];

  constructor(view: RepairView) {
    this.#view = view;
    this.#load = new Map(view.load);
  }

  take(disks: Disks, { of, readable, whole, why, others }: Need): void {
    const { filling, instead } = of;
    // What was never sealed may turn out not to be whole: it does not make these superfluous.
    const unlisted = whole > 0 ? [] : useful(disks, of);
    if (filling !== null) {
      const isVain = unlisted.length > 0 && !names(unlisted, filling.incarnation);
      // Whoever came back, or was not to leave after all, counts again.
      const { type } = ending(of, (one) => disks.state(one), filling, instead);
      if (type === 'abandon' || disks.state(filling) !== 'good' || isVain) {
        this.steps.push({ type: 'abandon', of });
        return;
      }
    }
    const [found] = unlisted;
    if (readable === 0 && found === undefined) return;
    if (filling !== null) {
      this.add({ type: 'fill', of, to: filling, instead, why: instead === null ? why : 'balance' });
      return;
    }
    if (found !== undefined) {
      this.add({ type: 'fill', of, to: found, instead: null, why });
      return;
    }
    const lacks = (state: DiskState) => (one: Replica) =>
      disks.state(one) === state && of.incomplete.has(one.incarnation);
    const incomplete = of.replicas.find(lacks('good'));
    if (incomplete !== undefined) {
      this.add({ type: 'complete', of, to: incomplete });
      return;
    }
    const to = targetFor(disks, of, others, ({ node }) => this.#isFree(node));
    if (to === null) {
      // Where there is no other place, what is on a drained disk counts while it is there.
      const drained = of.replicas.find(lacks('leaving'));
      const isNowhere = drained !== undefined && targetFor(disks, of, others, () => true) === null;
      if (isNowhere) this.add({ type: 'complete', of, to: drained });
      return;
    }
    const { node, incarnation } = to;
    const step = { type: 'fill', of, to: { node, incarnation }, instead: null, why } as const;
    if (this.add(step)) {
      disks.add(incarnation, of.bytes);
    }
  }

  #isFree(node: NodeId): boolean {
    return (this.#load.get(node) ?? 0) < this.#view.maxPerNode;
  }

  /** False when this turn, or the node, has enough to do. */
  add(step: Exclude<RepairStep, { type: 'abandon' }>): boolean {
    const { node } = step.to;
    const copies = this.steps.filter(({ type }) => type !== 'abandon').length;
    if (copies >= this.#view.maxSteps || !this.#isFree(node)) return false;
    this.#load.set(node, (this.#load.get(node) ?? 0) + 1);
    this.steps.push(step);
    return true;
  }
}
