/**
 * The codec never reads past its end, never allocates by a claimed length, and says what was wrong.
 */
import fc from 'fast-check';
import t from 'tap';
import { AssertionFailure } from '../../src/core/assert.js';
import { ByteReader, ByteWriter, readU64, writeU64 } from '../../src/core/codec.js';
import { HoldfastError } from '../../src/core/errors.js';

t.test('what a writer wrote, a reader reads', async (t) => {
  const id = '00112233445566778899aabbccddeeff';
  const bytes = new ByteWriter(1)
    .u8(255)
    .u16(65_535)
    .u32(4_294_967_295)
    .u64(Number.MAX_SAFE_INTEGER)
    .id(id)
    .text('größe')
    .bytes(Buffer.from('tail'))
    .done();
  const input = new ByteReader(bytes);
  t.equal(input.u8('u8'), 255);
  t.equal(input.u16('u16'), 65_535);
  t.equal(input.u32('u32'), 4_294_967_295);
  t.equal(input.u64('u64'), Number.MAX_SAFE_INTEGER);
  t.equal(input.id('id'), id);
  t.equal(input.text(10, 'text'), 'größe');
  t.equal(input.bytes(4, 'tail').toString(), 'tail');
  input.end('message');
});

t.test('the byte order is little-endian: formats depend on it', async (t) => {
  t.equal(new ByteWriter().u16(0x0102).u32(0x03040506).done().toString('hex'), '020106050403');
  const eight = Buffer.alloc(8);
  writeU64(eight, 2 ** 53 - 1, 0);
  t.equal(eight.toString('hex'), 'ffffffffffff1f00');
});

t.test('integers survive a round trip', async () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const bytes = Buffer.alloc(8);
      writeU64(bytes, value, 0);
      return readU64(bytes, 0) === value;
    }),
  );
});

t.test('reading too much is MALFORMED and says how much is missing', async (t) => {
  const reads: [string, (r: ByteReader) => unknown][] = [
    ['u8', (r) => r.u8('x')],
    ['u16', (r) => r.u16('x')],
    ['u32', (r) => r.u32('x')],
    ['u64', (r) => r.u64('x')],
    ['id', (r) => r.id('x')],
    ['bytes', (r) => r.bytes(1, 'x')],
    ['text', (r) => r.text(10, 'x')],
  ];
  for (const [name, read] of reads) {
    t.throws(() => read(new ByteReader(Buffer.alloc(0))), { code: 'MALFORMED' }, name);
  }
  t.throws(() => new ByteReader(Buffer.alloc(3)).u32('page'), {
    message: 'page: needs 4 bytes, 3 are left',
  });
});

t.test('a claimed length is compared with what is there, and with the limit', async (t) => {
  const lie = Buffer.from([0xff, 0xff, 0x61]);
  t.throws(() => new ByteReader(lie).text(65_535, 'name'), { code: 'MALFORMED' });
  t.throws(() => new ByteReader(lie).text(10, 'name'), { message: /at most 10/ });
  t.throws(() => new ByteReader(Buffer.alloc(9)).end('message'), { message: /9 bytes too many/ });
});

t.test('64-bit integers above 2^53 are refused, not rounded', async (t) => {
  const bytes = Buffer.from('00000000000020ff', 'hex');
  t.throws(() => readU64(bytes, 0), { code: 'MALFORMED' });
  t.throws(() => writeU64(Buffer.alloc(8), -1, 0), AssertionFailure);
  t.throws(() => writeU64(Buffer.alloc(8), 1.5, 0), AssertionFailure);
  t.throws(() => writeU64(Buffer.alloc(8), 2 ** 53, 0), AssertionFailure);
});

t.test('any bytes: a value or a typed error', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const input = new ByteReader(bytes);
      try {
        input.text(64, 'a');
        input.u64('b');
        input.id('c');
        input.end('d');
      } catch (error) {
        return error instanceof HoldfastError && error.code === 'MALFORMED';
      }
      return true;
    }),
  );
});
