/** A bare TCP server in a process of its own: answers every 64 bytes with 4 KiB. */
import { createServer } from 'node:net';
import { PAGE_BYTES } from '../../src/core/units.js';

const PING_BYTES = 64;

const page = Buffer.alloc(PAGE_BYTES, 7);
const server = createServer((socket) => {
  socket.setNoDelay(true);
  let pending = 0;
  socket.on('data', (data) => {
    pending += data.length;
    while (pending >= PING_BYTES) {
      pending -= PING_BYTES;
      socket.write(page);
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
process.stdin.on('end', () => process.exit(0)).resume();
