/**
 * A bare replica in a process of its own: writes small commits into a file that is written already
 * and flushes each, writes other data into another file. No protocol, no fencing, no recovery: what
 * this machine gives to a program that does nothing else.
 */
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  openSync,
  rmSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { crc32 } from 'node:zlib';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { FRAME_HEADER_BYTES, FrameKind, REPLY_BYTES } from './shapes.js';

const JOURNAL_BYTES = 64 * MIB;

const path = process.argv[2] ?? '';
const files = [`${path}-journal`, `${path}-data`] as const;
const journal = openSync(files[0], 'w');
const data = openSync(files[1], 'w');
const zeroes = Buffer.alloc(MIB);
for (let at = 0; at < JOURNAL_BYTES; at += MIB) writeSync(journal, zeroes, 0, MIB, at);
fdatasyncSync(journal);

const reply = Buffer.alloc(REPLY_BYTES, 1);
let journalAt = 0;
let dataAt = 0;

function commit(parts: readonly Buffer[], bytes: number): void {
  const filler = zeroes.subarray(0, (PAGE_BYTES - (bytes % PAGE_BYTES)) % PAGE_BYTES);
  const slot = bytes + filler.length;
  if (journalAt + slot > JOURNAL_BYTES) journalAt = 0;
  writevSync(journal, [...parts, filler], journalAt);
  fdatasyncSync(journal);
  journalAt += slot;
}

function serve(socket: Socket, parts: readonly Buffer[], bytes: number, kind: number): void {
  for (const part of parts) crc32(part);
  switch (kind) {
    case FrameKind.COMMIT:
      commit(parts, bytes);
      socket.write(reply);
      break;
    case FrameKind.DATA:
      writevSync(data, parts, dataAt);
      dataAt += bytes;
      break;
    case FrameKind.FLUSH:
      fdatasync(data, (error) => (error === null ? socket.write(reply) : socket.destroy(error)));
      break;
    default:
      socket.destroy(new Error(`there is no frame of kind ${kind}`));
  }
}

/** What has come and is not whole yet. */
class Inbox {
  #chunks: Buffer[] = [];
  bytes = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
  }

  /** The header of the next frame, left where it is. */
  peek(): Buffer {
    const [first = zeroes] = this.#chunks;
    if (first.length >= FRAME_HEADER_BYTES) return first;
    this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] as Buffer;
  }

  take(bytes: number): Buffer[] {
    const taken: Buffer[] = [];
    let missing = bytes;
    while (missing > 0) {
      const chunk = this.#chunks.shift() as Buffer;
      taken.push(chunk.subarray(0, missing));
      if (chunk.length > missing) this.#chunks.unshift(chunk.subarray(missing));
      missing -= Math.min(missing, chunk.length);
    }
    this.bytes -= bytes;
    return taken;
  }
}

const server = createServer((socket) => {
  socket.setNoDelay(true);
  const inbox = new Inbox();
  socket.on('data', (chunk: Buffer) => {
    inbox.push(chunk);
    while (inbox.bytes >= FRAME_HEADER_BYTES) {
      const header = inbox.peek();
      const bytes = header.readUInt32LE(0);
      const kind = header.readUInt32LE(4);
      if (inbox.bytes < bytes) break;
      serve(socket, inbox.take(bytes), bytes, kind);
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
    closeSync(journal);
    closeSync(data);
    for (const file of files) rmSync(file, { force: true });
    process.exit(0);
  })
  .resume();
