/**
 * What a start decides from what it found: the recovery table of ARCHITECTURE.md as pure functions.
 * The I/O that finds the facts is opening.ts.
 */
import type { SegmentOffset } from '../core/units.js';

/** A valid group that a scan of the journal found, of the laps that are to be replayed. */
export interface FoundGroup {
  readonly lap: number;
  readonly sequence: number;
  readonly flushedSequence: number;
}

export interface JournalDecision {
  /** How many of the groups, in order of sequence, are history; the rest was never acknowledged. */
  readonly apply: number;
  /** A group that had been flushed is missing: 'corrupt middle'. */
  readonly historyLost: boolean;
}

/**
 * Decides which groups count. `groups` are sorted by sequence, without duplicates; the first group
 * of the laps to be replayed has sequence `first`. A hole that a later group's flushedSequence
 * covers is lost history; a hole that none covers is a torn tail, at which the journal ends.
 */
export function decideJournal(groups: readonly FoundGroup[], first: number): JournalDecision {
  let known = first - 1;
  for (const group of groups) known = Math.max(known, group.flushedSequence);
  let expected = first;
  let historyLost = false;
  let apply = 0;
  for (const group of groups) {
    if (group.sequence !== expected) {
      // The hole is [expected, sequence); all of it must have been flushed for this group to count.
      if (known < group.sequence - 1) return { apply, historyLost };
      historyLost = true;
    }
    expected = group.sequence + 1;
    apply += 1;
  }
  return { apply, historyLost: historyLost || known >= expected };
}

export interface SegmentFacts {
  readonly deleted: boolean;
  /** The end that a SEAL fixed, or null. */
  readonly sealedEnd: SegmentOffset | null;
  /** It was suspect when last recorded, or is being copied. */
  readonly suspect: boolean;
  /** The largest length that index or LENGTH entries recorded as durable. */
  readonly recorded: SegmentOffset;
  /** Where the valid chain over journal and file ends. */
  readonly chainEnd: SegmentOffset;
  /** The chain ended at a page that the disk could not read. */
  readonly unreadable: boolean;
  /** Journal groups that had been flushed are lost. */
  readonly historyLost: boolean;
}

export type SegmentDecision =
  /** Nothing of it is kept but its id. */
  | { readonly keep: 'tombstone' }
  /**
   * Frozen at its end whatever its pages are like: bad ones are answered with DISK until repaired.
   */
  | { readonly keep: 'sealed'; readonly length: SegmentOffset }
  | { readonly keep: 'open'; readonly length: SegmentOffset; readonly suspect: boolean };

/** Decides what a segment is after a start. */
export function decideSegment(facts: SegmentFacts): SegmentDecision {
  if (facts.deleted) return { keep: 'tombstone' };
  if (facts.sealedEnd !== null) return { keep: 'sealed', length: facts.sealedEnd };
  const suspect =
    facts.suspect || facts.historyLost || facts.unreadable || facts.chainEnd < facts.recorded;
  return { keep: 'open', length: facts.chainEnd, suspect };
}
