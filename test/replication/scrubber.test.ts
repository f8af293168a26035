/** The schedule of scrub on a node with disks that are tables: what is read when, and told. */
import t from 'tap';
import type { InventoryEntry, Reply, Request, StatusName } from '../../src/block/wire/messages.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, MIB, offset, PAGE_BYTES } from '../../src/core/units.js';
import { readScrub } from '../../src/metadata/scrub-progress.js';
import { changeSettings } from '../../src/metadata/settings.js';
import { Scrubber } from '../../src/replication/scrubber.js';
import { putVolume, volumeRecord } from '../fixtures/volume-record.js';
import { id, segmentId, THREE, VOLUME } from '../metadata/samples.js';
import { RecordedLog, SimStores } from '../metadata/sim-store.js';

const NODE = id<NodeId>('1');
const HOUR = 3_600_000;
const SEGMENTS = ['a', 'b', 'c', 'd'].map(segmentId);
const END = offset(4 * MIB);

/** A node's disk, with what was asked of it. */
class Bed {
  readonly world = new SimStores();
  readonly log = new RecordedLog();
  readonly bad = new Set<SegmentId>();
  readonly marked = new Map<SegmentId, VolumeId>();
  /** Whether other replicas have good pages. */
  hasSources = true;
  /** Rots anew, where somebody reads it, as soon as it was repaired and read to its end. */
  rotsAnew: SegmentId | null = null;
  /** From its read on the whole disk has failed. */
  failsAt: SegmentId | null = null;
  hasFailed = false;
  /** Segments read, in order, each time once. */
  reads: SegmentId[] = [];
  copies: SegmentId[] = [];
  readonly #disk = THREE[0]?.incarnation as Incarnation;
  readonly #client = this.world.connect();

  constructor() {
    const sealed = SEGMENTS.map((segment) => ({
      ...{ segment, group: 0, createEpoch: epoch(1), replicas: THREE },
      ...{ end: END, endLsn: lsn(1), crc: 1 },
    }));
    putVolume(this.world.server, volumeRecord(VOLUME, { epoch: epoch(1), sealed }));
  }

  get store() {
    return this.#client.store;
  }

  scrubber(): Scrubber {
    const { clock } = this.#client.process;
    const { store, log } = this;
    const disks = {
      incarnations: () => (this.hasFailed ? [] : [this.#disk]),
      handle: (request: Request, reply: (reply: Reply) => void): void => {
        clock.after(1, () => {
          reply(this.#answer(request));
          this.world.scheduler.notePromise();
        });
      },
      takeRotten: () => {
        const found = [...this.marked];
        this.marked.clear();
        return found;
      },
    };
    return new Scrubber({ store, clock, log, node: NODE, disks });
  }

  #answer(request: Request): Reply {
    const reply = (status: StatusName, body: Reply['body'] = null): Reply => {
      const incarnation = this.#disk;
      return { status, incarnation, durableLength: END, maxEpoch: epoch(1), body };
    };
    if (request.type === 'inventory') {
      const entries = SEGMENTS.filter((segment) => segment > (request.after ?? '')).map(
        (segment): InventoryEntry => ({
          ...{ segment, volume: VOLUME, createEpoch: epoch(1), maxEpoch: epoch(1), length: END },
          ...{ state: 'sealed', crc: 1, suspectFrom: null },
        }),
      );
      return reply('OK', { type: 'inventory', entries, more: false });
    }
    if (request.type === 'read') {
      const { segment } = request;
      if (this.reads.at(-1) !== segment) this.reads.push(segment);
      this.hasFailed ||= segment === this.failsAt;
      if (!this.bad.has(segment) && !this.hasFailed) {
        this.#rot(request);
        return reply('OK');
      }
      this.marked.set(segment, VOLUME);
      return reply('DISK');
    }
    if (request.type !== 'copy') throw new Error(request.type);
    this.copies.push(request.segment);
    if (this.hasFailed) return reply('DISK');
    if (!this.hasSources) return reply('BUSY');
    this.bad.delete(request.segment);
    return reply('OK');
  }

  #rot({ segment, page, count }: Extract<Request, { type: 'read' }>): void {
    const isEnd = (page + count) * PAGE_BYTES === END;
    if (segment !== this.rotsAnew || !isEnd || !this.copies.includes(segment)) return;
    this.rotsAnew = null;
    this.bad.add(segment);
    this.marked.set(segment, VOLUME);
  }

  async set(changes: Parameters<typeof changeSettings>[1]): Promise<void> {
    await this.world.wait(changeSettings(this.store, changes));
  }

  async told() {
    const [disk] = await this.world.wait(readScrub(this.store, NODE));
    return disk;
  }
}

t.test('every copy is read once in each interval, at the rate', async (t) => {
  const bed = new Bed();
  await bed.set({ scrubIntervalMs: HOUR, scrubBytesPerSecond: MIB / 4 });
  const scrubber = bed.scrubber();
  scrubber.start();
  await bed.world.pass(30_000);
  t.same(bed.reads, SEGMENTS.slice(0, 2), '16 MiB take 64 s');
  await bed.world.pass(60_000);
  t.same(bed.reads, SEGMENTS);
  t.match(await bed.told(), { after: null, endedAt: /Z$/, repaired: 0, rotten: 0 });
  await bed.world.pass(HOUR - 120_000);
  t.same(bed.reads, SEGMENTS, 'not again before its time');
  await bed.world.pass(120_000);
  t.same(bed.reads, [...SEGMENTS, ...SEGMENTS]);
  t.equal(scrubber.numbers()[0]?.readBytes, 8 * END);
  t.same(bed.copies, [], 'what is good is left alone');
  await bed.world.wait(scrubber.stop());
});

t.test('after a restart it goes on where it was; off, nothing is read', async (t) => {
  const bed = new Bed();
  await bed.set({ scrubIntervalMs: HOUR, scrubBytesPerSecond: MIB / 4 });
  const first = bed.scrubber();
  first.start();
  // Between two reads, of 4 s each.
  await bed.world.pass(42_000);
  await bed.world.wait(first.stop());
  const before = bed.reads.length;
  t.ok(before >= 2 && before <= 3, `${before} were read`);
  const { after, startedAt } = (await bed.told()) ?? {};
  await bed.set({ scrubIntervalMs: null });
  bed.reads = [];
  const second = bed.scrubber();
  second.start();
  await bed.world.pass(HOUR / 2);
  t.same(bed.reads, []);
  await bed.set({ scrubIntervalMs: HOUR });
  await bed.world.pass(90_000);
  t.same(
    bed.reads,
    SEGMENTS.filter((segment) => segment > (after ?? '')),
  );
  t.match(await bed.told(), { after: null, startedAt, endedAt: /Z$/ });
  await bed.world.wait(second.stop());
});

t.test('what rots is repaired; what cannot be is told, and tried again', async (t) => {
  const bed = new Bed();
  bed.hasSources = false;
  const [, bad = segmentId('b'), other = segmentId('c')] = SEGMENTS;
  bed.bad.add(bad);
  const scrubber = bed.scrubber();
  scrubber.start();
  await bed.world.pass(20_000);
  t.match(await bed.told(), { repaired: 0, rotten: 1, first: [{ segment: bad, volume: VOLUME }] });
  t.match(bed.log.messages, ['A rotten copy cannot be repaired.']);
  t.same(bed.reads, SEGMENTS, 'the pass goes on');
  bed.hasSources = true;
  await bed.world.pass(70_000);
  t.match(await bed.told(), { repaired: 1, rotten: 0, first: [] });
  bed.copies = [];
  bed.bad.add(other);
  bed.marked.set(other, VOLUME);
  await bed.world.pass(20_000);
  t.same(bed.copies, [other], 'somebody read it, long before the next pass');
  t.match(await bed.told(), { repaired: 2, rotten: 0 });
  await bed.world.wait(scrubber.stop());
});

t.test('a disk that fails is not verified, and what it has is not called rotten', async (t) => {
  const bed = new Bed();
  const [first, second = segmentId('b')] = SEGMENTS;
  bed.failsAt = second;
  const scrubber = bed.scrubber();
  scrubber.start();
  await bed.world.pass(200_000);
  t.match(await bed.told(), { endedAt: null, after: first, rotten: 0 });
  t.same(bed.reads, [first, second]);
  t.same(bed.copies, []);
  t.same(bed.log.messages, []);
  await bed.world.wait(scrubber.stop());
});

t.test('what rots again behind the reads that follow its repair is repaired again', async (t) => {
  const bed = new Bed();
  const [, bad = segmentId('b')] = SEGMENTS;
  await bed.set({ scrubIntervalMs: null });
  bed.bad.add(bad);
  bed.marked.set(bad, VOLUME);
  bed.rotsAnew = bad;
  const scrubber = bed.scrubber();
  scrubber.start();
  await bed.world.pass(20_000);
  t.same(bed.copies, [bad, bad]);
  t.same([...bed.bad], []);
  t.match(await bed.told(), { repaired: 2, rotten: 0 });
  await bed.world.wait(scrubber.stop());
});

t.test('a rotten copy that the volume has given up is nobody’s business', async (t) => {
  const bed = new Bed();
  const gone = segmentId('e');
  bed.marked.set(gone, VOLUME);
  const scrubber = bed.scrubber();
  scrubber.start();
  await bed.world.pass(20_000);
  t.same(bed.copies, []);
  t.match(await bed.told(), { rotten: 0 });
  await bed.world.wait(scrubber.stop());
});
