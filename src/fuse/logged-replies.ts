/**
 * Replies that wait for the intent log: an application may hear of a change only when it would
 * survive this process, and a request that made changes leaves its reply there, for a successor
 * that is asked again. Between the volume and the device; without an intent log it is not there.
 *
 * INVARIANT: replies go out in the order in which they were given.
 */
import { present } from '../core/assert.js';
import type { RequestName } from '../volume/intent-format.js';
import type { Unique } from './operations.js';
import { UNIQUE_RESENT_HIGH } from './protocol.js';

/** The volume's intent log, as replies need it (volume/intent-log.ts). */
export interface ReplyIntents {
  /** Whether something recorded is not in the intent log yet. */
  readonly staged: boolean;
  result(request: RequestName, bytes: Uint8Array): void;
  whenWritten(callback: () => void): void;
  flush(): void;
}

/** A whole reply, in memory of its own if it had to wait. */
export interface WholeReply {
  readonly unique: Unique;
  readonly head: Buffer;
  readonly length: number;
  readonly parts: readonly Uint8Array[];
  /** For the accounts of what is under way. */
  readonly heldBytes: number;
}

export class LoggedReplies {
  readonly #intents: ReplyIntents;
  readonly #send: (reply: WholeReply) => void;
  readonly #held: WholeReply[] = [];

  constructor(intents: ReplyIntents, send: (reply: WholeReply) => void) {
    this.#intents = intents;
    this.#send = send;
  }

  /** Sends a reply, now or when it may go; `isChange`: its request may have made changes. */
  give(reply: WholeReply, isChange: boolean): void {
    const { unique, head, length, parts } = reply;
    // File data is large: rather than to keep it, what it waits for is written now.
    if (parts.length > 0 && this.#intents.staged) this.#intents.flush();
    if (!this.#intents.staged && this.#held.length === 0) {
      this.#send(reply);
      return;
    }
    const kept = Buffer.from(head.subarray(0, length));
    // Nothing staged: what it changed, if anything, is safe. Only a WRITE is answered so late.
    if (isChange && this.#intents.staged) this.#intents.result(nameOf(unique), kept);
    this.#held.push({ ...reply, head: kept, parts: parts.map((part) => Buffer.from(part)) });
    this.#intents.whenWritten(() => this.#send(present(this.#held.shift(), 'the oldest reply')));
  }
}

/** Whether the kernel had given the request to a former daemon already. */
export function isResent({ high }: Unique): boolean {
  return high >= UNIQUE_RESENT_HIGH;
}

/** A request's name without what says that it was sent again. */
export function nameOf({ low, high }: Unique): RequestName {
  return { low, high: high >= UNIQUE_RESENT_HIGH ? high - UNIQUE_RESENT_HIGH : high };
}
