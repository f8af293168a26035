/**
 * The end of a journal's lap: from then on its groups are not replayed, so what they say must be in
 * the segment files and the index by the time the snapshot counts. And what the journal holds while
 * the files can take nothing.
 */
import { test } from 'tap';
import { KIB, MIB, PAGE_BYTES } from '../../src/core/units.js';
import { LogOf, Rig, seg } from './store-rig.js';

const RUNS = 20;

function pass(rig: Rig, ms: number): void {
  const until = rig.scheduler.now + ms;
  while (rig.scheduler.now < until && rig.scheduler.step(until)) {
    // Each step is one event.
  }
}

test('a journaled batch behind a direct write survives the end of its lap', async (t) => {
  let lost = 0;
  for (let run = 0; run < RUNS; run++) {
    const rig = new Rig({ seed: `lap ${run}` }).format().open();
    const others = new LogOf(seg(99));
    rig.create(seg(99));
    rig.append(others.first);
    const half = rig.store.stats().journalBytes / 2;
    while (rig.store.stats().journalUsedBytes < half - 100 * KIB) rig.append(others.add(10));
    const log = new LogOf(seg(1));
    rig.create(seg(1));
    rig.append(log.first);
    let acknowledged = 0;
    const send = (batch: LogOf['first'], onReply: (length: number) => void): void =>
      rig.store.handle(rig.appendRequest(batch), ({ status, durableLength }) => {
        if (status === 'OK') onReply(durableLength);
      });
    const note = (length: number): void => {
      acknowledged = Math.max(acknowledged, length);
    };
    // A large one, straight to the file, and a small one, through the journal, on their way at once
    // while others fill what is left of the half.
    send(log.add(500), note);
    send(log.add(1), note);
    for (let i = 0; i < 4; i++) send(others.add(12), () => {});
    for (let step = 0; step < 5000 && acknowledged < log.end; step++) rig.scheduler.step();
    t.equal(acknowledged, log.end);
    pass(rig, run % 2 === 0 ? 50 : 1000);
    t.ok(rig.store.stats().journalUsedBytes < half, 'the lap before counts no more');
    rig.crash().open();
    if ((rig.look(seg(1))?.durableLength ?? 0) < acknowledged) lost += 1;
  }
  t.equal(lost, 0, `${lost} of ${RUNS} runs lost acknowledged bytes`);
});

test('thousands of segments without a byte are no obstacle to a start', async (t) => {
  const rig = new Rig({ seed: 'many' }).format().open();
  const { incarnation } = rig;
  const volume = new LogOf(seg(1)).first.header.volume;
  let left = 6000;
  for (let n = 1; n <= 6000; n++) {
    const request = { type: 'create', incarnation, segment: seg(n), volume, epoch: 1 } as const;
    rig.store.handle(request as never, ({ status }) => {
      if (status === 'OK') left -= 1;
    });
  }
  while (left > 0 && rig.scheduler.step()) {
    // Each step is one event.
  }
  rig.crash();
  t.equal(rig.tryOpen(), null);
  t.equal(rig.look(seg(6000))?.durableLength, 0);
});

/** Writes find no room, though statfs shows some: quotas do that. Returns what ends it. */
function fill({ disk }: Rig, onTry: () => void = () => {}): () => void {
  const checkRoom = disk.checkRoom.bind(disk);
  disk.checkRoom = (inode, size) => {
    onTry();
    disk.faults.full = true;
    try {
      checkRoom(inode, size);
    } finally {
      disk.faults.full = false;
    }
  };
  return () => {
    disk.checkRoom = checkRoom;
  };
}

for (const sealed of [false, true]) {
  test(`what a full disk holds back is not lost, ${sealed ? 'sealed' : 'open'}`, async (t) => {
    const rig = new Rig({ seed: 'full read', limits: { reserveBytes: 0 } }).format().open();
    const log = new LogOf(seg(1));
    rig.create(seg(1));
    rig.append(log.first);
    rig.append(log.add(2));
    pass(rig, 1_000);
    const empty = fill(rig);
    const from = log.end / PAGE_BYTES;
    t.equal(rig.append(log.add(2)).status, 'OK', 'the journal has it');
    if (sealed) t.equal(rig.seal(seg(1), log.end, log.crc).status, 'OK');
    t.equal(rig.read(seg(1), from, 2).status, 'BUSY', 'later');
    t.equal(rig.read(seg(1), 1, 2).status, 'OK', 'what is in the file can be read');
    t.same(rig.store.takeRotten(), [], 'nothing is rotten');
    t.equal(rig.store.stats().checksumFailures, 0);
    empty();
    t.equal(rig.read(seg(1), from, 2).status, 'OK', 'with room again');
  });
}

test('a disk that takes no bytes is tried once a second, however many groups come', async (t) => {
  const rig = new Rig({ seed: 'full', capacityBytes: 64 * MIB, limits: { reserveBytes: 0 } });
  rig.format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  let tries = 0;
  const empty = fill(rig, () => {
    tries += 1;
  });
  for (let i = 0; i < 100; i++) {
    t.equal(rig.append(log.add(1)).status, 'OK', 'the journal has it');
    pass(rig, 30);
  }
  tries = 0;
  pass(rig, 10_000);
  t.ok(tries >= 8 && tries <= 12, `${tries} tries in 10 s`);
  empty();
  pass(rig, 2_000);
  t.equal(rig.store.stats().pendingBytes ?? 0, 0);
  t.equal(rig.read(seg(1), 0, 50).status, 'OK');
});
