/**
 * Commits by a bare program: a frame to three bare replicas on the same file system, done when two
 * have answered. What it needs beyond a local append is this machine's price of replication; what
 * Holdfast needs beyond it is Holdfast's.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { keepBusy } from '../log-load.js';
import type { Measured } from '../stats.js';
import { endProgram, nextLine, type Program, startProgram } from './program.js';
import { FRAME_BYTES, REPLY_BYTES } from './shapes.js';

const REPLICAS = 3;
const QUORUM = 2;

export class BareCommits {
  readonly #servers: readonly Program[];
  readonly #sockets: readonly Socket[];
  readonly #frame = Buffer.alloc(FRAME_BYTES, 7);
  readonly #answered: number[] = [];
  #sent = 0;
  #done: () => void = () => {};

  private constructor(servers: readonly Program[], sockets: readonly Socket[]) {
    this.#servers = servers;
    this.#sockets = sockets;
    for (const [i, socket] of sockets.entries()) {
      this.#answered.push(0);
      socket.on('data', (data) => {
        this.#answered[i] = (this.#answered[i] as number) + data.length / REPLY_BYTES;
        const have = this.#answered.filter((count) => count >= this.#sent).length;
        if (have === QUORUM && (this.#answered[i] as number) >= this.#sent) this.#done();
      });
    }
  }

  static async start(directory: string): Promise<BareCommits> {
    const names = Array.from({ length: REPLICAS }, (_, i) => join(directory, `bare-${i}`));
    const servers = names.map((name) => startProgram('replica-server', name));
    const sockets: Socket[] = [];
    // At once: a line that comes while nobody waits for it is lost.
    for (const port of await Promise.all(servers.map(nextLine))) {
      const socket = connect(Number(port), '127.0.0.1');
      socket.setNoDelay(true);
      await once(socket, 'connect');
      sockets.push(socket);
    }
    return new BareCommits(servers, sockets);
  }

  /** One at a time. */
  run(seconds: number): Promise<Measured> {
    return keepBusy(1, seconds, () => {
      this.#sent += 1;
      const done = new Promise<void>((resolve) => {
        this.#done = resolve;
      });
      for (const socket of this.#sockets) socket.write(this.#frame);
      return done;
    });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) await endProgram(server);
  }
}
