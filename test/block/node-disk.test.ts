/** The real disk: its contract, its lock, and a store that lives on it across lives. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { DiskStore } from '../../src/block/disk-store.js';
import { StorageNode } from '../../src/block/storage-node.js';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { HoldfastError } from '../../src/core/errors.js';
import { MIB } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { type OpenedDisk, openNodeDisk } from '../../src/io/node/disk.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { diskContract } from '../contract/disk.js';
import { CLUSTER, LogOf, NODE, seg, VOLUME, wire } from './store-rig.js';

function temporary(): string {
  return mkdtempSync(join(tmpdir(), 'holdfast-disk-'));
}

function opened(directory: string): Promise<OpenedDisk> {
  return new Promise((resolve, reject) => {
    openNodeDisk(directory, (error, disk) => (disk === null ? reject(error) : resolve(disk)));
  });
}

diskContract('real disk', {
  make: async () => {
    const directory = temporary();
    const { disk, release } = await opened(directory);
    const close = async (): Promise<void> => {
      release();
      rmSync(directory, { recursive: true });
    };
    return { subject: disk, close };
  },
  until: async (condition) => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
  },
});

test('one process a disk, until it is released', async (t) => {
  const directory = temporary();
  const first = await opened(directory);
  await t.rejects(opened(directory), { code: 'DISK_IN_USE' });
  first.release();
  const second = await opened(directory);
  second.release();
  await t.rejects(opened(join(directory, 'missing')), { code: 'NOT_FOUND' });
  rmSync(directory, { recursive: true });
});

test('a node with a real disk keeps what it acknowledged', async (t) => {
  const directory = temporary();
  const { disk, release } = await opened(directory);
  const random = nodeRandom;
  const clock = nodeClock;
  const log = new LogOf(seg(1));
  for (const pages of [1, 0, 40, 2]) log.add(pages);
  const call = <T>(start: (done: (value: T) => void) => void): Promise<T> => new Promise(start);
  const make = (): StorageNode => {
    const store = new DiskStore({
      ...{ disk, clock, random, log: silentLog, cluster: CLUSTER, node: NODE },
      limits: { readLeaseMs: 0 },
      confirmations: {
        sealed: (_v, _s, _e, _c, done) => clock.soon(() => done('confirmed')),
        copyable: (_w, done) => clock.soon(() => done('confirmed')),
        droppable: (_v, _s, _i, done) => clock.soon(() => done('confirmed')),
        deletable: (_v, _s, _r, done) => clock.soon(() => done('confirmed')),
      },
      requests: { send: () => {}, queuedBytes: () => 0, close: () => {} },
    });
    return new StorageNode({ node: NODE, zone: 'a', version: '1', stores: [store], clock });
  };
  const identity = { cluster: CLUSTER, node: NODE, journalBytes: 4 * MIB };
  const format = (): Promise<HoldfastError | null> =>
    call((done) => DiskStore.format(disk, identity, random, (error) => done(error)));
  t.equal(await format(), null);
  t.match(await format(), { code: 'ALREADY_EXISTS' });
  for (const life of [1, 2, 3]) {
    const node = make();
    t.same(await call((done) => node.open(done)), []);
    const incarnation = node.inspect()[0]?.incarnation;
    const on = { incarnation, segment: seg(1), volume: VOLUME };
    const send = (request: object): Promise<Reply> =>
      call((done) => node.handle({ ...on, ...request } as Request, done));
    if (life === 1) {
      t.match(await send({ type: 'create', epoch: 1 }), { status: 'OK' });
      const replies = log.batches.map((batch) =>
        send({ type: 'append', epoch: 1, offset: batch.header.offset, batch: wire(batch) }),
      );
      t.match((await Promise.all(replies)).at(-1), { status: 'OK', durableLength: log.end });
    }
    const read = await send({ type: 'read', page: 0, count: log.end / 4096 });
    t.equal(read.status, 'OK');
    if (read.body?.type === 'read') t.ok(log.bytes().equals(read.body.data as Buffer));
    t.match(await send({ type: 'fence', epoch: life + 1, released: true }), { status: 'OK' });
    // Of one that it never had it remembers the epoch.
    const unknown = { type: 'fence', segment: seg(2), epoch: life, released: true };
    t.match(await send(unknown), { status: 'OK' });
    t.match(await send({ type: 'status' }), { body: { disks: [{ state: 'ok', segments: 1 }] } });
    t.match(await send({ type: 'ping', epoch: 9, incarnation: seg(9) }), { status: 'INCARNATION' });
    await call<void>((done) => node.stop(() => done()));
  }
  release();
  rmSync(directory, { recursive: true });
});
