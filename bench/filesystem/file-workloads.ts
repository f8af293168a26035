/** Workloads on many files, and on trees of them. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Place, timesGluster, type Workload } from './workload.js';

const LOAD = fileURLToPath(new URL('./file-load.js', import.meta.url));
const SECONDS = 10;
const FILES = 20_000;
const TREE_DIRECTORIES = 600;
const TREE_FILES_A_DIRECTORY = 12;
const TREE_FILE_MAX_BYTES = 24_000;

interface Done {
  readonly operations: number;
  readonly seconds: number;
}

/** Operations a second of one action of file-load.ts. */
async function load(place: Place, action: string, name: string): Promise<number> {
  const limits = [SECONDS * place.scale, Math.ceil(FILES * place.scale)].map(String);
  const output = await place.run([process.execPath, LOAD, action, place.path(name), ...limits]);
  const { operations, seconds } = JSON.parse(output) as Done;
  return operations / seconds;
}

const FILES_NAME = 'files';
const makeFiles = (place: Place): Promise<void> =>
  place.once(FILES_NAME, async () => {
    await load(place, 'create', FILES_NAME);
  });

const TREE = 'tree';

/**
 * A source tree as tar has it, made once a round: directories two levels deep, sizes as of code.
 * The same on every target, since nothing of it is random.
 */
async function archive(place: Place): Promise<string> {
  const path = join(place.scratch, 'tree.tar');
  await place.once('archive', async () => {
    const tree = join(place.scratch, TREE);
    for (let index = 0; index < treeDirectories(place); index++) {
      const directory = join(tree, `module-${index % 20}`, `part-${index}`);
      mkdirSync(directory, { recursive: true });
      for (let file = 0; file < TREE_FILES_A_DIRECTORY; file++) {
        // Most files small, few large: the square of an even spread.
        const spread = ((index * TREE_FILES_A_DIRECTORY + file) * 0.618_034) % 1;
        const length = Math.ceil(spread * spread * TREE_FILE_MAX_BYTES);
        writeFileSync(join(directory, `source-${file}.ts`), 'const x = 1;\n'.repeat(length / 13));
      }
    }
    await place.run(['tar', '-cf', path, '-C', place.scratch, TREE]);
    rmSync(tree, { recursive: true });
  });
  return path;
}

function treeDirectories(place: Place): number {
  return Math.ceil(TREE_DIRECTORIES * place.scale);
}

function treeEntries(place: Place): number {
  const directories = treeDirectories(place);
  return directories * (1 + TREE_FILES_A_DIRECTORY) + Math.min(20, directories) + 1;
}

/** Unpacks the tree and makes it durable; entries a second. */
async function untar(place: Place): Promise<number> {
  const path = await archive(place);
  const seconds =
    (await place.time(['tar', '-xf', path, '-C', place.directory])) +
    (await place.time(place.target.syncCommand(place.directory)));
  place.mark(TREE, true);
  return treeEntries(place) / seconds;
}

const makeTree = (place: Place): Promise<void> =>
  place.once(TREE, async () => {
    await untar(place);
  });

async function find(place: Place): Promise<number> {
  const start = performance.now();
  // Printing size and time needs an lstat of each.
  const output = await place.run(['find', place.path(TREE), '-printf', '%s %T@\n']);
  const seconds = (performance.now() - start) / 1000;
  const found = output.split('\n').length - 1;
  if (found !== treeEntries(place)) {
    throw new Error(`find saw ${found} of ${treeEntries(place)} entries`);
  }
  return found / seconds;
}

const needs = [] as const;

export const FILE_WORKLOADS: readonly Workload[] = [
  {
    name: 'create',
    title: 'create 4 KB files',
    unit: 'files/s',
    mark: timesGluster(20),
    needs,
    run: async (place) => {
      const rate = await load(place, 'create', FILES_NAME);
      place.mark(FILES_NAME, true);
      return rate;
    },
  },
  {
    name: 'list',
    title: 'list + stat cold',
    unit: 'files/s',
    mark: timesGluster(4),
    needs,
    prepare: makeFiles,
    cold: true,
    run: (place) => load(place, 'list', FILES_NAME),
  },
  {
    name: 'read-files',
    title: 'read 4 KB files cold',
    unit: 'files/s',
    needs,
    prepare: makeFiles,
    cold: true,
    run: (place) => load(place, 'read', FILES_NAME),
  },
  {
    name: 'rename',
    title: 'rename',
    unit: 'ops/s',
    mark: timesGluster(20),
    needs,
    prepare: makeFiles,
    run: (place) => load(place, 'rename', FILES_NAME),
  },
  {
    name: 'unlink',
    title: 'unlink',
    unit: 'files/s',
    mark: timesGluster(10),
    needs,
    prepare: makeFiles,
    run: async (place) => {
      const rate = await load(place, 'unlink', FILES_NAME);
      place.mark(FILES_NAME, false);
      return rate;
    },
  },
  {
    name: 'create-sync',
    title: 'create + fsync',
    unit: 'files/s',
    mark: timesGluster(3),
    needs,
    run: (place) => load(place, 'create-sync', 'synced-files'),
  },
  {
    name: 'untar',
    title: 'untar a source tree + sync',
    unit: 'entries/s',
    mark: timesGluster(20),
    needs,
    prepare: async (place) => {
      await archive(place);
    },
    run: untar,
  },
  {
    name: 'find',
    title: 'find with stat, cold',
    unit: 'entries/s',
    mark: timesGluster(4),
    needs,
    prepare: makeTree,
    cold: true,
    run: find,
  },
  {
    name: 'rm',
    title: 'rm -rf',
    unit: 'entries/s',
    mark: timesGluster(10),
    needs,
    prepare: makeTree,
    run: async (place) => {
      const seconds = await place.time(['rm', '-rf', place.path(TREE)]);
      place.mark(TREE, false);
      return treeEntries(place) / seconds;
    },
  },
];
