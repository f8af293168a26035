/**
 * The inodes: 64 bytes each in pages of 256, addressed by slot. An inode number is generation ×
 * 2^32 + slot; a slot's generation grows each time its inode is freed, so that numbers are never
 * used twice while slots are. Names, extents and attributes are elsewhere, under the slot.
 *
 * INVARIANT: `touch(slot)` comes before any change, as for tree leaves.
 */
import { assert } from '../core/assert.js';
import { Bucket, type CaptureHook } from './bucket.js';
import type { Timestamp } from './filesystem-api.js';
import { GENERATION_MAX, SLOT_RANGE } from './limits.js';
import { timeFrom, timeHigh, timeLow } from './time.js';

/** Words of an inode (format of checkpoint images). */
export const Field = {
  /** 0: a free slot. */
  mode: 0,
  uid: 1,
  gid: 2,
  nlink: 3,
  sizeLow: 4,
  sizeHigh: 5,
  atime: 6,
  mtime: 8,
  ctime: 10,
  generation: 12,
  /** Pages that the file's extents take, reserved ones included. */
  pages: 13,
  /** Device number of a device node; the parent's slot of a directory. */
  extra: 14,
  /** Bytes of extended attributes and symlink target. */
  attributeBytes: 15,
} as const;
export type Field = (typeof Field)[keyof typeof Field];

export const INODE_WORDS = 16;
export const PAGE_INODES = 256;
const PAGE_SHIFT = 8;

export const ROOT_SLOT = 1;

export class InodePage extends Bucket {
  readonly index: number;
  readonly words = new Uint32Array(PAGE_INODES * INODE_WORDS);
  constructor(index: number) {
    super();
    this.index = index;
  }
}

export class InodeTable {
  /** Takes the image of a captured page before it changes. */
  onCapture: CaptureHook<InodePage> = () => {};
  readonly #pages: InodePage[] = [];
  /** Free slots below `#next`; a stack, not part of the volume's state. */
  #free = new Uint32Array(64);
  #freeCount = 0;
  /** Slot 0 is never used. */
  #next = ROOT_SLOT;
  #count = 0;

  /** Inodes in use. */
  get count(): number {
    return this.#count;
  }

  /** One more than the largest slot ever used. */
  get slots(): number {
    return this.#next;
  }

  get pages(): readonly InodePage[] {
    return this.#pages;
  }

  get(slot: number, field: Field): number {
    const page = this.#pages[slot >>> PAGE_SHIFT] as InodePage;
    return page.words[(slot & (PAGE_INODES - 1)) * INODE_WORDS + field] as number;
  }

  touch(slot: number): void {
    const page = this.#pages[slot >>> PAGE_SHIFT] as InodePage;
    if (page.captured) {
      page.captured = false;
      this.onCapture(page);
    }
    page.dirty = true;
  }

  set(slot: number, field: Field, value: number): void {
    this.touch(slot);
    const page = this.#pages[slot >>> PAGE_SHIFT] as InodePage;
    page.words[(slot & (PAGE_INODES - 1)) * INODE_WORDS + field] = value;
  }

  size(slot: number): number {
    return this.get(slot, Field.sizeHigh) * SLOT_RANGE + this.get(slot, Field.sizeLow);
  }

  setSize(slot: number, size: number): void {
    this.set(slot, Field.sizeLow, size % SLOT_RANGE);
    this.set(slot, Field.sizeHigh, Math.floor(size / SLOT_RANGE));
  }

  time(slot: number, field: 6 | 8 | 10): Timestamp {
    return timeFrom(this.get(slot, field), this.get(slot, (field + 1) as Field));
  }

  setTime(slot: number, field: 6 | 8 | 10, time: Timestamp): void {
    this.set(slot, field, timeLow(time));
    this.set(slot, (field + 1) as Field, timeHigh(time));
  }

  /** The number of the inode that is, or will next be, in a slot. */
  inodeOf(slot: number): number {
    return this.get(slot, Field.generation) * SLOT_RANGE + slot;
  }

  /** The slot of an inode in use, or 0. */
  slotOf(inode: number): number {
    const slot = inode % SLOT_RANGE;
    if (slot === 0 || slot >= this.#next || this.get(slot, Field.mode) === 0) return 0;
    return this.inodeOf(slot) === inode ? slot : 0;
  }

  /** The number that the next new inode should take. Changes nothing. */
  candidate(): number {
    while (this.#freeCount > 0) {
      const slot = this.#free[this.#freeCount - 1] as number;
      if (this.get(slot, Field.mode) === 0) return this.inodeOf(slot);
      this.#freeCount -= 1;
    }
    return this.#next;
  }

  /** Whether a new inode may take this number: its slot is free and the generation is right. */
  isFree(inode: number): boolean {
    const slot = inode % SLOT_RANGE;
    if (slot === 0 || slot >= this.#next) return slot === inode && slot === this.#next;
    return this.get(slot, Field.mode) === 0 && this.inodeOf(slot) === inode;
  }

  /** Takes a number into use; its fields are zero except generation and mode. */
  allocate(inode: number, mode: number): number {
    assert(this.isFree(inode) && mode !== 0, `inode ${inode} is free`);
    const slot = inode % SLOT_RANGE;
    if (slot === this.#next) this.#extend();
    const top = this.#freeCount - 1;
    if (top >= 0 && this.#free[top] === slot) this.#freeCount = top;
    this.set(slot, Field.mode, mode);
    this.#count += 1;
    return slot;
  }

  #extend(): void {
    const index = this.#next >>> PAGE_SHIFT;
    if (index === this.#pages.length) this.#pages.push(new InodePage(index));
    this.#next += 1;
  }

  /** Frees an inode: its number is never valid again. */
  release(slot: number): void {
    this.touch(slot);
    const page = this.#pages[slot >>> PAGE_SHIFT] as InodePage;
    const at = (slot & (PAGE_INODES - 1)) * INODE_WORDS;
    const generation = (page.words[at + Field.generation] as number) + 1;
    page.words.fill(0, at, at + INODE_WORDS);
    page.words[at + Field.generation] = generation;
    this.#count -= 1;
    if (generation <= GENERATION_MAX) this.#pushFree(slot);
    else page.words[at + Field.nlink] = 1;
  }

  #pushFree(slot: number): void {
    if (this.#freeCount === this.#free.length) {
      const larger = new Uint32Array(this.#free.length * 2);
      larger.set(this.#free);
      this.#free = larger;
    }
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  /** For loading: the next page, whose words the caller fills; then `loaded` once. */
  loadPage(): InodePage {
    const page = new InodePage(this.#pages.length);
    this.#pages.push(page);
    return page;
  }

  /** After all pages were loaded: `slots` as it was when they were written. */
  loaded(slots: number): void {
    this.#next = slots;
    for (let slot = slots - 1; slot >= ROOT_SLOT; slot--) {
      if (this.get(slot, Field.mode) !== 0) this.#count += 1;
      else if (this.get(slot, Field.generation) <= GENERATION_MAX) this.#pushFree(slot);
    }
  }
}
