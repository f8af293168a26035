/** Bare programs of the benchmark as child processes that print one line when they are ready. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface Program {
  readonly child: ChildProcess;
  readonly lines: Interface;
}

/** Starts a script of this directory; it ends when its stdin does. */
export function startProgram(name: string, ...args: string[]): Program {
  const script = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // As storage nodes are: in one session with its peer, Linux would schedule both as one task.
    detached: true,
  });
  return { child, lines: createInterface({ input: child.stdout as NodeJS.ReadableStream }) };
}

export async function nextLine({ lines }: Program): Promise<string> {
  const [line] = (await once(lines, 'line')) as [string];
  return line;
}

export async function endProgram({ child }: Program): Promise<void> {
  child.stdin?.end();
  if (child.exitCode === null) await once(child, 'exit');
}
