/**
 * The seam to the network: connections that carry whole frames (byte strings of at most a stated
 * size). The real twin (io/node/tcp.ts) is TCP with a u32 length before each frame; the simulated
 * one (test/fixtures/sim-network.ts) can also lose, delay, reorder and repeat frames, which TCP
 * does not do within one connection but does across reconnects: the protocol above must bear all of
 * it. Callbacks never run before the call that takes them has returned.
 */
import type { HoldfastError } from '../core/errors.js';

/** HOST:PORT; an IPv6 host stands in square brackets. */
export type Address = string;

export interface ConnectionHandlers {
  /** One whole frame. The buffer belongs to the receiver from now on. */
  onFrame(frame: Buffer): void;
  /** The queue has fallen below the limit again after `send` returned false. */
  onDrain(): void;
  /** Once, last: the connection is gone; `error` is null after an orderly end. */
  onClose(error: HoldfastError | null): void;
}

export interface Connection {
  /** For messages to people. */
  readonly peer: string;
  /** To be called once, before the event loop turns: nothing is delivered earlier. */
  handle(handlers: ConnectionHandlers): void;
  /**
   * Queues one frame made of these parts; the parts must not change until it was sent. Returns
   * false when more than the limit is queued and the caller should wait for `onDrain`. A no-op
   * after close.
   */
  send(parts: readonly Uint8Array[]): boolean;
  /**
   * Frames above this size close the connection with MALFORMED. Starts small, grows after the
   * handshake.
   */
  setMaxFrameBytes(bytes: number): void;
  /** Stops (true) or resumes (false) delivery, so that the peer is slowed down. */
  pause(paused: boolean): void;
  /** Ends the connection; `onClose` follows. `abort` drops what is queued. Idempotent. */
  close(abort?: boolean): void;
}

export interface Listener {
  /** Where it really listens (the port, if 0 was asked). */
  readonly address: Address;
  /** Stops accepting; open connections stay. */
  close(): void;
}

export interface Network {
  /** Calls back with a connection, or UNAVAILABLE/TIMEOUT. */
  connect(
    address: Address,
    timeoutMs: number,
    done: (error: HoldfastError | null, connection: Connection | null) => void,
  ): void;
  /** Calls back with a listener, or ADDRESS_IN_USE / INVALID_ARGUMENT. */
  listen(
    address: Address,
    onConnection: (connection: Connection) => void,
    done: (error: HoldfastError | null, listener: Listener | null) => void,
  ): void;
}
