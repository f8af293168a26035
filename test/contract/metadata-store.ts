/**
 * What every metadata store must do, run against memory, embedded and etcd. A harness opens
 * independent connections to one and the same, empty store.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { revision } from '../../src/core/units.js';
import { TRANSACTION_MAX_BYTES, TRANSACTION_MAX_OPERATIONS } from '../../src/metadata/limits.js';
import type {
  MetadataStore,
  Operation,
  WatchEvent,
  WatchHandlers,
} from '../../src/metadata/store.js';
import { until } from '../metadata/real-parts.js';

export interface StoreHarness {
  /** A new connection; the suite closes it. */
  open(): Promise<MetadataStore>;
}

const put = (key: string, value: string, lease?: string): Operation =>
  lease === undefined ? { type: 'put', key, value } : { type: 'put', key, value, lease };

/** Keeps what a watch says, and checks its promises as it goes. */
export class Recorder implements WatchHandlers {
  readonly state = new Map<string, string>();
  readonly events: WatchEvent[] = [];
  readonly problems: string[] = [];
  snapshots = 0;
  connected: boolean | null = null;
  revision = 0;

  onSnapshot(...[entries, at]: Parameters<WatchHandlers['onSnapshot']>): void {
    this.snapshots += 1;
    if (this.connected !== true) this.problems.push('a snapshot while not connected');
    if (at < this.revision) this.problems.push(`snapshot ${at} after ${this.revision}`);
    this.revision = at;
    this.state.clear();
    for (const { key, value, modRevision } of entries) {
      if (modRevision > at) this.problems.push(`${key} is newer than its snapshot`);
      this.state.set(key, value);
    }
  }

  onEvents(...[events, at]: Parameters<WatchHandlers['onEvents']>): void {
    if (this.snapshots === 0) this.problems.push('events before a snapshot');
    let last = this.revision;
    const seen = new Set<string>();
    for (const event of events) {
      const key = event.type === 'put' ? event.entry.key : event.key;
      const mod = event.type === 'put' ? event.entry.modRevision : event.modRevision;
      if (mod <= this.revision) this.problems.push(`${key}@${mod} came again`);
      if (mod < last) this.problems.push(`${key}@${mod} after ${last}`);
      if (seen.has(`${key}@${mod}`)) this.problems.push(`${key}@${mod} twice`);
      seen.add(`${key}@${mod}`);
      last = mod;
      if (event.type === 'put') this.state.set(key, event.entry.value);
      else this.state.delete(key);
      this.events.push(event);
    }
    if (last > at) this.problems.push(`an event ${last} above ${at}`);
    this.revision = at;
  }

  onConnected(connected: boolean): void {
    if (connected === this.connected) this.problems.push(`connected: ${connected} twice`);
    this.connected = connected;
  }
}

type Body = (t: Test, open: () => Promise<MetadataStore>, root: string) => Promise<void>;

/** Runs the whole suite as subtests, each below a prefix of its own. */
export async function metadataStoreContract(t: Test, harness: StoreHarness): Promise<void> {
  for (const [at, [name, body]] of SUITE.entries()) {
    await t.test(name, async (sub) => {
      const stores: MetadataStore[] = [];
      const open = async (): Promise<MetadataStore> => {
        const store = await harness.open();
        stores.push(store);
        return store;
      };
      try {
        await body(sub, open, `/contract/${at}/`);
      } finally {
        for (const store of stores.reverse()) await store.close();
      }
    });
  }
}

const reads: Body = async (t, open, root) => {
  const store = await open();
  t.same((await store.get(`${root}a`)).entry, null);
  const first = await store.transact([], [put(`${root}a`, 'é ✓ {"x":1}')]);
  t.ok(first.committed);
  const found = await store.get(`${root}a`);
  const expected = { key: `${root}a`, value: 'é ✓ {"x":1}', modRevision: first.revision };
  t.same(found.entry, expected);
  t.ok(found.revision >= first.revision);
  const other = await open();
  t.same((await other.get(`${root}a`)).entry, expected, 'another connection sees it at once');
  await store.transact([], [{ type: 'delete', key: `${root}a` }]);
  t.same((await other.get(`${root}a`)).entry, null);
};

const compareAndSwap: Body = async (t, open, root) => {
  const store = await open();
  const key = `${root}a`;
  const other = `${root}b`;
  const none = revision(0);
  const made = await store.transact([{ key, modRevision: none }], [put(key, '1')]);
  t.ok(made.committed, 'created');
  const again = await store.transact(
    [{ key, modRevision: none }],
    [put(key, '2'), put(other, 'x')],
  );
  t.notOk(again.committed, 'exists already');
  t.equal((await store.get(key)).entry?.value, '1');
  t.same((await store.get(other)).entry, null, 'nothing of a refused transaction is applied');
  const swapped = await store.transact([{ key, modRevision: made.revision }], [put(key, '1')]);
  t.ok(swapped.committed, 'the same value is a change, too');
  t.ok(swapped.revision > made.revision);
  const stale = await store.transact([{ key, modRevision: made.revision }], [put(key, '3')]);
  t.notOk(stale.committed);
  const both = await store.transact(
    [
      { key, modRevision: swapped.revision },
      { key: other, modRevision: none },
    ],
    [put(other, 'y'), { type: 'delete', key }],
  );
  t.ok(both.committed);
  t.equal((await store.get(other)).entry?.modRevision, both.revision);
  const gone = await store.transact([{ key, modRevision: none }], []);
  t.ok(gone.committed, 'a deleted key does not exist');
  const noop = await store.transact([], [{ type: 'delete', key }]);
  t.equal(noop.revision, both.revision, 'what changes nothing makes no revision');
  const asked = await store.transact([{ key: other, modRevision: both.revision }], []);
  t.same(asked, { committed: true, revision: both.revision }, 'nor does a mere question');
};

const contention: Body = async (t, open, root) => {
  const key = `${root}counter`;
  const stores = [await open(), await open(), await open()];
  await stores[0]?.transact([], [put(key, '0')]);
  const add = async (store: MetadataStore): Promise<void> => {
    for (let done = 0; done < 15; ) {
      const { entry } = await store.get(key);
      if (entry === null) throw new Error('no counter');
      const next = put(key, String(Number(entry.value) + 1));
      const result = await store.transact([{ key, modRevision: entry.modRevision }], [next]);
      if (result.committed) done += 1;
    }
  };
  await Promise.all(stores.map(add));
  t.equal((await stores[0]?.get(key))?.entry?.value, '45', 'no update is lost');
};

const ranges: Body = async (t, open, root) => {
  const store = await open();
  const names = Array.from({ length: 30 }, (_, at) => `k${String(at).padStart(2, '0')}`);
  for (const name of [...names].reverse()) await store.transact([], [put(root + name, name)]);
  const all = await store.range(root);
  t.same(
    all.entries.map((entry) => entry.key),
    names.map((name) => root + name),
    'sorted',
  );
  t.equal(all.more, false);
  const paged: string[] = [];
  for (let after: string | undefined, pages = 1; ; pages++) {
    const page = await store.range(root, { limit: 7, ...(after === undefined ? {} : { after }) });
    for (const entry of page.entries) paged.push(entry.value);
    after = page.entries.at(-1)?.key;
    if (page.more) continue;
    t.equal(pages, 5);
    break;
  }
  t.same(paged, names, 'pages together are all, each once');
  t.equal((await store.range(root, { limit: 30 })).more, false, 'an exact page has no more');
  const keys = await store.range(root, { limit: 30, keysOnly: true });
  t.same(
    keys.entries.map(({ key, modRevision }) => ({ key, modRevision })),
    all.entries.map(({ key, modRevision }) => ({ key, modRevision })),
    'keys, and when they changed',
  );
  t.ok(
    keys.entries.every(({ value }) => value === ''),
    'without their values',
  );
  t.same((await store.range(root, { after: `${root}k29` })).entries, []);
  t.same((await store.range(root, { after: '/zzz' })).entries, []);
  t.equal((await store.range(root, { after: '/' })).entries.length, 30);
  t.equal((await store.range(root, { after: `${root}k055` })).entries[0]?.value, 'k06');
};

const prefixes: Body = async (t, open, root) => {
  const store = await open();
  for (const key of ['a/2', 'a/2/x', 'a/20/x', 'a/2.x', 'a/3/x']) {
    await store.transact([], [put(root + key, key)]);
  }
  const recorder = new Recorder();
  const watch = store.watch(`${root}a/2/`, recorder);
  await until('the snapshot', () => recorder.snapshots === 1);
  const keys = (await store.range(`${root}a/2/`)).entries.map((entry) => entry.value);
  t.same(keys, ['a/2/x']);
  t.same([...recorder.state.values()], ['a/2/x']);
  await store.transact([], [put(`${root}a/20/y`, 'no'), put(`${root}a/2/y`, 'yes')]);
  await until('the event', () => recorder.events.length > 0);
  t.same([...recorder.state.values()], ['a/2/x', 'yes']);
  watch.close();
  await t.rejects(store.range(`${root}a/2`), { code: 'INVALID_ARGUMENT' });
  t.throws(() => store.watch(`${root}a/2`, recorder), { code: 'INVALID_ARGUMENT' });
};

const bounds: Body = async (t, open, root) => {
  const store = await open();
  const refused = { code: 'INVALID_ARGUMENT' };
  await t.rejects(store.get('no-slash'), refused);
  await t.rejects(store.get('/with space'), refused);
  await t.rejects(store.transact([], [put(`${root}a`, '1'), put(`${root}a`, '2')]), refused);
  const many = Array.from({ length: TRANSACTION_MAX_OPERATIONS }, (_, at) => put(root + at, 'x'));
  await t.rejects(store.transact([], [...many, put(`${root}more`, 'x')]), refused);
  t.ok((await store.transact([], many)).committed, 'as many as are allowed');
  const big = 'é'.repeat(TRANSACTION_MAX_BYTES / 2 - 100);
  const recorder = new Recorder();
  store.watch(root, recorder);
  await until('the snapshot', () => recorder.snapshots === 1);
  t.ok((await store.transact([], [put(`${root}big`, big)])).committed, 'as large as is allowed');
  t.equal((await store.get(`${root}big`)).entry?.value, big);
  await until('the big event', () => recorder.state.get(`${root}big`) === big);
  await t.rejects(store.transact([], [put(`${root}b`, `${big}${'x'.repeat(300)}`)]), refused);
};

const watches: Body = async (t, open, root) => {
  const store = await open();
  const writers = [await open(), await open()];
  await store.transact([], [put(`${root}before`, '0')]);
  const recorders = Array.from({ length: 4 }, () => new Recorder());
  const write = async (writer: MetadataStore, name: string): Promise<void> => {
    for (let at = 0; at < 40; at++) {
      const key = `${root}${name}${at % 5}`;
      const gone: Operation[] = at % 7 === 6 ? [{ type: 'delete', key }] : [put(key, String(at))];
      await writer.transact([], [...gone, put(`${root}last-${name}`, String(at))]);
    }
  };
  const writing = Promise.all(writers.map((writer, at) => write(writer, `w${at}-`)));
  // Watches that begin while others write are complete as well.
  for (const recorder of recorders) {
    store.watch(root, recorder);
    await sleep(3);
  }
  await writing;
  const final = await store.range(root);
  const wanted = new Map(final.entries.map((entry) => [entry.key, entry.value]));
  for (const recorder of recorders) {
    await until('all events', () => recorder.revision >= final.revision);
    t.same([...recorder.state].sort(), [...wanted].sort(), 'snapshot and events make the state');
    t.same(recorder.problems, []);
    t.equal(recorder.snapshots, 1);
  }
};

const closedWatch: Body = async (t, open, root) => {
  const store = await open();
  const recorder = new Recorder();
  const watch = store.watch(root, recorder);
  t.equal(recorder.connected, null, 'no handler runs before watch returns');
  await until('the snapshot', () => recorder.snapshots === 1);
  watch.close();
  watch.close();
  const witness = new Recorder();
  store.watch(root, witness);
  await until('the witness', () => witness.snapshots === 1);
  await store.transact([], [put(`${root}a`, '1')]);
  await until('the witness sees it', () => witness.events.length === 1);
  t.same(recorder.events, [], 'nothing after close');
  t.equal(recorder.connected, true);
};

const leases: Body = async (t, open, root) => {
  const store = await open();
  const other = await open();
  const recorder = new Recorder();
  other.watch(root, recorder);
  const kept = await store.grantLease(2);
  const left = await store.grantLease(2);
  await store.transact([], [put(`${root}kept`, '1', kept.id), put(`${root}left`, '1', left.id)]);
  await store.transact([], [put(`${root}freed`, '1', left.id)]);
  await store.transact([], [put(`${root}freed`, '2')]);
  const began = performance.now();
  await until('the lease expires', async () => {
    if (!(await kept.keepAlive())) throw new Error('a lease that is kept alive was lost');
    await sleep(200);
    return (await other.get(`${root}left`)).entry === null;
  });
  t.ok(performance.now() - began > 1_000, 'not before its time');
  t.equal((await store.get(`${root}kept`)).entry?.value, '1');
  t.equal((await store.get(`${root}freed`)).entry?.value, '2', 'a later put took it off the lease');
  t.equal(await left.keepAlive(), false);
  await until('the watch saw it', () => recorder.state.has(`${root}left`) === false);
  const dead = store.transact([], [put(`${root}dead`, '1', left.id)]);
  await t.rejects(dead, { code: 'NOT_FOUND' }, 'a put needs its lease');
  await left.revoke();
  await kept.revoke();
  t.same((await other.get(`${root}kept`)).entry, null, 'revoked at once');
  t.equal(await kept.keepAlive(), false);
  t.same(recorder.problems, []);
};

const closes: Body = async (t, open, root) => {
  const keeper = await open();
  await keeper.transact([], [put(`${root}a`, '1')]);
  const store = await open();
  const recorder = new Recorder();
  store.watch(root, recorder);
  await until('the snapshot', () => recorder.snapshots === 1);
  const lease = await store.grantLease(60);
  await store.close();
  await store.close();
  const closed = { code: 'CLOSED' };
  await t.rejects(store.get(`${root}a`), closed);
  await t.rejects(store.range(root), closed);
  await t.rejects(store.transact([], [put(`${root}b`, '1')]), closed);
  await t.rejects(store.grantLease(5), closed);
  await t.rejects(lease.keepAlive(), closed);
  t.throws(() => store.watch(root, recorder), closed);
  await keeper.transact([], [put(`${root}c`, '1')]);
  t.same(recorder.events, []);
  t.equal((await keeper.get(`${root}c`)).entry?.value, '1', 'others are not disturbed');
};

const SUITE: readonly (readonly [string, Body])[] = [
  ['reads what was written, linearizably', reads],
  ['compares and swaps', compareAndSwap],
  ['loses no update under contention', contention],
  ['ranges are sorted and paged', ranges],
  ['prefixes end where their name ends', prefixes],
  ['bounds are the same everywhere', bounds],
  ['watches are complete, ordered and without repetition', watches],
  ['a closed watch is silent', closedWatch],
  ['leases', leases],
  ['close', closes],
];
