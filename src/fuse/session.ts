/**
 * One FUSE connection from INIT to its end: decodes requests, answers what concerns the connection
 * itself, gives the rest to the adapter, and counts what is under way so that a burst waits in the
 * kernel rather than in our memory.
 *
 * INVARIANT: every request that has a reply is answered exactly once, or the process has stopped.
 * INVARIANT: requests under way = requests begun − answered; the device is paused while they or
 * their bytes are above the limit.
 */
import { assert } from '../core/assert.js';
import { asFault, HoldfastError } from '../core/errors.js';
import type { Clock } from '../io/clock.js';
import type { FuseDevice } from '../io/fuse-device.js';
import type { Log } from '../io/log.js';
import type { Filesystem, FsError } from '../volume/filesystem-api.js';
import type { Result } from '../volume/intent-format.js';
import { changes, FilesystemAdapter } from './adapter.js';
import { decodeRequest, decodeUnique, type RequestFormat } from './decode.js';
import { encodeNotify, type InitReply, PAYLOAD } from './encode.js';
import { ERRNO } from './errno.js';
import { GatedRequests, type RequestGate } from './gated-requests.js';
import { isForCallerOnly } from './late-replies.js';
import { MAX_IN_FLIGHT_BYTES, MAX_IN_FLIGHT_REQUESTS } from './limits.js';
import { isResent, nameOf, type ReplyIntents } from './logged-replies.js';
import { negotiate } from './negotiate.js';
import type { Init, Request } from './operations.js';
import {
  IN_HEADER,
  InitFlag,
  NotifyCode,
  Opcode,
  PROTOCOL_MAJOR,
  PROTOCOL_MIN_MINOR,
} from './protocol.js';
import { Reply, ReplyChannel } from './reply.js';

export interface FuseSessionOptions {
  readonly device: FuseDevice;
  readonly filesystem: Filesystem;
  readonly log: Log;
  readonly clock: Clock;
  readonly readOnly?: boolean;
  /** What a request must pass before the filesystem sees it; default: nothing. */
  readonly gate?: RequestGate;
  /** The connection had a daemon before, which is dead. */
  readonly adopted?: AdoptedConnection;
  /** Of the filesystem, if it has one: replies wait for it. */
  readonly intents?: SessionIntents;
  /** INIT is answered; the argument is to be kept beside the descriptor for an adopter. */
  readonly onReady?: (agreed: InitReply) => void;
  /**
   * The connection is over and everything is committed, or could not be (`error`). The device is
   * closed.
   */
  readonly onEnd: (error: HoldfastError | FsError | null) => void;
}

export interface AdoptedConnection {
  /** What INIT settled: the kernel sends it once in a connection's life. */
  readonly agreed: InitReply;
  /** Replies that the dead daemon may not have been able to give. */
  readonly results: readonly Result[];
}

export interface SessionIntents extends ReplyIntents {
  /** All replies that a dead daemon left have been given. */
  dropCarried(): void;
}

export class FuseSession {
  readonly #options: FuseSessionOptions;
  readonly #adapter: FilesystemAdapter;
  readonly #channel: ReplyChannel;
  readonly #gated: GatedRequests | null;
  readonly #reportedFaults = new Set<string>();
  /** Of a dead daemon, by the request's name. */
  readonly #results = new Map<string, Uint8Array>();
  /** The kernel may still send again what the dead daemon had read. */
  #isResending = false;
  #agreed: InitReply | null;
  #format: RequestFormat = { extendedSetxattr: false };
  #requestsUnderWay = 0;
  #bytesUnderWay = 0;
  #paused = false;
  /** Paused from outside. */
  #isHeld = false;
  #ended = false;

  constructor(options: FuseSessionOptions) {
    this.#options = options;
    this.#agreed = null;
    this.#channel = new ReplyChannel({
      device: options.device,
      clock: options.clock,
      intents: options.intents ?? null,
      answered: (bytes) => this.#answered(bytes),
      abandoned: () => this.#gated?.dropAbandoned(),
    });
    this.#adapter = new FilesystemAdapter({
      filesystem: options.filesystem,
      readOnly: options.readOnly ?? false,
      adopted: options.adopted !== undefined,
      onFault: (fault) => this.#report(fault),
    });
    const { gate } = options;
    this.#gated =
      gate === undefined
        ? null
        : new GatedRequests(gate, {
            pass: (bytes, reply) => this.#passed(bytes, reply),
            onFault: (fault) => this.#report(fault),
          });
    const { adopted } = options;
    if (adopted === undefined) return;
    this.#agree(adopted.agreed);
    for (const { request, bytes } of adopted.results) this.#results.set(keyOf(request), bytes);
  }

  /** What INIT settled, or null before it. */
  get agreed(): InitReply | null {
    return this.#agreed;
  }

  /** Requests that wait for an answer. */
  get requestsUnderWay(): number {
    return this.#requestsUnderWay;
  }

  /** To be called once. What a dead daemon had read and not answered is asked for again. */
  start(): void {
    if (this.#options.adopted !== undefined) this.#resend();
    this.#options.device.start({
      onRequest: (buffer, length) => this.#onRequest(buffer, length),
      onClose: (error) => this.#onClose(error),
    });
  }

  /** Stops (true) or resumes (false) taking requests from the kernel. */
  hold(held: boolean): void {
    this.#isHeld = held;
    if (!this.#paused) this.#options.device.pause(held);
  }

  #resend(): void {
    const message = Buffer.alloc(PAYLOAD);
    const outcome = this.#options.device.reply(
      message,
      encodeNotify(message, NotifyCode.RESEND),
      [],
    );
    assert(outcome !== 'refused', 'a kernel that said so can send requests again');
    this.#isResending = true;
  }

  /** Whether the dead daemon had done what is asked for again; then it has been answered now. */
  #isAnswered({ unique, operation }: Request, reply: Reply): boolean {
    if (isResent(unique)) {
      const key = keyOf(nameOf(unique));
      const result = this.#results.get(key);
      if (result === undefined) return false;
      this.#results.delete(key);
      reply.again(result);
      return true;
    }
    // The kernel sends them before any other but FORGET and INTERRUPT, which have their own lists.
    const { op } = operation;
    if (op !== 'forget' && op !== 'batch-forget' && op !== 'interrupt') {
      this.#isResending = false;
      this.#results.clear();
      this.#options.intents?.dropCarried();
    }
    return false;
  }

  #onRequest(buffer: Buffer, length: number): void {
    let request: Request;
    try {
      request = decodeRequest(buffer, length, this.#format);
    } catch (thrown) {
      this.#refuse(buffer, length, asFault(thrown, 'MALFORMED'));
      return;
    }
    const { operation } = request;
    const heldBytes = operation.op === 'write' ? operation.data.length : 0;
    const reply = new Reply(this.#channel, request.unique, heldBytes, changes(operation));
    this.#begun(heldBytes);
    if (this.#isResending && this.#isAnswered(request, reply)) return;
    switch (operation.op) {
      case 'init':
        this.#init(operation, reply);
        return;
      case 'destroy':
        reply.ok();
        return;
      case 'interrupt':
        // File I/O is not interruptible, here as on other filesystems: an operation in the history
        // cannot be taken back. ENOSYS tells the kernel to stop asking. (late-replies.ts finds out
        // who was killed.)
        reply.error(ERRNO.ENOSYS);
        return;
      default:
        if (this.#agreed === null) {
          reply.error(ERRNO.EIO);
          return;
        }
        if (this.#gated?.holds(operation.op)) {
          this.#gated.hold(buffer.subarray(0, length), reply);
        } else {
          this.#adapter.handle(request, reply);
        }
        if (reply.open && isForCallerOnly(request)) reply.awaitedBy(request.pid);
    }
  }

  /** A request that waited at the gate, in bytes of its own. */
  #passed(bytes: Buffer, reply: Reply): void {
    this.#adapter.handle(decodeRequest(bytes, bytes.length, this.#format), reply);
  }

  #init(init: Init, reply: Reply): void {
    const result = negotiate(init);
    if (result.kind === 'too-old') {
      reply.error(ERRNO.EPROTO);
      const message = `the kernel's FUSE is ${result.version}`;
      const hint = `FUSE ${PROTOCOL_MAJOR}.${PROTOCOL_MIN_MINOR} (Linux 5.4) or newer is needed`;
      this.#end(new HoldfastError('VERSION', message, { hint }));
      return;
    }
    if (result.kind === 'agreed') this.#agree(result.reply);
    reply.init(result.reply);
    if (result.kind === 'agreed') this.#options.onReady?.(result.reply);
  }

  #agree(agreed: InitReply): void {
    this.#agreed = agreed;
    this.#format = { extendedSetxattr: (agreed.flags & InitFlag.SETXATTR_EXT) !== 0 };
  }

  /** A request that we cannot read is answered EIO, if it has a name to answer to. */
  #refuse(buffer: Buffer, length: number, fault: HoldfastError): void {
    this.#report(fault);
    if (length < IN_HEADER.BYTES) return;
    const opcode = buffer.readUInt32LE(IN_HEADER.OPCODE);
    if (opcode === Opcode.FORGET || opcode === Opcode.BATCH_FORGET) return;
    const reply = new Reply(this.#channel, decodeUnique(buffer, IN_HEADER.UNIQUE), 0);
    this.#begun(0);
    reply.error(ERRNO.EIO);
  }

  /** Each kind of fault is logged once a session: an application may retry a thousand times. */
  #report(fault: HoldfastError | FsError): void {
    const code = fault instanceof HoldfastError ? fault.code : fault.errno;
    if (this.#reportedFaults.has(code)) return;
    this.#reportedFaults.add(code);
    this.#options.log.error({ code, fault: fault.message }, 'an operation failed with EIO');
  }

  #begun(bytes: number): void {
    this.#requestsUnderWay++;
    this.#bytesUnderWay += bytes;
    if (this.#paused || !this.#isFull(1)) return;
    this.#paused = true;
    this.#options.device.pause(true);
  }

  #answered(bytes: number): void {
    this.#requestsUnderWay--;
    this.#bytesUnderWay -= bytes;
    assert(this.#requestsUnderWay >= 0 && this.#bytesUnderWay >= 0, 'answers match requests');
    if (this.#requestsUnderWay === 0) this.#options.device.settled();
    if (!this.#paused || this.#isFull(2)) return;
    this.#paused = false;
    if (!this.#isHeld) this.#options.device.pause(false);
  }

  /** Whether what is under way exceeds the limits divided by `parts`. */
  #isFull(parts: number): boolean {
    return (
      this.#requestsUnderWay * parts >= MAX_IN_FLIGHT_REQUESTS ||
      this.#bytesUnderWay * parts >= MAX_IN_FLIGHT_BYTES
    );
  }

  /** Unmounted (or aborted): a plain umount says nothing before, so now is the time to commit. */
  #onClose(error: HoldfastError | null): void {
    if (this.#channel.refused > 0) {
      const fields = { refused: this.#channel.refused };
      this.#options.log.error(fields, 'the kernel refused replies of ours');
    }
    this.#end(error);
  }

  #end(error: HoldfastError | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.device.close();
    this.#channel.late.close();
    this.#gated?.close();
    this.#options.filesystem.commit((failed) => this.#options.onEnd(error ?? failed));
  }
}

function keyOf({ low, high }: { readonly low: number; readonly high: number }): string {
  return `${high} ${low}`;
}
