/**
 * Is a directory, as found after a crash, what some prefix of a recorded history made of it, and
 * does that prefix hold everything that was on stable storage? The volume promises one prefix of
 * everything that happened to it, so several workers' prefixes must fit together as well.
 *
 * Each history is replayed once. What differs from the directory found is kept as a set of paths;
 * an operation changes few paths, so the set is brought up to date with little work, and a prefix
 * fits where the set is empty.
 */
import { isFlush, type Recorded } from './operations.js';
import type { Tree } from './tree.js';

/** One worker's directory. */
export interface Evidence {
  readonly name: string;
  /** As it was when the history began. The check brings it to the prefix that it finds. */
  readonly tree: Tree;
  readonly history: readonly Recorded[];
  /** Path to description, as scan.ts prints it. */
  readonly found: ReadonlyMap<string, string>;
}

/**
 * Counts of operations from the start of the history. A half stands for the first request of an
 * operation that the kernel may have split (Tree.applyFirstRequest).
 */
export interface Cut {
  /** The least prefix that fits, and holds what it must. */
  readonly least: number;
  /** The largest one: operations between them change nothing that can be seen. */
  readonly most: number;
  /** What it must hold at least. */
  readonly required: number;
  readonly operations: number;
  /** How long before the end of the history the first lost operation was called, in ms. */
  readonly lostMs: number;
}

export interface Verdict {
  /** By worker, as far as found. */
  readonly cuts: ReadonlyMap<string, Cut>;
  /** What is wrong, as sentences for people; empty when nothing is. */
  readonly faults: readonly string[];
}

/** `synced`: when a flush of the whole volume began that has ended (`holdfast sync`), in ns. */
export function check(evidence: readonly Evidence[], synced = 0): Verdict {
  const flushes = evidence.flatMap(({ history }) => history.filter(isCompletedFlush));
  const lastFlush = flushes.reduce((latest, { began }) => Math.max(latest, began), synced);
  const cuts = new Map<string, Cut>();
  const faults: string[] = [];
  for (const one of evidence) {
    const result = checkOne(one, requiredPrefix(one.history, lastFlush));
    if (typeof result === 'string') faults.push(`${one.name}: ${result}`);
    else cuts.set(one.name, result);
  }
  if (faults.length === 0) faults.push(...disorder(evidence, cuts));
  return { cuts, faults };
}

function isCompletedFlush({ operation, outcome }: Recorded): boolean {
  return isFlush(operation) && outcome === 'done';
}

/** Operations up to here had ended when some completed flush began, or are such a flush. */
function requiredPrefix(history: readonly Recorded[], lastFlush: number): number {
  let required = 0;
  for (const [index, recorded] of history.entries()) {
    const covered = recorded.ended !== null && recorded.ended <= lastFlush;
    if (covered || isCompletedFlush(recorded)) required = index + 1;
  }
  return required;
}

/** The paths that differ between a tree and the one found, kept up to date. */
class Difference {
  readonly paths = new Set<string>();
  readonly #tree: Tree;
  readonly #found: ReadonlyMap<string, string>;

  constructor(tree: Tree, found: ReadonlyMap<string, string>) {
    this.#tree = tree;
    this.#found = found;
    this.look([...tree.nodes.keys(), ...found.keys()]);
  }

  look(changed: readonly string[]): void {
    for (const path of changed) {
      if (this.#tree.describe(path) === this.#found.get(path)) this.paths.delete(path);
      else this.paths.add(path);
    }
  }

  /** A few of them, in words. */
  words(): string {
    const shown = [...this.paths].sort().slice(0, 3);
    const lines = shown.map((path) => {
      const expected = this.#tree.describe(path) ?? 'nothing';
      return `${path} is ${this.#found.get(path) ?? 'missing'}, expected ${expected}`;
    });
    const more = this.paths.size - shown.length;
    return lines.join('; ') + (more > 0 ? `; and ${more} more paths` : '');
  }
}

interface Nearest {
  readonly index: number;
  readonly paths: number;
  readonly words: string;
}

function checkOne(evidence: Evidence, required: number): Cut | string {
  const { history, found } = evidence;
  const tree = evidence.tree.clone();
  const difference = new Difference(tree, found);
  const matches: number[] = difference.paths.size === 0 ? [0] : [];
  let nearest: Nearest | null = null;
  const noteNearest = (index: number): void => {
    const paths = difference.paths.size;
    if (index < required || (nearest !== null && nearest.paths <= paths)) return;
    nearest = { index, paths, words: difference.words() };
  };
  noteNearest(0);
  const look = (index: number, changed: readonly string[]): void => {
    difference.look(changed);
    if (difference.paths.size === 0) matches.push(index);
    else noteNearest(index);
  };
  for (const [index, recorded] of history.entries()) {
    const { operation, outcome } = recorded;
    const first = outcome === 'refused' ? null : tree.applyFirstRequest(operation);
    if (first !== null) look(index + 0.5, first);
    look(index + 1, outcome === 'refused' ? [] : tree.apply(operation));
  }
  const fitting = matches.filter((index) => index >= required);
  const [least, most] = [fitting[0], fitting[fitting.length - 1]];
  if (least === undefined || most === undefined) return misfit(history, required, matches, nearest);
  bringTo(evidence.tree, history, most);
  return { least, most, required, operations: history.length, lostMs: lostMs(history, most) };
}

/** Does to the tree what the first `count` operations did. */
function bringTo(tree: Tree, history: readonly Recorded[], count: number): void {
  for (const [index, { operation, outcome }] of history.slice(0, Math.ceil(count)).entries()) {
    if (outcome === 'refused') continue;
    if (index + 0.5 === count) tree.applyFirstRequest(operation);
    else tree.apply(operation);
  }
}

function misfit(
  history: readonly Recorded[],
  required: number,
  matches: readonly number[],
  nearest: Nearest | null,
): string {
  const last = matches[matches.length - 1];
  if (last !== undefined) {
    const lost = JSON.stringify(history[Math.floor(last)]?.operation);
    return (
      `the directory is as after ${last} operations, but ${required} were on stable storage: ` +
      `lost from ${lost} on`
    );
  }
  const near = nearest as Nearest | null;
  const where = near === null ? 'none' : `${near.index} (of ${history.length}): ${near.words}`;
  return `no prefix of at least ${required} operations fits; the nearest is ${where}`;
}

function lostMs(history: readonly Recorded[], cut: number): number {
  const first = history[Math.floor(cut)];
  const last = history[history.length - 1];
  if (first === undefined || last === undefined) return 0;
  return ((last.ended ?? last.began) - first.began) / 1e6;
}

/** Somebody's operation survived although another's, which had ended before it began, did not. */
function disorder(evidence: readonly Evidence[], cuts: ReadonlyMap<string, Cut>): string[] {
  const faults: string[] = [];
  for (const survivor of evidence) {
    const kept = survivor.history[Math.ceil((cuts.get(survivor.name) as Cut).least) - 1];
    if (kept === undefined) continue;
    for (const loser of evidence) {
      const lost = loser.history[Math.floor((cuts.get(loser.name) as Cut).most)];
      if (lost === undefined || lost.ended === null || lost.ended >= kept.began) continue;
      const [early, late] = [lost.operation, kept.operation].map((one) => JSON.stringify(one));
      faults.push(`${survivor.name} kept ${late}, but ${loser.name} lost ${early} of before it`);
    }
  }
  return faults;
}
