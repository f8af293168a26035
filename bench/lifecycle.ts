/** How long users wait for a volume: to have one, to have it elsewhere, to have it after a loss. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type OpenLifecycle, openLifecycle } from '../src/cli/lifecycle.js';
import { present } from '../src/core/assert.js';
import { MIB } from '../src/core/units.js';
import { Aborted } from './filesystem/command.js';
import { BenchNodes } from './nodes.js';
import { columns, median, short } from './stats.js';

export interface LifecycleBenchOptions {
  readonly directory: string;
  readonly nodeArgs: readonly string[];
  readonly signal: AbortSignal;
  readonly rounds: number;
}

export interface LifecycleFigure {
  readonly name: string;
  /** The median of all rounds. */
  readonly ms: number;
  readonly slowestMs: number;
  /** At most; null: nobody asked for one. */
  readonly wantedMs: number | null;
  readonly met: boolean;
}

const MARKS = {
  'create + mount': 2_000,
  'create + format ext4 + mount': null,
  'move after an orderly release': 20_000,
  'move after the machine was lost': 20_000,
} as const;
type Name = keyof typeof MARKS;

const MACHINES = ['one', 'two'] as const;

/** Two machines on this one: a run directory and a name each. */
class Machines {
  readonly #opened: readonly OpenLifecycle[];
  readonly #root: string;

  private constructor(opened: readonly OpenLifecycle[], root: string) {
    this.#opened = opened;
    this.#root = root;
  }

  static async open({ metadata, secretFile }: BenchNodes): Promise<Machines> {
    // Paths of sockets are short.
    const directory = mkdtempSync(join(tmpdir(), 'hf-bench-'));
    const opened: OpenLifecycle[] = [];
    for (const machine of MACHINES) {
      process.env.HOLDFAST_RUN_DIR = join(directory, machine);
      const one = await openLifecycle({ metadata, secretFile }, { machine });
      await one.lifecycle.registerMachine(machine, null);
      opened.push(one);
    }
    return new Machines(opened, directory);
  }

  at(index: 0 | 1) {
    return present(this.#opened[index], 'a machine').lifecycle;
  }

  directory(index: 0 | 1, volume: string): string {
    return join(this.#root, 'mounts', MACHINES[index], volume);
  }

  /** With whatever a round that was cut short has left. */
  async close(): Promise<void> {
    for (const { lifecycle, close } of this.#opened) {
      for (const { directory, name } of await lifecycle.machine.list()) {
        if (directory === null) await lifecycle.machine.closeDevice(name);
        else await lifecycle.unmount(directory, { lazy: true });
      }
      await close();
    }
    rmSync(this.#root, { recursive: true });
  }
}

export async function runLifecycle(options: LifecycleBenchOptions): Promise<LifecycleFigure[]> {
  const { directory: parent, nodeArgs, rounds, signal } = options;
  mkdirSync(parent, { recursive: true });
  const nodes = await BenchNodes.start({ parent, nodeArgs });
  const times = new Map<Name, number[]>();
  try {
    const machines = await Machines.open(nodes);
    try {
      for (let round = 0; round < rounds; round++) {
        if (signal.aborted) throw new Aborted();
        for (const [name, ms] of await measure(machines, round)) {
          times.set(name, [...(times.get(name) ?? []), ms]);
        }
      }
    } finally {
      await machines.close();
    }
  } finally {
    await nodes.close();
  }
  return (Object.keys(MARKS) as Name[]).map((name) => {
    const all = times.get(name) ?? [];
    const wantedMs = MARKS[name];
    const ms = median(all);
    const met = wantedMs === null || ms <= wantedMs;
    return { name, ms, slowestMs: Math.max(...all), wantedMs, met };
  });
}

async function measure(machines: Machines, round: number): Promise<[Name, number][]> {
  const [one, two] = [machines.at(0), machines.at(1)];
  const timed: [Name, number][] = [];
  const time = async <T>(name: Name, work: () => Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await work();
    timed.push([name, performance.now() - start]);
    return result;
  };
  const name = `files-${round}`;
  const here = machines.directory(0, name);
  const there = machines.directory(1, name);
  const { id } = await time('create + mount', async () => {
    const made = await one.create({ name, sizeBytes: 64 * MIB });
    await one.attach(made.id, MACHINES[0]);
    await one.mount(made.id, here);
    return made;
  });
  await time('move after an orderly release', async () => {
    await one.unmount(here);
    await one.detach(id, MACHINES[0]);
    await two.attach(id, MACHINES[1]);
    await two.mount(id, there);
  });
  const { mount } = present(await two.here(id), 'a mount');
  for (const pid of [mount.keeperPid, mount.live?.pid]) process.kill(pid ?? -1, 'SIGKILL');
  await time('move after the machine was lost', async () => {
    await one.detach(id, MACHINES[1]);
    await one.attach(id, MACHINES[0]);
    await one.mount(id, here);
  });
  await two.unmount(there);
  await one.unmount(here);
  await one.detach(id, MACHINES[0]);
  await one.remove(id);
  const disk = `disk-${round}`;
  const at = machines.directory(0, disk);
  const block = await time('create + format ext4 + mount', async () => {
    const made = await one.create({ name: disk, sizeBytes: 64 * MIB, kind: 'block' });
    await one.mount(made.id, at);
    return made;
  });
  await one.unmount(at);
  await one.remove(block.id);
  return timed;
}

export function lifecycleTable(figures: readonly LifecycleFigure[]): string {
  const rows = figures.map(({ name, ms, slowestMs, wantedMs, met }) => [
    name,
    `${short(ms / 1000)} s`,
    `${short(slowestMs / 1000)} s`,
    wantedMs === null ? '' : `${wantedMs / 1000} s`,
    wantedMs === null ? '' : met ? 'met' : 'MISSED',
  ]);
  const asked = figures.filter(({ wantedMs }) => wantedMs !== null);
  const met = asked.filter((one) => one.met).length;
  const heading = ['', 'median', 'slowest', 'mark', ''];
  return `${columns([heading, ...rows])}\n\nlifecycle: ${met} of ${asked.length} marks met`;
}
