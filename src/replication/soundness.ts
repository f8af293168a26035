/**
 * Which copies of an owner's open segments count, as far as its directory tells. Repair makes
 * copies of sealed segments only: an open one that lacks some is left for one that lacks fewer,
 * also while nothing is written, or the newest data of a volume that is only read would stay as it
 * is.
 */
import type { Incarnation } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import type { PlacementRecord, Replica } from '../metadata/model.js';
import type { Directory } from './directory.js';

export class Soundness {
  readonly #directory: Directory;
  readonly #absentMs: number;
  /** Disks that are not there, by what was seen at each look. */
  #absentSince: ReadonlyMap<Incarnation, Monotonic> = new Map();
  #placement: PlacementRecord | null = null;
  #placed: ReadonlySet<Incarnation> = new Set();

  /** A disk counts until its node has been dead, or without it, for `absentMs`. */
  constructor(directory: Directory, absentMs: number) {
    this.#directory = directory;
    this.#absentMs = absentMs;
  }

  /**
   * Notes which of these disks are there now, and of all that nodes have: one that is away before
   * anything is opened on it is no better than those that it would take the place of.
   */
  look(replicas: readonly Replica[], now: Monotonic): void {
    const before = this.#absentSince;
    const registered = this.#directory
      .nodes()
      .flatMap(({ node, disks }) => disks.map(({ incarnation }) => ({ node, incarnation })));
    const known = new Set(registered.map(({ incarnation }) => incarnation));
    const absentSince = new Map<Incarnation, Monotonic>();
    for (const { node, incarnation } of [...registered, ...replicas]) {
      if (this.#directory.isLive(node) && known.has(incarnation)) continue;
      absentSince.set(incarnation, before.get(incarnation) ?? now);
    }
    this.#absentSince = absentSince;
  }

  /** How many of these copies count. One on a drained disk does not, although it is there. */
  count(replicas: readonly Replica[], table: number, now: Monotonic): number {
    const placement = this.#directory.placement(table);
    if (placement !== this.#placement) {
      this.#placement = placement;
      const placed = placement?.groups.flat() ?? [];
      this.#placed = new Set(placed.map(({ incarnation }) => incarnation));
    }
    return replicas.filter(({ incarnation }) => {
      const since = this.#absentSince.get(incarnation);
      if (since !== undefined) return now < since + this.#absentMs;
      return this.#placed.has(incarnation);
    }).length;
  }
}
