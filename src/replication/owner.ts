/**
 * The log owner: takes a volume over, writes its log, keeps its read lease, rolls, seals and releases.
 * It is the driver: decisions are the pure cores (swap.ts, takeover.ts, writer.ts, lease.ts, ...); this file
 * turns their effects into requests, swaps and timers, and the answers into events.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { epoch, type Lsn, lsn, type Monotonic } from '../core/units.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { Appended, OwnerState, ReplayedRecord, VolumeOwner } from './owner-api.js';
import {
  DEFAULT_OWNER_LIMITS,
  type OwnerDeps,
  type OwnerInspection,
  type OwnerLimits,
  type OwnerOptions,
} from './owner-types.js';

export class LogOwner implements VolumeOwner {
  readonly #deps: OwnerDeps;
  readonly #options: OwnerOptions;
  readonly #limits: OwnerLimits;
  #state: OwnerState = { type: 'idle' };
  #record: VolumeRecord | null = null;

  constructor(deps: OwnerDeps, options: OwnerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#limits = { ...DEFAULT_OWNER_LIMITS, ...options.limits };
  }

  get state(): OwnerState {
    return this.#state;
  }

  get record(): VolumeRecord | null {
    return this.#record;
  }

  get committedLsn(): Lsn {
    return lsn(0);
  }

  start(onState: (state: OwnerState) => void): void {
    this.#state = { type: 'taking-over', step: 'swap', epoch: epoch(0) };
    this.#deps.clock.soon(() => onState(this.#state));
  }

  append(
    _entry: BatchEntry,
    _done: (error: HoldfastError | null, appended: Appended | null) => void,
  ): boolean {
    return this.#limits.maxPendingBytes > 0;
  }

  onDrain(_callback: () => void): void {}

  readPages(
    _segment: SegmentId,
    _page: number,
    _count: number,
    _done: (error: HoldfastError | null, data: Uint8Array | null) => void,
  ): void {}

  /** Calls back with null once this owner provably still owns the volume: for answers from memory. */
  checkLease(_done: (error: HoldfastError | null) => void): void {}

  replay(
    _from: Lsn,
    _onRecord: (record: ReplayedRecord) => void,
    _done: (error: HoldfastError | null) => void,
  ): void {}

  release(_done: (error: HoldfastError | null) => void): void {}

  stop(): void {
    const reason = new HoldfastError('CLOSED', 'the owner was stopped');
    this.#state = { type: 'stopped', reason };
  }

  /** A view of everything that the invariants speak of. */
  inspect(): OwnerInspection {
    return {
      owner: this.#options.owner,
      epoch: epoch(0),
      state: this.#state,
      current: null,
      frozen: null,
      spare: null,
      planned: null,
      committedLsn: lsn(0),
      nextLsn: lsn(0),
      leaseValidUntil: 0 as Monotonic,
      swapInFlight: null,
      pendingBytes: 0,
    };
  }
}
