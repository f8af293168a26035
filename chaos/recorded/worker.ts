/**
 * The program that a history is about: `node worker.js DIRECTORY HISTORY SEED REST_MS`. Reads the
 * directory as it is, prints `ready`, and then does one operation after the other, with a rest in
 * between, until SIGTERM, or until an operation fails in a way that leaves open whether it has
 * happened. Every call is written down before and after; there is one thread, so the order is
 * total. SIGKILL can tear a write of any filesystem, since the kernel looks for it between pages:
 * it is only for a worker that hangs.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { flushPercent, nextOperation, phaseAt } from './choose.js';
import { beginLine, contents, endLine, isRefusal, type Of, type Operation } from './operations.js';
import { Chooser } from './random.js';
import { readTree } from './scan.js';

const [root = '', historyFile = '', seed = '0', rest = '0'] = process.argv.slice(2);
const restMs = Number(rest);
const { O_RDONLY, O_WRONLY, O_APPEND, O_CREAT, O_EXCL } = constants;

function perform(operation: Operation): void {
  const path = join(root, operation.path);
  const { op } = operation;
  if (op === 'create') closeSync(openSync(path, O_WRONLY | O_CREAT | O_EXCL, operation.mode));
  else if (op === 'mkdir') mkdirSync(path, { mode: operation.mode });
  else if (op === 'chmod') chmodSync(path, operation.mode);
  else if (op === 'symlink') symlinkSync(operation.to, path);
  else if (op === 'rename') renameSync(path, join(root, operation.to));
  else if (op === 'link') linkSync(path, join(root, operation.to));
  else if (op === 'unlink') unlinkSync(path);
  else if (op === 'rmdir') rmdirSync(path);
  else if (op === 'truncate') truncateSync(path, operation.size);
  else if (op === 'fsync') opened(path, O_RDONLY, fsyncSync);
  else if (op === 'fdatasync') opened(path, O_RDONLY, fdatasyncSync);
  else if (op === 'write' || op === 'append') store(path, operation);
  else byProgram(path, operation);
}

function opened(path: string, flags: number, use: (fd: number) => void): void {
  const fd = openSync(path, flags);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

function store(path: string, operation: Of<'write' | 'append'>): void {
  const { op, offset, length, seed: from } = operation;
  opened(path, op === 'append' ? O_WRONLY | O_APPEND : O_WRONLY, (fd) => {
    const at = op === 'append' ? null : offset;
    const written = writeSync(fd, contents(from, length), 0, length, at);
    if (written !== length) throw Object.assign(new Error('short write'), { code: 'ESHORT' });
  });
}

type Foreign = Of<'punch'> | Of<'setxattr'> | Of<'removexattr'>;

function commandFor(path: string, operation: Foreign): [string, ...string[]] {
  switch (operation.op) {
    case 'punch':
      return ['fallocate', '-p', '-o', `${operation.offset}`, '-l', `${operation.length}`, path];
    case 'setxattr':
      return ['setfattr', '-n', operation.name, '-v', operation.value, path];
    case 'removexattr':
      return ['setfattr', '-x', operation.name, path];
  }
}

/** Calls that Node does not have. */
function byProgram(path: string, operation: Foreign): void {
  const [command, ...args] = commandFor(path, operation);
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status === 0) return;
  const code = /No space left/.test(stderr ?? '') ? 'ENOSPC' : 'EPROGRAM';
  throw Object.assign(error ?? new Error(stderr), { code });
}

/** Operations between two looks at signals. */
const TURN_OPERATIONS = 8;
let ending = false;
process.on('SIGTERM', () => {
  ending = true;
});
process.umask(0);
const tree = readTree(root);
const history = openSync(historyFile, 'wx');
const choose = new Chooser(Number(seed));
process.stdout.write('ready\n');
for (let index = 0; !ending; index++) {
  if (restMs > 0) await sleep(restMs);
  else if (index % TURN_OPERATIONS === 0) await turn();
  const flushes = flushPercent(phaseAt(process.hrtime.bigint()));
  const operation = nextOperation(tree, choose, flushes);
  writeSync(history, beginLine(index, process.hrtime.bigint(), operation));
  let result = 'ok';
  try {
    perform(operation);
  } catch (error) {
    result = (error as { code?: string }).code ?? 'EUNKNOWN';
    if (!isRefusal(result)) process.stdout.write(`stopped: ${(error as Error).message}\n`);
  }
  writeSync(history, endLine(index, process.hrtime.bigint(), result));
  if (result === 'ok') tree.apply(operation);
  else if (!isRefusal(result)) process.exit(3);
}
process.exit(0);
