/**
 * The real FuseDevice: a non-blocking /dev/fuse descriptor as a libuv stream, which stays in epoll
 * and reads each request into one buffer of ours; replies, and requests beyond the first of a turn,
 * are plain system calls on the event loop's own thread. A request costs three system calls and no
 * thread switch: four times as fast as reading on libuv's thread pool.
 *
 * Node.js has no public way to watch a character device, but its class behind pipes and UNIX
 * sockets takes any descriptor. What is relied on is tested in test/fuse/fuse-device.test.ts.
 */
import { closeSync, readSync, writeSync, writevSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { assert } from '../../core/assert.js';
import { asFault, HoldfastError } from '../../core/errors.js';
import type { FuseCaller, FuseDevice, FuseDeviceHandlers, ReplyOutcome } from '../fuse-device.js';
import { BusyPoll } from './busy-poll.js';
import { NodeFuseCaller } from './fuse-caller.js';

/** libuv's stream over any descriptor, as Node.js calls it. */
interface Pipe {
  /** 0, or the negative number of an error. */
  open(fd: number): number;
}
interface PipeBinding {
  readonly Pipe: new (type: number) => Pipe;
  readonly constants: { readonly SOCKET: number };
}

/** After a read that found nothing, this many turns pass before one more than expected is tried. */
const TURNS_BETWEEN_PROBES = 32;

export interface NodeFuseDeviceOptions {
  /** The longest request, for the read buffers. */
  readonly bufferBytes: number;
  /** Requests served before the event loop gets its turn. */
  readonly maxRequestsAWakeup: number;
  /** A single part up to this size is copied behind the head. */
  readonly copyMaxBytes: number;
  /** Replies of more parts are joined before they are sent. */
  readonly maxReplyParts: number;
  /** The next request is looked for so long before we sleep, when it is likely to come. */
  readonly busyPollMs: number;
  /** A reply of so many bytes was given. */
  readonly onReply?: ((bytes: number) => void) | undefined;
}

/** Reads `fd` into `buffer` whenever there is something, until `onRead` returns false. */
function watch(fd: number, buffer: Buffer, onRead: (length: number) => boolean): Socket {
  const { binding } = process as unknown as { binding(name: 'pipe_wrap'): PipeBinding };
  const { Pipe, constants } = binding('pipe_wrap');
  const handle = new Pipe(constants.SOCKET);
  const status = handle.open(fd);
  if (status !== 0) {
    throw new HoldfastError('UNAVAILABLE', `descriptor ${fd} cannot be watched: ${status}`);
  }
  const options = { handle, onread: { buffer, callback: onRead } };
  return new Socket(options as SocketConstructorOpts);
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException).code;
}

export class NodeFuseDevice implements FuseDevice {
  readonly #fd: number;
  readonly #options: NodeFuseDeviceOptions;
  #handlers: FuseDeviceHandlers | null = null;
  #socket: Socket | null = null;
  readonly #buffer: Buffer;
  readonly #poll: BusyPoll;
  #paused = false;
  #closed = false;
  /** Inside `#turn`, whose result says whether to go on. */
  #isServing = false;
  /**
   * How many requests a turn will find ready, guessed from the last ones: a read of ours that finds
   * nothing costs as much as serving a request, because Node.js makes an exception of it.
   */
  #expected = 1;
  #untilProbe = 0;

  /** Takes over `fd`, a /dev/fuse descriptor opened with O_NONBLOCK. */
  constructor(fd: number, options: NodeFuseDeviceOptions) {
    this.#fd = fd;
    this.#options = options;
    this.#buffer = Buffer.allocUnsafeSlow(options.bufferBytes);
    this.#poll = new BusyPoll(options.busyPollMs);
  }

  start(handlers: FuseDeviceHandlers): void {
    assert(this.#handlers === null && !this.#closed, 'a device is started once');
    this.#handlers = handlers;
    this.#socket = watch(this.#fd, this.#buffer, (length) => this.#turn(length));
    this.#socket.on('error', (error) => this.#ended(error));
    this.#socket.on('end', () => this.#ended(new Error('the FUSE device has come to an end')));
  }

  reply(head: Buffer, length: number, parts: readonly Uint8Array[]): ReplyOutcome {
    // A socket that met an error has closed the descriptor already, and tells us in a moment.
    if (this.#closed || this.#socket?.destroyed === true) return 'gone';
    for (;;) {
      try {
        const written = this.#write(head, length, parts);
        assert(written >= length, 'the kernel takes a reply whole');
        this.#options.onReply?.(written);
        return 'sent';
      } catch (thrown) {
        const code = codeOf(thrown);
        if (code === 'EINTR' || code === 'EAGAIN') continue;
        if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENOTCONN') return 'gone';
        if (code === 'ECONNABORTED' || code === 'EPERM') return 'gone';
        if (code === 'EINVAL' || code === 'E2BIG') return 'refused';
        throw thrown;
      }
    }
  }

  #write(head: Buffer, length: number, parts: readonly Uint8Array[]): number {
    if (parts.length === 0) return writeSync(this.#fd, head, 0, length);
    const [only] = parts;
    if (parts.length === 1 && only !== undefined && only.length <= this.#options.copyMaxBytes) {
      const end = length + only.length;
      if (end <= head.length) {
        head.set(only, length);
        return writeSync(this.#fd, head, 0, end);
      }
    }
    if (parts.length > this.#options.maxReplyParts) {
      return writevSync(this.#fd, [head.subarray(0, length), Buffer.concat(parts)]);
    }
    return writevSync(this.#fd, [head.subarray(0, length), ...parts]);
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    if (this.#closed || this.#isServing) return;
    if (paused) this.#socket?.pause();
    else this.#socket?.resume();
  }

  caller(task: number): FuseCaller {
    return new NodeFuseCaller(task);
  }

  settled(): void {
    this.#poll.settled();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#socket === null) closeSync(this.#fd);
    else this.#socket.destroy();
  }

  /** Serves the request that came, and as many more as are probably ready. */
  #turn(length: number): boolean {
    const handlers = this.#handlers;
    assert(handlers !== null, 'a device that is read was started');
    this.#isServing = true;
    this.#poll.arrived();
    handlers.onRequest(this.#buffer, length);
    let served = 1;
    while (served < this.#expected && !this.#paused && !this.#closed && this.#serveOne()) served++;
    if (served < this.#expected) {
      this.#expected = Math.max(1, served);
      this.#untilProbe = TURNS_BETWEEN_PROBES;
    } else if (this.#untilProbe > 0) {
      this.#untilProbe--;
    } else {
      this.#expected = Math.min(this.#expected * 2, this.#options.maxRequestsAWakeup);
    }
    this.#isServing = false;
    return !this.#paused && !this.#closed;
  }

  /** False when nothing is ready, or nothing ever will be. */
  #serveOne(): boolean {
    const handlers = this.#handlers;
    assert(handlers !== null, 'a device that is read was started');
    let length: number;
    try {
      length = readSync(this.#fd, this.#buffer, 0, this.#buffer.length, null);
    } catch (thrown) {
      return this.#readFailed(thrown);
    }
    handlers.onRequest(this.#buffer, length);
    return true;
  }

  #readFailed(thrown: unknown): boolean {
    const code = codeOf(thrown);
    if (code === 'EAGAIN') return false;
    // ENOENT: the request was taken back between being chosen and being copied.
    if (code === 'EINTR' || code === 'ENOENT') return true;
    this.#ended(thrown);
    return false;
  }

  /** Nothing more will come; EPERM is how the kernel calls a connection that was never mounted. */
  #ended(thrown: unknown): void {
    if (this.#handlers === null || this.#closed) return;
    const code = codeOf(thrown);
    const unmounted = code === 'ENODEV' || code === 'ECONNABORTED' || code === 'EPERM';
    this.close();
    this.#handlers.onClose(unmounted ? null : asFault(thrown, 'UNAVAILABLE'));
  }
}
