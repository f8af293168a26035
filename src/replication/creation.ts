/**
 * Brings planned segments into being: sends their CREATEs, again and again, and says when a segment
 * may be registered (ackQuorum replicas have it durably) or should be given up for another group.
 * Used for the fresh segments of a takeover and for spares; nothing on the write path waits here.
 *
 * INVARIANT: CREATE is sent only for segments that the volume record holds as planned, so none
 * leaks.
 */
import { assert } from '../core/assert.js';
import type { Incarnation, NodeId, SegmentId } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import type { PlannedSegment, Replica } from '../metadata/model.js';
import type { Directory } from './directory.js';

export interface CreationConfig {
  readonly ackQuorum: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** How long replicas that have not answered may hold up a segment whose quorum is there. */
  readonly graceMs: number;
  /**
   * How long a segment may lack its quorum before it should be given up; doubled by each one in a
   * row that was, since what is given up leaves a tombstone on every disk that had it.
   */
  readonly replanMs: number;
}

const REPLAN_DOUBLINGS = 7;

interface Copy {
  created: boolean;
  inFlight: boolean;
  failures: number;
  /** When CREATE is to be sent (again). */
  dueAt: number;
}

export interface Creating {
  readonly planned: PlannedSegment;
  readonly since: Monotonic;
  readonly copies: Copy[];
  quorumAt: Monotonic | null;
}

export interface CreationState {
  config: CreationConfig;
  readonly segments: Creating[];
  /** Segments in a row that were given up without their quorum. */
  givenUp: number;
}

export type CreationEvent =
  | { readonly type: 'planned'; readonly planned: PlannedSegment; readonly now: Monotonic }
  | {
      readonly type: 'answer';
      readonly segment: SegmentId;
      readonly replica: number;
      /** OK of the right incarnation; false for anything else, or no answer. */
      readonly created: boolean;
      readonly now: Monotonic;
    }
  /** The volume's ack quorum is another one from now on. */
  | { readonly type: 'quorum'; readonly ackQuorum: number; readonly now: Monotonic }
  /** Registered or given up: no more CREATEs. */
  | { readonly type: 'forget'; readonly segment: SegmentId }
  | { readonly type: 'tick'; readonly now: Monotonic };

export interface SendCreate {
  readonly type: 'create';
  readonly planned: PlannedSegment;
  readonly replica: number;
}

export function newCreation(config: CreationConfig): CreationState {
  return { config, segments: [], givenUp: 0 };
}

export function stepCreation(state: CreationState, event: CreationEvent): SendCreate[] {
  switch (event.type) {
    case 'planned': {
      const { planned, now } = event;
      assert(find(state, planned.segment) === null, 'a segment is planned once');
      const copies = planned.replicas.map(
        (): Copy => ({ created: false, inFlight: false, failures: 0, dueAt: now }),
      );
      state.segments.push({ planned, since: now, copies, quorumAt: null });
      return due(state, now);
    }
    case 'answer':
      answer(state, event);
      return [];
    case 'forget': {
      const at = state.segments.findIndex((one) => one.planned.segment === event.segment);
      const [forgotten] = at >= 0 ? state.segments.splice(at, 1) : [];
      if (forgotten !== undefined)
        state.givenUp = forgotten.quorumAt === null ? state.givenUp + 1 : 0;
      return [];
    }
    case 'quorum':
      state.config = { ...state.config, ackQuorum: event.ackQuorum };
      for (const creating of state.segments) {
        creating.quorumAt = hasQuorum(state, creating) ? (creating.quorumAt ?? event.now) : null;
      }
      return [];
    case 'tick':
      return due(state, event.now);
  }
}

function answer(state: CreationState, event: Extract<CreationEvent, { type: 'answer' }>): void {
  const creating = find(state, event.segment);
  if (creating === null) return;
  const copy = creating.copies[event.replica];
  assert(copy !== undefined, 'an answer of a replica of the segment');
  copy.inFlight = false;
  if (event.created) {
    copy.created = true;
  } else {
    copy.failures += 1;
    const { retryMinMs, retryMaxMs } = state.config;
    copy.dueAt = event.now + Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(copy.failures, 10));
  }
  if (creating.quorumAt === null && hasQuorum(state, creating)) creating.quorumAt = event.now;
}

function due(state: CreationState, now: Monotonic): SendCreate[] {
  const effects: SendCreate[] = [];
  for (const { planned, copies } of state.segments) {
    for (const [replica, copy] of copies.entries()) {
      if (copy.created || copy.inFlight || copy.dueAt > now) continue;
      copy.inFlight = true;
      effects.push({ type: 'create', planned, replica });
    }
  }
  return effects;
}

function find(state: CreationState, segment: SegmentId): Creating | null {
  return state.segments.find((one) => one.planned.segment === segment) ?? null;
}

/** ackQuorum replicas hold the segment durably: it may take acknowledged appends. */
function hasQuorum(state: CreationState, creating: Creating): boolean {
  return creating.copies.filter((copy) => copy.created).length >= state.config.ackQuorum;
}

/** How many replicas have said that they hold it; 0 of one that is not being created. */
export function createdCopies(state: CreationState, segment: SegmentId): number {
  return find(state, segment)?.copies.filter((copy) => copy.created).length ?? 0;
}

/**
 * May be registered now: the quorum is there and the others have answered, failed or had their
 * time.
 */
export function isReady(state: CreationState, segment: SegmentId, now: Monotonic): boolean {
  const creating = find(state, segment);
  if (creating === null || creating.quorumAt === null) return false;
  if (now >= creating.quorumAt + state.config.graceMs) return true;
  return creating.copies.every((copy) => copy.created || copy.failures > 0);
}

/** Has lacked its quorum for too long: another group may do better. */
export function isHopeless(state: CreationState, segment: SegmentId, now: Monotonic): boolean {
  const creating = find(state, segment);
  if (creating === null || creating.quorumAt !== null) return false;
  return now >= creating.since + replanMs(state);
}

function replanMs({ config, givenUp }: CreationState): number {
  return config.replanMs * 2 ** Math.min(givenUp, REPLAN_DOUBLINGS);
}

/**
 * Whether CREATEs of `replicas` promise more copies than `segment` has. Where they do not, nothing
 * is won by giving it up: its own CREATEs are sent again and again.
 */
export function promisesMore(
  state: CreationState,
  segment: SegmentId,
  replicas: readonly Replica[],
  directory: Pick<Directory, 'isLive'>,
): boolean {
  const failing = new Set<Incarnation>();
  for (const { planned, copies } of state.segments) {
    for (const [index, { incarnation }] of planned.replicas.entries()) {
      if (copies[index]?.created === false) failing.add(incarnation);
    }
  }
  const promised = replicas.filter(
    ({ node, incarnation }) => directory.isLive(node) && !failing.has(incarnation),
  );
  return promised.length > createdCopies(state, segment);
}

/** Nodes that have not answered a CREATE with OK: better not chosen for the next segment. */
export function failingNodes(state: CreationState): Set<NodeId> {
  const nodes = new Set<NodeId>();
  for (const { planned, copies } of state.segments) {
    for (const [index, replica] of planned.replicas.entries()) {
      const copy = copies[index];
      if (copy !== undefined && !copy.created) nodes.add(replica.node);
    }
  }
  return nodes;
}

/**
 * When the driver must call with a tick; Infinity when it need not. Moments that are over are no
 * reason.
 */
export function creationDeadline(state: CreationState, now: Monotonic): number {
  const { graceMs } = state.config;
  let earliest = Number.POSITIVE_INFINITY;
  for (const { since, copies, quorumAt } of state.segments) {
    for (const copy of copies) {
      if (!copy.created && !copy.inFlight) earliest = Math.min(earliest, copy.dueAt);
    }
    const verdictAt = quorumAt === null ? since + replanMs(state) : quorumAt + graceMs;
    if (verdictAt > now) earliest = Math.min(earliest, verdictAt);
  }
  return earliest;
}
