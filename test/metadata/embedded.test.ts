/** The embedded store passes the contract within one process and between two. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Level } from 'level';
import { type Test, test } from 'tap';
import { revision } from '../../src/core/units.js';
import { EmbeddedStore } from '../../src/metadata/embedded.js';
import { EmbeddedDatabase } from '../../src/metadata/embedded-database.js';
import { EmbeddedServer } from '../../src/metadata/embedded-server.js';
import { metadataStoreContract, Recorder } from '../contract/metadata-store.js';
import { presenceContract } from '../contract/presence.js';
import { realClock, realRandom, temporaryDirectory, until } from './real-parts.js';

test('embedded: the contract', async (t) => {
  const directory = temporaryDirectory(t);
  const open = async () => new EmbeddedStore({ directory, clock: realClock, random: realRandom });
  await metadataStoreContract(t, { open });
  await t.test('presence', (sub) => presenceContract(sub, { open }));
});

/** Another process on the same directory. */
class Child {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(t: Test, directory: string) {
    const script = fileURLToPath(new URL('./embedded-child.js', import.meta.url));
    const stdio: StdioOptions = ['pipe', 'pipe', 'inherit'];
    this.#process = spawn(process.execPath, [script, directory], { stdio });
    t.teardown(() => this.kill());
    if (this.#process.stdout === null) throw new Error('no output');
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    return done === true ? 'ended' : value;
  }

  ask(line: string): Promise<string> {
    this.#process.stdin?.write(`${line}\n`);
    return this.line();
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()));
    this.#process.kill(signal);
    await gone;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }
}

const put = (key: string, value: string) => ({ type: 'put', key, value }) as const;

test('embedded: two processes share one store, and the survivor goes on', async (t) => {
  const directory = temporaryDirectory(t);
  const child = new Child(t, directory);
  t.equal(await child.line(), 'ready');
  t.equal(await child.ask('serving'), 'serving true');
  t.equal(statSync(`${directory}/socket`).mode & 0o777, 0o600);
  const store = new EmbeddedStore({ directory, clock: realClock, random: realRandom });
  t.teardown(() => store.close());
  const recorder = new Recorder();
  store.watch('/', recorder);
  await until('the snapshot', () => recorder.snapshots === 1);
  t.equal(store.serving, false, 'one serves');
  const [, added] = await Promise.all([add(store, '/n', 40), child.ask('add /n 40')]);
  t.equal(added, 'added');
  t.equal((await store.get('/n')).entry?.value, '80', 'no update is lost between processes');
  const lease = await store.grantLease(30);
  await store.transact([], [{ ...put('/leased', '1'), lease: lease.id }]);
  const before = (await store.get('/n')).revision;
  await child.kill();
  await until('the survivor serves', () => store.serving);
  await until('the watch goes on', () => recorder.connected === true);
  const after = await store.get('/n');
  t.equal(after.entry?.value, '80', 'what was acknowledged is there');
  t.equal(after.revision, before, 'revisions go on');
  t.equal(await lease.keepAlive(), true, 'leases go on');
  const next = new Child(t, directory);
  t.equal(await next.line(), 'ready');
  t.equal(await next.ask('serving'), 'serving false');
  t.equal(await next.ask('put /x 1'), 'put');
  await until('the watch sees it', () => recorder.state.get('/x') === '1');
  await store.close();
  t.equal(await next.ask('get /n'), 'got 80', 'an orderly close hands over as well');
  t.equal(await next.ask('serving'), 'serving true');
  t.same(recorder.problems, []);
});

test('embedded: a lease that was renewed in time stays, however slow the disk is', async (t) => {
  const directory = temporaryDirectory(t);
  const database = await EmbeddedDatabase.open(`${directory}/db`);
  if (database === null) throw new Error('nobody else has it');
  const write = database.apply.bind(database);
  let slowMs = 0;
  database.apply = async (operations) => {
    await new Promise((resolve) => setTimeout(resolve, slowMs));
    return write(operations);
  };
  const parts = { clock: realClock, random: realRandom };
  const server = await EmbeddedServer.start({
    ...{ ...parts, database, socketPath: `${directory}/socket` },
  });
  t.teardown(() => server.close());
  const store = new EmbeddedStore({ ...parts, directory });
  t.teardown(() => store.close());
  const lease = await store.grantLease(1);
  await store.transact([], [{ ...put('/leased', '1'), lease: lease.id }]);
  slowMs = 1_500;
  const [, isKept] = await Promise.all([
    store.transact([], [put('/other', '1')]),
    lease.keepAlive(),
  ]);
  t.equal(isKept, true);
  t.equal(await lease.keepAlive(), true, 'it was renewed before its end');
  t.not((await store.get('/leased')).entry, null);
  slowMs = 0;
  await until('it ends when nobody renews it', async () => !(await held(store, '/leased')));
});

async function held(store: EmbeddedStore, key: string): Promise<boolean> {
  return (await store.get(key)).entry !== null;
}

test('embedded: a paused server is waited for, never replaced', async (t) => {
  const directory = temporaryDirectory(t);
  const child = new Child(t, directory);
  t.equal(await child.line(), 'ready');
  const parts = { clock: realClock, random: realRandom, timeoutMs: 800 };
  const store = new EmbeddedStore({ directory, ...parts });
  t.teardown(() => store.close());
  await store.transact([], [put('/a', '0')]);
  child.signal('SIGSTOP');
  const began = performance.now();
  await Promise.all([
    t.rejects(store.get('/a'), { code: 'TIMEOUT' }),
    t.rejects(store.transact([], [put('/a', '1')]), { code: 'UNKNOWN_OUTCOME' }),
  ]);
  const late = new EmbeddedStore({ directory, ...parts });
  await t.rejects(late.get('/a'), { code: 'UNAVAILABLE' }, 'nobody greets');
  t.equal(late.serving, false);
  await late.close();
  t.ok(performance.now() - began < 5_000);
  child.signal('SIGCONT');
  await until('it goes on', async () => {
    const found = await store.get('/a').catch(() => null);
    return found?.entry?.value === '1'; // it had been sent
  });
});

test('embedded: a transaction in flight when the server dies has an unknown outcome', async (t) => {
  const directory = temporaryDirectory(t);
  const child = new Child(t, directory);
  t.equal(await child.line(), 'ready');
  const store = new EmbeddedStore({ directory, clock: realClock, random: realRandom });
  t.teardown(() => store.close());
  await store.get('/a');
  child.signal('SIGSTOP');
  const swap = store.transact([], [put('/a', '1')]);
  const read = store.get('/a');
  const lost = t.rejects(swap, { code: 'UNKNOWN_OUTCOME' });
  await child.kill();
  await lost;
  t.same((await read).entry, null, 'a read is asked again, of the next server');
});

test('embedded: what it holds outlives it, and a newer format is refused', async (t) => {
  const directory = temporaryDirectory(t);
  const open = () => new EmbeddedStore({ directory, clock: realClock, random: realRandom });
  const first = open();
  const lease = await first.grantLease(1);
  await first.transact([], [{ ...put('/leased', '1'), lease: lease.id }, put('/a', 'é')]);
  const { revision } = await first.transact([], [put('/a', 'ü')]);
  await first.close();
  const second = open();
  t.same((await second.get('/a')).entry, { key: '/a', value: 'ü', modRevision: revision });
  await until('a lease runs out after a restart, too', async () => {
    return (await second.get('/leased')).entry === null;
  });
  await second.close();
  const level = new Level<string, unknown>(`${directory}/db`, { valueEncoding: 'json' });
  await level.put('m', { format: 2, revision: 9 });
  await level.close();
  const parts = { clock: realClock, random: realRandom, timeoutMs: 500 };
  const third = new EmbeddedStore({ directory, ...parts });
  t.teardown(() => third.close());
  await t.rejects(third.get('/a'), { code: 'VERSION' });
});

async function add(store: EmbeddedStore, key: string, times: number): Promise<void> {
  for (let done = 0; done < times; ) {
    const { entry } = await store.get(key);
    const modRevision = entry?.modRevision ?? revision(0);
    const next = put(key, String(Number(entry?.value ?? 0) + 1));
    if ((await store.transact([{ key, modRevision }], [next])).committed) done += 1;
  }
}
