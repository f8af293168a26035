/**
 * Drives swap.ts against the metadata store: turns its effects into transactions and reads, and
 * promises into events. Off the write path; when the store is down it retries for ever and the log
 * goes on.
 */
import { assert, unreachable } from '../core/assert.js';
import { asFault, HoldfastError } from '../core/errors.js';
import type { OwnerId, VolumeId } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { chunkPrefix } from '../metadata/keys.js';
import { movedTo } from '../metadata/moved.js';
import type { KeyValue, MetadataStore, Watch } from '../metadata/store.js';
import {
  checkSize,
  readVolume,
  type VersionedVolume,
  type VolumeChange,
} from '../metadata/stored-volume.js';
import {
  newSwap,
  type SwapEffect,
  type SwapEvent,
  type SwapLimits,
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
  readonly limits: SwapLimits;
  /** The swap has landed, `known` holds its result or something newer. */
  landed(purpose: SwapPurpose): void;
  stop(reason: HoldfastError): void;
  /** The deadline may have changed. */
  wake(): void;
}

export class RecordSwapper {
  readonly #parts: SwapperParts;
  #state: SwapState | null = null;
  #watch: Watch | null = null;
  /** Chunks as the store has told of them while a swap was under way, by key. */
  readonly #told = new Map<string, KeyValue>();
  #closed = false;

  constructor(parts: SwapperParts) {
    this.#parts = parts;
  }

  /** The record as last swapped or read; null before `open`. */
  get known(): VersionedVolume | null {
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
    this.#watch?.close();
  }

  /** Reads the record, until the store answers. */
  open(done: () => void): void {
    this.read((at) => {
      if (at === null) {
        this.#parts.stop(new HoldfastError('NOT_FOUND', 'there is no such volume'));
        return;
      }
      const { store, volume, owner, limits } = this.#parts;
      this.#state = newSwap(owner, at, limits);
      this.#watch = store.watch(chunkPrefix(volume), {
        onSnapshot: (entries) => this.#heard(entries),
        onEvents: (events) =>
          this.#heard(events.flatMap((event) => (event.type === 'put' ? [event.entry] : []))),
        onConnected: () => {},
      });
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
  read(done: (at: VersionedVolume | null) => void, failures = 0): void {
    const { clock, limits } = this.#parts;
    this.#readOnce(done, (thrown) => {
      this.#report(thrown, 'could not read the volume record');
      const { retryMinMs, retryMaxMs } = limits;
      const wait = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(failures, 10));
      clock.after(wait, () => {
        if (!this.#closed) this.read(done, failures + 1);
      });
    });
  }

  #readOnce(done: (at: VersionedVolume | null) => void, failed: (thrown: unknown) => void): void {
    const { store, volume } = this.#parts;
    readVolume(store, volume, this.known).then(
      (at) => {
        if (!this.#closed) done(at);
      },
      (thrown: unknown) => {
        if (this.#closed) return;
        const fault = asFault(thrown, 'UNAVAILABLE');
        if (DAMAGE.has(fault.code)) this.#parts.stop(fault);
        else failed(thrown);
      },
    );
  }

  /** Somebody has changed chunks, perhaps we: what has moved is taken over. */
  #heard(entries: readonly KeyValue[]): void {
    if (this.#closed) return;
    for (const entry of entries) this.#told.set(entry.key, entry);
    this.#follow();
  }

  #follow(): void {
    if (this.#state === null || this.#told.size === 0 || this.busy || this.#closed) return;
    const known = movedTo(this.#state.known, [...this.#told.values()]);
    this.#told.clear();
    if (known !== null) this.#step({ type: 'moved', known });
  }

  #step(event: SwapEvent): void {
    assert(this.#state !== null, 'the record was read first');
    if (this.#closed) return;
    const effects = stepSwap(this.#state, event);
    for (const effect of effects) this.#run(effect);
    this.#follow();
    this.#parts.wake();
  }

  #run(effect: SwapEffect): void {
    switch (effect.type) {
      case 'send':
        this.#send(effect.base, effect.swap);
        break;
      case 'read':
        this.#readOnce(
          (found) => this.#step({ type: 'found', found }),
          (thrown) => this.#failed(thrown),
        );
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

  #send(base: VersionedVolume, swap: VolumeChange): void {
    try {
      checkSize(base, swap);
    } catch (thrown) {
      this.#parts.stop(asFault(thrown, 'TOO_LARGE'));
      return;
    }
    this.#parts.store.transact(swap.compare, swap.operations).then(
      ({ committed, revision }) =>
        this.#step(committed ? { type: 'committed', revision } : { type: 'refused' }),
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

/** What no later reading would mend. */
const DAMAGE: ReadonlySet<string> = new Set(['INCONSISTENT', 'MALFORMED', 'VERSION']);
