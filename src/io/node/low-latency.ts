/**
 * Keeps idle processors from falling asleep while requests come one after the other. Each of them
 * makes somebody wait whose processor halts meanwhile: the program for us, we for a node, a node
 * for its disk. Waking a halted processor takes longer than most requests do, on a virtual machine
 * above all, where it goes through the hypervisor twice.
 *
 * The kernel offers this as PM QoS: who holds /dev/cpu_dma_latency open says how many microseconds
 * a processor may take to wake up. The request ends with its descriptor, so however a daemon ends,
 * nothing stays behind. See Documentation/power/pm_qos_interface.rst in the kernel's source.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { cpus } from 'node:os';
import { KIB } from '../../core/units.js';

const DEVICE = '/dev/cpu_dma_latency';
const DRIVER = '/sys/devices/system/cpu/cpuidle/current_driver';
/** The driver of virtual machines: it says 1 µs of its halt, which takes 50 and more. */
const VIRTUAL_DRIVER = 'haltpoll';
/** The first sleep of real processors, which costs hardly any power more than deeper ones. */
const LIGHT_SLEEP_US = 2;
/** No sleep at all: an idle processor spins, and is left at once to whoever wants it. */
const NO_SLEEP_US = 0;
/** Where there are more processors than this, too many would spin for one busy mount. */
export const SPINNING_MAX_PROCESSORS = 8;

/**
 * What moves more takes longer than waking up, and loses more by processors that spin beside it
 * than it gains: 15 % of reading a file in order, on two threads of one core.
 */
export const SMALL_MAX_BYTES = 64 * KIB;
/** Small requests are counted over this time. */
export const WINDOW_MS = 25;
/** So many in a window are worth it: 400 a second. */
export const ENOUGH = 10;
/** So many windows in a row must have fewer before processors may sleep again. */
export const QUIET_WINDOWS = 4;

/** Asks for processors that do not sleep; what it returns takes that back. */
export type HoldAwake = () => () => void;

export class LowLatency {
  readonly #hold: HoldAwake;
  readonly #after: (ms: number, run: () => void) => void;
  #came = 0;
  #isCounting = false;
  #release: (() => void) | null = null;
  #quiet = 0;

  constructor(hold: HoldAwake, after: (ms: number, run: () => void) => void = afterUnref) {
    this.#hold = hold;
    this.#after = after;
  }

  /** A request that somebody waits for, and the bytes it moves, or its reply alone. */
  came(bytes: number): void {
    if (bytes > SMALL_MAX_BYTES) return;
    this.#came++;
    if (this.#isCounting) return;
    this.#isCounting = true;
    this.#after(WINDOW_MS, this.#endWindow);
  }

  get isHeld(): boolean {
    return this.#release !== null;
  }

  readonly #endWindow = (): void => {
    const isEnough = this.#came >= ENOUGH;
    this.#came = 0;
    this.#quiet = isEnough ? 0 : this.#quiet + 1;
    if (isEnough) {
      this.#release ??= this.#hold();
    } else if (this.#quiet >= QUIET_WINDOWS) {
      this.#release?.();
      this.#release = null;
    }
    this.#isCounting = this.#release !== null;
    if (this.#isCounting) this.#after(WINDOW_MS, this.#endWindow);
  };
}

function afterUnref(ms: number, run: () => void): void {
  setTimeout(run, ms).unref();
}

/**
 * What this machine offers, or null: no such device or no right to it (in a container), nothing
 * that sleeps, or too many processors that would have to spin.
 */
export function processorsAwake(processors = cpus().length): HoldAwake | null {
  let us: number;
  try {
    const driver = readFileSync(DRIVER, 'latin1').trim();
    if (driver === 'none') return null;
    us = driver === VIRTUAL_DRIVER ? NO_SLEEP_US : LIGHT_SLEEP_US;
    if (us === NO_SLEEP_US && processors > SPINNING_MAX_PROCESSORS) return null;
    closeSync(openSync(DEVICE, 'w'));
  } catch {
    return null;
  }
  return () => ask(us);
}

function ask(us: number): () => void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(us);
  try {
    const fd = openSync(DEVICE, 'w');
    writeSync(fd, value);
    return () => closeSync(fd);
  } catch {
    return () => {}; // out of descriptors, say: slower, and nothing worse
  }
}

/** For a daemon: null where this machine has nothing to offer, or the operator does not want it. */
export function lowLatencyHere(env: NodeJS.ProcessEnv): LowLatency | null {
  if (env.HOLDFAST_LOW_LATENCY === 'no') return null;
  const hold = processorsAwake();
  return hold === null ? null : new LowLatency(hold);
}
