/**
 * What goes wrong in a seed, decided before it begins: a list of faults, each with its moment (a
 * time, or the first roll, fence, swap or copy after a time), its target and its duration as plain
 * numbers. Removing one from the list changes nothing else, which is what shrinking rests on.
 *
 * Swarm testing: each seed enables a random subset of the kinds, so that some seeds are all about
 * one thing.
 */
import type { SimRandom } from '../fixtures/sim-random.js';

/** Things in the world's life that a fault may wait for. */
export const MOMENTS = [
  'claim',
  'fence',
  'recover',
  'register',
  'roll',
  'large',
  'ack',
  'copied',
  /** A lap of a journal has ended beside a large write. */
  'lap',
] as const;
export type Moment = (typeof MOMENTS)[number];

export const FAULT_KINDS = [
  'node.kill',
  'node.power',
  'node.pause',
  'node.wipe',
  'node.lose-index',
  'node.wipe-after-copy',
  'all.power',
  'disk.flush-error',
  'disk.full',
  'disk.read-error',
  'disk.reads-fail',
  'disk.read-only',
  'disk.failed',
  'disk.stall',
  'disk.slow',
  'disk.rot',
  'disk.bad-sector',
  'net.isolate',
  'net.isolate-one-way',
  'net.cut-owner',
  'net.cut-owner-one-way',
  'net.reset-one',
  'net.half-open-one',
  'net.rates',
  'owner.kill',
  'owner.power',
  'owner.pause',
  'owner.compete',
  'owner.release',
  'owner.isolate',
  'metadata.outage',
  'metadata.cut-host',
  'metadata.rates',
  'metadata.move',
  'admin.drain',
  'admin.remove',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  /** Its place in the seed's full list: what shrinking names. */
  readonly index: number;
  readonly kind: FaultKind;
  /** Milliseconds of true time from which it may happen. */
  readonly at: number;
  /** The moment that it waits for, or null to happen at `at`. */
  readonly on: Moment | null;
  /** Delay after that moment. */
  readonly delay: number;
  readonly duration: number;
  /** In [0, 1): which machine, disk or direction; how strong. */
  readonly target: number;
  readonly detail: number;
}

/** Where a kind hurts most: it waits for one of these moments more often than for others. */
const WORST: Partial<Record<FaultKind, readonly Moment[]>> = {
  'owner.isolate': ['roll'],
  'owner.compete': ['large'],
  'disk.reads-fail': ['fence'],
  'disk.stall': ['large'],
  'node.power': ['large', 'lap', 'lap'],
  'node.wipe-after-copy': ['copied'],
  'all.power': ['large', 'lap', 'lap'],
  'metadata.move': ['roll'],
};

/** Without what they wait for they cannot happen. */
const NEEDS: ReadonlySet<FaultKind> = new Set(['node.wipe-after-copy']);

/** Mean times of a kind in a seed that enables it. */
const TIMES: Partial<Record<FaultKind, number>> = {
  'node.kill': 3,
  'node.power': 6,
  'node.pause': 3,
  'owner.compete': 4,
  'owner.kill': 2,
  'owner.pause': 3,
  'owner.release': 2,
  'owner.isolate': 14,
  'net.isolate': 3,
  'net.cut-owner': 4,
  'net.cut-owner-one-way': 4,
  'net.reset-one': 6,
  'net.half-open-one': 3,
  'net.rates': 3,
  'disk.stall': 3,
  'disk.reads-fail': 5,
  // Only where segments can bear it, so more of it there.
  'disk.rot': 10,
  'disk.bad-sector': 8,
  'node.wipe': 60,
  'node.lose-index': 20,
  'node.wipe-after-copy': 80,
  'metadata.rates': 4,
  'metadata.outage': 3,
  'metadata.move': 4,
  'all.power': 3,
};

const TIMES_MAX = 16;

/** How many of the seeds have a kind; more, where only some seeds bear it or it is rarely met. */
const ENABLED = 0.45;
const ENABLED_OF: Partial<Record<FaultKind, number>> = {
  'node.wipe': 0.65,
  'node.lose-index': 0.65,
  'node.wipe-after-copy': 1,
  'owner.isolate': 0.65,
};

export function planFaults(random: SimRandom, chaosMs: number): Fault[] {
  const enabled = FAULT_KINDS.filter((kind) => random.chance(ENABLED_OF[kind] ?? ENABLED));
  const faults: Omit<Fault, 'index'>[] = [];
  const moments = MOMENTS.filter(() => random.chance(0.5));
  for (const kind of enabled) {
    const times = Math.max(1, Math.round(random.exponential(TIMES[kind] ?? 2)));
    for (let i = 0; i < Math.min(times, TIMES_MAX); i++) {
      const isWorst = random.chance(0.5) || NEEDS.has(kind);
      const worst = isWorst && WORST[kind] !== undefined ? random.pick(WORST[kind]) : undefined;
      const waits = worst === undefined && moments.length > 0 && random.chance(0.4);
      faults.push({
        kind,
        at: random.between(0.04, 0.95) * chaosMs,
        on: worst ?? (waits ? random.pick(moments) : null),
        delay: random.chance(worst === 'roll' ? 0.7 : 0.3)
          ? 0
          : random.exponential(random.pick([0.5, 3, 30])),
        duration: random.exponential(random.pick([60, 500, 2_500])) + 1,
        target: random.fraction(),
        detail: random.fraction(),
      });
    }
  }
  faults.sort((a, b) => a.at - b.at);
  return faults.map((fault, index) => ({ index, ...fault }));
}

export function describeFault(fault: Fault): string {
  const when = fault.on === null ? '' : ` (at a ${fault.on}, ${fault.delay.toFixed(1)} ms later)`;
  return `#${fault.index} ${fault.kind}${when} for ${fault.duration.toFixed(0)} ms`;
}

/** Fires the faults at their times and moments. */
export class Nemesis {
  readonly #armed = new Map<Moment, Fault[]>();
  readonly #after: (delayMs: number, callback: () => void) => void;
  readonly #fire: (fault: Fault) => boolean;
  #over = false;

  constructor(
    after: (delayMs: number, callback: () => void) => void,
    fire: (fault: Fault) => boolean,
  ) {
    this.#after = after;
    this.#fire = fire;
  }

  /** The faults' times count from here. */
  begin(faults: readonly Fault[]): void {
    for (const fault of faults) this.#after(fault.at, () => this.#due(fault));
  }

  #due(fault: Fault): void {
    if (this.#over) return;
    if (fault.on === null) {
      this.#fire(fault);
      return;
    }
    this.#arm(fault, fault.on);
  }

  #arm(fault: Fault, on: Moment): void {
    const waiting = this.#armed.get(on) ?? [];
    waiting.push(fault);
    this.#armed.set(on, waiting);
  }

  /** Something that faults wait for has happened. */
  moment(moment: Moment): void {
    const waiting = this.#armed.get(moment);
    const fault = waiting?.shift();
    if (fault === undefined || this.#over) return;
    this.#after(fault.delay, () => {
      if (this.#over || this.#fire(fault)) return;
      // The moment was of no use to it: there may be another one.
      if (NEEDS.has(fault.kind)) this.#arm(fault, moment);
    });
  }

  /** Nothing happens any more. */
  stop(): void {
    this.#over = true;
  }
}
