/**
 * The demo volume as a directory, for as long as `holdfast up` runs. Where nothing can be mounted
 * (no root, no /dev/fuse, a directory that is in use) the reason is said and all else goes on.
 */
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { asFault, HoldfastError, invalid } from '../core/errors.js';
import { mountAt } from '../fuse/launcher.js';
import { nodeClock } from '../io/node/clock.js';
import type { MountStatus } from '../lifecycle/mount-types.js';
import { listMounts, stopMount } from '../lifecycle/mounts.js';
import { type StartDeps, startMount } from '../lifecycle/start-mount.js';
import { absoluteMetadata } from './mount-location.js';
import { DEMO, type Running, sleep } from './up-cluster.js';
import { secretOf } from './up-file.js';

/** Programs that use the directory get this long when everything stops. */
const LAST_USER_MS = 5_000;
const COMMIT_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

export type DemoMount =
  | { readonly type: 'mounted'; readonly directory: string; readonly madeDirectory: boolean }
  | { readonly type: 'none'; readonly why: string };

/** Rejects with CLOSED only: when it was stopped meanwhile, and then nothing is left. */
export async function mountDemo(
  deps: StartDeps,
  running: Running,
  wanted: string | false,
): Promise<DemoMount> {
  if (wanted === false) return { type: 'none', why: 'as told by --no-mount' };
  const directory = resolve(wanted);
  let madeDirectory = false;
  try {
    if (await isThere(deps, directory)) return { type: 'mounted', directory, madeDirectory };
    madeDirectory = prepareDirectory(deps, directory);
    const metadata = absoluteMetadata(running.metadata);
    const request = { volume: DEMO, directory, metadata, secretFile: secretOf(running.directory) };
    await startMount(deps, request, { signal: running.stopping });
    return { type: 'mounted', directory, madeDirectory };
  } catch (thrown) {
    if (madeDirectory) removeDirectory(directory);
    const { code, message, hint } = asFault(thrown, 'UNAVAILABLE');
    if (code === 'CLOSED' || running.stopping.aborted) throw thrown;
    return { type: 'none', why: hint === undefined ? message : `${message}. ${hint}` };
  }
}

/** The mount of a former run that was killed goes on as soon as its nodes are back. */
async function isThere(deps: StartDeps, directory: string): Promise<boolean> {
  const found = await mountsAt(deps, directory);
  return found.some(({ volume, state }) => volume === DEMO && state === 'mounted');
}

async function mountsAt(deps: StartDeps, directory: string): Promise<MountStatus[]> {
  return (await listMounts(deps)).filter((one) => one.directory === directory);
}

/** True when it was made. Throws INVALID_ARGUMENT for one that a mount would hide. */
function prepareDirectory({ host }: StartDeps, directory: string): boolean {
  if (mountAt(host.mounts.table(), directory) !== undefined) {
    throw new HoldfastError('ALREADY_EXISTS', `something is mounted at ${directory}`);
  }
  if (host.mounts.effectiveUid() !== 0) {
    const hint = 'Run it as root to have one.';
    throw new HoldfastError('UNAVAILABLE', 'mounting needs root', { hint });
  }
  if (host.mounts.kind(directory) === 'missing') {
    mkdirSync(directory, { recursive: true });
    return true;
  }
  if (readdirSync(directory).length === 0) return false;
  throw invalid(`${directory} is not empty`, 'Name another directory: --mount DIR.');
}

function removeDirectory(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Somebody uses it.
  }
}

/** Commits and unmounts, before the nodes go. Says on standard error what it could not do. */
export async function unmountDemo(deps: StartDeps, mount: DemoMount): Promise<void> {
  if (mount.type === 'none') return;
  const { directory, madeDirectory } = mount;
  try {
    await stopMount(deps, directory, { timeoutMs: COMMIT_TIMEOUT_MS });
  } catch (thrown) {
    const fault = asFault(thrown, 'UNAVAILABLE');
    // Somebody else may have unmounted it.
    if (fault.code !== 'NOT_FOUND') await letGo(deps, directory, fault);
  }
  if (madeDirectory) removeDirectory(directory);
}

/**
 * Ends a mount that cannot be stopped in order. What is committed is safe; a daemon that waits for
 * its last user, or for nodes that are gone, would outlive everything it needs.
 */
export async function letGo(
  deps: StartDeps,
  directory: string,
  fault: HoldfastError,
): Promise<void> {
  process.stderr.write(`${fault.message}: it is taken out of the tree all the same.\n`);
  const [before] = await mountsAt(deps, directory);
  await stopMount(deps, directory, { lazy: true, timeoutMs: COMMIT_TIMEOUT_MS }).catch(() => {});
  const deadline = nodeClock.monotonic() + LAST_USER_MS;
  while (nodeClock.monotonic() < deadline) {
    if ((await mountsAt(deps, directory)).length === 0) return;
    await sleep(POLL_MS);
  }
  for (const pid of [before?.keeperPid, before?.live?.pid]) {
    if (pid == null) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
  await stopMount(deps, directory, { lazy: true }).catch(() => {});
}
