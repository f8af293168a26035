/**
 * `node worker.js FILE ID WRITE_PERCENT REST_MS`: reads and overwrites single pages of a file
 * without the page cache (O_DIRECT), one after the other, and writes down when each began and
 * ended, until SIGTERM. A write ends when it is flushed. A read is followed by a flush as well,
 * since what it saw may be of a write that was not, and could be undone by a crash; but not where
 * there is nothing but reads. What fails is written down, too; the file may be gone for a while, or
 * for good.
 *
 * Lines: `B began kind register value` before, with the value that a write is to store; after it `N
 * ended value`, `V ended value` without a flush, `V ended value CODE` where that failed, or `?
 * CODE`; times in ns.
 */
import { closeSync, constants, fdatasyncSync, openSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { Chooser } from '../recorded/random.js';
import { REGISTERS, VALUES_A_WORKER } from './registers-file.js';

const [file = '', id = '1', writes = '50', rest = '20'] = process.argv.slice(2);
/** After an error: the mount may be gone. */
const AFTER_ERROR_MS = 200;

function pageOf(register: number, value: number): Buffer {
  const page = Buffer.alloc(PAGE_BYTES, value & 0xff);
  page.writeUInt32LE(register, 4);
  page.writeDoubleLE(value, 8);
  page.writeUInt32LE(crc32(page.subarray(4)), 0);
  return page;
}

/** The value that a page holds; zeroes are the initial one. */
function valueIn(page: Buffer, register: number): number {
  if (page.every((byte) => byte === 0)) return 0;
  const isWhole = crc32(page.subarray(4)) === page.readUInt32LE(0);
  if (!isWhole || page.readUInt32LE(4) !== register) throw coded('EDAMAGED');
  return page.readDoubleLE(8);
}

function coded(code: string): Error {
  return Object.assign(new Error(code), { code });
}

let open: number | null = null;

/** What to write down of it. */
function perform(kind: string, register: number, value: number): string {
  open ??= openSync(file, constants.O_RDWR | constants.O_DIRECT);
  return kind === 'write' ? store(open, register, value) : load(open, register);
}

/** What failed has to be opened anew: a mount may be another one by then. */
function close(): void {
  if (open === null) return;
  const fd = open;
  open = null;
  try {
    closeSync(fd);
  } catch {
    // it is closed; a mount that was lost says so here once more
  }
}

function store(fd: number, register: number, value: number): string {
  const bytes = writeSync(fd, pageOf(register, value), 0, PAGE_BYTES, register * PAGE_BYTES);
  if (bytes !== PAGE_BYTES) throw coded('ESHORT');
  fdatasyncSync(fd);
  return `N ${process.hrtime.bigint()} ${value}`;
}

function load(fd: number, register: number): string {
  const page = Buffer.alloc(PAGE_BYTES);
  const bytes = readSync(fd, page, 0, PAGE_BYTES, register * PAGE_BYTES);
  const ended = process.hrtime.bigint();
  if (bytes !== PAGE_BYTES) throw coded('ESHORT');
  const value = valueIn(page, register);
  if (Number(writes) === 0) return `V ${ended} ${value}`;
  try {
    fdatasyncSync(fd);
    return `N ${ended} ${value}`;
  } catch (error) {
    return `V ${ended} ${value} ${(error as { code?: string }).code}`;
  }
}

let ending = false;
process.on('SIGTERM', () => {
  ending = true;
});
const choose = new Chooser(Number(id));
process.stdout.write('ready\n');
for (let next = Number(id) * VALUES_A_WORKER + 1; !ending; next++) {
  const register = choose.below(REGISTERS);
  const kind = choose.chance(Number(writes)) ? 'write' : 'read';
  const began = process.hrtime.bigint();
  process.stdout.write(`B ${began} ${kind} ${register} ${next}\n`);
  try {
    process.stdout.write(`${perform(kind, register, next)}\n`);
    await sleep(Number(rest));
  } catch (error) {
    const { code } = error as { code?: string };
    close();
    process.stdout.write(`? ${code}\n`);
    await sleep(AFTER_ERROR_MS);
  }
}
process.exit(0);
