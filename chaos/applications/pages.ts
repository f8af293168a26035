/** A file that is overwritten at random without end (recorded/pages.ts), as an application. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { distRoot, type Process, run, startNode } from '../../test/fixtures/processes.js';
import { checkPages, FILE_PAGES } from '../recorded/pages.js';
import { Waits } from '../waits.js';
import type { Application } from './application.js';

const READY_MS = 60_000;
/** For the write under way; it hangs when its filesystem does. */
const END_MS = 5_000;
const READ_SECONDS = '120';
/** Each start counts from a multiple of this, far above what the one before came to. */
const NUMBERS_A_START = 1_000_000;
const PROGRAM = `${distRoot}chaos/recorded/page-worker.js`;

export class Pages implements Application {
  readonly name = 'pages';
  readonly waits = new Waits();
  readonly #directory: string;
  readonly #file: string;
  readonly #state = new Uint32Array(FILE_PAGES);
  #starts = 0;
  #flushed = 0;
  #writes = 0;
  /** Writes of the starts before this one. */
  #before = 0;
  #checks = 0;
  #process: Process | null = null;

  constructor(directory: string) {
    this.#directory = directory;
    this.#file = join(directory, 'pages');
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true });
    await run('truncate', '-s', '0', this.#file);
    await run('sync', this.#file);
  }

  async start(): Promise<void> {
    this.#starts += 1;
    this.#before = this.#writes;
    const first = this.#starts * NUMBERS_A_START;
    this.#flushed = first - 1;
    const onLine = (line: string): void => {
      if (!line.startsWith('F ')) return;
      this.#flushed = Number(line.slice(2));
      this.waits.note();
    };
    this.#process = startNode(PROGRAM, [this.#file, `${first}`], { cwd: '/', onLine });
    await this.#process.until('a flush', READY_MS, () => this.#flushed >= first || undefined);
  }

  progress(): number {
    return this.waits.count;
  }

  complaints(): string[] {
    const ended = this.#process;
    return ended === null || ended.alive ? [] : [`${this.name}: ended: ${ended.stderr.trim()}`];
  }

  async kill(): Promise<void> {
    await this.#process?.stop(END_MS);
    this.#process = null;
  }

  async verify(): Promise<string[]> {
    const command = ['-k', '5', READ_SECONDS, process.execPath, PROGRAM, this.#file];
    const found = Uint32Array.from(JSON.parse(await run('timeout', ...command)) as number[]);
    const first = this.#starts * NUMBERS_A_START;
    const end = checkPages(this.#state, found, first, this.#flushed);
    if (typeof end === 'string') return [`${this.name}: ${end}`];
    this.#writes = this.#before + end - first + 1;
    this.#checks += 1;
    return [];
  }

  summary(): string {
    return `${this.#writes} overwrites of a file kept, checked ${this.#checks} times`;
  }
}
