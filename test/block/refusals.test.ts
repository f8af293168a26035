/** What a disk must refuse, or answer otherwise, because of something else that is under way. */
import { test } from 'tap';
import { continues } from '../../src/block/chain.js';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import { offset, PAGE_BYTES, pageIndex } from '../../src/core/units.js';
import { LogOf, Rig, seg } from './store-rig.js';

const fresh = (options = {}): Rig => new Rig(options).format().open();

/** Notes what comes, without waiting for it. */
function noting(rig: Rig): { readonly said: string[]; send(request: Request): void } {
  const said: string[] = [];
  const note = (request: Request) => (reply: Reply) => {
    said.push(`${request.type} ${reply.status}`);
  };
  return { said, send: (request) => rig.store.handle(request, note(request)) };
}

/** Two logs of one segment that are as long as each other, and differ. */
function twoLogs(): [LogOf, LogOf] {
  const logs: [LogOf, LogOf] = [new LogOf(seg(1)), new LogOf(seg(1))];
  for (const pages of [1, 2, 1]) logs[0].add(pages);
  for (const pages of [2, 1, 1]) logs[1].add(pages);
  return logs;
}

test('another batch in the place of one that is there is no duplicate', async (t) => {
  const rig = fresh();
  const [log, other] = twoLogs();
  rig.create(seg(1));
  for (const batch of log.batches) t.equal(rig.append(batch).status, 'OK');
  const [, , same] = log.batches;
  const [, longer, , last] = other.batches;
  if (same === undefined || longer === undefined || last === undefined) throw new Error('batches');
  t.equal(rig.append(same).status, 'OK', 'sent again');
  t.equal(rig.append(longer).status, 'REFUSED', 'it ends where no batch does');
  t.equal(rig.append(last).status, 'REFUSED', 'it ends where another batch does');
});

test('what is recovered goes on from the very batches that are there', async (t) => {
  const rig = fresh();
  const [log, other] = twoLogs();
  rig.create(seg(1));
  for (const batch of log.batches.slice(0, 3)) rig.append(batch);
  t.equal(rig.fence(seg(1), 2).status, 'OK');
  const { end } = log.ends()[3] as { end: number };
  t.equal(other.ends()[3]?.end, end);
  t.equal(rig.recover(other, 2, end).status, 'REFUSED', 'of the chain of another log');
  t.match(rig.recover(log, 2, end), { status: 'OK', durableLength: log.end });
});

test('a promise to a later epoch does not end one to an earlier', async (t) => {
  const rig = fresh({ limits: { readLeaseMs: 2_000 } });
  rig.create(seg(1), 3);
  rig.scheduler.runFor(10_000);
  t.equal(rig.ping(seg(1), 5).status, 'OK');
  t.equal(rig.ping(seg(1), 3).status, 'OK');
  const promised = rig.scheduler.now;
  t.equal(rig.fence(seg(1), 4).status, 'OK');
  t.ok(rig.scheduler.now >= promised + 2_000 - 2, 'the fence was held back');
});

test('a fence that was overtaken while its answer was held back is STALE', async (t) => {
  const rig = fresh({ limits: { readLeaseMs: 2_000 } });
  rig.create(seg(1));
  t.equal(rig.ping(seg(1), 1).status, 'OK');
  const { said, send } = noting(rig);
  send(rig.fenceRequest(seg(1), 2));
  rig.scheduler.runFor(500);
  send(rig.fenceRequest(seg(1), 3));
  rig.scheduler.runFor(10_000);
  t.same(said, ['fence STALE', 'fence OK']);
});

test('a read of what a seal cuts off meanwhile is beyond the end, and no rot', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  for (const batch of [log.first, log.add(1), log.add(3)]) rig.append(batch);
  const { end, crc } = log.ends()[2] as { end: number; crc: number };
  const { said, send } = noting(rig);
  const { incarnation } = rig;
  const { volume } = log.first.header;
  const on = { incarnation, segment: seg(1) } as const;
  send({ ...on, type: 'seal', volume, end: offset(end), crc });
  const page = pageIndex(end / PAGE_BYTES);
  for (let i = 0; i < 1_000 && !said.includes('seal OK'); i++) {
    send({ ...on, type: 'read', page, count: 1 });
    rig.scheduler.step();
  }
  rig.scheduler.runFor(10_000);
  t.same([...new Set(said)].sort(), ['read GAP', 'seal OK'], 'by what holds when it is answered');
  t.equal(rig.store.stats().checksumFailures, 0);
  t.same(rig.store.takeRotten(), []);
});

test('a segment that is being copied is not sealed by the side of that', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  for (const pages of [1, 30]) log.add(pages);
  rig.create(seg(1));
  rig.append(log.first);
  const waiting: ((reply: Reply | null) => void)[] = [];
  rig.onRequest = (_, done) => waiting.push(done);
  const { said, send } = noting(rig);
  send(rig.copyRequest(log));
  rig.scheduler.runFor(1_000);
  t.equal(waiting.length, 1, 'it asks its source');
  t.equal(rig.seal(seg(1), log.first.segmentBytes, log.first.header.headerCrc).status, 'BUSY');
  t.equal(rig.append(log.batches[1] as typeof log.first).status, 'SEALED', 'nor written to');
  while (said.length === 0) {
    waiting.shift()?.(null);
    rig.scheduler.runFor(1_000);
  }
  t.same(said, ['copy BUSY']);
});

test('a copy is worth nothing until it is whole, nor with another end', async (t) => {
  const rig = fresh();
  const [log, other] = twoLogs();
  const source = fresh({ seed: 'source' });
  source.create(seg(1));
  for (const batch of log.batches) source.append(batch);
  const waiting: (() => void)[] = [];
  rig.onRequest = (request, done) => {
    const asked = { ...request, incarnation: source.incarnation } as typeof request;
    const incarnation = 'ee'.repeat(16) as Reply['incarnation'];
    waiting.push(() => done({ ...source.send(asked), incarnation }));
  };
  const { said, send } = noting(rig);
  send(rig.copyRequest(log));
  rig.scheduler.runFor(1_000);
  t.equal(rig.look(seg(1))?.suspectFrom, 0);
  rig.crash().open();
  t.equal(rig.look(seg(1))?.suspectFrom, 0, 'nor after a crash');
  waiting.length = 0;
  const request = { ...rig.copyRequest(log), crc: other.crc } as Request;
  send(request);
  while (said.length === 0) {
    rig.scheduler.runFor(1_000);
    waiting.shift()?.();
  }
  t.same(said, ['copy SUSPECT']);
  t.match(rig.look(seg(1)), { sealedEnd: null, suspectFrom: 0 });
});

test('no copy is written to a file that is still to be removed', async (t) => {
  const [log] = twoLogs();
  const rig = fresh();
  rig.create(seg(1));
  for (const batch of log.batches) rig.append(batch);
  rig.seal(seg(1), log.end, log.crc);
  const { said, send } = noting(rig);
  const { incarnation } = rig;
  rig.disk.faults.slowness = 10_000;
  send({ type: 'read', incarnation, segment: seg(1), page: pageIndex(0), count: 1 });
  rig.disk.faults.slowness = 1;
  t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK');
  t.same(said, [], 'the read keeps the file');
  t.equal(rig.copy(log).status, 'BUSY');
  rig.scheduler.runFor(60_000);
  t.same(said, ['read DELETED']);
  let files = 0;
  rig.disk.forEachFile((path) => {
    if (path.includes(seg(1))) files += 1;
  });
  t.equal(files, 0);
});

test('a batch continues a chain by all that it says of itself', async (t) => {
  const log = new LogOf(seg(1));
  const { header } = log.add(1);
  const { segment, volume, epoch, offset: at, prevCrc } = header;
  const chain = { segment, volume, epoch };
  t.ok(continues(header, chain, at, prevCrc));
  t.notOk(continues(header, { ...chain, segment: seg(2) }, at, prevCrc));
  t.notOk(continues(header, { ...chain, volume: seg(2) as string as typeof volume }, at, prevCrc));
  t.notOk(continues(header, { ...chain, epoch: (epoch + 1) as typeof epoch }, at, prevCrc));
  t.notOk(continues(header, chain, at + PAGE_BYTES, prevCrc));
  t.notOk(continues(header, chain, at, prevCrc + 1));
});
