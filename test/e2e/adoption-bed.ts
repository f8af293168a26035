/** Mounts whose daemon is killed under their users: who the daemon is, and programs at work. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { distRoot, type Process, startNode } from '../fixtures/processes.js';
import { isAlive, type Mount, type MountBed, until } from './mount-bed.js';

const READY_MS = 60_000;

/** A keeper that gives up has other children as well, such as the umount that nobody must kill. */
function isDaemon(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('mount-daemon');
  } catch {
    return false;
  }
}

/** One mount, through all of its daemons. */
export class Adopted {
  readonly #bed: MountBed;
  readonly #mount: Mount;
  readonly volume: string;
  kills = 0;
  /** From each kill to the moment from which on the next daemon served, in ms. */
  readonly pausesMs: number[] = [];

  constructor(bed: MountBed, volume: string, mount: Mount) {
    this.#bed = bed;
    this.#mount = mount;
    this.volume = volume;
  }

  get keeperPid(): number {
    return this.#mount.keeperPid ?? -1;
  }

  /** The daemon of this moment, or 0. It may not have begun to serve. */
  get pid(): number {
    const keeper = this.keeperPid;
    const children = readFileSync(`/proc/${keeper}/task/${keeper}/children`, 'utf8').trim();
    const [first = 0] = children.split(' ').map(Number);
    return isDaemon(first) ? first : 0;
  }

  /** How many daemons have said that they go on with the mount. */
  get adoptions(): number {
    return this.#bed.log(this.volume).split('The mount goes on with a new daemon').length - 1;
  }

  /** SIGKILL; resolves once the daemon is dead. */
  async kill(): Promise<void> {
    const { pid } = this;
    if (pid === 0) return;
    process.kill(pid, 'SIGKILL');
    this.kills += 1;
    await until('it is dead', () => !isAlive(pid));
  }

  /** SIGKILL, and waits until the next daemon serves the mount. */
  async killAndWait(): Promise<void> {
    const before = this.adoptions;
    const began = performance.now();
    await this.kill();
    await until('the mount goes on', () => this.adoptions > before, READY_MS);
    this.pausesMs.push(Math.round(performance.now() - began));
  }

  /** The pauses as one line. */
  pauses(): string {
    const sorted = [...this.pausesMs].sort((a, b) => a - b);
    const at = (part: number): number => sorted[Math.ceil(part * sorted.length) - 1] ?? 0;
    return `${sorted.length} adoptions: median ${at(0.5)} ms, longest ${at(1)} ms`;
  }
}

export interface Worked {
  readonly calls?: number;
  readonly longestMs?: number;
  readonly fault?: string;
}

/** A program (adoption-worker.ts) at work in a new directory. */
export class Worker {
  readonly #process: Process;

  constructor(directory: string, name: string, seed: number) {
    const file = `${distRoot}test/e2e/adoption-worker.js`;
    this.#process = startNode(file, [join(directory, name), `${seed}`]);
  }

  /** Tells it to stop and look; resolves to what it found. */
  async end(): Promise<Worked> {
    this.#process.child.stdin?.end();
    const timer = setTimeout(() => this.#process.signal('SIGKILL'), READY_MS);
    await this.#process.exited;
    clearTimeout(timer);
    const [line] = this.#process.lines;
    if (line === undefined) return { fault: `it said nothing: ${this.#process.stderr}` };
    return JSON.parse(line) as Worked;
  }
}

/** Waits a random time below `mostMs`. */
export function randomly(mostMs: number): Promise<void> {
  return sleep(Math.random() * mostMs);
}
