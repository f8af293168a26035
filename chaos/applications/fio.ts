/**
 * fio, which writes a file at random, flushes now and then, and reads all of it back and verifies
 * its checksums; again and again. What it finds wrong, or an error, ends it.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Process } from '../../test/fixtures/processes.js';
import { Waits } from '../waits.js';
import type { Application } from './application.js';

const SIZE = '12M';
const RATE = '1M';
const CHECK_SECONDS = '120';

export class Fio implements Application {
  readonly name = 'fio';
  readonly waits = new Waits();
  readonly #directory: string;
  #running: Process | null = null;
  /** What ended although nobody ended it. */
  #failure: string | null = null;
  #passes = 0;
  /** What passes that have ended had read and written. */
  #before = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true });
  }

  async start(): Promise<void> {
    this.#failure = null;
    void this.#loop();
  }

  async #loop(): Promise<void> {
    for (;;) {
      const pass = new Process('fio', this.#job(`--rate=${RATE}`), { cwd: '/' });
      this.#running = pass;
      const { code } = await pass.exited;
      if (this.#running !== pass) return;
      if (code !== 0) {
        this.#failure = `fio: exit ${code}: ${pass.lines.join(' ')} ${pass.stderr}`.slice(0, 2_000);
        return;
      }
      this.#passes += 1;
      this.#before += 1;
    }
  }

  #job(...more: string[]): string[] {
    const isDirect = this.#passes % 2;
    return [
      ...['--name=verify', `--filename=${join(this.#directory, 'file')}`, `--size=${SIZE}`],
      ...['--rw=randwrite', '--bsrange=4k-64k', '--bs_unaligned=0', '--ioengine=psync', '--thread'],
      ...['--fdatasync=16', `--direct=${isDirect}`, `--randseed=${this.#passes + 1}`],
      ...['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0'],
      ...['--output-format=terse', ...more],
    ];
  }

  /** Passes, and the bytes that the running one has read and written. */
  progress(): number {
    try {
      const counts = readFileSync(`/proc/${this.#running?.pid}/io`, 'utf8');
      const [, read = '0', written = '0'] = /rchar: (\d+)\nwchar: (\d+)/.exec(counts) ?? [];
      return this.#before * 1e12 + Number(read) + Number(written);
    } catch {
      return this.#before * 1e12;
    }
  }

  complaints(): string[] {
    return this.#failure === null ? [] : [this.#failure];
  }

  async kill(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    await running?.kill();
  }

  /** A pass of its own, as fast as it goes. */
  async verify(): Promise<string[]> {
    const words = ['-k', '5', CHECK_SECONDS, 'fio', ...this.#job()];
    const pass = new Process('timeout', words, { cwd: '/' });
    const { code } = await pass.exited;
    this.#passes += 1;
    return code === 0 ? [] : [`fio: exit ${code}: ${pass.lines.join(' ')} ${pass.stderr}`];
  }

  summary(): string {
    return `${this.#passes} times ${SIZE} written, read back and verified`;
  }
}
