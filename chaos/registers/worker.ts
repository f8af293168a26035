/**
 * `node worker.js FILE ID REST_MS`: reads and overwrites single pages of a file without the page
 * cache (O_DIRECT), one after the other, and writes down when each began and ended, until SIGTERM. Each
 * operation flushes before it counts: what was read or written cannot be undone by a crash then.
 * What fails is written down as well; the file may be gone for a while, or for good.
 *
 * Lines: `B began kind register value` before, with the value that a write is to store, and after it
 * `N ended value`, or `? CODE`; times in ns.
 */
import { closeSync, constants, fdatasyncSync, openSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { Chooser } from '../recorded/random.js';
import { REGISTERS, VALUES_A_WORKER } from './registers-file.js';

const [file = '', id = '1', rest = '20'] = process.argv.slice(2);
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

function perform(kind: string, register: number, value: number): number {
  const fd = openSync(file, constants.O_RDWR | constants.O_DIRECT);
  try {
    const page = kind === 'write' ? pageOf(register, value) : Buffer.alloc(PAGE_BYTES);
    const at = register * PAGE_BYTES;
    const bytes =
      kind === 'write'
        ? writeSync(fd, page, 0, PAGE_BYTES, at)
        : readSync(fd, page, 0, PAGE_BYTES, at);
    if (bytes !== PAGE_BYTES) throw coded('ESHORT');
    fdatasyncSync(fd);
    return kind === 'write' ? value : valueIn(page, register);
  } finally {
    closeSync(fd);
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
  const kind = choose.chance(50) ? 'write' : 'read';
  const began = process.hrtime.bigint();
  process.stdout.write(`B ${began} ${kind} ${register} ${next}\n`);
  try {
    const value = perform(kind, register, next);
    const ended = process.hrtime.bigint();
    process.stdout.write(`N ${ended} ${value}\n`);
    await sleep(Number(rest));
  } catch (error) {
    const { code } = error as { code?: string };
    process.stdout.write(`? ${code}\n`);
    await sleep(AFTER_ERROR_MS);
  }
}
process.exit(0);
