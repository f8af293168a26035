/**
 * A small HTTP server for people and monitoring: GET of a few paths, bounded, on a port of its own.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { HoldfastError } from '../../core/errors.js';
import { formatAddress, parseAddress } from '../address.js';
import type { Address } from '../network.js';

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

/** Serves `answer` (by path) at `address`. Rejects with ADDRESS_IN_USE or INVALID_ARGUMENT. */
export function serveHttp(
  address: Address,
  answer: (path: string) => Promise<HttpAnswer>,
): Promise<HttpService> {
  const server = http.createServer({ maxHeaderSize: HEADERS_MAX_BYTES }, (request, response) => {
    const path = (request.url ?? '/').split('?')[0] as string;
    const isGet = request.method === 'GET' || request.method === 'HEAD';
    const send = ({ status, contentType, body }: HttpAnswer): void => {
      response.writeHead(status, { 'content-type': contentType, connection: 'close' });
      response.end(request.method === 'HEAD' ? '' : body);
    };
    request.resume();
    if (!isGet) return send({ ...NOT_FOUND, status: 405, body: 'only GET\n' });
    void answer(path).then(send);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isUsed = error.code === 'EADDRINUSE';
      const message = isUsed
        ? `${address} is in use`
        : `cannot listen on ${address}: ${error.code}`;
      reject(new HoldfastError(isUsed ? 'ADDRESS_IN_USE' : 'INVALID_ARGUMENT', message));
    });
    server.listen(parseAddress(address), () => {
      const bound = server.address() as AddressInfo;
      const close = (): void => {
        server.close();
        server.closeAllConnections();
      };
      resolve({ address: formatAddress(bound.address, bound.port), close });
    });
  });
}
