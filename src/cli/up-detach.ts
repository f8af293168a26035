/**
 * `holdfast up --detach`: starts the same program in a session of its own, waits until it says that
 * everything runs, and leaves it. Its output goes to up.log; what it has to tell comes through its
 * standard output as one line.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ErrorCode, HoldfastError } from '../core/errors.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { printResult } from './output.js';
import { placeOf, type UpOptions } from './up-cluster.js';

/** Of the log, to find what a start that failed said last. */
const TAIL_BYTES = 4096;

interface Told {
  readonly value: unknown;
  readonly text: string;
}

/** Called in the detached process, once. */
export function tellParent(told: Told): void {
  process.stdout.write(`${JSON.stringify(told)}\n`);
}

/** Rejects with what kept it from starting; then nothing runs. */
export async function detachUp(options: UpOptions): Promise<void> {
  const directory = resolve(options.dataDir);
  placeOf(directory, options);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const logFile = join(directory, 'up.log');
  const log = openSync(logFile, 'a', 0o600);
  const script = join(dirname(fileURLToPath(import.meta.url)), 'main.js');
  const child = spawn(
    process.execPath,
    [...process.execArgv, script, 'up', ...childArgs(options, directory)],
    { stdio: ['ignore', 'pipe', log], detached: true },
  );
  closeSync(log);
  const interrupted = untilInterrupted();
  interrupted.signal.addEventListener('abort', () => child.kill('SIGTERM'));
  const ended = new Promise<null>((resolve) => {
    child.once('exit', () => resolve(null));
    child.once('error', () => resolve(null));
  });
  const line = await Promise.race([
    firstLine(child.stdout as NonNullable<typeof child.stdout>),
    ended,
  ]);
  if (interrupted.signal.aborted) {
    await ended;
    process.exitCode = EXIT_INTERRUPTED;
    return;
  }
  interrupted.forget();
  if (line === null) throw lastFault(logFile);
  const told = JSON.parse(line) as Told;
  child.stdout?.destroy();
  child.unref();
  printResult(options.json === true, told.value, told.text);
}

function childArgs(options: UpOptions, directory: string): string[] {
  const { nodes, metadata, mount } = options;
  return [
    ...['--data-dir', directory, '--detached', '--json'],
    ...(nodes === undefined ? [] : ['--nodes', nodes]),
    ...(metadata === undefined ? [] : ['--metadata', metadata]),
    ...(mount === false ? ['--no-mount'] : ['--mount', resolve(mount)]),
  ];
}

function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    createInterface({ input: stream }).once('line', resolve);
  });
}

/** What the detached process wrote as JSON before it ended (reportFailure). */
function lastFault(logFile: string): HoldfastError {
  const tail = readFileSync(logFile, 'utf8').slice(-TAIL_BYTES).trimEnd().split('\n').at(-1) ?? '';
  try {
    const { error } = JSON.parse(tail) as {
      error: { code: string; message: string; hint?: string };
    };
    const code = Object.values(ErrorCode).find((one) => one === error.code) ?? 'UNAVAILABLE';
    const { message, hint } = error;
    return new HoldfastError(code, message, hint === undefined ? {} : { hint });
  } catch {
    const hint = `See ${logFile}.`;
    return new HoldfastError('UNAVAILABLE', '"holdfast up" ended before it was up', { hint });
  }
}
