/**
 * The read lease: whether this owner may answer reads right now. Each OK to APPEND or PING promises
 * that the replica will not answer a higher epoch's FENCE for L; with ackQuorum such promises on
 * the current segment no taker can have R answers, so nobody else can have acknowledged anything
 * newer.
 *
 * INVARIANT: a grant counts from the moment its request was sent, only for the segment that is
 * current, and only for 0.9 L; so a pause of this process, a slow reply or a fast clock can only
 * shorten it.
 */
import { assert } from '../core/assert.js';
import type { SegmentId } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import { reachedBy } from './quorum.js';

export interface LeaseConfig {
  readonly ackQuorum: number;
  readonly leaseMs: number;
  readonly safeFraction: number;
  /** Between PINGs while a read waits for its lease. */
  readonly retryMs: number;
}

export interface LeaseState {
  readonly config: LeaseConfig;
  segment: SegmentId | null;
  /** Per replica of the current segment: when the newest granted request was sent; 0 is never. */
  grants: number[];
  validUntil: Monotonic;
  /** Reads wait for the lease. */
  wanted: boolean;
  /** When PINGs were last sent; null when they may be sent at once. */
  pingedAt: Monotonic | null;
}

export type LeaseEvent =
  /** The owner writes in another segment from now on (null: it has stopped). */
  | { readonly type: 'current'; readonly segment: SegmentId | null; readonly replicas: number }
  /** OK to an APPEND or PING of the right incarnation, which had been sent at `sentAt`. */
  | {
      readonly type: 'granted';
      readonly segment: SegmentId;
      readonly replica: number;
      readonly sentAt: Monotonic;
      readonly now: Monotonic;
    }
  | { readonly type: 'wanted'; readonly now: Monotonic }
  /** A read starts under a running lease. */
  | { readonly type: 'used'; readonly now: Monotonic }
  | { readonly type: 'tick'; readonly now: Monotonic };

export type LeaseEffect =
  /** Ask every replica of the current segment. */
  | { readonly type: 'ping'; readonly segment: SegmentId }
  /** The lease runs: waiting reads may go on. */
  | { readonly type: 'acquired' };

const NEVER = 0 as Monotonic;

export function newLease(config: LeaseConfig): LeaseState {
  assert(config.safeFraction < 1, 'the owner stops before the replicas do');
  return { config, segment: null, grants: [], validUntil: NEVER, wanted: false, pingedAt: null };
}

/** The one test before a read starts and again before it is answered. */
export function leaseHolds(state: LeaseState, now: Monotonic): boolean {
  return state.segment !== null && now < state.validUntil;
}

/**
 * Only a grant on the segment that is current counts: a frozen one is no longer fenced against us.
 */
function grantCounts(state: LeaseState, segment: SegmentId): boolean {
  return state.segment === segment;
}

/** Until when ackQuorum grants hold: 0.9 L after the send time of the oldest one needed. */
export function leaseEnd(config: LeaseConfig, grants: readonly number[]): Monotonic {
  const sentAt = reachedBy(config.ackQuorum, grants);
  return sentAt === 0 ? NEVER : ((sentAt + config.leaseMs * config.safeFraction) as Monotonic);
}

/** When the driver must call with a tick; Infinity when it need not. */
export function leaseDeadline(state: LeaseState): number {
  if (!state.wanted || state.segment === null) return Number.POSITIVE_INFINITY;
  return state.pingedAt === null ? 0 : state.pingedAt + state.config.retryMs;
}

export function stepLease(state: LeaseState, event: LeaseEvent): LeaseEffect[] {
  switch (event.type) {
    case 'current':
      state.segment = event.segment;
      state.grants = new Array<number>(event.replicas).fill(0);
      state.validUntil = NEVER;
      state.pingedAt = null;
      return [];
    case 'granted':
      return granted(state, event);
    case 'wanted':
      if (leaseHolds(state, event.now)) return [{ type: 'acquired' }];
      state.wanted = true;
      return ping(state, event.now);
    case 'used':
      return leaseIsWarm(state, event.now) ? [] : ping(state, event.now);
    case 'tick':
      return state.wanted ? ping(state, event.now) : [];
  }
}

function granted(
  state: LeaseState,
  event: Extract<LeaseEvent, { type: 'granted' }>,
): LeaseEffect[] {
  if (!grantCounts(state, event.segment)) return [];
  const before = state.grants[event.replica];
  assert(before !== undefined, 'a grant of a replica of the current segment');
  if (event.sentAt <= before) return [];
  state.grants[event.replica] = event.sentAt;
  state.validUntil = leaseEnd(state.config, state.grants);
  if (!state.wanted || !leaseHolds(state, event.now)) return [];
  state.wanted = false;
  return [{ type: 'acquired' }];
}

/** More than half of the lease is left: no need to ask for more. */
export function leaseIsWarm(state: LeaseState, now: Monotonic): boolean {
  const { leaseMs, safeFraction } = state.config;
  return state.validUntil - now > (leaseMs * safeFraction) / 2;
}

function ping(state: LeaseState, now: Monotonic): LeaseEffect[] {
  if (state.segment === null) return [];
  if (state.pingedAt !== null && now < state.pingedAt + state.config.retryMs) return [];
  state.pingedAt = now;
  return [{ type: 'ping', segment: state.segment }];
}
