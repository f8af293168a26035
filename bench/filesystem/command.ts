/**
 * Programs under a time limit, each in a process group of its own: a Ctrl-C at the terminal reaches
 * only the benchmark, which then ends what runs and cleans up, and a hung mount cannot hang it.
 */
import { spawn } from 'node:child_process';

const OUTPUT_MAX = 8_000_000;
const TIME_LIMIT_MS = 600_000;

export interface RunOptions {
  /** Ends the program; left out for what cleans up. */
  readonly signal?: AbortSignal;
  readonly timeLimitMs?: number;
}

/** Thrown when the run was told to end. */
export class Aborted extends Error {
  constructor() {
    super('interrupted');
  }
}

/**
 * The standard output of a program that ended with 0. Rejects with what it said on standard error
 * otherwise, when the time is up, and with Aborted.
 */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { signal, timeLimitMs = TIME_LIMIT_MS } = options;
  const [program = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(new Aborted());
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      cwd: '/',
      env: { ...process.env, LC_ALL: 'C' },
    });
    const output = { stdout: '', stderr: '' };
    const kill = (): void => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    };
    const timer = setTimeout(kill, timeLimitMs);
    signal?.addEventListener('abort', kill, { once: true });
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (data: string) => {
        output[name] = (output[name] + data).slice(-OUTPUT_MAX);
      });
    }
    child.on('error', reject);
    child.on('close', (code, killedBy) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', kill);
      if (signal?.aborted === true) reject(new Aborted());
      else if (code === 0) resolve(output.stdout);
      else reject(new Error(failure(argv, killedBy ?? `exit code ${code}`, output.stderr)));
    });
  });
}

function failure(argv: readonly string[], how: string, stderr: string): string {
  const said = stderr.trim().split('\n').slice(-3).join(' | ').slice(-600);
  return `${argv.slice(0, 12).join(' ')}: ${how}${said === '' ? '' : `: ${said}`}`;
}
