/** Requests are read as the kernel writes them, and nothing but MALFORMED comes of other bytes. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { decodeRequest } from '../../src/fuse/decode.js';
import { O_DIRECT, Opcode } from '../../src/fuse/protocol.js';
import { requestBytes, u32, u64 } from './fake-device.js';
import { GOLDEN_REQUESTS } from './golden.js';

const FORMAT = { extendedSetxattr: true };

function decode(bytes: Buffer): ReturnType<typeof decodeRequest> {
  return decodeRequest(bytes, bytes.length, FORMAT);
}

/** An operation with its buffers as latin1 text. */
function readable(operation: object): unknown {
  return JSON.parse(
    JSON.stringify(operation, (_key, value) =>
      value?.type === 'Buffer' ? Buffer.from(value.data).toString('latin1') : value,
    ),
  );
}

function isMalformed(action: () => unknown): boolean {
  try {
    action();
    return false;
  } catch (thrown) {
    return thrown instanceof HoldfastError && thrown.code === 'MALFORMED';
  }
}

test('what Linux 6.18 sent is read as what the programs did', async (t) => {
  for (const golden of GOLDEN_REQUESTS) {
    const bytes = Buffer.from(golden.hex, 'hex');
    const request = decode(bytes);
    t.equal(bytes.readUInt32LE(4), golden.opcode);
    t.equal(request.inode, golden.inode);
    t.equal(request.pid, golden.pid);
    t.same(readable(request.operation), golden.operation, String(golden.operation.op));
  }
});

test('every kind of request is among the golden ones, or on this short list', async (t) => {
  const golden = new Set(GOLDEN_REQUESTS.map(({ opcode }) => opcode));
  const missing = Object.entries(Opcode).filter(([, opcode]) => !golden.has(opcode));
  t.same(
    missing.map(([name]) => name),
    [
      'RENAME', // RENAME2 is sent whenever there are flags, RENAME otherwise
      'GETLK', // not negotiated
      'SETLK',
      'SETLKW',
      'ACCESS', // not sent with default_permissions
      'INTERRUPT',
      'BMAP',
      'DESTROY', // not sent to ordinary mounts
      'POLL',
      'NOTIFY_REPLY',
      'COPY_FILE_RANGE', // its 64-bit form is tried first
      'SETUPMAPPING',
      'REMOVEMAPPING',
      'SYNCFS', // virtiofs only
    ],
  );
});

test('requests cut short anywhere are malformed or lack only optional fields', async (t) => {
  for (const { hex, operation } of GOLDEN_REQUESTS) {
    const whole = Buffer.from(hex, 'hex');
    for (let length = 0; length < whole.length; length++) {
      const bytes = Buffer.from(whole.subarray(0, length));
      if (length >= 4) bytes.writeUInt32LE(length, 0);
      let decoded: unknown;
      try {
        decoded = decode(bytes).operation;
      } catch (thrown) {
        if (thrown instanceof HoldfastError && thrown.code === 'MALFORMED') continue;
        throw thrown;
      }
      t.match(decoded, { op: operation.op as string }, `${operation.op} of ${length} bytes`);
    }
  }
});

test('a length that is not the length is malformed', async (t) => {
  const bytes = requestBytes('GETATTR', [u32(0, 0), u64(0)]);
  t.ok(decode(bytes));
  t.ok(isMalformed(() => decode(Buffer.concat([bytes, Buffer.alloc(1)]))));
  t.ok(isMalformed(() => decodeRequest(bytes, bytes.length + 1, FORMAT)));
  t.ok(isMalformed(() => decodeRequest(bytes, bytes.length - 1, FORMAT)));
});

test('extensions at the end of a request are not taken for a part of it', async (t) => {
  const bytes = requestBytes('LOOKUP', ['name\0', Buffer.alloc(16, 0x41)]);
  bytes.writeUInt16LE(2, 36);
  t.same(readable(decode(bytes).operation), { op: 'lookup', name: 'name' });
  bytes.writeUInt16LE(100, 36);
  t.ok(isMalformed(() => decode(bytes)));
});

test('a WRITE carries exactly what it says', async (t) => {
  const write = (size: number, data: Buffer): Buffer =>
    requestBytes('WRITE', [u64(0, 4096), u32(size, 4), u64(0), u32(0, 0), data]);
  t.match(decode(write(3, Buffer.from('abc'))).operation, {
    op: 'write',
    offset: 4096,
    killPrivileges: true,
  });
  t.ok(isMalformed(() => decode(write(4, Buffer.from('abc')))));
  t.ok(isMalformed(() => decode(write(2, Buffer.from('abc')))));
});

test('a WRITE is durable by the flags of its descriptor, however it got there', async (t) => {
  const KILL_SUIDGID = 0x4;
  const CACHE = 0x1;
  const durable = (openFlags: number, writeFlags = 0): unknown => {
    const fields = [u64(0, 0), u32(1, writeFlags), u64(0), u32(openFlags, 0)];
    const { operation } = decode(requestBytes('WRITE', [...fields, Buffer.alloc(1)]));
    return 'durable' in operation && operation.durable;
  };
  const [dsync, sync, direct, append] = [0o10000, 0o4010000, O_DIRECT, 0o2000];
  for (const flags of [dsync, sync, dsync | direct, sync | direct | append]) {
    t.equal(durable(flags | 0o2), true, flags.toString(8));
    t.equal(durable(flags, KILL_SUIDGID), true);
    t.equal(durable(flags, CACHE), false, 'the FSYNC behind what is written back is to come');
  }
  for (const flags of [0, 0o1, direct, append, 0o4000000]) t.equal(durable(flags), false);
});

test('offsets beyond 2^53 saturate, inode numbers beyond it are malformed', async (t) => {
  const seek = requestBytes('LSEEK', [u64(0, 2n ** 62n), u32(3, 0)]);
  t.match(decode(seek).operation, { offset: Number.MAX_SAFE_INTEGER });
  const edge = requestBytes('LSEEK', [u64(0, 2n ** 53n - 1n), u32(3, 0)]);
  t.match(decode(edge).operation, { offset: Number.MAX_SAFE_INTEGER });
  const link = requestBytes('LINK', [u64(2n ** 53n), 'name\0']);
  t.ok(isMalformed(() => decode(link)));
});

test('times keep their sign and every nanosecond', async (t) => {
  const setattr = (valid: number, seconds: bigint, nanoseconds: number): Buffer =>
    requestBytes('SETATTR', [
      u32(valid, 0),
      u64(0, 0, 0, seconds, seconds, 0),
      u32(nanoseconds, nanoseconds, 0),
      u32(0, 0, 0, 0, 0),
    ]);
  t.same(decode(setattr(0x10, -2n, 123_456_789)).operation, {
    op: 'setattr',
    changes: { atime: { seconds: -2, nanoseconds: 123_456_789 } },
  });
  t.same(decode(setattr(0x20, 2n ** 33n, 999_999_999)).operation, {
    op: 'setattr',
    changes: { mtime: { seconds: 2 ** 33, nanoseconds: 999_999_999 } },
  });
  t.same(decode(setattr(0x10 | 0x80 | 0x20 | 0x100, 7n, 1)).operation, {
    op: 'setattr',
    changes: { atime: 'now', mtime: 'now' },
  });
  t.ok(isMalformed(() => decode(setattr(0x10, 1n, 1_000_000_000))));
});

test('both layouts of SETXATTR are read, by what was negotiated', async (t) => {
  const old = requestBytes('SETXATTR', [u32(2, 1), 'user.a\0', 'xy']);
  const extended = requestBytes('SETXATTR', [u32(2, 1), u32(1, 0), 'user.a\0', 'xy']);
  const expected = { op: 'setxattr', name: 'user.a', value: 'xy', flags: 1 };
  const decodeOld = decodeRequest(old, old.length, { extendedSetxattr: false });
  t.same(readable(decodeOld.operation), { ...expected, killSgid: false });
  t.same(readable(decode(extended).operation), { ...expected, killSgid: true });
});

test('random bytes and damaged requests never do worse than MALFORMED', async (t) => {
  const opcodes = fc.constantFrom(...Object.values(Opcode), 0, 7, 4096, 0xffff_ffff);
  const random = fc
    .tuple(opcodes, fc.uint8Array({ maxLength: 200 }))
    .map(([opcode, body]) => requestBytes(opcode, [Buffer.from(body)]));
  const damaged = fc
    .tuple(
      fc.constantFrom(...GOLDEN_REQUESTS),
      fc.array(fc.tuple(fc.nat(130), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
    )
    .map(([golden, damages]) => {
      const bytes = Buffer.from(golden.hex, 'hex');
      for (const [at, value] of damages) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
  const property = fc.property(
    fc.oneof(random, damaged, fc.uint8Array({ maxLength: 100 })),
    fc.boolean(),
    (input, extendedSetxattr) => {
      const bytes = Buffer.from(input);
      try {
        decodeRequest(bytes, bytes.length, { extendedSetxattr });
      } catch (thrown) {
        return thrown instanceof HoldfastError && thrown.code === 'MALFORMED';
      }
      return true;
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 20_000 }));
});
