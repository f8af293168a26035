/**
 * One replica's state and the rules of the protocol's table as a pure function: decide(state,
 * request) → verdict. The store (disk-store.ts) carries verdicts out and changes the state; nothing
 * here does I/O.
 *
 * INVARIANT: STALE is checked before anything else, so that a fenced owner learns it from any
 * answer.
 */
import { assert } from '../core/assert.js';
import { PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import type { Segment } from './replica-state.js';
import type { InventoryEntry, Request, StatusName } from './wire/messages.js';

/** Ends of the most recent batches of a segment whose chain crcs are held in memory. */
const RECENT_BATCHES = 512;

/** What to do with a request: answer at once, or carry it out. */
export type Verdict =
  | { readonly act: 'answer'; readonly status: StatusName }
  /** Journal it and answer when durable. */
  | { readonly act: 'commit' }
  /** It was carried out before: answer when that is durable. */
  | { readonly act: 'again' }
  /** Ask the metadata store before anything is touched. */
  | { readonly act: 'confirm' }
  | { readonly act: 'read' };

const answer = (status: StatusName): Verdict => ({ act: 'answer', status });
const OK = answer('OK');
const STALE = answer('STALE');
const SEALED = answer('SEALED');
const GAP = answer('GAP');
const UNKNOWN = answer('UNKNOWN');
const SUSPECT = answer('SUSPECT');
const DELETED = answer('DELETED');
const REFUSED = answer('REFUSED');
const COMMIT: Verdict = { act: 'commit' };
const AGAIN: Verdict = { act: 'again' };
const CONFIRM: Verdict = { act: 'confirm' };
const READ: Verdict = { act: 'read' };

type OnSegment = Exclude<Request, { type: 'inventory' | 'status' }>;
type Of<T extends OnSegment['type']> = Extract<OnSegment, { type: T }>;

/** The table of DESIGN.md §4. The disk's incarnation and health were checked before. */
export function decide(state: Segment | undefined, request: OnSegment): Verdict {
  if ('volume' in request && state !== undefined && state.volume !== request.volume) {
    return REFUSED;
  }
  switch (request.type) {
    case 'create':
      return state === undefined ? COMMIT : decideCreate(state, request);
    case 'append':
      return state === undefined ? UNKNOWN : decideAppend(state, request);
    case 'ping':
      return state === undefined ? UNKNOWN : decidePing(state, request);
    case 'fence':
      return state === undefined ? COMMIT : decideFence(state, request);
    case 'recover':
      return state === undefined ? UNKNOWN : decideRecover(state, request);
    case 'read':
      return state === undefined ? UNKNOWN : decideRead(state, request.page + request.count);
    case 'locate':
      return state === undefined ? UNKNOWN : decideRead(state, request.page + 1);
    case 'seal':
      return state === undefined ? UNKNOWN : decideSeal(state, request);
    case 'copy':
      return CONFIRM;
    case 'delete':
    case 'drop':
      return state?.deleted ? AGAIN : CONFIRM;
  }
}

function decideCreate(state: Segment, request: Of<'create'>): Verdict {
  if (request.epoch < state.maxEpoch) return STALE;
  if (state.deleted) return DELETED;
  if (!state.hasCreate || state.createEpoch !== request.epoch) return STALE;
  return state.suspect ? SUSPECT : AGAIN;
}

function decideAppend(state: Segment, request: Of<'append'>): Verdict {
  if (request.epoch < state.maxEpoch) return STALE;
  if (state.deleted) return DELETED;
  if (!state.hasCreate) return UNKNOWN;
  if (request.epoch !== state.createEpoch) return STALE;
  if (state.sealed || state.frozen) return SEALED;
  if (state.suspect) return SUSPECT;
  if (request.offset > state.acceptedLength) return GAP;
  return request.offset < state.acceptedLength ? OK : COMMIT;
}

/** A suspect replica may have lost a FENCE as well as bytes, so it promises nothing. */
function decidePing(state: Segment, request: Of<'ping'>): Verdict {
  if (request.epoch < state.maxEpoch) return STALE;
  if (state.deleted) return DELETED;
  if (!state.hasCreate) return UNKNOWN;
  return state.suspect ? SUSPECT : OK;
}

function decideFence(state: Segment, request: Of<'fence'>): Verdict {
  if (request.epoch < state.maxEpoch) return STALE;
  return state.deleted ? DELETED : COMMIT;
}

function decideRecover(state: Segment, request: Of<'recover'>): Verdict {
  if (request.epoch < state.maxEpoch) return STALE;
  if (state.deleted) return DELETED;
  // Only a FENCE raises maxEpoch: whoever recovers without one does not follow the protocol.
  if (request.epoch > state.maxEpoch || request.createEpoch > request.epoch) return REFUSED;
  if (state.hasCreate && state.createEpoch !== request.createEpoch) return REFUSED;
  if (state.sealed || state.frozen) return SEALED;
  return request.offset > state.acceptedLength ? GAP : COMMIT;
}

function decideRead(state: Segment, endPage: number): Verdict {
  if (state.deleted) return DELETED;
  if (!state.hasCreate) return UNKNOWN;
  return endPage * PAGE_BYTES > state.durableLength ? GAP : READ;
}

function decideSeal(state: Segment, request: Of<'seal'>): Verdict {
  if (state.deleted) return DELETED;
  if (!state.hasCreate && request.end > 0) return UNKNOWN;
  if (!state.sealed) return CONFIRM;
  const same = state.durableLength === request.end && state.durableCrc === request.crc;
  return same ? AGAIN : REFUSED;
}

/** Notes a batch that was accepted: it ends at `end`, where the chain's crc is `crc`. */
export function noteAccepted(state: Segment, end: SegmentOffset, crc: number): void {
  assert(end > state.acceptedLength, 'a batch is longer than nothing');
  state.acceptedLength = end;
  state.acceptedCrc = crc;
  if (state.recentEnds.length >= RECENT_BATCHES) {
    state.recentEnds.splice(0, RECENT_BATCHES / 2);
    state.recentCrcs.splice(0, RECENT_BATCHES / 2);
  }
  state.recentEnds.push(end);
  state.recentCrcs.push(crc);
}

/** Forgets what was accepted from `length` on. */
export function retreat(state: Segment, length: SegmentOffset, crc: number): void {
  assert(length >= state.durableLength, 'what is durable is never forgotten');
  state.acceptedLength = length;
  state.acceptedCrc = crc;
  while ((state.recentEnds.at(-1) ?? 0) > length) {
    state.recentEnds.pop();
    state.recentCrcs.pop();
  }
}

/** The chain's crc at a batch boundary: null if not known here, undefined if it is no boundary. */
export function recentCrc(state: Segment, end: SegmentOffset): number | null | undefined {
  if (end === 0) return 0;
  if (end === state.acceptedLength) return state.acceptedCrc;
  if (end === state.durableLength) return state.durableCrc;
  const ends = state.recentEnds;
  const oldest = ends[0];
  if (oldest === undefined || end < oldest) return null;
  const at = ends.lastIndexOf(end);
  return at < 0 ? undefined : state.recentCrcs[at];
}

export function suspectFrom(state: Segment): SegmentOffset | null {
  return state.suspect ? state.durableLength : null;
}

export function inventoryEntry(state: Segment): InventoryEntry {
  const kind = state.durable.deleted
    ? 'deleted'
    : state.durable.sealed
      ? 'sealed'
      : state.durable.hasCreate
        ? 'open'
        : 'tombstone';
  return {
    segment: state.id,
    volume: state.volume,
    createEpoch: state.createEpoch,
    maxEpoch: state.durable.maxEpoch,
    length: state.durableLength,
    state: kind,
    crc: state.durableCrc,
    suspectFrom: suspectFrom(state),
  };
}
