/**
 * Directory entries in one tree for the whole volume, in order of (directory's slot, key). A key is
 * 26 bits of the name's hash and 6 bits that tell names of equal hash apart; it stays the same as
 * long as the entry exists, across remounts, so it is the readdir cookie as well. One structure
 * serves lookup, listing from any position and the checkpoint.
 *
 * The blob of an entry is its child's slot (4 bytes) and the name (format of checkpoint images).
 */
import { assert } from '../core/assert.js';
import type { BlobArena } from './arena.js';
import type { Cursor, Tree } from './tree.js';

export const SEQUENCE_BITS = 6;
const SEQUENCES = 1 << SEQUENCE_BITS;
const CHILD_BYTES = 4;

/** 26 bits of a 32-bit hash over all bytes (format: keys are stored). */
export function nameHash(name: Uint8Array): number {
  let hash = name.length ^ 0x2f0b4c47;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ (name[i] as number), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> SEQUENCE_BITS;
}

export class Directory {
  readonly tree: Tree;
  readonly #arena: BlobArena;

  constructor(tree: Tree, arena: BlobArena) {
    this.tree = tree;
    this.#arena = arena;
  }

  #isName(blob: number, name: Uint8Array): boolean {
    const arena = this.#arena;
    if (arena.length(blob) !== name.length + CHILD_BYTES) return false;
    const bytes = arena.bytes(blob);
    const at = arena.byteAt(blob) + CHILD_BYTES;
    for (let i = 0; i < name.length; i++) {
      if (bytes[at + i] !== name[i]) return false;
    }
    return true;
  }

  #find(directory: number, name: Uint8Array): Cursor | null {
    const first = nameHash(name) << SEQUENCE_BITS;
    const low = first >>> 0;
    const cursor = this.tree.seek(directory, low);
    for (; cursor.valid; cursor.advance()) {
      if (cursor.high !== directory || cursor.low - low >= SEQUENCES) return null;
      if (this.#isName(cursor.blob, name)) return cursor;
    }
    return null;
  }

  #child(blob: number): number {
    return this.#arena.words(blob)[this.#arena.wordAt(blob)] as number;
  }

  /** The slot of the inode under a name, or 0. */
  lookup(directory: number, name: Uint8Array): number {
    const cursor = this.#find(directory, name);
    return cursor === null ? 0 : this.#child(cursor.blob);
  }

  /** The least free key for a name that is not there, or -1 when too many hash alike. */
  #freeKey(directory: number, name: Uint8Array): number {
    const low = (nameHash(name) << SEQUENCE_BITS) >>> 0;
    const cursor = this.tree.seek(directory, low);
    let key = low;
    while (cursor.valid && cursor.high === directory && cursor.low === key) {
      key += 1;
      cursor.advance();
    }
    return key - low < SEQUENCES ? key : -1;
  }

  hasRoom(directory: number, name: Uint8Array): boolean {
    return this.#freeKey(directory, name) >= 0;
  }

  insert(directory: number, name: Uint8Array, child: number): void {
    const key = this.#freeKey(directory, name);
    assert(key >= 0, 'there is a key for the entry');
    const arena = this.#arena;
    const blob = arena.allocate(name.length + CHILD_BYTES);
    arena.words(blob)[arena.wordAt(blob)] = child;
    arena.bytes(blob).set(name, arena.byteAt(blob) + CHILD_BYTES);
    this.tree.set(directory, key, blob);
  }

  /** Removes an entry and returns its child's slot. */
  remove(directory: number, name: Uint8Array): number {
    const cursor = this.#find(directory, name);
    assert(cursor !== null, 'the entry to remove exists');
    const child = this.#child(cursor.blob);
    const blob = this.tree.delete(directory, cursor.low);
    this.#arena.free(blob);
    return child;
  }

  /** Points an existing entry at another child and returns the former one. */
  replace(directory: number, name: Uint8Array, child: number): number {
    const cursor = this.#find(directory, name);
    assert(cursor !== null, 'the entry to replace exists');
    const blob = this.tree.prepare(directory, cursor.low);
    const former = this.#child(blob);
    this.#arena.words(blob)[this.#arena.wordAt(blob)] = child;
    return former;
  }

  isEmpty(directory: number): boolean {
    const cursor = this.tree.seek(directory, 0);
    return !cursor.valid || cursor.high !== directory;
  }

  /** Calls `entry` for each entry with a key of at least `from` until it returns false. */
  list(
    directory: number,
    from: number,
    entry: (key: number, child: number, name: Buffer) => boolean,
  ): void {
    const cursor = this.tree.seek(directory, from);
    for (; cursor.valid && cursor.high === directory; cursor.advance()) {
      const blob = cursor.blob;
      const at = this.#arena.byteAt(blob);
      const end = at + this.#arena.length(blob);
      const name = Buffer.from(this.#arena.bytes(blob).subarray(at + CHILD_BYTES, end));
      if (!entry(cursor.low, this.#child(blob), name)) return;
    }
  }
}
