/** Workloads of real databases. */
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Place,
  type Program,
  timesGluster,
  WARM_UP_SECONDS,
  type Workload,
} from './workload.js';

const SECONDS = 10;
const PYTHON: Program = { name: 'python3', package: 'python3' };
const POSTGRES_PACKAGES = '/usr/lib/postgresql';
const POSTGRES: Program = { name: 'pgbench', package: 'postgresql' };
const PGBENCH_SCALE = 5;
const PGBENCH_CLIENTS = 4;

/** Inserts, first unmeasured, until the time is up: each a transaction, durable on return. */
const SQLITE_LOAD = `
import sqlite3, sys, time
path, before, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
db = sqlite3.connect(path, isolation_level=None)
assert db.execute('pragma journal_mode=wal').fetchone()[0] == 'wal'
db.execute('pragma synchronous=full')
db.execute('create table if not exists t (id integer primary key, value blob)')
value = bytes(100)
def rate(seconds):
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        db.execute('insert into t (value) values (?)', (value,))
        count += 1
    return count / (time.monotonic() - start)
rate(before)
print(rate(seconds))
`;

const SQLITE: Workload = {
  name: 'sqlite',
  title: 'SQLite WAL, synchronous=full',
  unit: 'inserts/s',
  mark: timesGluster(3),
  needs: [PYTHON],
  run: async (place) => {
    const times = [WARM_UP_SECONDS, SECONDS / 2].map((seconds) => String(seconds * place.scale));
    const load = ['python3', '-c', SQLITE_LOAD, place.path('sqlite.db'), ...times];
    return Number(await place.run(load));
  },
};

/** The newest server that Debian's packages have installed. */
function postgresPrograms(): string {
  const versions = readdirSync(POSTGRES_PACKAGES).sort((a, b) => Number(b) - Number(a));
  return join(POSTGRES_PACKAGES, versions[0] ?? '', 'bin');
}

/** A PostgreSQL as user postgres with its data on the target, reached by a socket elsewhere. */
class Postgres {
  readonly #place: Place;
  readonly #data: string;
  readonly #sockets: string;
  readonly #programs = postgresPrograms();

  constructor(place: Place) {
    this.#place = place;
    this.#data = place.path('postgres');
    this.#sockets = join(place.scratch, 'postgres');
  }

  run(program: string, ...args: string[]): Promise<string> {
    return this.#place.run([...AS_POSTGRES, join(this.#programs, program), ...args]);
  }

  async start(): Promise<void> {
    mkdirSync(this.#sockets);
    chmodSync(this.#sockets, 0o777);
    await this.#place.run(['install', '-d', '-o', 'postgres', '-m', '700', this.#data]);
    await this.run('initdb', '-D', this.#data, '-A', 'trust');
    const settings = `-k ${this.#sockets} -c listen_addresses=`;
    const log = join(this.#sockets, 'log');
    await this.run('pg_ctl', '-D', this.#data, '-l', log, '-o', settings, '-w', 'start');
  }

  /** Transactions a second. */
  async benchmark(): Promise<number> {
    const database = ['-h', this.#sockets, 'postgres'];
    await this.run('pgbench', '-i', '-q', '-s', String(PGBENCH_SCALE), ...database);
    const clients = ['-c', String(PGBENCH_CLIENTS), '-j', '2'];
    const load = (time: number): Promise<string> =>
      this.run('pgbench', ...clients, '-T', String(time), ...database);
    await load(this.#place.seconds(WARM_UP_SECONDS));
    const said = await load(this.#place.seconds(SECONDS));
    const rate = /^tps = ([\d.]+)/m.exec(said)?.[1];
    if (rate === undefined) throw new Error('pgbench reported no rate');
    return Number(rate);
  }

  /** Also when the run is told to end: a server must not outlive its mount. */
  async stop(): Promise<void> {
    const stop = [join(this.#programs, 'pg_ctl'), '-D', this.#data, '-m', 'immediate', 'stop'];
    await this.#place.cleanUp([...AS_POSTGRES, ...stop]);
  }
}

const AS_POSTGRES = ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'];

const PGBENCH: Workload = {
  name: 'pgbench',
  title: 'pgbench -c 4, scale 5',
  unit: 'tps',
  mark: timesGluster(2),
  needs: [POSTGRES],
  run: async (place) => {
    const postgres = new Postgres(place);
    try {
      await postgres.start();
      return await postgres.benchmark();
    } finally {
      await postgres.stop();
    }
  },
};

export const DATABASE_WORKLOADS: readonly Workload[] = [SQLITE, PGBENCH];
