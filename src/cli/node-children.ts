/**
 * Storage nodes as child processes of `holdfast up`: started, restarted when they die, stopped at
 * the end. Each is the same program as a production node (`holdfast node`), so that what is seen
 * here is what runs elsewhere.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Clock, Timer } from '../io/clock.js';

const RESTART_MIN_MS = 200;
const RESTART_MAX_MS = 5_000;
const ANY_PORT = '127.0.0.1:0';
/** A child that lived this long is restarted at once the next time. */
const STEADY_MS = 10_000;
const STOP_GRACE_MS = 10_000;

export interface ChildOptions {
  readonly clock: Clock;
  /** Arguments behind the program's name, for a node that is to listen at `address`. */
  readonly args: (address: string) => readonly string[];
  /** Where it served before, if it did: it tries to be found there again. */
  readonly address?: string | undefined;
  /** For its Node.js; default: as this process. */
  readonly execArgs?: readonly string[];
  /** Default: as this process. */
  readonly env?: NodeJS.ProcessEnv;
  /** Its standard error is appended to this file. */
  readonly logFile: string;
  readonly onExit?: (reason: string) => void;
}

/** One node process and its successors. */
export class NodeChild {
  readonly #options: ChildOptions;
  #child: ChildProcess | null = null;
  #address: string | null = null;
  #listen: string;
  #startedAt = 0;
  #backOffMs = RESTART_MIN_MS;
  #timer: Timer | null = null;
  #stopping = false;
  restarts = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.#listen = options.address ?? ANY_PORT;
  }

  /** Where it serves; null until it does. */
  get address(): string | null {
    return this.#address;
  }

  /** Null while it is down. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  start(): void {
    const { clock, args, logFile, execArgs = process.execArgv, env = process.env } = this.#options;
    const program = join(dirname(fileURLToPath(import.meta.url)), 'holdfast.cjs');
    const output = openSync(logFile, 'a');
    // A process group of its own, so that Ctrl-C reaches the parent only, which stops them in
    // order. The pipe on standard input closes when the parent dies, however it dies: the node then
    // stops as well.
    const child = spawn(process.execPath, [...execArgs, program, ...args(this.#listen)], {
      stdio: ['pipe', 'pipe', output],
      detached: true,
      env,
    });
    closeSync(output);
    this.#startedAt = clock.monotonic();
    this.#child = child;
    child.stdin?.on('error', () => {});
    this.#readiness(child);
    const ended = (reason: string): void => {
      if (this.#child !== child) return;
      this.#child = null;
      // One that never came up may have found its port taken.
      this.#listen = this.#address ?? ANY_PORT;
      this.#address = null;
      if (!this.#stopping) this.#restart(reason);
    };
    child.once('error', (error) => ended(error.message));
    child.once('exit', (code, signal) => ended(signal ?? `exit code ${code}`));
  }

  /** The ready line comes first on standard output (`holdfast node --json`). */
  #readiness(child: ChildProcess): void {
    if (child.stdout === null) return;
    createInterface({ input: child.stdout }).once('line', (line) => {
      if (this.#child === child) this.#address = addressOf(line);
    });
  }

  #restart(reason: string): void {
    const { clock, onExit } = this.#options;
    onExit?.(reason);
    const steady = clock.monotonic() - this.#startedAt > STEADY_MS;
    this.#backOffMs = steady ? RESTART_MIN_MS : Math.min(this.#backOffMs * 2, RESTART_MAX_MS);
    this.#timer = clock.after(this.#backOffMs, () => {
      this.restarts += 1;
      this.start();
    });
  }

  /** SIGTERM, then SIGKILL after a grace; resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#timer?.cancel();
    const child = this.#child;
    if (child === null) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(STOP_GRACE_MS, () => child.kill('SIGKILL'));
      child.once('exit', () => {
        timer.cancel();
        resolve();
      });
      child.kill('SIGTERM');
    });
  }
}

function addressOf(line: string): string | null {
  try {
    const { event, advertise } = JSON.parse(line) as { event?: string; advertise?: string };
    return event === 'ready' ? (advertise ?? null) : null;
  } catch {
    return null;
  }
}
