/** The walk over a segment's batches: what continues the log, and what only looks like it. */
import t from 'tap';
import { type BatchIdentity, encodeBatch } from '../../src/block/wire/batch.js';
import type { SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { OpenSegment } from '../../src/metadata/model.js';
import { ChainScan } from '../../src/replication/chain.js';

const VOLUME = 'e'.repeat(32) as VolumeId;
const A: OpenSegment = {
  segment: 'a'.repeat(32) as SegmentId,
  group: 0,
  createEpoch: epoch(4),
  replicas: [],
};

/** One page: a batch of one record, as it stands in the segment. */
function batch(identity: Partial<BatchIdentity>): { page: Buffer; crc: number } {
  const encoded = encodeBatch(
    {
      volume: VOLUME,
      segment: A.segment,
      epoch: epoch(4),
      offset: offset(0),
      firstLsn: lsn(10),
      commitOffset: offset(0),
      prevCrc: 0,
      segmentHeader: identity.offset === undefined,
      ...identity,
    },
    [{ record: Buffer.from('x'), pages: [] }],
  );
  const page = Buffer.alloc(PAGE_BYTES);
  page.set(encoded.parts[0] as Uint8Array);
  return { page, crc: encoded.header.headerCrc };
}

const first = batch({});
const next = { offset: offset(PAGE_BYTES), prevCrc: first.crc };

t.test('walks batches in pieces of any size', (t) => {
  const second = batch(next);
  const all = Buffer.concat([first.page, second.page]);
  const scan = new ChainScan(VOLUME, A, lsn(10));
  t.match(scan.feed(all.subarray(0, PAGE_BYTES)), { start: 0, end: PAGE_BYTES });
  t.equal(scan.feed(all.subarray(PAGE_BYTES, PAGE_BYTES + 100)).end, PAGE_BYTES, 'not whole yet');
  t.equal(scan.fedTo, PAGE_BYTES + 100);
  const piece = scan.feed(all.subarray(PAGE_BYTES + 100));
  t.same(piece.boundaries, [PAGE_BYTES, 2 * PAGE_BYTES]);
  t.equal(scan.lsn, 11, 'the header has no LSN of its own');
  t.equal(scan.crc, second.crc);
  t.end();
});

t.test('refuses what does not continue the chain', (t) => {
  const cases: [string, Partial<BatchIdentity>][] = [
    ['another chain', { ...next, prevCrc: (first.crc ^ 1) >>> 0 }],
    ['another place', { ...next, offset: offset(2 * PAGE_BYTES) }],
    ['another segment', { ...next, segment: 'b'.repeat(32) as SegmentId }],
    ['another volume', { ...next, volume: 'b'.repeat(32) as VolumeId }],
    ['another epoch', { ...next, epoch: epoch(5) }],
    ['a hole in the LSNs', { ...next, firstLsn: lsn(11) }],
  ];
  for (const [title, identity] of cases) {
    const scan = new ChainScan(VOLUME, A, null);
    scan.feed(first.page);
    t.throws(() => scan.feed(batch(identity).page), { code: 'MALFORMED' }, title);
  }
  t.throws(() => new ChainScan(VOLUME, A, lsn(9)).feed(first.page), { code: 'MALFORMED' });
  t.end();
});
