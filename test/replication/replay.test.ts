import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import type { OwnerId, SegmentId } from '../../src/core/ids.js';
import { epoch, lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { Root, SealedSegment } from '../../src/metadata/model.js';
import { SegmentReader } from '../../src/replication/reader.js';
import { replayLog } from '../../src/replication/replay.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { FakeNodes, id, SegmentWriter, VOLUME } from './reader-nodes.js';

/** A log of three segments: two sealed, one open; each record says its LSN. */
class World {
  readonly nodes = new FakeNodes();
  readonly sealed: SealedSegment[] = [];
  readonly writers: SegmentWriter[] = [];
  root: Root | null = null;

  begin(segment: number, epochNumber = 1): SegmentWriter {
    const last = this.writers.at(-1);
    const seal = this.sealed.at(-1);
    const previous =
      last === undefined || seal === undefined
        ? null
        : { segment: seal.segment, end: seal.end, endLsn: seal.endLsn };
    const writer = new SegmentWriter(id<SegmentId>(segment), { epoch: epochNumber, previous });
    this.writers.push(writer);
    return writer;
  }

  seal(writer: SegmentWriter, change: Partial<SealedSegment> = {}): void {
    this.sealed.push({
      ...this.open(writer),
      end: offset(writer.at),
      endLsn: lsn(writer.nextLsn),
      crc: writer.crc,
      ...change,
    });
  }

  open(writer: SegmentWriter) {
    return {
      segment: writer.segment,
      group: 0,
      createEpoch: epoch(writer.epoch),
      replicas: this.nodes.replicas,
    };
  }

  replay(
    from: number,
    tails: { writer: SegmentWriter; end?: number }[] = [],
  ): { error: HoldfastError | null; next: number; records: [number, string][] } {
    for (const writer of this.writers) this.nodes.putAll(writer.segment, writer.bytes());
    return this.replayStored(from, tails);
  }

  replayStored(from: number, tails: { writer: SegmentWriter; end?: number }[] = []) {
    const record = volumeRecord(VOLUME, {
      epoch: epoch(9),
      owner: { id: id<OwnerId>(1), address: '', released: false },
      open: tails.map(({ writer }) => this.open(writer)),
      sealed: this.sealed,
      root: this.root,
    });
    const reader = new SegmentReader({
      clock: this.nodes.process.clock,
      requests: this.nodes,
      directory: this.nodes.directory,
    });
    const records: [number, string][] = [];
    const answers: { error: HoldfastError | null; next: number }[] = [];
    replayLog(
      reader,
      {
        record,
        tails: tails.map(({ writer, end }) => ({
          segment: this.open(writer),
          end: offset(end ?? writer.at),
        })),
        from: lsn(from),
      },
      ({ lsn: at, record: bytes }) => records.push([at, Buffer.from(bytes).toString()]),
      (error, next) => answers.push({ error, next }),
    );
    if (answers.length > 0) throw new Error('called back before returning');
    while (this.nodes.scheduler.step()) {
      // Until all is done.
    }
    const [answer] = answers;
    if (answers.length !== 1 || answer === undefined) throw new Error(`${answers.length} answers`);
    return { ...answer, records };
  }
}

function expected(from: number, end: number): [number, string][] {
  return Array.from({ length: end - from }, (_, i) => [from + i, `record ${from + i}`]);
}

function write(writer: SegmentWriter, count: number, pages = 0): void {
  for (let i = 0; i < count; i++) writer.record(`record ${writer.nextLsn}`, pages);
}

/** Sealed [0, 10), sealed [10, 25), open [25, 30). */
function threeSegments(): { w: World; open: SegmentWriter } {
  const w = new World();
  const first = w.begin(1);
  write(first, 10, 1);
  w.seal(first);
  const second = w.begin(2);
  write(second, 15, 2);
  w.seal(second);
  const open = w.begin(3, 2);
  write(open, 5);
  return { w, open };
}

t.test('replays sealed and open segments in order, each record once', async (t) => {
  const { w, open } = threeSegments();
  const { error, next, records } = w.replay(0, [{ writer: open }]);
  t.equal(error, null);
  t.equal(next, 30);
  t.same(records, expected(0, 30));
});

t.test('from any LSN on', async (t) => {
  const { w, open } = threeSegments();
  for (let from = 0; from <= 30; from++) {
    const { error, next, records } = w.replay(from, [{ writer: open }]);
    t.equal(error, null, `from ${from}`);
    t.equal(next, 30);
    t.same(records, expected(from, 30));
  }
});

t.test('stops at the committed end of an open segment', async (t) => {
  const w = new World();
  const open = w.begin(1);
  write(open, 3);
  const end = open.at;
  write(open, 4);
  t.same(w.replay(0, [{ writer: open, end }]).records, expected(0, 3));
});

t.test('records sent again after a roll come once', async (t) => {
  const w = new World();
  const first = w.begin(1);
  write(first, 4);
  w.seal(first);
  write(first, 3); // 4, 5 and 6 were not committed there
  const second = w.begin(2);
  write(second, 5); // 4 to 8
  const { error, records } = w.replay(0, [{ writer: second }]);
  t.equal(error, null);
  t.same(records, expected(0, 9));
});

t.test('two open segments: the frozen one, then the current one', async (t) => {
  const w = new World();
  const first = w.begin(1);
  write(first, 4);
  w.seal(first);
  const second = w.begin(2);
  write(second, 2);
  w.sealed.pop();
  const tails = [{ writer: first }, { writer: second }];
  t.same(w.replay(0, tails).records, expected(0, 6));
});

t.test('an empty log, and empty segments, are no holes', async (t) => {
  const w = new World();
  t.same(w.replay(0), { error: null, next: 0, records: [] });
  const first = w.begin(1);
  w.seal(first, { end: offset(0), crc: 0 });
  const second = w.begin(2);
  write(second, 2);
  const { error, records } = w.replay(0, [{ writer: second }]);
  t.equal(error, null);
  t.same(records, expected(0, 2));
});

t.test(
  'records between the checkpoint and the page that the root points to come too',
  async (t) => {
    const w = new World();
    const open = w.begin(1);
    write(open, 100, 3);
    const at = open.nextLsn;
    write(open, 20);
    w.root = { segment: open.segment, offset: offset(open.at - PAGE_BYTES), lsn: lsn(at) };
    write(open, 5);
    const { error, records } = w.replay(at, [{ writer: open }]);
    t.equal(error, null);
    t.same(records, expected(at, at + 25));
  },
);

t.test('segments that were deleted are not missed, unless they are asked for', async (t) => {
  const { w, open } = threeSegments();
  w.sealed.shift();
  t.same(w.replay(10, [{ writer: open }]).records, expected(10, 30));
  t.equal(w.replay(9, [{ writer: open }]).error?.code, 'INCONSISTENT');
});

t.test('data pages are described, and batches larger than one READ are put together', async (t) => {
  const w = new World();
  const open = w.begin(1);
  write(open, 2);
  write(open, 3, 400);
  write(open, 2);
  t.same(w.replay(0, [{ writer: open }]).records, expected(0, 7));
});

const faults: Record<string, (w: World, open: SegmentWriter) => unknown> = {
  'a missing segment': (w, open) => {
    w.sealed.splice(1, 1);
    return w.replay(0, [{ writer: open }]).error;
  },
  'a segment that ends before its sealed LSN': (w, open) => {
    w.sealed[1] = { ...(w.sealed[1] as SealedSegment), endLsn: lsn(26) };
    return w.replay(0, [{ writer: open }]).error;
  },
  'a sealed end inside a batch': (w, open) => {
    const end = offset((w.sealed[1]?.end ?? 0) - PAGE_BYTES);
    w.sealed[1] = { ...(w.sealed[1] as SealedSegment), end };
    return w.replay(0, [{ writer: open }]).error;
  },
  'a sealed crc that is not the chain’s': (w, open) => {
    w.sealed[1] = { ...(w.sealed[1] as SealedSegment), crc: 1 };
    return w.replay(0, [{ writer: open }]).error;
  },
  'a segment of another epoch': (w, open) => {
    w.sealed[0] = { ...(w.sealed[0] as SealedSegment), createEpoch: epoch(5) };
    return w.replay(0, [{ writer: open }]).error;
  },
  'LSNs that are left out within a segment': (w, open) => {
    open.nextLsn += 1;
    write(open, 1);
    return w.replay(0, [{ writer: open }]).error;
  },
  'a missing segment before one that has no records yet': (w) => {
    const last = w.begin(4, 3);
    w.sealed.pop();
    return w.replay(0, [{ writer: last }]).error;
  },
  'a segment that was rolled at another end than it was sealed at': (w) => {
    const { segment, end, endLsn } = w.sealed[1] as SealedSegment;
    const previous = { segment, end: offset(end - PAGE_BYTES), endLsn };
    const next = new SegmentWriter(id<SegmentId>(4), { epoch: 2, previous });
    w.writers.push(next);
    return w.replay(0, [{ writer: next }]).error;
  },
  'a replay from beyond the end': (w, open) => w.replay(31, [{ writer: open }]).error,
  'pages of a batch replaced by an older, valid one': (w, open) => {
    for (const writer of w.writers) w.nodes.putAll(writer.segment, writer.bytes());
    const other = new SegmentWriter(open.segment, { epoch: 2 });
    const previous = w.sealed[1] as SealedSegment;
    const again = new SegmentWriter(open.segment, {
      epoch: 2,
      previous: { segment: previous.segment, end: previous.end, endLsn: previous.endLsn },
    });
    for (let i = 0; i < 5; i++) again.record(`other ${i}`);
    const bytes = open.bytes();
    again.bytes().copy(bytes, 2 * PAGE_BYTES, 2 * PAGE_BYTES, 3 * PAGE_BYTES);
    w.nodes.putAll(other.segment, bytes);
    return w.replayStored(0, [{ writer: open }]).error;
  },
};

for (const [name, run] of Object.entries(faults)) {
  t.test(`INCONSISTENT: ${name}`, async (t) => {
    const { w, open } = threeSegments();
    t.match(run(w, open), { code: 'INCONSISTENT' });
  });
}

/** Loses a page on all nodes: rotten on two, unreadable on the third. */
function lose(w: World, writer: SegmentWriter, page: number): void {
  const [first, second, third] = w.nodes.nodes;
  first?.rot(writer.segment, page);
  second?.rot(writer.segment, page);
  third?.unreadable.add(page);
}

t.test('a lost head ends the replay with DATA_LOST, after what comes before it', async (t) => {
  const { w, open } = threeSegments();
  for (const writer of w.writers) w.nodes.putAll(writer.segment, writer.bytes());
  for (const node of w.nodes.nodes) node.rot(open.segment, 2);
  const { error, records } = w.replayStored(0, [{ writer: open }]);
  t.equal(error?.code, 'DATA_LOST');
  t.same(records, expected(0, 26));
});

t.test('a lost data page is missed by nobody: replay needs heads only', async (t) => {
  for (const pages of [1, 2, 30, 31, 40, 300]) {
    const w = new World();
    const open = w.begin(1);
    write(open, 30, pages);
    // Of the first, a middle and the last batch: head, then its data.
    const lost = [1, 14, 29].map((batch) => 1 + batch * (pages + 1) + 1);
    w.nodes.putAll(open.segment, open.bytes());
    for (const page of lost) lose(w, open, page);
    const { error, next, records } = w.replayStored(0, [{ writer: open }]);
    t.equal(error, null, `${pages} pages each`);
    t.equal(next, 30);
    t.same(records, expected(0, 30));
  }
});

t.test('nor behind a head that is smaller than the one before it', async (t) => {
  for (const pages of [40, 256]) {
    const w = new World();
    const open = w.begin(1);
    // So that much is asked for at once.
    write(open, 300);
    const heads: number[] = [];
    for (let i = 0; i < 30; i++) {
      heads.push(open.at / PAGE_BYTES);
      open.record('r'.repeat(i % 3 === 0 ? 30_000 : 1), pages);
    }
    w.nodes.putAll(open.segment, open.bytes());
    for (const batch of [1, 4, 13, 29]) lose(w, open, (heads[batch] as number) + 1);
    const { error, next, records } = w.replayStored(0, [{ writer: open }]);
    t.equal(error, null, `${pages} pages each`);
    t.equal(next, 330);
    t.equal(records.length, 330);
  }
});

t.test('the only copy of a page is found wherever it is', async (t) => {
  const { w, open } = threeSegments();
  for (const writer of w.writers) w.nodes.putAll(writer.segment, writer.bytes());
  const [first, second, third] = w.nodes.nodes;
  first?.rot(open.segment, 2);
  second?.unreadable.add(2);
  third?.rot(open.segment, 3);
  const { error, records } = w.replayStored(0, [{ writer: open }]);
  t.equal(error, null);
  t.same(records, expected(0, 30));
});

/** Pages that were asked for, and in how many requests. */
function asked(w: World): { pages: number; requests: number } {
  const { requests } = w.nodes;
  return { pages: requests.reduce((sum, one) => sum + one.count, 0), requests: requests.length };
}

t.test('batches with much data are skipped, runs of small ones are read in bulk', async (t) => {
  const large = new World();
  const data = large.begin(1);
  write(data, 30, 500);
  t.equal(large.replay(0, [{ writer: data }]).error, null);
  t.ok(asked(large).pages < 80, `${asked(large).pages} pages for 30 batches of 2 MiB`);

  const full = new World();
  const records = full.begin(1);
  for (let i = 0; i < 30; i++) records.record('r'.repeat(40_000), 256);
  t.equal(full.replay(0, [{ writer: records }]).error, null);
  t.ok(asked(full).requests < 40, `${asked(full).requests} requests for 30 heads of 40 KiB`);
  t.ok(asked(full).pages < 400, `${asked(full).pages} pages for them`);

  const small = new World();
  const fine = small.begin(1);
  write(fine, 3_000, 1);
  t.equal(small.replay(0, [{ writer: fine }]).error, null);
  t.ok(asked(small).requests < 60, `${asked(small).requests} requests for 3,000 small batches`);
  t.ok(asked(small).pages <= 6_001, 'nothing twice');

  const mixed = new World();
  const both = mixed.begin(1);
  for (let i = 0; i < 10; i++) {
    write(both, 100);
    write(both, 10, 500);
  }
  t.equal(mixed.replay(0, [{ writer: both }]).error, null);
  t.ok(asked(mixed).pages < 10_000, `${asked(mixed).pages} of ${both.at / PAGE_BYTES} pages`);
});
