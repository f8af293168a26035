/**
 * Completes the kept prefix of one fenced segment on ackQuorum replicas (DESIGN §4, takeover step
 * 5): walks the prefix batch by batch, verified, for its endLsn and crc, and on the way sends what
 * they lack to replicas that are shorter, until enough hold it.
 *
 * INVARIANT: only bytes that passed the chain walk are sent on, and a replica counts as a holder
 * only by its own answer in this round.
 */
import type { BatchHeader } from '../block/wire/batch.js';
import type { Reply } from '../block/wire/messages.js';
import { assert, present } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { BATCH_MAX_BYTES, READ_MAX_PAGES } from '../core/limits.js';
import { type Epoch, type Lsn, offset, PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import type { OpenSegment } from '../metadata/model.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import { type ChainPiece, ChainScan } from './chain.js';
import { answersFor } from './quorum.js';
import { type Fenced, presentLength } from './takeover-rules.js';

export interface RecoveryConfig {
  readonly volume: VolumeId;
  readonly segment: OpenSegment;
  readonly ackQuorum: number;
  /** The taker's epoch. */
  readonly epoch: Epoch;
  readonly end: SegmentOffset;
  /** What the successor's header says about the LSN at `end`, if there is one. */
  readonly endLsn: Lsn | null;
  /** The LSN at which the segment begins, as far as it is known. */
  readonly baseLsn: Lsn | null;
  /** This round's answers, per replica. */
  readonly fenced: readonly (Fenced | null)[];
}

interface Holder {
  /** What it is known to have; -1 when it did not answer. */
  length: number;
  failed: boolean;
  inFlight: boolean;
}

export interface Recovery {
  readonly config: RecoveryConfig;
  readonly scan: ChainScan;
  readonly holders: readonly Holder[];
  /** The verified batches that are being sent on. */
  piece: ChainPiece | null;
  /** Replicas that the bytes being read come from. */
  sources: readonly number[];
}

export type RecoveryEvent =
  /** The pages asked for, verified; null with `lost` when no source has a good copy of them. */
  | { readonly type: 'pages'; readonly data: Uint8Array | null; readonly lost: boolean }
  /** Of the heads asked for: one batch after the other, then the end. */
  | { readonly type: 'head'; readonly header: BatchHeader }
  | { readonly type: 'heads-end'; readonly error: HoldfastError | null }
  | { readonly type: 'recover-answer'; readonly replica: number; readonly reply: Reply | null };

export type RecoveryEffect =
  | {
      readonly type: 'read';
      readonly page: number;
      readonly count: number;
      readonly sources: readonly number[];
    }
  /** The heads of all batches from here to the end. */
  | {
      readonly type: 'heads';
      readonly from: SegmentOffset;
      readonly end: SegmentOffset;
      readonly prevCrc: number;
      readonly sources: readonly number[];
    }
  | {
      readonly type: 'recover';
      readonly replica: number;
      readonly offset: SegmentOffset;
      readonly bytes: Uint8Array;
    }
  | { readonly type: 'held'; readonly end: SegmentEnd }
  /** Decide again; `unreadable` replicas should not be asked for these bytes again at once. */
  | { readonly type: 'failed'; readonly why: string; readonly unreadable: readonly number[] }
  | { readonly type: 'doubt'; readonly why: string }
  | { readonly type: 'halt'; readonly reason: HoldfastError };

export function beginRecovery(config: RecoveryConfig): [Recovery, RecoveryEffect[]] {
  const holders = config.fenced.map((fenced): Holder => {
    const length = fenced === null ? -1 : presentLength(fenced);
    return { length, failed: fenced === null, inFlight: false };
  });
  const scan = new ChainScan(config.volume, config.segment, config.baseLsn);
  const recovery: Recovery = { config, scan, holders, piece: null, sources: [] };
  return [recovery, advance(recovery)];
}

export function stepRecovery(state: Recovery, event: RecoveryEvent): RecoveryEffect[] {
  if (event.type === 'recover-answer') return recoverAnswer(state, event.replica, event.reply);
  try {
    switch (event.type) {
      case 'head':
        state.scan.head(event.header);
        return [];
      case 'heads-end':
        return event.error === null ? finish(state) : unread(state, event.error.message);
      case 'pages':
        if (event.data === null) return withoutPages(state, event.lost);
        state.piece = state.scan.feed(event.data);
        return sendOn(state);
    }
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    return unread(state, thrown.message);
  }
}

function unread({ sources: unreadable }: Recovery, why: string): RecoveryEffect[] {
  return [{ type: 'failed', why, unreadable }];
}

/**
 * Data that no source has any more is lost, whatever is decided here. Where nobody needs it to be
 * complete, the rest of the prefix is walked by its heads: whoever reads those pages is told.
 */
function withoutPages(state: Recovery, lost: boolean): RecoveryEffect[] {
  const why = 'the kept prefix could not be read';
  if (!lost) return [{ type: 'failed', why, unreadable: [] }];
  if (!heldByQuorum(state)) return unread(state, why);
  const { scan, config, holders } = state;
  state.sources = [...holders.keys()].filter((one) => holds(state, holders[one] as Holder));
  const { sources } = state;
  return [{ type: 'heads', from: scan.offset, end: config.end, prevCrc: scan.crc, sources }];
}

function holds(state: Recovery, holder: Holder): boolean {
  return holder.length >= state.config.end;
}

function heldByQuorum(state: Recovery): boolean {
  const count = state.holders.filter((holder) => holds(state, holder)).length;
  return count >= state.config.ackQuorum;
}

/** Reads on, or ends when the whole prefix was walked. */
function advance(state: Recovery): RecoveryEffect[] {
  const { scan, config } = state;
  if (scan.fedTo >= config.end) return finish(state);
  const count = Math.min(READ_MAX_PAGES, (config.end - scan.fedTo) / PAGE_BYTES);
  const upTo = scan.fedTo + count * PAGE_BYTES;
  state.sources = [...state.holders.keys()].filter(
    (replica) => (state.holders[replica]?.length ?? -1) >= upTo,
  );
  if (state.sources.length === 0) {
    return [{ type: 'failed', why: 'nobody is left to read from', unreadable: [] }];
  }
  return [{ type: 'read', page: scan.fedTo / PAGE_BYTES, count, sources: state.sources }];
}

/** Sends the piece to those that lack it; reads on when none is left. */
function sendOn(state: Recovery): RecoveryEffect[] {
  const piece = present(state.piece, 'a piece to send on');
  if (heldByQuorum(state)) {
    state.piece = null;
    return advance(state);
  }
  const effects: RecoveryEffect[] = [];
  let waiting = false;
  for (const [replica, holder] of state.holders.entries()) {
    if (!holder.inFlight && !holder.failed) {
      const effect = recoverEffect(piece, replica, holder);
      if (effect !== null) effects.push(effect);
    }
    waiting ||= holder.inFlight;
  }
  if (waiting) return effects;
  state.piece = null;
  const left = state.holders.filter((holder) => holds(state, holder) || !holder.failed).length;
  if (left >= state.config.ackQuorum) return advance(state);
  return [{ type: 'failed', why: 'too few replicas are left to hold it', unreadable: [] }];
}

function recoverEffect(piece: ChainPiece, replica: number, holder: Holder): RecoveryEffect | null {
  const { length } = holder;
  if (length < piece.start || length >= piece.end) return null;
  if (!piece.boundaries.includes(offset(length))) {
    // Its prefix does not end where a batch does: nothing can be appended to that.
    holder.failed = true;
    return null;
  }
  const limit = length + BATCH_MAX_BYTES;
  const to = piece.boundaries.findLast((boundary) => boundary <= limit) ?? piece.end;
  assert(to > length, 'a batch is no larger than a RECOVER');
  holder.inFlight = true;
  const bytes = piece.bytes.subarray(length - piece.start, to - piece.start);
  return { type: 'recover', replica, offset: offset(length), bytes };
}

function recoverAnswer(state: Recovery, replica: number, reply: Reply | null): RecoveryEffect[] {
  const { config } = state;
  const holder = present(state.holders[replica], 'an answer of a replica of the segment');
  const of = present(config.segment.replicas[replica], 'a replica of the segment');
  holder.inFlight = false;
  if (reply === null || !answersFor(of, reply)) {
    holder.failed = true;
  } else if (reply.maxEpoch > config.epoch) {
    return [{ type: 'doubt', why: `a replica is fenced at epoch ${reply.maxEpoch}` }];
  } else if (reply.status === 'SEALED' || reply.status === 'DELETED') {
    return [{ type: 'doubt', why: `a replica says ${reply.status}` }];
  } else if (reply.status === 'OK' && reply.durableLength > holder.length) {
    holder.length = reply.durableLength;
  } else {
    holder.failed = true;
  }
  return state.piece === null ? [] : sendOn(state);
}

function finish(state: Recovery): RecoveryEffect[] {
  const { scan, config } = state;
  const { segment } = config.segment;
  if (scan.offset !== config.end) {
    return halted(`${segment} should end at ${config.end}, inside of a batch`);
  }
  if (!heldByQuorum(state)) {
    return [{ type: 'failed', why: 'too few replicas hold the kept prefix', unreadable: [] }];
  }
  const endLsn = scan.lsn ?? config.endLsn;
  if (endLsn === null) return halted(`nothing says at which LSN the empty ${segment} begins`);
  if (config.endLsn !== null && endLsn !== config.endLsn) {
    return halted(`${segment} ends at LSN ${endLsn}, its successor says ${config.endLsn}`);
  }
  return [{ type: 'held', end: { segment, end: config.end, endLsn, crc: scan.crc } }];
}

function halted(message: string): RecoveryEffect[] {
  return [{ type: 'halt', reason: new HoldfastError('INCONSISTENT', message) }];
}
