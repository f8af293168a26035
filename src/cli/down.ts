/**
 * `holdfast down`: stops what `holdfast up` runs on a data directory, in order, and waits until it
 * is gone. Idempotent. Which process that is, its own socket says, so no other one is ever stopped.
 */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { parseSeconds } from '../core/durations.js';
import { asFault, HoldfastError } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import type { MountStatus } from '../lifecycle/mount-types.js';
import { listMounts, metadataOf, stopMount } from '../lifecycle/mounts.js';
import { mountDeps } from './machine.js';
import { absoluteMetadata } from './mount-location.js';
import { addExamples, printResult, showProgress } from './output.js';
import { sleep } from './up-cluster.js';
import { findUpFile, UP_DIRECTORY, type UpFile } from './up-file.js';
import { askUpPid } from './up-lock.js';
import { letGo } from './up-mount.js';

interface Outcome {
  readonly dataDir: string;
  readonly pid: number | null;
  readonly unmounted: string | null;
  readonly nodes: number;
  /** Mounts that need the nodes, and are left. */
  readonly waiting: readonly { readonly volume: string; readonly directory: string }[];
}

interface DownOptions {
  readonly dataDir: string;
  readonly timeout: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Of mounts that go on with the next nodes. */
const WAITS: readonly MountStatus['state'][] = ['mounted', 'adopting', 'unresponsive'];
const POLL_MS = 100;
/** For the commit of a mount whose nodes may be gone. */
const LEFT_TIMEOUT_MS = 5_000;

export function addDownCommand(program: Command): void {
  const command = program
    .command('down')
    .description('stop what "holdfast up" runs: mount, nodes, metadata; the data stays')
    .option('--data-dir <dir>', 'as for "holdfast up"', `./${UP_DIRECTORY}`)
    .option('--timeout <time>', 'how long it may take', '90s')
    .option('--force', 'drop a mount that a killed "holdfast up" left, with what was not committed')
    .option('--json', 'print JSON')
    .action((options: DownOptions) => down(options));
  addExamples(command, [
    ['What runs in this directory', 'holdfast down'],
    ['Elsewhere', 'holdfast down --data-dir /tmp/trial'],
  ]);
}

async function down(options: DownOptions): Promise<void> {
  const dataDir = resolve(options.dataDir);
  const timeoutMs = parseSeconds(options.timeout, '--timeout');
  const up = findUpFile(dataDir);
  const pid = await askUpPid(dataDir);
  const mounts = await mountsOf(up);
  const mounted = mounts.find(({ directory }) => directory === up?.mount)?.directory ?? null;
  if (pid !== null) await stop(pid, dataDir, timeoutMs, options);
  else if (mounted !== null) await dropLeft(mounted, options.force === true);
  const waiting = mounts.filter(
    ({ directory, state }) => directory !== mounted && WAITS.includes(state),
  );
  const value = {
    ...{ dataDir, pid, unmounted: mounted, nodes: pid === null ? 0 : (up?.nodes ?? 0) },
    waiting: waiting.map(({ volume, directory }) => ({ volume, directory })),
  };
  printResult(options.json === true, value, told(value));
}

function told(outcome: Outcome): string {
  const notes = outcome.waiting.map(({ volume, directory }) => {
    const waits = 'its users wait until the nodes run again';
    return `! ${directory} ("${volume}") is still mounted: ${waits}`;
  });
  return [stopped(outcome), ...notes].join('\n');
}

function stopped({ dataDir, pid, unmounted, nodes }: Outcome): string {
  const mount = unmounted === null ? [] : [`unmounted ${unmounted}`];
  if (pid === null && unmounted === null) return `nothing runs on ${dataDir}`;
  if (pid === null) return `${mount.join('')}; nothing else runs on ${dataDir}`;
  const did = [...mount, `stopped ${nodes} nodes and the metadata store (pid ${pid})`].join(', ');
  return `${did}; the data stays in ${dataDir}`;
}

async function stop(
  pid: number,
  dataDir: string,
  timeoutMs: number,
  options: DownOptions,
): Promise<void> {
  const progress = showProgress(options);
  try {
    process.kill(pid, 'SIGTERM');
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ESRCH') return;
    const message = `"holdfast up" (pid ${pid}) cannot be stopped by this user: ${code}`;
    throw new HoldfastError('UNAVAILABLE', message, { hint: 'Run it as the user who started it.' });
  }
  const deadline = nodeClock.monotonic() + timeoutMs;
  while ((await askUpPid(dataDir)) === pid || isAlive(pid)) {
    progress.say(`waiting for "holdfast up" (pid ${pid}) to stop`);
    if (nodeClock.monotonic() > deadline) {
      const message = `"holdfast up" (pid ${pid}) has not stopped within ${timeoutMs / 1000} s`;
      const hint = `See ${dataDir}/up.log and the nodes' logs beside it.`;
      throw new HoldfastError('TIMEOUT', message, { retryable: true, hint });
    }
    await sleep(POLL_MS);
  }
  progress.end();
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The mounts of this machine that need the cluster of this directory; the demo volume's always. */
async function mountsOf(up: UpFile | null): Promise<MountStatus[]> {
  if (up === null) return [];
  const deps = mountDeps(process.env);
  const metadata = absoluteMetadata(up.metadata);
  const all = await listMounts(deps);
  return all.filter((one) => one.directory === up.mount || metadataOf(deps, one) === metadata);
}

/** A mount outlives whoever made it, and waits for its nodes. */
async function dropLeft(directory: string, isForced: boolean): Promise<void> {
  const deps = mountDeps(process.env);
  try {
    await stopMount(deps, directory, { timeoutMs: LEFT_TIMEOUT_MS });
  } catch (thrown) {
    const fault = asFault(thrown, 'UNAVAILABLE');
    if (fault.code === 'NOT_FOUND') return;
    if (isForced) return letGo(deps, directory, fault);
    const message = `${directory} is still mounted, but its nodes do not run`;
    const hint =
      'Start "holdfast up" again, which goes on with it, and then stop it; or use --force, which ' +
      'loses what was not committed.';
    throw new HoldfastError(fault.code, message, { hint, cause: fault });
  }
}
