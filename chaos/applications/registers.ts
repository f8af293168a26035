/**
 * Registers (registers/worker.ts) as an application: workers on every machine that may mount the
 * volume, all the time. Where it is not mounted they get errors, and whatever they are answered
 * must still fit into one order with what the others are.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { PAGE_BYTES } from '../../src/core/units.js';
import { distRoot, type Process, run, startNode } from '../../test/fixtures/processes.js';
import { checkRegisters, type RegisterOperation } from '../registers/history.js';
import { REGISTERS } from '../registers/registers-file.js';
import { nowMs, Waits } from '../waits.js';
import type { Application } from './application.js';

const READY_MS = 60_000;
/** For the operation under way; it hangs when its filesystem does. */
const END_MS = 5_000;
/** How much of what each worker of a machine does is writing, in percent. */
const WRITE_PERCENTS = [50, 50, 0, 0];
/** What a mount that is gone, or has lost its volume, answers. */
const GONE = new Set(['ENOENT', 'EIO', 'ENOTCONN', 'ECONNABORTED', 'EINTR', 'ESTALE', 'EROFS']);

export interface RegistersOptions {
  /** Where each machine may mount the volume, by its name. */
  readonly directories: ReadonlyMap<string, string>;
  /** That has it mounted now. */
  readonly home: string;
  readonly restMs: number;
}

type Begun = Omit<RegisterOperation, 'ended'>;

export class Registers implements Application {
  readonly name = 'registers';
  readonly waits = new Waits();
  readonly #options: RegistersOptions;
  readonly #history: RegisterOperation[] = [];
  readonly #faults: string[] = [];
  #workers: Process[] = [];
  #ids = 0;
  #errors = 0;
  #checks = 0;
  /** Null while it is on its way; `since` is nowMs(). */
  #home: { readonly machine: string; readonly since: number } | null;

  constructor(options: RegistersOptions) {
    this.#options = options;
    this.#home = { machine: options.home, since: 0 };
  }

  async prepare(): Promise<void> {
    const directory = this.#options.directories.get(this.#options.home) ?? '';
    mkdirSync(directory, { recursive: true });
    const file = join(directory, 'registers');
    await run('truncate', '-s', `${REGISTERS * PAGE_BYTES}`, file);
    // Bytes that stay: the segment of what a former owner remembers is not deleted a moment later.
    await run('dd', 'if=/dev/urandom', `of=${join(directory, 'kept')}`, 'bs=1M', 'count=8');
    await run('sync', '-f', file);
  }

  async start(): Promise<void> {
    for (const [machine, directory] of this.#options.directories) {
      for (const percent of WRITE_PERCENTS) await this.#start(machine, directory, percent);
    }
  }

  async #start(machine: string, directory: string, writePercent: number): Promise<void> {
    this.#ids += 1;
    let begun: Begun | null = null;
    let isReady = false;
    const onLine = (line: string): void => {
      const words = line.split(' ');
      if (words[0] === 'ready') isReady = true;
      if (words[0] === 'B') begun = begunOf(words);
      else if (begun !== null) {
        this.#ended(machine, begun, words);
        begun = null;
      }
    };
    const { restMs } = this.#options;
    const args = [join(directory, 'registers'), `${this.#ids}`, `${writePercent}`, `${restMs}`];
    const program = `${distRoot}chaos/registers/worker.js`;
    const worker = startNode(program, args, { cwd: '/', onLine });
    void worker.exited.then(() => {
      if (begun !== null) this.#note(begun, Number.POSITIVE_INFINITY);
    });
    this.#workers.push(worker);
    await worker.until('ready', READY_MS, () => isReady || undefined);
  }

  #ended(machine: string, begun: Begun, words: readonly string[]): void {
    const [result, ended, value] = words;
    if (result === 'N') this.waits.note(nowMs());
    if (result === '?') this.#note(begun, Number.POSITIVE_INFINITY);
    else
      this.#note(
        { ...begun, value: Number(value), isVolatile: result === 'V' },
        Number(ended) / 1e6,
      );
    const code = result === '?' ? words[1] : words[3];
    if (code === undefined) return;
    this.#errors += 1;
    const home = this.#home;
    const isExpected = home?.machine !== machine || begun.began < home.since;
    if (isExpected && GONE.has(code)) return;
    this.#faults.push(`registers: a ${begun.kind} on ${machine} failed with ${code}`);
  }

  #note(begun: Begun, ended: number): void {
    this.#history.push({ ...begun, ended });
  }

  /** From now on errors are no surprise anywhere: the volume is on its way. */
  leave(): void {
    this.#home = null;
  }

  /** From now on errors on this machine are a fault. */
  arrive(machine: string): void {
    this.#home = { machine, since: nowMs() };
  }

  progress(): number {
    return this.waits.count;
  }

  complaints(): string[] {
    const ended = this.#workers.filter((worker) => !worker.alive);
    return [...this.#faults, ...ended.map(({ stderr }) => `registers: a worker ended: ${stderr}`)];
  }

  async kill(): Promise<void> {
    const workers = this.#workers;
    this.#workers = [];
    await Promise.all(workers.map((worker) => worker.stop(END_MS)));
  }

  async verify(): Promise<string[]> {
    this.#checks += 1;
    return [...this.#faults, ...checkRegisters(this.#history).map((one) => `registers: ${one}`)];
  }

  summary(): string {
    const reads = this.#history.filter(({ kind }) => kind === 'read').length;
    const writes = this.#history.length - reads;
    const counts = `${reads} reads and ${writes} writes of ${REGISTERS} pages`;
    return `${counts} (${this.#errors} errors where it was not mounted) fit into one order`;
  }
}

function begunOf(words: readonly string[]): Begun {
  const [, began, kind, register, value] = words;
  return {
    kind: kind === 'write' ? 'write' : 'read',
    register: Number(register),
    value: Number(value),
    began: Number(began) / 1e6,
  };
}
