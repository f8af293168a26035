/** Requests and replies keep their meaning through their bytes, and their bytes never change. */
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import type { EncodedFrame } from '../../../src/block/wire/frame-parts.js';
import type { Reply, Request } from '../../../src/block/wire/messages.js';
import { decodeReply, encodeReply } from '../../../src/block/wire/reply-frames.js';
import { decodeRequest, encodeRequest } from '../../../src/block/wire/request-frames.js';
import { crc32 } from '../../../src/core/checksum.js';
import {
  FRAME_MAX_BYTES,
  INVENTORY_PAGE,
  LOCATE_MAX_PAGES,
  LOCATE_PATH_MAX_BYTES,
} from '../../../src/core/limits.js';
import { REPLIES, REQUESTS } from './samples.js';

const GOLDEN = new URL('../../../../test/fixtures/wire-frames.json', import.meta.url);
const golden = JSON.parse(readFileSync(GOLDEN, 'utf8')) as Record<string, Record<string, string>>;

const whole = (frame: EncodedFrame): Buffer => Buffer.concat(frame.parts);

/** Byte fields as plain Buffers, parts joined, so that values can be compared. */
function plainRequest(request: Request): unknown {
  if (request.type === 'append') return { ...request, batch: Buffer.concat(request.batch) };
  return request;
}

test('every request comes back as it was', async (t) => {
  for (const [name, request] of Object.entries(REQUESTS)) {
    const frame = encodeRequest(0xfffffffe, request);
    t.equal(frame.bytes, whole(frame).length, name);
    const decoded = decodeRequest(whole(frame));
    t.equal(decoded.id, 0xfffffffe);
    t.same(plainRequest(decoded.request), plainRequest(request), name);
  }
});

test('every reply comes back as it was', async (t) => {
  for (const [name, reply] of Object.entries(REPLIES)) {
    const decoded = decodeReply(whole(encodeReply(17, reply)));
    t.equal(decoded.id, 17);
    t.same(decoded.reply, reply, name);
  }
});

test('the bytes of version 1 are these', async (t) => {
  const hex = (frame: EncodedFrame): string => (frame.parts[0] as Buffer).toString('hex');
  for (const [name, request] of Object.entries(REQUESTS)) {
    t.equal(hex(encodeRequest(258, request)), golden.requests?.[name], name);
  }
  for (const [name, reply] of Object.entries(REPLIES)) {
    t.equal(hex(encodeReply(258, reply)), golden.replies?.[name], name);
  }
});

test('payloads are not copied on either side', async (t) => {
  const { append, recover } = REQUESTS;
  const batch = append?.type === 'append' ? append.batch : [];
  const frame = encodeRequest(1, append as Request);
  t.equal(frame.parts[1], batch[0]);
  t.equal(frame.parts[2], batch[1]);
  const bytes = whole(encodeRequest(1, recover as Request));
  const decoded = decodeRequest(bytes).request;
  t.ok(decoded.type === 'recover' && decoded.bytes.buffer === bytes.buffer);
});

test('the largest inventory fits into a frame', async (t) => {
  const { body } = REPLIES.inventory as Reply;
  const entry = body?.type === 'inventory' ? body.entries[1] : undefined;
  const entries = Array.from({ length: INVENTORY_PAGE }, () => entry as NonNullable<typeof entry>);
  const reply: Reply = {
    ...(REPLIES.inventory as Reply),
    body: { type: 'inventory', more: true, entries },
  };
  const frame = encodeReply(1, reply);
  t.ok(frame.bytes < FRAME_MAX_BYTES / 10);
  t.same(decodeReply(whole(frame)).reply, reply);
});

/** Changes a valid frame's control part and makes its checksum right again. */
function altered(frame: EncodedFrame, change: (control: Buffer) => void): Buffer {
  const bytes = Buffer.from(whole(frame));
  const control = bytes.subarray(0, bytes.readUInt32LE(4));
  change(control);
  control.writeUInt32LE(crc32(control.subarray(4)), 0);
  return bytes;
}

/** A COPY whose first source is repeated. */
function manySources(frame: EncodedFrame, count: number): Buffer {
  const control = whole(frame);
  const start = 87;
  const source = control.subarray(start, start + 34 + control.readUInt16LE(start + 32));
  const sources = Array.from({ length: count }, () => source);
  const made = Buffer.concat([control.subarray(0, start - 1), Buffer.from([count]), ...sources]);
  made.writeUInt32LE(made.length, 4);
  made.writeUInt32LE(crc32(made.subarray(4)), 0);
  return made;
}

/** Behind the segment, and the volume in those that name it. */
const atEpoch = (name: string): number => (name === 'append' || name === 'ping' ? 50 : 66);

test('what a frame says out of range is refused, with a right checksum as well', async (t) => {
  const request = (name: string): EncodedFrame => encodeRequest(1, REQUESTS[name] as Request);
  const reply = (name: string): EncodedFrame => encodeReply(1, REPLIES[name] as Reply);
  const cases: [string, Buffer][] = [
    ['a type nobody knows', altered(request('ping'), (c) => c.writeUInt8(99, 16))],
    ['a request with a status', altered(request('ping'), (c) => c.writeUInt8(1, 17))],
    ['an offset off a page', altered(request('append'), (c) => c.writeUInt32LE(1, 58))],
    ['an epoch of 2^53', altered(request('ping'), (c) => c.writeUInt32LE(0x20_0000, 54))],
    ...['append', 'ping', 'create', 'fence', 'recover', 'copy'].map((name): [string, Buffer] => [
      `an epoch of 2^48 in ${name}`,
      altered(request(name), (c) => c.writeUInt16LE(1, atEpoch(name) + 6)),
    ]),
    ['a create epoch of 2^48', altered(request('recover'), (c) => c.writeUInt16LE(1, 74 + 6))],
    ['no pages', altered(request('read'), (c) => c.writeUInt32LE(0, 58))],
    ['too many pages', altered(request('read'), (c) => c.writeUInt32LE(257, 58))],
    ['a page beyond a segment', altered(request('locate'), (c) => c.writeUInt32LE(2 ** 20, 54))],
    ['too long a list', altered(request('inventory'), (c) => c.writeUInt32LE(1001, 51))],
    ['a flag of 2', altered(request('fence'), (c) => c.writeUInt8(2, c.length - 1))],
    ['too many sources', altered(request('copy'), (c) => c.writeUInt8(17, 86))],
    ['too many sources, all there', manySources(request('copy'), 17)],
    ['a payload where none belongs', Buffer.concat([whole(request('ping')), Buffer.alloc(1)])],
  ];
  for (const [name, frame] of cases) {
    t.throws(() => decodeRequest(frame), { name: 'HoldfastError', code: 'MALFORMED' }, name);
  }
  t.equal(decodeRequest(manySources(request('copy'), 16)).request.type, 'copy');
  const replies: [string, Buffer][] = [
    ['a status nobody knows', altered(reply('ok'), (c) => c.writeUInt8(13, 17))],
    ['a body nobody knows', altered(reply('ok'), (c) => c.writeUInt8(9, 16))],
    ['more pages than data', altered(reply('read'), (c) => c.writeUInt32LE(3, 58))],
    ['fence flags', altered(reply('fence'), (c) => c.writeUInt8(4, 50))],
    ['too many entries', altered(reply('inventory'), (c) => c.writeUInt32LE(2 ** 32 - 1, 51))],
  ];
  for (const [name, frame] of replies) {
    t.throws(() => decodeReply(frame), { name: 'HoldfastError', code: 'MALFORMED' }, name);
  }
});

test('a LOCATE reply of the wrong size is refused', async (t) => {
  const sample = REPLIES.locate as Reply;
  const located = (path: string, pages: number): EncodedFrame => {
    if (sample.body?.type !== 'locate') throw new Error('no LOCATE');
    const body = { ...sample.body, path, checksums: new Uint32Array(pages).fill(7) };
    return encodeReply(1, { ...sample, body });
  };
  const [control, checksums] = encodeReply(1, sample).parts as [Buffer, Buffer];
  t.equal(checksums.toString('hex'), '01000000ffffffff', 'these are persistent as well');
  const longest = '/'.repeat(LOCATE_PATH_MAX_BYTES);
  const largest = decodeReply(whole(located(longest, LOCATE_MAX_PAGES))).reply.body;
  t.match(largest, { path: longest, checksums: { length: LOCATE_MAX_PAGES } });
  const sized = (bytes: number): Buffer => {
    const head = { parts: [control], bytes: control.length };
    const changed = altered(head, (c) => c.writeUInt32LE(bytes, 8));
    return Buffer.concat([changed, Buffer.alloc(bytes)]);
  };
  t.match(decodeReply(sized(4)).reply, { status: 'OK' });
  const cases: [string, Buffer][] = [
    ['no checksums', sized(0)],
    ['one and a half', sized(6)],
    ['too many', sized((LOCATE_MAX_PAGES + 1) * 4)],
    ['too long a path', whole(located(`${longest}/`, 1))],
  ];
  for (const [name, frame] of cases) {
    t.throws(() => decodeReply(frame), { name: 'HoldfastError', code: 'MALFORMED' }, name);
  }
  t.throws(() => located('/', 0), { name: 'AssertionFailure' });
  t.throws(() => located('/', LOCATE_MAX_PAGES + 1), { name: 'AssertionFailure' });
});

test('a changed bit of the control part is noticed', async (t) => {
  const frame = whole(encodeRequest(1, REQUESTS.seal as Request));
  for (let bit = 0; bit < frame.length * 8; bit++) {
    const copy = Buffer.from(frame);
    copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
    t.throws(() => decodeRequest(copy), { code: 'MALFORMED' }, `bit ${bit}`);
  }
});

test('encoding refuses what would not be decoded', async (t) => {
  const read = REQUESTS.read as Request;
  t.throws(() => encodeRequest(1, { ...read, count: 257 } as Request), {
    name: 'AssertionFailure',
  });
  const recover = { ...REQUESTS.recover, bytes: Buffer.alloc(5) } as Request;
  t.throws(() => encodeRequest(1, recover), { name: 'AssertionFailure' });
  const huge = { ...REQUESTS.append, batch: [Buffer.alloc(FRAME_MAX_BYTES)] } as Request;
  t.throws(() => encodeRequest(1, huge), { name: 'AssertionFailure' });
  t.throws(() => encodeReply(2 ** 32, REPLIES.ok as Reply), { name: 'AssertionFailure' });
});
