/**
 * What waits under a number that goes round: ids are given out in turn, and one that still waits is
 * passed over. For tables that change with every request; a Map would be rebuilt every few dozen
 * changes, and V8 chains its old tables: once one of them has grown old, each later one survives
 * with everything that it held until the next full collection.
 */
import { assert } from './assert.js';

const IDS = 0x1_0000_0000;
const FIRST_SLOTS = 64;

export class IdRing<T> {
  /** A power of two; the value of id i is in slot i modulo their number. */
  #ids: Float64Array = new Float64Array(FIRST_SLOTS).fill(-1);
  #values: (T | undefined)[] = new Array(FIRST_SLOTS).fill(undefined);
  #next = 0;
  #size = 0;

  /** The id that comes next, an unsigned 32-bit number under which nothing waits. */
  freeId(): number {
    if (this.#size * 2 >= this.#values.length) this.#grow();
    while (this.#ids[this.#slot(this.#next)] !== -1) this.#next = (this.#next + 1) % IDS;
    return this.#next;
  }

  /** Keeps a value under an id that `freeId` has just named. */
  set(id: number, value: T): void {
    this.#put(id, value);
    this.#next = (id + 1) % IDS;
    this.#size += 1;
  }

  get(id: number): T | undefined {
    const slot = this.#slot(id);
    return this.#ids[slot] === id ? this.#values[slot] : undefined;
  }

  delete(id: number): void {
    const slot = this.#slot(id);
    if (this.#ids[slot] !== id) return;
    this.#ids[slot] = -1;
    this.#values[slot] = undefined;
    this.#size -= 1;
  }

  /** Ids and values, the oldest first. */
  entries(): [number, T][] {
    const entries: [number, T][] = [];
    for (const [slot, id] of this.#ids.entries()) {
      if (id !== -1) entries.push([id, this.#values[slot] as T]);
    }
    const age = (id: number): number => (this.#next + IDS - id - 1) % IDS;
    entries.sort(([a], [b]) => age(b) - age(a));
    return entries;
  }

  clear(): void {
    this.#ids.fill(-1);
    this.#values.fill(undefined);
    this.#size = 0;
  }

  #slot(id: number): number {
    return id & (this.#values.length - 1);
  }

  #put(id: number, value: T): void {
    const slot = this.#slot(id);
    assert(this.#ids[slot] === -1, 'a free slot');
    this.#ids[slot] = id;
    this.#values[slot] = value;
  }

  /** Ids in different slots are in different slots of twice as many, too. */
  #grow(): void {
    const entries = this.entries();
    const slots = this.#values.length * 2;
    this.#ids = new Float64Array(slots).fill(-1);
    this.#values = new Array(slots).fill(undefined);
    for (const [id, value] of entries) this.#put(id, value);
  }
}
