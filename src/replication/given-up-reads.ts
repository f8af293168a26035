/**
 * What an owner knows of pages that were given up (metadata/given-up.ts): asked when a read could
 * not be answered and would wait. Read from the store now and then, in the background: while
 * the store does not answer, reads go on waiting.
 */
import { HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import { type GivenUpPages, readGivenUp } from '../metadata/given-up.js';
import type { MetadataStore } from '../metadata/store.js';

const FRESH_MS = 2_000;

export class GivenUpReads {
  readonly #store: MetadataStore;
  readonly #clock: Clock;
  readonly #volume: VolumeId;
  #pages: ReadonlyMap<SegmentId, GivenUpPages['pages']> = new Map();
  #askAt = Number.NEGATIVE_INFINITY;

  constructor(store: MetadataStore, clock: Clock, volume: VolumeId) {
    this.#store = store;
    this.#clock = clock;
    this.#volume = volume;
  }

  /** The end of a read that failed for now: DATA_LOST; null when it is to be tried again. */
  verdict(
    segment: SegmentId,
    page: number,
    count: number,
    { message }: HoldfastError,
  ): HoldfastError | null {
    this.#ask();
    const spans = this.#pages.get(segment) ?? [];
    if (!spans.some((lost) => lost.page < page + count && page < lost.page + lost.count))
      return null;
    return new HoldfastError('DATA_LOST', `${message}; what only they had was given up`, {
      hint: 'Bring the nodes back that have it, or restore the file from a backup.',
    });
  }

  #ask(): void {
    const now = this.#clock.monotonic();
    if (now < this.#askAt) return;
    this.#askAt = now + FRESH_MS;
    readGivenUp(this.#store, this.#volume).then(
      (found) => {
        this.#pages = new Map(found?.segments.map(({ segment, pages }) => [segment, pages]));
      },
      (thrown) => {
        if (!(thrown instanceof HoldfastError)) throw thrown;
      },
    );
  }
}
