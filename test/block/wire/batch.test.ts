/** The batch format: golden bytes, what each checksum covers, and any mutation being noticed. */
import fc from 'fast-check';
import t from 'tap';
import * as batch from '../../../src/block/wire/batch.js';
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  type SegmentHeader,
} from '../../../src/block/wire/segment-header.js';
import { AssertionFailure } from '../../../src/core/assert.js';
import { HoldfastError } from '../../../src/core/errors.js';
import type { SegmentId, VolumeId } from '../../../src/core/ids.js';
import { BATCH_MAX_BYTES } from '../../../src/core/limits.js';
import { epoch, lsn, offset, PAGE_BYTES } from '../../../src/core/units.js';

const identity: batch.BatchIdentity = {
  volume: '0f0e0d0c0b0a09080706050403020100' as VolumeId,
  segment: '000102030405060708090a0b0c0d0e0f' as SegmentId,
  epoch: epoch(3),
  offset: offset(8192),
  firstLsn: lsn(41),
  commitOffset: offset(4096),
  prevCrc: 0xdeadbeef,
};

function page(fill: number, count = 1): Buffer {
  return Buffer.alloc(PAGE_BYTES * count, fill);
}

function wire(encoded: batch.EncodedBatch): Buffer {
  return Buffer.concat(encoded.parts);
}

/** The batch as it stands in a segment: padding between head and pages. */
function inSegment(encoded: batch.EncodedBatch): Buffer {
  const [head, ...pages] = encoded.parts;
  const padded = Buffer.alloc(batch.pagesStart(encoded.header));
  padded.set(head ?? Buffer.alloc(0));
  return Buffer.concat([padded, ...pages]);
}

const sample = (): batch.EncodedBatch =>
  batch.encodeBatch(identity, [
    { record: Buffer.from('first'), pages: [page(1), page(2, 2)] },
    { record: Buffer.from(''), pages: [] },
    { record: Buffer.from('third'), pages: [page(3)] },
  ]);

t.test('golden bytes: the head of a batch', async (t) => {
  const bytes = wire(sample());
  t.matchOnly(bytes.subarray(0, 64).toString('hex'), /^48464231010000000f0e0d0c0b0a0908/);
  t.equal(
    bytes.subarray(0, 128 + 3 * 8 + 10 + 16).toString('hex'),
    '48464231010000000f0e0d0c0b0a09080706050403020100000102030405060708090a0b0c0d0e0f' +
      '03000000000000000020000000000000290000000000000003000000040000000010000000000000' +
      'efbeadde32000000ee076f5200000000000000000000000000000000000000000000000000000000' +
      '0000000088f6b2620500000003000000666972737400000000000000000500000001000000746869' +
      '7264b07913ca87ddc280135cd07ed93c535a',
    'see docs/FORMATS.md',
  );
});

t.test('sizes and places agree between encoder, wire and segment', async (t) => {
  const encoded = sample();
  t.equal(wire(encoded).length, encoded.wireBytes);
  t.equal(inSegment(encoded).length, encoded.segmentBytes);
  t.same(encoded.entryPages, [3, 6, 6]);
  const header = batch.decodeWireBatch(wire(encoded));
  t.same(header, encoded.header);
  t.same(batch.decodeSegmentBatch(inSegment(encoded)), encoded.header);
  const entries = batch.decodeEntries(header, wire(encoded));
  t.same(
    entries.map((entry) => [entry.record.toString(), entry.firstPage, entry.pageCount]),
    [
      ['first', 3, 3],
      ['', 6, 0],
      ['third', 6, 1],
    ],
  );
  t.equal(batch.pageChecksums(header, wire(encoded)).length, 4);
});

t.test('every flipped bit of a batch is noticed, on the wire and in a segment', async (t) => {
  const wireBytes = wire(sample());
  const segmentBytes = inSegment(sample());
  const flip = (bytes: Buffer, decode: (bytes: Buffer) => unknown) =>
    fc.property(fc.nat(bytes.length - 1), fc.nat(7), (at, bit) => {
      const copy = Buffer.from(bytes);
      copy[at] = (copy[at] ?? 0) ^ (1 << bit);
      try {
        decode(copy);
      } catch (error) {
        return error instanceof HoldfastError && error.code === 'MALFORMED';
      }
      return false;
    });
  fc.assert(
    flip(wireBytes, (bytes) => batch.decodeWireBatch(bytes)),
    { numRuns: 500 },
  );
  fc.assert(
    flip(segmentBytes, (bytes) => batch.decodeSegmentBatch(bytes)),
    { numRuns: 500 },
  );
  t.pass('all were typed errors');
});

t.test('padding is zero from its first byte to its last', async (t) => {
  const { header, parts } = sample();
  const bytes = inSegment(sample());
  const start = batch.pagesStart(header);
  const malformed = { code: 'MALFORMED', message: /padding/ };
  for (const at of [parts[0]?.length ?? 0, start - 2, start - 1]) {
    const bad = Buffer.from(bytes);
    bad[at] = 1;
    t.throws(() => batch.decodeSegmentBatch(bad), malformed, `byte ${at}`);
    t.throws(() => batch.verifyHead(header, bad.subarray(0, start)), malformed, `byte ${at}`);
  }
  t.doesNotThrow(() => batch.verifyHead(header, bytes.subarray(0, start)));
});

t.test('any cut of a batch is MALFORMED', async (t) => {
  const bytes = wire(sample());
  for (const length of [0, 1, 127, 128, 150, bytes.length - 1]) {
    t.throws(() => batch.decodeWireBatch(bytes.subarray(0, length)), { code: 'MALFORMED' });
  }
});

t.test('a newer format is VERSION, with what to do', async (t) => {
  const bytes = wire(sample());
  bytes.writeUInt16LE(2, 4);
  const { crc32 } = await import('../../../src/core/checksum.js');
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
  t.throws(() => batch.decodeBatchHeader(bytes), { code: 'VERSION', hint: /newer/ });
});

t.test('what may not be encoded is a bug, not a fault', async (t) => {
  const entry = { record: Buffer.from('x'), pages: [] };
  const off = { ...identity, offset: offset(100) };
  t.throws(() => batch.encodeBatch(off, [entry]), AssertionFailure);
  t.throws(() => batch.encodeBatch(identity, []), AssertionFailure);
  t.throws(
    () => batch.encodeBatch(identity, [{ record: entry.record, pages: [Buffer.alloc(100)] }]),
    AssertionFailure,
  );
  const huge = { record: entry.record, pages: [Buffer.alloc(BATCH_MAX_BYTES)] };
  t.throws(() => batch.encodeBatch(identity, [huge]), AssertionFailure);
});

t.test('a segment header survives, in the first batch and only there', async (t) => {
  const header: SegmentHeader = {
    previous: { segment: identity.segment, end: offset(4096), endLsn: lsn(9) },
    name: 'db',
    kind: 'filesystem',
    sizeBytes: 1 << 30,
    replicas: 3,
    ackQuorum: 2,
    group: 17,
  };
  const record = encodeSegmentHeader(header);
  t.same(decodeSegmentHeader(record), header);
  t.same(decodeSegmentHeader(encodeSegmentHeader({ ...header, previous: null })).previous, null);
  const first = { ...identity, offset: offset(0), segmentHeader: true };
  const encoded = batch.encodeBatch(first, [{ record, pages: [] }]);
  t.match(batch.decodeWireBatch(wire(encoded)), { count: 0, flags: batch.FLAG_SEGMENT_HEADER });
  t.equal(batch.decodeEntries(encoded.header, wire(encoded)).length, 1);
  for (let length = 0; length < record.length; length++) {
    t.throws(() => decodeSegmentHeader(record.subarray(0, length)), HoldfastError);
  }
});
