/**
 * Keeps something published under a lease: renews the lease on the monotonic clock, and has it
 * published again when the lease was lost (an outage longer than its time) or the store lost what
 * was written (import, rebuild). Never ends by itself; while the store is away it tries again and
 * again, backing off.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { RECONNECT_MAX_MS, RECONNECT_MIN_MS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Lease, MetadataStore } from './store.js';

export interface LeasedWork {
  /**
   * Once a turn, after the lease was renewed: brings about that all is published under
   * `loop.lease()`. False: something changed meanwhile, another turn follows at once. Its faults
   * are told to `failed`; NOT_FOUND and WRONG_CLUSTER cost the lease.
   */
  publish(loop: LeaseLoop): Promise<boolean>;
  /** The lease and what was published under it are gone. */
  lost(): void;
  failed(error: HoldfastError): void;
}

export interface LeaseLoopOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly ttlSeconds: number;
  readonly work: LeasedWork;
}

export class LeaseLoop {
  readonly #options: LeaseLoopOptions;
  #lease: Lease | null = null;
  #timer: Timer | null = null;
  #working: Promise<void> | null = null;
  #backOffMs = RECONNECT_MIN_MS;
  #state: 'new' | 'running' | 'stopped' = 'new';

  constructor(options: LeaseLoopOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  start(): void {
    assert(this.#state === 'new', 'a loop is started once');
    this.#state = 'running';
    this.#schedule(0);
  }

  /** The next turn comes now. */
  wake(): void {
    if (this.running) this.#schedule(0);
  }

  /** Ends the loop and takes away what was published, if the store can be reached. */
  async stop(): Promise<void> {
    this.#state = 'stopped';
    this.#timer?.cancel();
    this.#timer = null;
    await this.#working;
    const lease = this.#lease;
    this.#lease = null;
    await lease?.revoke().catch(() => {}); // else it expires
  }

  /** The lease held, granted now if there is none. */
  async lease(): Promise<Lease> {
    const { store, ttlSeconds } = this.#options;
    this.#lease ??= await store.grantLease(ttlSeconds);
    return this.#lease;
  }

  #schedule(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => {
      this.#timer = null;
      if (this.#working !== null) return; // it schedules the next turn itself
      this.#working = this.#turn().finally(() => {
        this.#working = null;
      });
    });
  }

  async #turn(): Promise<void> {
    const { ttlSeconds, work } = this.#options;
    let next: number;
    try {
      if (this.#lease !== null && !(await this.#lease.keepAlive())) this.#forget();
      const settled = await work.publish(this);
      this.#backOffMs = RECONNECT_MIN_MS;
      next = settled ? (ttlSeconds * 1000) / 3 : 0;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      // A put with a lease that is gone: begin again with a fresh one.
      if (thrown.code === 'NOT_FOUND' || thrown.code === 'WRONG_CLUSTER') this.#forget();
      work.failed(thrown);
      next = this.#backOffMs;
      this.#backOffMs = Math.min(this.#backOffMs * 2, RECONNECT_MAX_MS);
    }
    if (this.running) this.#schedule(next);
  }

  #forget(): void {
    this.#lease = null;
    this.#options.work.lost();
  }
}
