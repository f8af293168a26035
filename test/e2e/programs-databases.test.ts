/**
 * PostgreSQL and SQLite on a mounted volume: they are made there, work there, are killed in the
 * middle, recover, and are whole after the volume was unmounted and mounted again.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Application } from '../../chaos/applications/application.js';
import { findPostgres, Postgres } from '../../chaos/applications/postgres.js';
import { Sqlite } from '../../chaos/applications/sqlite.js';
import { LONG, needs, Programs } from './programs-bed.js';

const WORK_MS = LONG ? 60_000 : 3_000;

const programs = await Programs.start();

async function survives(t: Test, application: Application): Promise<void> {
  t.teardown(() => application.kill());
  await application.prepare();
  await application.start();
  await sleep(WORK_MS);
  t.same(application.complaints(), [], 'it runs');
  await application.kill();
  t.same(await application.verify(), [], 'killed');
  t.ok(application.waits.count > 20, application.summary());
  await programs.remount();
  t.same(await application.verify(), [], 'mounted again');
}

const postgres = findPostgres() === null ? { skip: 'PostgreSQL is not installed' } : {};

t.test('PostgreSQL: initdb, pgbench, crash recovery, pg_amcheck', postgres, (t) => {
  const directory = programs.directory('postgres');
  const home = join(programs.local, 'postgres');
  return survives(t, new Postgres({ directory, home, scale: LONG ? 50 : 2 }));
});

t.test('SQLite: write-ahead log, synchronous=FULL, integrity_check', needs('sqlite3'), (t) =>
  survives(t, new Sqlite(programs.directory('sqlite'))),
);
