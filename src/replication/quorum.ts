/**
 * The arithmetic that the log's safety rests on, each rule once and by name: takeover, writer and
 * lease call these and nothing else decides. Any ackQuorum replicas and any fenceQuorum replicas of
 * one segment have at least one in common: that one tells a taker of every acknowledged byte, and
 * withholds its FENCE answer while a read lease that it granted is running.
 */
import type { Reply } from '../block/wire/messages.js';
import { assert } from '../core/assert.js';
import type { SegmentId } from '../core/ids.js';
import { offset, type SegmentOffset } from '../core/units.js';
import type { Replica } from '../metadata/model.js';

/** R: how many valid FENCE replies must be in before an open segment's end may be decided. */
export function fenceQuorum(replicas: number, ackQuorum: number): number {
  assert(ackQuorum >= 1 && ackQuorum <= replicas, 'ack quorum within the replicas');
  return replicas - ackQuorum + 1;
}

/** Whether a reply is about the bytes that are meant: another incarnation's counts for nothing. */
export function answersFor(replica: Replica, reply: Reply): boolean {
  return reply.incarnation === replica.incarnation;
}

/** Only the segment that is written now commits: never a frozen one (its end is decided). */
export function countsForCommit(current: SegmentId, acknowledged: SegmentId): boolean {
  return current === acknowledged;
}

/** The `quorum`-th largest of some numbers: what at least `quorum` of them have reached. */
export function reachedBy(quorum: number, values: readonly number[]): number {
  assert(quorum >= 1, 'a quorum of nobody');
  // Asked several times a commit, about a handful of values: counted, not sorted.
  let reached = 0;
  for (const value of values) {
    if (value <= reached) continue;
    let count = 0;
    for (const other of values) if (other >= value) count += 1;
    if (count >= quorum) reached = value;
  }
  return reached;
}

/** How far a segment is committed: durable on ackQuorum of its replicas, as a hole-free prefix. */
export function commitOffsetOf(
  durable: readonly SegmentOffset[],
  ackQuorum: number,
): SegmentOffset {
  return offset(reachedBy(ackQuorum, durable));
}
