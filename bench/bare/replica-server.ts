/**
 * A bare replica in a process of its own: takes frames of the size that a 4 KiB commit has on the
 * wire, writes each into a part of a file that is written already, flushes, answers. No protocol,
 * no fencing, no recovery: what this machine gives to a program that does nothing else.
 */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync, writevSync } from 'node:fs';
import { createServer } from 'node:net';
import { crc32 } from 'node:zlib';
import { MIB } from '../../src/core/units.js';
import { FRAME_BYTES, REPLY_BYTES, SLOT_BYTES } from './shapes.js';

const FILE_BYTES = 64 * MIB;

const path = process.argv[2] ?? '';
const file = openSync(path, 'w');
const zeroes = Buffer.alloc(MIB);
for (let at = 0; at < FILE_BYTES; at += MIB) writeSync(file, zeroes, 0, MIB, at);
fdatasyncSync(file);

const filler = zeroes.subarray(0, SLOT_BYTES - FRAME_BYTES);
const reply = Buffer.alloc(REPLY_BYTES, 1);
let at = 0;

function store(frame: Buffer): void {
  crc32(frame);
  writevSync(file, [frame, filler], at);
  fdatasyncSync(file);
  at = (at + SLOT_BYTES) % FILE_BYTES;
}

const server = createServer((socket) => {
  socket.setNoDelay(true);
  let pending: Buffer = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => {
    pending = pending.length === 0 ? data : Buffer.concat([pending, data]);
    while (pending.length >= FRAME_BYTES) {
      store(pending.subarray(0, FRAME_BYTES));
      pending = pending.subarray(FRAME_BYTES);
      socket.write(reply);
    }
  });
  socket.on('error', () => {});
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  process.stdout.write(`${address.port}\n`);
});
// Ends with the benchmark, however that ends.
process.stdin
  .on('end', () => {
    closeSync(file);
    rmSync(path, { force: true });
    process.exit(0);
  })
  .resume();
