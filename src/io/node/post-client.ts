/** One POST over a unix socket, for the client's side of post-socket.ts. */
import http from 'node:http';
import { HoldfastError } from '../../core/errors.js';

const ANSWER_MAX_BYTES = 16 * 1024 * 1024;

export interface PostAnswer {
  readonly status: number;
  readonly body: string;
}

/** Rejects with UNAVAILABLE (nobody listens, or it hung up) or TIMEOUT; both retryable. */
export function postTo(
  socket: string,
  path: string,
  body: string,
  timeoutMs: number,
): Promise<PostAnswer> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const request = http.request({
      socketPath: socket,
      method: 'POST',
      path,
      headers,
      agent: false,
    });
    const timer = setTimeout(() => {
      request.destroy();
      const message = `${socket} did not answer within ${timeoutMs / 1000} s`;
      reject(new HoldfastError('TIMEOUT', message, { retryable: true }));
    }, timeoutMs);
    const fail = (error: Error): void => {
      clearTimeout(timer);
      const message = `${socket} cannot be reached: ${error.message}`;
      reject(new HoldfastError('UNAVAILABLE', message, { retryable: true, cause: error }));
    };
    request.on('error', fail);
    request.on('response', (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > ANSWER_MAX_BYTES) request.destroy(new Error('the answer is too long'));
        else parts.push(part);
      });
      response.on('error', fail);
      response.on('end', () => {
        clearTimeout(timer);
        const status = response.statusCode ?? 0;
        resolve({ status, body: Buffer.concat(parts).toString('utf8') });
      });
    });
    request.end(body);
  });
}
