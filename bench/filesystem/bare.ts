/**
 * A program that does nothing but pass writes on to three others, behind FUSE and with the same
 * Node.js: what it needs is this machine's price of such a mount.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { endProgram, nextLine, startProgram } from '../bare/program.js';
import { run } from './command.js';
import { dropCaches, makeDirectory, settle, type Target } from './target.js';

export async function startBare(parent: string): Promise<Target> {
  const directory = makeDirectory(parent, 'bare');
  const mountPoint = join(directory, 'mount');
  mkdirSync(mountPoint);
  const program = startProgram('mount-server', directory, mountPoint);
  // Not the mount point itself: what runs while nothing is mounted must fail.
  const work = join(mountPoint, 'work');
  const close = async (): Promise<void> => {
    await run(['umount', '--lazy', mountPoint]).catch(() => '');
    await endProgram(program);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await nextLine(program);
    mkdirSync(work);
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return {
    name: 'bare',
    directory: work,
    prefix: [],
    cool: async () => {
      await settle(directory);
      dropCaches();
    },
    syncCommand: (path) => ['sync', path],
    close,
  };
}
