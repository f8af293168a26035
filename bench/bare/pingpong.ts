/**
 * The bare TCP ping-pong that reads are compared with: same reply size, same depth, two processes.
 */
import type { Measured } from '../stats.js';
import { endProgram, nextLine, type Program, startProgram } from './program.js';

export class PingPong {
  readonly #server: Program;
  readonly #client: Program;

  private constructor(server: Program, client: Program) {
    this.#server = server;
    this.#client = client;
  }

  static async start(): Promise<PingPong> {
    const server = startProgram('pingpong-server');
    const client = startProgram('pingpong-client', await nextLine(server));
    return new PingPong(server, client);
  }

  async run(seconds: number, depth: number): Promise<Measured> {
    const answer = nextLine(this.#client);
    this.#client.child.stdin?.write(`${seconds} ${depth}\n`);
    return { ...(JSON.parse(await answer) as Omit<Measured, 'latencies'>), latencies: [] };
  }

  async close(): Promise<void> {
    await endProgram(this.#client);
    await endProgram(this.#server);
  }
}
