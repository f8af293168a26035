/**
 * Which replica to ask first: an estimate of each disk's answering time, and a short memory of
 * those that failed. Only a hint: a wrong guess costs time, never correctness.
 */
import type { Incarnation } from '../core/ids.js';
import {
  READ_AVOID_LATE_MS,
  READ_AVOID_MS,
  READ_HEDGE_MAX_MS,
  READ_HEDGE_MIN_MS,
} from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Replica } from '../metadata/model.js';

/** Weight of the newest sample in the estimate. */
const WEIGHT = 0.1;
/**
 * An estimate loses half of its weight in this time, so that a slow disk is tried again some day.
 */
const HALF_LIFE_MS = 20_000;
/** How many times the usual answering time is late. */
const LATE_FACTOR = 4;

interface Health {
  latencyMs: number;
  sampledAt: number;
  avoidUntil: number;
}

export class ReaderHealth {
  readonly #clock: Clock;
  readonly #disks = new Map<Incarnation, Health>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The replicas, best first. Unknown ones count as fast, so that each is tried once. */
  rank(replicas: readonly Replica[]): Replica[] {
    if (replicas.length < 2) return [...replicas];
    const now = this.#clock.monotonic();
    return replicas
      .map((replica, index) => ({ replica, index, score: this.#score(replica.incarnation, now) }))
      .sort((a, b) => a.score - b.score || a.index - b.index)
      .map(({ replica }) => replica);
  }

  /** Milliseconds after which this replica's answer is late enough to ask another one. */
  lateAfter(replica: Replica): number {
    const usual = this.#disks.get(replica.incarnation)?.latencyMs ?? 0;
    return Math.min(READ_HEDGE_MAX_MS, Math.max(READ_HEDGE_MIN_MS, usual * LATE_FACTOR));
  }

  answered(replica: Replica, tookMs: number): void {
    const health = this.#of(replica);
    const first = health.sampledAt === 0;
    health.latencyMs += (tookMs - health.latencyMs) * (first ? 1 : WEIGHT);
    health.sampledAt = this.#clock.monotonic();
  }

  /**
   * Has not answered in time. One that hangs says nothing for as long as a request may take; each
   * read until then would wait for it first.
   */
  late(replica: Replica): void {
    const health = this.#of(replica);
    const until = this.#clock.monotonic() + READ_AVOID_LATE_MS;
    health.avoidUntil = Math.max(health.avoidUntil, until);
  }

  failed(replica: Replica): void {
    this.#of(replica).avoidUntil = this.#clock.monotonic() + READ_AVOID_MS;
  }

  #of(replica: Replica): Health {
    let health = this.#disks.get(replica.incarnation);
    if (health === undefined) {
      health = { latencyMs: 0, sampledAt: 0, avoidUntil: 0 };
      this.#disks.set(replica.incarnation, health);
    }
    return health;
  }

  #score(incarnation: Incarnation, now: number): number {
    const health = this.#disks.get(incarnation);
    if (health === undefined) return 0;
    const aged = health.latencyMs * 0.5 ** ((now - health.sampledAt) / HALF_LIFE_MS);
    return aged + (health.avoidUntil > now ? READ_AVOID_MS : 0);
  }
}
