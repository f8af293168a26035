/**
 * Keeps two `holdfast up` from running on one directory: the first one listens on a unix socket
 * there, so that the kernel, not a file, says whether it is still alive.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { HoldfastError, invalid } from '../core/errors.js';

/** What the kernel takes as a socket's name. */
const SOCKET_PATH_MAX_BYTES = 107;

export interface UpLock {
  release(): void;
}

/** Throws CONFLICT when another one is running. */
export async function holdUpLock(directory: string): Promise<UpLock> {
  const path = socketOf(directory);
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX_BYTES) {
    throw invalid(`the path ${directory} is too long for a socket`, 'Use a shorter --data-dir.');
  }
  const pid = await askUpPid(directory);
  if (pid !== null) {
    throw new HoldfastError('CONFLICT', `"holdfast up" already runs on ${directory} (pid ${pid})`, {
      hint: 'Use it, stop it with "holdfast down", or choose another --data-dir.',
    });
  }
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${process.pid}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve());
  });
  chmodSync(path, 0o600);
  return { release: () => server.close() };
}

function socketOf(directory: string): string {
  return join(directory, 'up.sock');
}

/** The pid of the `holdfast up` that runs on a directory; null when none does. */
export function askUpPid(directory: string): Promise<number | null> {
  return new Promise((resolve) => {
    let text = '';
    const socket = createConnection(socketOf(directory));
    socket.on('data', (data) => {
      text += data.toString();
    });
    socket.on('end', () => resolve(/^[1-9]\d*\n$/.test(text) ? Number(text) : null));
    socket.on('error', () => resolve(null));
  });
}
