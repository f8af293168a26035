/** Rot and loss on one disk: nothing is invented, nothing lost is taken for absent. */
import { test } from 'tap';
import { PageChecksummer } from '../../src/core/checksum.js';
import { DRAIN_DELAY_MS } from '../../src/core/limits.js';
import { epoch, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { SimInode } from '../fixtures/sim-disk-file.js';
import { type LogOf as Log, LogOf, Rig, seg, VOLUME } from './store-rig.js';

function inode(rig: Rig, name: string): SimInode {
  let found: SimInode | null = null;
  rig.disk.forEachFile((path, file) => {
    if (path === name || (path.endsWith(name) && !path.startsWith('lost'))) found = file;
  });
  if (found === null) throw new Error(`no file ${name}`);
  return found;
}

function filled(rig: Rig, batches: number): Log {
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.batches[0] as Log['batches'][number]);
  for (let i = 0; i < batches; i++) rig.append(log.add(1));
  return log;
}

/** Lap 2 begins after the first open: the first half of the journal. */
const rotJournalPage = (rig: Rig, page: number): void => inode(rig, 'journal').flipBit(page, 999);

test('a rotten group in the middle of the journal makes open segments suspect', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 10);
  t.equal(rig.fence(seg(1), 4).status, 'OK');
  // Page cache lost: what the segment file had is not there any more.
  rotJournalPage(rig, 6);
  rig.crash(false).open();
  const found = rig.look(seg(1));
  t.not(found?.suspectFrom, null);
  t.ok(log.ends().some(({ end }) => end === found?.durableLength));
  t.equal(rig.append(log.add(1)).status, 'STALE', 'the fence was in a good group');
  t.equal(rig.ping(seg(1), 5).status, 'SUSPECT');
  t.match(rig.fence(seg(7), 3), { status: 'OK', body: { suspectFrom: 0 } }, 'amnesia');
  rig.crash().open();
  t.match(rig.look(seg(7)), { suspectFrom: 0, maxEpoch: 3 });
  rig.fence(seg(1), 5);
  t.equal(rig.recover(log, 5).status, 'OK', 'a suspect replica can be filled');
  t.equal(rig.seal(seg(1), log.end, log.crc).status, 'OK');
  t.match(rig.look(seg(1)), { suspectFrom: null, sealedEnd: log.end });
  t.equal(rig.create(seg(8)).status, 'OK');
  rig.crash().open();
  t.match(rig.look(seg(8)), { suspectFrom: null, hasCreate: true });
});

test('a rotten last group cannot be told from a torn one', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 3);
  rotJournalPage(rig, 6);
  rig.crash().open();
  const found = rig.look(seg(1));
  t.ok(log.ends().some(({ end }) => end === found?.durableLength));
});

test('one index is bad: the other one and the journal suffice, or suspicion says so', async (t) => {
  for (const path of ['index-A', 'index-B']) {
    const rig = new Rig().format().open();
    const log = filled(rig, 900);
    inode(rig, path).flipBit(0, 50);
    rig.crash(false);
    const error = rig.tryOpen();
    if (error !== null) continue;
    const found = rig.look(seg(1));
    t.ok(found?.durableLength === log.end || found?.suspectFrom !== null, path);
  }
});

test('both indexes are bad: a new incarnation, and the old files kept', async (t) => {
  const rig = new Rig().format().open();
  filled(rig, 3);
  // The journal's batches are in their segment file by then.
  rig.scheduler.runFor(DRAIN_DELAY_MS * 2);
  const before = rig.incarnation;
  for (const path of ['index-A', 'index-B']) inode(rig, path).flipBit(0, 50);
  rig.crash(false).open();
  t.not(rig.incarnation, before);
  t.same(rig.store.inspect(), []);
  let kept = 0;
  rig.disk.forEachFile((path) => {
    if (path.startsWith('lost/') && path.endsWith('.data')) kept += 1;
  });
  t.equal(kept, 1);
  const after = rig.incarnation;
  rig.crash().open();
  t.equal(rig.incarnation, after);
});

test('a bad sector in one index: the other one takes its place', async (t) => {
  for (const path of ['index-A', 'index-B']) {
    const rig = new Rig().format().open();
    const log = filled(rig, 900);
    const before = rig.incarnation;
    inode(rig, path).bad.add(0);
    rig.crash(false).open();
    t.equal(rig.incarnation, before);
    const found = rig.look(seg(1));
    t.ok(found?.durableLength === log.end || found?.suspectFrom !== null, path);
    rig.fence(seg(1), 4);
    if (found?.suspectFrom !== null) t.equal(rig.recover(log, 4).status, 'OK');
    rig.crash().open();
    t.match(rig.look(seg(1)), { maxEpoch: 4, durableLength: log.end });
  }
});

test('an index that cannot be read now, or both on bad sectors, cost nothing', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 900);
  rig.crash(false);
  for (const path of ['index-A', 'index-B']) {
    const { bad } = inode(rig, path);
    let left = 1;
    bad.add(0);
    // The first read fails, the next ones do not: this is no bad sector.
    bad.has = (page: number): boolean => page === 0 && left-- > 0;
    t.match(rig.tryOpen(), { code: 'DISK_FAILED', retryable: true }, path);
    bad.has = Set.prototype.has;
    bad.clear();
  }
  for (const path of ['index-A', 'index-B']) inode(rig, path).bad.add(0);
  t.match(rig.tryOpen(), { code: 'DISK_FAILED' });
  for (const path of ['index-A', 'index-B']) inode(rig, path).bad.clear();
  rig.open();
  t.match(rig.look(seg(1)), { durableLength: log.end, suspectFrom: null });
});

test('one bad copy of the superblock is written anew; two keep the disk shut', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 3);
  const before = rig.incarnation;
  for (const page of [0, 1, 0]) {
    inode(rig, 'superblock').bad.add(page);
    rig.crash(false).open();
    t.equal(rig.incarnation, before);
    t.equal(inode(rig, 'superblock').bad.size, 0, 'repaired');
    t.match(rig.look(seg(1)), { durableLength: log.end });
  }
  for (const page of [0, 1]) inode(rig, 'superblock').bad.add(page);
  rig.crash(false);
  t.match(rig.tryOpen(), { code: 'DISK_FAILED' });
  t.equal(rig.store.incarnation, '', 'it does not know which disk it is');
  inode(rig, 'superblock').bad.clear();
  rig.open();
  t.equal(rig.incarnation, before);
});

test('one copy of the superblock suffices; with none the disk is left alone', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 3);
  inode(rig, 'superblock').flipBit(0, 80);
  rig.crash(false).open();
  t.match(rig.look(seg(1)), { durableLength: log.end });
  inode(rig, 'superblock').flipBit(1, 80);
  rig.crash(false).open();
  t.match(rig.look(seg(1)), { durableLength: log.end });
  for (const page of [0, 1]) inode(rig, 'superblock').flipBit(page, 80);
  rig.crash(false);
  t.match(rig.tryOpen(), { code: 'MALFORMED' });
});

test('a rotten data page is answered with DISK, never with its bytes', async (t) => {
  const rig = new Rig().format().open();
  const log = filled(rig, 20);
  rig.scheduler.runFor(1_000);
  rig.crash(false).open();
  inode(rig, '.data').flipBit(4, 3);
  t.equal(rig.read(seg(1), 4, 1).status, 'DISK');
  t.equal(rig.read(seg(1), 3, 1).status, 'OK');
  t.equal(rig.read(seg(1), 0, log.end / PAGE_BYTES).status, 'DISK');
});

/** A stopped store with a sealed segment, of whose sidecar one bit is wrong. */
function withRottenSidecar(): { readonly rig: Rig; readonly log: Log } {
  const rig = new Rig().format().open();
  const log = filled(rig, 20);
  rig.seal(seg(1), log.end, log.crc);
  rig.store.stop(() => {});
  rig.scheduler.runFor(20_000);
  inode(rig, '.sums').flipBit(0, 3);
  return { rig, log };
}

test('a rotten sidecar is rebuilt from the heads of the batches', async (t) => {
  const { rig, log } = withRottenSidecar();
  rig.crash(false).open();
  const reply = rig.read(seg(1), 0, log.end / PAGE_BYTES);
  if (reply.body?.type !== 'read') throw new Error(reply.status);
  t.ok(log.bytes().equals(reply.body.data as Buffer));
});

test('a sealed copy of which sidecar and heads are rotten is readable after a COPY', async (t) => {
  const { rig, log } = withRottenSidecar();
  inode(rig, '.data').flipBit(3, 9);
  rig.crash(false).open();
  const pages = log.end / PAGE_BYTES;
  t.equal(rig.read(seg(1), 0, pages).status, 'DISK');
  t.same(rig.store.takeRotten(), [[seg(1), VOLUME]]);
  t.same(rig.store.takeRotten(), [], 'told once');
  rig.onRequest = (request, done) => {
    if (request.type !== 'read') return done(null);
    const { page, count, incarnation } = request;
    const data = log.bytes(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
    const checksummer = new PageChecksummer(seg(1));
    const checksums = Uint32Array.from({ length: count }, (_, i) =>
      checksummer.page(data, i * PAGE_BYTES, page + i),
    );
    const body = { type: 'read', page, data, checksums } as const;
    const maxEpoch = epoch(1);
    done({ status: 'OK', incarnation, durableLength: offset(log.end), maxEpoch, body });
  };
  t.equal(rig.copy(log).status, 'OK');
  t.equal(rig.read(seg(1), 0, pages).status, 'OK');
  t.same(rig.store.takeRotten(), []);
});
