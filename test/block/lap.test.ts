/**
 * The end of a journal's lap: from then on its groups are not replayed, so what they say must be in
 * the segment files and the index by the time the snapshot counts.
 */
import { test } from 'tap';
import { KIB, MIB } from '../../src/core/units.js';
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

test('a disk that takes no bytes is tried once a second, however many groups come', async (t) => {
  const rig = new Rig({ seed: 'full', capacityBytes: 64 * MIB, limits: { reserveBytes: 0 } });
  rig.format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  // As quotas do: statfs sees room, writes do not.
  let tries = 0;
  const { disk } = rig;
  const checkRoom = disk.checkRoom.bind(disk);
  disk.checkRoom = (inode, size) => {
    tries += 1;
    disk.faults.full = true;
    try {
      checkRoom(inode, size);
    } finally {
      disk.faults.full = false;
    }
  };
  for (let i = 0; i < 100; i++) {
    t.equal(rig.append(log.add(1)).status, 'OK', 'the journal has it');
    pass(rig, 30);
  }
  tries = 0;
  pass(rig, 10_000);
  t.ok(tries >= 8 && tries <= 12, `${tries} tries in 10 s`);
  disk.checkRoom = checkRoom;
  pass(rig, 2_000);
  t.equal(rig.store.stats().pendingBytes ?? 0, 0);
  t.equal(rig.read(seg(1), 0, 50).status, 'OK');
});
