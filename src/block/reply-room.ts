/**
 * The memory that replies to one peer may hold while they are made, counted for each disk: what a
 * disk that hangs was asked for keeps nobody from the other disks of its node, nor from what takes
 * no such memory. What its peer does not wait for any more is given up: nobody says so, and as much
 * as may be under way on a connection would come together in time.
 */
import type { Incarnation } from '../core/ids.js';
import { CONNECTION_MAX_QUEUED_BYTES, REQUEST_TIMEOUT_MS } from '../core/limits.js';
import { type Linked, LinkedList } from '../core/linked-list.js';
import type { Monotonic } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';

/** A request, and the memory that its reply may hold. */
export interface Asked {
  readonly disk: Incarnation;
  readonly bytes: number;
  readonly start: () => void;
  /** Its peer has ceased to wait: once, whether it was started or not. */
  readonly giveUp: () => void;
  /** The room's own: its place among those that have neither ended nor been given up. */
  place: Place | null;
}

interface Place extends Linked<Place> {
  readonly asked: Asked;
  readonly since: Monotonic;
}

interface Share {
  bytes: number;
  /** In the order in which they came. */
  readonly waiting: Asked[];
  isStarting: boolean;
}

/** INVARIANT: nobody waits while there is room for its disk, and the peer takes its replies. */
export class ReplyRoom {
  readonly #shares = new Map<Incarnation, Share>();
  /** A list, since a Map of them took a tenth of all small reads. */
  readonly #places = new LinkedList<Place>();
  readonly #clock: Clock;
  readonly #takesReplies: () => boolean;
  #timer: Timer | null = null;

  constructor(clock: Clock, takesReplies: () => boolean) {
    this.#clock = clock;
    this.#takesReplies = takesReplies;
  }

  /**
   * Starts it now or when there is room; whatever it may hold, one that is alone never waits. The
   * end of what was started must be told with `give`, also when it was given up.
   */
  take(asked: Asked): void {
    const { disk } = asked;
    const share = this.#shares.get(disk) ?? { bytes: 0, waiting: [], isStarting: false };
    this.#shares.set(disk, share);
    this.#enter(asked);
    share.waiting.push(asked);
    this.#start(share);
    this.#watch();
  }

  give(asked: Asked): void {
    const { disk, bytes } = asked;
    this.#leave(asked);
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
    this.#timer?.cancel();
    for (let place = this.#places.first; place !== null; place = this.#places.first) {
      this.#leave(place.asked);
    }
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

  /** One timer, for the oldest of them. */
  #watch(): void {
    const { first } = this.#places;
    if (this.#timer !== null || first === null) return;
    const left = first.since + REQUEST_TIMEOUT_MS - this.#clock.monotonic();
    this.#timer = this.#clock.after(Math.max(0, left), () => {
      this.#timer = null;
      this.#giveUp();
      this.#watch();
    });
  }

  #giveUp(): void {
    const now = this.#clock.monotonic();
    for (let place = this.#places.first; place !== null; place = this.#places.first) {
      const { asked, since } = place;
      if (now - since < REQUEST_TIMEOUT_MS) return;
      this.#leave(asked);
      const waiting = this.#shares.get(asked.disk)?.waiting ?? [];
      const at = waiting.indexOf(asked);
      if (at >= 0) waiting.splice(at, 1);
      asked.giveUp();
    }
  }

  #enter(asked: Asked): void {
    const place = { asked, since: this.#clock.monotonic(), before: null, after: null };
    asked.place = place;
    this.#places.push(place);
  }

  #leave(asked: Asked): void {
    if (asked.place === null) return;
    this.#places.remove(asked.place);
    asked.place = null;
  }
}
