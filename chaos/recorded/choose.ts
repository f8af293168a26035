/**
 * What a worker does next: a valid operation for the tree as it is, in proportions that keep the
 * tree small while everything in it is made, changed, replaced and removed often.
 */
import type { Operation } from './operations.js';
import type { Chooser } from './random.js';
import { MAX_FILE_BYTES, type Tree } from './tree.js';

const MAX_FILES = 60;
const MAX_DIRECTORIES = 12;
const MAX_DEPTH = 4;
/** A write is one request of the kernel up to here, so it is there as a whole or not at all. */
const MAX_WRITE_BYTES = 200 * 1024;
const MODES = [0o644, 0o600, 0o755, 0o640, 0o444] as const;
const NAMES = 200;
/** How many operations in a hundred flush, in each phase: often, rarely, never. */
const FLUSH_PERCENT = [25, 3, 0] as const;

/**
 * How long a phase lasts. Phases go by the machine's clock, so all workers on it are in the same
 * one: a flush of one of them is a flush of all, and much is to be lost only without any.
 */
const PHASE_NS = 700_000_000;

/** The number of the phase at `now`, in nanoseconds as process.hrtime gives them. */
export function phaseAt(now: bigint): number {
  return Math.floor(Number(now) / PHASE_NS);
}

/** Milliseconds from `now` to the middle of the next phase that flushes often. */
export function untilFlushingMs(now: bigint): number {
  const cycle = FLUSH_PERCENT.length;
  const left = (cycle + 0.5 - ((Number(now) / PHASE_NS) % cycle)) % cycle;
  return (left * PHASE_NS) / 1e6;
}

/** The share of flushes in phase `number`, which may count on for ever. */
export function flushPercent(number: number): number {
  return FLUSH_PERCENT[number % FLUSH_PERCENT.length] as number;
}

type Maker = (tree: Tree, choose: Chooser) => Operation | null;

/** Maker by weight. */
const MAKERS: readonly (readonly [number, Maker])[] = [
  [10, create],
  [30, write],
  [12, append],
  [6, truncate],
  [2, mkdir],
  [1, rmdir],
  [8, rename],
  [4, replace],
  [3, link],
  [9, unlink],
  [2, symlink],
  [3, chmod],
];
/** These need another program for each call (Node has none), so they are rare. */
const SLOW_MAKERS: readonly (readonly [number, Maker])[] = [
  [3, setxattr],
  [1, removexattr],
  [1, punch],
];
const SLOW_PER_MILLE = 12;

/** The next operation, which flushes with the chance given. */
export function nextOperation(tree: Tree, choose: Chooser, flushes: number): Operation {
  if (choose.chance(flushes)) {
    const path = choose.of(paths(tree, 'file'));
    if (path !== undefined) return { op: choose.chance(50) ? 'fsync' : 'fdatasync', path };
  }
  for (;;) {
    const makers = choose.below(1000) < SLOW_PER_MILLE ? SLOW_MAKERS : MAKERS;
    const made = weighted(makers, choose)(tree, choose);
    if (made !== null) return made;
  }
}

function weighted(makers: readonly (readonly [number, Maker])[], choose: Chooser): Maker {
  let at = choose.below(makers.reduce((sum, [weight]) => sum + weight, 0));
  for (const [weight, maker] of makers) {
    if (at < weight) return maker;
    at -= weight;
  }
  throw new Error('weights add up');
}

function paths(tree: Tree, kind: 'file' | 'directory' | 'symlink'): string[] {
  return [...tree.nodes].filter(([, node]) => node.kind === kind).map(([path]) => path);
}

/** A path that is not there, in the root or a directory. */
function freshPath(tree: Tree, choose: Chooser): string {
  const parents = ['', ...paths(tree, 'directory')];
  for (;;) {
    const path = `${choose.of(parents)}/n${choose.below(NAMES)}`;
    if (!tree.nodes.has(path)) return path;
  }
}

function create(tree: Tree, choose: Chooser): Operation | null {
  if (paths(tree, 'file').length >= MAX_FILES) return null;
  return { op: 'create', path: freshPath(tree, choose), mode: choose.of(MODES) as number };
}

function mkdir(tree: Tree, choose: Chooser): Operation | null {
  const path = freshPath(tree, choose);
  if (path.split('/').length > MAX_DEPTH) return null;
  if (paths(tree, 'directory').length >= MAX_DIRECTORIES) return null;
  return { op: 'mkdir', path, mode: choose.chance(80) ? 0o755 : 0o700 };
}

function rmdir(tree: Tree, choose: Chooser): Operation | null {
  const empty = paths(tree, 'directory').filter((path) => tree.childrenOf(path).length === 0);
  const path = choose.of(empty);
  return path === undefined ? null : { op: 'rmdir', path };
}

function write(tree: Tree, choose: Chooser): Operation | null {
  const file = aFile(tree, choose);
  if (file === null) return null;
  const small = choose.chance(70);
  const length = choose.between(1, small ? 9_000 : MAX_WRITE_BYTES);
  // Inside, across the end, and sometimes behind a gap.
  const most = Math.min(file.size + (choose.chance(10) ? 20_000 : 0), MAX_FILE_BYTES - length);
  const offset = choose.chance(30) ? pageOf(choose, most) : choose.between(0, Math.max(0, most));
  return { op: 'write', path: file.path, offset, length, seed: choose.below(2 ** 31) };
}

function pageOf(choose: Chooser, most: number): number {
  return 4096 * choose.between(0, Math.floor(Math.max(0, most) / 4096));
}

function append(tree: Tree, choose: Chooser): Operation | null {
  const file = aFile(tree, choose);
  const length = choose.between(1, choose.chance(80) ? 600 : 30_000);
  if (file === null || file.size + length > MAX_FILE_BYTES) return null;
  const { path, size } = file;
  return { op: 'append', path, offset: size, length, seed: choose.below(2 ** 31) };
}

function aFile(tree: Tree, choose: Chooser): { path: string; size: number } | null {
  const path = choose.of(paths(tree, 'file'));
  const node = path === undefined ? undefined : tree.nodes.get(path);
  if (path === undefined || node?.kind !== 'file') return null;
  return { path, size: node.data.length };
}

function truncate(tree: Tree, choose: Chooser): Operation | null {
  const file = aFile(tree, choose);
  if (file === null) return null;
  const most = choose.chance(20) ? Math.min(file.size + 50_000, MAX_FILE_BYTES) : file.size;
  return { op: 'truncate', path: file.path, size: choose.chance(30) ? 0 : choose.below(most + 1) };
}

function punch(tree: Tree, choose: Chooser): Operation | null {
  const file = aFile(tree, choose);
  if (file === null || file.size === 0) return null;
  const offset = choose.below(file.size);
  return { op: 'punch', path: file.path, offset, length: choose.between(1, 40_000) };
}

function rename(tree: Tree, choose: Chooser): Operation | null {
  const path = choose.of([...tree.nodes.keys()]);
  const to = freshPath(tree, choose);
  if (path === undefined || to.startsWith(`${path}/`)) return null;
  const isDirectory = tree.nodes.get(path)?.kind === 'directory';
  return isDirectory && to.split('/').length > 2 ? null : { op: 'rename', path, to };
}

/** Rename over something: how programs replace a file. */
function replace(tree: Tree, choose: Chooser): Operation | null {
  const files = paths(tree, 'file');
  const [path, to] = [choose.of(files), choose.of(files)];
  if (path === undefined || to === undefined) return null;
  return { op: 'rename', path, to };
}

function link(tree: Tree, choose: Chooser): Operation | null {
  const files = paths(tree, 'file');
  const path = choose.of(files);
  if (path === undefined || files.length >= MAX_FILES) return null;
  return { op: 'link', path, to: freshPath(tree, choose) };
}

function unlink(tree: Tree, choose: Chooser): Operation | null {
  const path = choose.of([...paths(tree, 'file'), ...paths(tree, 'symlink')]);
  return path === undefined ? null : { op: 'unlink', path };
}

function symlink(tree: Tree, choose: Chooser): Operation | null {
  if (paths(tree, 'symlink').length >= MAX_DIRECTORIES) return null;
  return { op: 'symlink', path: freshPath(tree, choose), to: `to/${choose.below(1_000_000)}` };
}

function chmod(tree: Tree, choose: Chooser): Operation | null {
  const path = choose.of(paths(tree, 'file'));
  return path === undefined ? null : { op: 'chmod', path, mode: choose.of(MODES) as number };
}

function setxattr(tree: Tree, choose: Chooser): Operation | null {
  const path = choose.of([...paths(tree, 'file'), ...paths(tree, 'directory')]);
  if (path === undefined) return null;
  const value = `${choose.below(2 ** 31)}`.repeat(choose.between(1, 20));
  return { op: 'setxattr', path, name: `user.a${choose.below(4)}`, value };
}

function removexattr(tree: Tree, choose: Chooser): Operation | null {
  const having = [...tree.nodes].filter(([, node]) => node.xattrs.size > 0);
  const [path, node] = choose.of(having) ?? [];
  const name = choose.of([...(node?.xattrs.keys() ?? [])]);
  return path === undefined || name === undefined ? null : { op: 'removexattr', path, name };
}
