/**
 * An HTTP server on a unix socket for programs that post JSON to it: bodies are bounded, whoever
 * hangs up is noticed, and a socket file that a killed process left is taken over.
 */
import { chmodSync } from 'node:fs';
import http from 'node:http';
import { HoldfastError } from '../../core/errors.js';
import type { HttpAnswer } from './http.js';
import { claimSocketPath } from './unix-socket.js';

const BODY_MAX_BYTES = 1024 * 1024;
const HEADERS_MAX_BYTES = 16 * 1024;
/** For the request alone; answers take as long as they take. */
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 1024;
/** Of clients that keep one open between calls. */
const IDLE_MS = 60_000;
const IN_USE_HINT = 'Another plugin serves it: stop that one first, or give --socket.';

/**
 * `gone` aborts when the client hangs up before it has its answer. To reject is to give none: the
 * connection ends.
 */
export type PostAnswerer = (path: string, body: string, gone: AbortSignal) => Promise<HttpAnswer>;

export interface PostService {
  /** Takes no new requests; resolves once those under way are answered. Removes the socket. */
  close(): Promise<void>;
}

/**
 * Serves at `path`, for root only, in a directory that is made when it is missing. Rejects with
 * ADDRESS_IN_USE when somebody answers there, UNAVAILABLE when the path cannot be used.
 */
export async function servePosts(path: string, answer: PostAnswerer): Promise<PostService> {
  const server = http.createServer({ maxHeaderSize: HEADERS_MAX_BYTES }, (request, response) => {
    void handle(request, response, answer);
  });
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.keepAliveTimeout = IDLE_MS;
  server.maxConnections = MAX_CONNECTIONS;
  try {
    await claimSocketPath(path, IN_USE_HINT);
    await listen(server, path);
    chmodSync(path, 0o600);
  } catch (thrown) {
    server.close();
    if (thrown instanceof HoldfastError) throw thrown;
    const message = `cannot listen on ${path}: ${(thrown as Error).message}`;
    throw new HoldfastError('UNAVAILABLE', message, { cause: thrown });
  }
  return { close: () => close(server) };
}

async function handle(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  answer: PostAnswerer,
): Promise<void> {
  const { socket } = request;
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  response.on('error', () => gone.abort());
  // Else a client that hangs up, or is hung up on, would end this process.
  request.on('error', () => gone.abort());
  const send = ({ status, contentType, body }: HttpAnswer): void => {
    if (response.destroyed) return;
    response.writeHead(status, { 'content-type': contentType });
    response.end(body);
  };
  if (request.method !== 'POST') {
    response.setHeader('connection', 'close');
    return send({ status: 405, contentType: 'text/plain', body: 'only POST\n' });
  }
  const body = await readBody(request).catch(() => null);
  if (body === null) return void socket.destroy();
  const path = (request.url ?? '/').split('?')[0] as string;
  const said = await answer(path, body, gone.signal).catch(() => null);
  if (said === null) return void socket.destroy();
  send(said);
}

/** Null when it is too long: the connection ends then. Rejects when the client hangs up. */
async function readBody(request: http.IncomingMessage): Promise<string | null> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > BODY_MAX_BYTES) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function listen(server: http.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? inUse(path) : error);
    });
    server.listen({ path }, resolve);
  });
}

function inUse(path: string): HoldfastError {
  return new HoldfastError('ADDRESS_IN_USE', `${path} is in use`, { hint: IN_USE_HINT });
}

function close(server: http.Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
