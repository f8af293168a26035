/**
 * Who still holds which inode: the kernel's lookups and open files. Not part of the volume's state:
 * it says only when an inode without a name may end.
 *
 * A daemon that took over a living mount does not know what the kernel looked up before: then an
 * orphan ends with its FORGET, which the kernel sends after the last close, and not before.
 */
import type { Monotonic } from '../core/units.js';
import type { VolumeState } from './state.js';

export class Handles {
  readonly #state: VolumeState;
  readonly #adopted: boolean;
  /** Slots that were free when this daemon began are known from their first lookup on. */
  #lookups = new Uint32Array(1024);
  readonly #opens = new Map<number, number>();
  readonly #known = new Set<number>();
  /** Orphans, and since when the kernel has had reason to forget them. */
  readonly #leaving = new Map<number, Monotonic>();

  constructor(state: VolumeState, adopted: boolean) {
    this.#state = state;
    this.#adopted = adopted;
  }

  looked(slot: number): void {
    if (slot >= this.#lookups.length) {
      const larger = new Uint32Array(Math.max(slot + 1, this.#lookups.length * 2));
      larger.set(this.#lookups);
      this.#lookups = larger;
    }
    this.#lookups[slot] = (this.#lookups[slot] as number) + 1;
  }

  /** The inode was made by this daemon, so that all its lookups are counted. */
  created(slot: number): void {
    if (this.#adopted) this.#known.add(slot);
    this.looked(slot);
  }

  forgotten(slot: number, count: number): void {
    if (slot >= this.#lookups.length) return;
    this.#lookups[slot] = Math.max(0, (this.#lookups[slot] as number) - count);
  }

  opened(slot: number): void {
    this.#opens.set(slot, (this.#opens.get(slot) ?? 0) + 1);
  }

  closed(slot: number): void {
    const left = (this.#opens.get(slot) ?? 1) - 1;
    if (left > 0) this.#opens.set(slot, left);
    else this.#opens.delete(slot);
  }

  /** The inode is gone; its slot will be another one's. */
  freed(slot: number): void {
    this.#opens.delete(slot);
    this.#known.delete(slot);
    this.#leaving.delete(slot);
    if (slot < this.#lookups.length) this.#lookups[slot] = 0;
  }

  /** Whether an orphan may end now; `byForget` when the kernel has just forgotten it. */
  mayEnd(slot: number, byForget: boolean): boolean {
    if (!this.#isClosed(slot) || (this.#lookups[slot] ?? 0) > 0) return false;
    return byForget || this.#knows(slot);
  }

  #isClosed(slot: number): boolean {
    return this.#state.orphans.has(slot) && !this.#opens.has(slot);
  }

  #knows(slot: number): boolean {
    return !this.#adopted || this.#known.has(slot);
  }

  /** An inode was closed, or has lost a name. */
  noteLeaving(slot: number, now: Monotonic): void {
    if (!this.#isClosed(slot) || !this.#knows(slot) || this.#leaving.has(slot)) return;
    this.#leaving.set(slot, now);
  }

  /** The orphans that are closed, and first were so at `since` or later. */
  leaving(since: number): number[] {
    const isLeaving = ([slot, at]: [number, Monotonic]): boolean =>
      at >= since && this.#isClosed(slot);
    return [...this.#leaving].filter(isLeaving).map(([slot]) => slot);
  }
}
