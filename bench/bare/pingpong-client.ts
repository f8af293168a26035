/**
 * The asking side of the bare TCP ping-pong, in a process of its own like every other client. Reads
 * lines "SECONDS DEPTH" and answers each with one of JSON.
 */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { PAGE_BYTES } from '../../src/core/units.js';

const PING_BYTES = 64;

const ping = Buffer.alloc(PING_BYTES, 1);
const socket = connect(Number(process.argv[2]), '127.0.0.1');
socket.setNoDelay(true);

function run(seconds: number, depth: number, done: (operations: number, ms: number) => void): void {
  const start = performance.now();
  const end = start + seconds * 1000;
  let received = 0;
  let operations = 0;
  let inFlight = depth;
  const onData = (data: Buffer): void => {
    received += data.length;
    const now = performance.now();
    while (received >= PAGE_BYTES) {
      received -= PAGE_BYTES;
      operations += 1;
      inFlight -= 1;
      if (now < end) {
        inFlight += 1;
        socket.write(ping);
      }
    }
    if (inFlight > 0) return;
    socket.off('data', onData);
    done(operations, now - start);
  };
  socket.on('data', onData);
  for (let i = 0; i < depth; i++) socket.write(ping);
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const [seconds, depth] = line.split(' ').map(Number) as [number, number];
  run(seconds, depth, (operations, ms) => {
    process.stdout.write(`${JSON.stringify({ operations, seconds: ms / 1000 })}\n`);
  });
});
lines.on('close', () => process.exit(0));
