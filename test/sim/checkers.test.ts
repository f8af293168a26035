/**
 * Each checker sees a synthetic violation of its invariant, and lets the same story without it
 * pass.
 */
import { type Test, test } from 'tap';
import { encodeBatch } from '../../src/block/wire/batch.js';
import type { Reply, Request, StatusName } from '../../src/block/wire/messages.js';
import { encodeSegmentHeader } from '../../src/block/wire/segment-header.js';
import { crc32 } from '../../src/core/checksum.js';
import type { Incarnation, NodeId, OwnerId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, offset, revision } from '../../src/core/units.js';
import type { PlannedSegment, SealedSegment, VolumeRecord } from '../../src/metadata/model.js';
import { volumeRecord } from '../fixtures/volume-record.js';
import { Checkers } from './checkers.js';
import { Violation } from './violation.js';

const id = <T>(text: string): T => text.padEnd(32, '0') as T;
const VOLUME = id<VolumeId>('f0');
const DISKS = ['d1', 'd2', 'd3'].map((name) => id<Incarnation>(name));
const PAGE = 4096;

function planned(name: string, createEpoch = 1): PlannedSegment {
  return {
    segment: id<SegmentId>(name),
    group: 0,
    createEpoch: epoch(createEpoch),
    replicas: DISKS.map((incarnation, i) => ({ node: id<NodeId>(`e${i}`), incarnation })),
  };
}

/**
 * A story told to the checkers: three replicas, ack quorum two, segments a (current) and b (spare).
 */
class Story {
  readonly checkers = new Checkers();
  record: VolumeRecord;
  /** Per segment: where the next batch goes, the crc before it, the next LSN. */
  readonly #tails = new Map<string, { offset: number; crc: number; lsn: number }>();
  readonly #crcs = new Map<number, number>();

  constructor() {
    this.record = volumeRecord(VOLUME, {
      epoch: epoch(1),
      owner: { id: id<OwnerId>('aa'), address: 'c0', released: false },
      planned: [planned('a'), planned('b')],
    });
    this.checkers.changed(this.record);
    this.swap({ planned: [], open: [planned('a'), planned('b')] });
    this.header('a', null, 1);
  }

  swap(change: Partial<VolumeRecord>): void {
    this.record = { ...this.record, ...change };
    this.checkers.changed(this.record);
  }

  header(
    name: string,
    previous: { segment: string; end: number; endLsn: number } | null,
    of: number,
  ): void {
    const record = encodeSegmentHeader({
      previous:
        previous === null
          ? null
          : {
              segment: id<SegmentId>(previous.segment),
              end: offset(previous.end),
              endLsn: lsn(previous.endLsn),
            },
      name: 'v',
      kind: 'filesystem',
      sizeBytes: 1 << 30,
      replicas: 3,
      ackQuorum: 2,
      group: 0,
    });
    this.#tails.set(name, { offset: 0, crc: 0, lsn: previous?.endLsn ?? 0 });
    this.#send(name, of, record, true);
  }

  #send(name: string, of: number, record: Uint8Array, segmentHeader: boolean): number {
    const tail = this.#tails.get(name) as { offset: number; crc: number; lsn: number };
    const batch = encodeBatch(
      {
        volume: VOLUME,
        segment: id<SegmentId>(name),
        epoch: epoch(of),
        offset: offset(tail.offset),
        firstLsn: lsn(tail.lsn),
        commitOffset: offset(0),
        prevCrc: tail.crc,
        segmentHeader,
      },
      [{ record, pages: [] }],
    );
    this.checkers.sent({
      type: 'append',
      incarnation: DISKS[0] as Incarnation,
      segment: id<SegmentId>(name),
      epoch: epoch(of),
      offset: offset(tail.offset),
      batch: batch.parts,
    });
    const at = tail.offset;
    tail.offset += batch.segmentBytes;
    tail.crc = batch.header.headerCrc;
    if (!segmentHeader) tail.lsn += 1;
    return at;
  }

  /** Sends one record; returns its LSN. */
  append(name: string, text: string, of = 1): number {
    const record = Buffer.from(text);
    const at = this.#tails.get(name)?.lsn ?? 0;
    this.#send(name, of, record, false);
    this.#crcs.set(at, crc32(record));
    return at;
  }

  end(name: string): number {
    return this.#tails.get(name)?.offset ?? 0;
  }

  crc(name: string): number {
    return this.#tails.get(name)?.crc ?? 0;
  }

  reply(
    disk: number,
    request: Partial<Request> & { type: Request['type'] },
    length: number,
    more: Partial<Reply> = {},
  ): void {
    const incarnation = DISKS[disk] as Incarnation;
    this.checkers.replied(
      {
        segment: id<SegmentId>('a'),
        epoch: epoch(1),
        volume: VOLUME,
        incarnation,
        ...request,
      } as Request,
      {
        status: 'OK' as StatusName,
        incarnation,
        durableLength: offset(length),
        maxEpoch: epoch(0),
        body: null,
        ...more,
      },
    );
  }

  durable(name: string, disks: readonly number[], length = this.end(name), of = 1): void {
    for (const disk of disks) {
      const segment = id<SegmentId>(name);
      this.reply(disk, { type: 'append', segment, epoch: epoch(of) }, length);
    }
  }

  fence(name: string, disk: number, of: number, length: number, suspect: number | null = null) {
    const segment = id<SegmentId>(name);
    this.reply(disk, { type: 'fence', segment, epoch: epoch(of) }, length, {
      maxEpoch: epoch(of),
      body: {
        type: 'fence',
        suspectFrom: suspect === null ? null : offset(suspect),
        firstBatch: null,
        sealed: false,
      },
    });
  }

  ack(name: string, at: number, of = 1, crc = this.#crcs.get(at) ?? 0, now = 100): void {
    this.checkers.acknowledged(
      VOLUME,
      of,
      crc,
      { lsn: lsn(at), segment: id<SegmentId>(name), firstPage: 0 },
      now,
    );
  }

  sealed(name: string, end: number, endLsn: number, crc = this.crc(name)): SealedSegment {
    return { ...planned(name), end: offset(end), endLsn: lsn(endLsn), crc };
  }

  claim(of: number): void {
    this.swap({ epoch: epoch(of), planned: [planned('c', of), planned('d', of)] });
  }

  /** A takeover's last swap: a ends here, b is abandoned. */
  takeOver(end: number, endLsn: number, crc?: number): void {
    this.swap({
      planned: [],
      open: this.record.planned,
      sealed: [this.sealed('a', end, endLsn, crc)],
      pendingDelete: [planned('b')],
    });
  }
}

function breaks(t: Test, invariant: number, story: () => void): void {
  try {
    story();
  } catch (thrown) {
    if (!(thrown instanceof Violation)) throw thrown;
    t.equal(thrown.invariant, invariant, thrown.message);
    return;
  }
  t.fail(`invariant ${invariant} is not seen to be broken`);
}

/** A record was appended, became durable on two replicas and was acknowledged. */
function acked(): { story: Story; first: number } {
  const story = new Story();
  const first = story.append('a', 'one');
  story.durable('a', [0, 1]);
  story.ack('a', first);
  return { story, first };
}

test('a whole life passes: append, roll, take over, read, replay', async (t) => {
  const { story } = acked();
  const x = story.end('a');
  story.header('b', { segment: 'a', end: x, endLsn: 1 }, 1);
  const second = story.append('b', 'two');
  story.durable('b', [1, 2]);
  story.ack('b', second);
  story.swap({ open: [planned('b')], sealed: [story.sealed('a', x, 1)] });
  story.checkers.read(VOLUME, 1, 200);
  story.claim(2);
  for (const disk of [1, 2]) story.fence('b', disk, 2, story.end('b'));
  story.swap({
    planned: [],
    open: story.record.planned,
    sealed: [...story.record.sealed, story.sealed('b', story.end('b'), 2)],
  });
  t.equal(story.checkers.volumes.ackedCount(VOLUME), 2);
  t.equal(story.checkers.violation, null);
});

test('1: an acknowledged LSN is lost, changed, repeated or was never sent', async (t) => {
  breaks(t, 5, () => {
    const { story } = acked();
    story.claim(2);
    story.fence('a', 1, 2, story.end('a'));
    story.fence('a', 2, 2, PAGE);
    for (const disk of [0, 2]) story.fence('b', disk, 2, 0);
    story.takeOver(PAGE, 0, 1);
  });
  breaks(t, 1, () => acked().story.ack('a', 0));
  breaks(t, 1, () => {
    const { story } = acked();
    story.ack('a', 1);
  });
  breaks(t, 1, () => {
    const story = new Story();
    story.append('a', 'one');
    story.durable('a', [0, 1]);
    story.ack('a', 0, 1, 12345);
  });
  breaks(t, 1, () => {
    const { story } = acked();
    story.swap({ open: [planned('b')], pendingDelete: [planned('a')] });
  });
});

test('2: a sealed end where no batch ends, or another chain', async (t) => {
  breaks(t, 2, () => {
    const { story } = acked();
    story.durable('a', [0, 1], story.end('a') + PAGE);
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', story.end('a') + PAGE, 1)] });
  });
  breaks(t, 2, () => {
    const { story } = acked();
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', story.end('a'), 1, 77)] });
  });
  breaks(t, 2, () => {
    const { story } = acked();
    const x = story.end('a');
    story.header('b', { segment: 'a', end: PAGE, endLsn: 1 }, 1);
    story.durable('b', [0, 1]);
    story.swap({
      open: [],
      sealed: [story.sealed('a', x, 1), story.sealed('b', story.end('b'), 1)],
    });
  });
});

test('3: two contents for one offset, or a hole between batches', async (t) => {
  breaks(t, 3, () => {
    const story = new Story();
    const other = new Story();
    story.append('a', 'one');
    other.append('a', 'two');
    const batch = encodeBatch(
      {
        volume: VOLUME,
        segment: id<SegmentId>('a'),
        epoch: epoch(1),
        offset: offset(PAGE),
        firstLsn: lsn(0),
        commitOffset: offset(0),
        prevCrc: 0,
      },
      [{ record: Buffer.from('two'), pages: [] }],
    );
    story.checkers.segments.sent(batch.parts[0] as Uint8Array);
  });
  breaks(t, 3, () => {
    const story = new Story();
    const batch = encodeBatch(
      {
        volume: VOLUME,
        segment: id<SegmentId>('a'),
        epoch: epoch(1),
        offset: offset(PAGE * 3),
        firstLsn: lsn(0),
        commitOffset: offset(0),
        prevCrc: story.crc('a'),
      },
      [{ record: Buffer.from('x'), pages: [] }],
    );
    story.checkers.segments.sent(batch.parts[0] as Uint8Array);
  });
});

test('4: a seal that too few replicas hold', async (t) => {
  breaks(t, 4, () => {
    const story = new Story();
    story.append('a', 'one');
    story.durable('a', [0]);
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', story.end('a'), 1)] });
  });
});

test('5: a sealed end changes, or lies below an acknowledgement', async (t) => {
  breaks(t, 5, () => {
    const { story } = acked();
    const end = story.end('a');
    story.append('a', 'more');
    story.durable('a', [0, 1, 2]);
    const crc = story.checkers.segments.endingAt(id<SegmentId>('a'), end)?.crc ?? 0;
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', end, 1, crc)] });
    story.swap({ sealed: [story.sealed('a', story.end('a'), 2)] });
  });
  breaks(t, 5, () => {
    const story = new Story();
    const end = story.end('a');
    const crc = story.crc('a');
    const first = story.append('a', 'one');
    story.durable('a', [0, 1]);
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', end, 0, crc)] });
    story.ack('a', first);
  });
  breaks(t, 5, () => {
    const { story } = acked();
    const seal = { type: 'seal' as const, end: offset(PAGE), crc: 1 };
    story.reply(0, seal, PAGE);
  });
});

test('6: an epoch falls, in a reply, after a restart, or in an acknowledgement', async (t) => {
  breaks(t, 6, () => {
    const { story } = acked();
    story.fence('a', 0, 2, story.end('a'));
    story.durable('a', [0]);
  });
  breaks(t, 6, () => {
    const { story } = acked();
    story.fence('a', 0, 3, story.end('a'));
    story.reply(0, { type: 'ping', epoch: epoch(3) }, story.end('a'), { maxEpoch: epoch(2) });
  });
  breaks(t, 6, () => {
    const { story } = acked();
    story.fence('a', 0, 2, story.end('a'));
    story.checkers.reopened(DISKS[0] as Incarnation, [inspection('a', story.end('a'), 1)]);
  });
});

function inspection(name: string, length: number, maxEpoch: number, suspect: number | null = null) {
  return {
    segment: id<SegmentId>(name),
    createEpoch: epoch(1),
    maxEpoch: epoch(maxEpoch),
    durableLength: offset(length),
    acceptedLength: offset(length),
    sealedEnd: null,
    suspectFrom: suspect === null ? null : offset(suspect),
    deleted: false,
    hasCreate: true,
  };
}

test('7: a quorum grows beyond the longest of R valid fences', async (t) => {
  breaks(t, 7, () => {
    const { story } = acked();
    const end = story.end('a');
    story.fence('a', 1, 2, end);
    story.append('a', 'two');
    // Two disks answer late for what a fence had already cut: each alone is legal before its own
    // fence.
    story.durable('a', [0, 2]);
    story.fence('a', 2, 2, end + PAGE);
    story.checkers.replicas.replied(
      {
        type: 'fence',
        segment: id<SegmentId>('a'),
        epoch: epoch(2),
        incarnation: DISKS[0],
      } as Request as never,
      {
        status: 'OK',
        incarnation: DISKS[0] as Incarnation,
        durableLength: offset(end + PAGE),
        maxEpoch: epoch(2),
        body: { type: 'fence', suspectFrom: null, firstBatch: null, sealed: false },
      },
    );
    // Fences say end + 1 page; now two disks that were not asked again claim more, below the epoch.
    const ghosts = story.checkers.replicas;
    for (const disk of [0, 1]) {
      const claim = ghosts.claim(DISKS[disk] as Incarnation, id<SegmentId>('a'));
      if (claim !== null) claim.maxEpoch = 1;
    }
    story.durable('a', [0, 1], end + 2 * PAGE);
  });
});

test('8: acknowledged in an unregistered or frozen segment', async (t) => {
  breaks(t, 8, () => {
    const story = new Story();
    story.header('e', null, 1);
    story.append('e', 'one');
    story.durable('e', [0, 1]);
    story.ack('e', 0);
  });
  breaks(t, 8, () => {
    const story = new Story();
    const frozen = story.end('a');
    const first = story.append('a', 'one');
    story.header('b', { segment: 'a', end: frozen, endLsn: 0 }, 1);
    story.durable('a', [0, 1]);
    story.ack('a', first);
  });
});

test('9: records move only by the rules', async (t) => {
  breaks(t, 9, () => new Story().swap({ open: [planned('a'), planned('b'), planned('c')] }));
  breaks(t, 9, () => new Story().swap({ open: [planned('a')] }));
  breaks(t, 9, () => new Story().swap({ open: [planned('a'), planned('x')] }));
  breaks(t, 9, () => {
    const changed = { ...planned('a'), replicas: planned('a').replicas.slice(1) };
    new Story().swap({ open: [changed, planned('b')] });
  });
  breaks(t, 9, () => {
    const { story } = acked();
    story.swap({ open: [planned('b')], sealed: [story.sealed('a', story.end('a'), 1)] });
    story.swap({ open: [planned('b'), planned('a')], sealed: [] });
  });
});

test('10: a takeover decides on too few valid fences, or not on the maximum', async (t) => {
  breaks(t, 10, () => {
    const { story } = acked();
    story.claim(2);
    story.fence('a', 0, 2, story.end('a'));
    for (const disk of [0, 1]) story.fence('b', disk, 2, 0);
    story.takeOver(story.end('a'), 1);
  });
  breaks(t, 10, () => {
    const { story } = acked();
    story.claim(2);
    story.fence('a', 0, 2, story.end('a'));
    story.fence('a', 1, 2, story.end('a'), story.end('a'));
    for (const disk of [0, 1]) story.fence('b', disk, 2, 0);
    story.takeOver(story.end('a'), 1);
  });
  breaks(t, 10, () => {
    const { story } = acked();
    const end = story.end('a');
    const crc = story.crc('a');
    story.append('a', 'two');
    story.durable('a', [0]);
    story.claim(2);
    story.fence('a', 0, 2, story.end('a'));
    story.fence('a', 1, 2, end);
    for (const disk of [0, 1]) story.fence('b', disk, 2, 0);
    story.takeOver(end, 1, crc);
  });
  breaks(t, 10, () => {
    const { story } = acked();
    story.claim(2);
    for (const disk of [0, 1]) story.fence('a', disk, 2, story.end('a'));
    story.fence('b', 0, 2, PAGE);
    story.fence('b', 1, 2, 0);
    story.takeOver(story.end('a'), 1);
  });
});

test('11: a length is taken back, lost by a restart, or acked after a failed flush', async (t) => {
  breaks(t, 11, () => {
    const { story } = acked();
    story.reply(0, { type: 'ping' }, PAGE);
  });
  breaks(t, 11, () => {
    const { story } = acked();
    story.checkers.reopened(DISKS[0] as Incarnation, [inspection('a', PAGE, 1)]);
  });
  breaks(t, 11, () => {
    acked().story.checkers.reopened(DISKS[0] as Incarnation, []);
  });
  breaks(t, 11, () => {
    const { story } = acked();
    story.checkers.replicas.flushFailed(DISKS[0] as Incarnation);
    story.durable('a', [0]);
  });
  breaks(t, 11, () => {
    const story = new Story();
    story.append('a', 'one');
    story.durable('a', [0]);
    story.ack('a', 0);
  });
  const { story } = acked();
  story.checkers.replicas.damaged(DISKS[0] as Incarnation);
  story.checkers.reopened(DISKS[0] as Incarnation, [inspection('a', PAGE, 1, PAGE)]);
  t.pass('damage that is said to be suspect is no lie');
});

test('12: a read that began after a newer owner acknowledged', async (t) => {
  const { story } = acked();
  story.claim(2);
  for (const disk of [0, 1]) story.fence('a', disk, 2, story.end('a'));
  for (const disk of [0, 1]) story.fence('b', disk, 2, 0);
  story.takeOver(story.end('a'), 1);
  story.header('c', { segment: 'a', end: story.end('a'), endLsn: 1 }, 2);
  const second = story.append('c', 'two', 2);
  story.durable('c', [0, 1], story.end('c'), 2);
  story.ack('c', second, 2, undefined, 500);
  story.checkers.read(VOLUME, 1, 499);
  story.checkers.read(VOLUME, 2, 501);
  breaks(t, 12, () => story.checkers.read(VOLUME, 1, 501));
});

test('13: a segment is deleted that the record still holds', async (t) => {
  const remove = { type: 'delete' as const, revision: revision(1) };
  breaks(t, 13, () => acked().story.reply(0, remove, 0));
  const { story } = acked();
  story.swap({ open: [planned('a')], pendingDelete: [planned('b')] });
  story.reply(0, { ...remove, segment: id<SegmentId>('b') }, 0);
});

test('14 and 15: a replay with a gap, other bytes, or an early end', async (t) => {
  const replay = (at: number, text: string) => ({
    lsn: lsn(at),
    record: Buffer.from(text),
    segment: id<SegmentId>('a'),
    firstPage: 0,
    pageCount: 0,
  });
  acked().story.checkers.replayed(VOLUME, 0, replay(0, 'one'));
  breaks(t, 14, () => acked().story.checkers.replayed(VOLUME, 0, replay(1, 'one')));
  breaks(t, 15, () => acked().story.checkers.replayed(VOLUME, 0, replay(0, 'other')));
  breaks(t, 15, () => acked().story.checkers.replayEnded(0, 1));
});

test('what a checker throws is remembered, since product code may catch it', async (t) => {
  const { story } = acked();
  t.throws(() => story.ack('a', 0));
  t.equal(story.checkers.violation?.invariant, 1);
});
