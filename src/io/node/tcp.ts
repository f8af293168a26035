/**
 * The real network: TCP, a u32 length (little-endian) before each frame. Connections are
 * tcp-connection.ts; this file opens them.
 */
import net from 'node:net';
import { HoldfastError } from '../../core/errors.js';
import { formatAddress, parseAddress } from '../address.js';
import type { Address, Connection, Listener, Network } from '../network.js';
import { Receiving, TcpConnection } from './tcp-connection.js';

/** Waiting to be accepted. */
const BACKLOG = 511;
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

interface WithHandle {
  _handle: unknown;
}

/**
 * An accepted socket again, as one that reads to where it is told. Node.js has that option only for
 * sockets that connect; so the handle gets a new socket, and the one it came with is forgotten.
 */
function readInto(accepted: net.Socket, { onread }: Receiving): net.Socket {
  const holder = accepted as unknown as WithHandle;
  const handle = holder._handle;
  holder._handle = null;
  return new net.Socket({ handle, onread } as net.SocketConstructorOpts);
}

class TcpNetwork implements Network {
  connect(
    address: Address,
    timeoutMs: number,
    done: (error: HoldfastError | null, connection: Connection | null) => void,
  ): void {
    let socket: net.Socket;
    const receiving = new Receiving();
    const { onread } = receiving;
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
        done(null, new TcpConnection(socket, address, receiving));
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
    const server = net.createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, (accepted) => {
      const peer = formatAddress(accepted.remoteAddress ?? '?', accepted.remotePort ?? 0);
      const receiving = new Receiving();
      onConnection(new TcpConnection(readInto(accepted, receiving), peer, receiving));
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
