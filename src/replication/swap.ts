/**
 * One change of the volume record at a time, by compare-and-swap, exactly once even when answers
 * are lost. A swap whose outcome is unknown is read back linearizably before anything else is
 * decided:
 *   higher epoch            → somebody else owns the volume: stop for good
 *   revision unchanged      → undecided: send the identical swap again (at most one can ever apply)
 *   a chunk of it changed   → it can never apply: make the same change to what is there
 *   record holds our change → it landed
 *   otherwise               → somebody changed other fields: make the same change to what is there
 * Nothing on the write path waits for it; takeover, roll, spares, deletion and release all pass
 * here.
 */
import { assert } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { OwnerId } from '../core/ids.js';
import type { Epoch, Monotonic, Revision } from '../core/units.js';
import { chunkKey, volumeKey } from '../metadata/keys.js';
import type { VolumeRecord } from '../metadata/model.js';
import { changeOf, type VersionedVolume, type VolumeChange } from '../metadata/stored-volume.js';
import { landed } from '../metadata/volume-record.js';

export interface SwapPurpose {
  /**
   * For people: "claim", "seal", "roll", "plan", "register", "replace", "unplan", "clear", "root",
   * "delete", "release".
   */
  readonly name: string;
  /** The same change of whichever record is found; segment ids in it are fixed beforehand. */
  readonly change: (record: VolumeRecord, at: VersionedVolume) => VolumeRecord;
  /** Why the change must not be made to this record; null: it may. Then it is all over. */
  readonly refuse?: (record: VolumeRecord) => HoldfastError | null;
}

interface Attempt {
  readonly purpose: SwapPurpose;
  readonly base: VersionedVolume;
  readonly proposal: VolumeRecord;
  readonly swap: VolumeChange;
  readonly failures: number;
}

export type SwapPhase =
  | { readonly type: 'idle' }
  | ({ readonly type: 'sent' } & Attempt)
  /** The outcome is not known; the record is being read. */
  | ({ readonly type: 'reading' } & Attempt)
  /** The store could not be reached; read again at `at`. */
  | ({ readonly type: 'waiting'; readonly at: Monotonic } & Attempt)
  | { readonly type: 'stopped' };

export interface SwapState {
  readonly owner: OwnerId;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** How many sealed segments a chunk takes. */
  readonly chunkSegments: number;
  phase: SwapPhase;
  /** The record as last swapped or read. */
  known: VersionedVolume;
}

export interface SwapLimits {
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  readonly chunkSegments: number;
}

export type SwapEvent =
  | { readonly type: 'propose'; readonly purpose: SwapPurpose }
  | { readonly type: 'committed'; readonly revision: Revision }
  /** The comparison failed: the record is not the one that the proposal was made from. */
  | { readonly type: 'refused' }
  /** No answer, or an error: it may or may not have happened. */
  | { readonly type: 'failed'; readonly now: Monotonic }
  | { readonly type: 'found'; readonly found: VersionedVolume | null }
  /** Somebody else has changed where segments are; heard while no swap is under way. */
  | { readonly type: 'moved'; readonly known: VersionedVolume }
  | { readonly type: 'tick'; readonly now: Monotonic };

export type SwapEffect =
  | { readonly type: 'send'; readonly base: VersionedVolume; readonly swap: VolumeChange }
  | { readonly type: 'read' }
  | { readonly type: 'landed'; readonly purpose: SwapPurpose }
  | { readonly type: 'stop'; readonly reason: HoldfastError };

export function newSwap(owner: OwnerId, known: VersionedVolume, limits: SwapLimits): SwapState {
  const { retryMinMs, retryMaxMs, chunkSegments } = limits;
  return { owner, retryMinMs, retryMaxMs, chunkSegments, phase: { type: 'idle' }, known };
}

/** What is being swapped, for people and the simulator. */
export function swapInFlight(state: SwapState): string | null {
  const { phase } = state;
  return phase.type === 'idle' || phase.type === 'stopped' ? null : phase.purpose.name;
}

export function swapDeadline(state: SwapState): number {
  return state.phase.type === 'waiting' ? state.phase.at : Number.POSITIVE_INFINITY;
}

/** Whether the record shows that a higher epoch, or another owner of this epoch, took over. */
export function isSuperseded(found: VolumeRecord, epoch: Epoch, owner: OwnerId): boolean {
  if (found.epoch !== epoch) return found.epoch > epoch;
  return found.owner?.id !== owner;
}

export function stepSwap(state: SwapState, event: SwapEvent): SwapEffect[] {
  const { phase } = state;
  if (phase.type === 'stopped') return [];
  if (event.type === 'propose') {
    assert(phase.type === 'idle', 'one swap in flight an owner');
    return propose(state, event.purpose);
  }
  if (event.type === 'moved') {
    assert(phase.type === 'idle', 'what is under way was made from what was known');
    state.known = event.known;
    return [];
  }
  if (event.type === 'tick') {
    if (phase.type !== 'waiting' || event.now < phase.at) return [];
    state.phase = { ...phase, type: 'reading' };
    return [{ type: 'read' }];
  }
  assert(phase.type !== 'idle', `${event.type} without a swap`);
  switch (event.type) {
    case 'committed':
      assert(phase.type === 'sent', 'an answer to a swap that was sent');
      return settle(state, phase, phase.swap.at(event.revision));
    case 'refused':
      state.phase = { ...phase, type: 'reading' };
      return [{ type: 'read' }];
    case 'failed': {
      const failures = phase.failures + 1;
      const wait = Math.min(state.retryMaxMs, state.retryMinMs * 2 ** Math.min(failures - 1, 10));
      const at = (event.now + wait) as Monotonic;
      state.phase = { ...phase, type: 'waiting', failures, at };
      return [];
    }
    case 'found':
      assert(phase.type === 'reading', 'a record that was asked for');
      return found(state, phase, event.found);
  }
}

function propose(state: SwapState, purpose: SwapPurpose, failures = 0): SwapEffect[] {
  const base = state.known;
  const refusal = purpose.refuse?.(base.record) ?? null;
  if (refusal !== null) return stop(state, refusal);
  const proposal = purpose.change(base.record, base);
  const swap = changeOf(base, proposal, state.chunkSegments);
  state.phase = { type: 'sent', purpose, base, proposal, swap, failures };
  return [{ type: 'send', base, swap }];
}

function settle(state: SwapState, attempt: Attempt, at: VersionedVolume): SwapEffect[] {
  state.known = at;
  state.phase = { type: 'idle' };
  return [{ type: 'landed', purpose: attempt.purpose }];
}

function stop(state: SwapState, reason: HoldfastError): SwapEffect[] {
  state.phase = { type: 'stopped' };
  return [{ type: 'stop', reason }];
}

function found(state: SwapState, attempt: Attempt, at: VersionedVolume | null): SwapEffect[] {
  const { base, proposal, swap } = attempt;
  if (at === null) return stop(state, new HoldfastError('NOT_FOUND', 'the volume was removed'));
  const now = at.record;
  if (at.modRevision < base.modRevision || now.epoch < base.record.epoch) {
    const what = `the record went back from revision ${base.modRevision} to ${at.modRevision}`;
    return stop(state, new HoldfastError('INCONSISTENT', what));
  }
  if (at.modRevision === base.modRevision) {
    if (mayApply(swap, at)) {
      state.phase = { ...attempt, type: 'sent' };
      return [{ type: 'send', base, swap }];
    }
  } else if (isSuperseded(now, proposal.epoch, state.owner)) {
    const what = `epoch ${now.epoch} of another owner was found at our ${proposal.epoch}`;
    return stop(state, new HoldfastError('FENCED', what));
  } else if (landed(proposal, now)) {
    return settle(state, attempt, at);
  }
  state.known = at;
  return propose(state, attempt.purpose, attempt.failures);
}

/** Whether the chunks that the swap writes are those that it was made from. */
function mayApply(swap: VolumeChange, { record: { volume }, chunks }: VersionedVolume): boolean {
  const revisions = new Map<string, Revision>();
  for (const { number, modRevision } of chunks) {
    revisions.set(chunkKey(volume, number), modRevision);
  }
  const touched = swap.compare.filter(({ key }) => key !== volumeKey(volume));
  return touched.every(({ key, modRevision }) => (revisions.get(key) ?? 0) === modRevision);
}
