/**
 * What the parts of one owner share: the seams, the limits, one timer for all their deadlines,
 * requests to replicas, and the choice of a new segment's place. After `close` nothing of it calls
 * anybody any more.
 */
import type { Reply, Request } from '../block/wire/messages.js';
import type { Incarnation, NodeId, SegmentId } from '../core/ids.js';
import { idFromBytes } from '../core/ids.js';
import { COPY_TIMEOUT_MS, LOCAL_FRESH_MS } from '../core/limits.js';
import type { Monotonic } from '../core/units.js';
import type { Timer } from '../io/clock.js';
import type { Replica, VolumeRecord } from '../metadata/model.js';
import type { NewSegment } from '../metadata/volume-record.js';
import type { OwnerDeps, OwnerLimits, OwnerOptions } from './owner-types.js';
import { chooseGroup } from './placement-table.js';

/** A core with deadlines. */
export interface Ticking {
  /** When `tick` is to be called; Infinity when it need not be. */
  deadline(now: Monotonic): number;
  tick(now: Monotonic): void;
}

export class OwnerContext {
  readonly deps: OwnerDeps;
  readonly options: OwnerOptions;
  readonly limits: OwnerLimits;
  readonly #ticking: Ticking[] = [];
  /** Segments that this owner has opened, oldest first, and when: those of the last minute. */
  readonly #openedAt = new Map<SegmentId, Monotonic>();
  #timer: Timer | null = null;
  #timerAt = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(deps: OwnerDeps, options: OwnerOptions, limits: OwnerLimits) {
    this.deps = deps;
    this.options = options;
    this.limits = limits;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** This owner writes to a new segment from now on. */
  noteOpened(segment: SegmentId, now: Monotonic): void {
    for (const [old, at] of this.#openedAt) {
      if (at > now - LOCAL_FRESH_MS) break;
      this.#openedAt.delete(old);
    }
    this.#openedAt.set(segment, now);
  }

  /** Whether all of a segment was written within LOCAL_FRESH_MS. */
  isFresh(segment: SegmentId): boolean {
    const at = this.#openedAt.get(segment);
    return at !== undefined && at > this.now() - LOCAL_FRESH_MS;
  }

  now(): Monotonic {
    return this.deps.clock.monotonic();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Lets a core be ticked from now on. */
  watch(ticking: Ticking): void {
    this.#ticking.push(ticking);
  }

  /** To be called when a deadline may have become earlier. One timer serves all. */
  wake(deadline: number, now: Monotonic): void {
    if (deadline >= this.#timerAt || this.#closed) return;
    this.#timer?.cancel();
    this.#timerAt = deadline;
    // At least a millisecond, so that a deadline that stays in the past is no endless loop.
    this.#timer = this.deps.clock.after(Math.max(1, deadline - now), () => this.#fire());
  }

  #fire(): void {
    this.#timer = null;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = this.now();
    for (const ticking of this.#ticking) {
      if (this.#closed) return;
      if (ticking.deadline(now) <= now) ticking.tick(now);
    }
    const after = this.now();
    for (const ticking of this.#ticking) this.wake(ticking.deadline(after), after);
  }

  /**
   * Sends to one replica; null when no answer came (the request may have been, or yet be, handled).
   */
  send(replica: Replica, request: Request, done: (reply: Reply | null) => void): void {
    const { directory, requests, clock } = this.deps;
    const { node } = replica;
    const address = directory.address(node);
    if (address === null) {
      clock.soon(() => {
        if (!this.#closed) done(null);
      });
      return;
    }
    const slow = request.type === 'copy';
    const timeout = slow ? COPY_TIMEOUT_MS : this.limits.requestTimeoutMs;
    requests.send({ node, address }, request, timeout, (_error, reply) => {
      if (!this.#closed) done(reply);
    });
  }

  /** A fresh segment on a placement group that looks healthy; null while no group is known. */
  newSegment(record: VolumeRecord, avoid: ReadonlySet<NodeId>): NewSegment | null {
    const { directory, random } = this.deps;
    const { replicas, ackQuorum } = record;
    const chosen = chooseGroup(directory, { replicas, ackQuorum, avoid }, random);
    if (chosen === null) return null;
    const segment = idFromBytes<SegmentId>(random.bytes(16));
    return { segment, group: chosen.group, replicas: chosen.replicas };
  }

  /** Whether the directory, as far as it is known, has no such disk any more. */
  isGone(incarnation: Incarnation): boolean {
    const nodes = this.deps.directory.nodes();
    if (nodes.length === 0) return false;
    return !nodes.some((node) => node.disks.some((disk) => disk.incarnation === incarnation));
  }
}
