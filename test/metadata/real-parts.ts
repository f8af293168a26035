/** A real clock, cryptographic randomness and small waits for the metadata tests. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Monotonic } from '../../src/core/units.js';
import type { Clock } from '../../src/io/clock.js';
import { nodeClock } from '../../src/io/node/clock.js';
import type { Random } from '../../src/io/random.js';

export const realClock: Clock = {
  monotonic: () => performance.now() as Monotonic,
  wall: () => Date.now(),
  timeOfDay: () => nodeClock.timeOfDay(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  soon: (callback) => {
    setImmediate(callback);
  },
};

export const realRandom: Random = {
  bytes: (count) => randomBytes(count),
  fraction: () => Math.random(),
};

/** Waits until the condition holds; throws after `ms`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 20_000,
): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not so after ${ms} ms: ${what}`);
    await sleep(10);
  }
}

/** A short path, since unix sockets have short names. Gone after the test. */
export function temporaryDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'hf-meta-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
