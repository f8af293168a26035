/**
 * A B+ tree from (u32, u32) to a blob of the arena: directory entries by (directory, name hash),
 * extents by (inode, MiB), zero masks, attributes. Leaves are flat typed arrays of 12 bytes an
 * item; inner nodes are few. A leaf is also what a checkpoint writes: it knows whether it changed
 * since its image was taken and where that image stands (checkpoint-writer.ts).
 *
 * INVARIANT: `touch(leaf)` comes before any change of the leaf or of a blob it points to, so that a
 * checkpoint under way can take the image first.
 */
import { assert } from '../core/assert.js';
import { Bucket, type CaptureHook } from './bucket.js';

export const LEAF_ITEMS = 128;
const INNER_ITEMS = 128;
const ITEM = 3;

export class Leaf extends Bucket {
  /** (high key, low key, blob) for each item, in key order. */
  readonly items = new Uint32Array(LEAF_ITEMS * ITEM);
  count = 0;
  next: Leaf | null = null;
  previous: Leaf | null = null;
  /** False once it has left the tree. */
  linked = true;

  high(index: number): number {
    return this.items[index * ITEM] as number;
  }

  low(index: number): number {
    return this.items[index * ITEM + 1] as number;
  }

  blob(index: number): number {
    return this.items[index * ITEM + 2] as number;
  }

  /** The first item at or after the key. */
  search(high: number, low: number): number {
    const items = this.items;
    let from = 0;
    let to = this.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const at = middle * ITEM;
      const first = items[at] as number;
      if (first < high || (first === high && (items[at + 1] as number) < low)) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

class Inner {
  /** The least key of each child; that of the first is never looked at. */
  readonly keys = new Uint32Array(INNER_ITEMS * 2);
  readonly children: (Leaf | Inner)[] = [];

  /** The child that the key belongs to. */
  search(high: number, low: number): number {
    const keys = this.keys;
    let from = 1;
    let to = this.children.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const first = keys[middle * 2] as number;
      const isBehind = first < high || (first === high && (keys[middle * 2 + 1] as number) <= low);
      if (isBehind) from = middle + 1;
      else to = middle;
    }
    return from - 1;
  }

  insert(index: number, high: number, low: number, child: Leaf | Inner): void {
    this.keys.copyWithin((index + 1) * 2, index * 2, this.children.length * 2);
    this.keys[index * 2] = high;
    this.keys[index * 2 + 1] = low;
    this.children.splice(index, 0, child);
  }

  remove(index: number): void {
    this.keys.copyWithin(index * 2, (index + 1) * 2, this.children.length * 2);
    this.children.splice(index, 1);
  }
}

/** A position; any change of the tree makes it invalid. */
export class Cursor {
  leaf: Leaf;
  index: number;

  constructor(leaf: Leaf, index: number) {
    this.leaf = leaf;
    this.index = index;
    this.#settle();
  }

  #settle(): void {
    while (this.index >= this.leaf.count && this.leaf.next !== null) {
      this.leaf = this.leaf.next;
      this.index = 0;
    }
  }

  get valid(): boolean {
    return this.index < this.leaf.count;
  }

  get high(): number {
    return this.leaf.high(this.index);
  }

  get low(): number {
    return this.leaf.low(this.index);
  }

  get blob(): number {
    return this.leaf.blob(this.index);
  }

  advance(): void {
    this.index += 1;
    this.#settle();
  }
}

export class Tree {
  /** Takes the image of a captured leaf before it changes. */
  onCapture: CaptureHook<Leaf> = () => {};
  #root: Leaf | Inner;
  #first: Leaf;
  #size = 0;
  #leaves = 1;
  #path: Inner[] = [];
  #indexes: number[] = [];

  constructor() {
    this.#first = new Leaf();
    this.#root = this.#first;
  }

  get size(): number {
    return this.#size;
  }

  get leaves(): number {
    return this.#leaves;
  }

  /** The leaves in key order. */
  get first(): Leaf {
    return this.#first;
  }

  touch(leaf: Leaf): void {
    if (leaf.captured) {
      leaf.captured = false;
      this.onCapture(leaf);
    }
    leaf.dirty = true;
  }

  #find(high: number, low: number): Leaf {
    let node = this.#root;
    while (node instanceof Inner) node = node.children[node.search(high, low)] as Leaf | Inner;
    return node;
  }

  /** As #find, keeping the way for changes of the inner nodes. */
  #descend(high: number, low: number): Leaf {
    this.#path = [];
    this.#indexes = [];
    let node = this.#root;
    while (node instanceof Inner) {
      const index = node.search(high, low);
      this.#path.push(node);
      this.#indexes.push(index);
      node = node.children[index] as Leaf | Inner;
    }
    return node;
  }

  /** The first item at or after the key. */
  seek(high: number, low: number): Cursor {
    const leaf = this.#find(high, low);
    return new Cursor(leaf, leaf.search(high, low));
  }

  /** The blob of a key, or 0. */
  get(high: number, low: number): number {
    const leaf = this.#find(high, low);
    const index = leaf.search(high, low);
    if (index >= leaf.count || leaf.high(index) !== high || leaf.low(index) !== low) return 0;
    return leaf.blob(index);
  }

  /** The same, after touching the leaf where the key is or would be: to change the blob itself. */
  prepare(high: number, low: number): number {
    const leaf = this.#find(high, low);
    this.touch(leaf);
    const index = leaf.search(high, low);
    if (index >= leaf.count || leaf.high(index) !== high || leaf.low(index) !== low) return 0;
    return leaf.blob(index);
  }

  /** Inserts or replaces. */
  set(high: number, low: number, blob: number): void {
    let leaf = this.#descend(high, low);
    let index = leaf.search(high, low);
    this.touch(leaf);
    if (index < leaf.count && leaf.high(index) === high && leaf.low(index) === low) {
      leaf.items[index * ITEM + 2] = blob;
      return;
    }
    if (leaf.count === LEAF_ITEMS) {
      const right = this.#split(leaf, index);
      // At the very edge the item is less than the right leaf's separator: it belongs to the left.
      const goesRight = index > leaf.count;
      index = goesRight ? index - leaf.count : index;
      leaf = goesRight ? right : leaf;
    }
    const items = leaf.items;
    items.copyWithin((index + 1) * ITEM, index * ITEM, leaf.count * ITEM);
    items[index * ITEM] = high;
    items[index * ITEM + 1] = low;
    items[index * ITEM + 2] = blob;
    leaf.count += 1;
    this.#size += 1;
  }

  /** Makes two of a leaf of several items. */
  divide(leaf: Leaf): void {
    assert(leaf.count > 1 && leaf.linked, 'a leaf that can be divided');
    this.#descend(leaf.high(0), leaf.low(0));
    this.touch(leaf);
    this.#split(leaf, 0);
  }

  /** Splits a leaf: in the middle, or near its end for keys that arrive in order. */
  #split(leaf: Leaf, index: number): Leaf {
    const keep = index === LEAF_ITEMS ? LEAF_ITEMS - 8 : leaf.count >>> 1;
    const right = new Leaf();
    right.items.set(leaf.items.subarray(keep * ITEM, leaf.count * ITEM));
    right.count = leaf.count - keep;
    leaf.count = keep;
    right.next = leaf.next;
    right.previous = leaf;
    if (leaf.next !== null) leaf.next.previous = right;
    leaf.next = right;
    this.#leaves += 1;
    this.#insertChild(right.high(0), right.low(0), right);
    return right;
  }

  /** Puts a node behind the one that the kept way led to. */
  #insertChild(high: number, low: number, child: Leaf | Inner): void {
    let level = this.#path.length - 1;
    let key = [high, low];
    let added: Leaf | Inner = child;
    for (; level >= 0; level--) {
      const parent = this.#path[level] as Inner;
      const index = (this.#indexes[level] as number) + 1;
      if (parent.children.length < INNER_ITEMS) {
        parent.insert(index, key[0] as number, key[1] as number, added);
        return;
      }
      const half = INNER_ITEMS >>> 1;
      const right = new Inner();
      right.keys.set(parent.keys.subarray(half * 2));
      right.children.push(...parent.children.splice(half));
      const middle = [right.keys[0] as number, right.keys[1] as number];
      if (index <= half) parent.insert(index, key[0] as number, key[1] as number, added);
      else right.insert(index - half, key[0] as number, key[1] as number, added);
      key = middle;
      added = right;
    }
    const root = new Inner();
    root.children.push(this.#root);
    root.insert(1, key[0] as number, key[1] as number, added);
    this.#root = root;
  }

  /** Removes a key and returns its blob, or 0. */
  delete(high: number, low: number): number {
    const leaf = this.#descend(high, low);
    const index = leaf.search(high, low);
    if (index >= leaf.count || leaf.high(index) !== high || leaf.low(index) !== low) return 0;
    this.touch(leaf);
    const blob = leaf.blob(index);
    leaf.items.copyWithin(index * ITEM, (index + 1) * ITEM, leaf.count * ITEM);
    leaf.count -= 1;
    this.#size -= 1;
    if (leaf.count < LEAF_ITEMS >>> 2) this.#shrink(leaf);
    return blob;
  }

  /**
   * Removes the keys from (high, from) up to, not including, (high, to), leaf by leaf; `removed`
   * is told of each blob.
   */
  deleteRange(high: number, from: number, to: number, removed: (blob: number) => void): void {
    for (let start = from; ; ) {
      const leaf = this.#descend(high, start);
      const first = leaf.search(high, start);
      if (first === leaf.count) {
        const next = leaf.next;
        if (next === null || next.high(0) !== high || next.low(0) >= to) return;
        start = next.low(0);
        continue;
      }
      const end = leaf.search(high, to);
      if (end <= first) return;
      this.touch(leaf);
      for (let i = first; i < end; i++) removed(leaf.blob(i));
      const reachesEnd = end === leaf.count;
      leaf.items.copyWithin(first * ITEM, end * ITEM, leaf.count * ITEM);
      leaf.count -= end - first;
      this.#size -= end - first;
      if (leaf.count < LEAF_ITEMS >>> 2) this.#shrink(leaf);
      if (!reachesEnd) return;
    }
  }

  /** Merges a leaf with few items into its neighbour under the same parent, if both fit. */
  #shrink(leaf: Leaf): void {
    const level = this.#path.length - 1;
    if (level < 0) return;
    const parent = this.#path[level] as Inner;
    const index = this.#indexes[level] as number;
    if (leaf.count === 0) {
      this.#unlink(leaf);
      this.#removeChild(level, index);
      return;
    }
    const leftIndex = index + 1 < parent.children.length ? index : index - 1;
    if (leftIndex < 0) return;
    const left = parent.children[leftIndex] as Leaf;
    const right = parent.children[leftIndex + 1] as Leaf;
    if (left.count + right.count > LEAF_ITEMS >>> 1) return;
    this.touch(left);
    this.touch(right);
    left.items.set(right.items.subarray(0, right.count * ITEM), left.count * ITEM);
    left.count += right.count;
    this.#unlink(right);
    this.#removeChild(level, leftIndex + 1);
  }

  #unlink(leaf: Leaf): void {
    assert(this.#leaves > 1, 'the last leaf stays');
    leaf.linked = false;
    if (leaf.previous !== null) leaf.previous.next = leaf.next;
    else this.#first = leaf.next as Leaf;
    if (leaf.next !== null) leaf.next.previous = leaf.previous;
    this.#leaves -= 1;
  }

  #removeChild(level: number, index: number): void {
    const node = this.#path[level] as Inner;
    node.remove(index);
    if (node.children.length === 0) {
      this.#removeChild(level - 1, this.#indexes[level - 1] as number);
      return;
    }
    while (this.#root instanceof Inner && this.#root.children.length === 1) {
      this.#root = this.#root.children[0] as Leaf | Inner;
    }
  }

  /** Appends an item behind all others: for loading images in key order. Returns its leaf. */
  append(leaf: Leaf, high: number, low: number, blob: number): void {
    const at = leaf.count * ITEM;
    leaf.items[at] = high;
    leaf.items[at + 1] = low;
    leaf.items[at + 2] = blob;
    leaf.count += 1;
    this.#size += 1;
  }

  /** For loading: an empty leaf behind the last one, which must then be filled by `append`. */
  startLeaf(last: Leaf | null, high: number, low: number): Leaf {
    if (last === null) {
      assert(this.#size === 0 && this.#leaves === 1, 'loads into an empty tree');
      return this.#first;
    }
    const leaf = new Leaf();
    leaf.previous = last;
    last.next = leaf;
    this.#leaves += 1;
    this.#descend(high, low);
    this.#insertChild(high, low, leaf);
    return leaf;
  }
}
