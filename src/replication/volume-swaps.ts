/**
 * What the layer above changes in the volume record: its root, and sealed segments that it gives
 * up. Each is one swap of the owner's, or as many as it takes, in the order asked; the service lets
 * them in between its own.
 *
 * INVARIANT: a request is called back once: when its last swap has landed, when there was nothing
 * to change, or when the owner has stopped.
 */
import { assert, present } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import type { Root, VolumeRecord } from '../metadata/model.js';
import { type VersionedVolume, withinOneSwap } from '../metadata/stored-volume.js';
import { deleteSealed, setRoot } from '../metadata/volume-record.js';

export interface VolumeSwap {
  /** For people, as in swap.ts. */
  readonly name: 'root' | 'delete';
  /**
   * The same change of whichever record of this epoch is found, or as much of it as one swap can
   * do; null: nothing to change.
   */
  change(record: VolumeRecord, at: VersionedVolume): VolumeRecord | null;
  done(error: HoldfastError | null): void;
}

export function newRoot(root: Root, done: VolumeSwap['done']): VolumeSwap {
  const isThere = (found: Root | null): boolean =>
    found?.segment === root.segment && found.offset === root.offset && found.lsn === root.lsn;
  const change = (found: VolumeRecord): VolumeRecord | null =>
    isThere(found.root) ? null : setRoot(found, { epoch: found.epoch, root });
  return { name: 'root', change, done };
}

export function deletion(segments: readonly SegmentId[], done: VolumeSwap['done']): VolumeSwap {
  const change: VolumeSwap['change'] = (found, at) => {
    const sealed = new Set(found.sealed.map((one) => one.segment));
    const left = segments.filter((segment) => sealed.has(segment));
    if (left.length === 0) return null;
    return deleteSealed(found, { epoch: found.epoch, segments: withinOneSwap(at, left) });
  };
  return { name: 'delete', change, done };
}

export class VolumeSwaps {
  readonly #clock: Clock;
  readonly #onAdded: () => void;
  /** The first one may be in flight. */
  #waiting: VolumeSwap[] = [];
  #inFlight = false;
  #failure: HoldfastError | null = null;

  constructor(clock: Clock, onAdded: () => void) {
    this.#clock = clock;
    this.#onAdded = onAdded;
  }

  add(swap: VolumeSwap): void {
    this.#waiting.push(swap);
    this.#onAdded();
  }

  /** The next one that changes the record, to be proposed now; null when none waits. */
  begin(at: VersionedVolume): VolumeSwap | null {
    assert(!this.#inFlight, 'one swap in flight an owner');
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (next.change(at.record, at) !== null) {
        this.#inFlight = true;
        return next;
      }
      this.#end();
    }
    return null;
  }

  /** The one that was begun has landed; it is begun again when that was not all. */
  landed(at: VersionedVolume): void {
    assert(this.#inFlight, 'a swap that was begun');
    this.#inFlight = false;
    if (present(this.#waiting[0], 'a swap that waits').change(at.record, at) === null) this.#end();
  }

  #end(): void {
    const { done } = present(this.#waiting.shift(), 'a swap that waits');
    this.#clock.soon(() => done(this.#failure));
  }

  /** The owner has stopped. */
  fail(reason: HoldfastError): void {
    this.#failure = reason;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#clock.soon(() => {
      for (const { done } of waiting) done(reason);
    });
  }
}
