/**
 * How long programs wait when the daemon of their mount is killed: with nothing in the volume, and
 * with ever more files. What a successor costs apart from this volume, the start of a program, is
 * visible beside it: an empty volume, and the start of a bare Node.js in the same minutes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { mountDeps } from '../src/cli/machine.js';
import { MIB } from '../src/core/units.js';
import type { LiveStatus } from '../src/lifecycle/mount-types.js';
import { findMount } from '../src/lifecycle/mounts.js';
import { Aborted, run } from './filesystem/command.js';
import { startHoldfast } from './filesystem/holdfast.js';
import { columns, median, short } from './stats.js';

export interface AdoptionBenchOptions {
  readonly directory: string;
  readonly nodeArgs: readonly string[];
  readonly signal: AbortSignal;
  /** How many there are in the volume, one measurement after the other: it is filled up. */
  readonly files: readonly number[];
  /** Each time, and of the daemon of the empty volume. */
  readonly kills: number;
  readonly progress: (line: string) => void;
}

export interface AdoptionFigure {
  readonly files: number;
  readonly kills: number;
  /** The longest that any call took across a kill: the median of all kills, and of all. */
  readonly medianMs: number;
  readonly slowestMs: number;
  /** The start of a bare Node.js before each kill, likewise. */
  readonly bareMs: number;
  /** Of the daemon, once it serves. */
  readonly residentBytes: number;
  /** For the slowest, at most; null: nobody asked for one. */
  readonly wantedMs: number | null;
  readonly met: boolean;
}

const LOAD = fileURLToPath(new URL('adoption-load.js', import.meta.url));
/** For so many files the slowest may take so long. */
const MARKS = [
  { files: 100_000, ms: 3_000 },
  { files: 1_000_000, ms: 12_000 },
] as const;
/** By so many processes, so many each: then progress is told. */
const FILLERS = 2;
const FILL_AT_ONCE = 10_000;
const FILL_LIMIT_MS = 120_000;
/** Before each kill. A daemon that died sooner would be taken for one that cannot live. */
const CALM_MIN_MS = 1_000;
const CALM_MAX_MS = 3_000;
const LOST_MS = 120_000;
const CLOSE_MS = 5_000;
const POLL_MS = 50;

/** The program at work on the mount. */
class Load {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #answer: (longestMs: number) => void = () => {};
  #fail: (error: Error) => void = () => {};

  constructor(directory: string, files: number) {
    this.#child = spawn(process.execPath, [LOAD, 'work', directory, String(files)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
      cwd: '/',
    });
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    void this.#ended.then(() => this.#fail(new Error('the program on the mount ended')));
    this.#child.stdin?.on('error', () => {});
    if (this.#child.stdout === null) return;
    createInterface(this.#child.stdout).on('line', (line) => this.#answer(Number(line)));
  }

  /** How long its longest call took since this was asked last, those under way included. */
  longestMs(): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the mount does not answer')), LOST_MS);
      this.#answer = (longestMs) => {
        clearTimeout(timer);
        resolve(longestMs);
      };
      this.#fail = (error) => {
        clearTimeout(timer);
        reject(error);
      };
      this.#child.stdin?.write('\n');
    });
  }

  /** One that hangs in a call ends with the mount, at the latest. */
  async close(): Promise<void> {
    this.#child.stdin?.end();
    const limit = new AbortController();
    await Promise.race([this.#ended, sleep(CLOSE_MS, null, limit).catch(() => {})]);
    limit.abort();
    this.#child.kill('SIGKILL');
  }
}

export async function runAdoption(options: AdoptionBenchOptions): Promise<AdoptionFigure[]> {
  const { directory: parent, nodeArgs, files, progress } = options;
  mkdirSync(parent, { recursive: true });
  progress('starting holdfast');
  const target = await startHoldfast(parent, nodeArgs);
  try {
    const figures: AdoptionFigure[] = [];
    let made = 0;
    for (const wanted of [0, ...files]) {
      await fill(target.directory, made, wanted, options);
      made = wanted;
      figures.push(await measure(target.directory, made, options));
    }
    return figures;
  } finally {
    progress('cleaning up');
    await target.close();
  }
}

async function fill(
  directory: string,
  made: number,
  wanted: number,
  { signal, progress }: AdoptionBenchOptions,
): Promise<void> {
  const began = performance.now();
  const make = async (from: number): Promise<number> => {
    const to = Math.min(wanted, from + FILL_AT_ONCE);
    const argv = [process.execPath, LOAD, 'fill', directory, String(from), String(to)];
    await run(argv, { signal, timeLimitMs: FILL_LIMIT_MS });
    return to;
  };
  for (let there = made; there < wanted; ) {
    const parts = Array.from({ length: FILLERS }, (_, index) => there + index * FILL_AT_ONCE);
    there = Math.max(...(await Promise.all(parts.filter((from) => from < wanted).map(make))));
    const rate = ((there - made) / (performance.now() - began)) * 1000;
    progress(`${there.toLocaleString('en-US')} files, ${short(rate)} a second`);
  }
}

async function measure(
  directory: string,
  files: number,
  { kills, signal, progress }: AdoptionBenchOptions,
): Promise<AdoptionFigure> {
  const mountPoint = dirname(directory);
  const waits: number[] = [];
  const bare: number[] = [];
  let residentBytes = 0;
  const load = new Load(directory, files);
  try {
    for (let kill = 0; kill < kills; kill++) {
      bare.push(await timeBare(signal));
      await sleep(CALM_MIN_MS + Math.random() * (CALM_MAX_MS - CALM_MIN_MS));
      if (signal.aborted) throw new Aborted();
      const { pid } = await serving(mountPoint);
      await load.longestMs();
      process.kill(pid, 'SIGKILL');
      const waited = await load.longestMs();
      waits.push(waited);
      const next = await serving(mountPoint);
      if (next.pid === pid) throw new Error('the daemon was not killed');
      residentBytes = Math.max(residentBytes, next.residentBytes);
      progress(`${files} files, kill ${kill + 1} of ${kills}: ${short(waited)} ms`);
    }
  } finally {
    await load.close();
  }
  const slowestMs = Math.max(...waits);
  const wantedMs = files === 0 ? null : (MARKS.find((mark) => files <= mark.files)?.ms ?? null);
  return {
    ...{ files, kills, medianMs: median(waits), slowestMs },
    ...{ bareMs: median(bare), residentBytes, wantedMs },
    met: wantedMs === null || slowestMs <= wantedMs,
  };
}

async function timeBare(signal: AbortSignal): Promise<number> {
  const began = performance.now();
  await run([process.execPath, '-e', '0'], { signal });
  return performance.now() - began;
}

/** The daemon, as soon as it serves. */
async function serving(mountPoint: string): Promise<LiveStatus> {
  const deadline = performance.now() + LOST_MS;
  for (;;) {
    const { live } = await findMount(mountDeps(process.env), mountPoint);
    if (live?.phase === 'mounted') return live;
    if (performance.now() > deadline) throw new Error(`${mountPoint} is not served`);
    await sleep(POLL_MS);
  }
}

export function adoptionTable(figures: readonly AdoptionFigure[]): string {
  const [empty] = figures;
  const seconds = (ms: number): string => `${short(ms / 1000)} s`;
  const rows = figures.map((figure) => [
    figure.files.toLocaleString('en-US'),
    String(figure.kills),
    seconds(figure.medianMs),
    seconds(figure.slowestMs),
    `${short(figure.medianMs / (empty?.medianMs ?? Number.NaN))}x`,
    `${short(figure.medianMs / figure.bareMs)}x`,
    `${short(figure.residentBytes / MIB)} MiB`,
    figure.wantedMs === null ? '' : seconds(figure.wantedMs),
    figure.wantedMs === null ? '' : figure.met ? 'met' : 'MISSED',
  ]);
  const heading = [
    ...['files', 'kills', 'median wait', 'slowest', 'to empty', 'to node -e 0', 'daemon'],
    ...['mark', ''],
  ];
  return columns([heading, ...rows]);
}
