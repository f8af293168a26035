/** `holdfast mounts`: what is mounted on this machine. */
import type { Command } from 'commander';
import { formatSize } from '../core/sizes.js';
import { nodeClock } from '../io/node/clock.js';
import { placesOf } from '../lifecycle/copied-mounts.js';
import { StateFile } from '../lifecycle/keeper.js';
import type { MountStatus } from '../lifecycle/mount-types.js';
import { listMounts } from '../lifecycle/mounts.js';
import { EXIT_CODES } from './errors.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { table } from './text.js';

export function addMountsCommand(program: Command): void {
  const command = program
    .command('mounts')
    .description('list the mounts of this machine')
    .option('--json', 'print JSON')
    .action((options: { readonly json?: boolean }) => mounts(options.json === true));
  addExamples(command, [['For scripts', 'holdfast mounts --json']]);
}

async function mounts(json: boolean): Promise<void> {
  const deps = mountDeps(process.env);
  const all = (await listMounts(deps)).map((one): Shown => {
    const isServed = one.state === 'mounted' && one.live !== null;
    return { ...one, detached: isServed && placesOf(deps.host, one.mount).length === 0 };
  });
  printResult(json, all, describe(all));
  for (const one of all) {
    if (one.state !== 'dead') continue;
    const clearing = `"holdfast umount ${one.directory}" or the next mount there clears the rest`;
    const ended = deps.host.state.read(one.mount, StateFile.ENDED);
    process.stderr.write(`${endText(one, ended)}; see ${one.logFile}; ${clearing}.\n`);
  }
}

/** `status`: what its keeper noted when it gave the mount up; null when that was killed, too. */
export function endText(
  { directory }: Pick<MountStatus, 'directory'>,
  status: string | null,
): string {
  const found = Object.entries(EXIT_CODES).find(([, exit]) => String(exit) === status?.trim());
  if (found === undefined) return `The daemon of ${directory} has died`;
  const [code] = found;
  if (code === 'FENCED') return `The mount at ${directory} has lost its volume to another owner`;
  return `The daemon of ${directory} has ended (${code})`;
}

interface Shown extends MountStatus {
  /** Unmounted lazily: it is in no tree any more, and its last users still have it. */
  readonly detached: boolean;
}

function describe(all: readonly Shown[]): string {
  const heading = [
    ...['VOLUME', 'DIRECTORY', 'STATE', 'PID', 'SINCE', 'SIZE', 'USED'],
    ...['DIRTY', 'LAST COMMIT', 'EPOCH', 'LEASE', 'MEMORY'],
  ];
  return [table(heading, all.map(row)), ...all.flatMap(doing)].join('\n');
}

/** What keeps the users of a mount waiting. */
function doing(one: Shown): string[] {
  const { directory, state, live } = one;
  if (one.detached && live !== null) {
    const users = 'mounted no more, and kept by who has something open there';
    return [`${directory}: ${users}; to end it under them: kill ${live.pid}`];
  }
  const since = waitingSince(one);
  if (since !== null) {
    const began = `its users began to wait for nodes ${ago(since)}`;
    return [`${directory}: ${began}; "holdfast status" says what is wrong`];
  }
  if (live === null || (state !== 'adopting' && state !== 'starting')) return [];
  return [`${directory}: ${live.detail}`];
}

/** Null also of a mount that says what it does instead of serving. */
function waitingSince({ state, live }: MountStatus): string | null {
  return state === 'mounted' ? (live?.waitingSince ?? null) : null;
}

function shown(one: Shown): string {
  if (one.detached) return 'detached';
  if (waitingSince(one) !== null) return 'waiting';
  return one.state === 'mounted' && one.readOnly ? 'read-only' : one.state;
}

function row(one: Shown): string[] {
  const { volume, directory, since, live } = one;
  const start = [volume, directory, shown(one)];
  if (live === null) return [...start, '-', shortTime(since)];
  return [
    ...start,
    String(live.pid),
    shortTime(since),
    formatSize(live.sizeBytes),
    formatSize(live.usedBytes),
    formatSize(live.dirtyBytes),
    live.lastCommit === null ? '-' : ago(live.lastCommit),
    String(live.epoch),
    live.leaseHeld ? 'held' : 'idle',
    formatSize(live.residentBytes),
  ];
}

function shortTime(iso: string): string {
  return `${iso.slice(0, 16).replace('T', ' ')}Z`;
}

function ago(iso: string): string {
  const seconds = Math.max(0, Math.round((nodeClock.wall() - Date.parse(iso)) / 1000));
  return seconds < 120 ? `${seconds} s ago` : shortTime(iso);
}
