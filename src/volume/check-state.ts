/**
 * Verifies that the structures of a volume's state agree: trees with their order, entries with
 * inodes, link counts with entries, the directories with one tree under the root, counters with
 * what they count. Extents, masks and attributes are check-data.ts. Changes nothing. Each function
 * is a generator that yields after a bounded piece of work, so that a large volume's check stops
 * nobody.
 */
import type { Findings } from './check-findings.js';
import { nameHash, SEQUENCE_BITS } from './directory.js';
import { Field, INODE_WORDS, ROOT_SLOT } from './inode-table.js';
import { FILE_MAX_BYTES, GENERATION_MAX, NAME_MAX } from './limits.js';
import { isDirectory, isRegular, isSymlink, S_IFMT } from './mode.js';
import type { VolumeState } from './state.js';
import type { Leaf, Tree } from './tree.js';

/** Inodes or entries between two yields. */
export const CHECK_PIECE = 2_048;
/** S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, S_IFSOCK. */
const TYPES = new Set([0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000]);
const CHILD_BYTES = 4;
const TREES = ['entries', 'extents', 'masks', 'attributes'] as const;

/** Visits the leaves of a tree; yields after each few. */
export function* leavesOf(tree: Tree): Generator<Leaf | null> {
  let seen = 0;
  for (let leaf: Leaf | null = tree.first; leaf !== null; leaf = leaf.next) {
    yield leaf;
    seen += 1;
    if (seen % 16 === 0) yield null;
  }
}

export function* checkTrees(state: VolumeState, findings: Findings): Generator<void> {
  for (const [index, tree] of state.trees.entries()) {
    const name = TREES[index] as string;
    let items = 0;
    let [high, low] = [0, -1];
    let former: Leaf | null = null;
    for (const leaf of leavesOf(tree)) {
      if (leaf === null) {
        yield;
        continue;
      }
      if (leaf.previous !== former) findings.add('tree', `${name}: leaves are chained wrongly`);
      former = leaf;
      for (let i = 0; i < leaf.count; i++) {
        const isBehind = leaf.high(i) > high || (leaf.high(i) === high && leaf.low(i) > low);
        if (!isBehind) findings.add('tree', `${name}: keys out of order at ${high} ${low}`);
        [high, low] = [leaf.high(i), leaf.low(i)];
        if (leaf.blob(i) === 0) findings.add('tree', `${name}: nothing at ${high} ${low}`);
        else if (tree.get(high, low) !== leaf.blob(i)) {
          findings.add('tree', `${name}: key ${high} ${low} is not found from the root`);
        }
      }
      items += leaf.count;
    }
    if (items !== tree.size) findings.add('tree', `${name}: ${items} items, counted ${tree.size}`);
  }
}

/** What the entries say about each inode, by slot. */
class Names {
  readonly names: Uint32Array;
  readonly subdirectories: Uint32Array;
  /** The directory of the last entry found. */
  readonly parents: Uint32Array;

  constructor(slots: number) {
    this.names = new Uint32Array(slots);
    this.subdirectories = new Uint32Array(slots);
    this.parents = new Uint32Array(slots);
  }
}

/** Everything about inodes, names and links. */
export function* checkNamespace(state: VolumeState, findings: Findings): Generator<void> {
  const names = new Names(state.inodes.slots);
  yield* checkInodes(state, findings);
  yield* checkEntries(state, names, findings);
  yield* checkLinks(state, names, findings);
  yield* checkReachable(state, names, findings);
}

function* checkInodes(state: VolumeState, findings: Findings): Generator<void> {
  const { inodes } = state;
  let [count, pages, attributeBytes] = [0, 0, 0];
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % CHECK_PIECE === 0) yield;
    const mode = inodes.get(slot, Field.mode);
    const generation = inodes.get(slot, Field.generation);
    if (mode === 0) {
      if (!isFreeSlot(state, slot)) findings.add('inode', `free slot ${slot} is not empty`);
      continue;
    }
    count += 1;
    pages += inodes.get(slot, Field.pages);
    attributeBytes += inodes.get(slot, Field.attributeBytes);
    const inode = inodes.inodeOf(slot);
    if (!TYPES.has(mode & S_IFMT)) findings.add('inode', `mode ${mode.toString(8)}`, inode);
    if (generation > GENERATION_MAX) findings.add('inode', `generation ${generation}`, inode);
    if (inodes.size(slot) > FILE_MAX_BYTES) findings.add('inode', 'larger than files get', inode);
    if (!isRegular(mode) && inodes.get(slot, Field.pages) > 0) {
      findings.add('inode', 'takes pages and is no regular file', inode);
    }
  }
  if (!state.isEmpty && !isDirectory(inodes.get(ROOT_SLOT, Field.mode))) {
    findings.add('inode', 'the root is no directory', ROOT_SLOT);
  }
  const counters: readonly (readonly [string, number, number])[] = [
    ['inodes', count, inodes.count],
    ['pages', pages, state.usedPages],
    ['bytes of attributes', attributeBytes, state.attributeBytes],
  ];
  for (const [what, found, counted] of counters) {
    if (found !== counted) findings.add('space', `${found} ${what}, counted ${counted}`);
  }
}

function isFreeSlot({ inodes }: VolumeState, slot: number): boolean {
  const isRetired = inodes.get(slot, Field.generation) > GENERATION_MAX;
  for (let at = 0; at < INODE_WORDS; at++) {
    const field = at as Field;
    const expected = field === Field.nlink && isRetired ? 1 : 0;
    if (field !== Field.generation && inodes.get(slot, field) !== expected) return false;
  }
  return true;
}

function* checkEntries(state: VolumeState, names: Names, findings: Findings): Generator<void> {
  const { inodes, directory, arena } = state;
  /** Names of one directory whose hashes are equal. */
  let alike: string[] = [];
  let group = '';
  for (const leaf of leavesOf(directory.tree)) {
    if (leaf === null) {
      yield;
      continue;
    }
    for (let i = 0; i < leaf.count; i++) {
      const [parent, key] = [leaf.high(i), leaf.low(i)];
      const bytes = arena.view(leaf.blob(i));
      const child = bytes.readUInt32LE(0);
      const name = bytes.subarray(CHILD_BYTES);
      const at = `entry ${JSON.stringify(name.toString('utf8'))} of slot ${parent}`;
      if (!inUse(state, parent) || !isDirectory(inodes.get(parent, Field.mode))) {
        findings.add('entry', `${at}: no such directory`);
        continue;
      }
      if (!isName(name)) findings.add('entry', `${at}: not a name`);
      if (key >>> SEQUENCE_BITS !== nameHash(name)) findings.add('entry', `${at}: wrong hash`);
      const sameAs = `${parent} ${key >>> SEQUENCE_BITS}`;
      if (sameAs !== group) alike = [];
      group = sameAs;
      const text = name.toString('latin1');
      if (alike.includes(text)) findings.add('entry', `${at}: exists twice`);
      alike.push(text);
      if (!inUse(state, child)) {
        findings.add('entry', `${at}: points to slot ${child}, which is free`);
        continue;
      }
      names.names[child] = (names.names[child] as number) + 1;
      names.parents[child] = parent;
      if (isDirectory(inodes.get(child, Field.mode))) {
        names.subdirectories[parent] = (names.subdirectories[parent] as number) + 1;
      }
    }
  }
}

/** Whether a slot has an inode. */
export function inUse({ inodes }: VolumeState, slot: number): boolean {
  return slot >= ROOT_SLOT && slot < inodes.slots && inodes.get(slot, Field.mode) !== 0;
}

function isName(name: Buffer): boolean {
  if (name.length === 0 || name.length > NAME_MAX) return false;
  if (name.includes(0x2f) || name.includes(0)) return false;
  const text = name.toString('latin1');
  return text !== '.' && text !== '..';
}

function* checkLinks(state: VolumeState, names: Names, findings: Findings): Generator<void> {
  const { inodes, orphans } = state;
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % CHECK_PIECE === 0) yield;
    if (!inUse(state, slot)) {
      if (orphans.has(slot)) findings.add('orphan', `slot ${slot} is free`);
      continue;
    }
    const inode = inodes.inodeOf(slot);
    const nlink = inodes.get(slot, Field.nlink);
    const found = names.names[slot] as number;
    if (orphans.has(slot) !== (nlink === 0)) {
      const what = nlink === 0 ? 'without a name, and no orphan' : 'an orphan with links';
      findings.add('orphan', what, inode);
    }
    if (isDirectory(inodes.get(slot, Field.mode))) {
      checkDirectory(state, names, slot, findings);
    } else if (nlink !== found) {
      findings.add('links', `${found} names, link count ${nlink}`, inode);
    }
    if (isSymlink(inodes.get(slot, Field.mode)) && inodes.size(slot) === 0) {
      findings.add('inode', 'a symbolic link to nothing', inode);
    }
  }
}

function checkDirectory(
  { inodes }: VolumeState,
  names: Names,
  slot: number,
  findings: Findings,
): void {
  const inode = inodes.inodeOf(slot);
  const nlink = inodes.get(slot, Field.nlink);
  const found = names.names[slot] as number;
  const isNamed = slot !== ROOT_SLOT && nlink > 0;
  const links = nlink === 0 ? 0 : 2 + (names.subdirectories[slot] as number);
  if (found !== (isNamed ? 1 : 0)) findings.add('links', `a directory with ${found} names`, inode);
  if (nlink !== links) findings.add('links', `link count ${nlink}, not ${links}`, inode);
  const parent = inodes.get(slot, Field.extra);
  const expected = slot === ROOT_SLOT ? ROOT_SLOT : (names.parents[slot] as number);
  if ((isNamed || slot === ROOT_SLOT) && found <= 1 && parent !== expected) {
    findings.add('entry', `".." is slot ${parent}, not ${expected}`, inode);
  }
}

/** Each directory's way up ends at the root. */
function* checkReachable(state: VolumeState, names: Names, findings: Findings): Generator<void> {
  const { inodes } = state;
  const [UNKNOWN, UNDER_WAY, FINE, LOST] = [0, 1, 2, 3];
  const known = new Uint8Array(inodes.slots);
  known[ROOT_SLOT] = FINE;
  const way: number[] = [];
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % CHECK_PIECE === 0) yield;
    if (!isDirectory(inodes.get(slot, Field.mode)) || inodes.get(slot, Field.nlink) === 0) continue;
    let at = slot;
    way.length = 0;
    while (known[at] === UNKNOWN) {
      known[at] = UNDER_WAY;
      way.push(at);
      at = names.parents[at] as number;
    }
    const end = known[at] === FINE ? FINE : LOST;
    for (const one of way) known[one] = end;
    // Without a name it has been reported already.
    if (end === LOST && (names.names[slot] as number) > 0) {
      findings.add('links', 'cannot be reached from the root', inodes.inodeOf(slot));
    }
  }
}
