/**
 * The real device on a FIFO: what io/node/fuse-device.ts relies on of a class inside Node.js whose
 * authors promise nothing. If a new version breaks one of these, it is this test that says so.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Test, test } from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { NodeFuseDevice } from '../../src/io/node/fuse-device.js';

const SETTLED_MS = 50;
const LIMITS = { maxRequestsAWakeup: 16, copyMaxBytes: 16, maxReplyParts: 4, busyPollMs: 0.1 };

interface Fixture {
  readonly device: NodeFuseDevice;
  readonly fd: number;
  /** What was delivered, as text. */
  readonly got: string[];
  readonly ends: (HoldfastError | null)[];
  readonly path: string;
  send(text: string): void;
}

/** A device over a FIFO; `onRequest` runs behind the noting of what came. */
function fixture(t: Test, onRequest: (text: string) => void = () => {}): Fixture {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-device-'));
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const device = new NodeFuseDevice(fd, { ...LIMITS, bufferBytes: 4096 });
  const got: string[] = [];
  const ends: (HoldfastError | null)[] = [];
  device.start({
    onRequest: (buffer, length) => {
      const text = buffer.toString('latin1', 0, length);
      got.push(text);
      onRequest(text);
    },
    onClose: (error) => ends.push(error),
  });
  t.teardown(() => {
    device.close();
    closeSync(writer);
    rmSync(directory, { recursive: true });
  });
  return { device, fd, got, ends, path, send: (text) => void writeSync(writer, text) };
}

test('what comes is delivered whole, each time that something comes', async (t) => {
  const { got, send } = fixture(t);
  await sleep(SETTLED_MS);
  t.same(got, [], 'nothing to read');
  send('first');
  await sleep(SETTLED_MS);
  send('second');
  await sleep(SETTLED_MS);
  t.same(got, ['first', 'second']);
});

test('ticks and promises of one request run before the next one', async (t) => {
  const order: string[] = [];
  const { send } = fixture(t, (text) => {
    order.push(text);
    process.nextTick(() => order.push('tick'));
    queueMicrotask(() => order.push('microtask'));
    if (text === 'one') send('two');
  });
  send('one');
  await sleep(SETTLED_MS);
  t.same(order, ['one', 'tick', 'microtask', 'two', 'tick', 'microtask']);
});

test('a paused device delivers nothing until it is resumed', async (t) => {
  const { device, got, send } = fixture(t, (text) => {
    if (text === 'pause') device.pause(true);
  });
  send('pause');
  await sleep(SETTLED_MS);
  send('a');
  await sleep(SETTLED_MS);
  t.same(got, ['pause'], 'paused while it was served');
  device.pause(false);
  await sleep(SETTLED_MS);
  t.same(got, ['pause', 'a']);
  device.pause(true);
  send('b');
  await sleep(SETTLED_MS);
  t.same(got, ['pause', 'a'], 'paused at another time');
  device.pause(false);
  device.pause(true);
  device.pause(false);
  await sleep(SETTLED_MS);
  t.same(got, ['pause', 'a', 'b']);
});

test('a pause that ends within the same request is none', async (t) => {
  const { device, got, send } = fixture(t, () => {
    device.pause(true);
    device.pause(false);
  });
  send('a');
  await sleep(SETTLED_MS);
  send('b');
  await sleep(SETTLED_MS);
  t.same(got, ['a', 'b']);
});

test('closing lets go of the descriptor, and tells nobody', async (t) => {
  const { device, fd, got, ends, path, send } = fixture(t);
  t.equal(readlinkSync(`/proc/self/fd/${fd}`), path);
  device.close();
  t.not(linkOf(fd), path);
  t.equal(device.reply(Buffer.alloc(8), 8, []), 'gone');
  send('late');
  await sleep(SETTLED_MS);
  t.same({ got, ends }, { got: [], ends: [] });
});

const skip = existsSync('/dev/fuse') ? false : 'there is no /dev/fuse here';

test('the end of the connection is told once, and closes the descriptor', { skip }, async (t) => {
  // Not mounted: each read fails, as it does when a mount has ended.
  const fd = openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK);
  const device = new NodeFuseDevice(fd, { ...LIMITS, bufferBytes: 16_384 });
  const ends: unknown[] = [];
  device.start({ onRequest: () => t.fail('a request'), onClose: (error) => ends.push(error) });
  await sleep(SETTLED_MS);
  t.same(ends, [null]);
  t.not(linkOf(fd), '/dev/fuse');
  t.equal(device.reply(Buffer.alloc(8), 8, []), 'gone');
  device.close();
});

test('a descriptor that cannot be watched is refused at once', async (t) => {
  const device = new NodeFuseDevice(987_654, { ...LIMITS, bufferBytes: 4096 });
  const start = (): void => device.start({ onRequest: () => {}, onClose: () => {} });
  t.throws(start, { code: 'UNAVAILABLE' });
});

function linkOf(fd: number): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return null;
  }
}
