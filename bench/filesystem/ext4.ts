/** The yardstick: a directory on the disk that everything else lies on, too. One copy. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { dropCaches, makeDirectory, settle, type Target } from './target.js';

export function startLocal(parent: string): Target {
  const directory = makeDirectory(parent, 'local');
  const work = join(directory, 'work');
  mkdirSync(work);
  return {
    name: 'ext4',
    directory: work,
    prefix: [],
    cool: async () => {
      await settle(directory);
      dropCaches();
    },
    syncCommand: (path) => ['sync', '-f', path],
    close: async () => rmSync(directory, { recursive: true, force: true }),
  };
}
