/**
 * What io/node/fuse-device.ts relies on of a class inside @serialport/bindings-cpp that its authors
 * promise nobody. If a new version breaks one of these, it is this test that says so.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { projectRoot } from '../style/source.js';

interface Poller {
  poll(events: number): void;
  stop(): void;
}
type PollerClass = new (fd: number, callback: (...args: unknown[]) => void) => Poller;

const load = createRequire(import.meta.url);
const { binding } = load('@serialport/bindings-cpp/dist/serialport-bindings.js') as {
  binding: { Poller: PollerClass };
};
const READABLE = 1;

/** A FIFO open for both, so that it can be made readable and never ends. */
function fifo(): { fd: number; close: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-poller-'));
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const close = (): void => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  };
  return { fd, close };
}

test('the package is pinned exactly, and installs without running scripts', async (t) => {
  const root = projectRoot();
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const pinned = manifest.dependencies['@serialport/bindings-cpp'];
  t.match(pinned, /^\d+\.\d+\.\d+$/);
  const installed = join(root, 'node_modules/@serialport/bindings-cpp/package.json');
  t.equal(JSON.parse(readFileSync(installed, 'utf8')).version, pinned);
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
  t.notMatch(lock, /"resolved"/, 'the lock file names no registry host');
});

test('one poll is one callback, and a level that stays is told again', async (t) => {
  const { fd, close } = fifo();
  const calls: unknown[][] = [];
  const poller = new binding.Poller(fd, (...args) => calls.push(args));
  poller.poll(READABLE);
  await sleep(30);
  t.same(calls, [], 'nothing to read');
  writeSync(fd, 'x');
  await sleep(30);
  t.same(calls, [[null, READABLE]]);
  await sleep(30);
  t.equal(calls.length, 1, 'not without another poll');
  poller.poll(READABLE);
  await sleep(30);
  t.equal(calls.length, 2, 'the byte is still there');
  poller.poll(READABLE);
  poller.stop();
  await sleep(30);
  t.equal(calls.length, 2, 'a stopped poller is silent');
  close();
});

test('an immediate scheduled by the callback runs in the same turn, with its ticks', async (t) => {
  const { fd, close } = fifo();
  const order: string[] = [];
  const poller = new binding.Poller(fd, () => {
    setImmediate(() => {
      order.push('immediate');
      process.nextTick(() => order.push('tick'));
      queueMicrotask(() => order.push('microtask'));
    });
    setImmediate(() => order.push('next'));
  });
  poller.poll(READABLE);
  writeSync(fd, 'x');
  await sleep(50);
  t.same(order, ['immediate', 'tick', 'microtask', 'next']);
  poller.stop();
  close();
});

test('a descriptor that cannot be watched is refused at once', async (t) => {
  t.throws(() => new binding.Poller(987_654, () => {}));
});
