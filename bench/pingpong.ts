/** The bare TCP ping-pong that reads are compared with: same reply size, same depth, two processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { PAGE_BYTES } from '../src/core/units.js';
import type { Measured } from './stats.js';

const PING_BYTES = 64;

export class PingPong {
  readonly #child: ChildProcess;
  readonly #socket: Socket;

  private constructor(child: ChildProcess, socket: Socket) {
    this.#child = child;
    this.#socket = socket;
  }

  static async start(): Promise<PingPong> {
    const script = fileURLToPath(new URL('./pingpong-server.js', import.meta.url));
    const child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const [port] = (await once(lines, 'line')) as [string];
    const socket = connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    socket.setNoDelay(true);
    return new PingPong(child, socket);
  }

  run(seconds: number, depth: number): Promise<Measured> {
    const ping = Buffer.alloc(PING_BYTES, 1);
    const start = performance.now();
    const end = start + seconds * 1000;
    let received = 0;
    let operations = 0;
    let inFlight = depth;
    return new Promise((resolve) => {
      const onData = (data: Buffer): void => {
        received += data.length;
        const now = performance.now();
        while (received >= PAGE_BYTES) {
          received -= PAGE_BYTES;
          operations += 1;
          inFlight -= 1;
          if (now < end) {
            inFlight += 1;
            this.#socket.write(ping);
          }
        }
        if (inFlight > 0) return;
        this.#socket.off('data', onData);
        resolve({ operations, seconds: (now - start) / 1000, latencies: [] });
      };
      this.#socket.on('data', onData);
      for (let i = 0; i < depth; i++) this.#socket.write(ping);
    });
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    this.#child.stdin?.end();
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
  }
}
