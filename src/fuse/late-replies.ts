/**
 * The requests that wait for storage, so that a program that is killed meanwhile need not: nodes
 * may be away for hours, and the kernel keeps whoever waits for a request that a daemon has read.
 * Only a program that is ending anyway gets EINTR, and never sees it; to one that lives it would be
 * a failure. INTERRUPT is of no use for this: it says the same of every signal, and once only.
 */
import { type Linked, LinkedList } from '../core/linked-list.js';
import type { Clock, Timer } from '../io/clock.js';
import type { FuseCaller, FuseDevice } from '../io/fuse-device.js';
import { KILLED_CHECK_MS } from './limits.js';
import type { Request } from './operations.js';

export interface Late extends Linked<Late> {
  readonly reply: { abandon(): void };
  readonly pid: number;
  /** It was there at the look before this one: most are answered before that. */
  isLong: boolean;
  /** Known once it is long. */
  caller: FuseCaller | null;
}

export class LateReplies {
  readonly #late = new LinkedList<Late>();
  readonly #clock: Clock;
  readonly #device: Pick<FuseDevice, 'caller'>;
  readonly #abandoned: () => void;
  #timer: Timer | null = null;
  #isClosed = false;

  constructor(clock: Clock, device: Pick<FuseDevice, 'caller'>, abandoned: () => void) {
    this.#clock = clock;
    this.#device = device;
    this.#abandoned = abandoned;
  }

  /** A reply that somebody waits for; it leaves when it is given. */
  enter(reply: Late['reply'], pid: number): Late {
    const late: Late = { reply, pid, isLong: false, caller: null, before: null, after: null };
    this.#late.push(late);
    this.#watch();
    return late;
  }

  leave(late: Late): void {
    this.#late.remove(late);
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #watch(): void {
    if (this.#timer !== null || this.#isClosed || this.#late.first === null) return;
    this.#timer = this.#clock.after(KILLED_CHECK_MS, () => {
      this.#timer = null;
      this.#look();
      this.#watch();
    });
  }

  #look(): void {
    let isAnyAbandoned = false;
    let next: Late | null = null;
    for (let late = this.#late.first; late !== null; late = next) {
      next = late.after;
      if (!late.isLong) {
        late.isLong = true;
        continue;
      }
      late.caller ??= this.#device.caller(late.pid);
      if (!late.caller.isDying) continue;
      late.reply.abandon();
      isAnyAbandoned = true;
    }
    if (isAnyAbandoned) this.#abandoned();
  }
}

/**
 * Whether nobody but the process that asks loses anything if the answer never comes, whatever was
 * done of the request: not what the kernel keeps of a file (RELEASE), nor pages that others wrote.
 */
export function isForCallerOnly({ operation, pid }: Request): boolean {
  switch (operation.op) {
    case 'release':
    case 'releasedir':
      return false;
    case 'write':
      return pid !== 0 && !operation.isWriteback;
    default:
      return pid !== 0;
  }
}
