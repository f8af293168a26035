/**
 * One TCP connection that carries frames. All frames of a chunk are handled in one turn, and what
 * is sent during a turn leaves in few system calls: small parts are gathered into one buffer, large
 * ones are handed over as they are. A socket gets the options of `Receiving`, which say where to
 * read to: a fresh buffer of 64 KiB for each read, as Node.js makes by itself, costs more in
 * garbage collection than all our own code.
 */
import type { Socket } from 'node:net';
import { assert } from '../../core/assert.js';
import { asFault, HoldfastError } from '../../core/errors.js';
import { CONNECTION_MAX_QUEUED_BYTES, FRAME_MAX_BYTES_UNAUTHENTICATED } from '../../core/limits.js';
import type { Connection, ConnectionHandlers } from '../network.js';
import { FrameReader, LENGTH_BYTES } from './tcp-frames.js';

/** Parts up to this size are copied together: cheaper than another entry of a writev. */
const GATHER_MAX_BYTES = 16 * 1024;
/** This much leaves at once, so that the peer can begin while this process goes on. */
const FLUSH_BYTES = 16 * 1024;
/** An orderly close waits this long for the peer to take what is queued. */
const LINGER_MS = 5_000;

/** All connections read into it, one after the other, and copy out of it before they return. */
const READ_BUFFER = Buffer.allocUnsafeSlow(64 * 1024);

/** What leaves by itself at FLUSH_BYTES, and the small part that brought it there. */
const WRITE_BUFFER_BYTES = FLUSH_BYTES + GATHER_MAX_BYTES;
/** What is small is copied together here, and given to the kernel at once. */
let writeBuffer = Buffer.allocUnsafeSlow(WRITE_BUFFER_BYTES);

/** Gives a socket's bytes to the connection that will be made of it. */
export class Receiving {
  connection: TcpConnection | null = null;
  readonly onread = {
    buffer: (): Buffer => this.connection?.room ?? READ_BUFFER,
    callback: (count: number, room: Uint8Array): boolean => {
      this.connection?.received(count, room);
      return true;
    },
  };
}

export class TcpConnection implements Connection {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #reader = new FrameReader(FRAME_MAX_BYTES_UNAUTHENTICATED);
  #handlers: ConnectionHandlers | null = null;
  /** Sent in this turn, not yet given to the socket. */
  #outgoing: Uint8Array[] = [];
  #outgoingBytes = 0;
  /** Given to the socket, not yet taken by the kernel. */
  #socketBytes = 0;
  #flushScheduled = false;
  #isDelivering = false;
  #isPaused = false;
  #resumeScheduled = false;
  #blocked = false;
  #isClosing = false;
  #error: HoldfastError | null = null;
  #linger: NodeJS.Timeout | null = null;

  constructor(socket: Socket, peer: string, receiving: Receiving) {
    this.#socket = socket;
    this.peer = peer;
    socket.on('error', (error) => {
      const code = (error as NodeJS.ErrnoException).code ?? error.message;
      this.#error ??= this.#broken(code);
    });
    socket.on('end', () => {
      if (this.#reader.isInside) this.#error ??= this.#broken('ended in the middle of a frame');
    });
    socket.once('close', () => this.#onClose());
    receiving.connection = this;
  }

  /** Where the next bytes are to be read to. */
  get room(): Buffer {
    return this.#reader.room ?? READ_BUFFER;
  }

  /** Takes the first `count` bytes of `room`. */
  received(count: number, room: Uint8Array): void {
    if (this.#isClosing) return;
    if (room === READ_BUFFER) this.#reader.push(READ_BUFFER.subarray(0, count));
    else this.#reader.filled(count);
    if (!this.#isPaused) this.#deliver();
    this.#reader.keep();
  }

  handle(handlers: ConnectionHandlers): void {
    assert(this.#handlers === null, 'a connection has one handler');
    this.#handlers = handlers;
  }

  setMaxFrameBytes(bytes: number): void {
    this.#reader.maxFrameBytes = bytes;
  }

  send(parts: readonly Uint8Array[]): boolean {
    if (this.#isClosing || this.#error !== null) return true;
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const length = Buffer.allocUnsafe(LENGTH_BYTES);
    length.writeUInt32LE(bytes, 0);
    this.#outgoing.push(length, ...parts);
    this.#outgoingBytes += bytes + LENGTH_BYTES;
    if (this.#outgoingBytes >= FLUSH_BYTES) {
      this.#flush();
    } else if (!this.#isDelivering && !this.#flushScheduled) {
      this.#flushScheduled = true;
      process.nextTick(() => {
        this.#flushScheduled = false;
        this.#flush();
      });
    }
    if (this.#outgoingBytes + this.#socketBytes <= CONNECTION_MAX_QUEUED_BYTES) return true;
    this.#blocked = true;
    return false;
  }

  pause(paused: boolean): void {
    if (paused === this.#isPaused) return;
    this.#isPaused = paused;
    if (paused) {
      this.#socket.pause();
    } else if (!this.#resumeScheduled) {
      // Frames that are here already come first, and never inside this call.
      this.#resumeScheduled = true;
      process.nextTick(() => {
        this.#resumeScheduled = false;
        if (this.#isPaused || this.#socket.destroyed) return;
        this.#deliver();
        if (!this.#isPaused) this.#socket.resume();
      });
    }
  }

  close(abort = false): void {
    if (abort) {
      this.#isClosing = true;
      this.#outgoing = [];
      this.#socket.destroy();
      return;
    }
    if (this.#isClosing) return;
    this.#flush();
    this.#isClosing = true;
    this.#socket.end();
    // The peer's end is seen only while reading.
    this.#socket.resume();
    this.#linger = setTimeout(() => this.#socket.destroy(), LINGER_MS);
  }

  #broken(why: string): HoldfastError {
    const message = `connection with ${this.peer}: ${why}`;
    return new HoldfastError('UNAVAILABLE', message, { retryable: true });
  }

  #deliver(): void {
    const handlers = this.#handlers;
    assert(handlers !== null, 'frames come after handle()');
    this.#isDelivering = true;
    try {
      while (!this.#isPaused && !this.#isClosing) {
        const frame = this.#nextFrame();
        if (frame === null) break;
        handlers.onFrame(frame);
      }
    } finally {
      this.#isDelivering = false;
    }
    this.#flush();
  }

  #nextFrame(): Buffer | null {
    try {
      return this.#reader.next();
    } catch (thrown) {
      this.#error ??= asFault(thrown, 'MALFORMED');
      this.close(true);
      return null;
    }
  }

  #flush(): void {
    if (this.#outgoing.length === 0 || this.#isClosing) return;
    const outgoing = this.#outgoing;
    const bytes = this.#outgoingBytes;
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    this.#socketBytes += bytes;
    const written = (): void => this.#onWritten(bytes);
    if (bytes <= WRITE_BUFFER_BYTES) {
      this.#socket.write(joined(outgoing, bytes), written);
      // What the kernel has not taken yet is still needed.
      if (this.#socket.writableLength > 0) writeBuffer = Buffer.allocUnsafeSlow(WRITE_BUFFER_BYTES);
      return;
    }
    const parts = gather(outgoing);
    if (parts.length === 1) {
      this.#socket.write(parts[0] as Uint8Array, written);
      return;
    }
    this.#socket.cork();
    for (let i = 0; i < parts.length - 1; i++) this.#socket.write(parts[i] as Uint8Array);
    this.#socket.write(parts[parts.length - 1] as Uint8Array, written);
    this.#socket.uncork();
  }

  #onWritten(bytes: number): void {
    this.#socketBytes -= bytes;
    const left = this.#socketBytes + this.#outgoingBytes;
    if (!this.#blocked || left > CONNECTION_MAX_QUEUED_BYTES / 2) return;
    if (this.#isClosing || this.#socket.destroyed) return;
    this.#blocked = false;
    this.#handlers?.onDrain();
  }

  #onClose(): void {
    this.#isClosing = true;
    this.#outgoing = [];
    if (this.#linger !== null) clearTimeout(this.#linger);
    this.#handlers?.onClose(this.#error);
  }
}

/** The parts, one behind the other, at the start of the buffer that all connections use. */
function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  let at = 0;
  for (const part of parts) {
    writeBuffer.set(part, at);
    at += part.length;
  }
  return writeBuffer.subarray(0, bytes);
}

/** Copies runs of small parts into one buffer each; large parts stay what they are. */
export function gather(parts: readonly Uint8Array[]): Uint8Array[] {
  const gathered: Uint8Array[] = [];
  let from = 0;
  while (from < parts.length) {
    let to = from;
    let bytes = 0;
    while (to < parts.length && (parts[to] as Uint8Array).length <= GATHER_MAX_BYTES) {
      bytes += (parts[to] as Uint8Array).length;
      to += 1;
    }
    if (to - from > 1) {
      const run = Buffer.allocUnsafe(bytes);
      let at = 0;
      for (let i = from; i < to; i++) {
        run.set(parts[i] as Uint8Array, at);
        at += (parts[i] as Uint8Array).length;
      }
      gathered.push(run);
    } else if (to > from) {
      gathered.push(parts[from] as Uint8Array);
    }
    if (to < parts.length) gathered.push(parts[to] as Uint8Array);
    from = to + 1;
  }
  return gathered;
}
