/**
 * One leader for a role (the controller), by a key bound to a lease. `leading` ends before the
 * lease can, counted on the monotonic clock from when its last renewal was sent. That is still only
 * a hint, as a process may be paused between looking and acting: what a leader writes must carry
 * `guard` in its comparisons, which fails once another leader has been elected.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { LEASE_TTL_SECONDS, RECONNECT_MAX_MS } from '../core/limits.js';
import type { Clock, Timer } from '../io/clock.js';
import { leaderKey } from './keys.js';
import type { Compare, Lease, MetadataStore } from './store.js';
import { absent } from './volumes.js';

export interface LeaderElectionOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly role: string;
  /** Unique to this process's attempt: another candidate must never have the same. */
  readonly candidate: string;
  readonly ttlSeconds?: number;
  readonly onChange: (leading: boolean) => void;
}

/** The part of the lease that is used; the rest covers clocks that run apart. */
const SAFE_FRACTION = 0.8;

export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  readonly #key: string;
  readonly #ttlMs: number;
  #lease: Lease | null = null;
  #guard: Compare | null = null;
  #validUntil = Number.NEGATIVE_INFINITY;
  #expiry: Timer | null = null;
  #timer: Timer | null = null;
  #working: Promise<void> | null = null;
  #told = false;
  #stopped = false;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#key = leaderKey(options.role);
    this.#ttlMs = (options.ttlSeconds ?? LEASE_TTL_SECONDS) * 1000;
  }

  get leading(): boolean {
    return this.#guard !== null && this.#options.clock.monotonic() < this.#validUntil;
  }

  /** To be added to the comparisons of everything that the leader writes. Asserts `leading`. */
  get guard(): Compare {
    assert(this.leading && this.#guard !== null, 'only the leader has a guard');
    return this.#guard;
  }

  start(): void {
    assert(this.#timer === null && !this.#stopped, 'an election is started once');
    this.#schedule(0);
  }

  /** Steps down and lets others lead at once, if the store can be reached. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#stepDown();
    await this.#working;
    this.#stepDown();
    const lease = this.#lease;
    this.#lease = null;
    await lease?.revoke().catch(() => {}); // else it expires
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.after(ms, () => {
      this.#working = this.#turn();
    });
  }

  async #turn(): Promise<void> {
    let next = this.#ttlMs / 3;
    const begunAt = this.#options.clock.monotonic();
    try {
      if (this.#lease !== null) await this.#renew(this.#lease);
      if (this.#lease === null || this.#guard === null) await this.#campaign(begunAt);
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      if (thrown.code === 'NOT_FOUND') this.#lease = null;
      next = Math.min(RECONNECT_MAX_MS, next);
    }
    this.#schedule(next);
  }

  async #renew(lease: Lease): Promise<void> {
    const sentAt = this.#options.clock.monotonic();
    if (!(await lease.keepAlive())) this.#lease = null;
    const guard = this.#guard;
    if (this.#lease !== null && guard !== null) {
      // An import takes the key away, and leaves the lease.
      const { entry } = await this.#options.store.get(this.#key);
      if (entry?.modRevision === guard.modRevision) {
        this.#lead(sentAt, guard);
        return;
      }
    }
    this.#stepDown();
  }

  /**
   * Tries to take the key; also finds that an earlier try, whose outcome was unknown, took it. The
   * lease was granted or renewed after `begunAt`.
   */
  async #campaign(begunAt: number): Promise<void> {
    const { store, clock, candidate } = this.#options;
    const { entry } = await store.get(this.#key);
    if (entry !== null) {
      if (entry.value !== candidate || this.#lease === null) return;
      const sentAt = clock.monotonic();
      const guard = { key: this.#key, modRevision: entry.modRevision };
      if (await this.#lease.keepAlive()) this.#lead(sentAt, guard);
      else this.#lease = null;
      return;
    }
    this.#lease ??= await store.grantLease(this.#ttlMs / 1000);
    const result = await store.transact(
      [absent(this.#key)],
      [{ type: 'put', key: this.#key, value: candidate, lease: this.#lease.id }],
    );
    if (result.committed) this.#lead(begunAt, { key: this.#key, modRevision: result.revision });
  }

  #lead(sentAt: number, guard: Compare): void {
    if (this.#stopped) return;
    const { clock } = this.#options;
    this.#guard = guard;
    this.#validUntil = sentAt + this.#ttlMs * SAFE_FRACTION;
    this.#expiry?.cancel();
    this.#expiry = clock.after(Math.max(0, this.#validUntil - clock.monotonic()), () => {
      this.#tell(this.leading);
    });
    this.#tell(this.leading);
  }

  #stepDown(): void {
    this.#guard = null;
    this.#expiry?.cancel();
    this.#expiry = null;
    this.#tell(false);
  }

  #tell(leading: boolean): void {
    if (leading === this.#told) return;
    this.#told = leading;
    this.#options.onChange(leading);
  }
}
