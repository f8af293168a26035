/** The simulated twins keep the contracts of their seams, and lose what a real machine may lose. */
import { test } from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { clockContract } from '../contract/clock.js';
import { diskContract } from '../contract/disk.js';
import { networkContract } from '../contract/network.js';
import { randomContract } from '../contract/random.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { SimDisk } from '../fixtures/sim-disk.js';
import { SimNetwork } from '../fixtures/sim-network.js';
import { SimRandom } from '../fixtures/sim-random.js';

/** A fresh world for each `make`; `until` drives the newest one. */
function harness<T>(build: (scheduler: SimScheduler) => T) {
  let scheduler = new SimScheduler();
  return {
    make: async () => {
      scheduler = new SimScheduler();
      return { subject: build(scheduler), close: async () => {} };
    },
    until: (condition: () => boolean) => scheduler.until(condition, 60_000),
  };
}

const SKEW = { offsetMs: 123_456.5, rate: 1.03 };

clockContract(
  'SimClock',
  harness((scheduler) => new SimProcess(scheduler, 'p', SKEW).clock),
);
randomContract('SimRandom', () => new SimRandom('contract'));
diskContract(
  'SimDisk',
  harness((scheduler) =>
    new SimDisk(scheduler, new SimRandom(1)).attach(new SimProcess(scheduler)),
  ),
);
networkContract(
  'SimNetwork',
  harness((scheduler) => ({
    network: new SimNetwork(scheduler, new SimRandom(1)).attach('a', new SimProcess(scheduler)),
    anyPort: 'a:0',
    nobody: 'a:1',
  })),
);

test('clocks run apart at their rates', async (t) => {
  const scheduler = new SimScheduler();
  const fast = new SimProcess(scheduler, 'fast', { offsetMs: 0, rate: 1.03 }).clock;
  const slow = new SimProcess(scheduler, 'slow', { offsetMs: 5, rate: 0.97 }).clock;
  const fired: string[] = [];
  slow.after(1000, () => fired.push('slow'));
  fast.after(1000, () => fired.push('fast'));
  scheduler.runFor(2000);
  t.same(fired, ['fast', 'slow']);
  t.equal(Math.round(fast.monotonic()), 2060);
  t.equal(Math.round(slow.monotonic()), 1945);
});

test('a paused process sleeps through its timers and wakes up to them', async (t) => {
  const scheduler = new SimScheduler();
  const process = new SimProcess(scheduler);
  const fired: string[] = [];
  process.clock.after(10, () => fired.push('timer'));
  process.after(5, () => fired.push('io'));
  const cancelled = process.clock.after(10, () => fired.push('cancelled'));
  process.pause();
  scheduler.runFor(100);
  t.same(fired, []);
  cancelled.cancel();
  process.resume(true);
  scheduler.runFor(1);
  t.same(fired, ['timer', 'io']);
});

test('a killed process never runs again', async (t) => {
  const scheduler = new SimScheduler();
  const process = new SimProcess(scheduler);
  let ran = false;
  process.clock.after(1, () => {
    ran = true;
  });
  process.kill();
  scheduler.runFor(10);
  t.notOk(ran);
});

interface Booted {
  scheduler: SimScheduler;
  medium: SimDisk;
  process: SimProcess;
}

function boot(seed: number): Booted {
  const scheduler = new SimScheduler();
  const medium = new SimDisk(scheduler, new SimRandom(seed));
  return { scheduler, medium, process: new SimProcess(scheduler) };
}

/** What byte each 512-byte sector of a file begins with after a power loss. */
function sectorsAfterPowerLoss(booted: Booted, path: string): string | null {
  booted.process.kill();
  booted.medium.powerLoss();
  const disk = booted.medium.attach(new SimProcess(booted.scheduler));
  if (!disk.exists(path)) return null;
  const file = disk.open(path, 'never');
  const into = Buffer.alloc(file.size());
  file.readSync(into, 0);
  let out = '';
  for (let at = 0; at < into.length; at += 512) out += String.fromCharCode(into[at] || 48);
  return out;
}

test('synced bytes survive a power loss; later ones are lost, kept or torn', async (t) => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const booted = boot(seed);
    const disk = booted.medium.attach(booted.process);
    const file = disk.open('f', 'new');
    file.writeSync([Buffer.alloc(8192, 'a')], 0);
    file.datasync(true, () => {});
    disk.syncDirectory('', () => {});
    booted.scheduler.runFor(100);
    file.writeSync([Buffer.alloc(2048, 'b')], 0);
    seen.add(sectorsAfterPowerLoss(booted, 'f') ?? 'gone');
  }
  t.ok(seen.has('aaaaaaaaaaaaaaaa'), 'lost');
  t.ok(seen.has('bbbbaaaaaaaaaaaa'), 'kept');
  t.ok(seen.has('abbaaaaaaaaaaaaa'), 'torn');
  for (const sectors of seen) t.match(sectors, /^[ab]{4}a{12}$/);
});

test('names are volatile until their directory is synced', async (t) => {
  const seen = new Set<boolean>();
  for (let seed = 0; seed < 50; seed++) {
    const booted = boot(seed);
    const file = booted.medium.attach(booted.process).open('f', 'new');
    file.datasync(true, () => {});
    booted.scheduler.runFor(100);
    seen.add(sectorsAfterPowerLoss(booted, 'f') !== null);
  }
  t.equal(seen.size, 2, 'sometimes there, sometimes not');
});

test('a rename is all or nothing', async (t) => {
  for (let seed = 0; seed < 50; seed++) {
    const booted = boot(seed);
    const disk = booted.medium.attach(booted.process);
    disk.makeDirectory('d');
    disk.open('a', 'new');
    disk.syncDirectory('', () => {});
    booted.scheduler.runFor(100);
    disk.rename('a', 'd/b');
    booted.process.kill();
    booted.medium.powerLoss();
    const after = booted.medium.attach(new SimProcess(booted.scheduler));
    t.not(after.exists('a'), after.exists('d/b'), 'exactly one of the names');
  }
});

test('a flush makes durable what was written when it began', async (t) => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    const booted = boot(seed);
    const disk = booted.medium.attach(booted.process);
    const file = disk.open('f', 'new');
    disk.syncDirectory('', () => {});
    file.writeSync([Buffer.alloc(512, 'a')], 0);
    file.datasync(true, () => {});
    file.writeSync([Buffer.alloc(512, 'b')], 0);
    booted.scheduler.runFor(100);
    seen.add(sectorsAfterPowerLoss(booted, 'f') ?? 'gone');
  }
  t.same([...seen].sort(), ['a', 'b']);
});

test('after a failed flush the next one succeeds, and the bytes may still be lost', async (t) => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    const booted = boot(seed);
    const disk = booted.medium.attach(booted.process);
    const file = disk.open('f', 'new');
    disk.syncDirectory('', () => {});
    file.writeSync([Buffer.alloc(512, 'a')], 0);
    file.datasync(true, () => {});
    booted.scheduler.runFor(100);
    file.writeSync([Buffer.alloc(512, 'b')], 0);
    booted.medium.faults.failFlushes = 1;
    const results: (HoldfastError | null)[] = [];
    file.datasync(true, (error) => results.push(error));
    booted.scheduler.runFor(100);
    file.datasync(true, (error) => results.push(error));
    booted.scheduler.runFor(100);
    t.equal(results[0]?.code, 'DISK_FAILED');
    t.equal(results[1], null);
    const into = Buffer.alloc(1);
    file.readSync(into, 0);
    t.equal(into.toString(), 'b', 'the page cache shows them');
    seen.add(sectorsAfterPowerLoss(booted, 'f') ?? 'gone');
  }
  t.same([...seen].sort(), ['a', 'b']);
});

test('a killed program leaves its page cache behind', async (t) => {
  const { scheduler, medium, process } = boot(1);
  medium
    .attach(process)
    .open('f', 'new')
    .writeSync([Buffer.from('here')], 0);
  process.kill();
  const file = medium.attach(new SimProcess(scheduler)).open('f', 'never');
  t.equal(file.size(), 4);
});

test('a cut holds frames back and a heal lets them go', async (t) => {
  const scheduler = new SimScheduler();
  const network = new SimNetwork(scheduler, new SimRandom(1));
  const received: string[] = [];
  const nothing = { onFrame: () => {}, onDrain: () => {}, onClose: () => {} };
  const server = network.attach('s', new SimProcess(scheduler));
  server.listen(
    's:1',
    (connection) =>
      connection.handle({ ...nothing, onFrame: (frame) => received.push(frame.toString()) }),
    () => {},
  );
  const client = network.attach('c', new SimProcess(scheduler));
  client.connect('s:1', 1000, (_error, connection) => {
    connection?.handle(nothing);
    network.cut('c', 's');
    connection?.send([Buffer.from('late')]);
  });
  scheduler.runFor(5000);
  t.same(received, []);
  network.heal('c', 's');
  scheduler.runFor(100);
  t.same(received, ['late']);
});
