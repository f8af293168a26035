/** LOCATE: where a replica's file stands, and what may be believed of it when the reply leaves. */
import { test } from 'tap';
import type { LocateBody, Reply } from '../../src/block/wire/messages.js';
import { PageChecksummer } from '../../src/core/checksum.js';
import { LOCATE_MAX_PAGES } from '../../src/core/limits.js';
import { GIB, PAGE_BYTES, pageIndex } from '../../src/core/units.js';
import { LogOf, Rig, seg } from './store-rig.js';

const PATH = `segments/${seg(1).slice(0, 2)}/${seg(1)}.data`;

/** Small batches: they are durable in the journal, and wait to be written to the file. */
function journaled(options = {}): { rig: Rig; log: LogOf } {
  const rig = new Rig(options).format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  for (const batch of [log.first, log.add(1), log.add(0), log.add(3)]) rig.append(batch);
  return { rig, log };
}

/** The reply, and what the file holds the moment it leaves. */
function locate(rig: Rig, page: number, segment = seg(1)): { reply: Reply; file: Buffer } {
  const { incarnation } = rig;
  const request = { type: 'locate', incarnation, segment, page: pageIndex(page) } as const;
  return rig.wait((done) => {
    rig.store.handle(request, (reply) => {
      const disk = rig.disk.attach(rig.process);
      let bytes = Buffer.alloc(0);
      if (reply.body?.type === 'locate') {
        const file = disk.open(PATH, 'never');
        bytes = Buffer.alloc(file.size());
        file.readSync(bytes, 0);
        file.close();
      }
      done({ reply, file: bytes });
    });
  });
}

function located(reply: Reply): LocateBody {
  if (reply.status !== 'OK' || reply.body?.type !== 'locate') throw new Error(reply.status);
  return reply.body;
}

function sumsOf(log: LogOf, from: number, to: number): Uint32Array {
  const checksummer = new PageChecksummer(log.segment);
  const bytes = log.bytes();
  return Uint32Array.from({ length: to - from }, (_, i) =>
    checksummer.page(bytes, (from + i) * PAGE_BYTES, from + i),
  );
}

test('what is durable stands in the file that is named, when the reply leaves', async (t) => {
  const { rig, log } = journaled();
  const pages = log.end / PAGE_BYTES;
  const { reply, file } = locate(rig, 0);
  const body = located(reply);
  t.equal(body.path, rig.disk.attach(rig.process).placeOf(PATH));
  t.equal(body.page, 0);
  t.same(body.checksums, sumsOf(log, 0, pages));
  t.ok(file.equals(log.bytes()), 'batches that were only in the journal as well');
  t.same(located(locate(rig, 3).reply).checksums, sumsOf(log, 3, pages), 'from a page on');
  t.equal(locate(rig, pages).reply.status, 'GAP', 'nothing beyond what is durable');
  t.equal(locate(rig, 0, seg(2)).reply.status, 'UNKNOWN');
  rig.crash().open();
  t.same(located(locate(rig, 0).reply).checksums, sumsOf(log, 0, pages), 'after a start');
  rig.remove(seg(1));
  t.equal(locate(rig, 0).reply.status, 'DELETED');
});

test('nothing is said of what is accepted but not durable yet', async (t) => {
  const { rig, log } = journaled();
  const pages = log.end / PAGE_BYTES;
  const appended: Reply[] = [];
  rig.store.handle(rig.appendRequest(log.add(40)), (reply) => appended.push(reply));
  t.equal(located(locate(rig, 0).reply).checksums.length, pages);
  t.equal(locate(rig, pages).reply.status, 'GAP');
  t.same(appended, [], 'it was under way all the time');
});

test('one reply has at most so many checksums; the rest is asked for', async (t) => {
  const rig = new Rig({ capacityBytes: GIB }).format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  while (log.end / PAGE_BYTES < LOCATE_MAX_PAGES + 10) {
    if (rig.append(log.add(200)).status !== 'OK') throw new Error('append');
  }
  const pages = log.end / PAGE_BYTES;
  t.equal(located(locate(rig, 0).reply).checksums.length, LOCATE_MAX_PAGES);
  t.equal(located(locate(rig, 1).reply).checksums.length, LOCATE_MAX_PAGES);
  const rest = located(locate(rig, LOCATE_MAX_PAGES).reply).checksums;
  t.same(rest, sumsOf(log, LOCATE_MAX_PAGES, pages));
});

test('where the journal cannot be written out, it says so, and the disk goes on', async (t) => {
  const { rig, log } = journaled();
  rig.disk.faults.full = true;
  t.equal(locate(rig, 0).reply.status, 'BUSY');
  rig.disk.faults.full = false;
  t.equal(rig.store.state, 'ok');
  const { reply, file } = locate(rig, 0);
  t.equal(reply.status, 'OK');
  t.ok(file.equals(log.bytes()));
  t.equal(rig.append(log.add(1)).status, 'OK');
});
