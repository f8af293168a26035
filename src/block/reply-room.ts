/**
 * The memory that replies to one peer may hold while they are made, counted for each disk: what a
 * disk that hangs was asked for keeps nobody from the other disks of its node, nor from what takes
 * no such memory.
 */
import type { Incarnation } from '../core/ids.js';
import { CONNECTION_MAX_QUEUED_BYTES } from '../core/limits.js';

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

interface Share {
  bytes: number;
  /** In the order in which they came. */
  readonly waiting: Waiting[];
  isStarting: boolean;
}

/** INVARIANT: nobody waits while there is room for its disk, and the peer takes its replies. */
export class ReplyRoom {
  readonly #shares = new Map<Incarnation, Share>();
  readonly #takesReplies: () => boolean;

  constructor(takesReplies: () => boolean) {
    this.#takesReplies = takesReplies;
  }

  /**
   * Calls back now or when there is room; whatever it may hold, one that is alone never waits. The
   * end must be told with `give`.
   */
  take(disk: Incarnation, bytes: number, start: () => void): void {
    const share = this.#shares.get(disk) ?? { bytes: 0, waiting: [], isStarting: false };
    this.#shares.set(disk, share);
    share.waiting.push({ bytes, start });
    this.#start(share);
  }

  give(disk: Incarnation, bytes: number): void {
    const share = this.#shares.get(disk);
    if (share === undefined) return;
    share.bytes -= bytes;
    this.#start(share);
    if (share.bytes === 0 && share.waiting.length === 0) this.#shares.delete(disk);
  }

  /** The peer takes its replies again. */
  resume(): void {
    for (const share of this.#shares.values()) this.#start(share);
  }

  /** Nobody who waits is called back any more. */
  close(): void {
    for (const { waiting } of this.#shares.values()) waiting.length = 0;
    this.#shares.clear();
  }

  #start(share: Share): void {
    // What is answered at once ends inside of its start: a loop, and no deep stack.
    if (share.isStarting) return;
    share.isStarting = true;
    while (share.bytes < CONNECTION_MAX_QUEUED_BYTES && this.#takesReplies()) {
      const next = share.waiting.shift();
      if (next === undefined) break;
      share.bytes += next.bytes;
      next.start();
    }
    share.isStarting = false;
  }
}
