/**
 * The real network: TCP, a u32 length (little-endian) before each frame. Connections are
 * tcp-connection.ts; this file opens them.
 */
import net from 'node:net';
import { HoldfastError } from '../../core/errors.js';
import { formatAddress, parseAddress } from '../address.js';
import type { Address, Connection, Listener, Network } from '../network.js';
import { TcpConnection } from './tcp-connection.js';

/** Waiting to be accepted. */
const BACKLOG = 511;
const READ_BUFFER_BYTES = 64 * 1024;
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000 };

function systemCode(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.message;
}

function connectFault(address: Address, error: Error): HoldfastError {
  const message = `cannot connect to ${address}: ${systemCode(error)}`;
  return new HoldfastError('UNAVAILABLE', message, { retryable: true, cause: error });
}

function listenFault(address: Address, error: Error): HoldfastError {
  const code = systemCode(error);
  if (code === 'EADDRINUSE') {
    const hint = 'Stop the program that listens there, or choose another port.';
    return new HoldfastError('ADDRESS_IN_USE', `${address} is in use`, { hint, cause: error });
  }
  const hint = 'Use an address of this machine and a port that this user may listen on.';
  const message = `cannot listen on ${address}: ${code}`;
  return new HoldfastError('INVALID_ARGUMENT', message, { hint, cause: error });
}

class TcpNetwork implements Network {
  connect(
    address: Address,
    timeoutMs: number,
    done: (error: HoldfastError | null, connection: Connection | null) => void,
  ): void {
    let socket: net.Socket;
    let connection: TcpConnection | null = null;
    // Read into one buffer again and again: a fresh one of 64 KiB for each read, as Node.js makes
    // by itself, costs more in garbage collection than all our own code for a small reply.
    const onread = {
      buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
      callback: (bytes: number, buffer: Uint8Array): boolean => {
        connection?.receive(buffer.subarray(0, bytes));
        return true;
      },
    };
    try {
      socket = net.connect({ ...parseAddress(address), ...SOCKET_OPTIONS, onread });
    } catch (error) {
      process.nextTick(() => done(connectFault(address, error as Error), null));
      return;
    }
    let isOver = false;
    const end = (error: HoldfastError | null): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      if (error === null) {
        socket.off('error', onError);
        connection = new TcpConnection(socket, address, 'receive');
        done(null, connection);
      } else {
        socket.destroy();
        done(error, null);
      }
    };
    const onError = (error: Error): void => end(connectFault(address, error));
    const timer = setTimeout(() => {
      const message = `cannot connect to ${address}: no answer within ${timeoutMs} ms`;
      end(new HoldfastError('TIMEOUT', message, { retryable: true }));
    }, timeoutMs);
    socket.on('error', onError);
    socket.once('connect', () => end(null));
  }

  listen(
    address: Address,
    onConnection: (connection: Connection) => void,
    done: (error: HoldfastError | null, listener: Listener | null) => void,
  ): void {
    const server = net.createServer(SOCKET_OPTIONS, (socket) => {
      const peer = formatAddress(socket.remoteAddress ?? '?', socket.remotePort ?? 0);
      onConnection(new TcpConnection(socket, peer, 'stream'));
    });
    let isListening = false;
    server.on('error', (error) => {
      // After `listening` an error is a failed accept (no descriptors): that peer tries again.
      if (!isListening) done(listenFault(address, error), null);
    });
    try {
      server.listen({ ...parseAddress(address), backlog: BACKLOG }, () => {
        isListening = true;
        const bound = server.address() as net.AddressInfo;
        const close = (): void => void server.close();
        done(null, { address: formatAddress(bound.address, bound.port), close });
      });
    } catch (error) {
      const fault = error instanceof HoldfastError ? error : listenFault(address, error as Error);
      process.nextTick(() => done(fault, null));
    }
  }
}

export const tcpNetwork: Network = new TcpNetwork();
