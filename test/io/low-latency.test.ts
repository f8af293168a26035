/** When processors are asked not to sleep, over timers of the test; and the kernel's own device. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { present } from '../../src/core/assert.js';
import {
  ENOUGH,
  LowLatency,
  lowLatencyHere,
  processorsAwake,
  QUIET_WINDOWS,
  SMALL_MAX_BYTES,
  SPINNING_MAX_PROCESSORS,
  WINDOW_MS,
} from '../../src/io/node/low-latency.js';
import { openFiles } from '../fixtures/processes.js';

function readDriver(): string {
  try {
    return readFileSync('/sys/devices/system/cpu/cpuidle/current_driver', 'latin1').trim();
  } catch {
    return 'none';
  }
}

class World {
  /** Of each request. */
  bytes = SMALL_MAX_BYTES;
  asked = 0;
  held = 0;
  #timer: (() => void) | null = null;
  readonly latency = new LowLatency(
    () => {
      this.asked++;
      this.held++;
      return () => this.held--;
    },
    (ms, run) => {
      if (ms !== WINDOW_MS) throw new Error(`a window of ${ms} ms`);
      if (this.#timer !== null) throw new Error('one window at a time is counted');
      this.#timer = run;
    },
  );

  get isCounting(): boolean {
    return this.#timer !== null;
  }

  /** A window's time in which so many requests come. */
  window(requests: number): void {
    for (let i = 0; i < requests; i++) this.latency.came(this.bytes);
    const ended = this.#timer;
    this.#timer = null;
    ended?.();
  }
}

t.test('many requests keep processors awake, and nothing is asked for few', async (t) => {
  const world = new World();
  for (let i = 0; i < 20; i++) world.window(ENOUGH - 1);
  t.equal(world.asked, 0);
  world.window(ENOUGH);
  t.equal(world.held, 1);
  for (let i = 0; i < 20; i++) world.window(ENOUGH + i);
  t.equal(world.asked, 1, 'once, for as long as they come');
});

t.test('requests that move much are no reason', async (t) => {
  const world = new World();
  world.bytes++;
  for (let i = 0; i < 20; i++) world.window(10 * ENOUGH);
  t.equal(world.asked, 0);
  t.equal(world.isCounting, false);
});

t.test('a pause is waited for, then processors may sleep and nothing is counted', async (t) => {
  const world = new World();
  world.window(ENOUGH);
  for (let i = 1; i < QUIET_WINDOWS; i++) world.window(0);
  t.equal(world.held, 1);
  world.window(ENOUGH);
  for (let i = 1; i < QUIET_WINDOWS; i++) world.window(1);
  t.equal(world.held, 1, 'the count of quiet windows began anew');
  world.window(1);
  t.equal(world.held, 0);
  t.equal(world.isCounting, false, 'an idle daemon has no timer');
  world.window(ENOUGH);
  t.equal(world.held, 1, 'asked for again');
});

t.test(
  'whatever comes: at most one request is held, and none for longer than it pays',
  async (t) => {
    const property = fc.property(fc.array(fc.nat(2 * ENOUGH), { maxLength: 200 }), (windows) => {
      const world = new World();
      let quiet = 0;
      for (const requests of windows) {
        world.window(requests);
        quiet = requests >= ENOUGH ? 0 : quiet + 1;
        const isRight = quiet === 0 ? world.held === 1 : quiet < QUIET_WINDOWS || world.held === 0;
        if (!isRight || world.held > 1) return false;
        if (world.held === 0 && world.isCounting) return false;
      }
      return true;
    });
    t.doesNotThrow(() => fc.assert(property));
  },
);

const offered = processorsAwake(1);
const machine = offered === null && 'this machine has no processors that sleep, or no right to ask';

t.test('the kernel is asked through a descriptor that does not stay', { skip: machine }, (t) => {
  const asking = (): number =>
    openFiles(process.pid).filter((path) => path.endsWith('cpu_dma_latency')).length;
  t.equal(asking(), 0, 'looking for it asks for nothing');
  const release = present(offered, 'not skipped')();
  t.equal(asking(), 1);
  release();
  t.equal(asking(), 0);
  t.end();
});

t.test('the operator can say no', { skip: machine }, (t) => {
  t.equal(lowLatencyHere({ HOLDFAST_LOW_LATENCY: 'no' }), null);
  t.end();
});

const spins = readDriver() === 'haltpoll' ? false : 'only processors that would spin are counted';
t.test('a large virtual machine is left alone', { skip: machine || spins }, (t) => {
  t.not(processorsAwake(SPINNING_MAX_PROCESSORS), null);
  t.equal(processorsAwake(SPINNING_MAX_PROCESSORS + 1), null);
  t.end();
});
