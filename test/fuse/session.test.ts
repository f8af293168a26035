/** Transcripts with a played kernel: what the session answers, when it pauses, how it ends. */
import { test } from 'tap';
import { AssertionFailure, present } from '../../src/core/assert.js';
import { HoldfastError } from '../../src/core/errors.js';
import { MAX_IN_FLIGHT_REQUESTS, REQUEST_BUFFER_BYTES } from '../../src/fuse/limits.js';
import { FuseSession, type FuseSessionOptions } from '../../src/fuse/session.js';
import { silentLog } from '../../src/io/log.js';
import { FsError } from '../../src/volume/filesystem-api.js';
import { MemoryFilesystem } from '../fixtures/memory-filesystem.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { FakeDevice, requestBytes, u32, u64 } from './fake-device.js';

const ENOENT = -2;
const EINTR = -4;
const EIO = -5;
const EINVAL = -22;
const EROFS = -30;
const ENOSYS = -38;
const ENOTSUP = -95;
const ENOTTY = -25;
const ENAMETOOLONG = -36;

/** What Linux 6.18 offers. */
const INIT = [u32(7, 45, 131_072, 0x73fffffb, 0x5fd), Buffer.alloc(44)];
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Played {
  readonly device: FakeDevice;
  readonly filesystem: MemoryFilesystem;
  readonly session: FuseSession;
  readonly ends: (Error | null)[];
  /** Lets this much time pass. */
  readonly pass: (ms: number) => void;
}

function play(options: Partial<FuseSessionOptions> = {}, negotiated = true): Played {
  const device = new FakeDevice();
  const filesystem = new MemoryFilesystem();
  const ends: (Error | null)[] = [];
  const scheduler = new SimScheduler();
  const session = new FuseSession({
    device,
    filesystem,
    log: silentLog,
    clock: new SimProcess(scheduler).clock,
    onEnd: (error) => ends.push(error),
    ...options,
  });
  session.start();
  if (negotiated) device.ask('INIT', INIT);
  const pass = (ms: number): void => scheduler.runFor(ms);
  return { device, filesystem, session, ends, pass };
}

/** Makes a file by CREATE and returns its inode. */
function create(device: FakeDevice, name: string, uid = 0): number {
  const reply = device.ask('CREATE', [u32(0x8242, 0o100644, 0o022, 0), `${name}\0`], { uid });
  return Number(reply.payload.readBigUInt64LE(0));
}

const write = (offset: number, data: Buffer, openFlags = 0): (Buffer | string)[] => [
  u64(0, offset),
  u32(data.length, 0),
  u64(0),
  u32(openFlags, 0),
  data,
];

test('INIT agrees on exactly what the design lists', async (t) => {
  const { device, session } = play({}, false);
  const { payload, error } = device.ask('INIT', INIT);
  t.equal(error, 0);
  t.equal(payload.length, 64);
  const expected = Buffer.concat([
    u32(7, 45, 1_048_576),
    // ASYNC_READ, EXPORT_SUPPORT, BIG_WRITES, DONT_MASK, DO_READDIRPLUS, ASYNC_DIO,
    // PARALLEL_DIROPS, POSIX_ACL, MAX_PAGES, HANDLE_KILLPRIV_V2, SETXATTR_EXT, INIT_EXT
    u32(0x1 | 0x10 | 0x20 | 0x40 | 0x2000 | 0x8000 | 0x40000 | 0x100000 | 0x400000 | 0x70000000),
    Buffer.from([128, 0, 96, 0]),
    u32(1_048_576, 1),
    Buffer.from([0, 1, 0, 0]),
    u32(0x80 | 0x10), // HAS_RESEND, DIRECT_IO_ALLOW_MMAP
    Buffer.alloc(28),
  ]);
  t.same(payload, expected);
  const forbidden = 0x10000 | 0x2 | 0x400 | 0x20000 | 0x8; // write-back cache, locks, no open
  t.equal((session.agreed?.flags ?? -1) & forbidden, 0);
});

test('an old kernel gets only what it offers', async (t) => {
  const { device } = play({}, false);
  const { payload } = device.ask('INIT', [u32(7, 31, 131_072, 0x1 | 0x20)]);
  t.equal(payload.readUInt32LE(4), 31);
  t.equal(payload.readUInt32LE(12), 0x21);
  t.equal(payload.readUInt32LE(32), 0);
});

test('a kernel of a later major version is told ours and asks again', async (t) => {
  const { device, session } = play({}, false);
  t.equal(device.ask('INIT', [u32(8, 1)]).payload.readUInt32LE(0), 7);
  t.equal(session.agreed, null);
  t.equal(device.ask('INIT', INIT).error, 0);
  t.ok(session.agreed);
});

test('a kernel that is too old ends the session with a clear fault', async (t) => {
  const { device, ends } = play({}, false);
  t.equal(device.ask('INIT', [u32(7, 23, 131_072, 0)]).error, -71);
  await turn();
  t.match(ends, [{ code: 'VERSION', message: /7\.23/ }]);
  t.ok(device.closed);
});

test('what asks for a file after a write that waits for its pages waits for that', async (t) => {
  const { device, filesystem } = play();
  const inode = create(device, 'f');
  const waiting: (() => void)[] = [];
  filesystem.delays = (of, again) => {
    if (of === inode) waiting.push(again);
    return of === inode;
  };
  const before = device.replies.length;
  const asked: [Parameters<typeof requestBytes>[0], Buffer[], number][] = [
    ['GETATTR', [u32(0, 0), u64(0)], inode],
    ['SETATTR', [u32(8, 0), u64(0, 1_000), Buffer.alloc(64)], inode],
    ['FALLOCATE', [u64(0, 0, 4_096), u32(0, 0)], inode],
    ['COPY_FILE_RANGE', [u64(0, 0, 1, 0, 0, 4_096, 0)], inode],
    ['COPY_FILE_RANGE', [u64(0, 0, inode, 0, 0, 4_096, 0)], 1],
  ];
  for (const [index, [name, body, of]] of asked.entries()) {
    device.deliver(requestBytes(name, body, { unique: BigInt(300 + index), inode: of }));
  }
  t.equal(device.replies.length, before);
  t.equal(waiting.length, asked.length);
  filesystem.delays = () => false;
  for (const again of waiting) again();
  const uniques = device.replies.slice(before).map(({ unique }) => unique);
  t.same(uniques, [300n, 301n, 302n, 303n, 304n]);
});

test('nothing is served before INIT, unless an earlier daemon has done it', async (t) => {
  const before = play({}, false);
  t.equal(before.device.ask('GETATTR', [u32(0, 0), u64(0)]).error, EIO);
  const first = play();
  const agreed = present(first.session.agreed, 'what was agreed');
  const adopter = play({ adopted: { agreed, results: [] } }, false);
  t.match(adopter.device.replies.shift(), { unique: 0n, error: 7 }, 'RESEND comes first');
  t.equal(adopter.device.ask('GETATTR', [u32(0, 0), u64(0)]).error, 0);
  t.same(adopter.session.agreed, first.session.agreed);
});

test('what a dead daemon had done is answered as it would have, and not done again', async (t) => {
  const first = play();
  const agreed = present(first.session.agreed, 'what was agreed');
  const made = requestBytes('MKDIR', [u32(0o755, 0o022), 'made\0'], { unique: 40n });
  first.device.deliver(made);
  const [reply] = first.device.replies.slice(-1);
  const bytes = Buffer.alloc(16 + present(reply, 'a reply').payload.length);
  bytes.writeUInt32LE(bytes.length, 0);
  present(reply, 'a reply').payload.copy(bytes, 16);
  const results = [{ request: { low: 40, high: 0 }, bytes }];
  let dropped = 0;
  const intents = {
    staged: false,
    result: () => {},
    flush: () => {},
    whenWritten: (callback: () => void) => callback(),
    dropCarried: () => {
      dropped += 1;
    },
  };
  const { device, filesystem } = play({ adopted: { agreed, results }, intents }, false);
  const resent = { unique: (1n << 63n) | 40n };
  const again = device.ask('MKDIR', [u32(0o755, 0o022), 'made\0'], resent);
  t.equal(again.error, 0);
  t.equal(again.unique, resent.unique, 'with the bit');
  t.same(again.payload, reply?.payload);
  t.equal(filesystem.lookup(1, Buffer.from('made')), null, 'it was not made here');
  const unknown = { unique: (1n << 63n) | 42n };
  t.equal(device.ask('MKDIR', [u32(0o755, 0o022), 'new\0'], unknown).error, 0);
  t.ok(filesystem.lookup(1, Buffer.from('new')), 'what had not been done is done');
  t.equal(dropped, 0);
  device.ask('MKDIR', [u32(0o755, 0o022), 'next\0'], { unique: 44n });
  t.equal(dropped, 1, 'a request that was never sent before comes behind those that were');
});

test('replies to changes wait for the intents, in order, and large ones write them', async (t) => {
  let staged = false;
  const waiting: (() => void)[] = [];
  const results: number[] = [];
  const flush = (): void => {
    staged = false;
    for (const callback of waiting.splice(0)) callback();
  };
  const intents = {
    get staged() {
      return staged;
    },
    result: ({ low }: { low: number }) => results.push(low),
    whenWritten: (callback: () => void) => waiting.push(callback),
    flush,
    dropCarried: () => {},
  };
  const { device } = play({ intents });
  const before = device.replies.length;
  const inode = create(device, 'file');
  staged = true;
  device.deliver(requestBytes('MKDIR', [u32(0o755, 0o022), 'made\0'], { unique: 50n }));
  device.deliver(requestBytes('GETATTR', [u32(0, 0), u64(0)], { unique: 52n }));
  t.equal(device.replies.length, before + 1, 'both wait');
  t.same(results, [50], 'a look is not to be remembered');
  flush();
  t.same(
    device.replies.slice(before + 1).map(({ unique }) => unique),
    [50n, 52n],
  );
  staged = true;
  device.deliver(requestBytes('WRITE', write(0, Buffer.from('data')), { inode, unique: 54n }));
  device.deliver(requestBytes('READ', [u64(0, 0), u32(10, 0), u64(0, 0)], { inode, unique: 56n }));
  await turn();
  t.notOk(staged, 'what is read waits for nothing');
  t.ok(device.replies.some(({ unique }) => unique === 54n));
  t.ok(device.replies.some(({ unique }) => unique === 56n));
});

test('bit 63 of a resent request comes back in its reply', async (t) => {
  const { device } = play();
  const unique = (1n << 63n) | 12_345_678_901n;
  const reply = device.ask('GETATTR', [u32(0, 0), u64(0)], { unique });
  t.equal(reply.unique, unique);
});

test('an attribute has a name behind its namespace', (t) => {
  const { device } = play();
  const inode = create(device, 'file');
  const set = (name: string): number =>
    device.ask('SETXATTR', [u32(1, 0, 0, 0), `${name}\0`, Buffer.from('v')], { inode }).error;
  t.equal(set('user.a'), 0);
  t.equal(set('user.'), EINVAL, 'as elsewhere, where no copy could be made of it');
  t.equal(set('other.a'), ENOTSUP);
  t.end();
});

test('what is not there is answered once and remembered by the kernel', async (t) => {
  const { device } = play();
  const { error, payload } = device.ask('LOOKUP', ['missing\0']);
  t.equal(error, 0);
  t.equal(payload.length, 128);
  t.equal(payload.readBigUInt64LE(0), 0n, 'no inode');
  t.equal(payload.readBigUInt64LE(16), 86_400n, 'for a day');
  t.equal(device.ask('UNLINK', ['missing\0']).error, ENOENT);
  t.equal(device.ask('LOOKUP', [`${'x'.repeat(256)}\0`]).error, ENAMETOOLONG);
});

test('what we do not offer has the errno that makes the kernel go on alone', async (t) => {
  const { device } = play();
  for (const opcode of ['FLUSH', 'ACCESS', 'STATX', 'POLL', 'BMAP', 'INTERRUPT'] as const) {
    t.equal(device.ask(opcode, [Buffer.alloc(64)]).error, ENOSYS, opcode);
  }
  t.equal(device.ask('IOCTL', [Buffer.alloc(32)]).error, ENOTTY);
  t.equal(device.ask(9_999).error, ENOSYS);
  t.equal(device.ask('DESTROY').error, 0);
});

test('a request that cannot be read is answered EIO, and the next one as usual', async (t) => {
  const { device, session } = play();
  t.equal(device.ask('READ', [u32(1)]).error, EIO);
  device.deliver(requestBytes('FORGET', []));
  device.deliver(Buffer.alloc(10));
  t.equal(device.ask('GETATTR', [u32(0, 0), u64(0)]).error, 0);
  t.equal(session.requestsUnderWay, 0);
});

test('FORGET and BATCH_FORGET have no reply and free orphans', async (t) => {
  const { device, filesystem, session } = play();
  const one = create(device, 'one');
  const two = create(device, 'two');
  device.ask('UNLINK', ['one\0']);
  device.ask('UNLINK', ['two\0']);
  for (const inode of [one, two]) device.ask('RELEASE', [Buffer.alloc(24)], { inode });
  const before = device.replies.length;
  t.equal(filesystem.inodes, 3);
  device.deliver(requestBytes('FORGET', [u64(1)], { inode: one }));
  t.equal(filesystem.inodes, 2);
  device.deliver(requestBytes('BATCH_FORGET', [u32(1, 0), u64(two, 1)], { inode: 0 }));
  t.equal(filesystem.inodes, 1);
  t.equal(device.replies.length, before);
  t.equal(session.requestsUnderWay, 0);
  t.same(filesystem.complaints, []);
});

test('a write is not changed by the request that comes next in the same buffer', async (t) => {
  const { device } = play();
  const inode = create(device, 'file');
  const large = REQUEST_BUFFER_BYTES - 4096;
  for (const [at, length] of [
    [0, 4096],
    [4096, large],
  ] as const) {
    const data = Buffer.alloc(length, 1 + at / 4096);
    const bytes = requestBytes('WRITE', write(at, data), { inode, unique: 500n });
    device.deliver(bytes);
    bytes.fill(9);
    await turn();
  }
  const read = [u64(0, 4090), u32(12, 0), u64(0), u32(0, 0)];
  const { payload } = await device.askLater('READ', read, { inode });
  t.same(payload, Buffer.from('010101010101020202020202', 'hex'));
});

test('a synchronous write is answered behind its commit, or with its error', async (t) => {
  const O_DSYNC = 0o10000;
  let error: FsError | null = null;
  const filesystem = new MemoryFilesystem({ onCommit: () => error });
  const { device, session } = play({ filesystem });
  const inode = create(device, 'file');
  await device.askLater('WRITE', write(0, Buffer.from('plain')), { inode });
  t.equal(filesystem.commits, 0);
  device.deliver(requestBytes('WRITE', write(0, Buffer.from('data'), O_DSYNC), { inode }));
  await turn();
  t.equal(filesystem.commits, 1);
  t.equal(session.requestsUnderWay, 1, 'not answered while it is not committed');
  await turn();
  t.equal(session.requestsUnderWay, 0);
  t.match(device.replies.at(-1), { error: 0, payload: u32(4, 0) });
  error = new FsError('EIO', 'no storage');
  const failed = await device.askLater('WRITE', write(0, Buffer.from('x'), O_DSYNC), { inode });
  t.equal(failed.error, EIO);
});

test('reading stops while too many requests wait, and goes on at half of them', async (t) => {
  const { device, session } = play();
  const inode = create(device, 'file');
  for (let index = 0; index < MAX_IN_FLIGHT_REQUESTS; index++) {
    const unique = BigInt(10_000 + index);
    device.deliver(requestBytes('FSYNC', [u64(0), u32(0, 0)], { inode, unique }));
  }
  t.same(device.pauses, [true]);
  t.equal(session.requestsUnderWay, MAX_IN_FLIGHT_REQUESTS);
  const { timesSettled } = device;
  for (let count = 0; session.requestsUnderWay > 0 && count < 100; count++) await turn();
  t.same(device.pauses, [true, false]);
  t.equal(session.requestsUnderWay, 0);
  t.equal(device.timesSettled, timesSettled + 1, 'told once all are answered, and only then');
});

test('reading stops while too many bytes wait', async (t) => {
  const { device } = play();
  const inode = create(device, 'file');
  const mib = Buffer.alloc(1_048_576);
  for (let index = 0; index < 64; index++) {
    const unique = BigInt(10_000 + index);
    device.deliver(requestBytes('WRITE', write(0, mib), { inode, unique }));
    t.same(device.pauses, index < 63 ? [] : [true]);
  }
  for (let count = 0; device.pauses.length < 2 && count < 100; count++) await turn();
  t.same(device.pauses, [true, false]);
});

test('a read-only session refuses every change with EROFS', async (t) => {
  const { device } = play({ readOnly: true });
  const name = 'name\0';
  t.equal(device.ask('CREATE', [u32(0, 0, 0, 0), name]).error, EROFS);
  t.equal(device.ask('MKDIR', [u32(0, 0), name]).error, EROFS);
  t.equal(device.ask('UNLINK', [name]).error, EROFS);
  t.equal(device.ask('RENAME', [u64(1), name, name]).error, EROFS);
  t.equal(device.ask('SETATTR', [Buffer.alloc(88)]).error, EROFS);
  t.equal(device.ask('WRITE', write(0, Buffer.alloc(1))).error, EROFS);
  t.equal(device.ask('OPEN', [u32(1, 0)]).error, EROFS, 'for writing');
  t.equal(device.ask('OPEN', [u32(0, 0)]).error, 0, 'for reading');
  t.equal(device.ask('GETATTR', [u32(0, 0), u64(0)]).error, 0);
});

test('faults of storage become EIO, and each kind is logged once', async (t) => {
  const logged: unknown[] = [];
  const filesystem = new MemoryFilesystem({
    onCommit: () => new HoldfastError('DATA_LOST', 'no copy is left') as unknown as FsError,
  });
  const log = { ...silentLog, error: (fields: unknown) => logged.push(fields) };
  const { device } = play({ filesystem, log });
  const fsync = [u64(0), u32(0, 0)];
  t.equal((await device.askLater('FSYNC', fsync)).error, EIO);
  t.equal((await device.askLater('FSYNCDIR', fsync)).error, EIO);
  t.match(logged, [{ code: 'DATA_LOST' }]);
  t.equal(logged.length, 1);
});

test('a bug is not answered but thrown on, so that the process stops', async (t) => {
  const filesystem = new MemoryFilesystem();
  filesystem.getattr = () => {
    throw new AssertionFailure('invented');
  };
  const { device } = play({ filesystem });
  t.throws(() => device.ask('GETATTR', [u32(0, 0), u64(0)]), { message: /invented/ });
  t.equal(device.replies.length, 1, 'INIT only');
});

test('a reply that the kernel refuses is followed by EIO: nobody waits forever', async (t) => {
  const { device } = play();
  device.outcomes.push('refused');
  device.ask('GETATTR', [u32(0, 0), u64(0)], { unique: 77n });
  t.same(
    device.replies.slice(-2).map(({ unique, error }) => [unique, error]),
    [
      [77n, 0],
      [77n, EIO],
    ],
  );
});

test('the end of the connection commits, once, and then is reported', async (t) => {
  const { device, filesystem, ends } = play();
  const inode = create(device, 'file');
  device.deliver(requestBytes('WRITE', write(0, Buffer.alloc(10)), { inode, unique: 999n }));
  device.unmount();
  device.unmount();
  t.same(ends, [], 'not before the commit');
  await turn();
  await turn();
  t.same(ends, [null]);
  t.equal(filesystem.commits, 1);
  t.ok(device.closed);
});

test('a failed last commit, and a broken device, are reported', async (t) => {
  const failing = new MemoryFilesystem({ onCommit: () => new FsError('EIO', 'quorum lost') });
  const one = play({ filesystem: failing });
  one.device.unmount();
  const other = play();
  other.device.unmount(new HoldfastError('UNAVAILABLE', 'the device broke'));
  await turn();
  t.match(one.ends, [{ message: 'quorum lost' }]);
  t.match(other.ends, [{ message: 'the device broke' }]);
});

test('an existing name is opened by CREATE without O_EXCL, and refused with it', async (t) => {
  const { device } = play();
  const inode = create(device, 'file');
  t.equal(create(device, 'file'), inode);
  const exclusive = device.ask('CREATE', [u32(0x80, 0o100644, 0, 0), 'file\0']);
  t.equal(exclusive.error, -17);
});

/** A gate that a test opens, shuts and breaks. */
class Gate {
  open = true;
  waits = 0;
  #waiting: ((error: HoldfastError | null) => void)[] = [];

  wait(done: (error: HoldfastError | null) => void): void {
    this.waits += 1;
    this.#waiting.push(done);
  }

  answer(error: HoldfastError | null = null): void {
    this.open = error === null;
    for (const done of this.#waiting.splice(0)) done(error);
  }
}

const GETATTR = [u32(0, 0), u64(0)];

test('requests wait at a shut gate, in order, with bytes of their own', async (t) => {
  const gate = new Gate();
  const { device, session } = play({ gate });
  const inode = create(device, 'file');
  t.equal(gate.waits, 0, 'an open gate is only looked at');
  gate.open = false;
  const before = device.replies.length;
  const bytes = requestBytes('WRITE', write(0, Buffer.alloc(8, 1)), { inode, unique: 70n });
  device.deliver(bytes);
  bytes.fill(9);
  device.deliver(requestBytes('MKDIR', [u32(0o755, 0), 'd\0'], { unique: 71n }));
  device.deliver(requestBytes('RMDIR', ['d\0'], { unique: 72n }));
  device.deliver(requestBytes('INTERRUPT', [u64(71)], { unique: 73n }));
  t.equal(session.requestsUnderWay, 3);
  t.equal(gate.waits, 1);
  const interrupted = device.replies.slice(before);
  t.same(
    interrupted.map(({ unique }) => unique),
    [73n],
    'what does not concern the filesystem does not wait',
  );
  gate.answer();
  await turn();
  const outcome = device.replies.slice(before + 1).map(({ unique, error }) => [unique, error]);
  t.same(new Map(outcome as [bigint, number][]), new Map([70n, 71n, 72n].map((one) => [one, 0])));
  const read = [u64(0, 0), u32(8, 0), u64(0), u32(0, 0)];
  t.same((await device.askLater('READ', read, { inode })).payload, Buffer.alloc(8, 1));
  t.equal(session.requestsUnderWay, 0);
});

test('an open gate lets nobody overtake those that still wait to be told', async (t) => {
  const gate = new Gate();
  const { device } = play({ gate });
  gate.open = false;
  device.deliver(requestBytes('GETATTR', GETATTR, { unique: 76n }));
  gate.open = true;
  device.deliver(requestBytes('GETATTR', GETATTR, { unique: 77n }));
  t.equal(device.replies.length, 1, 'INIT only');
  gate.answer();
  t.same(
    device.replies.slice(1).map(({ unique }) => unique),
    [76n, 77n],
  );
});

test('a gate that shuts while the first ones pass holds the rest again', async (t) => {
  const gate = new Gate();
  const { device, filesystem } = play({ gate });
  gate.open = false;
  for (const unique of [80n, 81n, 82n])
    device.deliver(requestBytes('GETATTR', GETATTR, { unique }));
  const getattr = filesystem.getattr.bind(filesystem);
  filesystem.getattr = (inode) => {
    gate.open = false;
    return getattr(inode);
  };
  for (const unique of [80n, 81n, 82n]) {
    gate.answer();
    t.equal(device.replies.at(-1)?.unique, unique);
  }
  t.equal(gate.waits, 3);
});

test('behind a gate that never opens everything is EIO, said once; FORGET passes', async (t) => {
  const logged: unknown[] = [];
  const log = { ...silentLog, error: (fields: unknown) => logged.push(fields) };
  const gate = new Gate();
  const { device, filesystem, session } = play({ gate, log });
  const inode = create(device, 'file');
  device.ask('UNLINK', ['file\0']);
  device.ask('RELEASE', [Buffer.alloc(24)], { inode });
  gate.open = false;
  for (let round = 0; round < 2; round++) {
    for (const unique of [90n, 91n]) device.deliver(requestBytes('GETATTR', GETATTR, { unique }));
    gate.answer(new HoldfastError('FENCED', 'a newer owner exists'));
    t.same(
      device.replies.slice(-2).map(({ unique, error }) => [unique, error]),
      [
        [90n, EIO],
        [91n, EIO],
      ],
    );
  }
  t.match(logged, [{ code: 'FENCED' }]);
  t.equal(logged.length, 1);
  device.deliver(requestBytes('FORGET', [u64(1)], { inode }));
  t.equal(filesystem.inodes, 1, 'the orphan ended');
  t.equal(session.requestsUnderWay, 0);
});

test('what waits at the gate when the connection ends is dropped', async (t) => {
  const gate = new Gate();
  const { device, filesystem, ends } = play({ gate });
  gate.open = false;
  device.deliver(requestBytes('MKDIR', [u32(0o755, 0), 'd\0'], { unique: 95n }));
  device.unmount();
  await turn();
  gate.answer();
  t.same(ends, [null]);
  t.equal(filesystem.inodes, 1, 'nothing happens after the last commit');
});

const KILLED = 7;
const ALIVE = 8;
const READ = [u64(0, 0), u32(4096, 0), u64(0), u32(0, 0)];

test('who is killed while it waits gets EINTR within 2 s, and what it asked for ends', (t) => {
  const gate = new Gate();
  const { device, filesystem, session, pass } = play({ gate });
  const inode = create(device, 'file');
  gate.open = false;
  const before = device.replies.length;
  const deliver = (opcode: 'MKDIR' | 'WRITE' | 'RELEASE', unique: bigint, pid: number): void => {
    const body = {
      MKDIR: [u32(0o755, 0), `d${unique}\0`],
      WRITE: write(0, Buffer.alloc(8, 1)),
      RELEASE: [Buffer.alloc(24)],
    };
    device.deliver(
      requestBytes(
        opcode,
        body[opcode],
        opcode === 'MKDIR' ? { unique, pid } : { unique, pid, inode },
      ),
    );
  };
  deliver('MKDIR', 100n, KILLED);
  deliver('MKDIR', 101n, ALIVE);
  deliver('WRITE', 102n, KILLED);
  deliver('RELEASE', 103n, KILLED);
  deliver('MKDIR', 104n, 0);
  const answers = (): [bigint, number][] =>
    device.replies.slice(before).map(({ unique, error }) => [unique, error]);
  pass(3_000);
  t.same(answers(), [], 'they live');
  device.dying.add(KILLED).add(0);
  pass(2_000);
  t.same(answers(), [
    [100n, EINTR],
    [102n, EINTR],
  ]);
  t.equal(session.requestsUnderWay, 3);
  gate.answer();
  t.same(
    answers().slice(2),
    [101n, 103n, 104n].map((unique) => [unique, 0]),
    'a RELEASE is not lost, nor what nobody knows the asker of',
  );
  t.equal(filesystem.lookup(1, Buffer.from('d100')), null, 'it is not done later');
  t.equal(filesystem.getattr(inode).size, 0);
  t.not(filesystem.lookup(1, Buffer.from('d101')), null);
  t.equal(gate.waits, 1);
  t.equal(session.requestsUnderWay, 0);
  t.end();
});

test('nobody is looked up who waits for less than a second', (t) => {
  const gate = new Gate();
  const { device, pass } = play({ gate });
  gate.open = false;
  const ask = (pid: number): void =>
    device.deliver(requestBytes('GETATTR', GETATTR, { unique: BigInt(pid), pid }));
  ask(20);
  pass(900);
  ask(22);
  pass(200);
  t.same(device.lookedUp, [], 'the first has only just waited for so long');
  pass(700);
  gate.answer();
  gate.open = false;
  ask(24);
  pass(1_000);
  t.same(device.lookedUp, [], 'those from before have their answer');
  pass(1_000);
  t.same(device.lookedUp, [24]);
  pass(5_000);
  t.same(device.lookedUp, [24], 'once');
  t.end();
});

test('who is killed does not wait for what intents there is no room for', (t) => {
  const results: number[] = [];
  const intents = {
    staged: true,
    result: ({ low }: { low: number }) => results.push(low),
    whenWritten: () => {},
    flush: () => {},
    dropCarried: () => {},
  };
  const gate = new Gate();
  const { device, session, pass } = play({ gate, intents }, false);
  intents.staged = false;
  device.ask('INIT', INIT);
  intents.staged = true;
  device.deliver(requestBytes('MKDIR', [u32(0o755, 0), 'd\0'], { unique: 105n, pid: ALIVE }));
  gate.open = false;
  device.deliver(requestBytes('MKDIR', [u32(0o755, 0), 'e\0'], { unique: 106n, pid: KILLED }));
  device.dying.add(KILLED);
  pass(3_000);
  t.match(device.replies.slice(1), [{ unique: 106n, error: EINTR }]);
  t.same(results, [105], 'and none of his has to be remembered');
  t.equal(session.requestsUnderWay, 1);
  t.end();
});

test('a gate whose only waiter was killed is asked once, and lets the next one through', (t) => {
  const gate = new Gate();
  const { device, pass } = play({ gate });
  gate.open = false;
  device.deliver(requestBytes('GETATTR', GETATTR, { unique: 110n, pid: KILLED }));
  device.dying.add(KILLED);
  pass(3_000);
  device.deliver(requestBytes('GETATTR', GETATTR, { unique: 111n, pid: ALIVE }));
  t.equal(gate.waits, 1);
  gate.answer();
  t.same(
    device.replies.slice(1).map(({ unique, error }) => [unique, error]),
    [
      [110n, EINTR],
      [111n, 0],
    ],
  );
  t.end();
});

test('what is under way for somebody who was killed is answered once', async (t) => {
  const { device, filesystem, session, pass } = play();
  const inode = create(device, 'file');
  const ended: (() => void)[] = [];
  const { read, fsync } = filesystem;
  filesystem.read = (...args) => void ended.push(() => read.apply(filesystem, args));
  filesystem.fsync = (...args) => void ended.push(() => fsync.apply(filesystem, args));
  const before = device.replies.length;
  for (const pid of [KILLED, ALIVE]) {
    device.deliver(requestBytes('READ', READ, { unique: BigInt(120 + pid), pid, inode }));
    const flags = [u64(0), u32(0, 0)];
    device.deliver(requestBytes('FSYNC', flags, { unique: BigInt(130 + pid), pid, inode }));
  }
  device.dying.add(KILLED);
  pass(2_100);
  t.same(
    device.replies.slice(before).map(({ unique, error }) => [unique, error]),
    [
      [127n, EINTR],
      [137n, EINTR],
    ],
  );
  t.same([...new Set(device.looks)], [KILLED, ALIVE]);
  for (const end of ended) end();
  await turn();
  await turn();
  const rest = device.replies.slice(before + 2).map(({ unique }) => unique);
  t.same(new Set(rest), new Set([128n, 138n]), 'nothing more for whoever was killed');
  t.equal(session.requestsUnderWay, 0);
  device.looks.length = 0;
  pass(10_000);
  t.same(device.looks, [], 'nobody is looked after who does not wait');
});

test('write-back of pages is never taken back, whoever has the misfortune to do it', (t) => {
  const gate = new Gate();
  const { device, filesystem, pass } = play({ gate });
  const inode = create(device, 'file');
  gate.open = false;
  const body = [u64(0, 0), u32(8, 1), u64(0), u32(0, 0), Buffer.alloc(8, 1)];
  device.deliver(requestBytes('WRITE', body, { unique: 140n, pid: KILLED, inode }));
  device.dying.add(KILLED);
  pass(5_000);
  t.equal(device.replies.length, 2, 'INIT and CREATE');
  gate.answer();
  t.equal(filesystem.getattr(inode).size, 8);
  t.end();
});

test('a listing leaves no reference behind but those of READDIRPLUS entries', async (t) => {
  const { device, filesystem } = play();
  const directory = Number(device.ask('MKDIR', [u32(0o755, 0), 'd\0']).payload.readBigUInt64LE(0));
  const child = create(device, 'file');
  const read = [u64(0, 0), u32(4096, 0), u64(0), u32(0, 0)];
  device.ask('READDIR', read, { inode: directory });
  device.ask('READDIRPLUS', read, { inode: directory });
  device.ask('READDIR', read);
  device.ask('READDIRPLUS', read);
  device.ask('UNLINK', ['file\0']);
  device.ask('RMDIR', ['d\0']);
  device.ask('RELEASE', [Buffer.alloc(24)], { inode: child });
  for (const inode of [child, directory]) {
    t.equal(filesystem.inodes, inode === child ? 3 : 2);
    device.deliver(requestBytes('FORGET', [u64(2)], { inode }));
  }
  t.equal(filesystem.inodes, 1, 'each had one reference of its making and one of READDIRPLUS');
  t.equal(filesystem.lookupsOf(1), 1, 'the root has the one that it was born with');
  t.same(filesystem.complaints, []);
});

test('a listing is cut at whole entries and goes on at its cookie', async (t) => {
  const { device } = play();
  for (let index = 0; index < 50; index++) create(device, `entry-${index}`);
  for (const opcode of ['READDIR', 'READDIRPLUS'] as const) {
    const fixed = opcode === 'READDIR' ? 0 : 128;
    const names: string[] = [];
    for (let cookie = 0n, more = true; more; ) {
      const { payload } = device.ask(opcode, [u64(0, cookie), u32(500, 0), u64(0), u32(0, 0)]);
      more = payload.length > 0;
      t.ok(payload.length <= 500);
      for (let at = 0; at < payload.length; ) {
        const length = payload.readUInt32LE(at + fixed + 16);
        cookie = payload.readBigUInt64LE(at + fixed + 8);
        const start = at + fixed + 24;
        names.push(payload.toString('latin1', start, start + length));
        at += (fixed + 24 + length + 7) & ~7;
      }
    }
    const expected = ['.', '..', ...Array.from({ length: 50 }, (_, index) => `entry-${index}`)];
    t.same(names, expected, opcode);
  }
});
