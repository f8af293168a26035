/**
 * Bulk writing waits for a replica that is behind, rather than lose it: a flush that takes a few
 * hundred milliseconds is no reason to stop sending to a disk, and to COPY the segment's rest to
 * it later, which costs twice and leaves one copy less meanwhile. The time that is spent so is
 * bounded; then laggards are judged by what they lack (roll.ts). Small commits never wait.
 *
 * INVARIANT: with everything that was sent committed, a segment waits for laggards for maxLagMs at
 * most (and what passes between two events); once that is spent, or was in vain, none waits for
 * REST times as long.
 */
import type { SegmentId } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import type { RollView } from './roll.js';
import { uncommittedBatches } from './stream.js';

/** Of the lag at which a replica is given up: the most that is under way to any replica. */
const WINDOW = 0.75;
/** Times the lag limit: a disk that is always slower than the others costs 1 s a minute. */
const REST = 60;

export interface Patience {
  /** The segment in which `spentMs` were waited. */
  segment: SegmentId | null;
  spentMs: number;
  /** Waiting for laggards alone, since then; null when not. */
  since: Monotonic | null;
  restUntil: number;
}

export function newPatience(): Patience {
  return { segment: null, spentMs: 0, since: null, restUntil: Number.NEGATIVE_INFINITY };
}

/** Whether the next batch of bulk data, which is there, has to wait. */
export function waitsForLaggards(patience: Patience, view: RollView, now: Monotonic): boolean {
  const { current, limits } = view;
  if (patience.segment !== current.segment.segment) {
    patience.segment = current.segment.segment;
    patience.spentMs = 0;
    patience.since = null;
  }
  if (patience.since !== null) patience.spentMs += now - patience.since;
  patience.since = null;
  // One that was given up although it was waited for hangs, and may well hang in the next segment.
  const isVain = current.followers.some(({ dropped }) => dropped === 'slow');
  if (isVain || patience.spentMs >= limits.maxLagMs) {
    patience.spentMs = 0;
    patience.restUntil = now + REST * limits.maxLagMs;
  }
  if (now < patience.restUntil) return false;
  const window = WINDOW * limits.maxLagBytes;
  const waits = current.followers.some(
    ({ mode, durable }) => mode === 'following' && current.nextOffset - durable > window,
  );
  if (waits && uncommittedBatches(current) === 0) patience.since = now;
  return waits;
}
