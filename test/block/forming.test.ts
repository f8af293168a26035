/**
 * Forming a disk, cut short by a power loss after every event: the next start forms it, and takes
 * nothing else for the beginning of a disk.
 */
import { test } from 'tap';
import { DiskStore } from '../../src/block/disk-store.js';
import { newIncarnation } from '../../src/block/forming.js';
import {
  chooseSuperblock,
  encodeSuperblock,
  isUnfinishedSuperblock,
} from '../../src/block/superblock.js';
import type { HoldfastError } from '../../src/core/errors.js';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { CLUSTER, LogOf, NODE, Rig, seg } from './store-rig.js';

const SECTOR = 512;
const identity = { cluster: CLUSTER, node: NODE, journalBytes: 4 * MIB };

function startFormat(rig: Rig, done: (error: HoldfastError | null) => void): void {
  const disk = rig.disk.attach(rig.process);
  DiskStore.format(disk, identity, rig.random.fork('format'), (error) => done(error));
}

/** What a start does: forms what was never formed, opens the rest. */
function start(rig: Rig): 'formed' | 'opened' {
  const error = rig.wait<HoldfastError | null>((done) => startFormat(rig, done));
  if (error !== null && error.code !== 'ALREADY_EXISTS') throw error;
  rig.open();
  return error === null ? 'formed' : 'opened';
}

test('a power loss after any event of the first format needs nobody', async (t) => {
  const ways = { formed: 0, opened: 0 };
  let torn = 0;
  for (let seed = 0; seed < 12; seed++) {
    for (let steps = 0; ; steps++) {
      const rig = new Rig({ seed: `${seed}/${steps}` });
      let isDone = false;
      startFormat(rig, () => {
        isDone = true;
      });
      for (let step = 0; step < steps && !isDone; step++) rig.scheduler.step();
      rig.crash();
      if (rig.disk.attach(rig.process).exists('superblock')) torn += 1;
      ways[start(rig)] += 1;
      const log = new LogOf(seg(1));
      t.equal(rig.create(seg(1)).status, 'OK');
      t.equal(rig.append(log.first).status, 'OK');
      rig.crash().open();
      t.match(rig.look(seg(1)), { durableLength: log.end });
      t.equal(start(rig.crash()), 'opened', 'a disk with data is never formed again');
      if (isDone) break;
    }
  }
  t.ok(ways.formed > 12 && ways.opened > 12 && torn > ways.opened, JSON.stringify({ ways, torn }));
});

test('which superblocks are the beginning of a first format', async (t) => {
  const random = new SimRandom('beginnings');
  const block = { ...identity, format: 1, incarnation: newIncarnation(random), forming: true };
  const page = encodeSuperblock(block);
  const both = Buffer.concat([page, page]);
  let unfinished = 0;
  for (let i = 0; i < 2_000; i++) {
    const torn = Buffer.alloc(random.pick([0, 1, 8, 12, 16]) * SECTOR);
    for (let at = 0; at < torn.length; at += SECTOR) {
      if (random.chance(0.5)) both.copy(torn, at, at, at + SECTOR);
    }
    let isWhole = true;
    try {
      chooseSuperblock([torn.subarray(0, PAGE_BYTES), torn.subarray(PAGE_BYTES)]);
    } catch {
      isWhole = false;
    }
    t.equal(isUnfinishedSuperblock(torn), !isWhole, `${torn.length} bytes, ${i}`);
    if (!isWhole) unfinished += 1;
  }
  t.ok(unfinished > 500 && unfinished < 1_900, `${unfinished}`);
  const others: [string, Uint8Array][] = [
    ['somebody\u2019s file', Buffer.from('UUID=42 / ext4 defaults')],
    ['a longer file of zeroes', Buffer.alloc(3 * PAGE_BYTES)],
    ['bits that no format writes', Buffer.concat([Buffer.alloc(100), Buffer.from([1])])],
    ['one good copy', Buffer.concat([Buffer.alloc(PAGE_BYTES), page])],
    ['rot behind the fields', Buffer.concat([page.subarray(0, 70), Buffer.alloc(1_000, 7)])],
  ];
  for (const [what, bytes] of others) t.equal(isUnfinishedSuperblock(bytes), false, what);
});

test('beside anything else that is ours nothing is formed', async (t) => {
  for (const path of ['journal', 'index-A', 'index-B', 'segments', 'lost']) {
    const rig = new Rig();
    const disk = rig.disk.attach(rig.process);
    disk.open('superblock', 'new').close();
    if (path === 'segments' || path === 'lost') disk.makeDirectory(path);
    else disk.open(path, 'new').close();
    const error = rig.wait<HoldfastError | null>((done) => startFormat(rig, done));
    t.match(error, { code: 'ALREADY_EXISTS' }, path);
  }
});
