/**
 * SQLite as careful programs use it: write-ahead log, synchronous=FULL. Each transaction moves an
 * amount between two accounts and writes down its number; the sum must stay, and every transaction
 * that was reported as committed must be there.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../test/fixtures/processes.js';
import { Waits } from '../waits.js';
import { Acknowledged } from './acknowledged.js';
import type { Application } from './application.js';

const ACCOUNTS = 100;
/** Small, so that checkpoints of the write-ahead log are under way at any moment. */
const WAL_PAGES = 100;
const SETUP = [
  '.bail on',
  '.timeout 10000',
  'PRAGMA synchronous = FULL;',
  `PRAGMA wal_autocheckpoint = ${WAL_PAGES};`,
];
const COMMAND_SECONDS = '120';

export class Sqlite implements Application {
  readonly name = 'sqlite';
  readonly waits = new Waits();
  readonly #directory: string;
  readonly #file: string;
  readonly #writer: Acknowledged;
  #checks = 0;

  /** `restMs` passes between transactions. */
  constructor(directory: string, restMs = 0) {
    this.#directory = directory;
    this.#file = join(directory, 'ledger.sqlite');
    this.#writer = new Acknowledged(this.waits, transaction, restMs);
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true });
    await this.#ask(
      `PRAGMA journal_mode = WAL; BEGIN;
       CREATE TABLE done (number INTEGER PRIMARY KEY, bytes BLOB);
       CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER);
       WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${ACCOUNTS - 1})
         INSERT INTO account SELECT i, 1000 FROM n;
       COMMIT;`,
    );
  }

  async start(): Promise<void> {
    const committed = Number(await this.#ask('SELECT coalesce(max(number), 0) FROM done;'));
    // Line by line: what is committed must be known here even when the program is killed.
    const writer = this.#writer.start(['stdbuf', '-oL', 'sqlite3', this.#file], committed);
    for (const line of SETUP) writer.write(line);
  }

  progress(): number {
    return this.waits.count;
  }

  complaints(): string[] {
    return this.#writer.complaints().map((one) => `${this.name}: ${one}`);
  }

  async kill(): Promise<void> {
    await this.#writer.kill();
  }

  async verify(): Promise<string[]> {
    const faults: string[] = [];
    const expect = async (what: string, query: string, value: string): Promise<void> => {
      const found = await this.#ask(query).catch((error: Error) => error.message);
      if (found !== value) faults.push(`${this.name}: ${what} is ${found}, not ${value}`);
    };
    const { last } = this.#writer;
    await expect('integrity_check', 'PRAGMA integrity_check;', 'ok');
    await expect('the sum', 'SELECT sum(amount) FROM account;', `${ACCOUNTS * 1000}`);
    const count = `SELECT count(*) FROM done WHERE number <= ${last};`;
    await expect('how many of the committed transactions are there', count, `${last}`);
    this.#checks += 1;
    return faults;
  }

  summary(): string {
    return `${this.#writer.last} transactions committed, checked ${this.#checks} times`;
  }

  #ask(sql: string): Promise<string> {
    return run('timeout', '-k', '5', COMMAND_SECONDS, 'sqlite3', '-bail', this.#file, sql);
  }
}

function transaction(number: number): string {
  const amount = number % 17;
  const [from, to] = [number % ACCOUNTS, (number * 7 + 1) % ACCOUNTS];
  return [
    'BEGIN;',
    `UPDATE account SET amount = amount - ${amount} WHERE id = ${from};`,
    `UPDATE account SET amount = amount + ${amount} WHERE id = ${to};`,
    `INSERT INTO done VALUES (${number}, randomblob(${100 + ((number * 131) % 4000)}));`,
    `COMMIT; SELECT 'A', ${number};`,
  ].join(' ');
}
