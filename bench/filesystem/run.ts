/**
 * Runs workloads on all targets in turns: workload by workload, since the machine's speed changes
 * from one minute to the next, and each round begins with another target.
 */
import { existsSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { median, short } from '../stats.js';
import { startBare } from './bare.js';
import { Aborted } from './command.js';
import { DATA_WORKLOADS, EXTRA_WORKLOADS } from './data-workloads.js';
import { DATABASE_WORKLOADS } from './database-workloads.js';
import { startLocal } from './ext4.js';
import { FILE_WORKLOADS } from './file-workloads.js';
import { startGluster } from './gluster.js';
import { startHoldfast } from './holdfast.js';
import { makeDirectory, settle, type Target, type TargetName } from './target.js';
import { Place, type Program, type Workload } from './workload.js';

export const WORKLOADS: readonly Workload[] = [
  ...DATA_WORKLOADS,
  ...FILE_WORKLOADS,
  ...DATABASE_WORKLOADS,
];

export interface FilesystemOptions {
  readonly workloads: readonly Workload[];
  readonly targets: readonly TargetName[];
  readonly rounds: number;
  readonly scale: number;
  readonly directory: string;
  readonly nodeArgs: readonly string[];
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** What a workload came to, over the rounds. */
export interface Outcome {
  readonly workload: Workload;
  /** By target, one a round; one that failed is left out. */
  readonly figures: Readonly<Partial<Record<TargetName, readonly number[]>>>;
}

const GLUSTER: Program = { name: 'glusterd', package: 'glusterfs-server' };

/**
 * The workloads of these names, or whose names begin with one and a dash (`kbench`); the whole
 * table without names. Throws with the name that there is not.
 */
export function workloadsNamed(names: readonly string[]): Workload[] {
  if (names.length === 0) return [...WORKLOADS];
  const all = [...WORKLOADS, ...EXTRA_WORKLOADS];
  const exact = new Set(all.map(({ name }) => name));
  const found = new Set<Workload>();
  for (const wanted of names) {
    const matches = all.filter(({ name }) =>
      exact.has(wanted) ? name === wanted : name.startsWith(`${wanted}-`),
    );
    if (matches.length === 0) {
      throw new Error(`there is no "${wanted}"; there is: log, ${[...exact].join(', ')}`);
    }
    for (const match of matches) found.add(match);
  }
  return all.filter((one) => found.has(one));
}

/** What has to be installed before the workloads can run, each as one line. */
export function missingPrograms(options: FilesystemOptions): string[] {
  const needed = new Map<string, Program>();
  for (const { needs } of options.workloads) for (const one of needs) needed.set(one.name, one);
  if (options.targets.includes('glusterfs')) needed.set(GLUSTER.name, GLUSTER);
  const paths = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  return [...needed.values()]
    .filter(({ name }) => !paths.some((path) => existsSync(join(path, name))))
    .map((one) => `${one.name} is not installed: apt-get install ${one.package}`);
}

export async function runFilesystem(options: FilesystemOptions): Promise<Outcome[]> {
  const { workloads, rounds, directory, scale, signal, progress } = options;
  const scratch = makeDirectory(directory, 'scratch');
  const targets: Target[] = [];
  const outcomes = workloads.map((workload) => ({ workload, figures: {} as Figures }));
  try {
    // Holdfast last: a namespace made after its mount would hold on to it.
    for (const name of [...options.targets].reverse()) {
      for (const { workload, figures } of outcomes) if (runsOn(workload, name)) figures[name] = [];
      progress(`starting ${name}`);
      targets.push(await start(name, options));
      if (signal.aborted) throw new Aborted();
    }
    targets.reverse();
    for (let round = 0; round < rounds; round++) {
      const turn = [...targets.slice(round % targets.length), ...targets].slice(0, targets.length);
      const places = turn.map((target) => new Place({ target, round, scratch, scale, signal }));
      for (const place of places) await place.start();
      for (const { workload, figures } of outcomes) {
        for (const place of places) {
          if (!runsOn(workload, place.target.name)) continue;
          const figure = await measure(workload, place, scratch, progress);
          if (figure !== null) figures[place.target.name]?.push(figure);
        }
      }
    }
  } finally {
    progress('cleaning up');
    for (const target of targets) await target.close();
    rmSync(scratch, { recursive: true, force: true });
  }
  return outcomes;
}

type Figures = Partial<Record<TargetName, number[]>>;

function start(name: TargetName, { directory, nodeArgs }: FilesystemOptions): Promise<Target> {
  switch (name) {
    case 'holdfast':
      return startHoldfast(directory, nodeArgs);
    case 'ext4':
      return Promise.resolve(startLocal(directory));
    case 'glusterfs':
      return startGluster(directory);
    case 'bare':
      return startBare(directory);
  }
}

function runsOn(workload: Workload, target: TargetName): boolean {
  return target !== 'bare' || workload.onBare === true;
}

/** Null when it failed, which is no reason to do without the others. */
async function measure(
  workload: Workload,
  place: Place,
  scratch: string,
  progress: (line: string) => void,
): Promise<number | null> {
  const what = `${workload.name} on ${place.target.name}`;
  try {
    await place.check();
    await workload.prepare?.(place);
    if (workload.cold === true) await place.target.cool();
    else await settle(scratch);
    const figure = await workload.run(place);
    progress(`${what}: ${short(figure)} ${workload.unit}`);
    return figure;
  } catch (thrown) {
    if (thrown instanceof Aborted) throw thrown;
    progress(`${what} failed: ${(thrown as Error).message}`);
    return null;
  }
}

/** Of each round's figures, so that what changes between rounds cancels out. */
export function ratioTo(peer: TargetName, { figures }: Outcome): number | null {
  const { holdfast: ours, [peer]: theirs } = figures;
  if (ours === undefined || theirs === undefined || ours.length === 0) return null;
  if (ours.length !== theirs.length) return null;
  return median(ours.map((figure, round) => figure / (theirs[round] as number)));
}
