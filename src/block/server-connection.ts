/**
 * One accepted connection: handshake, then requests in and replies out, with backpressure both
 * ways. It stops reading while too many requests or bytes are in progress, or while the peer does
 * not take its replies; and begins no request while the replies to come of its disk hold too much
 * (reply-room.ts). So a peer can hold up only itself, and what the node holds for it is bounded.
 *
 * A malformed frame ends the connection with one logged fault. Replies after its end are dropped:
 * the client knows that it does not know.
 */
import { asFault, type HoldfastError, malformed } from '../core/errors.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import {
  CONNECTION_MAX_IN_FLIGHT,
  CONNECTION_MAX_QUEUED_BYTES,
  FRAME_MAX_BYTES,
  FRAME_MAX_BYTES_UNAUTHENTICATED,
  HANDSHAKE_TIMEOUT_MS,
  LOCATE_MAX_PAGES,
} from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Connection } from '../io/network.js';
import type { Random } from '../io/random.js';
import type { ServerMetrics } from './metrics.js';
import { type Asked, ReplyRoom } from './reply-room.js';
import {
  type Credentials,
  HandshakeServer,
  NONCE_BYTES,
  type VersionRange,
} from './wire/handshake.js';
import { plainReply, protocolOf, type Reply, type Request } from './wire/messages.js';
import { encodeReply } from './wire/reply-frames.js';
import { type DecodedRequest, decodeRequest } from './wire/request-frames.js';

/** What the server needs of StorageNode. */
export interface RequestHandler {
  /** `reply` is called at most once, perhaps before this call returns. */
  handle(request: Request, reply: (reply: Reply) => void): void;
}

export interface ServerConnectionOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly credentials: Credentials;
  readonly versions: VersionRange | undefined;
  readonly node: NodeId;
  readonly disks: readonly Incarnation[];
  readonly handler: RequestHandler;
  readonly metrics: ServerMetrics;
  /** Asked when the peer has proved itself: is there room for one more of these? */
  readonly admit: () => boolean;
  /** Once, last. */
  readonly onEnd: () => void;
}

const PAGE_SUM_BYTES = 4;
/** Of an entry of an inventory, with its ids as text in memory: about. */
const INVENTORY_ENTRY_BYTES = 256;

/** proving → open → draining → closing → closed, forward only. */
type Phase = 'proving' | 'open' | 'draining' | 'closing' | 'closed';

/** Whose reply may hold what the request itself does not. */
type Roomy = Extract<Request, { type: 'read' | 'locate' | 'inventory' }>;

function isRoomy(request: Request): request is Roomy {
  const { type } = request;
  return type === 'read' || type === 'locate' || type === 'inventory';
}

/** Memory that is taken when the request is begun. */
function replyBytes(request: Roomy): number {
  switch (request.type) {
    case 'read':
      return request.count * PAGE_BYTES;
    case 'locate':
      return LOCATE_MAX_PAGES * PAGE_SUM_BYTES;
    case 'inventory':
      return request.limit * INVENTORY_ENTRY_BYTES;
  }
}

export class ServerConnection {
  readonly #connection: Connection;
  readonly #options: ServerConnectionOptions;
  readonly #handshake: HandshakeServer;
  readonly #timer: { cancel(): void };
  #phase: Phase = 'proving';
  /** Of the protocol, once it is open. */
  #version = 0;
  #inProgress = 0;
  /** Of requests. */
  #bytesInProgress = 0;
  readonly #room: ReplyRoom;
  #blocked = false;
  #paused = false;

  constructor(connection: Connection, options: ServerConnectionOptions) {
    this.#connection = connection;
    this.#options = options;
    const { clock, random, credentials, versions, node, disks } = options;
    this.#room = new ReplyRoom(clock, () => !this.#blocked);
    const nonce = random.bytes(NONCE_BYTES);
    this.#handshake = new HandshakeServer({ credentials, versions, node, disks, nonce });
    this.#timer = clock.after(HANDSHAKE_TIMEOUT_MS, () => this.#onHandshakeTimeout());
    connection.setMaxFrameBytes(FRAME_MAX_BYTES_UNAUTHENTICATED);
    connection.handle({
      onFrame: (frame) => this.#onFrame(frame),
      onDrain: () => {
        this.#blocked = false;
        this.#room.resume();
        this.#adjust();
      },
      onClose: (error) => this.#onClose(error),
    });
  }

  /** Takes no more requests; ends once everything in progress is answered. */
  drain(): void {
    if (this.#phase === 'proving') {
      this.abort();
      return;
    }
    if (this.#phase !== 'open') return;
    this.#phase = 'draining';
    this.#adjust();
    this.#endIfDrained();
  }

  /** Ends at once. */
  abort(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closing';
    this.#connection.close(true);
  }

  #onHandshakeTimeout(): void {
    if (this.#phase !== 'proving') return;
    this.#options.metrics.handshakesFailed += 1;
    this.#options.log.warn({ peer: this.#connection.peer }, 'A peer connected and said nothing.');
    this.abort();
  }

  #onFrame(frame: Buffer): void {
    this.#options.metrics.bytesReceived += frame.length;
    switch (this.#phase) {
      case 'proving':
        this.#onHandshake(frame);
        return;
      case 'open':
        this.#onRequest(frame);
        return;
      case 'draining':
      case 'closing':
      case 'closed':
        return;
    }
  }

  #onHandshake(frame: Buffer): void {
    const { log, metrics } = this.#options;
    const step = this.#handshake.step(frame);
    if (step.type === 'done' && !this.#options.admit()) {
      log.warn({ peer: this.#connection.peer }, 'Refused a connection: there are too many.');
      this.abort();
      return;
    }
    if (step.send !== null) this.#connection.send([step.send]);
    if (step.type === 'continue') return;
    this.#timer.cancel();
    if (step.type === 'failed') {
      metrics.handshakesFailed += 1;
      const { code, message } = step.error;
      log.warn({ peer: this.#connection.peer, code }, `Refused a connection: ${message}.`);
      this.#phase = 'closing';
      this.#connection.close(step.send === null);
      return;
    }
    this.#connection.setMaxFrameBytes(FRAME_MAX_BYTES);
    this.#phase = 'open';
    const { role, id, version } = step.peer;
    this.#version = version;
    log.info({ peer: this.#connection.peer, role, id, protocol: version }, 'A peer connected.');
  }

  #onRequest(frame: Buffer): void {
    const { clock, metrics, log } = this.#options;
    let decoded: DecodedRequest;
    try {
      decoded = decodeRequest(frame);
      const { type } = decoded.request;
      if (protocolOf(type) > this.#version) {
        throw malformed(`request ${type} is not of protocol ${this.#version}`);
      }
    } catch (thrown) {
      const { code, message } = asFault(thrown, 'MALFORMED');
      metrics.malformedFrames += 1;
      log.error({ peer: this.#connection.peer, code }, `Closed a connection: ${message}.`);
      this.abort();
      return;
    }
    const { id, request } = decoded;
    const since = clock.monotonic();
    // A FENCE sends a segment's header, which is small, and waits long for leases.
    const bytes = frame.length + (request.type === 'fence' ? PAGE_BYTES : 0);
    this.#inProgress += 1;
    this.#bytesInProgress += bytes;
    metrics.requestsInProgress += 1;
    this.#begin(request, (reply) => {
      this.#inProgress -= 1;
      this.#bytesInProgress -= bytes;
      if (this.#phase !== 'closed') metrics.requestsInProgress -= 1;
      metrics.answered(request.type, reply.status, clock.monotonic() - since);
      this.#onReply(id, reply);
    });
    this.#adjust();
  }

  /** Hands a request over, now or when there is room for its reply; `done` is called once. */
  #begin(request: Request, done: (reply: Reply) => void): void {
    const { handler } = this.#options;
    let isAnswered = false;
    const once = (reply: Reply): void => {
      if (isAnswered) return;
      isAnswered = true;
      done(reply);
    };
    if (!isRoomy(request)) {
      handler.handle(request, once);
      return;
    }
    const { incarnation: disk } = request;
    let isEnded = false;
    const ended = (reply: Reply): void => {
      if (isEnded) return;
      isEnded = true;
      once(reply);
      this.#room.give(asked);
    };
    const asked: Asked = {
      disk,
      bytes: replyBytes(request),
      start: () => handler.handle(request, ended),
      giveUp: () => once(plainReply('BUSY', disk)),
      place: null,
    };
    this.#room.take(asked);
  }

  #onReply(id: number, reply: Reply): void {
    if (this.#phase !== 'open' && this.#phase !== 'draining') return;
    const frame = encodeReply(id, reply);
    this.#options.metrics.bytesSent += frame.bytes;
    if (!this.#connection.send(frame.parts)) this.#blocked = true;
    this.#adjust();
    this.#endIfDrained();
  }

  /** Reads only while there is room for what would be read. */
  #adjust(): void {
    const paused =
      this.#phase === 'draining' ||
      this.#blocked ||
      this.#inProgress >= CONNECTION_MAX_IN_FLIGHT ||
      this.#bytesInProgress >= CONNECTION_MAX_QUEUED_BYTES;
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.#connection.pause(paused);
  }

  #endIfDrained(): void {
    if (this.#phase !== 'draining' || this.#inProgress > 0) return;
    this.#phase = 'closing';
    this.#connection.close();
  }

  #onClose(error: HoldfastError | null): void {
    const before = this.#phase;
    this.#phase = 'closed';
    this.#timer.cancel();
    this.#room.close();
    const { log, metrics, onEnd } = this.#options;
    metrics.requestsInProgress -= this.#inProgress;
    if (error?.code === 'MALFORMED') {
      // The network could not even find a frame.
      metrics.malformedFrames += 1;
      const { code, message } = error;
      log.warn({ peer: this.#connection.peer, code }, `Closed a connection: ${message}.`);
    } else if (before === 'open' && error !== null) {
      const { message } = error;
      log.info({ peer: this.#connection.peer }, `A connection broke: ${message}.`);
    }
    onEnd();
  }
}
