/** How a mounted volume is getting on, for people: its commits, and whether it waits for nodes. */
import type { Clock } from '../io/clock.js';
import type { LogOwner } from '../replication/owner.js';
import type { History } from '../volume/history.js';
import type { LiveStatus } from './mount-types.js';

const WATCH_MS = 500;
/** Who waits for less need not be told of: a slow flush, a node that is given up. */
const WAITING_TOLD_MS = 2_000;

type WatchedOwner = Pick<LogOwner, 'awaited'>;
type WatchedHistory = Pick<History, 'isSettled' | 'logged'>;

export class MountWatch {
  readonly #clock: Clock;
  readonly #owner: WatchedOwner;
  readonly #history: WatchedHistory;
  readonly #isOver: () => boolean;
  #bytes = -1;
  #lastCommit: string | null = null;
  #awaited: number | null = null;
  /** When what is awaited was first seen, as both clocks say. */
  #since = { monotonic: 0, wall: 0 };

  /** Watches until `isOver`. */
  constructor(
    clock: Clock,
    owner: WatchedOwner,
    { history }: { readonly history: WatchedHistory },
    isOver: () => boolean,
  ) {
    this.#clock = clock;
    this.#owner = owner;
    this.#history = history;
    this.#isOver = isOver;
    this.#watch();
  }

  #watch(): void {
    if (this.#isOver()) return;
    this.look();
    this.#clock.after(WATCH_MS, () => this.#watch());
  }

  look(): void {
    this.#lookAtCommits();
    const { awaited } = this.#owner;
    if (awaited === this.#awaited) return;
    this.#awaited = awaited;
    this.#since = { monotonic: this.#clock.monotonic(), wall: this.#clock.wall() };
  }

  /** If everything is durable that was not before, that is news. */
  #lookAtCommits(): void {
    const { isSettled, logged } = this.#history;
    if (!isSettled || logged.bytes === this.#bytes) return;
    this.#bytes = logged.bytes;
    this.#lastCommit = new Date(this.#clock.wall()).toISOString();
  }

  status(): Pick<LiveStatus, 'lastCommit' | 'waitingSince'> {
    this.look();
    const { monotonic, wall } = this.#since;
    const isTold = this.#awaited !== null && this.#clock.monotonic() - monotonic >= WAITING_TOLD_MS;
    return {
      lastCommit: this.#lastCommit,
      waitingSince: isTold ? new Date(wall).toISOString() : null,
    };
  }
}
