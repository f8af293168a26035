import { test } from 'tap';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import { EPOCH_MAX } from '../../src/core/limits.js';
import { epoch, offset, PAGE_BYTES } from '../../src/core/units.js';
import { LogOf, Rig, seg, VOLUME } from './store-rig.js';

const fresh = (options = {}): Rig => new Rig(options).format().open();

test('create, append, read: what was acknowledged is read back', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  t.equal(rig.create(seg(1)).status, 'OK');
  t.equal(rig.append(log.first).status, 'OK');
  for (const pages of [1, 0, 3, 20, 2]) {
    const reply = rig.append(log.add(pages));
    t.match(reply, { status: 'OK', durableLength: log.end });
  }
  const pages = log.end / PAGE_BYTES;
  const reply = rig.read(seg(1), 0, pages);
  t.equal(reply.status, 'OK');
  if (reply.body?.type !== 'read') throw new Error('no pages');
  t.ok(log.bytes().equals(reply.body.data as Buffer));
  t.equal(rig.read(seg(1), 0, pages + 1).status, 'GAP', 'not beyond what is durable');
  t.equal(rig.read(seg(2), 0, 1).status, 'UNKNOWN');
});

test('a pipelined append is acknowledged as a prefix only', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  const big = log.add(40);
  const small = log.add(1);
  const replies: Reply[] = [];
  rig.store.handle(rig.appendRequest(big), (reply) => replies.push(reply));
  rig.store.handle(rig.appendRequest(small), (reply) => replies.push(reply));
  t.equal(rig.look(seg(1))?.acceptedLength, log.end);
  t.equal(rig.look(seg(1))?.durableLength, log.first.segmentBytes);
  rig.scheduler.runFor(1_000);
  t.same(
    replies.map((reply) => [reply.status, reply.durableLength]),
    [
      ['OK', small.header.offset],
      ['OK', log.end],
    ],
  );
});

test('a fence overtakes no append, and stops what is under way', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  const replies: [string, Reply][] = [];
  const big = log.add(40);
  rig.store.handle(rig.appendRequest(big), (reply) => replies.push(['append', reply]));
  rig.store.handle(rig.fenceRequest(seg(1), 2), (reply) => replies.push(['fence', reply]));
  rig.scheduler.runFor(1_000);
  t.same(
    replies.map(([kind, reply]) => [kind, reply.status]),
    [
      ['append', 'STALE'],
      ['fence', 'OK'],
    ],
  );
  const fence = (replies[1] as [string, Reply])[1];
  t.equal(fence.durableLength, log.end, 'the append counts in what the fence reports');
  if (fence.body?.type !== 'fence') throw new Error('no fence body');
  t.same(fence.body.firstBatch, Buffer.concat(log.first.parts));
  t.equal(rig.append(log.add(1)).status, 'STALE');
  t.equal(rig.ping(seg(1), 1).status, 'STALE');
  t.equal(rig.append(big).status, 'STALE', 'stale comes before duplicate');
});

test('epochs are compared again after the flush', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(2));
  log.add(1);
  rig.fence(seg(2), 2);
  const { incarnation } = rig;
  const on = { incarnation, volume: VOLUME };
  const replies: string[] = [];
  const note = (reply: Reply): void => {
    replies.push(reply.status);
  };
  rig.store.handle({ ...on, type: 'create', segment: seg(1), epoch: epoch(1) }, note);
  rig.store.handle(rig.fenceRequest(seg(1), 2), note);
  const bytes = log.bytes();
  rig.store.handle(
    {
      ...{ ...on, type: 'recover', segment: seg(2), epoch: epoch(2), createEpoch: epoch(1) },
      ...{ offset: offset(0), bytes },
    },
    note,
  );
  rig.store.handle(rig.fenceRequest(seg(2), 3), note);
  rig.scheduler.runFor(1_000);
  t.same(replies.sort(), ['OK', 'OK', 'STALE', 'STALE']);
});

test('a fence is answered only when the promise of the read lease has passed', async (t) => {
  const rig = fresh({ limits: { readLeaseMs: 2_000 } });
  rig.scheduler.runFor(10_000);
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  const promised = rig.scheduler.now;
  t.equal(rig.fence(seg(1), 2).status, 'OK');
  t.ok(rig.scheduler.now >= promised + 2_000 - 2, 'waited');
  const before = rig.scheduler.now;
  t.equal(rig.send(rig.fenceRequest(seg(1), 3, true)).status, 'OK');
  t.ok(rig.scheduler.now < before + 100, 'a released owner needs no wait');
  rig.crash().open();
  const started = rig.scheduler.now;
  t.equal(rig.fence(seg(1), 4).status, 'OK');
  t.ok(rig.scheduler.now >= started + 2_000 - 2, 'promises before a restart are kept');
});

test('a duplicate APPEND of a fenced epoch is STALE and promises nothing', async (t) => {
  const rig = fresh({ limits: { readLeaseMs: 2_000 } });
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  for (const batch of [log.first, log.add(1)]) rig.append(batch);
  rig.scheduler.runFor(10_000);
  t.equal(rig.append(log.first).status, 'OK', 'before any fence it states what is durable');
  const promised = rig.scheduler.now;
  // In force from when it arrives, long before it is answered.
  let answered = false;
  rig.store.handle(rig.fenceRequest(seg(1), 2), () => {
    answered = true;
  });
  for (const batch of log.batches) t.equal(rig.append(batch).status, 'STALE');
  t.equal(rig.ping(seg(1), 1).status, 'STALE');
  t.equal(answered, false);
  rig.scheduler.runFor(1_000);
  for (const batch of log.batches) t.equal(rig.append(batch).status, 'STALE');
  while (!answered) rig.scheduler.step();
  t.ok(rig.scheduler.now < promised + 2_050, 'no promise was added after the fence had come');
  for (const batch of log.batches) t.equal(rig.append(batch).status, 'STALE');
  const before = rig.scheduler.now;
  t.equal(rig.fence(seg(1), 3).status, 'OK');
  t.ok(rig.scheduler.now < before + 100, 'nor after it was answered');
  rig.crash().open();
  for (const batch of log.batches) t.equal(rig.append(batch).status, 'STALE', 'also after a crash');
});

test('recover fills a fenced tombstone, seal fixes the end, the tail is cut', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  for (const pages of [1, 2, 30]) log.add(pages);
  const kept = log.ends()[2] as { end: number; crc: number };
  t.equal(rig.recover(log, 2).status, 'UNKNOWN');
  t.match(rig.fence(seg(1), 2), { status: 'OK', durableLength: 0 });
  t.match(rig.recover(log, 2, 0, kept.end), { status: 'OK', durableLength: kept.end });
  t.match(rig.recover(log, 2, 0), { status: 'OK', durableLength: log.end });
  t.equal(rig.recover(log, 3).status, 'REFUSED', 'only a fence raises the epoch');
  t.equal(rig.recover(log, 1).status, 'STALE');
  const other = new LogOf(seg(1));
  other.add(2);
  t.equal(rig.recover(other, 2).status, 'REFUSED', 'other bytes at the same place');
  rig.answer = 'unavailable';
  t.equal(rig.seal(seg(1), kept.end, kept.crc).status, 'UNCONFIRMED');
  rig.answer = 'confirmed';
  t.equal(rig.seal(seg(1), kept.end, kept.crc + 1).status, 'SUSPECT');
  t.equal(rig.seal(seg(1), log.end + PAGE_BYTES, 1).status, 'GAP');
  t.match(rig.seal(seg(1), kept.end, kept.crc), { status: 'OK', durableLength: kept.end });
  t.equal(rig.seal(seg(1), kept.end, kept.crc).status, 'OK', 'again');
  t.equal(rig.seal(seg(1), log.end, log.crc).status, 'REFUSED', 'an end never changes');
  t.equal(rig.read(seg(1), kept.end / PAGE_BYTES, 1).status, 'GAP');
  rig.crash().open();
  t.match(rig.look(seg(1)), { sealedEnd: kept.end, durableLength: kept.end, suspectFrom: null });
  t.equal(rig.recover(log, 2).status, 'SEALED');
});

test('delete leaves a tombstone that nothing brings back', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  rig.append(log.add(30));
  rig.answer = 'refused';
  t.equal(rig.remove(seg(1)).status, 'UNCONFIRMED');
  rig.answer = 'confirmed';
  t.equal(rig.remove(seg(1)).status, 'OK');
  t.equal(rig.remove(seg(1)).status, 'OK');
  rig.scheduler.runFor(1_000);
  let files = 0;
  rig.disk.forEachFile((path) => {
    if (path.includes(seg(1))) files += 1;
  });
  t.equal(files, 0);
  rig.crash().open();
  rig.answer = 'refused';
  t.equal(rig.copy(log).status, 'UNCONFIRMED', 'it is not sealed in the record');
  rig.answer = 'confirmed';
  t.equal(rig.fence(seg(1), 9).status, 'DELETED');
  t.equal(rig.create(seg(1)).status, 'DELETED');
});

test('copy fetches, verifies and seals; it repairs bad pages of a sealed copy', async (t) => {
  const source = fresh({ seed: 'source' });
  const log = new LogOf(seg(1));
  for (const pages of [1, 100, 300, 2, 5]) log.add(pages);
  source.create(seg(1));
  for (const batch of log.batches) source.append(batch);
  source.seal(seg(1), log.end, log.crc);
  const rig = fresh();
  let lies = 1;
  rig.onRequest = (request, done) => {
    const reply = source.send({ ...request, incarnation: source.incarnation } as typeof request);
    const data = reply.body?.type === 'read' ? reply.body.data : null;
    if (lies > 0 && data !== null) data.fill((data[5000] ?? 0) ^ 1, 5000, 5001);
    lies -= 1;
    done({ ...reply, incarnation: 'ee'.repeat(16) as Reply['incarnation'] });
  };
  t.match(rig.copy(log, 2), { status: 'OK', durableLength: log.end });
  const check = (): void => {
    for (let page = 0; page < log.end / PAGE_BYTES; page += 64) {
      const count = Math.min(64, log.end / PAGE_BYTES - page);
      const reply = rig.read(seg(1), page, count);
      if (reply.body?.type !== 'read') throw new Error(`no pages: ${reply.status}`);
      const want = log.bytes(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
      t.ok(want.equals(reply.body.data as Buffer));
    }
  };
  check();
  rig.crash().open();
  check();
  rig.disk.forEachFile((path, inode) => {
    if (path.endsWith('.data')) inode.flipBit(7, 77);
  });
  t.equal(rig.read(seg(1), 7, 1).status, 'DISK');
  t.equal(rig.store.stats().checksumFailures, 1);
  t.equal(rig.copy(log).status, 'OK');
  check();
});

/** A disk that is asked for copies of what `source` has. */
function copying(log: LogOf): { source: Rig; rig: Rig } {
  const source = fresh({ seed: 'source' });
  for (const pages of [1, 30, 100]) log.add(pages);
  source.create(log.segment);
  for (const batch of log.batches) source.append(batch);
  source.seal(log.segment, log.end, log.crc);
  const rig = fresh();
  rig.onRequest = (request, done) => {
    const reply = source.send({ ...request, incarnation: source.incarnation } as typeof request);
    done({ ...reply, incarnation: 'ee'.repeat(16) as Reply['incarnation'] });
  };
  return { source, rig };
}

test('a copy that was dropped can be made again, and stands after every crash', async (t) => {
  const log = new LogOf(seg(1));
  const { rig } = copying(log);
  for (let round = 0; round < 3; round++) {
    t.match(rig.copy(log), { status: 'OK', durableLength: log.end }, `round ${round}`);
    rig.crash().open();
    t.match(rig.look(seg(1)), { sealedEnd: log.end, deleted: false, suspectFrom: null });
    rig.answer = 'refused';
    t.equal(rig.send(rig.dropRequest(seg(1))).status, 'UNCONFIRMED');
    t.equal(rig.read(seg(1), 1, 1).status, 'OK', 'what counts stays');
    rig.answer = 'confirmed';
    t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK');
    t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK', 'again');
    if (round === 1) rig.crash().open();
    t.equal(rig.read(seg(1), 1, 1).status, 'DELETED');
  }
  t.equal(rig.send(rig.dropRequest(seg(2))).status, 'OK', 'what is not known is not there');
  t.equal(rig.look(seg(2)), undefined);
});

test('a whole copy needs no sources to be one', async (t) => {
  const log = new LogOf(seg(1));
  const { rig } = copying(log);
  t.equal(rig.copy(log, 0).status, 'BUSY', 'there is nothing yet');
  t.equal(rig.copy(log).status, 'OK');
  rig.crash().open();
  t.equal(rig.copy(log, 0).status, 'OK');
});

test('a copy in the place of one that was written here and dropped is kept', async (t) => {
  const log = new LogOf(seg(1));
  const { rig } = copying(log);
  rig.create(seg(1));
  for (const batch of log.batches.slice(0, 2)) rig.append(batch);
  t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK');
  // The journal has the batches still: replay writes them before it comes to the drop.
  rig.crash().open();
  t.equal(rig.copy(log).status, 'OK');
  rig.crash().open();
  t.match(rig.look(seg(1)), { sealedEnd: log.end, suspectFrom: null });
  t.equal(rig.read(seg(1), 0, 1).status, 'OK');
  t.equal(rig.read(seg(1), log.end / PAGE_BYTES - 1, 1).status, 'OK');
});

test('no copy begins between a drop and its answer, nor one confirmed before', async (t) => {
  const log = new LogOf(seg(1));
  const { rig } = copying(log);
  t.equal(rig.copy(log).status, 'OK');
  const both = (first: Request, second: Request): string[] => {
    const replies: string[] = [];
    rig.store.handle(first, (reply) => replies.push(`${first.type} ${reply.status}`));
    rig.store.handle(second, (reply) => replies.push(`${second.type} ${reply.status}`));
    rig.scheduler.runFor(10_000);
    return replies.sort();
  };
  const [copy, drop] = [rig.copyRequest(log), rig.dropRequest(seg(1))];
  t.match(both(drop, copy).join(), /copy (BUSY|DELETED),drop OK/, 'the copy waits for the drop');
  t.equal(rig.look(seg(1))?.deleted, true);
  t.match(both(copy, drop).join(), /copy DELETED,drop OK/, 'the tombstone was confirmed again');
  t.equal(rig.look(seg(1))?.deleted, true);
  t.equal(rig.copy(log).status, 'OK');
});

test('a drop of what is not known yet waits for the copy that is being confirmed', async (t) => {
  const log = new LogOf(seg(1));
  const { rig } = copying(log);
  const replies: string[] = [];
  const send = (request: Request): void =>
    rig.store.handle(request, ({ status }) => replies.push(`${request.type} ${status}`));
  for (const request of [rig.copyRequest(log), rig.copyRequest(log)]) send(request);
  send(rig.dropRequest(seg(2)));
  send(rig.dropRequest(seg(1)));
  t.same(replies, ['drop OK', 'drop BUSY'], 'it would answer for a copy that is made after it');
  rig.scheduler.runFor(10_000);
  t.equal(rig.look(seg(1))?.sealedEnd, log.end);
  t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK');
  t.equal(rig.look(seg(1))?.deleted, true);
  rig.answer = 'refused';
  t.equal(rig.send(rig.copyRequest(new LogOf(seg(3)))).status, 'UNCONFIRMED');
  t.equal(rig.send(rig.dropRequest(seg(3))).status, 'OK', 'and for no longer');
});

test('a failed flush: nothing is acknowledged until the disk is opened again', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  rig.disk.faults.failFlushes = 1;
  const next = log.add(1);
  t.equal(rig.append(next).status, 'DISK');
  t.equal(rig.append(next).status, 'DISK');
  t.equal(rig.ping(seg(1), 1).status, 'DISK');
  t.equal(rig.fence(seg(1), 2).status, 'DISK');
  t.equal(rig.store.state, 'failed');
  rig.crash(false).open();
  t.equal(rig.append(next).status, 'OK');
});

test('a full disk refuses, and corrupts nothing', async (t) => {
  const MiB = 1024 * 1024;
  const rig = fresh({ capacityBytes: 16 * MiB, limits: { reserveBytes: 2 * MiB } });
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  let batch = log.add(100);
  for (; rig.append(batch).status === 'OK'; batch = log.add(100));
  t.equal(rig.append(batch).status, 'FULL');
  t.equal(rig.create(seg(2)).status, 'FULL');
  t.equal(rig.store.state, 'full');
  const length = rig.look(seg(1))?.durableLength ?? 0;
  t.equal(length, batch.header.offset);
  t.equal(rig.fence(seg(1), 2).status, 'OK');
  t.equal(rig.seal(seg(1), length, batch.header.prevCrc).status, 'OK');
});

test('copying does not use up the reserve that fences and seals need', async (t) => {
  const MiB = 1024 * 1024;
  const rig = fresh({ capacityBytes: 16 * MiB, limits: { reserveBytes: 2 * MiB } });
  const full = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(full.first);
  for (let batch = full.add(100); rig.append(batch).status === 'OK'; batch = full.add(100));
  const partial = new LogOf(seg(3));
  rig.fence(seg(3), 2);
  for (let i = 0; i < 40; i++) partial.add(20);
  const { freeBytes } = rig.store.stats();
  t.equal(rig.copy(partial).status, 'FULL', 'also onto a tombstone that is known already');
  t.equal(rig.store.stats().freeBytes, freeBytes, 'nothing was taken');
  t.equal(rig.fence(seg(1), 2).status, 'OK');
});

test('a direct write without space falls back to where it began', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  rig.scheduler.runFor(1_000);
  const [big, small] = [log.add(40), log.add(1)];
  const replies: string[] = [];
  rig.store.handle(rig.appendRequest(big), (reply) => replies.push(reply.status));
  rig.store.handle(rig.appendRequest(small), (reply) => replies.push(reply.status));
  rig.disk.faults.full = true;
  rig.scheduler.runFor(1_000);
  t.same(replies, ['FULL', 'FULL']);
  rig.disk.faults.full = false;
  rig.scheduler.runFor(2_000);
  t.equal(rig.append(big).status, 'OK');
  t.equal(rig.append(small).status, 'OK');
  rig.crash().open();
  t.equal(rig.look(seg(1))?.durableLength, log.end);
});

test('a segment of the largest epoch that a request may name survives', async (t) => {
  const rig = new Rig({ seed: 'largest epoch' }).format().open();
  t.equal(rig.create(seg(1), EPOCH_MAX).status, 'OK');
  rig.crash().open();
  rig.crash().open();
  t.equal(rig.look(seg(1))?.createEpoch, EPOCH_MAX);
});

test('another incarnation changes nothing, but a fence still fences', async (t) => {
  const rig = fresh();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  const incarnation = rig.incarnation;
  rig.incarnation = 'ab'.repeat(16) as typeof incarnation;
  t.equal(rig.append(log.first).status, 'INCARNATION');
  t.equal(rig.fence(seg(2), 5).status, 'INCARNATION');
  t.match(rig.fence(seg(1), 5), { incarnation, maxEpoch: epoch(5) });
  rig.incarnation = incarnation;
  t.equal(rig.append(log.first).status, 'STALE');
});

test('the journal is recycled under load, and replays to the same state', async (t) => {
  const rig = fresh();
  const logs = [1, 2, 3].map((n) => new LogOf(seg(n)));
  for (const log of logs) {
    rig.create(log.segment);
    rig.append(log.first);
  }
  for (let i = 0; i < 900; i++) {
    const log = logs[i % 3] as LogOf;
    if (rig.append(log.add(4)).status !== 'OK') throw new Error('append');
  }
  t.ok(rig.store.stats().bytesWritten > 3 * rig.store.stats().journalBytes, 'several laps');
  rig.crash().open();
  for (const log of logs) t.match(rig.look(log.segment), { durableLength: log.end });
  await new Promise<void>((resolve) => {
    rig.store.stop(resolve);
    rig.scheduler.runFor(10_000);
  });
  rig.crash().open();
  for (const log of logs) t.match(rig.look(log.segment), { durableLength: log.end });
});
