/**
 * The bare TCP ping-pong that reads are compared with: same reply size, same depth, two processes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Measured } from './stats.js';

function start(script: URL, ...args: string[]): { child: ChildProcess; lines: Interface } {
  const stdio = ['pipe', 'pipe', 'inherit'] as const;
  const child = spawn(process.execPath, [fileURLToPath(script), ...args], { stdio: [...stdio] });
  return { child, lines: createInterface({ input: child.stdout as NodeJS.ReadableStream }) };
}

export class PingPong {
  readonly #children: readonly ChildProcess[];
  readonly #client: ChildProcess;
  readonly #answers: Interface;

  private constructor(server: ChildProcess, client: ChildProcess, answers: Interface) {
    this.#children = [client, server];
    this.#client = client;
    this.#answers = answers;
  }

  static async start(): Promise<PingPong> {
    const server = start(new URL('./pingpong-server.js', import.meta.url));
    const [port] = (await once(server.lines, 'line')) as [string];
    const client = start(new URL('./pingpong-client.js', import.meta.url), port);
    return new PingPong(server.child, client.child, client.lines);
  }

  async run(seconds: number, depth: number): Promise<Measured> {
    const answer = once(this.#answers, 'line');
    this.#client.stdin?.write(`${seconds} ${depth}\n`);
    const [line] = (await answer) as [string];
    return { ...(JSON.parse(line) as Omit<Measured, 'latencies'>), latencies: [] };
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      child.stdin?.end();
      if (child.exitCode === null) await once(child, 'exit');
    }
  }
}
