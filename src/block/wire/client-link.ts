/**
 * One client's connection to one node: connects when there is something to send, proves itself,
 * sends requests in order, matches replies by id, and gives up on time-outs, silence and broken
 * connections. Used by client.ts, which keeps one link for each node.
 *
 * INVARIANTS: a request's callback runs exactly once, never inside the call that made it. `waiting`
 * holds every request whose callback has not run; `queue` holds those of them, in order, whose
 * frames the network has not got. One timer serves all deadlines: it is armed for the earliest one,
 * or before.
 */
import { assert } from '../../core/assert.js';
import { asFault, HoldfastError } from '../../core/errors.js';
import { IdRing } from '../../core/id-ring.js';
import type { NodeId } from '../../core/ids.js';
import {
  CONNECT_TIMEOUT_MS,
  CONNECTION_MAX_IN_FLIGHT,
  CONNECTION_MAX_QUEUED_BYTES,
  CONNECTION_SILENCE_MS,
  FRAME_MAX_BYTES,
  FRAME_MAX_BYTES_UNAUTHENTICATED,
  HANDSHAKE_TIMEOUT_MS,
  RECONNECT_MAX_MS,
  RECONNECT_MIN_MS,
} from '../../core/limits.js';
import type { Clock, Timer } from '../../io/clock.js';
import type { Address, Connection, Network } from '../../io/network.js';
import type { Random } from '../../io/random.js';
import type { EncodedFrame } from './frame-parts.js';
import {
  type ClientIdentity,
  type Credentials,
  HandshakeClient,
  NONCE_BYTES,
  type VersionRange,
} from './handshake.js';
import { protocolOf, type Request } from './messages.js';
import { decodeReply } from './reply-frames.js';
import { encodeRequest } from './request-frames.js';
import type { ReplyHandler } from './requests.js';

export interface LinkOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly credentials: Credentials;
  readonly identity: ClientIdentity;
  /** Protocol versions to speak; default: all that this program does. */
  readonly versions?: VersionRange | undefined;
}

interface Waiting {
  readonly type: Request['type'];
  readonly done: ReplyHandler;
  readonly deadline: number;
  /** Null once the network has it. */
  frame: EncodedFrame | null;
}

type LinkState =
  /** `error` says why the last connection ended; until `retryAt` requests fail with it at once. */
  | { readonly type: 'idle'; readonly retryAt: number; readonly error: HoldfastError | null }
  | { readonly type: 'connecting' }
  | { readonly type: 'proving'; readonly connection: Connection; readonly timer: Timer }
  | {
      readonly type: 'ready';
      readonly connection: Connection;
      /** Of the protocol, as agreed on. */
      readonly version: number;
      blocked: boolean;
    };

export class ClientLink {
  readonly #options: LinkOptions;
  readonly #node: NodeId;
  #address: Address;
  #state: LinkState = { type: 'idle', retryAt: 0, error: null };
  /** Raised with every new connection, so that events of older ones are recognised. */
  #attempt = 0;
  #failures = 0;
  readonly #waiting = new IdRing<Waiting>();
  readonly #queue: number[] = [];
  #queuedBytes = 0;
  /** Requests that the network has and that wait for their replies. */
  #inFlight = 0;
  /** Since when the node owes us a sign of life; null while it owes nothing. */
  #expectingSince: number | null = null;
  #timer: Timer | null = null;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(options: LinkOptions, node: NodeId, address: Address) {
    this.#options = options;
    this.#node = node;
    this.#address = address;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  send(address: Address, request: Request, timeoutMs: number, done: ReplyHandler): void {
    if (address !== this.#address) this.#moveTo(address);
    const now = this.#options.clock.monotonic();
    const state = this.#state;
    if (state.type === 'idle' && now < state.retryAt && state.error !== null) {
      this.#failSoon(state.error, done);
      return;
    }
    const isFull =
      this.#queue.length >= CONNECTION_MAX_IN_FLIGHT ||
      this.#queuedBytes >= CONNECTION_MAX_QUEUED_BYTES;
    if (isFull) {
      const message = `node ${this.#node}: too many requests wait to be sent`;
      this.#failSoon(new HoldfastError('BUSY', message, { retryable: true }), done);
      return;
    }
    // Ids go round, and none is given out while it waits: no late reply meets a new request.
    const id = this.#waiting.freeId();
    const frame = encodeRequest(id, request);
    const waiting: Waiting = { type: request.type, done, deadline: now + timeoutMs, frame };
    this.#waiting.set(id, waiting);
    this.#armTimer(waiting.deadline, now);
    if (state.type === 'ready' && this.#queue.length === 0 && this.#canSend(state)) {
      this.#transmit(state, id, waiting, frame);
      return;
    }
    this.#queue.push(id);
    this.#queuedBytes += frame.bytes;
    if (state.type === 'idle') this.#connect();
  }

  /** Ends the connection and fails everything that waits with `error`. */
  shut(error: HoldfastError): void {
    this.#break(error, false);
  }

  #failSoon(error: HoldfastError, done: ReplyHandler): void {
    this.#options.clock.soon(() => done(error, null));
  }

  #canSend(state: { readonly blocked: boolean }): boolean {
    return !state.blocked && this.#inFlight < CONNECTION_MAX_IN_FLIGHT;
  }

  #transmit(
    state: LinkState & { readonly type: 'ready' },
    id: number,
    waiting: Waiting,
    frame: EncodedFrame,
  ): void {
    if (protocolOf(waiting.type) > state.version) {
      this.#waiting.delete(id);
      this.#failSoon(this.#unknownThere(waiting.type, state.version), waiting.done);
      return;
    }
    waiting.frame = null;
    this.#inFlight += 1;
    this.#expectingSince ??= this.#options.clock.monotonic();
    if (!state.connection.send(frame.parts)) state.blocked = true;
  }

  #pump(): void {
    const state = this.#state;
    if (state.type !== 'ready') return;
    while (this.#queue.length > 0 && this.#canSend(state)) {
      const id = this.#queue.shift() as number;
      const waiting = this.#waiting.get(id);
      // Requests that timed out in the queue have left `waiting` and are never sent.
      if (waiting === undefined || waiting.frame === null) continue;
      this.#queuedBytes -= waiting.frame.bytes;
      this.#transmit(state, id, waiting, waiting.frame);
    }
  }

  #moveTo(address: Address): void {
    const message = `node ${this.#node} has moved from ${this.#address} to ${address}`;
    if (this.#state.type !== 'idle') {
      this.#break(new HoldfastError('UNAVAILABLE', message, { retryable: true }), true);
    }
    this.#address = address;
    this.#failures = 0;
    this.#state = { type: 'idle', retryAt: 0, error: null };
  }

  #connect(): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#state = { type: 'connecting' };
    this.#options.network.connect(this.#address, CONNECT_TIMEOUT_MS, (error, connection) => {
      if (attempt !== this.#attempt || this.#state.type !== 'connecting') {
        connection?.handle({ onFrame: () => {}, onDrain: () => {}, onClose: () => {} });
        connection?.close(true);
        return;
      }
      if (connection === null) {
        this.#break(error ?? this.#gone('cannot connect'), false);
      } else {
        this.#prove(connection, attempt);
      }
    });
  }

  #prove(connection: Connection, attempt: number): void {
    const { credentials, identity, versions, random, clock } = this.#options;
    const machine = new HandshakeClient({
      credentials,
      ...identity,
      versions,
      expectedNode: this.#node,
      nonce: random.bytes(NONCE_BYTES),
    });
    const timer = clock.after(HANDSHAKE_TIMEOUT_MS, () => {
      if (attempt !== this.#attempt) return;
      const message = `node ${this.#node} at ${this.#address}: no answer to the handshake`;
      this.#break(new HoldfastError('TIMEOUT', message, { retryable: true }), false);
    });
    this.#state = { type: 'proving', connection, timer };
    connection.setMaxFrameBytes(FRAME_MAX_BYTES_UNAUTHENTICATED);
    connection.handle({
      onFrame: (frame) => {
        if (attempt === this.#attempt) this.#onFrame(connection, machine, frame);
      },
      onDrain: () => {
        if (attempt !== this.#attempt || this.#state.type !== 'ready') return;
        this.#state.blocked = false;
        this.#pump();
      },
      onClose: (error) => {
        if (attempt !== this.#attempt) return;
        this.#break(this.#gone(error?.message ?? 'the node closed the connection'), false);
      },
    });
    connection.send([machine.start()]);
  }

  #gone(why: string): HoldfastError {
    const message = `node ${this.#node} at ${this.#address}: ${why}`;
    return new HoldfastError('UNAVAILABLE', message, { retryable: true });
  }

  #unknownThere(type: Request['type'], version: number): HoldfastError {
    const what = `which has no ${type.toUpperCase()}`;
    const message = `node ${this.#node} at ${this.#address}: speaks protocol ${version}, ${what}`;
    return new HoldfastError('VERSION', message, { hint: 'Upgrade that node.' });
  }

  #onFrame(connection: Connection, machine: HandshakeClient, frame: Buffer): void {
    const state = this.#state;
    if (state.type === 'ready') {
      this.#onReply(frame);
      return;
    }
    assert(state.type === 'proving', `a frame in state ${state.type}`);
    const step = machine.step(frame);
    if (step.type === 'failed') {
      const { code, message, hint, retryable } = step.error;
      const options = { retryable, ...(hint === undefined ? {} : { hint }) };
      const told = new HoldfastError(code, `${this.#address}: ${message}`, options);
      this.#break(told, false);
      return;
    }
    if (step.send !== null) connection.send([step.send]);
    if (step.type === 'continue') return;
    state.timer.cancel();
    connection.setMaxFrameBytes(FRAME_MAX_BYTES);
    this.#state = { type: 'ready', connection, version: step.peer.version, blocked: false };
    this.#pump();
  }

  #onReply(frame: Buffer): void {
    let decoded: ReturnType<typeof decodeReply>;
    try {
      decoded = decodeReply(frame);
    } catch (thrown) {
      this.#break(this.#gone(asFault(thrown, 'MALFORMED').message), false);
      return;
    }
    this.#failures = 0;
    const waiting = this.#waiting.get(decoded.id);
    if (waiting?.frame === null) this.#inFlight -= 1;
    this.#expectingSince = this.#inFlight > 0 ? this.#options.clock.monotonic() : null;
    // A late reply to a request that timed out; a request not yet sent cannot be answered.
    if (waiting === undefined || waiting.frame !== null) return;
    this.#waiting.delete(decoded.id);
    if (this.#queue.length > 0) this.#pump();
    waiting.done(null, decoded.reply);
  }

  /** Arms the one timer for `deadline` unless it fires before that anyway. */
  #armTimer(deadline: number, now: number): void {
    if (deadline >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = deadline;
    this.#timer = this.#options.clock.after(Math.max(0, deadline - now), () => {
      this.#timer = null;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#expire();
    });
  }

  #expire(): void {
    const now = this.#options.clock.monotonic();
    const expired: Waiting[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [id, waiting] of this.#waiting.entries()) {
      if (waiting.deadline > now) {
        next = Math.min(next, waiting.deadline);
        continue;
      }
      this.#waiting.delete(id);
      if (waiting.frame === null) this.#inFlight -= 1;
      else this.#queuedBytes -= waiting.frame.bytes;
      expired.push(waiting);
    }
    if (next < Number.POSITIVE_INFINITY) this.#armTimer(next, now);
    const silence = now - (this.#expectingSince ?? now);
    // The peer, or the way to it, is gone without a word.
    if (silence >= CONNECTION_SILENCE_MS) this.#break(this.#gone('nothing heard from it'), false);
    else this.#pump();
    const message = `node ${this.#node} at ${this.#address}: no reply in time`;
    for (const { done } of expired) {
      done(new HoldfastError('TIMEOUT', message, { retryable: true }), null);
    }
  }

  /** Ends the connection, if any; everything that waits fails. `soon`: not inside this call. */
  #break(error: HoldfastError, soon: boolean): void {
    const state = this.#state;
    this.#attempt += 1;
    if (state.type === 'proving') state.timer.cancel();
    if (state.type === 'proving' || state.type === 'ready') state.connection.close(true);
    const ceiling = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** this.#failures);
    const pause = ceiling * (0.5 + 0.5 * this.#options.random.fraction());
    this.#failures = Math.min(this.#failures + 1, 30);
    const now = this.#options.clock.monotonic();
    this.#state = { type: 'idle', retryAt: now + pause, error };
    const failed = this.#waiting.entries();
    this.#waiting.clear();
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#inFlight = 0;
    this.#expectingSince = null;
    this.#timer?.cancel();
    this.#timer = null;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const fail = (): void => {
      for (const [, { done }] of failed) done(error, null);
    };
    if (soon) this.#options.clock.soon(fail);
    else fail();
  }
}
