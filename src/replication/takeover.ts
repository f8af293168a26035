/**
 * Takeover, from the landed epoch swap to the point where the final swap may be sent: fences every
 * open segment, decides where they end (takeover-rules.ts), and completes the kept prefixes on
 * ackQuorum replicas (recovery.ts), in rounds: whatever fails on the way, a new round decides again
 * from fresh answers. Nothing is decided for good before the final swap; see ARCHITECTURE.md,
 * "Taking over".
 *
 * Answers carry the round they were asked in; those of older rounds count for nothing.
 */
import type { Reply } from '../block/wire/messages.js';
import { assert, present, unreachable } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import type { Epoch, Lsn, Monotonic } from '../core/units.js';
import type { OpenSegment } from '../metadata/model.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import { answersFor } from './quorum.js';
import {
  beginRecovery,
  type Recovery,
  type RecoveryEffect,
  type RecoveryEvent,
  stepRecovery,
} from './recovery.js';
import {
  decideEnds,
  decideWithLoss,
  type End,
  type Fenced,
  fencedOf,
  type SaidLengths,
} from './takeover-rules.js';

export interface TakeoverConfig {
  readonly volume: VolumeId;
  readonly ackQuorum: number;
  /** The epoch that the first swap claimed. */
  readonly epoch: Epoch;
  /** The open segments of older epochs, in log order. */
  readonly open: readonly OpenSegment[];
  /** The LSN at which the first of them begins; null when only its header can tell. */
  readonly baseLsn: Lsn | null;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /**
   * Replicas that have not answered `afterMs` after a round began are given up, with whatever only
   * they have, once those that answered have what was `said` to stay; null: they are waited for, as
   * they must be unless somebody decides otherwise.
   */
  readonly acceptLoss: AcceptLoss | null;
}

export interface AcceptLoss {
  readonly afterMs: number;
  readonly said: SaidLengths;
}

/** Asking one replica of one open segment. */
interface Slot {
  fenced: Fenced | null;
  inFlight: boolean;
  failures: number;
  dueAt: number;
  /** Its bytes could not be read in the last round: this round decides without it. */
  readonly excluded: boolean;
}
/** Per open segment, per replica. */
type Slots = readonly (readonly Slot[])[];

export type TakeoverEnd =
  | SegmentEnd
  | { readonly segment: OpenSegment['segment']; abandoned: true };

export type TakeoverPhase =
  /**
   * From `restartAt` on, a round that leaves replicas out gives way to one that asks them again.
   */
  | {
      readonly type: 'fencing';
      readonly slots: Slots;
      readonly restartAt: number;
      /** When silent replicas are given up; Infinity once they are. */
      lossAt: number;
      lossy: boolean;
      why: string;
    }
  | {
      readonly type: 'recovering';
      readonly slots: Slots;
      readonly ends: readonly End[];
      readonly done: SegmentEnd[];
      /** Decided without those that were silent: whoever answered has to do. */
      readonly lossy: boolean;
      recovery: Recovery;
    }
  /** A round has failed; the next begins at `at`. */
  | { readonly type: 'resting'; readonly at: number; readonly unreadable: Unreadable | null }
  /** A replica showed what only a newer owner, or damage, can explain: the record is read again. */
  | { readonly type: 'doubting' }
  | { readonly type: 'recovered'; readonly ends: readonly TakeoverEnd[] }
  | { readonly type: 'halted' };

interface Unreadable {
  readonly index: number;
  readonly replicas: readonly number[];
}

export interface TakeoverState {
  readonly config: TakeoverConfig;
  round: number;
  phase: TakeoverPhase;
}

export type TakeoverEvent =
  | { readonly type: 'start'; readonly now: Monotonic }
  | {
      readonly type: 'fence-answer';
      readonly round: number;
      readonly index: number;
      readonly replica: number;
      /** Null when no answer came. */
      readonly reply: Reply | null;
      readonly now: Monotonic;
    }
  | {
      readonly type: 'recovery';
      readonly round: number;
      readonly index: number;
      readonly event: RecoveryEvent;
      readonly now: Monotonic;
    }
  | { readonly type: 'tick'; readonly now: Monotonic };

export type TakeoverEffect =
  | {
      readonly type: 'fence';
      readonly round: number;
      readonly index: number;
      readonly replica: number;
    }
  | {
      readonly type: 'recovery';
      readonly round: number;
      readonly index: number;
      readonly effect: Extract<RecoveryEffect, { type: 'read' | 'heads' | 'recover' }>;
    }
  /** Read the record: a higher epoch there means FENCED, else the log is INCONSISTENT. */
  | { readonly type: 'doubt'; readonly why: string }
  | { readonly type: 'halt'; readonly reason: HoldfastError }
  /** For the operator: a round failed. */
  | { readonly type: 'again'; readonly why: string }
  | { readonly type: 'recovered'; readonly ends: readonly TakeoverEnd[] };

export function newTakeover(config: TakeoverConfig): TakeoverState {
  return { config, round: 0, phase: { type: 'resting', at: 0, unreadable: null } };
}

/** When the driver must call with a tick; Infinity when it need not. */
export function takeoverDeadline(state: TakeoverState): number {
  const { phase } = state;
  if (phase.type === 'resting') return phase.at;
  if (phase.type !== 'fencing') return Number.POSITIVE_INFINITY;
  let earliest = Math.min(phase.restartAt, phase.lossAt);
  for (const [index, slots] of phase.slots.entries()) {
    for (const slot of slots) {
      if (wantsFence(slot, index)) earliest = Math.min(earliest, slot.dueAt);
    }
  }
  return earliest;
}

export function stepTakeover(state: TakeoverState, event: TakeoverEvent): TakeoverEffect[] {
  switch (event.type) {
    case 'start':
      return beginRound(state, null, event.now);
    case 'fence-answer':
      return event.round === state.round ? fenceAnswer(state, event) : [];
    case 'recovery':
      return recoveryAnswer(state, event);
    case 'tick':
      return tick(state, event.now);
    default:
      return unreachable(event);
  }
}

function tick(state: TakeoverState, now: Monotonic): TakeoverEffect[] {
  const { phase } = state;
  if (phase.type === 'fencing') {
    if (now >= phase.lossAt) {
      phase.lossAt = Number.POSITIVE_INFINITY;
      phase.lossy = true;
      const effects = decide(state, phase.slots, now);
      if (state.phase !== phase) return effects;
    }
    if (now >= phase.restartAt) return beginRound(state, null, now);
    return sendFences(state, phase.slots, now);
  }
  if (phase.type !== 'resting' || now < phase.at) return [];
  return beginRound(state, phase.unreadable, now);
}

function beginRound(
  state: TakeoverState,
  unreadable: Unreadable | null,
  now: Monotonic,
): TakeoverEffect[] {
  const { open } = state.config;
  state.round += 1;
  const slots = open.map((segment, index) =>
    segment.replicas.map((_, replica): Slot => {
      const excluded = unreadable?.index === index && unreadable.replicas.includes(replica);
      return { fenced: null, inFlight: false, failures: 0, dueAt: now, excluded };
    }),
  );
  const leavesOut = slots.some((ofSegment) => ofSegment.some((slot) => slot.excluded));
  const restartAt = leavesOut ? now + 2 * state.config.retryMaxMs : Number.POSITIVE_INFINITY;
  const lossAt = now + (state.config.acceptLoss?.afterMs ?? Number.POSITIVE_INFINITY);
  const why = 'no answers yet';
  state.phase = { type: 'fencing', slots, restartAt, lossAt, lossy: false, why };
  // A volume that never was open has nothing to fence.
  return open.length === 0 ? decide(state, slots, now) : sendFences(state, slots, now);
}

/** A spare whose bytes are there and whose header could not be read is asked again. */
function wantsFence(slot: Slot, index: number): boolean {
  if (slot.inFlight) return false;
  if (slot.fenced === null) return true;
  return index > 0 && slot.fenced.durableLength > 0 && slot.fenced.header === null;
}

function sendFences(state: TakeoverState, slots: Slots, now: Monotonic): TakeoverEffect[] {
  const effects: TakeoverEffect[] = [];
  for (const [index, ofSegment] of slots.entries()) {
    for (const [replica, slot] of ofSegment.entries()) {
      if (!wantsFence(slot, index) || slot.dueAt > now) continue;
      slot.inFlight = true;
      effects.push({ type: 'fence', round: state.round, index, replica });
    }
  }
  return effects;
}

function fenceAnswer(
  state: TakeoverState,
  event: Extract<TakeoverEvent, { type: 'fence-answer' }>,
): TakeoverEffect[] {
  const { phase, config } = state;
  if (phase.type !== 'fencing' && phase.type !== 'recovering') return [];
  const segment = present(config.open[event.index], 'an answer for an open segment');
  const replica = present(segment.replicas[event.replica], 'an answer of one of its replicas');
  const slot = present(phase.slots[event.index]?.[event.replica], 'an answer that was asked for');
  const { reply } = event;
  slot.inFlight = false;
  slot.failures += 1;
  const { retryMinMs, retryMaxMs } = config;
  slot.dueAt = event.now + Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(slot.failures - 1, 10));
  // Another disk's answer, whatever it says, is neither evidence nor a negative.
  if (reply === null || !answersFor(replica, reply)) return [];
  const why = doubtful(segment, reply, config.epoch);
  if (why !== null) return doubt(state, why);
  if (reply.status !== 'OK') return [];
  slot.fenced = fencedOf(config.volume, segment, reply);
  return phase.type === 'fencing' ? decide(state, phase.slots, event.now) : [];
}

/**
 * What no replica can say while this epoch is the highest and the segment open in the record: nodes
 * seal and delete only what the record has sealed or listed, and fence only for an epoch that was
 * claimed.
 */
function doubtful(segment: OpenSegment, reply: Reply, epoch: Epoch): string | null {
  const what = `segment ${segment.segment}`;
  if (reply.maxEpoch > epoch) return `${what} is fenced at epoch ${reply.maxEpoch}`;
  const sealed = reply.body?.type === 'fence' && reply.body.sealed;
  if (sealed || reply.status === 'SEALED') return `${what} is sealed on a replica`;
  if (reply.status === 'DELETED') return `${what} is deleted on a replica`;
  return null;
}

function doubt(state: TakeoverState, why: string): TakeoverEffect[] {
  state.phase = { type: 'doubting' };
  return [{ type: 'doubt', why }];
}

function halt(state: TakeoverState, reason: HoldfastError): TakeoverEffect[] {
  state.phase = { type: 'halted' };
  return [{ type: 'halt', reason }];
}

function evidence(slots: readonly Slot[]): Fenced[] {
  return slots.flatMap((slot) => (slot.fenced === null || slot.excluded ? [] : [slot.fenced]));
}

function decide(state: TakeoverState, slots: Slots, now: Monotonic): TakeoverEffect[] {
  const { open, ackQuorum, acceptLoss } = state.config;
  assert(state.phase.type === 'fencing', 'decides from fences');
  const said = state.phase.lossy ? (acceptLoss?.said ?? null) : null;
  const lossy = said !== null;
  const found = slots.map(evidence);
  const decision = lossy ? decideWithLoss(open, found, said) : decideEnds(open, found, ackQuorum);
  switch (decision.type) {
    case 'undecided':
      state.phase.why = decision.why;
      return [];
    case 'inconsistent':
      return halt(state, decision.reason);
    case 'decided':
      if (!lossy && !mayRecover(state, slots, decision.ends)) return [];
      return recoverNext(state, { slots, ends: decision.ends, lossy }, [], now);
    default:
      return unreachable(decision);
  }
}

/**
 * With a large ack quorum R answers decide sooner than there are replicas to hold what was decided:
 * beginning then would fail, round after round, whenever the same few answer first.
 */
function mayRecover(state: TakeoverState, slots: Slots, ends: readonly End[]): boolean {
  const { phase, config } = state;
  const lacking = ends.some(
    (end, index) => end.type === 'kept' && evidence(slots[index] ?? []).length < config.ackQuorum,
  );
  if (lacking && phase.type === 'fencing') phase.why = 'too few answers to hold what was decided';
  return !lacking;
}

type Decided = Pick<Extract<TakeoverPhase, { type: 'recovering' }>, 'slots' | 'ends' | 'lossy'>;

/** Completes the next kept segment, or ends with all of them. */
function recoverNext(
  state: TakeoverState,
  decided: Decided,
  done: SegmentEnd[],
  now: Monotonic,
): TakeoverEffect[] {
  const { config } = state;
  const { slots, ends, lossy } = decided;
  const index = done.length;
  const end = ends[index];
  if (end === undefined || end.type === 'abandoned') return recovered(state, ends, done);
  const segment = present(config.open[index], 'an end for each open segment');
  const before = done.at(-1)?.endLsn ?? config.baseLsn;
  const answered = evidence(slots[index] ?? []).length;
  const [recovery, effects] = beginRecovery({
    volume: config.volume,
    segment,
    ackQuorum: lossy ? Math.min(config.ackQuorum, answered) : config.ackQuorum,
    epoch: config.epoch,
    end: end.end,
    endLsn: end.endLsn,
    baseLsn: before,
    fenced: (slots[index] ?? []).map((slot) => (slot.excluded ? null : slot.fenced)),
  });
  state.phase = { type: 'recovering', ...decided, done, recovery };
  return follow(state, effects, now);
}

function recovered(
  state: TakeoverState,
  ends: readonly End[],
  done: readonly SegmentEnd[],
): TakeoverEffect[] {
  const all: TakeoverEnd[] = state.config.open.map((segment, index) => {
    if (ends[index]?.type === 'abandoned') return { segment: segment.segment, abandoned: true };
    return present(done[index], 'each kept segment was completed');
  });
  state.phase = { type: 'recovered', ends: all };
  return [{ type: 'recovered', ends: all }];
}

function recoveryAnswer(
  state: TakeoverState,
  event: Extract<TakeoverEvent, { type: 'recovery' }>,
): TakeoverEffect[] {
  const { phase } = state;
  if (event.round !== state.round || phase.type !== 'recovering') return [];
  if (event.index !== phase.done.length) return [];
  return follow(state, stepRecovery(phase.recovery, event.event), event.now);
}

function follow(
  state: TakeoverState,
  effects: readonly RecoveryEffect[],
  now: Monotonic,
): TakeoverEffect[] {
  const { phase, round } = state;
  assert(phase.type === 'recovering', 'effects of a recovery');
  const index = phase.done.length;
  const out: TakeoverEffect[] = [];
  for (const effect of effects) {
    switch (effect.type) {
      case 'read':
      case 'heads':
      case 'recover':
        out.push({ type: 'recovery', round, index, effect });
        break;
      case 'doubt':
        return doubt(state, effect.why);
      case 'halt':
        return halt(state, effect.reason);
      case 'failed':
        return rest(state, index, effect, now);
      case 'held':
        phase.done.push(effect.end);
        return [...out, ...recoverNext(state, phase, phase.done, now)];
      default:
        return unreachable(effect);
    }
  }
  return out;
}

/**
 * Ends the round: the next one decides from fresh answers, without the replicas that cannot be
 * read.
 */
function rest(
  state: TakeoverState,
  index: number,
  failed: Extract<RecoveryEffect, { type: 'failed' }>,
  now: Monotonic,
): TakeoverEffect[] {
  const { retryMinMs, retryMaxMs } = state.config;
  const at = now + Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(state.round - 1, 10));
  const unreadable = { index, replicas: failed.unreadable };
  state.phase = { type: 'resting', at, unreadable };
  return [{ type: 'again', why: failed.why }];
}

/** How far the takeover is, for people. */
export function takeoverStep(state: TakeoverState): string {
  const { phase } = state;
  if (phase.type === 'recovering' || phase.type === 'resting') return 'recover';
  return phase.type === 'recovered' ? 'register' : 'fence';
}
