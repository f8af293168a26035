/**
 * One run of the nemesis: machines, volumes and applications, then one fault after the other, at
 * times two at once, by a seed, until time is up or the list of faults is; then the end, which must
 * find everything whole, every check passed, and nothing left behind.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Application } from '../applications/application.js';
import { Fio } from '../applications/fio.js';
import { Postgres } from '../applications/postgres.js';
import { RecordedWorkers } from '../applications/recorded.js';
import { Registers } from '../applications/registers.js';
import { Sqlite } from '../applications/sqlite.js';
import { mountOf, World } from '../machines/world.js';
import { Chooser } from '../recorded/random.js';
import { givenUp, nowMs } from '../waits.js';
import { checkedEnd, type Ended, leftBehind } from './end.js';
import type { Fault } from './fault.js';
import { FAULTS, type FaultName } from './faults.js';
import { type Applications, Field } from './field.js';
import { type Happened, happenedLine, type Summary } from './page.js';
import { Pulse } from './pulse.js';

/** What may work, and the volume of each. Registers have one of their own. */
export const APPLICATIONS = {
  postgres: { volume: 'bank', size: '2GiB', client: 0 },
  files: { volume: 'files', size: '1GiB', client: 1 },
  sqlite: { volume: 'files', size: '1GiB', client: 1 },
  fio: { volume: 'blocks', size: '256MiB', client: 0 },
  registers: { volume: 'registers', size: '64MiB', client: 1 },
} as const;
export type ApplicationName = keyof typeof APPLICATIONS;

/** Two cores are shared by a cluster, its load and, maybe, by others. */
const REST_MS = { postgres: 40, sqlite: 40, files: 6, registers: 25 };
const PGBENCH_RATE = 15;
const RECORDED_WORKERS = 2;
const WARM_UP_MS = 2_000;
const HOLD_MS = [2_000, 10_000] as const;
const GAP_MS = [500, 2_500] as const;
const SECOND_PERCENT = 25;
/** After the healing; a machine may have much else to do. */
const RESUME_MS = 120_000;
/** For a fault that strikes, or heals, while the run is given up. */
const LAST_STEP_MS = 60_000;
/** Afterwards their mounts go, and nothing holds them any more. */
const APPLICATIONS_END_MS = 20_000;
const POLL_MS = 50;
/** A wait that may be over long before its time, and must not keep the process. */
const UNHELD = { ref: false };
const SETTINGS = ['--repair-grace', '20s', '--repair-rate', '256MiB'];

export interface SuiteOptions {
  readonly seed: number;
  /** No fault strikes after this. */
  readonly minutes: number;
  /** Which faults there are. */
  readonly faults: readonly FaultName[];
  /** Each of `faults` once, in this order, and one at a time. */
  readonly isScripted?: boolean;
  /** How long a fault lasts, in ms. */
  readonly holdMs?: readonly [number, number];
  readonly applications: readonly ApplicationName[];
  /** Another compiled program than the one beside this file. */
  readonly program?: string;
  readonly say: (line: string) => void;
  /** Gives the run up: it ends everything and counts as failed. */
  readonly signal?: AbortSignal;
}

export class Suite {
  readonly #options: SuiteOptions;
  readonly #world: World;
  readonly #choose: Chooser;
  readonly #field: Field;
  readonly #all: readonly Application[];
  readonly #pulse: Pulse;
  readonly #happened: Happened[] = [];
  readonly #faults: string[] = [];
  readonly #began = nowMs();
  #deck: FaultName[] = [];
  #ended: Ended | null = null;

  private constructor(options: SuiteOptions, world: World) {
    this.#options = options;
    this.#world = world;
    this.#choose = new Chooser(options.seed);
    const applications = makeApplications(options, world);
    const { registers, on } = applications;
    this.#all = [...[...on.values()].flat(), ...(registers === null ? [] : [registers])];
    this.#field = new Field(world, this.#choose, applications, this.#faults);
    this.#pulse = new Pulse(this.#all);
  }

  /** Rejects only when there can be no run; what goes wrong in it is in the summary. */
  static async execute(options: SuiteOptions): Promise<Summary> {
    const { program } = options;
    const plans = new Map(
      options.applications.map((name) => {
        const { volume, size, client } = APPLICATIONS[name];
        return [volume, { name: volume, size, client }];
      }),
    );
    const volumes = [...plans.values()];
    const world = await World.start(program === undefined ? { volumes } : { volumes, program });
    const spaces = world.namespaces();
    const suite = new Suite(options, world);
    const everything = suite.#everything();
    try {
      await Promise.race([everything, givenUp(options.signal)]);
    } catch (error) {
      suite.#faults.push((error as Error).message);
    }
    // Given up while something is on its way: it ends at its next rest.
    await Promise.race([everything.catch(() => {}), sleep(LAST_STEP_MS, undefined, UNHELD)]);
    await suite.#close();
    suite.#faults.push(...(await leftBehind(world.root, spaces)));
    return suite.#summary();
  }

  async #close(): Promise<void> {
    this.#pulse.close();
    if (this.#faults.length > 0) this.#faults.push(this.#keepLogs());
    // Whatever waits for a mount ends once that is gone.
    const killed = Promise.allSettled(this.#all.map((one) => one.kill()));
    await this.#world.thaw().catch((error: Error) => this.#faults.push(error.message));
    await Promise.race([killed, sleep(APPLICATIONS_END_MS, undefined, UNHELD)]);
    await this.#world.close().catch((error: Error) => this.#faults.push(error.message));
    await killed;
  }

  async #everything(): Promise<void> {
    await this.#world.holdfast('cluster', 'set', ...SETTINGS);
    for (const one of this.#all) await one.prepare();
    for (const one of this.#all) await one.start();
    await this.#resumed(nowMs(), 'the start');
    await this.#rest(WARM_UP_MS);
    const before = this.#world.usage();
    const end = this.#began + this.#options.minutes * 60_000;
    while (nowMs() < end && this.#faults.length === 0) {
      const names = this.#next();
      if (names.length === 0) break;
      await this.#hit(names);
      await this.#rest(this.#choose.between(...GAP_MS));
    }
    if (this.#faults.length > 0) return;
    this.#ended = await checkedEnd(this.#field, this.#all, before);
    this.#faults.push(...this.#ended.faults);
  }

  /** The names of the next fault or two; none when a script has ended. */
  #next(): FaultName[] {
    const { isScripted = false, faults } = this.#options;
    if (isScripted) return faults.slice(this.#happened.length).slice(0, 1);
    if (this.#deck.length === 0) this.#deck = this.#shuffled(faults);
    const [first, ...rest] = this.#deck;
    if (first === undefined) return [];
    const second = rest.find((name) => mix(FAULTS[first], FAULTS[name]));
    const isAlone = second === undefined || !this.#choose.chance(SECOND_PERCENT);
    const names = isAlone ? [first] : [first, second];
    this.#deck = this.#deck.filter((name) => !names.includes(name));
    return names;
  }

  #shuffled(names: readonly FaultName[]): FaultName[] {
    const left = [...names];
    const deck: FaultName[] = [];
    while (left.length > 0) deck.push(...left.splice(this.#choose.below(left.length), 1));
    return deck;
  }

  /** Strikes, waits, heals, and waits until all applications go on. */
  async #hit(names: readonly FaultName[]): Promise<void> {
    const faults = names.map((name): Fault => FAULTS[name]);
    if (faults.some(({ destroys }) => destroys === true)) await this.#field.untilWhole();
    const from = nowMs();
    const struck = [];
    for (const [at, fault] of faults.entries()) {
      try {
        struck.push(await fault.strike(this.#field));
      } catch (error) {
        throw new Error(`${names[at]}: ${(error as Error).message}`);
      }
    }
    await this.#rest(this.#choose.between(...(this.#options.holdMs ?? HOLD_MS)));
    const name = names.join(' + ');
    const healing = struck.map(({ heal, what }) =>
      heal().catch((error: Error) => {
        throw new Error(`${name} (${what}): ${error.message}`);
      }),
    );
    await Promise.all(healing);
    const healed = nowMs();
    await this.#resumed(healed, name);
    const waits = this.#pulse.longest(from, nowMs());
    const what = struck.map((one) => one.what).join('; ');
    const happened = { at: from - this.#began, fault: name, what, lastedMs: healed - from, waits };
    this.#happened.push(happened);
    this.#options.say(happenedLine(happened));
  }

  /** Everybody gets something done again; nobody has seen an error. */
  async #resumed(since: number, after: string): Promise<void> {
    for (;;) {
      const complaints = this.#all
        .filter((one) => !this.#field.moving.has(one))
        .flatMap((one) => one.complaints());
      this.#faults.push(...complaints.map((one) => `after ${after}: ${one}`));
      const still = this.#pulse.stillSince(since);
      if (still.length === 0 || this.#faults.length > 0) return;
      if (nowMs() - since > RESUME_MS) {
        const who = still.map(({ name }) => name).join(', ');
        throw new Error(`${who} did not go on within ${RESUME_MS / 1000} s after ${after}`);
      }
      await this.#rest(POLL_MS);
    }
  }

  /** Rejects when the run is given up. */
  async #rest(ms: number): Promise<void> {
    const { signal } = this.#options;
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  }

  /** Of a run that failed. Says where. */
  #keepLogs(): string {
    const file = join(tmpdir(), `holdfast-chaos-${this.#options.seed}.log`);
    writeFileSync(file, `${this.#world.logs().join('\n')}\n`);
    return `The logs of all daemons are in ${file}.`;
  }

  #summary(): Summary {
    return {
      seed: this.#options.seed,
      elapsedMs: nowMs() - this.#began,
      happened: this.#happened,
      applications: this.#all,
      ended: this.#ended,
      repairRate: this.#field.repairRate,
      faults: this.#faults,
    };
  }
}

/** Of two that act on different things, both of which bear company. */
function mix(one: Fault, other: Fault): boolean {
  return one.on !== other.on && one.mixes === true && other.mixes === true;
}

function makeApplications({ applications, seed }: SuiteOptions, world: World): Applications {
  const place = (name: ApplicationName) => ({
    directory: join(world.root, 'volumes', APPLICATIONS[name].volume, name),
    home: join(world.root, name),
  });
  const files = new RecordedWorkers({
    ...place('files'),
    ...{ workers: RECORDED_WORKERS, seed, restMs: REST_MS.files },
  });
  const makers: Record<Exclude<ApplicationName, 'registers'>, () => Application> = {
    postgres: () => {
      const pace = { rate: PGBENCH_RATE, restMs: REST_MS.postgres, scale: 1 };
      return new Postgres({ ...place('postgres'), ...pace });
    },
    files: () => files,
    sqlite: () => new Sqlite(place('sqlite').directory, REST_MS.sqlite),
    fio: () => new Fio(place('fio').directory),
  };
  const on = new Map<string, Application[]>();
  for (const name of applications) {
    if (name === 'registers') continue;
    const { volume } = APPLICATIONS[name];
    on.set(volume, [...(on.get(volume) ?? []), makers[name]()]);
  }
  return {
    registers: applications.includes('registers') ? makeRegisters(world) : null,
    files: applications.includes('files') ? files : null,
    on,
  };
}

function makeRegisters(world: World): Registers {
  const { volume, client } = APPLICATIONS.registers;
  const directories = new Map(
    world.clients.map((one) => [one.machine.name, mountOf(one, volume).directory]),
  );
  const home = world.clients[client]?.machine.name ?? '';
  return new Registers({ directories, home, restMs: REST_MS.registers });
}
