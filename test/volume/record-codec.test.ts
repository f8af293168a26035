import fc from 'fast-check';
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { SegmentId } from '../../src/core/ids.js';
import { type Operation, OperationType } from '../../src/volume/operations.js';
import {
  decodeRecord,
  encodeCheckpointRecord,
  encodeRecord,
  operationBytes,
} from '../../src/volume/record-codec.js';

const time = { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
const name = Buffer.from('name');
const target = Buffer.from('to');
const segment = '000102030405060708090a0b0c0d0e0f' as SegmentId;
const inode = 7 * 2 ** 32 + 9;
const none = Buffer.alloc(0);
const [uid, gid, rdev, parent] = [1, 2, 3, 1];

/** Each operation and the bytes that stand for it for ever. */
const GOLDEN: readonly [Operation, string][] = [
  [
    { type: 'format', mode: 0o40755, uid, gid, time },
    '01 ed41 01000000 02000000 00f153e5 15cd5b07',
  ],
  [
    { type: 'create', inode, parent, name, mode: 0o120777, uid, gid, rdev, target, time },
    '02 0900000007000000 0100000000000000 046e616d65 ffa1 01000000 02000000 03000000 0200746f ' +
      '00f153e5 15cd5b07',
  ],
  [
    { type: 'link', inode, parent, name, time },
    '03 0900000007000000 0100000000000000 046e616d65 00f153e5 15cd5b07',
  ],
  [{ type: 'unlink', parent, name, time }, '04 0100000000000000 046e616d65 00f153e5 15cd5b07'],
  [{ type: 'rmdir', parent, name, time }, '05 0100000000000000 046e616d65 00f153e5 15cd5b07'],
  [
    { type: 'rename', parent, name, newParent: 2, newName: target, exchange: true, time },
    '06 0100000000000000 046e616d65 0200000000000000 02746f 01 00f153e5 15cd5b07',
  ],
  [{ type: 'free', inode }, '07 0900000007000000'],
  [
    { type: 'setattr', inode, mode: 1, uid, gid, atime: time, mtime: time, ctime: time },
    '08 0900000007000000 3f 0100 01000000 02000000 00f153e5 15cd5b07 00f153e5 15cd5b07 ' +
      '00f153e5 15cd5b07',
  ],
  [
    { type: 'truncate', inode, size: 2 ** 40, time },
    '09 0900000007000000 0000000000010000 00f153e5 15cd5b07',
  ],
  [
    { type: 'write', inode, page: 5, count: 6, size: 7, time },
    '0a 0900000007000000 05000000 06000000 0700000000000000 00f153e5 15cd5b07',
  ],
  [
    { type: 'allocate', inode, page: 5, count: 6, size: 7, time },
    '0b 0900000007000000 05000000 06000000 0700000000000000 00f153e5 15cd5b07',
  ],
  [
    { type: 'punch', inode, offset: 5, length: 6, reserve: true, size: 7, time },
    '0c 0900000007000000 0500000000000000 0600000000000000 01 0700000000000000 00f153e5 15cd5b07',
  ],
  [
    { type: 'share', from: 2, page: 3, inode, toPage: 4, count: 5, size: 6, time },
    '0d 0900000007000000 0200000000000000 03000000 04000000 05000000 0600000000000000 ' +
      '00f153e5 15cd5b07',
  ],
  [
    { type: 'setxattr', inode, name: 'user.\xff', value: target, time },
    '0e 0900000007000000 06757365722eff 0200746f 00f153e5 15cd5b07',
  ],
  [{ type: 'removexattr', inode, name: 'a', time }, '0f 0900000007000000 0161 00f153e5 15cd5b07'],
  [
    { type: 'move', inode, page: 1, count: 2, segment, at: 3 },
    '10 0900000007000000 01000000 02000000 000102030405060708090a0b0c0d0e0f 03000000',
  ],
  [
    { type: 'follow', inode, page: 1, count: 2, from: 4, fromPage: 5, segment, at: 3 },
    '11 0900000007000000 01000000 02000000 0400000000000000 05000000 ' +
      '000102030405060708090a0b0c0d0e0f 03000000',
  ],
];

test('operations have golden bytes', async (t) => {
  for (const [operation, golden] of GOLDEN) {
    const hex = `01010100${golden.replaceAll(' ', '')}`;
    t.equal(encodeRecord([operation]).toString('hex'), hex, operation.type);
    t.same(decodeRecord(Buffer.from(hex, 'hex')), [operation], operation.type);
    t.ok(operationBytes(operation) >= hex.length / 2 - 4, 'the estimate is no less');
  }
  const types = new Set(GOLDEN.map(([operation]) => operation.type));
  t.equal(types.size, Object.keys(OperationType).length, 'all of them');
  t.equal(encodeCheckpointRecord().toString('hex'), '01020000');
  t.equal(decodeRecord(encodeCheckpointRecord()), null);
});

test('bytes that are no record give typed errors', async (t) => {
  const whole = encodeRecord(GOLDEN.map(([operation]) => operation));
  for (let length = 0; length < whole.length; length++) {
    t.throws(() => decodeRecord(whole.subarray(0, length)), { code: 'MALFORMED' }, `${length}`);
  }
  t.throws(() => decodeRecord(Buffer.concat([whole, none, Buffer.alloc(1)])), HoldfastError);
  t.throws(() => decodeRecord(Buffer.from('02010000', 'hex')), { code: 'VERSION' });
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] as number) ^ flip;
      try {
        decodeRecord(bytes);
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error;
      }
    }),
    { numRuns: 5_000 },
  );
});
