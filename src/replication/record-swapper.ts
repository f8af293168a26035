/**
 * Drives swap.ts against the metadata store: turns its effects into transactions and reads, and
 * promises into events. Off the write path; when the store is down it retries for ever and the log
 * goes on.
 */
import { assert, unreachable } from '../core/assert.js';
import { asFault, HoldfastError } from '../core/errors.js';
import type { OwnerId, VolumeId } from '../core/ids.js';
import type { Monotonic, Revision } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { decodeVolume, encodeVolume } from '../metadata/encoding.js';
import { volumeKey } from '../metadata/keys.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { KeyValue, MetadataStore } from '../metadata/store.js';
import {
  newSwap,
  type RecordAt,
  type SwapEffect,
  type SwapEvent,
  type SwapPurpose,
  type SwapState,
  stepSwap,
  swapDeadline,
  swapInFlight,
} from './swap.js';

export interface SwapperParts {
  readonly clock: Clock;
  readonly store: MetadataStore;
  readonly log: Log;
  readonly volume: VolumeId;
  readonly owner: OwnerId;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** The swap has landed, `known` holds its result or something newer. */
  landed(purpose: SwapPurpose): void;
  stop(reason: HoldfastError): void;
  /** The deadline may have changed. */
  wake(): void;
}

export class RecordSwapper {
  readonly #parts: SwapperParts;
  readonly #key: string;
  #state: SwapState | null = null;
  #closed = false;

  constructor(parts: SwapperParts) {
    this.#parts = parts;
    this.#key = volumeKey(parts.volume);
  }

  /** The record as last swapped or read; null before `open`. */
  get known(): RecordAt | null {
    return this.#state?.known ?? null;
  }

  get busy(): boolean {
    return this.inFlight !== null;
  }

  /** What the swap in flight wants. */
  get inFlight(): string | null {
    return this.#state === null ? null : swapInFlight(this.#state);
  }

  deadline(): number {
    return this.#state === null ? Number.POSITIVE_INFINITY : swapDeadline(this.#state);
  }

  tick(now: Monotonic): void {
    if (this.#state !== null) this.#step({ type: 'tick', now });
  }

  /** Nothing is sent and no handler runs afterwards. */
  close(): void {
    this.#closed = true;
  }

  /** Reads the record, until the store answers. */
  open(done: () => void): void {
    this.read((at) => {
      if (at === null) {
        this.#parts.stop(new HoldfastError('NOT_FOUND', 'there is no such volume'));
        return;
      }
      const { owner, retryMinMs, retryMaxMs } = this.#parts;
      this.#state = newSwap(owner, at, { retryMinMs, retryMaxMs });
      done();
    });
  }

  propose(purpose: SwapPurpose): void {
    assert(this.#state !== null, 'the record was read first');
    this.#step({ type: 'propose', purpose });
  }

  /**
   * A linearizable read of the record, until the store answers; null when the volume was removed.
   */
  read(done: (at: RecordAt | null) => void, failures = 0): void {
    const { clock, store, retryMinMs, retryMaxMs } = this.#parts;
    store.get(this.#key).then(
      ({ entry }) => this.#decoded(entry, done),
      (thrown: unknown) => {
        if (this.#closed) return;
        this.#report(thrown, 'could not read the volume record');
        const wait = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(failures, 10));
        clock.after(wait, () => {
          if (!this.#closed) this.read(done, failures + 1);
        });
      },
    );
  }

  #decoded(entry: KeyValue | null, done: (at: RecordAt | null) => void): void {
    if (this.#closed) return;
    if (entry === null) {
      done(null);
      return;
    }
    let record: VolumeRecord;
    try {
      record = decodeVolume(entry.value);
    } catch (thrown) {
      this.#parts.stop(asFault(thrown, 'INCONSISTENT'));
      return;
    }
    done({ record, revision: entry.modRevision });
  }

  #step(event: SwapEvent): void {
    assert(this.#state !== null, 'the record was read first');
    if (this.#closed) return;
    const effects = stepSwap(this.#state, event);
    for (const effect of effects) this.#run(effect);
    this.#parts.wake();
  }

  #run(effect: SwapEffect): void {
    switch (effect.type) {
      case 'send':
        this.#send(effect.base, effect.proposal);
        break;
      case 'read':
        this.#read();
        break;
      case 'landed':
        this.#parts.landed(effect.purpose);
        break;
      case 'stop':
        this.#parts.stop(effect.reason);
        break;
      default:
        unreachable(effect);
    }
  }

  #send(base: Revision, proposal: VolumeRecord): void {
    const key = this.#key;
    const operation = { type: 'put', key, value: encodeVolume(proposal) } as const;
    this.#parts.store.transact([{ key, modRevision: base }], [operation]).then(
      ({ committed, revision }) =>
        this.#step(committed ? { type: 'committed', revision } : { type: 'refused' }),
      (thrown: unknown) => this.#failed(thrown),
    );
  }

  #read(): void {
    this.#parts.store.get(this.#key).then(
      ({ entry }) => {
        if (entry === null) this.#step({ type: 'found', found: null });
        else this.#decoded(entry, (found) => this.#step({ type: 'found', found }));
      },
      (thrown: unknown) => this.#failed(thrown),
    );
  }

  #failed(thrown: unknown): void {
    if (this.#closed) return;
    this.#report(thrown, 'a swap of the volume record has no answer yet');
    this.#step({ type: 'failed', now: this.#parts.clock.monotonic() });
  }

  #report(thrown: unknown, message: string): void {
    const { code } = asFault(thrown, 'UNAVAILABLE');
    this.#parts.log.warn({ volume: this.#parts.volume, swap: this.inFlight, code }, message);
  }
}
