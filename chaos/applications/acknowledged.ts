/**
 * A shell of a database (psql, sqlite3) that is given one transaction after the other and says when
 * each is committed. What it has said is kept outside the volume: it must still be there later.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Process } from '../../test/fixtures/processes.js';
import { nowMs, type Waits } from '../waits.js';

export class Acknowledged {
  /** Transactions 1 to here were reported as committed. */
  last = 0;
  readonly #waits: Waits;
  readonly #transaction: (number: number) => string;
  readonly #restMs: number;
  #process: Process | null = null;

  /**
   * `transaction` gives one line that commits and then prints `A` and its number, as sqlite3 and
   * psql separate columns. `restMs` passes between a commit and the next transaction.
   */
  constructor(waits: Waits, transaction: (number: number) => string, restMs = 0) {
    this.#restMs = restMs;
    this.#waits = waits;
    this.#transaction = transaction;
  }

  /** Goes on behind what is committed in the database, which may be more than was reported. */
  start(command: readonly string[], committed: number): Process {
    this.last = committed;
    const [program = '', ...args] = command;
    const started = new Process(program, args, {
      cwd: '/',
      onLine: async (line) => {
        if (line !== `A|${this.last + 1}`) return;
        this.last += 1;
        this.#waits.note(nowMs());
        if (this.#restMs > 0) await sleep(this.#restMs);
        started.write(this.#transaction(this.last + 1));
      },
    });
    this.#process = started;
    started.write(this.#transaction(this.last + 1));
    return started;
  }

  /** What it said when it ended by itself. */
  complaints(): string[] {
    const ended = this.#process;
    return ended === null || ended.alive ? [] : [`its session ended: ${ended.stderr.trim()}`];
  }

  async kill(): Promise<void> {
    await this.#process?.kill();
    this.#process = null;
  }
}
