/** Ids, faults, page checksums and the relations between limits. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { crc32 as zlibCrc32 } from 'node:zlib';
import t from 'tap';
import { AssertionFailure, assert, present, unreachable } from '../../src/core/assert.js';
import { crc32, PageChecksummer } from '../../src/core/checksum.js';
import { asFault, ErrorCode, HoldfastError, invalid } from '../../src/core/errors.js';
import { idFromBytes, isId, parseId, type SegmentId } from '../../src/core/ids.js';
import * as limits from '../../src/core/limits.js';
import { alignToPage, PAGE_BYTES } from '../../src/core/units.js';

const ONE = '00000000000000000000000000000001' as SegmentId;
const TWO = '00000000000000000000000000000002' as SegmentId;

t.test('ids are 32 lower-case hex digits', async (t) => {
  t.equal(parseId<SegmentId>(ONE, 'segment'), ONE);
  t.notOk(isId(`${ONE}0`));
  t.notOk(isId(ONE.toUpperCase().replace('1', 'A')));
  t.throws(() => parseId('x', 'segment'), { code: 'INVALID_ARGUMENT', message: /segment/ });
  const bytes = Buffer.from(`ff${ONE}`, 'hex').subarray(1);
  t.equal(idFromBytes<SegmentId>(bytes), ONE, 'also from a view into a larger buffer');
});

t.test('every fault code names itself, so that scripts can rely on it', async (t) => {
  for (const [name, code] of Object.entries(ErrorCode)) t.equal(name, code);
});

t.test('faults keep their code, hint and cause', async (t) => {
  const cause = new Error('EIO');
  const fault = new HoldfastError('DISK_FAILED', 'disk a failed', { hint: 'Replace it.', cause });
  t.match(fault, { code: 'DISK_FAILED', retryable: false, hint: 'Replace it.', cause });
  t.equal(asFault(fault, 'UNAVAILABLE'), fault);
  t.match(asFault('gone', 'UNAVAILABLE'), { code: 'UNAVAILABLE', message: 'gone' });
  t.equal(invalid('no').hint, undefined);
});

t.test('assertions are bugs, not faults', async (t) => {
  t.throws(() => assert(false, 'x'), AssertionFailure);
  t.throws(() => present(null, 'x'), AssertionFailure);
  t.throws(() => unreachable('x' as never), AssertionFailure);
  t.equal(present(0, 'zero is a value'), 0);
});

t.test('crc32 is the IEEE one: the formats depend on it', async (t) => {
  t.equal(crc32(Buffer.from('123456789')), 0xcbf43926);
  t.equal(crc32(Buffer.from('6789'), crc32(Buffer.from('12345'))), 0xcbf43926);
});

t.test('crc32 is the same by whatever computes it', async (t) => {
  const bytes = randomBytes(3 * PAGE_BYTES);
  const lengths = [0, 1, 100, 1_023, 1_024, 1_025, PAGE_BYTES, PAGE_BYTES + 1, bytes.length - 3];
  for (const length of lengths) {
    const view = bytes.subarray(3, 3 + length);
    for (const start of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
      t.equal(crc32(view, start), zlibCrc32(view, start), `${length} bytes from ${start}`);
    }
  }
  for (const index of [0, 1, 255, 256, 65_535, 0x12345678]) {
    const salt = Buffer.concat([Buffer.from(ONE, 'hex'), Buffer.alloc(4)]);
    salt.writeUInt32LE(index, 16);
    const expected = zlibCrc32(bytes.subarray(0, PAGE_BYTES), zlibCrc32(salt));
    t.equal(new PageChecksummer(ONE).page(bytes, 0, index), expected, `page ${index}`);
  }
});

t.test('crc32 does without a module that is missing, and with one that is wrong', async (t) => {
  const wrong = join(t.testdir({ 'wrong.cjs': 'exports.crc32 = () => 7' }), 'wrong.cjs');
  const program = `
    import { crc32 } from '${new URL('../../src/core/checksum.js', import.meta.url)}';
    console.log(crc32(Buffer.alloc(${PAGE_BYTES}, 9)));`;
  for (const path of ['/nowhere/crc32.node', wrong]) {
    const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: path };
    const args = ['--input-type=module', '--eval', program];
    const printed = execFileSync(process.execPath, args, { env, encoding: 'utf8' });
    t.equal(printed.trim(), String(zlibCrc32(Buffer.alloc(PAGE_BYTES, 9))), path);
  }
});

t.test('a page checksum knows the segment and the place', async (t) => {
  const bytes = Buffer.alloc(2 * PAGE_BYTES, 7);
  const one = new PageChecksummer(ONE);
  const sum = one.page(bytes, 0, 5);
  t.equal(
    new PageChecksummer(ONE).page(bytes, PAGE_BYTES, 5),
    sum,
    'a function of bytes and place',
  );
  t.not(one.page(bytes, 0, 6), sum, 'another page');
  t.not(new PageChecksummer(TWO).page(bytes, 0, 5), sum, 'another segment');
  t.equal(sum, 2_761_589_879, 'golden: changing it makes every stored page unreadable');
  bytes[PAGE_BYTES - 1] = 8;
  t.not(one.page(bytes, 0, 5), sum, 'the last byte counts');
  bytes[PAGE_BYTES] = 9;
  t.equal(one.page(bytes, PAGE_BYTES, 5) === sum, false);
});

t.test('a page checksum of the start of a page is that of the page', async (t) => {
  const checksummer = new PageChecksummer(ONE);
  for (const length of [0, 1, 200, PAGE_BYTES - 1, PAGE_BYTES]) {
    const page = Buffer.alloc(PAGE_BYTES);
    page.fill(9, 0, length);
    const padded = checksummer.padded(page.subarray(0, length), 3);
    t.equal(padded, checksummer.page(page, 0, 3), `${length} bytes`);
  }
});

t.test('page alignment rounds up', async (t) => {
  t.same([0, 1, 4096, 4097].map(alignToPage), [0, 4096, 4096, 8192]);
});

t.test('no limit is zero, fractional milliseconds or forgotten', async (t) => {
  for (const [name, value] of Object.entries(limits)) {
    if (typeof value === 'number') t.ok(value > 0 && Number.isFinite(value), name);
  }
});
