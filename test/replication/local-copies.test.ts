/**
 * Reads of copies on this machine: when they come from the file, and that nothing wrong with a
 * file, its node or its disk becomes more than a read through the nodes.
 */
import { test } from 'tap';
import type { LocateRequest, Reply } from '../../src/block/wire/messages.js';
import type { NodeRequests } from '../../src/block/wire/requests.js';
import { PageChecksummer } from '../../src/core/checksum.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import {
  LOCAL_AVOID_MS,
  LOCAL_COPIES_MAX,
  LOCAL_COPY_IDLE_MS,
  LOCAL_READ_LATE_MS,
  LOCATE_AGAIN_MS,
  LOCATE_ELSEWHERE_MS,
  LOCATE_MAX_IN_FLIGHT,
  LOCATE_MAX_PAGES,
  READ_AVOID_MS,
  REQUEST_TIMEOUT_MS,
} from '../../src/core/limits.js';
import { epoch, offset, PAGE_BYTES, pageIndex } from '../../src/core/units.js';
import type { LocalFile, LocalFiles } from '../../src/io/local-files.js';
import type { Replica } from '../../src/metadata/model.js';
import { LocalCopies } from '../../src/replication/local-copies.js';
import { SegmentReader } from '../../src/replication/reader.js';
import { FakeNodes, id } from './reader-nodes.js';

const SEGMENT = id<SegmentId>(7);
const PAGES = 16;

function pagesOf(count: number): Buffer {
  const bytes = Buffer.alloc(count * PAGE_BYTES);
  for (let i = 0; i < count; i++) bytes.fill((i % 251) + 1, i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
  return bytes;
}

/** What a file does when it is read. */
interface Behaviour {
  bytes: Buffer;
  delayMs: number;
  /** The bytes are there, but it is said that so many of them are missing. */
  missing?: number;
  /** Too many reads wait for the disk. */
  busy?: boolean;
}

interface Open {
  readonly path: string;
  closed: boolean;
  reading: number;
  closedWhileReading: boolean;
  /** What was said of the last read. */
  fresh: boolean;
}

interface Read {
  readonly isHere: boolean;
  /** What `done` was called with, each time. */
  readonly calls: (Buffer | null)[];
}

class World implements NodeRequests {
  readonly nodes = new FakeNodes();
  readonly located: LocateRequest[] = [];
  readonly opened: Open[] = [];
  readonly files = new Map<string, Behaviour>();
  /** By node: the file's path, what goes wrong instead, or how many pages are durable there. */
  path = (node: number, segment: SegmentId): string => `/node${node}/${segment}.data`;
  failure = (_node: number): 'UNKNOWN' | 'UNAVAILABLE' | 'VERSION' | 'silent' | null => null;
  durablePages = PAGES;
  twist = (reply: Reply): Reply => reply;
  delayMs = 1;
  readonly #checksummers = new Map<SegmentId, PageChecksummer>();
  readonly copies: LocalCopies;

  /** Files of these segments stand here for these nodes; the others' are elsewhere. */
  constructor(here: readonly number[] = [0, 1, 2], segments: readonly SegmentId[] = [SEGMENT]) {
    for (const segment of segments) {
      this.nodes.putAll(segment, pagesOf(PAGES));
      for (const node of here) {
        const file = { bytes: pagesOf(PAGES), delayMs: 1 };
        this.files.set(`/node${node}/${segment}.data`, file);
      }
    }
    this.copies = new LocalCopies(this.parts);
  }

  get parts() {
    const { clock } = this.nodes.process;
    const { directory } = this.nodes;
    const isFresh = (segment: SegmentId): boolean => this.fresh.has(segment);
    return { clock, requests: this as NodeRequests, directory, files: this.localFiles, isFresh };
  }

  openMs = 0.1;
  readonly fresh = new Set<SegmentId>();
  readonly localFiles: LocalFiles = {
    open: (path, done) => this.nodes.process.after(this.openMs, () => done(this.#open(path))),
  };

  #open(path: string): LocalFile | null {
    const file = this.files.get(path);
    if (file === undefined) return null;
    const open: Open = { path, closed: false, reading: 0, closedWhileReading: false, fresh: false };
    this.opened.push(open);
    return {
      read: (into, position, isFresh, done) => {
        open.fresh = isFresh;
        if (open.closed) throw new Error('read after close');
        if (file.busy === true) return false;
        open.reading += 1;
        this.nodes.process.after(file.delayMs, () => {
          open.reading -= 1;
          if (open.closed) return;
          const part = file.bytes.subarray(position, position + into.length);
          into.set(part);
          done(part.length - (file.missing ?? 0));
        });
        return true;
      },
      close: () => {
        if (open.closed) throw new Error('closed twice');
        open.closed = true;
        open.closedWhileReading = open.reading > 0;
      },
    };
  }

  send(...[target, request, timeoutMs, done]: Parameters<NodeRequests['send']>): void {
    if (request.type !== 'locate') {
      this.nodes.send(target, request, timeoutMs, done);
      return;
    }
    const index = this.nodes.nodes.findIndex(({ replica }) => replica.node === target.node);
    this.located.push(request);
    const failure = this.failure(index);
    this.nodes.process.after(failure === 'silent' ? timeoutMs : this.delayMs, () => {
      if (failure === null || failure === 'UNKNOWN') {
        done(null, this.twist(this.#reply(index, request, failure ?? 'OK')));
      } else {
        const code = failure === 'silent' ? 'TIMEOUT' : failure;
        done(new HoldfastError(code, 'no answer', { retryable: true }), null);
      }
    });
  }

  #reply(index: number, request: LocateRequest, status: 'OK' | 'UNKNOWN'): Reply {
    const node = this.nodes.nodes[index] as FakeNodes['nodes'][number];
    const checksums = node.segments.get(request.segment)?.sums.slice(request.page);
    const page = request.page;
    const { incarnation } = node.replica;
    const base = { incarnation, durableLength: offset(0), maxEpoch: epoch(1) };
    const count = Math.min(LOCATE_MAX_PAGES, this.durablePages - page);
    if (status !== 'OK' || checksums === undefined) return { ...base, status, body: null };
    if (count <= 0) return { ...base, status: 'GAP', body: null };
    const path = this.path(index, request.segment);
    const known = checksums.slice(0, count);
    return { ...base, status, body: { type: 'locate', page, path, checksums: known } };
  }

  queuedBytes(): number {
    return 0;
  }

  close(): void {}

  /** The nodes that were asked where their files are, in order. */
  get askedNodes(): number[] {
    const all = this.nodes.nodes;
    return this.located.map(({ incarnation }) =>
      all.findIndex(({ replica }) => replica.incarnation === incarnation),
    );
  }

  get openNow(): number {
    return this.opened.filter(({ closed }) => !closed).length;
  }

  run(ms: number): void {
    this.nodes.scheduler.runFor(ms);
  }

  /** Begins a read; time does not pass. */
  begin(page = 0, count = 1, segment = SEGMENT, replicas: Replica[] = this.nodes.replicas): Read {
    const calls: (Buffer | null)[] = [];
    let returned = false;
    const checksummer = this.#checksummers.get(segment) ?? new PageChecksummer(segment);
    this.#checksummers.set(segment, checksummer);
    const source = { segment, replicas };
    const isHere = this.copies.read(source, page, count, checksummer, (data) => {
      if (!returned) throw new Error('called back before returning');
      calls.push(data);
    });
    returned = true;
    return { isHere, calls };
  }

  /** Where a read came from, with the right bytes, once a little time has passed. */
  read(page = 0, count = 1, segment = SEGMENT, replicas = this.nodes.replicas): 'file' | 'nodes' {
    const read = this.begin(page, count, segment, replicas);
    this.run(5);
    if (!read.isHere) return 'nodes';
    if (read.calls.length !== 1) throw new Error(`${read.calls.length} calls`);
    const [data] = read.calls;
    if (data === null || data === undefined) return 'nodes';
    const right = pagesOf(PAGES).subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
    if (!data.equals(right)) throw new Error('wrong bytes');
    return 'file';
  }

  file(node = 0, segment = SEGMENT): Behaviour {
    return this.files.get(`/node${node}/${segment}.data`) as Behaviour;
  }
}

/** A world whose segment is being read from node 0's file. */
function here(): World {
  const w = new World();
  w.read();
  if (w.read() !== 'file') throw new Error('not here');
  return w;
}

test('the first read goes to the nodes, and asks where a file is; then it is read', async (t) => {
  const w = new World();
  const bytes = pagesOf(PAGES);
  const { localFiles } = w;
  const reader = new SegmentReader({ ...w.parts, localFiles });
  const read = (page: number, count: number): Buffer | null => {
    let result: Buffer | null = null;
    const source = { segment: SEGMENT, replicas: w.nodes.replicas };
    reader.readPages(source, page, count, (_error, data) => {
      result = data as Buffer | null;
    });
    w.run(10);
    return result;
  };
  const right = bytes.subarray(3 * PAGE_BYTES, 5 * PAGE_BYTES);
  t.ok(right.equals(read(3, 2) ?? Buffer.alloc(0)));
  t.equal(w.nodes.requests.length, 1);
  t.match(w.located, [{ segment: SEGMENT, page: 0 }]);
  t.equal(reader.localPages, 0);
  t.ok(right.equals(read(3, 2) ?? Buffer.alloc(0)));
  t.ok(bytes.equals(read(0, PAGES) ?? Buffer.alloc(0)));
  t.equal(w.nodes.requests.length, 1, 'without the nodes');
  t.equal(reader.localPages, 2 + PAGES);
  t.equal(w.located.length, 1, 'asked once');
  w.file().bytes[9 * PAGE_BYTES] = 0;
  t.ok(bytes.equals(read(0, PAGES) ?? Buffer.alloc(0)), 'rot does not get out');
  t.equal(w.nodes.requests.length, 2);
  t.equal(reader.localPages, 2 + PAGES);
  reader.close();
  t.equal(w.openNow, 0);
});

test('the file is told what was written of late', async (t) => {
  const w = here();
  t.equal(w.opened[0]?.fresh, false);
  w.fresh.add(SEGMENT);
  t.equal(w.read(), 'file');
  t.equal(w.opened[0]?.fresh, true);
});

test('reads that come while it is asked where the file is do not ask again', async (t) => {
  const w = new World();
  w.delayMs = 50;
  for (let i = 0; i < 5; i++) t.equal(w.read(), 'nodes');
  t.equal(w.located.length, 1);
  w.run(50);
  t.equal(w.read(), 'file');
});

test('whatever is wrong with the file: the nodes are asked, and it is left alone', async (t) => {
  const wrongs: [string, (file: Behaviour) => void][] = [
    ['rot', ({ bytes }) => bytes.writeUInt8(0, 4 * PAGE_BYTES + 7)],
    ['another page in its place', ({ bytes }) => bytes.copy(bytes, 4 * PAGE_BYTES, 0, PAGE_BYTES)],
    [
      'a file that was cut',
      (file) => {
        file.bytes = file.bytes.subarray(0, 5 * PAGE_BYTES - 1);
      },
    ],
    [
      'a read that says it was short',
      (file) => {
        file.missing = 1;
      },
    ],
    [
      'an error',
      (file) => {
        file.missing = 5 * PAGE_BYTES;
      },
    ],
  ];
  for (const [name, spoil] of wrongs) {
    const w = here();
    const [open] = w.opened;
    const good = { ...w.file(), bytes: Buffer.from(w.file().bytes) };
    spoil(w.file());
    const read = w.begin(2, 5);
    t.ok(read.isHere, name);
    w.run(5);
    t.same(read.calls, [null], `${name}: the nodes are asked, once`);
    t.equal(open?.closed, true, `${name}: closed`);
    t.equal(open?.closedWhileReading, false);
    w.files.set(open?.path ?? '', good);
    w.run(READ_AVOID_MS - 20);
    t.equal(w.read(), 'nodes', name);
    t.equal(w.located.length, 1, `${name}: left alone for a while`);
    w.run(20);
    t.equal(w.read(), 'nodes');
    t.equal(w.read(), 'file', `${name}: and then tried again`);
  }
});

test('several reads find the same copy bad', async (t) => {
  const w = here();
  w.file().bytes = Buffer.alloc(0);
  const reads = [w.begin(0), w.begin(1), w.begin(2)];
  w.run(5);
  t.same(
    reads.map(({ calls }) => calls),
    [[null], [null], [null]],
  );
  t.equal(w.openNow, 0);
});

test('an answer that is not for what was asked is not taken', async (t) => {
  const wrongs: ((reply: Reply) => Reply)[] = [
    (reply) => ({ ...reply, incarnation: id(99) }),
    (reply) => {
      const { body } = reply;
      return body?.type === 'locate' ? { ...reply, body: { ...body, page: pageIndex(1) } } : reply;
    },
  ];
  for (const wrong of wrongs) {
    const w = new World();
    w.twist = wrong;
    for (let i = 0; i < 4; i++) {
      t.equal(w.read(), 'nodes');
      w.run(READ_AVOID_MS);
    }
    t.same(w.opened, []);
  }
});

test('what is wrong with a file is not forgotten with an answer that was under way', async (t) => {
  const w = new World();
  w.durablePages = 4;
  w.read();
  w.file().bytes[0] = 0;
  w.run(LOCATE_AGAIN_MS);
  w.durablePages = PAGES;
  w.delayMs = 50;
  t.equal(w.read(8), 'nodes', 'asks for more checksums');
  t.equal(w.located.length, 2);
  t.equal(w.read(0), 'nodes', 'rot, meanwhile');
  w.run(60);
  t.equal(w.openNow, 0);
  w.run(READ_AVOID_MS - 100);
  t.equal(w.read(0), 'nodes');
  t.equal(w.located.length, 2);
});

test('what is wrong with a file is not forgotten when idle ones are closed', async (t) => {
  const w = here();
  w.run(LOCAL_COPY_IDLE_MS - 100);
  w.file().bytes[0] = 0;
  t.equal(w.read(0), 'nodes');
  w.run(READ_AVOID_MS / 2);
  t.equal(w.read(0), 'nodes');
  t.equal(w.located.length, 1);
});

test('a node of which three files are not here is not asked for long; others are', async (t) => {
  const ids = [7, 8, 9, 10].map((n) => id<SegmentId>(n));
  const w = new World([2], ids);
  for (const segment of ids.slice(0, 3)) {
    const before = w.located.length;
    for (let i = 0; i < 3; i++) {
      t.equal(w.read(0, 1, segment), 'nodes');
      t.equal(w.located.length, before + i + 1);
      t.equal(w.read(0, 1, segment), i < 2 ? 'nodes' : 'file');
      t.equal(w.located.length, before + i + 1, 'not at once');
      w.run(LOCATE_AGAIN_MS);
    }
    t.same(w.askedNodes.slice(before), [0, 1, 2], 'each in turn');
  }
  const last = ids[3] as SegmentId;
  t.equal(w.read(0, 1, last), 'nodes');
  t.equal(w.read(0, 1, last), 'file', 'who is known to be elsewhere is passed over');
  t.same(w.askedNodes.slice(9), [2]);
  const nowhere = new World([]);
  for (let ms = 0; ms < LOCATE_ELSEWHERE_MS - 1_000; ms += 100) {
    if (nowhere.read() !== 'nodes') t.fail('read');
    nowhere.run(95);
  }
  t.same(nowhere.askedNodes, [0, 1, 2, 0, 1, 2, 0, 1, 2], 'each three times');
  nowhere.run(4_000);
  nowhere.read();
  t.equal(nowhere.askedNodes.length, 10);
});

test('a path that is not that of the segment is never opened', async (t) => {
  const paths = [
    '/etc/shadow',
    `/x/${id(8)}.data`,
    `/x/${SEGMENT}.data/..`,
    `x/${SEGMENT}.data`,
    '',
  ];
  for (const path of paths) {
    const w = new World();
    w.files.set(path, w.file());
    w.path = () => path;
    for (let i = 0; i < 4; i++) {
      t.equal(w.read(), 'nodes');
      w.run(LOCATE_AGAIN_MS);
    }
    t.same(w.opened, [], path);
  }
});

test('a node that does not answer, or does not know LOCATE, does not hide others', async (t) => {
  for (const failure of ['UNAVAILABLE', 'VERSION', 'silent'] as const) {
    const w = new World();
    w.failure = (node) => (node === 0 ? failure : null);
    t.equal(w.read(), 'nodes');
    w.run(failure === 'silent' ? REQUEST_TIMEOUT_MS : 0);
    w.run(LOCATE_AGAIN_MS);
    t.equal(w.read(), 'nodes');
    t.equal(w.read(), 'file', failure);
    t.same(w.askedNodes, [0, 1], failure);
  }
});

test('a replica that its node does not know is not asked all the time', async (t) => {
  const w = new World();
  w.failure = () => 'UNKNOWN';
  for (let i = 0; i < 10; i++) t.equal(w.read(), 'nodes');
  t.equal(w.located.length, 1);
  w.run(READ_AVOID_MS);
  w.read();
  t.equal(w.located.length, 2);
});

test('a read that hangs is given to the nodes, and its late result is ignored', async (t) => {
  const w = here();
  const pages = w.copies.pages;
  w.file().delayMs = LOCAL_AVOID_MS * 3;
  const read = w.begin(0, 2);
  t.ok(read.isHere);
  w.run(LOCAL_READ_LATE_MS - 10);
  t.same(read.calls, []);
  w.run(LOCAL_READ_LATE_MS + 20);
  t.same(read.calls, [null], 'within twice the time');
  const [open] = w.opened;
  const file = { ...w.file(), delayMs: 1 };
  w.files.set(open?.path ?? '', file);
  w.run(LOCAL_AVOID_MS - 2 * LOCAL_READ_LATE_MS);
  t.equal(w.read(), 'nodes', 'the disk is left alone');
  t.equal(w.located.length, 1);
  t.equal(open?.closed, false, 'not closed under the read');
  w.run(LOCAL_COPY_IDLE_MS);
  w.read();
  t.equal(w.read(), 'file', 'tried again while the first read still hangs');
  w.run(LOCAL_AVOID_MS * 3);
  t.same(read.calls, [null], 'done is called once');
  t.equal(open?.closed, true);
  t.equal(open?.closedWhileReading, false);
  t.equal(w.copies.pages, pages + 1, 'the late pages were not counted');
});

test('what a late read finds wrong does not close the copy that is read by then', async (t) => {
  const w = here();
  const path = w.path(0, SEGMENT);
  Object.assign(w.file(), { delayMs: LOCAL_AVOID_MS * 3, missing: 1 });
  w.begin();
  w.files.set(path, { bytes: pagesOf(PAGES), delayMs: 1 });
  w.run(LOCAL_AVOID_MS + LOCAL_COPY_IDLE_MS + 3 * LOCAL_READ_LATE_MS);
  w.read();
  for (let ms = 0; ms < LOCAL_AVOID_MS * 3; ms += 1_000) {
    t.equal(w.read(), 'file');
    w.run(1_000);
  }
  t.equal(w.opened[0]?.closed, true);
  t.equal(w.opened[1]?.closed, false);
});

test('a read that has just begun is not given up with one that hangs', async (t) => {
  const w = here();
  w.run(2 * LOCAL_READ_LATE_MS);
  w.file().delayMs = 60_000;
  const hangs = w.begin();
  w.run(LOCAL_READ_LATE_MS - 20);
  w.file().delayMs = 50;
  const begun = w.begin(1);
  w.run(60);
  t.same(hangs.calls, [null]);
  t.equal(begun.calls.length, 1);
  t.not(begun.calls[0], null);
});

test('a pause of this process is not taken for a slow disk', async (t) => {
  const w = here();
  w.run(2 * LOCAL_READ_LATE_MS);
  w.begin(1);
  // Its result is there in the turn in which the timer of the read before it runs.
  w.file().delayMs = LOCAL_READ_LATE_MS;
  const read = w.begin();
  w.run(LOCAL_READ_LATE_MS + 1);
  t.equal(read.calls.length, 1);
  t.not(read.calls[0], null, 'what was there by then is taken');
});

test('while too many reads wait for the disk, the nodes are asked', async (t) => {
  const w = here();
  w.file().busy = true;
  const read = w.begin();
  t.equal(read.isHere, false);
  w.file().busy = false;
  t.equal(w.read(), 'file', 'the copy is as good as before');
  w.run(2 * LOCAL_COPY_IDLE_MS + 10);
  t.equal(w.openNow, 0, 'nothing is counted as being read');
});

test('a bad copy: its own node is asked first, which can repair it then', async (t) => {
  const w = new World([2]);
  const reader = new SegmentReader({ ...w.parts, localFiles: w.localFiles });
  const read = (): void => {
    const source = { segment: SEGMENT, replicas: w.nodes.replicas };
    reader.readPages(source, 4, 1, () => {});
    w.run(LOCATE_AGAIN_MS + 10);
  };
  for (let i = 0; i < 4; i++) read();
  t.equal(reader.localPages, 1);
  const before = w.nodes.requests.length;
  w.file(2).bytes[4 * PAGE_BYTES] = 0;
  read();
  t.match(w.nodes.requests.slice(before), [{ node: 2 }]);
  reader.close();
});

test('copies that nobody reads are closed, and no timer is left', async (t) => {
  const w = here();
  for (let ms = 0; ms < 3 * LOCAL_COPY_IDLE_MS; ms += 1_000) {
    w.run(995);
    t.equal(w.read(), 'file');
  }
  t.equal(w.located.length, 1);
  w.run(2 * LOCAL_COPY_IDLE_MS + 10);
  t.equal(w.openNow, 0);
  t.ok(w.nodes.scheduler.idle, 'nothing goes on');
  t.equal(w.read(), 'nodes');
  t.equal(w.read(), 'file', 'it is found again');
});

test('so many copies are open at most; the others are read through the nodes', async (t) => {
  const ids = Array.from({ length: LOCAL_COPIES_MAX + 1 }, (_, n) => id<SegmentId>(n + 1));
  const w = new World([0], ids);
  const last = ids[LOCAL_COPIES_MAX] as SegmentId;
  for (const segment of ids) w.read(0, 1, segment);
  t.equal(w.openNow, LOCAL_COPIES_MAX);
  for (let i = 0; i < 10; i++) t.equal(w.read(0, 1, last), 'nodes');
  t.equal(w.located.length, LOCAL_COPIES_MAX, 'nothing is asked for that cannot be opened');
  w.run(2 * LOCAL_COPY_IDLE_MS);
  w.read(0, 1, last);
  t.equal(w.read(0, 1, last), 'file', 'once there is room');
});

test('so many segments are asked for at once', async (t) => {
  const ids = Array.from({ length: 10 }, (_, n) => id<SegmentId>(n + 1));
  const w = new World([0], ids);
  w.delayMs = 1_000;
  for (const segment of ids) w.read(0, 1, segment);
  t.equal(w.located.length, LOCATE_MAX_IN_FLIGHT);
  w.run(1_000);
  for (const segment of ids) w.read(0, 1, segment);
  t.equal(w.located.length, 2 * LOCATE_MAX_IN_FLIGHT);
});

test('an open segment: what is beyond the known table is asked for, now and then', async (t) => {
  const w = new World();
  w.durablePages = 4;
  t.equal(w.read(3), 'nodes');
  t.equal(w.read(3), 'file');
  w.run(LOCATE_AGAIN_MS);
  w.durablePages = 8;
  t.equal(w.read(3, 2), 'nodes', 'partly beyond');
  t.equal(w.located.length, 2);
  t.equal(w.read(3, 2), 'file');
  w.durablePages = 12;
  const began = w.nodes.scheduler.now;
  const turned = [...w.nodes.replicas].reverse();
  while (w.read(8, 1, SEGMENT, turned) === 'nodes') t.equal(w.located.length <= 3, true);
  const took = w.nodes.scheduler.now - began;
  t.ok(took >= LOCATE_AGAIN_MS - 20 && took <= LOCATE_AGAIN_MS + 20, `${took} ms`);
  t.equal(w.located.length, 3, 'asked once meanwhile');
  t.equal(w.opened.length, 1, 'the file is the same');
  t.same(new Set(w.askedNodes), new Set([0]), 'and the replica');
});

test('long segments have several tables', async (t) => {
  const w = new World();
  w.nodes.putAll(SEGMENT, pagesOf(LOCATE_MAX_PAGES + 4));
  w.durablePages = LOCATE_MAX_PAGES + 4;
  w.file().bytes = pagesOf(LOCATE_MAX_PAGES + 4);
  w.begin(LOCATE_MAX_PAGES + 1);
  w.run(5);
  t.match(w.located, [{ page: LOCATE_MAX_PAGES }]);
  const far = w.begin(LOCATE_MAX_PAGES + 1);
  t.equal(far.isHere, true);
  w.run(LOCATE_AGAIN_MS);
  t.not(far.calls[0], null);
  t.equal(w.begin(1).isHere, false, 'before the table');
  w.run(5);
  t.match(w.located.slice(1), [{ page: 0 }]);
  t.equal(w.begin(1).isHere, true);
  t.equal(w.begin(LOCATE_MAX_PAGES + 1).isHere, false, 'behind it');
  w.run(5);
});

test('a replica that is no longer on the list is let go', async (t) => {
  const w = here();
  const others = w.nodes.replicas.slice(1);
  w.run(LOCATE_AGAIN_MS);
  t.equal(w.read(0, 1, SEGMENT, others), 'nodes');
  t.equal(w.opened[0]?.closed, true, 'so that its space comes back');
  t.equal(w.read(0, 1, SEGMENT, others), 'file');
  t.not(w.opened[1]?.path, w.path(0, SEGMENT));
});

test('after close nobody is called back, and no file is open', async (t) => {
  const w = here();
  const [read, second] = [w.begin(), w.begin(1)];
  w.run(LOCATE_AGAIN_MS);
  const other = id<SegmentId>(9);
  w.nodes.putAll(other, pagesOf(PAGES));
  w.files.set(w.path(0, other), { ...w.file() });
  w.begin(0, 1, other);
  const hanging = w.begin(2);
  w.copies.close();
  t.equal(w.openNow, 0);
  w.run(60_000);
  t.equal(read.calls.length + second.calls.length, 2);
  t.same(hanging.calls, []);
  t.equal(w.openNow, 0, 'what was being asked for is not opened any more');
  t.ok(w.nodes.scheduler.idle);
});

test('a file that is opened when all is closed is closed, too', async (t) => {
  const w = new World();
  w.openMs = 100;
  w.read();
  w.copies.close();
  w.run(1_000);
  t.equal(w.opened.length, 1);
  t.equal(w.openNow, 0);
});

test('after close, one that hung before is closed when its read ends', async (t) => {
  const w = here();
  w.file().delayMs = 1_000;
  const read = w.begin();
  w.run(3 * LOCAL_READ_LATE_MS);
  t.same(read.calls, [null]);
  w.copies.close();
  w.run(2_000);
  t.equal(w.openNow, 0);
  t.same(read.calls, [null]);
});
