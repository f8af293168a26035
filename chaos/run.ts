/**
 * One run: a cluster and its applications, round after round of interruptions and a crash, with all
 * checks after each crash, until the rounds or the time are used up; then an orderly end, which
 * must have lost nothing at all.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Application } from './applications/application.js';
import { Pages } from './applications/pages.js';
import { Postgres } from './applications/postgres.js';
import { RecordedWorkers } from './applications/recorded.js';
import { Sqlite } from './applications/sqlite.js';
import { CRASHES, type Crash, INTERRUPTIONS } from './faults.js';
import { untilFlushingMs } from './recorded/choose.js';
import { Chooser } from './recorded/random.js';
import { type Happened, type Summary, timelineLine } from './report.js';
import { System } from './system.js';
import { givenUp, nowMs } from './waits.js';

const VOLUME_BYTES = 2 ** 31;
const WORKERS = 2;
/** Of work in a round before its crash. */
const WORK_MS = [800, 4_000] as const;
/** After an interruption, for the longest wait to end. */
const SETTLE_MS = 2_000;
const MAX_INTERRUPTIONS = 2;
/** The commit interval of 5 s, and as much as a busy machine may need to commit. */
const COMMITTED_MS = 8_000;

/** Applications that need not be there. */
export const OPTIONAL = ['pages', 'sqlite', 'postgres'] as const;
type Optional = (typeof OPTIONAL)[number];

export interface RunOptions {
  readonly seed: number;
  /** Ends after so many rounds. */
  readonly rounds: number;
  /** Begins no round after this time. */
  readonly minutes: number;
  /** Which crashes there are. */
  readonly crashes: readonly (keyof typeof CRASHES)[];
  /** Whether there are interruptions, too. */
  readonly interruptions: boolean;
  /** Whether crashes strike while files are flushed often: what a flush lied about is lost then. */
  readonly crashWhileFlushing?: boolean;
  /** Which applications work, by name; files always do. */
  readonly applications: readonly Optional[];
  /** Whether to end with kills after which nothing may be missing. */
  readonly orderlyEnd: boolean;
  /** Another compiled program than the one beside this file. */
  readonly program?: string;
  readonly say: (line: string) => void;
  /** Gives the run up: it ends everything and counts as failed. */
  readonly signal?: AbortSignal;
}

export class Run {
  readonly #options: RunOptions;
  readonly #system: System;
  readonly #choose: Chooser;
  readonly #files: RecordedWorkers;
  readonly #applications: readonly Application[];
  readonly #happened: Happened[] = [];
  readonly #faults: string[] = [];
  readonly #began = nowMs();
  #rounds = 0;

  private constructor(options: RunOptions, system: System) {
    this.#options = options;
    this.#system = system;
    this.#choose = new Chooser(options.seed);
    const place = (name: string) => ({
      directory: join(system.mountPoint, name),
      home: join(system.root, name),
    });
    const { seed } = options;
    this.#files = new RecordedWorkers({ ...place('files'), workers: WORKERS, seed });
    const makers: Record<Optional, () => Application> = {
      pages: () => new Pages(place('pages').directory),
      sqlite: () => new Sqlite(place('sqlite').directory),
      postgres: () => new Postgres(place('postgres')),
    };
    this.#applications = [this.#files, ...options.applications.map((name) => makers[name]())];
  }

  /** Rejects only when the run itself breaks; what checks find is in the summary. */
  static async execute(options: RunOptions): Promise<Summary> {
    const powerCuts = options.crashes.includes('power');
    const { program } = options;
    const systemOptions = { sizeBytes: VOLUME_BYTES, powerCuts };
    const system = await System.start(
      program === undefined ? systemOptions : { ...systemOptions, program },
    );
    const run = new Run(options, system);
    try {
      await Promise.race([run.#everything(), givenUp(options.signal)]);
    } catch (error) {
      run.#faults.push(`round ${run.#rounds}: ${(error as Error).message}`);
    } finally {
      if (run.#faults.length > 0) run.#faults.push(`the daemon's log:\n${system.daemonLog()}`);
      for (const one of run.#applications) await one.kill().catch(() => {});
      await system.close();
    }
    return run.#summary();
  }

  async #everything(): Promise<void> {
    for (const one of this.#applications) await one.prepare();
    const end = this.#began + this.#options.minutes * 60_000;
    while (this.#rounds < this.#options.rounds && nowMs() < end && this.#faults.length === 0) {
      this.#rounds += 1;
      await this.#round();
    }
    if (this.#faults.length > 0) return;
    if (this.#options.orderlyEnd) await this.#orderlyEnd();
  }

  async #round(): Promise<void> {
    // Databases flush all the time; what a crash undoes is more where nobody else flushes.
    const working = this.#choose.chance(30) ? [this.#files] : this.#applications;
    for (const one of working) await one.start();
    await sleep(this.#choose.between(...WORK_MS));
    const windows: { name: string; from: number; to: number }[] = [];
    if (this.#options.interruptions) {
      for (let left = this.#choose.below(MAX_INTERRUPTIONS + 1); left > 0; left--) {
        windows.push(await this.#interrupt());
      }
    }
    this.#faults.push(...working.flatMap((one) => one.complaints()));
    // In turn, from one that the seed gives: a few rounds have had each of them.
    const { crashes, seed } = this.#options;
    const crash: Crash = CRASHES[crashes[(this.#rounds + seed) % crashes.length] ?? 'all'];
    const { crashWhileFlushing = false } = this.#options;
    if (crashWhileFlushing) await sleep(untilFlushingMs(process.hrtime.bigint()));
    const at = nowMs();
    await crash.strike(this.#system);
    if (crash.losesNothing === true) {
      this.#faults.push(...working.flatMap((one) => one.complaints()));
    }
    for (const one of working) await one.kill();
    if (crash.losesNothing === true) this.#files.noteSynced(nowMs());
    for (const { name, from, to } of windows) {
      const waits = new Map(working.map((one) => [one.name, one.waits.longest(from, to)]));
      this.#note({ at: from - this.#began, fault: name, waits, backMs: null });
    }
    const starting = nowMs();
    await crash.recover(this.#system);
    const backMs = nowMs() - starting;
    for (const one of working) this.#faults.push(...(await one.verify()));
    if (this.#faults.length > 0) return;
    this.#note({ at: at - this.#began, fault: crash.name, waits: new Map(), backMs });
  }

  async #interrupt(): Promise<{ name: string; from: number; to: number }> {
    const interruption = this.#choose.of(INTERRUPTIONS);
    if (interruption === undefined) throw new Error('there are interruptions');
    const from = nowMs();
    await interruption.strike(this.#system, this.#choose);
    await sleep(SETTLE_MS);
    return { name: interruption.name, from, to: nowMs() };
  }

  /** What was synced, was left alone for long enough, or was unmounted, is all there. */
  async #orderlyEnd(): Promise<void> {
    const system = this.#system;
    await this.#keepsAll('synced', this.#applications, () => system.sync());
    await this.#keepsAll('left alone', [this.#files], () => sleep(COMMITTED_MS));
    await this.#keepsAll('unmounted', [this.#files], async () => {
      await system.unmount();
      await system.mount();
    });
    for (const one of this.#applications) this.#faults.push(...(await one.verify()));
  }

  async #keepsAll(
    how: string,
    applications: readonly Application[],
    settle: () => Promise<void>,
  ): Promise<void> {
    for (const one of applications) await one.start();
    await sleep(WORK_MS[0]);
    for (const one of applications) await one.kill();
    const settling = nowMs();
    await settle();
    this.#files.noteSynced(settling);
    await this.#system.killAll();
    await this.#system.startAll();
    const faults: string[] = [];
    for (const one of applications) faults.push(...(await one.verify()));
    this.#faults.push(...faults.map((fault) => `${how}: ${fault}`));
    this.#options.say(`  ${how}, then everything killed: ${faults[0] ?? 'all is there'}`);
  }

  #note(happened: Happened): void {
    this.#happened.push(happened);
    this.#options.say(timelineLine(happened));
  }

  #summary(): Summary {
    return {
      seed: this.#options.seed,
      rounds: this.#rounds,
      elapsedMs: nowMs() - this.#began,
      happened: this.#happened,
      applications: this.#applications,
      longestLostMs: this.#files.longestLostMs,
      faults: this.#faults,
    };
  }
}
