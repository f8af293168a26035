/**
 * Disks in trouble while they start, are read or are copied to: reads and writes that fail for a
 * moment, and no space. Nothing acknowledged is given up for it. Each of these was found by the
 * simulator once.
 */
import { test } from 'tap';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import type { SimInode } from '../fixtures/sim-disk-file.js';
import { LogOf, Rig, seg } from './store-rig.js';

const DIRECT_PAGES = 40;

function inode(rig: Rig, name: string): SimInode {
  let found: SimInode | null = null;
  rig.disk.forEachFile((path, file) => {
    if (path.endsWith(name)) found = file;
  });
  if (found === null) throw new Error(`no file ${name}`);
  return found;
}

/** Small batches in the journal, large ones straight in the file, small ones behind them. */
function written(rig: Rig): LogOf {
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  for (const pages of [1, DIRECT_PAGES, 1, 2]) {
    if (rig.append(log.add(pages)).status !== 'OK') throw new Error('append');
  }
  return log;
}

/** The next `count` reads of this page of a file fail. */
function failReads(file: SimInode, page: number, count: number): void {
  let left = count;
  file.bad.add(page);
  file.bad.has = (asked: number): boolean => asked === page && left-- > 0;
}

function mendReads(file: SimInode): void {
  file.bad.clear();
  file.bad.has = Set.prototype.has;
}

test('reads of the journal that fail for a moment during a start lose no groups', async (t) => {
  for (let count = 1; count < 12; count++) {
    const rig = new Rig({ seed: `journal ${count}` }).format().open();
    const log = written(rig);
    rig.fence(seg(1), 7);
    rig.crash(false);
    const journal = inode(rig, 'journal');
    failReads(journal, 2, count);
    const error = rig.tryOpen();
    mendReads(journal);
    if (count === 4) t.match(error, { code: 'DISK_FAILED', retryable: true }, 'when asked again');
    if (error !== null) rig.crash().open();
    const found = rig.look(seg(1));
    t.equal(found?.maxEpoch, 7);
    // Failing five times in a row it looks like a bad sector: then what is missing is owned up to.
    const whole = found?.durableLength === log.end && found.suspectFrom === null;
    t.ok(whole || (count > 4 && found?.suspectFrom !== null), `${count}: ${JSON.stringify(found)}`);
  }
});

test('one read of the journal that fails is made again', async (t) => {
  const rig = new Rig().format().open();
  const log = written(rig);
  rig.crash(false);
  failReads(inode(rig, 'journal'), 2, 2);
  t.equal(rig.tryOpen(), null);
  t.match(rig.look(seg(1)), { durableLength: log.end, suspectFrom: null });
});

test('reads of a segment that fail for a moment during a start cut nothing', async (t) => {
  for (let count = 1; count < 6; count++) {
    const rig = new Rig({ seed: `segment ${count}` }).format().open();
    const log = written(rig);
    rig.crash(false);
    const data = inode(rig, '.data');
    failReads(data, DIRECT_PAGES / 2, count);
    const error = rig.tryOpen();
    mendReads(data);
    if (count === 1) t.match(error, { code: 'DISK_FAILED', retryable: true });
    if (error !== null) rig.crash().open();
    const found = rig.look(seg(1));
    // Failing twice in a row it looks like a bad sector: then what is missing is owned up to.
    const whole = found?.durableLength === log.end && found.suspectFrom === null;
    t.ok(whole || (count > 1 && found?.suspectFrom !== null), `${count}: ${JSON.stringify(found)}`);
  }
});

test('a write that fails for a moment during a start makes nothing suspect', async () => {
  const ends = { opened: 0, refused: 0 };
  for (let nth = 1; nth < 12; nth++) {
    const rig = new Rig({ seed: `write ${nth}` }).format().open();
    const log = written(rig);
    rig.store.stop(() => {});
    rig.scheduler.runFor(20_000);
    rig.crash().open();
    // Only in the file: the start finds it by walking the chain, and writes it anew.
    rig.append(log.add(DIRECT_PAGES));
    rig.crash(false);
    let left = nth;
    Object.defineProperty(rig.disk.faults, 'readOnly', {
      configurable: true,
      get: () => --left === 0,
    });
    const error = rig.tryOpen();
    Object.defineProperty(rig.disk.faults, 'readOnly', { value: false, writable: true });
    ends[error === null ? 'opened' : 'refused'] += 1;
    if (error !== null) rig.crash().open();
    expectAll(rig, log, 1, `write ${nth} fails`);
  }
  expectBoth(ends);
});

test('a start on a full disk fails, and the next one has everything', async (t) => {
  for (let seed = 0; seed < 8; seed++) {
    const rig = new Rig({ seed: `full ${seed}` }).format().open();
    const log = new LogOf(seg(1));
    rig.create(seg(1));
    for (const batch of [log.first, log.add(DIRECT_PAGES), log.add(3), log.add(1)]) {
      t.equal(rig.append(batch).status, 'OK');
    }
    rig.crash();
    rig.disk.faults.full = true;
    const error = rig.tryOpen();
    if (error !== null) t.equal(error.code, 'DISK_FULL');
    rig.disk.faults.full = false;
    if (error !== null) rig.crash().open();
    t.match(rig.look(seg(1)), { durableLength: log.end, suspectFrom: null });
  }
});

test('a SEAL on a full disk is refused, and lands when there is room', async (t) => {
  const rig = new Rig().format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  // So many that the end is no recent one any more; the last ones wait to be written to the file.
  for (let i = 0; i < 600; i++) rig.append(log.add(0));
  const cut = log.ends()[3] as { end: number; crc: number };
  rig.disk.faults.full = true;
  rig.append(log.add(0));
  t.equal(rig.seal(seg(1), cut.end, cut.crc).status, 'FULL');
  t.equal(rig.look(seg(1))?.sealedEnd, null);
  rig.disk.faults.full = false;
  t.equal(rig.append(log.add(0)).status, 'OK', 'it is not frozen');
  t.equal(rig.seal(seg(1), cut.end, cut.crc).status, 'OK');
});

test('a read that fails while checksums are rebuilt fails alone', async (t) => {
  for (const page of [0, 1, 3]) {
    const rig = new Rig().format().open();
    const log = written(rig);
    rig.store.stop(() => {});
    rig.scheduler.runFor(20_000);
    inode(rig, '.sums').flipBit(0, 3);
    rig.crash(false).open();
    const data = inode(rig, '.data');
    // Once for the pages, once for the head of a batch from which checksums are taken.
    failReads(data, page, 2);
    t.equal(rig.read(seg(1), 0, log.end / PAGE_BYTES).status, 'DISK');
    mendReads(data);
    const reply = rig.read(seg(1), 0, log.end / PAGE_BYTES);
    t.equal(reply.status, 'OK');
    if (reply.body?.type === 'read') t.ok(log.bytes().equals(reply.body.data as Buffer));
  }
});

/** A disk with this much free space beyond its reserve, and a sealed segment elsewhere. */
function nearlyFull(beyondBytes: number): {
  readonly rig: Rig;
  readonly filler: LogOf;
  readonly source: LogOf;
  readonly served: () => number;
} {
  const other = new Rig({ seed: 'source', capacityBytes: 64 * MIB }).format().open();
  const source = new LogOf(seg(3));
  other.create(seg(3));
  other.append(source.first);
  for (let i = 0; i < 20; i++) other.append(source.add(100));
  other.seal(seg(3), source.end, source.crc);
  const rig = new Rig({ capacityBytes: 64 * MIB, limits: { reserveBytes: 4 * MIB } });
  rig.format().open();
  const filler = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(filler.first);
  while (rig.disk.attach(rig.process).space().freeBytes > 4 * MIB + beyondBytes) {
    rig.append(filler.add(20));
  }
  rig.scheduler.runFor(2_000);
  let served = 0;
  rig.onRequest = (request, done) => {
    served += 1;
    const reply = other.send({ ...request, incarnation: other.incarnation } as typeof request);
    done({ ...reply, incarnation: 'ee'.repeat(16) as typeof other.incarnation });
  };
  return { rig, filler, source, served: () => served };
}

test('no copy is begun into the reserve, also of a segment that is known', async (t) => {
  for (const known of [false, true]) {
    const { rig, source, served } = nearlyFull(-MIB);
    if (known) rig.fence(seg(3), 2);
    t.equal(rig.copy(source).status, 'FULL', `known: ${known}`);
    t.equal(served(), 0, 'nothing was fetched');
  }
});

test('a copy that grows into the reserve ends before fences and seals lack room', async (t) => {
  const { rig, filler, source, served } = nearlyFull(MIB);
  t.equal(rig.copy(source).status, 'FULL');
  t.ok(served() > 0, 'it began');
  const { freeBytes } = rig.disk.attach(rig.process).space();
  t.ok(freeBytes >= MIB, `${freeBytes} bytes are left of the reserve`);
  t.equal(rig.fence(seg(1), 2).status, 'OK');
  t.equal(rig.seal(seg(1), filler.end, filler.crc).status, 'OK');
});

function expectAll(rig: Rig, log: LogOf, maxEpoch: number, what: string): void {
  const found = rig.look(seg(1));
  const whole = found?.durableLength === log.end && found.suspectFrom === null;
  if (!whole || found.maxEpoch < maxEpoch) throw new Error(`${what}: ${JSON.stringify(found)}`);
}

function expectBoth(ends: { readonly opened: number; readonly refused: number }): void {
  if (ends.opened === 0 || ends.refused === 0) throw new Error(JSON.stringify(ends));
}
