/** Spreads seeds over worker processes and gathers what they find. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Coverage } from './coverage.js';
import type { SeedResult } from './run-seed.js';
import type { Shrunk } from './shrink.js';
import type { WorkerAnswer, WorkerTask } from './worker.js';

export interface RunOptions {
  readonly seeds: readonly string[];
  readonly workers: number;
  /** Stop after so many violations. */
  readonly maxViolations: number;
  /** The compiled worker; default: the one beside this file. */
  readonly workerPath?: string;
  /** Stop when this much real time has passed. */
  readonly deadlineMs?: number;
  onProgress?(summary: Summary): void;
}

export interface Summary {
  seeds: number;
  events: number;
  virtualMs: number;
  /** Processor time of all workers: what a seed costs, whatever else the machine does. */
  cpuMs: number;
  startedAt: number;
  readonly coverage: Coverage;
  readonly violations: SeedResult[];
}

class Worker {
  readonly #child: ChildProcess;
  #answer: ((answer: WorkerAnswer) => void) | null = null;

  constructor(path: string, onDeath: (code: number | null) => void) {
    // A seed leaves much garbage at once. A large young generation saves 5 % of the time, and the
    // limit of the heap (a worker needs 350 MiB) a quarter, against one of 1,500.
    const execArgv = ['--max-old-space-size=4096', '--max-semi-space-size=64'];
    this.#child = fork(path, [], { execArgv: ['--enable-source-maps', ...execArgv] });
    this.#child.on('message', (answer: WorkerAnswer) => {
      const callback = this.#answer;
      this.#answer = null;
      callback?.(answer);
    });
    this.#child.on('exit', (code) => {
      if (this.#answer !== null) onDeath(code);
    });
  }

  ask(task: WorkerTask): Promise<WorkerAnswer> {
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#child.send(task);
    });
  }

  close(): void {
    this.#answer = null;
    this.#child.kill();
  }
}

const BESIDE = fileURLToPath(new URL('./worker.js', import.meta.url));

export async function runSeeds(options: RunOptions): Promise<Summary> {
  const summary: Summary = {
    seeds: 0,
    events: 0,
    virtualMs: 0,
    cpuMs: 0,
    startedAt: Date.now(),
    coverage: new Coverage(),
    violations: [],
  };
  const queue = [...options.seeds];
  let died: string | null = null;
  const enough = (): boolean =>
    died !== null ||
    summary.violations.length >= options.maxViolations ||
    (options.deadlineMs !== undefined && Date.now() - summary.startedAt > options.deadlineMs);
  const lane = async (): Promise<void> => {
    let current = '';
    await new Promise<void>((finish) => {
      const worker = new Worker(options.workerPath ?? BESIDE, (code) => {
        died = `the worker died with code ${code} at seed ${current}`;
        finish();
      });
      let used = 0;
      const loop = async (): Promise<void> => {
        for (;;) {
          const seed = queue.shift();
          if (seed === undefined || enough()) break;
          current = seed;
          const answer = await worker.ask({ type: 'run', seed });
          if (answer.type === 'ran') {
            record(summary, answer.result);
            summary.cpuMs += answer.cpuMs - used;
            used = answer.cpuMs;
          }
          options.onProgress?.(summary);
        }
        worker.close();
        finish();
      };
      void loop();
    });
  };
  await Promise.all(Array.from({ length: options.workers }, lane));
  if (died !== null) throw new Error(died);
  return summary;
}

function record(summary: Summary, result: SeedResult): void {
  summary.seeds += 1;
  summary.events += result.events;
  summary.virtualMs += result.virtualMs;
  summary.coverage.add(result.coverage);
  if (result.violation !== null) summary.violations.push(result);
}

export async function shrinkInWorker(failing: SeedResult): Promise<Shrunk> {
  const worker = new Worker(BESIDE, () => {});
  const answer = await worker.ask({ type: 'shrink', failing });
  worker.close();
  if (answer.type !== 'shrunk') throw new Error('the worker answered something else');
  return answer.shrunk;
}
