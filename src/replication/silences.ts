/**
 * How long nothing has been seen of owners that did not release their volumes. One may live, cut
 * off from the metadata store, and write: so it is silent only while its presence is gone *and* no
 * copy of what it has open grows.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import type { VolumeRecord } from '../metadata/model.js';

interface Silence {
  /** Others than before: the owner has done something meanwhile. */
  readonly signs: string;
  readonly since: number;
  readonly until: number;
}

export class Silences {
  readonly #known = new Map<VolumeId, Silence>();

  /**
   * The owner of `record` has no presence. `lengthOf`: of the longest copy of an open segment, as
   * nodes said at `askedAt`, in milliseconds on one clock.
   */
  note(record: VolumeRecord, lengthOf: (segment: SegmentId) => number, askedAt: number): void {
    const { volume, epoch, open } = record;
    const lengths = open.map(({ segment }) => `${segment} ${lengthOf(segment)}`);
    const signs = [epoch, ...lengths].join();
    const known = this.#known.get(volume);
    const since = known?.signs === signs ? known.since : askedAt;
    this.#known.set(volume, { signs, since, until: askedAt });
  }

  /** The others need no care any more, or are removed. */
  keepOnly(volumes: ReadonlySet<VolumeId>): void {
    for (const volume of this.#known.keys()) if (!volumes.has(volume)) this.#known.delete(volume);
  }

  /** It has a presence. */
  end(volume: VolumeId): void {
    this.#known.delete(volume);
  }

  /** From the first time that nodes were asked without finding a sign to the last; 0: not yet. */
  lengthMs(volume: VolumeId): number {
    const known = this.#known.get(volume);
    return known === undefined ? 0 : known.until - known.since;
  }
}
