/** This machine, as mounts need it: the real parts for src/lifecycle. */
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HoldfastError } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import { NodeMountHost } from '../io/node/mount-host.js';
import { nodeRandom } from '../io/node/random.js';
import type { StartDeps } from '../lifecycle/start-mount.js';
import type { Environment } from './config.js';

/** Node's options for a mount daemon: a small young generation keeps it small. */
export const DAEMON_NODE_OPTIONS = ['--max-semi-space-size=8'];

/** This very program, as compiled. */
export function mainScript(): string {
  return join(dirname(fileURLToPath(import.meta.url)), 'main.js');
}

/** HOLDFAST_RUN_DIR: where the state of mounts stands instead of /run/holdfast. */
export function mountDeps(env: Environment): StartDeps {
  const directory = env.HOLDFAST_RUN_DIR;
  const host = new NodeMountHost({
    program: [process.execPath, ...DAEMON_NODE_OPTIONS, mainScript()],
    runDirectory: directory === undefined || directory === '' ? undefined : resolve(directory),
  });
  return { host, clock: nodeClock, random: nodeRandom };
}

/** Throws UNAVAILABLE saying `what` and why, with what most often is to be done. */
export function rootOnly<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const message = `${what}: ${(cause as Error).message}`;
    throw new HoldfastError('UNAVAILABLE', message, { hint: 'Run it as root.', cause });
  }
}
