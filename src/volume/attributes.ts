/**
 * What few inodes have: a symbolic link's target and extended attributes. A tree from (inode slot,
 * kind) to the target's bytes, or to all attributes of the inode as one list, sorted by name:
 * {name length u8, value length u16, name, value}. Names are bytes, here one character each.
 */
import { assert } from '../core/assert.js';
import { type BlobArena, NO_BLOB } from './arena.js';
import type { Tree } from './tree.js';

const TARGET = 0;
const XATTRS = 1;
const HEAD_BYTES = 3;

export interface Xattr {
  readonly name: string;
  /** A view, to be copied before anything changes. */
  readonly value: Buffer;
}

export class AttributeStore {
  readonly tree: Tree;
  readonly #arena: BlobArena;

  constructor(tree: Tree, arena: BlobArena) {
    this.tree = tree;
    this.#arena = arena;
  }

  target(slot: number): Buffer {
    const blob = this.tree.get(slot, TARGET);
    assert(blob !== NO_BLOB, 'a symbolic link has a target');
    return Buffer.from(this.#arena.view(blob));
  }

  setTarget(slot: number, target: Uint8Array): void {
    this.tree.set(slot, TARGET, this.#arena.store(target));
  }

  /** All attributes of an inode, sorted by name. */
  list(slot: number): Xattr[] {
    const blob = this.tree.size === 0 ? NO_BLOB : this.tree.get(slot, XATTRS);
    if (blob === NO_BLOB) return [];
    const bytes = this.#arena.view(blob);
    const found: Xattr[] = [];
    for (let at = 0; at < bytes.length; ) {
      const nameEnd = at + HEAD_BYTES + bytes.readUInt8(at);
      const end = nameEnd + bytes.readUInt16LE(at + 1);
      const name = bytes.toString('latin1', at + HEAD_BYTES, nameEnd);
      found.push({ name, value: bytes.subarray(nameEnd, end) });
      at = end;
    }
    return found;
  }

  get(slot: number, name: string): Buffer | null {
    return this.list(slot).find((one) => one.name === name)?.value ?? null;
  }

  /** Sets (or with null removes) one attribute; returns the bytes that all of them now take. */
  set(slot: number, name: string, value: Uint8Array | null): number {
    const kept = this.list(slot).filter((one) => one.name !== name);
    if (value !== null) kept.push({ name, value: Buffer.from(value) });
    kept.sort((a, b) => (a.name < b.name ? -1 : 1));
    const bytes = Buffer.concat(kept.flatMap(({ name: key, value: of }) => encode(key, of)));
    this.#drop(slot, XATTRS);
    if (bytes.length > 0) this.tree.set(slot, XATTRS, this.#arena.store(bytes));
    return bytes.length;
  }

  #drop(slot: number, kind: number): void {
    const blob = this.tree.prepare(slot, kind);
    if (blob === NO_BLOB) return;
    this.#arena.free(blob);
    this.tree.delete(slot, kind);
  }

  /** The inode is gone. */
  clear(slot: number): void {
    this.#drop(slot, TARGET);
    this.#drop(slot, XATTRS);
  }
}

function encode(name: string, value: Uint8Array): Uint8Array[] {
  const key = Buffer.from(name, 'latin1');
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(key.length, 0);
  head.writeUInt16LE(value.length, 1);
  return [head, key, value];
}

/** Bytes that an attribute takes of XATTR_TOTAL_MAX. */
export function xattrBytes(name: string, valueBytes: number): number {
  return HEAD_BYTES + name.length + valueBytes;
}
