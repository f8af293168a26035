/**
 * The load on small files, as a program of its own that runs wherever the target can be seen:
 * `file-load.js ACTION DIRECTORY SECONDS COUNT`. Files of 4 KiB, 1000 a directory, one system call
 * after the other. Prints what was done as one line of JSON.
 */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';

const FILES_A_DIRECTORY = 1000;
const FILE_BYTES = 4096;
const data = Buffer.alloc(FILE_BYTES);
for (let at = 0; at < FILE_BYTES; at += 4) data.writeUInt32LE((at * 2_654_435_761) >>> 0, at);

/** Makes files until there are `count` or the time is up. */
function create(directory: string, seconds: number, count: number, durable: boolean): number {
  const end = performance.now() + seconds * 1000;
  mkdirSync(directory);
  let made = 0;
  let inside = '';
  for (; made < count && performance.now() < end; made++) {
    if (made % FILES_A_DIRECTORY === 0) {
      inside = `${directory}/d${made / FILES_A_DIRECTORY}`;
      mkdirSync(inside);
    }
    const file = openSync(`${inside}/file-${made}`, 'wx');
    writeSync(file, data);
    if (durable) fsyncSync(file);
    closeSync(file);
  }
  return made;
}

/** Calls `visit` for every file, and `leave` for every directory behind its files. */
function each(
  directory: string,
  visit: (path: string) => void,
  leave: (directory: string) => void = () => {},
): number {
  let count = 0;
  for (const sub of readdirSync(directory)) {
    const inside = `${directory}/${sub}`;
    for (const name of readdirSync(inside)) {
      visit(`${inside}/${name}`);
      count += 1;
    }
    leave(inside);
  }
  return count;
}

function readWhole(path: string): void {
  const buffer = Buffer.alloc(FILE_BYTES);
  const file = openSync(path, 'r');
  const length = readSync(file, buffer, 0, FILE_BYTES, 0);
  closeSync(file);
  if (length !== FILE_BYTES || !buffer.equals(data)) throw new Error(`${path} reads wrong`);
}

const ACTIONS: Record<string, (directory: string, seconds: number, count: number) => number> = {
  create: (directory, seconds, count) => create(directory, seconds, count, false),
  'create-sync': (directory, seconds, count) => create(directory, seconds, count, true),
  list: (directory) => each(directory, (path) => void lstatSync(path)),
  read: (directory) => each(directory, readWhole),
  rename: (directory) => each(directory, (path) => renameSync(path, `${path}.renamed`)),
  unlink: (directory) => each(directory, unlinkSync, rmdirSync),
};

const [action = '', directory = '', seconds = '', count = ''] = process.argv.slice(2);
const perform = ACTIONS[action];
if (perform === undefined) throw new Error(`there is no action "${action}"`);
const start = performance.now();
const operations = perform(directory, Number(seconds), Number(count));
console.log(JSON.stringify({ operations, seconds: (performance.now() - start) / 1000 }));
