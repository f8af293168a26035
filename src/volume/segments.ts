/**
 * The segments that the volume's state points into, under small numbers (slots), with what lives in
 * each: pages that extents refer to (a page shared by two extents counts twice) and bytes of
 * checkpoint images. A segment with neither is dead once a durable checkpoint covers its records.
 *
 * A place is one number: slot × 2^22 + page. Slot 0 holds no segment: its places are the hole, the
 * reserved page (space that was promised, reads as zeroes) and pages still on their way to the log
 * (history.ts).
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { PLACE_PAGES, SEGMENT_SLOTS_MAX } from './limits.js';

/** Nothing there: reads as zeroes, takes no space. */
export const HOLE = 0;
/** Zeroes that take space, from fallocate. */
export const RESERVED = 1;

export interface SegmentUse {
  readonly segment: SegmentId;
  readonly livePages: number;
  readonly imageBytes: number;
}

export class SegmentTable {
  /** Called when a slot may get another meaning: forget what is known of its places. */
  onRelease: (slot: number) => void = () => {};
  readonly #ids: (SegmentId | null)[] = [null];
  readonly #live: number[] = [0];
  readonly #images: number[] = [0];
  readonly #slots = new Map<SegmentId, number>();
  readonly #free: number[] = [];

  /** One more than the largest slot in use. */
  get slots(): number {
    return this.#ids.length;
  }

  /** The slot of a segment; a new one if it was not known. */
  slotOf(segment: SegmentId): number {
    const known = this.#slots.get(segment);
    if (known !== undefined) return known;
    const slot = this.#free.pop() ?? this.#ids.length;
    this.define(slot, segment);
    return slot;
  }

  /** The slot of a segment, or 0 when nothing was ever seen of it. */
  known(segment: SegmentId): number {
    return this.#slots.get(segment) ?? 0;
  }

  /** Gives a segment a certain slot: for loading a checkpoint. */
  define(slot: number, segment: SegmentId): void {
    assert(slot > 0 && slot < SEGMENT_SLOTS_MAX, 'too many segments');
    for (let at = this.#ids.length; at < slot; at++) {
      this.#ids.push(null);
      this.#live.push(0);
      this.#images.push(0);
      this.#free.push(at);
    }
    const free = this.#free.indexOf(slot);
    if (free >= 0) this.#free.splice(free, 1);
    this.#ids[slot] = segment;
    this.#live[slot] = 0;
    this.#images[slot] = 0;
    this.#slots.set(segment, slot);
  }

  idOf(slot: number): SegmentId {
    const id = this.#ids[slot];
    if (id === null || id === undefined) {
      throw new HoldfastError('INCONSISTENT', `no segment has slot ${slot}`);
    }
    return id;
  }

  /** The segment of a slot, or null when the slot is free. */
  at(slot: number): SegmentUse | null {
    const segment = this.#ids[slot];
    if (segment === null || segment === undefined) return null;
    const livePages = this.#live[slot] as number;
    return { segment, livePages, imageBytes: this.#images[slot] as number };
  }

  /** `count` more (or fewer) references to pages at and behind a place. */
  count(place: number, count: number): void {
    const slot = Math.floor(place / PLACE_PAGES);
    if (slot === 0) return;
    const live = (this.#live[slot] ?? 0) + count;
    assert(live >= 0, `segment slot ${slot} has ${live} live pages`);
    this.#live[slot] = live;
  }

  countImage(slot: number, bytes: number): void {
    const images = (this.#images[slot] ?? 0) + bytes;
    assert(images >= 0, `segment slot ${slot} has ${images} bytes of images`);
    this.#images[slot] = images;
  }

  /** A newer checkpoint's images are counted anew. */
  clearImages(): void {
    this.#images.fill(0);
  }

  /**
   * Releases what nothing refers to. A checkpoint that is loaded may name segments that were
   * deleted soon after it, or while it was written; those that are still in the log get a slot when
   * they are seen again.
   */
  releaseUnused(): void {
    for (let slot = 1; slot < this.#ids.length; slot++) {
      const use = this.at(slot);
      if (use?.livePages === 0 && use.imageBytes === 0) this.release(use.segment);
    }
  }

  /** The segment is gone: nothing may refer to it any more. */
  release(segment: SegmentId): void {
    const slot = this.#slots.get(segment);
    if (slot === undefined) return;
    assert(this.#live[slot] === 0 && this.#images[slot] === 0, 'a released segment is dead');
    this.onRelease(slot);
    this.#slots.delete(segment);
    this.#ids[slot] = null;
    this.#free.push(slot);
  }
}

export function placeOf(slot: number, page: number): number {
  return slot * PLACE_PAGES + page;
}

export function slotOfPlace(place: number): number {
  return Math.floor(place / PLACE_PAGES);
}

export function pageOfPlace(place: number): number {
  return place % PLACE_PAGES;
}
