/**
 * One request's answer, in the adapter's words; each `Reply` is answered exactly once. Encodes into
 * the session's one reply buffer and hands it to the device, which is done with it on return.
 */
import { assert } from '../core/assert.js';
import type { Clock } from '../io/clock.js';
import type { FuseDevice } from '../io/fuse-device.js';
import type { Attributes, SpaceReport } from '../volume/filesystem-api.js';
import {
  encodeAttributesReply,
  encodeCount,
  encodeEntry,
  encodeHeader,
  encodeInit,
  encodeNoEntry,
  encodeOffset,
  encodeOpen,
  encodeStatfs,
  encodeUnique,
  type InitReply,
  PAYLOAD,
} from './encode.js';
import { ERRNO } from './errno.js';
import { type Late, LateReplies } from './late-replies.js';
import { MAX_LISTING_BYTES } from './limits.js';
import { LoggedReplies, type ReplyIntents, type WholeReply } from './logged-replies.js';
import type { Unique } from './operations.js';

/** Called when a request has been answered: with the bytes that it held, for the accounts. */
export type Answered = (heldBytes: number) => void;

/**
 * What became of a request when its handler returns: answered, or a callback will do it. That every
 * handler returns one lets the compiler find the path that does neither.
 */
export type Answer = 'sent' | 'later';

const NO_PARTS: readonly Uint8Array[] = [];

export interface ReplyChannelOptions {
  readonly device: FuseDevice;
  readonly clock: Clock;
  readonly intents: ReplyIntents | null;
  readonly answered: Answered;
  /** Some replies were abandoned. */
  readonly abandoned: () => void;
}

/** What all replies of a session share. */
export class ReplyChannel {
  readonly #device: FuseDevice;
  readonly #answered: Answered;
  readonly #logged: LoggedReplies | null;
  readonly late: LateReplies;
  /** Room for the largest reply that is not file data. Valid only within one synchronous reply. */
  readonly buffer = Buffer.alloc(PAYLOAD + MAX_LISTING_BYTES);
  /** Replies that the kernel did not understand: each is a bug of ours. */
  refused = 0;

  constructor({ device, clock, intents, answered, abandoned }: ReplyChannelOptions) {
    this.#device = device;
    this.#answered = answered;
    this.#logged =
      intents === null ? null : new LoggedReplies(intents, (reply) => this.giveAtOnce(reply));
    this.late = new LateReplies(clock, device, abandoned);
  }

  /** A request without a reply is done. */
  done(heldBytes: number): void {
    this.#answered(heldBytes);
  }

  /** `reply` is in memory that may be used again when this returns. */
  give(reply: WholeReply, isChange: boolean): void {
    if (this.#logged === null) this.giveAtOnce(reply);
    else this.#logged.give(reply, isChange);
  }

  /** For what tells of nothing that has been done. */
  giveAtOnce({ unique, head, length, parts, heldBytes }: WholeReply): void {
    if (this.#device.reply(head, length, parts) === 'refused') this.#sendEio(unique, head);
    this.#answered(heldBytes);
  }

  /** The kernel still waits after a reply that it refused; an application must not wait forever. */
  #sendEio(unique: Unique, head: Buffer): void {
    this.refused++;
    encodeHeader(head, unique, ERRNO.EIO, PAYLOAD);
    this.#device.reply(head, PAYLOAD, NO_PARTS);
  }
}

export class Reply {
  readonly #channel: ReplyChannel;
  readonly #unique: Unique;
  readonly #heldBytes: number;
  readonly #isChange: boolean;
  #open = true;
  #late: Late | null = null;
  #isAbandoned = false;

  /** `isChange`: the request may make changes, and must not be done twice. */
  constructor(channel: ReplyChannel, unique: Unique, heldBytes: number, isChange = false) {
    this.#channel = channel;
    this.#unique = unique;
    this.#heldBytes = heldBytes;
    this.#isChange = isChange;
  }

  /** Whether the request still waits for its answer. */
  get open(): boolean {
    return this.#open;
  }

  /** Nobody waits for the answer any more, and none that is given is sent. */
  get isAbandoned(): boolean {
    return this.#isAbandoned;
  }

  /** From now on abandoned when the thread that waits for it is killed. */
  awaitedBy(pid: number): void {
    this.#late ??= this.#channel.late.enter(this, pid);
  }

  /** Lets go who waits, who does not live to see the answer. */
  abandon(): void {
    this.#close();
    encodeHeader(this.#channel.buffer, this.#unique, ERRNO.EINTR, PAYLOAD);
    this.#channel.giveAtOnce(this.#whole(PAYLOAD, NO_PARTS));
    this.#open = true;
    this.#isAbandoned = true;
  }

  /** For requests that have no reply (FORGET). */
  none(): Answer {
    this.#close();
    this.#channel.done(this.#heldBytes);
    return 'sent';
  }

  /** The reply that a former daemon was about to give, but for the request's name. */
  again(bytes: Uint8Array): Answer {
    const { buffer } = this.#channel;
    buffer.set(bytes);
    encodeUnique(buffer, this.#unique);
    this.#close();
    return this.#give(bytes.length, NO_PARTS);
  }

  /** Success that has nothing to say. */
  ok(): Answer {
    return this.#send(PAYLOAD, NO_PARTS, 0);
  }

  error(errno: number): Answer {
    assert(errno > 0, 'an error has a number');
    return this.#send(PAYLOAD, NO_PARTS, errno);
  }

  entry(attributes: Attributes): Answer {
    return this.#send(encodeEntry(this.#channel.buffer, PAYLOAD, attributes));
  }

  /** There is no such name; the kernel may remember that. */
  noEntry(): Answer {
    return this.#send(encodeNoEntry(this.#channel.buffer, PAYLOAD));
  }

  attributes(attributes: Attributes): Answer {
    return this.#send(encodeAttributesReply(this.#channel.buffer, PAYLOAD, attributes));
  }

  opened(flags: number): Answer {
    return this.#send(encodeOpen(this.#channel.buffer, PAYLOAD, flags));
  }

  created(attributes: Attributes, flags: number): Answer {
    const { buffer } = this.#channel;
    return this.#send(encodeOpen(buffer, encodeEntry(buffer, PAYLOAD, attributes), flags));
  }

  /** The size of a write or of an attribute's value. */
  count(count: number): Answer {
    return this.#send(encodeCount(this.#channel.buffer, PAYLOAD, count));
  }

  offset(offset: number): Answer {
    return this.#send(encodeOffset(this.#channel.buffer, PAYLOAD, offset));
  }

  statfs(space: SpaceReport): Answer {
    return this.#send(encodeStatfs(this.#channel.buffer, PAYLOAD, space));
  }

  init(init: InitReply): Answer {
    return this.#send(encodeInit(this.#channel.buffer, PAYLOAD, init));
  }

  /** Bytes as they are: file data, a link's target, an attribute's value. */
  data(parts: readonly Uint8Array[]): Answer {
    return this.#send(PAYLOAD, parts);
  }

  /** Entries that `fill` writes into the buffer from `at` on; it returns where they end. */
  listing(fill: (buffer: Buffer, at: number) => number): Answer {
    return this.#send(fill(this.#channel.buffer, PAYLOAD));
  }

  #send(end: number, parts: readonly Uint8Array[] = NO_PARTS, errno = 0): Answer {
    this.#close();
    if (this.#isAbandoned) return 'sent';
    let length = end;
    for (const part of parts) length += part.length;
    encodeHeader(this.#channel.buffer, this.#unique, errno, length);
    return this.#give(end, parts);
  }

  #give(length: number, parts: readonly Uint8Array[]): Answer {
    this.#channel.give(this.#whole(length, parts), this.#isChange);
    return 'sent';
  }

  #whole(length: number, parts: readonly Uint8Array[]): WholeReply {
    const { buffer: head } = this.#channel;
    return { unique: this.#unique, head, length, parts, heldBytes: this.#heldBytes };
  }

  #close(): void {
    assert(this.#open, 'a request is answered once');
    this.#open = false;
    if (this.#late !== null) this.#channel.late.leave(this.#late);
    this.#late = null;
  }
}
