/**
 * Formats on disk: golden bytes, round trips, and decoders that take any bytes with typed errors
 * only.
 */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'tap';
import { decodeSumsPage, encodeSumsPage, SUMS_PER_PAGE } from '../../src/block/checksum-table.js';
import { decodeIndex, encodeIndex, type IndexEntry } from '../../src/block/index-snapshot.js';
import {
  decodeEntries,
  ENTRY_HEADER_BYTES,
  type Entry,
  EntryType,
  encodeEntry,
  GROUP_HEADER_BYTES,
  readGroupHeader,
  writeEntryHeader,
  writeGroupHeader,
} from '../../src/block/journal-format.js';
import {
  chooseSuperblock,
  decodeSuperblock,
  encodeSuperblock,
} from '../../src/block/superblock.js';
import { crc32 } from '../../src/core/checksum.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation } from '../../src/core/ids.js';
import { epoch, MIB, offset, PAGE_BYTES } from '../../src/core/units.js';
import { CLUSTER, NODE, seg, VOLUME } from './store-rig.js';

const incarnation = 'e1'.repeat(16) as Incarnation;
const digest = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex').slice(0, 16);

const block = {
  ...{ format: 1, cluster: CLUSTER, node: NODE, incarnation, journalBytes: 8 * MIB },
  forming: false,
};
const entries: Exclude<Entry, { type: 'batch' }>[] = [
  { type: 'create', segment: seg(1), volume: VOLUME, epoch: epoch(1), copy: true },
  { type: 'fence', segment: seg(2), volume: VOLUME, epoch: epoch(2 ** 40) },
  { type: 'seal', segment: seg(3), end: offset(8192), crc: 0xffffffff },
  { type: 'length', segment: seg(4), end: offset(2 ** 40), crc: 0 },
  { type: 'delete', segment: seg(5), volume: VOLUME },
  { type: 'drop', segment: seg(6), volume: VOLUME },
];
const index: IndexEntry = {
  ...{ id: seg(1), volume: VOLUME, createEpoch: epoch(1), maxEpoch: epoch(2) },
  ...{
    durableLength: offset(8192),
    durableCrc: 5,
    hasCreate: true,
    sealed: false,
    suspect: true,
    deleted: false,
    dropped: false,
  },
};

const start = { incarnation, lap: 3, sequence: 78, amnesia: true };

function indexBytes(entries: IndexEntry[]): Buffer {
  return Buffer.concat(encodeIndex(start, entries));
}

function group(): { bytes: Buffer; body: Buffer } {
  const parts = entries.map((entry) => {
    const payload = encodeEntry(entry);
    const head = Buffer.alloc(ENTRY_HEADER_BYTES);
    writeEntryHeader(head, 0, EntryType[entry.type], entry.segment, payload.length);
    return Buffer.concat([head, payload]);
  });
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(GROUP_HEADER_BYTES);
  writeGroupHeader(head, incarnation, 8192, {
    ...{ lap: 3, sequence: 77, flushedSequence: 76, length: body.length },
    ...{ entries: entries.length, bodyCrc: crc32(body) },
  });
  return { bytes: Buffer.concat([head, body]), body };
}

test('the bytes of each format never change by accident', async (t) => {
  const sums = Uint32Array.from({ length: 2000 }, (_, i) => i * 7919);
  t.equal(digest(encodeSuperblock(block)), '750eb543e989e80b');
  t.equal(digest(group().bytes), '219583b160c14f03');
  t.equal(digest(indexBytes([index])), '68de1205cc00ab64');
  t.equal(digest(encodeSumsPage(seg(1), 1, sums)), '9ad64667a2b72b0f');
});

test('what is written is read', async (t) => {
  t.same(decodeSuperblock(encodeSuperblock(block)), block);
  const { bytes, body } = group();
  const header = readGroupHeader(bytes, 0, incarnation, 8192);
  t.match(header, { lap: 3, sequence: 77, flushedSequence: 76 });
  if (header !== null) t.same(decodeEntries(header, body), entries);
  t.equal(readGroupHeader(bytes, 0, incarnation, 4096), null, 'bound to its position');
  t.equal(
    readGroupHeader(bytes, 0, seg(9) as string as Incarnation, 8192),
    null,
    'and to its life',
  );
  t.same(decodeIndex(indexBytes([index])), { ...start, entries: [index] });
  const sums = Uint32Array.from({ length: 2000 }, (_, i) => i * 7919);
  const back = new Uint32Array(2000);
  for (const page of [0, 1]) decodeSumsPage(seg(1), page, encodeSumsPage(seg(1), page, sums), back);
  t.same(back, sums);
  t.throws(() => decodeSumsPage(seg(1), 0, encodeSumsPage(seg(1), 1, sums), back), {
    code: 'MALFORMED',
  });
  t.equal(decodeSumsPage(seg(1), 1, encodeSumsPage(seg(1), 1, sums), back), 2000 - SUMS_PER_PAGE);
});

test('of two copies of a superblock the newer format counts, and none that is not known', (t) => {
  const copies = (...formats: number[]): Buffer[] =>
    formats.map((format) => encodeSuperblock({ ...block, format }));
  for (const [pair, format, damaged] of [
    [copies(1, 1), 1, false],
    [copies(2, 1), 2, true],
    [copies(1, 2), 2, true],
    [copies(2, 2), 2, false],
  ] as const) {
    t.match(chooseSuperblock(pair), { block: { format }, damaged });
  }
  for (const pair of [copies(3, 3), copies(3, 2), copies(1, 3), copies(0, 0)]) {
    t.throws(() => chooseSuperblock(pair), { code: 'VERSION', message: /disk format [03],/ });
  }
  t.end();
});

/** Any bytes, and good bytes with a few of them changed and perhaps cut. */
function damaged(good: Buffer): fc.Arbitrary<Buffer> {
  const changed = fc
    .tuple(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(good.length),
    )
    .map(([changes, cut]) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      return cut % 3 === 0 ? bytes.subarray(0, cut) : bytes;
    });
  const any = fc.uint8Array({ maxLength: 9000 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof(changed, any);
}

function onlyFaults(decode: (bytes: Buffer) => unknown): (bytes: Buffer) => void {
  return (bytes) => {
    try {
      decode(bytes);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
    }
  };
}

const copiesOf = (bytes: Buffer): unknown =>
  chooseSuperblock([bytes.subarray(0, PAGE_BYTES), bytes.subarray(PAGE_BYTES)]);

test('no bytes make a decoder do worse than a typed error', async () => {
  const page = encodeSuperblock(block);
  const twice = Buffer.concat([page, page]);
  fc.assert(fc.property(damaged(twice), onlyFaults(copiesOf)));
  fc.assert(fc.property(damaged(indexBytes([index, index])), onlyFaults(decodeIndex)));
  const { bytes, body } = group();
  const header = onlyFaults((b) => readGroupHeader(b, 0, incarnation, 8192));
  fc.assert(fc.property(damaged(bytes), header));
  const decode = (b: Buffer): unknown =>
    decodeEntries(
      {
        ...{ lap: 3, sequence: 77, flushedSequence: 76, length: b.length },
        ...{ entries: entries.length, bodyCrc: crc32(b) },
      },
      b,
    );
  fc.assert(fc.property(damaged(body), onlyFaults(decode)));
  const sums = new Uint32Array(10);
  const sidecar = encodeSumsPage(seg(1), 0, sums).subarray(0, PAGE_BYTES);
  const read = onlyFaults((b) => decodeSumsPage(seg(1), 0, b, sums));
  fc.assert(fc.property(damaged(sidecar), read));
});
