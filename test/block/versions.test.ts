/** Disks of several formats: when one is raised, and that no crash leaves what its format hides. */
import { test } from 'tap';
import { readSuperblock } from '../../src/block/superblock.js';
import type { Reply } from '../../src/block/wire/messages.js';
import { LogOf, Rig, seg } from './store-rig.js';

/** As a program that opens the disk next would find it. */
function formatOf(rig: Rig): number {
  const file = rig.disk.attach(rig.process).open('superblock', 'never');
  const { format } = readSuperblock((into, position) => file.readSync(into, position)).block;
  file.close();
  return format;
}

function withSegment(seed: number): Rig {
  const rig = new Rig({ seed }).format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.first);
  return rig;
}

test('a disk stays in the oldest format until a DROP', async (t) => {
  const rig = withSegment(1);
  rig.create(seg(2));
  rig.remove(seg(2));
  t.equal(rig.crash().open() && formatOf(rig), 1, 'the version before may open it');
  t.equal(rig.send(rig.dropRequest(seg(3))).status, 'OK');
  t.equal(formatOf(rig), 1, 'nothing was there to be dropped');
  t.equal(rig.send(rig.dropRequest(seg(1))).status, 'OK');
  t.equal(formatOf(rig), 2);
  t.equal(rig.crash().open() && formatOf(rig), 2, 'and it stays so');
  t.equal(rig.look(seg(1))?.deleted, true);
});

test('wherever the power is cut, nothing was dropped on a disk of the older format', async (t) => {
  const found = new Set<string>();
  for (let steps = 0, answered = false; !answered; steps++) {
    const rig = withSegment(steps);
    const replies: Reply[] = [];
    rig.store.handle(rig.dropRequest(seg(1)), (reply) => replies.push(reply));
    for (let step = 0; step < steps; step++) rig.scheduler.step(rig.scheduler.now + 60_000);
    answered = replies.length > 0;
    rig.crash();
    const format = formatOf(rig);
    const isDropped = rig.open().look(seg(1))?.deleted === true;
    found.add(`format ${format}, ${isDropped ? 'dropped' : 'kept'}`);
    if (answered) t.ok(isDropped, 'what was answered is so');
  }
  t.same([...found].sort(), ['format 1, kept', 'format 2, dropped', 'format 2, kept']);
});

test('a disk on which the format cannot be raised fails, and drops nothing', async (t) => {
  const rig = withSegment(1);
  rig.disk.faults.failFlushes = 1;
  t.equal(rig.send(rig.dropRequest(seg(1))).status, 'DISK');
  rig.crash().open();
  t.equal(rig.look(seg(1))?.deleted, false);
});
