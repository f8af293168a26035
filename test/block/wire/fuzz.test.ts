/**
 * No bytes, however made, get more out of a decoder than a value or a typed error, and none makes
 * it allocate by a length that it has not compared with what is there.
 */
import fc from 'fast-check';
import { test } from 'tap';
import {
  decodeBatchHeader,
  decodeEntries,
  decodeSegmentBatch,
  decodeWireBatch,
  encodeBatch,
} from '../../../src/block/wire/batch.js';
import type { EncodedFrame } from '../../../src/block/wire/frame-parts.js';
import {
  HANDSHAKE_MAGIC,
  HandshakeClient,
  HandshakeServer,
} from '../../../src/block/wire/handshake.js';
import { decodeReply, encodeReply } from '../../../src/block/wire/reply-frames.js';
import { decodeRequest, encodeRequest } from '../../../src/block/wire/request-frames.js';
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
} from '../../../src/block/wire/segment-header.js';
import { crc32 } from '../../../src/core/checksum.js';
import { HoldfastError } from '../../../src/core/errors.js';
import type { ClusterId, NodeId, SegmentId, VolumeId } from '../../../src/core/ids.js';
import { epoch, lsn, offset } from '../../../src/core/units.js';
import { FrameReader } from '../../../src/io/node/tcp-frames.js';
import { REPLIES, REQUESTS } from './samples.js';

const RUNS = { numRuns: 2_000 };
/** More than any decoder may allocate for the small inputs used here. */
const MEMORY_MAX_BYTES = 64 * 1024 * 1024;

const join = (frame: EncodedFrame): Buffer => Buffer.concat(frame.parts);
const requests = Object.values(REQUESTS).map((request) => join(encodeRequest(5, request)));
const replies = Object.values(REPLIES).map((reply) => join(encodeReply(5, reply)));

const segment = 'b'.repeat(32) as SegmentId;
const batches = [offset(4096), offset(0)].map((at) => {
  const isHeader = at === 0;
  const identity = {
    volume: 'c'.repeat(32) as VolumeId,
    segment,
    epoch: epoch(3),
    offset: at,
    firstLsn: lsn(9),
    commitOffset: offset(0),
    prevCrc: 1,
    segmentHeader: isHeader,
  };
  const entries = [
    { record: Buffer.from('a record'), pages: isHeader ? [] : [Buffer.alloc(4096)] },
  ];
  return Buffer.concat(encodeBatch(identity, entries).parts);
});
const headers = [
  encodeSegmentHeader({
    previous: { segment, end: offset(4096), endLsn: lsn(1) },
    name: 'a volume',
    kind: 'block',
    sizeBytes: 1,
    replicas: 3,
    ackQuorum: 2,
    group: 5,
  }),
];

/** Bytes of every kind: random, valid with some bytes changed, cut short, or made longer. */
function mangled(valid: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const change = fc.record({
    at: fc.nat(10_000),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 127, 128, 255)),
  });
  const changed = fc
    .tuple(fc.constantFrom(...valid), fc.array(change, { maxLength: 8 }))
    .map(([bytes, changes]) => {
      const copy = Buffer.from(bytes);
      // Mostly near the start, where the lengths are.
      for (const { at, value } of changes) copy[(at % 200) % copy.length] = value;
      return copy;
    });
  const cut = fc
    .tuple(fc.constantFrom(...valid), fc.nat(10_000))
    .map(([bytes, at]) => Buffer.from(bytes.subarray(0, at % (bytes.length + 1))));
  const longer = fc
    .tuple(fc.constantFrom(...valid), fc.uint8Array({ maxLength: 50 }))
    .map((parts) => Buffer.concat(parts));
  const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof(random, cut, longer, { weight: 3, arbitrary: changed });
}

/** Makes the checksum of a frame's control part right, so that the fields behind it are reached. */
function resealed(frame: Buffer): Buffer {
  if (frame.length < 18) return frame;
  const control = Math.min(Math.max(18, frame.readUInt32LE(4)), frame.length);
  frame.writeUInt32LE(control, 4);
  frame.writeUInt32LE(frame.length - control, 8);
  frame.writeUInt32LE(crc32(frame.subarray(4, control)), 0);
  return frame;
}

/** The same for a batch header. */
function resealedBatch(batch: Buffer): Buffer {
  if (batch.length < 128) return batch;
  batch.writeUInt32LE(0x31424648, 0);
  batch.writeUInt16LE(1, 4);
  batch.writeUInt32LE(crc32(batch.subarray(0, 124)), 124);
  return batch;
}

function onlyTypedErrors(decode: (bytes: Buffer) => unknown): (bytes: Buffer) => void {
  return (bytes) => {
    try {
      decode(bytes);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      if (error.code !== 'MALFORMED' && error.code !== 'VERSION') throw error;
    }
  };
}

const decodeBatch = (bytes: Buffer): unknown => decodeEntries(decodeWireBatch(bytes), bytes);
/** Entries of a header whose body was not verified: lengths may lie there too. */
const decodeUnverified = (bytes: Buffer): unknown => {
  const header = decodeBatchHeader(bytes);
  if (bytes.length < 128 + header.bodyLength) return header;
  return decodeEntries(header, bytes);
};

const DECODERS: [string, fc.Arbitrary<Buffer>, (bytes: Buffer) => unknown][] = [
  ['requests', mangled(requests), decodeRequest],
  ['requests with right checksums', mangled(requests).map(resealed), decodeRequest],
  ['replies', mangled(replies), decodeReply],
  ['replies with right checksums', mangled(replies).map(resealed), decodeReply],
  ['batches', mangled(batches), decodeBatch],
  ['batches in segments', mangled(batches), (bytes) => decodeSegmentBatch(bytes)],
  ['batches with right checksums', mangled(batches).map(resealedBatch), decodeBatch],
  ['unverified batches', mangled(batches).map(resealedBatch), decodeUnverified],
  ['segment headers', mangled(headers), decodeSegmentHeader],
];

for (const [name, bytes, decode] of DECODERS) {
  test(`${name}: nothing but values and typed errors`, async () => {
    fc.assert(fc.property(bytes, onlyTypedErrors(decode)), RUNS);
  });
}

test('decoders allocate no more than what is there deserves', async (t) => {
  const sample = DECODERS.flatMap(([, bytes, decode]) =>
    fc.sample(bytes, 300).map((one) => [one, decode] as const),
  );
  const before = process.memoryUsage();
  for (const [bytes, decode] of sample) onlyTypedErrors(decode)(bytes);
  const after = process.memoryUsage();
  t.ok(after.arrayBuffers - before.arrayBuffers < MEMORY_MAX_BYTES);
  t.ok(after.heapTotal - before.heapTotal < MEMORY_MAX_BYTES);
});

const credentials = { cluster: 'c'.repeat(32) as ClusterId, secret: Buffer.from('secret') };
const node = 'd'.repeat(32) as NodeId;
const nonce = Buffer.alloc(32);

test('the handshake bears any frames on both sides', async () => {
  const makeClient = (): HandshakeClient => {
    const role = 'tool' as const;
    return new HandshakeClient({ credentials, role, id: node, expectedNode: null, nonce });
  };
  const makeServer = (): HandshakeServer => {
    return new HandshakeServer({ credentials, node, disks: [], nonce });
  };
  const hello = Buffer.from(makeClient().start());
  const step = makeServer().step(hello);
  const challenge = Buffer.from(step.type === 'continue' ? step.send : []);
  const withMagic = (frame: Buffer): Buffer => {
    if (frame.length >= 4) frame.writeUInt32LE(HANDSHAKE_MAGIC, 0);
    return frame;
  };
  const any = mangled([hello, challenge]);
  const frames = fc.array(fc.oneof(any, any.map(withMagic)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(frames, (sent) => {
      const client = makeClient();
      client.start();
      for (const side of [client, makeServer()]) {
        for (const frame of sent) {
          const { type } = side.step(frame);
          if (type === 'done') throw new Error('let in without a proof');
          if (type === 'failed') break;
        }
      }
    }),
    RUNS,
  );
});

test('frames come out of a TCP stream whole, however it is cut', async () => {
  const large = fc
    .tuple(fc.integer({ min: 30_000, max: 100_000 }), fc.nat(255))
    .map(([length, first]) => Uint8Array.from({ length }, (_, at) => first + at + (at >> 8)));
  const small = fc.uint8Array({ maxLength: 2_000 });
  const cut = fc.oneof(fc.integer({ min: 1, max: 1_500 }), fc.integer({ min: 1, max: 70_000 }));
  const stream = fc.record({
    frames: fc.array(fc.oneof({ weight: 9, arbitrary: small }, large), { maxLength: 30 }),
    cuts: fc.array(cut, { minLength: 1, maxLength: 20 }),
  });
  fc.assert(
    fc.property(stream, ({ frames, cuts }) => {
      const bytes = Buffer.concat(
        frames.flatMap((frame) => {
          const length = Buffer.alloc(4);
          length.writeUInt32LE(frame.length);
          return [length, frame];
        }),
      );
      const reader = new FrameReader(100_000);
      const found: Buffer[] = [];
      const chunk = Buffer.alloc(100_000);
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const { room } = reader;
        const target = room ?? chunk;
        const size = Math.min(cuts[turn % cuts.length] as number, target.length);
        const count = bytes.copy(target, 0, at, at + size);
        if (room === null) reader.push(chunk.subarray(0, count));
        else reader.filled(count);
        for (let frame = reader.next(); frame !== null; frame = reader.next()) found.push(frame);
        reader.keep();
        at += count;
      }
      if (reader.isInside) throw new Error('bytes are left');
      if (found.length !== frames.length) throw new Error(`${found.length} frames`);
      for (const [at, frame] of found.entries()) {
        if (!frame.equals(frames[at] as Uint8Array)) throw new Error(`frame ${at} differs`);
      }
    }),
    { numRuns: 200 },
  );
});

test('a stream that announces too large a frame is refused before memory is taken', async (t) => {
  const reader = new FrameReader(1024);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(1025);
  reader.push(length);
  t.throws(() => reader.next(), { code: 'MALFORMED' });
});

test('frames have memory of their own; of a large one, the rest is read there', async (t) => {
  const reader = new FrameReader(1024 * 1024);
  const chunk = Buffer.alloc(65_536);
  chunk.writeUInt32LE(100, 0);
  chunk.writeUInt32LE(900_000, 104);
  reader.push(chunk);
  t.not(reader.next()?.buffer, chunk.buffer, 'copied');
  t.equal(reader.next(), null);
  t.equal(reader.room?.length, 900_000 - (65_536 - 108));
  reader.room?.fill(7);
  reader.filled(800_000);
  t.equal(reader.next(), null);
  t.equal(reader.room?.length, 34_572);
  reader.filled(30_000);
  t.equal(reader.room, null, 'too little to be worth a read of its own');
  reader.push(Buffer.alloc(4_572, 8));
  const frame = reader.next();
  t.equal(frame?.length, 900_000);
  t.same([frame?.[65_427], frame?.[65_428], frame?.[895_427], frame?.[895_428]], [0, 7, 7, 8]);
});
