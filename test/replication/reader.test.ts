import fc from 'fast-check';
import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { READ_HEDGE_MIN_MS, READ_MAX_IN_FLIGHT, READ_MAX_PAGES } from '../../src/core/limits.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { type BadReplica, SegmentReader } from '../../src/replication/reader.js';
import { FakeNodes, id } from './reader-nodes.js';

const SEGMENT = id<SegmentId>(7);

function pagesOf(count: number): Buffer {
  const bytes = Buffer.alloc(count * PAGE_BYTES);
  for (let i = 0; i < count; i++) bytes.fill((i % 251) + 1, i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
  return bytes;
}

interface World {
  nodes: FakeNodes;
  reader: SegmentReader;
  bad: BadReplica[];
  bytes: Buffer;
}

function world(pages = 16): World {
  const nodes = new FakeNodes();
  const bytes = pagesOf(pages);
  nodes.putAll(SEGMENT, bytes);
  const bad: BadReplica[] = [];
  const reader = new SegmentReader({
    clock: nodes.process.clock,
    requests: nodes,
    directory: nodes.directory,
    onBadReplica: (one) => bad.push(one),
  });
  return { nodes, reader, bad, bytes };
}

/** Reads and lets simulated time pass until the answer is there. */
function read(
  { nodes, reader }: World,
  page: number,
  count: number,
): { error: HoldfastError | null; data: Buffer | null; tookMs: number } {
  const start = nodes.scheduler.now;
  let calls = 0;
  let result: { error: HoldfastError | null; data: Buffer | null; tookMs: number } | null = null;
  reader.readPages({ segment: SEGMENT, replicas: nodes.replicas }, page, count, (error, data) => {
    calls += 1;
    const tookMs = nodes.scheduler.now - start;
    result = { error, data: data === null ? null : Buffer.from(data), tookMs };
  });
  if (result !== null) throw new Error('called back before returning');
  while (nodes.scheduler.step()) {
    // Until nothing is left to happen: late answers and timers as well.
  }
  if (calls !== 1 || result === null) throw new Error(`${calls} answers`);
  return result;
}

t.test('reads from one replica when all is well', async (t) => {
  const w = world();
  const { data } = read(w, 3, 2);
  t.ok(data?.equals(w.bytes.subarray(3 * PAGE_BYTES, 5 * PAGE_BYTES)));
  t.equal(w.nodes.requests.length, 1);
  t.same(w.bad, []);
});

t.test('a page that fails its checksum comes from another replica, and is reported', async (t) => {
  const w = world();
  w.nodes.nodes[0]?.rot(SEGMENT, 4);
  const { data } = read(w, 2, 6);
  t.ok(data?.equals(w.bytes.subarray(2 * PAGE_BYTES, 8 * PAGE_BYTES)));
  t.same(
    w.bad.map(({ replica, reason, page }) => ({ replica, reason, page })),
    [{ replica: w.nodes.replicas[0], reason: 'checksum', page: 4 }],
  );
  t.same(w.nodes.requests[1], { node: 1, page: 4, count: 1 }, 'asks only for what is missing');
});

t.test('good bytes at the wrong place are not believed', async (t) => {
  const w = world();
  for (const node of w.nodes.nodes.slice(0, 2)) {
    const pages = node.segments.get(SEGMENT);
    if (pages === undefined) throw new Error('no pages');
    // Page 5 was written where page 4 belongs, with page 5's own checksum.
    pages.bytes.copy(pages.bytes, 4 * PAGE_BYTES, 5 * PAGE_BYTES, 6 * PAGE_BYTES);
    pages.sums[4] = pages.sums[5] as number;
  }
  const { data } = read(w, 4, 1);
  t.ok(data?.equals(w.bytes.subarray(4 * PAGE_BYTES, 5 * PAGE_BYTES)));
  t.equal(w.bad.length, 2);
});

t.test('pages are merged when every replica has other bad ones', async (t) => {
  const w = world();
  for (const [n, node] of w.nodes.nodes.entries()) {
    for (let page = 0; page < 16; page++) if (page % 3 === n) node.rot(SEGMENT, page);
  }
  t.ok(read(w, 0, 16).data?.equals(w.bytes));
});

t.test('a disk that cannot read a range is asked for its halves', async (t) => {
  const w = world();
  for (const [n, node] of w.nodes.nodes.entries()) {
    for (let page = 0; page < 16; page++) if (page % 3 === n) node.unreadable.add(page);
  }
  t.ok(read(w, 0, 16).data?.equals(w.bytes));
});

t.test('DATA_LOST, never zeroes, when every replica has answered and none is good', async (t) => {
  const w = world();
  for (const node of w.nodes.nodes) node.rot(SEGMENT, 9);
  const { error, data } = read(w, 8, 4);
  t.equal(data, null);
  t.equal(error?.code, 'DATA_LOST');
  t.match(error?.message, /page 9 of segment/);
  t.equal(read(w, 0, 8).error, null, 'other pages are still there');
});

t.test('UNAVAILABLE while a replica that cannot be reached may hold a good copy', async (t) => {
  for (const answer of ['error', 'silent', 'BUSY'] as const) {
    const w = world();
    w.nodes.nodes[0]?.rot(SEGMENT, 1);
    w.nodes.nodes[1]?.segments.clear();
    for (const node of w.nodes.nodes.slice(2)) node.answer = answer;
    const { error } = read(w, 1, 1);
    t.equal(error?.code, 'UNAVAILABLE', answer);
    t.equal(error?.retryable, true);
  }
});

t.test('an unknown node address is merely unreachable', async (t) => {
  const w = world();
  w.nodes.directory.address = () => null;
  t.equal(read(w, 0, 1).error?.code, 'UNAVAILABLE');
});

t.test('an answer of another incarnation counts for nothing', async (t) => {
  const w = world();
  const node = w.nodes.nodes[0];
  if (node === undefined) throw new Error('no node');
  const reply = node.reply.bind(node);
  node.reply = (request) => ({ ...reply(request), incarnation: id(0xbad) });
  t.ok(read(w, 0, 1).data?.equals(w.bytes.subarray(0, PAGE_BYTES)));
  t.equal(w.bad[0]?.reason, 'incarnation');
});

t.test('replies of the wrong shape are refused', async (t) => {
  const w = world();
  const node = w.nodes.nodes[0];
  if (node === undefined) throw new Error('no node');
  const reply = node.reply.bind(node);
  node.reply = (request) => {
    const good = reply(request);
    if (good.body?.type !== 'read') return good;
    return { ...good, body: { ...good.body, data: good.body.data.subarray(1) } };
  };
  t.ok(read(w, 0, 2).data?.equals(w.bytes.subarray(0, 2 * PAGE_BYTES)));
  t.equal(w.bad[0]?.reason, 'refused');
});

t.test('a silent replica costs the hedge bound, not a timeout, and is then avoided', async (t) => {
  const w = world();
  for (const node of w.nodes.nodes.slice(0, 1)) node.answer = 'silent';
  const first = read(w, 0, 1);
  t.equal(first.error, null);
  t.ok(first.tookMs < 100, `took ${first.tookMs} ms`);
  const asked = w.nodes.nodes[0]?.asked;
  t.equal(read(w, 0, 1).error, null);
  t.equal(w.nodes.nodes[0]?.asked, asked, 'not asked again');
});

t.test(
  'a replica that hangs makes one read late, not each until its request times out',
  async (t) => {
    const w = world();
    const [silent] = w.nodes.nodes;
    if (silent !== undefined) silent.answer = 'silent';
    const took: number[] = [];
    const next = (): void => {
      const start = w.nodes.scheduler.now;
      w.reader.readPages({ segment: SEGMENT, replicas: w.nodes.replicas }, 0, 1, (error) => {
        took.push(error === null ? w.nodes.scheduler.now - start : Number.POSITIVE_INFINITY);
        if (took.length < 50) next();
      });
    };
    next();
    while (took.length < 50 && w.nodes.scheduler.step()) {
      // One read after the other, while the request to the silent one is still unanswered.
    }
    t.ok(w.nodes.scheduler.now < 500, 'all within a fraction of a request timeout');
    t.equal(took.filter((ms) => ms >= READ_HEDGE_MIN_MS).length, 1, `${took}`);
  },
);

t.test('the nearest replica is preferred once all are known', async (t) => {
  const w = world();
  for (const [n, delay] of [8, 1, 4].entries()) {
    const node = w.nodes.nodes[n];
    if (node !== undefined) node.delayMs = delay;
  }
  for (let i = 0; i < 20; i++) read(w, i % 16, 1);
  t.ok((w.nodes.nodes[1]?.asked ?? 0) >= 17, `${w.nodes.nodes.map((node) => node.asked)}`);
});

t.test('a large read is cut, with bounded concurrency', async (t) => {
  const pages = READ_MAX_PAGES * 9 + 5;
  const w = world(pages);
  w.nodes.nodes[0]?.rot(SEGMENT, 1000);
  t.ok(read(w, 1, pages - 1).data?.equals(w.bytes.subarray(PAGE_BYTES)));
  t.ok(w.nodes.requests.every(({ count }) => count <= READ_MAX_PAGES));
  t.ok(w.nodes.maxInFlight <= READ_MAX_IN_FLIGHT, `${w.nodes.maxInFlight} at once`);
});

t.test('a large read fails once when one part fails', async (t) => {
  const w = world(READ_MAX_PAGES * 3);
  for (const node of w.nodes.nodes) node.rot(SEGMENT, READ_MAX_PAGES + 1);
  t.equal(read(w, 0, READ_MAX_PAGES * 3).error?.code, 'DATA_LOST');
});

t.test('nothing is called back after close', async (t) => {
  const w = world();
  w.reader.readPages({ segment: SEGMENT, replicas: w.nodes.replicas }, 0, 1, () => {
    t.fail('called back');
  });
  w.reader.close();
  w.nodes.scheduler.runFor(10_000);
});

t.test(
  'property: what is returned is right, and it is returned if any good copy can be',
  async () => {
    const fault = fc.record({
      node: fc.nat(2),
      page: fc.nat(15),
      type: fc.constantFrom('rot', 'unreadable'),
    });
    const answers = fc.array(
      fc.constantFrom('OK', 'OK', 'OK', 'error', 'UNKNOWN', 'silent', 'DISK'),
      {
        minLength: 3,
        maxLength: 3,
      },
    );
    const ranges = fc.tuple(fc.nat(15), fc.integer({ min: 1, max: 16 }));
    fc.assert(
      fc.property(
        fc.array(fault, { maxLength: 40 }),
        answers,
        ranges,
        (faults, says, [page, n]) => {
          const w = world();
          const count = Math.min(n, 16 - page);
          const good = Array.from({ length: 16 }, () => [true, true, true]);
          const once = new Set<string>();
          for (const { node, page: at, type } of faults) {
            const fake = w.nodes.nodes[node];
            if (fake === undefined) continue;
            if (type === 'unreadable') fake.unreadable.add(at);
            else if (!once.has(`${node}/${at}`)) fake.rot(SEGMENT, at);
            once.add(`${node}/${at}`);
            (good[at] as boolean[])[node] = false;
          }
          for (const [n, answer] of says.entries()) {
            const fake = w.nodes.nodes[n];
            if (fake !== undefined) fake.answer = answer as 'OK';
          }
          const { error, data } = read(w, page, count);
          const wanted = good.slice(page, page + count);
          const possible = wanted.every((copies) => copies.some((ok, n) => ok && says[n] === 'OK'));
          if (data !== null) {
            const right = w.bytes.subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
            if (!data.equals(right)) throw new Error('wrong bytes');
            return possible;
          }
          const unreachable = says.some((answer) => answer === 'error' || answer === 'silent');
          return !possible && error?.code === (unreachable ? 'UNAVAILABLE' : 'DATA_LOST');
        },
      ),
      { numRuns: 500 },
    );
  },
);
