/**
 * A list in the order of entering that anything in it can leave at once. On hot paths where a Map
 * would do: what a Map has forgotten lives on in its old tables until a full collection.
 */
import { assert } from './assert.js';

/** What can be in one list at a time; both are null outside of it and changed by the list alone. */
export interface Linked<T> {
  before: T | null;
  after: T | null;
}

export class LinkedList<T extends Linked<T>> {
  #first: T | null = null;
  #last: T | null = null;

  /** Who has been in it longest. */
  get first(): T | null {
    return this.#first;
  }

  push(item: T): void {
    assert(item.before === null && item.after === null, 'in no list');
    item.before = this.#last;
    if (this.#last === null) this.#first = item;
    else this.#last.after = item;
    this.#last = item;
  }

  remove(item: T): void {
    const { before, after } = item;
    assert(before !== null || this.#first === item, 'in this list');
    if (before === null) this.#first = after;
    else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    // Lest one that lives long keeps all that came after it.
    item.before = null;
    item.after = null;
  }
}
