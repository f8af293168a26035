/**
 * A small HTTP server for people, monitoring and control: a few paths, bounded, on a port of its
 * own or on a unix socket that root alone may use.
 */
import { chmodSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { HoldfastError } from '../../core/errors.js';
import { formatAddress, parseAddress } from '../address.js';
import type { Address } from '../network.js';
import { saysFull } from './full.js';

const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 5_000;
const HEADERS_MAX_BYTES = 8 * 1024;

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface HttpService {
  readonly address: Address;
  close(): void;
}

export const NOT_FOUND: HttpAnswer = {
  status: 404,
  contentType: 'text/plain',
  body: 'not found\n',
};

/** Answers "GET /path" or "POST /path"; NOT_FOUND for what it does not know. */
export type HttpAnswerer = (path: string, method: 'GET' | 'POST') => Promise<HttpAnswer>;

/** Serves GETs at `address`. Rejects with ADDRESS_IN_USE or INVALID_ARGUMENT. */
export async function serveHttp(
  address: Address,
  answer: (path: string) => Promise<HttpAnswer>,
): Promise<HttpService> {
  const server = createServer(['GET', 'HEAD'], answer);
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await listen(server, parseAddress(address), address);
  const bound = server.address() as AddressInfo;
  return { address: formatAddress(bound.address, bound.port), close: () => close(server) };
}

/** Serves GETs and POSTs on a unix socket. Rejects with ADDRESS_IN_USE or INVALID_ARGUMENT. */
export async function serveSocket(path: string, answer: HttpAnswerer): Promise<{ close(): void }> {
  const server = createServer(['GET', 'HEAD', 'POST'], answer);
  await listen(server, { path }, path);
  chmodSync(path, 0o600);
  return { close: () => close(server) };
}

function createServer(methods: readonly string[], answer: HttpAnswerer): http.Server {
  const server = http.createServer({ maxHeaderSize: HEADERS_MAX_BYTES }, (request, response) => {
    const path = (request.url ?? '/').split('?')[0] as string;
    const { method = '' } = request;
    const send = ({ status, contentType, body }: HttpAnswer): void => {
      response.writeHead(status, { 'content-type': contentType, connection: 'close' });
      response.end(method === 'HEAD' ? '' : body);
    };
    request.resume();
    if (methods.includes(method)) void answer(path, method === 'POST' ? 'POST' : 'GET').then(send);
    else send({ ...NOT_FOUND, status: 405, body: `only ${methods.join(', ')}\n` });
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  return server;
}

function listen(
  server: http.Server,
  where: { readonly path: string } | { readonly host: string; readonly port: number },
  name: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isUsed = error.code === 'EADDRINUSE';
      const message = isUsed ? `${name} is in use` : `cannot listen on ${name}: ${error.code}`;
      const code = saysFull(error) ? 'DISK_FULL' : 'INVALID_ARGUMENT';
      reject(new HoldfastError(isUsed ? 'ADDRESS_IN_USE' : code, message));
    });
    server.listen(where, resolve);
  });
}

function close(server: http.Server): void {
  server.close();
  server.closeAllConnections();
}
