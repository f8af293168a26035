/**
 * Mounting and unmounting that may be asked for again and again: looks at what is there first,
 * waits for what is on its way, and clears what is of no use any more.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { isMountedAs } from '../fuse/launcher.js';
import type { Clock } from '../io/clock.js';
import type { MountHost } from '../io/mount-host.js';
import { mountedHere } from './claim.js';
import { placesOf } from './copied-mounts.js';
import { readDevice } from './mount-files.js';
import type { MountRequest, MountStatus } from './mount-types.js';
import { clearDead, mountsAt, type StopOptions, stopMount } from './mounts.js';
import type { MachineMountRequest, MountLocation } from './volume-types.js';

const POLL_MS = 100;
/** For what is starting or ending there, when the caller does not say. */
const PATIENCE_MS = 60_000;
/** A mount that was just unmounted is gone from the tree a little before its daemon says so. */
const UNSEEN_MS = 2_000;

/** How a mount's processes are started: start-mount.ts, or launched-mounts.ts for an agent. */
export interface MountStarter {
  /** As startMount: resolves when it answers; rejects with its faults, and nothing is left. */
  start(request: MountRequest, signal: AbortSignal): Promise<MountStatus>;
}

export interface FuseMountsHere {
  readonly host: MountHost;
  readonly clock: Clock;
  readonly starter: MountStarter;
  /** Where daemons find the cluster, unless a request says otherwise; null: it has to. */
  readonly location: MountLocation | null;
  /** This machine's name. */
  readonly name: string;
}

/** Returns what is mounted there if it is the same; see MachineVolumes.mount. */
export async function mountOnce(
  deps: FuseMountsHere,
  request: MachineMountRequest,
  directory: string,
  signal: AbortSignal,
): Promise<MountStatus> {
  const { clock, host, starter } = deps;
  const { location = deps.location, machine = deps.name } = request;
  if (location === null) throw invalid('the request does not say where the cluster is');
  const { name, kind, readOnly = false, flags = [] } = request;
  const { timeoutMs, waitMs, commitIntervalMs } = request;
  const deadline = clock.monotonic() + (timeoutMs ?? PATIENCE_MS);
  const mountPoint = host.mounts.resolve(directory);
  let unseenSince: number | null = null;
  for (;;) {
    const there = await lively(deps, mountPoint);
    if (there === null) break;
    const done = await same(deps, there, request);
    if (done && isShown(host, there)) return there;
    unseenSince = done ? (unseenSince ?? clock.monotonic()) : null;
    if (unseenSince !== null && clock.monotonic() - unseenSince >= UNSEEN_MS) {
      throw notShown(host, there);
    }
    if (clock.monotonic() >= deadline || signal.aborted) throw onItsWay(there);
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
  const wanted: MountRequest = {
    ...{ ...location, volume: name, directory: mountPoint, readOnly, flags, kind, machine },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(waitMs === undefined ? {} : { waitMs }),
    ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
  };
  return await starter.start(wanted, signal);
}

async function lively(deps: FuseMountsHere, mountPoint: string): Promise<MountStatus | null> {
  const [there] = await mountsAt(deps, mountPoint);
  return there === undefined || there.state === 'dead' ? null : there;
}

/** Whether it is what whoever opens its directory gets; the daemon does not know. */
function isShown({ state, mounts }: MountHost, { mount, directory }: MountStatus): boolean {
  const device = readDevice(state, mount);
  return device !== null && isMountedAs(mounts, directory, device);
}

/** Whether it is served as wanted; false: it is on its way there or away. */
async function same(
  deps: FuseMountsHere,
  there: MountStatus,
  { name, id, readOnly = false }: MachineMountRequest,
): Promise<boolean> {
  const { volume, volumeId, directory, state } = there;
  const isVolume = volumeId === null ? volume === name : volumeId === id;
  if (!isVolume) {
    const message = `${directory} has volume "${volume}" already`;
    throw new HoldfastError('ALREADY_EXISTS', message, { hint: 'Unmount it first.' });
  }
  switch (state) {
    case 'mounted':
    case 'adopting':
      if (there.readOnly === readOnly) return true;
      throw otherwise(there);
    case 'failed':
      // It answers EIO for good; whoever mounts anew wants what is in the volume now.
      await stopMount(deps, directory, { lazy: true });
      return false;
    case 'unresponsive':
      throw stuck(there);
    default:
      return false;
  }
}

/** Nothing is mounted there: done. What a lost or dead mount left is cleared without complaint. */
export async function unmountOnce(
  deps: FuseMountsHere,
  mountPoint: string,
  options: StopOptions,
): Promise<void> {
  const { clock } = deps;
  const deadline = clock.monotonic() + (options.timeoutMs ?? PATIENCE_MS);
  for (;;) {
    const [there, ...others] = await mountsAt(deps, mountPoint);
    if (there === undefined) return;
    const { state } = there;
    if (state !== 'starting' && state !== 'stopping') {
      const wasLost = state === 'failed' || state === 'dead';
      await stopMount(deps, mountPoint, options).catch((thrown) => {
        if (!(wasLost && isEndOfLost(thrown))) throw thrown;
      });
      for (const one of others) if (one.state === 'dead') await clearDead(deps.host, one);
      return;
    }
    if (clock.monotonic() >= deadline) throw onItsWay(there);
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
}

/** That it ended badly was known before. */
function isEndOfLost(thrown: unknown): boolean {
  return (
    thrown instanceof HoldfastError &&
    (thrown.code === 'UNAVAILABLE' || thrown.code === 'NOT_FOUND')
  );
}

function onItsWay({ volume, directory, state }: MountStatus): HoldfastError {
  const message = `the mount of "${volume}" at ${directory} is ${state}`;
  return new HoldfastError('BUSY', message, { retryable: true, hint: 'Try again.' });
}

/** It is served, but not to who opens its directory. */
function notShown(host: MountHost, there: MountStatus): HoldfastError {
  const { mount, volume, directory } = there;
  const places = placesOf(host, mount);
  if (places.length === 0) return mountedHere(host, there);
  if (places.includes(directory)) {
    const message = `something else is mounted over "${volume}" at ${directory}`;
    return new HoldfastError('CONFLICT', message, { hint: 'Unmount that first.' });
  }
  const message = `"${volume}" is no longer mounted at ${directory}, but at ${places.join(', ')}`;
  return new HoldfastError('CONFLICT', message, { hint: 'Unmount it there first.' });
}

function otherwise({ volume, directory, readOnly }: MountStatus): HoldfastError {
  const how = readOnly ? 'read-only' : 'for writing';
  const message = `"${volume}" is mounted at ${directory} ${how} already`;
  return new HoldfastError('ALREADY_EXISTS', message, { hint: 'Unmount it first.' });
}

function stuck({ volume, directory, logFile }: MountStatus): HoldfastError {
  const message = `the daemon of "${volume}" at ${directory} does not answer`;
  const hint = `See ${logFile}.`;
  return new HoldfastError('UNAVAILABLE', message, { retryable: true, hint });
}
