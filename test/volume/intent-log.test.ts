/** The intent log by itself: its bytes, what a cut or damaged file still says, how room is used. */
import fc from 'fast-check';
import { test } from 'tap';
import { present } from '../../src/core/assert.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { OwnerId, VolumeId } from '../../src/core/ids.js';
import { MIB } from '../../src/core/units.js';
import {
  type FoundIntents,
  REGIONS_AT,
  type RequestName,
  readIntents,
} from '../../src/volume/intent-format.js';
import { IntentLog } from '../../src/volume/intent-log.js';
import type { Operation, Write } from '../../src/volume/operations.js';
import { Bed } from './harness.js';
import { MemoryIntents } from './memory-intents.js';

const volume = '000102030405060708090a0b0c0d0e0f' as VolumeId;
const owner = '101112131415161718191a1b1c1d1e1f' as OwnerId;
const identity = { volume, owner, epoch: 7, mount: 'feed' };
const time = { seconds: 1_700_000_000, nanoseconds: 5 };

class Bench {
  readonly intents = new MemoryIntents();
  readonly turns: (() => void)[] = [];
  readonly log: IntentLog;
  readonly faults: string[] = [];
  crowded = 0;
  written = 0;

  constructor(carried: FoundIntents['results'] = []) {
    this.log = new IntentLog({
      file: this.intents.create(),
      identity,
      carried,
      endOfTurn: (run) => this.turns.push(run),
      onFault: ({ code }) => this.faults.push(code),
    });
    this.log.attach({
      onWritten: () => {
        this.written += 1;
      },
      onCrowded: () => {
        this.crowded += 1;
      },
    });
  }

  /** The events of a turn are over. */
  turn(): void {
    for (const run of this.turns.splice(0)) run();
  }

  /** A file is made, and its request answered; the reply goes out at the end of the turn. */
  create(lsn: number, inode: number, sent: number[] = []): void {
    this.log.operation(lsn, created(inode));
    this.log.result(named(inode), Buffer.from(`reply ${inode}`));
    this.log.whenWritten(() => sent.push(inode));
  }

  write(lsn: number, bytes: number): void {
    const count = Math.ceil(bytes / 4096);
    const operation: Write = { type: 'write', inode: 2, page: 0, count, size: bytes, time };
    this.log.write(lsn, operation, { from: 0, to: bytes }, [Buffer.alloc(bytes, lsn)]);
  }

  found(): FoundIntents {
    return present(this.intents.read(), 'an established file');
  }
}

function created(inode: number): Operation {
  const [uid, gid, rdev, mode] = [0, 0, 0, 0o100644];
  const name = Buffer.from(`f${inode}`);
  return { type: 'create', inode, parent: 1, name, mode, uid, gid, rdev, target: NONE, time };
}

function named(low: number): RequestName {
  return { low, high: 0 };
}

/** The inodes of the files made, and those whose reply may be missing. */
function told({ batches, results }: FoundIntents): { made: number[]; replies: number[] } {
  const made = batches
    .flatMap(({ entries }) => entries)
    .flatMap((entry) => (entry.kind === 'operation' ? [entry.operation] : []))
    .flatMap((operation) => (operation.type === 'create' ? [operation.inode] : []));
  return { made, replies: results.map(({ request }) => request.low) };
}

const NONE = Buffer.alloc(0);

test('before it takes the place of the one before, no record goes to the log', async (t) => {
  const { log } = new Bench();
  t.ok(log.holds(1), 'although nothing is recorded');
  log.establish();
  t.notOk(log.holds(1));
});

test('a group goes to the log after its intents, and they are let go of with it', async (t) => {
  const intents = new MemoryIntents();
  const bed = new Bed({ ackDelayMs: null, intents });
  const { history } = bed.fs;
  const log = present(history.intents, 'an intent log');
  const committed: number[] = [];
  const before = log.committed.bind(log);
  log.committed = (lsn) => {
    committed.push(lsn);
    before(lsn);
  };
  log.flush();
  bed.owner.acknowledge();
  committed.length = 0;
  for (const name of ['a', 'b']) {
    const at = history.nextLsn;
    bed.file(name);
    history.close();
    t.equal(bed.owner.inFlight, 0, 'they are written at the end of the turn');
    log.flush();
    t.equal(bed.owner.inFlight, 1);
    bed.owner.acknowledge();
    t.same(committed.splice(0), [at]);
  }
});

test('replies that were taken on and are damaged are none', async (t) => {
  const { log, intents } = new Bench([{ request: named(7), bytes: Buffer.from('reply 7') }]);
  log.establish();
  const file = Buffer.from(present(intents.file, 'a file'));
  t.same(told(present(readIntents(file), 'intents')).replies, [7]);
  const at = file.indexOf('reply 7');
  file.write('x', at);
  t.same(told(present(readIntents(file), 'intents')).replies, []);
});

test('what a region had before it was used again is not read with what it has', async (t) => {
  const bench = new Bench();
  const { log } = bench;
  log.establish();
  for (let lsn = 1; lsn <= 3; lsn++) {
    bench.create(lsn, lsn);
    bench.turn();
  }
  log.committed(3);
  bench.turn();
  bench.create(4, 4);
  bench.turn();
  t.same(told(bench.found()), { made: [4], replies: [4] });
});

test('the bytes of a batch are these for ever', async (t) => {
  const { log, intents, turns } = new Bench();
  log.establish();
  log.operation(3, { type: 'free', inode: 9 });
  const write: Write = { type: 'write', inode: 2, page: 1, count: 1, size: 4100, time };
  log.write(3, write, { from: 0, to: 4 }, [Buffer.from('data')]);
  log.patch(4, 2, 1, 5, Buffer.from('xy'));
  log.result({ low: 0xa, high: 0xb }, Buffer.from('ok'));
  log.schedule();
  for (const run of turns) run();
  const file = present(intents.file, 'a file');
  const batch = file.subarray(REGIONS_AT, REGIONS_AT + 176).toString('hex');
  const control = [
    ...['01 0300000000000000', '02 07 0900000000000000'],
    '03 0a 0200000000000000 01000000 01000000 0410000000000000 00f153e5 05000000',
    ...['00000000 04000000 01 64617461', '01 0400000000000000'],
    ...['04 0200000000000000 01000000 0500 0200 7879', '05 0a000000 0b000000 0200 6f6b'],
  ].join(' ');
  const bytes = (text: string): string => text.replaceAll(' ', '');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes(control).length / 2);
  t.ok(batch.startsWith(`48464942${length.toString('hex')}00000000`), 'magic and lengths');
  t.equal(batch.slice(32, 80), bytes('0100000000000000 0200000000000000 0000000000000000'));
  t.equal(batch.slice(80, 80 + bytes(control).length), bytes(control));
  t.equal(batch.slice(80 + bytes(control).length).slice(0, 16), bytes('0100000000000000'));
  t.equal(file.subarray(0, 4).toString(), 'HFI1');
  t.match(readIntents(file)?.identity, identity);
});

test('replies wait for the end of the turn, and are written with what they answer', async (t) => {
  const bench = new Bench();
  const sent: number[] = [];
  bench.create(1, 10);
  t.ok(bench.log.holds(1), 'nothing goes to the log before the intents are established');
  bench.log.establish();
  t.same(told(bench.found()).made, [10]);
  bench.create(1, 11, sent);
  bench.create(2, 12, sent);
  t.same(sent, []);
  t.ok(bench.log.holds(1));
  t.notOk(bench.log.holds(0), 'what is older may go to the log');
  const { writes } = bench.intents;
  bench.turn();
  t.equal(bench.intents.writes, writes + 1, 'one write a turn');
  t.same(sent, [11, 12]);
  t.notOk(bench.log.holds(2));
  t.same(told(bench.found()), { made: [10, 11, 12], replies: [11, 12] });
  bench.create(2, 13, sent);
  bench.turn();
  t.same(told(bench.found()).replies, [13], 'those of the turn before have gone out');
});

test('a file that ends anywhere says what was whole', async (t) => {
  const before = new Bench();
  before.log.establish();
  before.create(1, 10);
  before.turn();
  before.create(1, 11);
  before.write(1, 9000);
  const { writes } = before.intents;
  before.turn();
  t.equal(before.intents.writes, writes + 1);
  const length = present(before.intents.file, 'a file').length;
  for (let cut = 0; cut < 9400; cut += cut < 300 || cut > 9000 ? 1 : 97) {
    const bench = new Bench();
    bench.log.establish();
    bench.create(1, 10);
    bench.turn();
    bench.create(1, 11);
    bench.write(1, 9000);
    bench.intents.cut = cut;
    try {
      bench.turn();
    } catch {
      // the process has ended
    }
    const { made, replies } = told(bench.found());
    const isWhole = made.length === 2;
    const data = bench.found().batches.flatMap(({ entries }) => entries);
    for (const entry of data) {
      if (entry.kind === 'write') t.ok(Buffer.alloc(9000, 1).equals(entry.bytes), 'all of it');
    }
    t.same({ made, replies }, isWhole ? { made: [10, 11], replies: [11] } : ONE, `cut at ${cut}`);
  }
  t.ok(length > 9000);
});

const ONE = { made: [10], replies: [10] };

test('damaged files are refused or say less, and never something else', async (t) => {
  const bench = new Bench();
  bench.log.establish();
  for (let i = 0; i < 20; i++) {
    bench.create(i, 100 + i);
    if (i % 3 === 0) bench.write(i, 5000);
    bench.turn();
  }
  const file = present(bench.intents.file, 'a file');
  const end = file.length - [...file].reverse().findIndex((byte) => byte !== 0);
  const all = told(bench.found()).made;
  const damage = fc.array(
    fc.record({ at: fc.integer({ min: REGIONS_AT, max: end - 1 }), bit: fc.nat(7) }),
    { minLength: 1 },
  );
  fc.assert(
    fc.property(damage, fc.integer({ min: REGIONS_AT, max: end }), (flips, length) => {
      const bad = Buffer.from(file.subarray(0, length));
      for (const { at, bit } of flips) {
        if (at < length) bad[at] = (bad[at] as number) ^ (1 << bit);
      }
      try {
        const found = readIntents(bad);
        if (found === null) return true;
        const { made } = told(found);
        return made.every((inode, index) => inode === all[index]);
      } catch (thrown) {
        return thrown instanceof HoldfastError;
      }
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test('room is used again once its records are in the log, and waited for before', async (t) => {
  const bench = new Bench();
  bench.log.establish();
  let lsn = 0;
  const sent: number[] = [];
  const fill = (): boolean => {
    lsn += 1;
    const now = sent.length;
    bench.write(lsn, MIB);
    const at = lsn;
    bench.log.whenWritten(() => sent.push(at));
    bench.turn();
    return sent.length > now;
  };
  while (fill()) if (lsn > 100) throw new Error('there is no limit');
  t.ok(lsn > 50 && lsn <= 64, `${lsn - 1} MiB fit`);
  t.ok(bench.log.holds(lsn), 'what has no room does not go to the log');
  t.notOk(bench.log.holds(lsn - 1));
  bench.log.committed(20);
  bench.turn();
  t.equal(sent.at(-1), lsn, 'it waited for that');
  bench.log.committed(lsn);
  const size = present(bench.intents.file, 'a file').length;
  for (let i = 0; i < 200; i++) {
    fill();
    bench.log.committed(lsn);
  }
  t.equal(sent.length, lsn);
  t.equal(present(bench.intents.file, 'a file').length, size, 'it does not grow any more');
  t.ok(size <= 66 * MIB);
});

test('what of a turn is in the file is answered before it may be written over', async (t) => {
  const bench = new Bench();
  bench.log.establish();
  let lsn = 1;
  for (; lsn <= 8; lsn++) {
    for (let i = 0; i < 6; i++) bench.write(lsn, MIB);
    bench.log.schedule();
    bench.turn();
  }
  t.notOk(bench.log.staged, 'all regions are taken');
  bench.log.committed(1);
  const sent: number[] = [];
  bench.create(20, 77, sent);
  for (const at of [20, 20, 20, 21, 21, 21, 22, 22, 22]) bench.write(at, MIB);
  bench.create(22, 78, sent);
  bench.turn();
  t.ok(bench.log.staged, 'a part of the turn waits for room');
  t.notOk(bench.log.holds(20), 'the file was made in a record that may go to the log');
  t.same(sent, [77]);
  bench.log.committed(21);
  // The room of the first part is used again, and the process dies meanwhile.
  bench.intents.cut = MIB;
  bench.turn();
  t.same(told(bench.found()).replies, [], 'nobody asks for the reply any more');
  t.same(sent, [77]);
});

test('a record whose intents take too much room is to be closed', async (t) => {
  const bench = new Bench();
  bench.log.establish();
  const page = Buffer.alloc(4096);
  for (let i = 0; i < 2500; i++) {
    bench.log.patch(1, 2, 0, 0, page);
    bench.log.schedule();
    bench.turn();
  }
  t.ok(bench.crowded > 0);
});

test('without the file, replies wait for the log itself', async (t) => {
  const bench = new Bench();
  bench.log.establish();
  const sent: number[] = [];
  bench.intents.error = new HoldfastError('DISK_FULL', 'no room in memory');
  bench.create(1, 10, sent);
  bench.turn();
  t.same(sent, []);
  t.same(bench.faults, ['DISK_FULL']);
  t.equal(bench.crowded, 1, 'the open record is asked for');
  t.notOk(bench.log.holds(1), 'and may go to the log');
  bench.log.committed(1);
  bench.turn();
  t.same(sent, [10]);
  bench.intents.error = null;
  bench.create(2, 11, sent);
  bench.turn();
  t.same(sent, [10, 11]);
  t.ok(told(bench.found()).made.includes(11));
});

test('what could not be written is written as it was, once there is room', async (t) => {
  const bench = new Bench();
  const full = new HoldfastError('DISK_FULL', 'no room in memory');
  bench.create(1, 9);
  bench.intents.error = full;
  t.throws(() => bench.log.establish(), { code: 'DISK_FULL' });
  t.throws(() => bench.log.establish(), { code: 'DISK_FULL' });
  bench.intents.error = null;
  bench.log.establish();
  t.same(told(bench.found()), { made: [9], replies: [9] });
  bench.intents.error = full;
  const sent: number[] = [];
  bench.create(1, 10, sent);
  bench.turn();
  bench.intents.error = null;
  bench.create(1, 11, sent);
  bench.turn();
  t.same(sent, [10, 11]);
  t.same(told(bench.found()).made, [9, 10, 11]);
});

test('replies that are carried over stay until they have been given', async (t) => {
  const carried = [{ request: named(5), bytes: Buffer.from('reply 5') }];
  const bench = new Bench(carried);
  bench.log.establish();
  bench.create(1, 10);
  bench.turn();
  t.same(told(bench.found()).replies, [5, 10]);
  bench.log.dropCarried();
  t.same(told(bench.found()).replies, [10]);
});

test('without room nobody looks for it again until records are in the log', async (t) => {
  const intents = new MemoryIntents();
  const bed = new Bed({ ackDelayMs: null, intents });
  const log = present(bed.fs.history.intents, 'an intent log');
  const inode = bed.file('counters');
  log.flush();
  // In place, again and again: little for the log, which takes all, and tells of nothing.
  for (let i = 0; i < 2_000 && !log.staged; i++) {
    bed.write(inode, 0, Buffer.alloc(16 * 4096, i));
    log.flush();
  }
  t.ok(log.staged, 'the room ends');
  // The commit interval closes the record whose intents have no room: who spins throws here.
  bed.scheduler.runFor(6_000);
  t.ok(log.staged);
  bed.owner.acknowledge();
  bed.scheduler.runFor(10);
  t.notOk(log.staged, 'there is room, although nobody waits for a reply');
  bed.owner.acknowledge();
  t.ok(bed.fs.history.isSettled);
});
