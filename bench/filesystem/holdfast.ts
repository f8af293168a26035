/** Holdfast as people run it: three `holdfast node` processes and `holdfast mount`. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GIB } from '../../src/core/units.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { BenchNodes, NODES } from '../nodes.js';
import { run } from './command.js';
import { dropCaches, settle, type Target } from './target.js';

const HOLDFAST = fileURLToPath(new URL('../../src/cli/holdfast.cjs', import.meta.url));
const VOLUME = 'bench';
const VOLUME_BYTES = 64 * GIB;
const MOUNT_LIMIT_MS = 60_000;

export async function startHoldfast(parent: string, nodeArgs: readonly string[]): Promise<Target> {
  const nodes = await BenchNodes.start({ parent, nodeArgs });
  const mountPoint = join(nodes.directory, 'mount');
  // Not the mount point itself: what runs while nothing is mounted must fail.
  const work = join(mountPoint, 'work');
  const reach = ['--metadata', nodes.metadata, '--secret-file', nodes.secretFile];
  const holdfast = (...args: string[]): Promise<string> =>
    run([process.execPath, HOLDFAST, ...args], { timeLimitMs: MOUNT_LIMIT_MS });
  const mount = (): Promise<string> => holdfast('mount', VOLUME, mountPoint, ...reach);
  const close = async (): Promise<void> => {
    await holdfast('umount', mountPoint).catch(() =>
      holdfast('umount', '--lazy', mountPoint).catch(() => ''),
    );
    await nodes.close();
  };
  try {
    mkdirSync(mountPoint);
    const volumes = new Volumes(nodes.store, nodeClock, nodeRandom);
    const size = { sizeBytes: VOLUME_BYTES, replicas: NODES };
    await volumes.create({ name: VOLUME, kind: 'filesystem', ...size });
    await mount();
    mkdirSync(work);
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return {
    name: 'holdfast',
    directory: work,
    prefix: [],
    cool: async () => {
      await settle(nodes.directory);
      await holdfast('umount', mountPoint);
      await mount();
      dropCaches();
    },
    // An fsync of anything is one of everything before it.
    syncCommand: (path) => ['sync', path],
    close,
  };
}
