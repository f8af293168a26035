/**
 * The real FuseDevice: a non-blocking /dev/fuse descriptor, its readiness watched by a uv_poll
 * handle (the prebuilt `Poller` inside @serialport/bindings-cpp; nothing is compiled at install
 * time), read and written by plain system calls on the event loop's own thread. Measured, this is
 * four times as fast as reading on libuv's thread pool, since a request needs no thread switch.
 *
 * What is relied on, and tested in test/fuse/poller.test.ts: the watcher fires once for each
 * `poll`, is level-triggered, reports an unmounted connection, and only works in the main thread.
 */
import { closeSync, readSync, writeSync, writevSync } from 'node:fs';
import { createRequire } from 'node:module';
import { assert } from '../../core/assert.js';
import { asFault } from '../../core/errors.js';
import type { FuseDevice, FuseDeviceHandlers, ReplyOutcome } from '../fuse-device.js';

/** The native class: calls back once after `poll`, with an error or the events that are ready. */
interface Poller {
  poll(events: number): void;
  stop(): void;
}
type PollerClass = new (
  fd: number,
  callback: (error: Error | null, events: number) => void,
) => Poller;

const READABLE = 1;
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
}

/**
 * Never collected: the native destructor would tell epoll to forget the descriptor's number, which
 * may by then be another file's.
 */
const retired: Poller[] = [];

/** Loaded when the first device starts, so that commands which mount nothing do not need it. */
function loadPoller(): PollerClass {
  const load = createRequire(import.meta.url);
  const module = load('@serialport/bindings-cpp/dist/serialport-bindings.js');
  return (module as { binding: { Poller: PollerClass } }).binding.Poller;
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException).code;
}

export class NodeFuseDevice implements FuseDevice {
  readonly #fd: number;
  readonly #options: NodeFuseDeviceOptions;
  #handlers: FuseDeviceHandlers | null = null;
  #poller: Poller | null = null;
  readonly #buffer: Buffer;
  #paused = false;
  #closed = false;
  /** A turn is scheduled or the watcher is armed: exactly one of both, unless paused or closed. */
  #waiting = false;
  /**
   * How many requests a turn will find ready, guessed from the last ones: a read that finds nothing
   * costs as much as serving a request, because Node makes an exception of it.
   */
  #expected = 1;
  #untilProbe = 0;

  /** Takes over `fd`, a /dev/fuse descriptor opened with O_NONBLOCK. */
  constructor(fd: number, options: NodeFuseDeviceOptions) {
    this.#fd = fd;
    this.#options = options;
    this.#buffer = Buffer.allocUnsafeSlow(options.bufferBytes);
  }

  start(handlers: FuseDeviceHandlers): void {
    assert(this.#handlers === null && !this.#closed, 'a device is started once');
    this.#handlers = handlers;
    const PollerType = loadPoller();
    // The callback comes without an async context: promises and ticks would wait for the next one,
    // and an exception would be lost. setImmediate gives both, in the same turn of the loop. After
    // an error (unmounted), reading says what it was.
    this.#poller = new PollerType(this.#fd, () => setImmediate(this.#turn));
    this.#arm();
  }

  reply(head: Buffer, length: number, parts: readonly Uint8Array[]): ReplyOutcome {
    if (this.#closed) return 'gone';
    for (;;) {
      try {
        const written = this.#write(head, length, parts);
        assert(written >= length, 'the kernel takes a reply whole');
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
    if (!paused && this.#poller !== null && !this.#closed) this.#arm();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#poller !== null) {
      this.#poller.stop();
      retired.push(this.#poller);
    }
    closeSync(this.#fd);
  }

  #arm(): void {
    if (this.#waiting || this.#closed || this.#paused) return;
    this.#waiting = true;
    this.#poller?.poll(READABLE);
  }

  /** Serves as many requests as are probably ready, then waits for more. */
  readonly #turn = (): void => {
    this.#waiting = false;
    let served = 0;
    while (served < this.#expected && !this.#paused && !this.#closed && this.#serveOne()) served++;
    if (served < this.#expected) {
      this.#expected = Math.max(1, served);
      this.#untilProbe = TURNS_BETWEEN_PROBES;
    } else if (this.#untilProbe > 0) {
      this.#untilProbe--;
    } else {
      this.#expected = Math.min(this.#expected * 2, this.#options.maxRequestsAWakeup);
    }
    this.#arm();
  };

  /** False when nothing is ready, or nothing ever will be. */
  #serveOne(): boolean {
    const handlers = this.#handlers;
    assert(handlers !== null, 'a device that is read was started');
    let length: number;
    try {
      length = readSync(this.#fd, this.#buffer, 0, this.#buffer.length, null);
    } catch (thrown) {
      return this.#readFailed(thrown, handlers);
    }
    handlers.onRequest(this.#buffer, length);
    return true;
  }

  #readFailed(thrown: unknown, handlers: FuseDeviceHandlers): boolean {
    const code = codeOf(thrown);
    if (code === 'EAGAIN') return false;
    // ENOENT: the request was taken back between being chosen and being copied.
    if (code === 'EINTR' || code === 'ENOENT') return true;
    const unmounted = code === 'ENODEV' || code === 'ECONNABORTED' || code === 'EPERM';
    this.close();
    handlers.onClose(unmounted ? null : asFault(thrown, 'UNAVAILABLE'));
    return false;
  }
}
