/**
 * PostgreSQL as its own user, with pgbench at work: its accounts, tellers, branches and history are
 * a ledger whose sums must agree at any moment. Beside it one session commits numbered rows, each
 * of which must be there once it was reported. After a crash PostgreSQL recovers by itself;
 * pg_amcheck then reads every table and index, with checksums of all pages on.
 */
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Process, run, statOf, untilGone } from '../../test/fixtures/processes.js';
import { kill } from '../mount.js';
import { Waits } from '../waits.js';
import { Acknowledged } from './acknowledged.js';
import type { Application } from './application.js';

const USER = 'postgres';
const DATABASE = 'ledger';
const CLIENTS = 4;
const READY_MS = 120_000;
const COMMAND_SECONDS = '180';
/** For what waits for a mount, until that is gone. */
const ENDED_MS = 180_000;
/** Much write-ahead log between few pages of cache: recovery has something to do. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  shared_buffers: '16MB',
  max_connections: '20',
  min_wal_size: '32MB',
  max_wal_size: '64MB',
  checkpoint_timeout: '30s',
  restart_after_crash: 'off',
  autovacuum_naptime: '5s',
};

/** Where PostgreSQL's programs are, newest first; null when it is not installed. */
export function findPostgres(): string | null {
  const base = '/usr/lib/postgresql';
  const versions = existsSync(base)
    ? readdirSync(base)
        .map(Number)
        .sort((a, b) => b - a)
    : [];
  const found = versions.find((version) => existsSync(`${base}/${version}/bin/initdb`));
  return found === undefined ? null : `${base}/${found}/bin`;
}

export interface PostgresOptions {
  /** On the volume. */
  readonly directory: string;
  /** Not on the volume: for its socket. */
  readonly home: string;
  readonly scale?: number;
  /** Transactions a second of pgbench; default: as many as there can be. */
  readonly rate?: number;
  /** Between the transactions of the session, in ms. */
  readonly restMs?: number;
}

export class Postgres implements Application {
  readonly name = 'postgres';
  readonly waits = new Waits();
  readonly #data: string;
  readonly #home: string;
  readonly #bin: string;
  readonly #scale: number;
  readonly #rate: readonly string[];
  readonly #session: Acknowledged;
  #server: Process | null = null;
  #bench: Process | null = null;
  #checks = 0;

  constructor({ directory, home, scale = 2, rate, restMs }: PostgresOptions) {
    const bin = findPostgres();
    if (bin === null) throw new Error('PostgreSQL is not installed');
    this.#bin = bin;
    this.#data = join(directory, 'data');
    this.#home = home;
    this.#scale = scale;
    this.#rate = rate === undefined ? [] : ['-R', `${rate}`];
    const row = (number: number): string =>
      `INSERT INTO done VALUES (${number}); SELECT 'A', ${number};`;
    this.#session = new Acknowledged(this.waits, row, restMs);
  }

  async prepare(): Promise<void> {
    const [uid, gid] = await Promise.all([run('id', '-u', USER), run('id', '-g', USER)]);
    mkdirSync(this.#home, { recursive: true });
    chownSync(this.#home, Number(uid), Number(gid));
    mkdirSync(this.#data, { recursive: true });
    chownSync(this.#data, Number(uid), Number(gid));
    const options = ['--auth=trust', '--data-checksums', '--encoding=UTF8', '--locale=C'];
    await run(...this.#as('initdb', '-D', this.#data, ...options));
    await this.startServer();
    await this.#run('createdb', DATABASE);
    await this.#run('pgbench', '--initialize', '--quiet', '-s', `${this.#scale}`, DATABASE);
    await this.query('CREATE TABLE done (number integer PRIMARY KEY)');
    await this.query('CREATE EXTENSION IF NOT EXISTS amcheck');
    await this.stopServer();
  }

  /** Starts the server, which recovers first, and waits until it answers. */
  async startServer(): Promise<void> {
    const settings = Object.entries(SETTINGS).flatMap(([key, value]) => ['-c', `${key}=${value}`]);
    const socket = ['-c', `unix_socket_directories=${this.#home}`];
    const [program, ...args] = this.#as('postgres', '-D', this.#data, ...settings, ...socket);
    const server = new Process(program, args, { cwd: '/' });
    this.#server = server;
    const deadline = Date.now() + READY_MS;
    for (;;) {
      const answer = await this.query('SELECT 1', 'postgres').catch(() => null);
      if (answer === '1') return;
      if (!server.alive) throw new Error(`postgres ended: ${server.stderr.slice(-2000)}`);
      if (Date.now() > deadline) throw new Error(`postgres is not ready: ${server.stderr}`);
      await sleep(100);
    }
  }

  /** An orderly end, with a checkpoint. */
  async stopServer(): Promise<void> {
    this.#server?.signal('SIGINT');
    const ended = await this.#server?.exited;
    this.#server = null;
    if (ended !== undefined && ended.code !== 0) throw new Error(`postgres: exit ${ended.code}`);
  }

  async start(): Promise<void> {
    await this.startServer();
    const committed = Number(await this.query('SELECT coalesce(max(number), 0) FROM done'));
    const session = ['-qAtX', '-v', 'ON_ERROR_STOP=1', '-h', this.#home, '-U', USER, DATABASE];
    this.#session.start([join(this.#bin, 'psql'), ...session], committed);
    const load = ['-h', this.#home, '-U', USER, '-n', '-c', `${CLIENTS}`, '-T', '100000'];
    const words = [...load, ...this.#rate, DATABASE];
    this.#bench = new Process(join(this.#bin, 'pgbench'), words, { cwd: '/' });
  }

  progress(): number {
    return this.waits.count;
  }

  complaints(): string[] {
    const found = this.#session.complaints();
    for (const [what, part] of Object.entries({ server: this.#server, pgbench: this.#bench })) {
      if (part?.alive === false) found.push(`${what} ended: ${part.stderr.trim().slice(-500)}`);
    }
    return found.map((one) => `${this.name}: ${one}`);
  }

  async kill(): Promise<void> {
    await Promise.all([this.#session.kill(), this.#bench?.kill()]);
    this.#bench = null;
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    // The server's children are no process group, and outlive it for a moment.
    const pids = [server.pid, ...childrenOf(server.pid)];
    for (const pid of pids) kill(pid);
    await server.exited;
    await untilGone(pids, ENDED_MS);
  }

  async verify(): Promise<string[]> {
    try {
      await this.startServer();
      const faults = await this.#ledgerFaults();
      await this.stopServer();
      this.#checks += 1;
      return faults;
    } catch (error) {
      await this.kill();
      return [`${this.name}: ${(error as Error).message}`];
    }
  }

  async #ledgerFaults(): Promise<string[]> {
    const faults: string[] = [];
    const { last } = this.#session;
    const found = await this.query(`SELECT count(*) FROM done WHERE number <= ${last}`);
    if (found !== `${last}`) faults.push(`${this.name}: ${found} of ${last} committed rows`);
    const sums = await this.query(
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts),
              (SELECT sum(tbalance) FROM pgbench_tellers),
              (SELECT sum(bbalance) FROM pgbench_branches),
              (SELECT coalesce(sum(delta), 0) FROM pgbench_history)`,
    );
    if (new Set(sums.split('|')).size !== 1) faults.push(`${this.name}: the sums are ${sums}`);
    await this.#run('pg_amcheck', '--heapallindexed', '-d', DATABASE);
    return faults;
  }

  summary(): string {
    return `${this.#session.last} numbered rows committed, checked ${this.#checks} times`;
  }

  query(sql: string, database = DATABASE): Promise<string> {
    return this.#run('psql', '-qAtX', '-v', 'ON_ERROR_STOP=1', '-c', sql, database);
  }

  /** A client program, under a time limit. */
  #run(program: string, ...args: string[]): Promise<string> {
    const connection = ['-h', this.#home, '-U', USER];
    const command = [join(this.#bin, program), ...connection, ...args];
    return run('timeout', '-k', '5', COMMAND_SECONDS, ...command);
  }

  #as(program: string, ...args: string[]): [string, ...string[]] {
    const identity = ['--reuid', USER, '--regid', USER, '--init-groups'];
    return ['setpriv', ...identity, join(this.#bin, program), ...args];
  }
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => statOf(pid)?.parent === parent);
}
