/** Three bare replicas and their client: something is done when two have answered. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { endProgram, nextLine, type Program, startProgram } from './program.js';
import { REPLY_BYTES } from './shapes.js';

const REPLICAS = 3;
const QUORUM = 2;

export class BareReplicas {
  readonly #servers: readonly Program[];
  readonly #sockets: readonly Socket[];
  readonly #answered: number[] = [];
  #asked = 0;
  #done: () => void = () => {};

  private constructor(servers: readonly Program[], sockets: readonly Socket[]) {
    this.#servers = servers;
    this.#sockets = sockets;
    for (const [i, socket] of sockets.entries()) {
      this.#answered.push(0);
      socket.on('data', (data) => {
        this.#answered[i] = (this.#answered[i] as number) + data.length / REPLY_BYTES;
        const have = this.#answered.filter((count) => count >= this.#asked).length;
        if (have === QUORUM && (this.#answered[i] as number) >= this.#asked) this.#done();
      });
    }
  }

  static async start(directory: string): Promise<BareReplicas> {
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
    return new BareReplicas(servers, sockets);
  }

  /** A frame that is not answered, in parts. */
  send(parts: readonly Buffer[]): void {
    for (const socket of this.#sockets) {
      socket.cork();
      for (const part of parts) socket.write(part);
      socket.uncork();
    }
  }

  /** A frame that is answered; `done` when two have. One at a time. */
  ask(parts: readonly Buffer[], done: () => void): void {
    this.#asked += 1;
    this.#done = done;
    this.send(parts);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) await endProgram(server);
  }
}
