/**
 * Requests that wait until the volume may be answered for (the gate): in the order in which they
 * came, in memory of their own, counted by the session like all that is under way. An open gate
 * costs a request one look.
 *
 * INVARIANT: no request overtakes one that waits, but FORGET, which nobody waits for and which only
 * ends what the kernel has stopped using.
 */
import type { HoldfastError } from '../core/errors.js';
import { ERRNO } from './errno.js';
import type { OperationName } from './operations.js';
import type { Reply } from './reply.js';

export interface RequestGate {
  /** Whether requests may pass right now. */
  readonly open: boolean;
  /** Calls back once it has opened, perhaps at once, or with an error: it never will. */
  wait(done: (error: HoldfastError | null) => void): void;
}

export interface GatedRequestsHandlers {
  /** A request may pass. */
  pass(bytes: Buffer, reply: Reply): void;
  onFault(fault: HoldfastError): void;
}

interface Held {
  readonly bytes: Buffer;
  readonly reply: Reply;
}

export class GatedRequests {
  readonly #gate: RequestGate;
  readonly #handlers: GatedRequestsHandlers;
  #held: Held[] = [];
  #isWaiting = false;
  #closed = false;

  constructor(gate: RequestGate, handlers: GatedRequestsHandlers) {
    this.#gate = gate;
    this.#handlers = handlers;
  }

  /** Whether such a request has to wait. */
  holds(operation: OperationName): boolean {
    if (this.#held.length === 0 && this.#gate.open) return false;
    return operation !== 'forget' && operation !== 'batch-forget';
  }

  /** Keeps a copy of the request until it may pass; answers it with EIO if it never may. */
  hold(bytes: Uint8Array, reply: Reply): void {
    this.#held.push({ bytes: Buffer.from(bytes), reply });
    this.#wait();
  }

  /** Forgets what nobody waits for any more. */
  dropAbandoned(): void {
    this.#held = this.#held.filter(({ reply }) => !reply.isAbandoned);
  }

  /** The connection is over: nobody waits for answers any more. */
  close(): void {
    this.#closed = true;
    this.#held = [];
  }

  #wait(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#gate.wait((error) => {
      this.#isWaiting = false;
      if (this.#closed) return;
      if (error === null) this.#passAll();
      else this.#refuseAll(error);
    });
  }

  /** It may shut again while the first ones are served. */
  #passAll(): void {
    let next = this.#held[0];
    for (; next !== undefined && this.#gate.open; next = this.#held[0]) {
      this.#handlers.pass(next.bytes, next.reply);
      this.#held.shift();
    }
    if (next !== undefined) this.#wait();
  }

  #refuseAll(error: HoldfastError): void {
    this.#handlers.onFault(error);
    const held = this.#held;
    this.#held = [];
    for (const { reply } of held) reply.error(ERRNO.EIO);
  }
}
