/**
 * The recorded worker as an application: one process in a directory of the volume, its history
 * outside. Several of them are judged together, since the volume promises one prefix over all of
 * them; that is what `RecordedWorkers` does.
 */
import { mkdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { distRoot, type Process, run, startNode } from '../../test/fixtures/processes.js';
import { check, type Evidence } from '../recorded/checker.js';
import { parseHistory, type Recorded } from '../recorded/operations.js';
import { Tree } from '../recorded/tree.js';
import { Waits } from '../waits.js';
import type { Application } from './application.js';

const READY_MS = 60_000;
/** For the operation under way; it hangs when its filesystem does. */
const END_MS = 5_000;
const SCAN_SECONDS = '120';

interface Worker {
  readonly name: string;
  readonly directory: string;
  /** As the last check left it: what the running history began with. */
  readonly tree: Tree;
  /** Empty when all that was done has been checked. */
  history: string;
  process: Process | null;
}

export interface RecordedOptions {
  /** On the volume. */
  readonly directory: string;
  /** Not on the volume: for the histories. */
  readonly home: string;
  readonly workers: number;
  readonly seed: number;
  /** Between two operations, in ms. */
  readonly restMs?: number;
}

export class RecordedWorkers implements Application {
  readonly name = 'files';
  readonly waits = new Waits();
  readonly #options: RecordedOptions;
  readonly #workers: readonly Worker[];
  #runs = 0;
  #operations = 0;
  #lost = 0;
  #checks = 0;
  #synced = 0;
  /** The longest time before a crash of which an operation was lost, in ms. */
  longestLostMs = 0;

  constructor(options: RecordedOptions) {
    this.#options = options;
    this.#workers = Array.from({ length: options.workers }, (_, index) => {
      const name = `worker-${index + 1}`;
      const directory = join(options.directory, name);
      return { name, directory, tree: new Tree(), history: '', process: null };
    });
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#options.home, { recursive: true });
    for (const { directory } of this.#workers) mkdirSync(directory, { recursive: true });
    // Their directories are there before the histories begin.
    await run('sync', '-d', this.#options.directory);
  }

  async start(): Promise<void> {
    this.#runs += 1;
    await Promise.all(
      this.#workers.map(async (worker, index) => {
        worker.history = join(this.#options.home, `history-${this.#runs}-${index + 1}`);
        const seed = `${this.#options.seed * 1000 + this.#runs * 10 + index}`;
        const rest = `${this.#options.restMs ?? 0}`;
        // Where it is now: what is on its way when the volume moves must not go on elsewhere.
        const args = [realpathSync(worker.directory), worker.history, seed, rest];
        worker.process = startNode(`${distRoot}chaos/recorded/worker.js`, args, { cwd: '/' });
        await worker.process.line(/^ready/, READY_MS);
      }),
    );
  }

  async kill(): Promise<void> {
    await Promise.all(this.#workers.map(({ process }) => process?.stop(END_MS)));
    for (const worker of this.#workers) this.#noteProgress(this.#recorded(worker));
  }

  /**
   * Whether all directories are what one prefix of the histories made, with all that was flushed.
   * What was lost is forgotten: the next histories begin with what was found.
   */
  async verify(): Promise<string[]> {
    const evidence: Evidence[] = [];
    for (const worker of this.#workers) {
      const found = await scan(worker.directory);
      if (typeof found === 'string') return [`${this.name}: ${worker.name}: ${found}`];
      const { name, tree } = worker;
      evidence.push({ name, tree, history: this.#recorded(worker), found });
    }
    const { cuts, faults } = check(evidence, this.#synced);
    for (const { most, operations, lostMs } of cuts.values()) {
      this.#operations += operations;
      this.#lost += operations - Math.floor(most);
      this.longestLostMs = Math.max(this.longestLostMs, lostMs);
    }
    this.#checks += 1;
    if (faults.length === 0) for (const worker of this.#workers) forget(worker);
    return faults.map((fault) => `${this.name}: ${fault}`);
  }

  /** Each operation adds to its history. */
  progress(): number {
    const sizes = this.#workers.map(({ history }) => {
      return statSync(history, { throwIfNoEntry: false })?.size ?? 0;
    });
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  complaints(): string[] {
    return this.#workers.flatMap(({ name, process }) =>
      (process?.lines ?? []).filter((line) => line !== 'ready').map((line) => `${name} ${line}`),
    );
  }

  /** All that the workers did before `began`, by nowMs, is on stable storage. */
  noteSynced(began: number): void {
    this.#synced = began * 1e6;
  }

  summary(): string {
    const lost = `${this.#lost} of before a crash not there, none of them flushed`;
    return `${this.#operations} operations (${lost}), checked ${this.#checks} times`;
  }

  #recorded({ history }: Worker): Recorded[] {
    return history === '' ? [] : parseHistory(readFileSync(history, 'utf8'));
  }

  #noteProgress(history: readonly Recorded[]): void {
    for (const { ended, outcome } of history) {
      if (ended !== null && outcome !== 'unknown') this.waits.note(ended / 1e6);
    }
  }
}

/** Its tree is what its history came to. */
function forget(worker: Worker): void {
  rmSync(worker.history, { force: true });
  worker.history = '';
}

/** Path to description of everything below a directory, or why it cannot be read. */
async function scan(directory: string): Promise<Map<string, string> | string> {
  const command = [process.execPath, `${distRoot}chaos/recorded/scan.js`, directory];
  try {
    const text = await run('timeout', '-k', '5', SCAN_SECONDS, ...command);
    return new Map(JSON.parse(text) as [string, string][]);
  } catch (error) {
    return (error as Error).message;
  }
}
