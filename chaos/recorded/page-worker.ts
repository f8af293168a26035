/**
 * `node page-worker.js FILE FIRST`: does the writes of pages.ts from number FIRST on, and says `F
 * number` when all up to that one are flushed, until SIGTERM. `node page-worker.js FILE` prints
 * the numbers that the file holds, as JSON.
 */
import { constants, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { PAGE_BYTES } from '../../src/core/units.js';
import { bytesOf, numbersOf, runOf } from './pages.js';

const WRITES_A_FLUSH = 12;
/** Some 20 MB a second leave room for others. */
const REST_MS = 60;

const [file = '', from] = process.argv.slice(2);
if (from === undefined) {
  process.stdout.write(JSON.stringify([...numbersOf(readFileSync(file))]));
  process.exit(0);
}
let ending = false;
process.on('SIGTERM', () => {
  ending = true;
});
const fd = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o644);
process.stdout.write('ready\n');
for (let number = Number(from); !ending; number++) {
  const run = runOf(number);
  const bytes = bytesOf(number, run);
  const written = writeSync(fd, bytes, 0, bytes.length, run.page * PAGE_BYTES);
  if (written !== bytes.length) throw new Error(`${written} of ${bytes.length} bytes`);
  if (number % WRITES_A_FLUSH !== 0) continue;
  fdatasyncSync(fd);
  process.stdout.write(`F ${number}\n`);
  await sleep(REST_MS);
}
process.exit(0);
