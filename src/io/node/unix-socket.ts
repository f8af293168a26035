/**
 * The path of a unix socket that a server is about to listen on: its directory is made, a file that
 * a killed process left is removed, and one that somebody serves is left alone.
 */
import { mkdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { HoldfastError } from '../../core/errors.js';

/** Rejects with ADDRESS_IN_USE when somebody answers there; `hint` says what to do about it. */
export async function claimSocketPath(path: string, hint: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  if (await isServed(path)) {
    throw new HoldfastError('ADDRESS_IN_USE', `${path} is in use`, { hint });
  }
  rmSync(path, { force: true });
}

/** A socket file stays when its process is killed; then nobody accepts. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    const end = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}
