/**
 * The mounts of this machine: stopping, listing and committing them, for the command line, the
 * Docker plugin and the CSI driver alike (start-mount.ts starts them). Everything is found again
 * from the state directories and the daemons' sockets, so any process may stop what another one
 * started.
 *
 * INVARIANT: nothing here touches a mount point once something is mounted there.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import { mountAt, unmountFuse } from '../fuse/launcher.js';
import type { Clock } from '../io/clock.js';
import type { MountHost } from '../io/mount-host.js';
import { type ControlCall, callDaemon, parseStatus } from './control.js';
import { abortCopies, placesOf } from './copied-mounts.js';
import { faultOf, StateFile } from './keeper.js';
import {
  isAlive,
  type Ownership,
  readDevice,
  readKeeper,
  readOwnership,
  readSpec,
} from './mount-files.js';
import type { LiveStatus, MountId, MountStatus } from './mount-types.js';
import { GIVING_BACK_MS } from './release-volume.js';

const STATUS_TIMEOUT_MS = 1_000;
const COMMIT_TIMEOUT_MS = 60_000;
/** After the umount: what came since the commit, the release, the end of the process. */
const END_TIMEOUT_MS = GIVING_BACK_MS + 10_000;
/** Then whoever still keeps the mount alive is looked for; and the commit of what they did. */
const COPIES_MS = 1_000;
const COPIES_COMMIT_MS = 10_000;
const POLL_MS = 20;

export interface MountsDeps {
  readonly host: MountHost;
  readonly clock: Clock;
}

export interface StopOptions {
  /** Out of the tree at once; the daemon ends with the last user. */
  readonly lazy?: boolean;
  /** For the commit before it. */
  readonly timeoutMs?: number;
  /**
   * Given what a dead mount held, before its state is cleared, so that nobody waits for it any
   * more. By default its presence ends with its lease.
   */
  readonly onDead?: (held: HeldByDead) => Promise<void>;
}

export interface HeldByDead extends Ownership {
  /** Where the volume is known, as for --metadata. */
  readonly metadata: string;
}

/** All mounts of this machine, dead ones included, by directory. Changes nothing. */
export async function listMounts({ host }: MountsDeps): Promise<MountStatus[]> {
  const found = await Promise.all(host.state.list().map((mount) => statusOf(host, mount)));
  return found.filter((one) => one !== null).sort((a, b) => (a.directory < b.directory ? -1 : 1));
}

/** Where its volume is known: as for --metadata, with absolute paths. Null once it has ended. */
export function metadataOf({ host }: MountsDeps, { mount }: MountStatus): string | null {
  return readSpec(host.state, mount)?.metadata ?? null;
}

/** All at one directory: the one that counts, which is a dead one only where no other is, first. */
export async function mountsAt(deps: MountsDeps, mountPoint: string): Promise<MountStatus[]> {
  const there = (await listMounts(deps)).filter((one) => one.directory === mountPoint);
  const first = there.findLast(({ state }) => state !== 'dead') ?? there[0];
  return first === undefined ? [] : [first, ...there.filter((one) => one !== first)];
}

/**
 * The mount at a directory; a dead one, whose state may be left there, only when no other is.
 * Throws NOT_FOUND.
 */
export async function findMount(deps: MountsDeps, directory: string): Promise<MountStatus> {
  const mountPoint = deps.host.mounts.resolve(directory);
  const [found] = await mountsAt(deps, mountPoint);
  if (found !== undefined) return found;
  const hint = 'See "holdfast mounts" for what is mounted.';
  throw new HoldfastError('NOT_FOUND', `no volume is mounted at ${mountPoint}`, { hint });
}

/**
 * Everything that was written to the mount so far is on stable storage when this resolves. Throws
 * NOT_FOUND, TIMEOUT, UNAVAILABLE (a dead daemon), or why the volume has failed.
 */
export async function syncMount(
  deps: MountsDeps,
  directory: string,
  options: { readonly timeoutMs?: number } = {},
): Promise<MountStatus> {
  const status = await findMount(deps, directory);
  if (status.state === 'dead') throw deadMount(status);
  await commit(deps.host, status, options.timeoutMs ?? COMMIT_TIMEOUT_MS);
  return status;
}

export interface StoppedMount extends MountStatus {
  /**
   * False: the metadata store did not answer, so others can have the volume only when its lease has
   * ended; or somebody still uses a lazily unmounted one.
   */
  readonly released: boolean;
}

/**
 * Commits, unmounts, and waits until the daemon has released the volume and is gone; of a dead
 * mount it clears what is left. Throws NOT_FOUND, BUSY (in use, or still being mounted: nothing has
 * changed), TIMEOUT (the commit does not end: still mounted), or why the volume has failed.
 */
export async function stopMount(
  deps: MountsDeps,
  directory: string,
  options: StopOptions = {},
): Promise<StoppedMount> {
  const { host } = deps;
  const status = await findMount(deps, directory);
  if (status.state === 'dead') {
    const spec = readSpec(host.state, status.mount);
    const held = readOwnership(host.state, status.mount);
    if (spec !== null && held !== null) {
      await options.onDead?.({ ...held, metadata: spec.metadata });
    }
    await clearDead(host, status);
    return { ...status, released: true };
  }
  if (status.state === 'starting') throw stillStarting(status);
  const lazy = options.lazy === true;
  // Lazily, the commit comes when the last user has gone, and nodes that are down hold up nothing.
  if (!lazy && canCommit(status)) {
    await commit(host, status, options.timeoutMs ?? COMMIT_TIMEOUT_MS);
  }
  if (isMounted(host, status.directory)) await unmountFuse(host.mounts, status.directory, { lazy });
  const released = !lazy && (await untilEnded(deps, status));
  return { ...status, released };
}

/** One that is being adopted commits when it is; between two daemons there is nobody to ask. */
function canCommit({ state, live }: MountStatus): boolean {
  return state === 'mounted' || state === 'unresponsive' || (state === 'adopting' && live !== null);
}

/** Removes what a dead daemon left: the mount that answers nothing, and its state directory. */
export async function clearDead(host: MountHost, status: MountStatus): Promise<void> {
  await unmountDead(host, status);
  host.state.remove(status.mount);
}

/** Takes a mount that answers nothing out of the tree, if its keeper could not. */
export async function unmountDead(host: MountHost, status: MountStatus): Promise<void> {
  const device = readDevice(host.state, status.mount);
  const left = mountAt(host.mounts.table(), status.directory);
  if (left !== undefined && left.device === device) {
    await unmountFuse(host.mounts, status.directory, { lazy: true });
  }
}

/** Returns whether the volume was released. */
async function untilEnded(deps: MountsDeps, status: MountStatus): Promise<boolean> {
  const { host, clock } = deps;
  const since = clock.monotonic();
  const { mount, directory } = status;
  let copiesAt = since + COPIES_MS;
  let released = true;
  while (await isRunning(host, mount)) {
    released &&= host.state.read(mount, StateFile.UNRELEASED) === null;
    const now = clock.monotonic();
    if (now > since + END_TIMEOUT_MS) {
      const left = await statusOf(host, mount);
      if (left !== null) throw notReleased(host, left);
    }
    if (now > copiesAt) {
      copiesAt = now + COPIES_MS;
      await endCopies(host, status);
    }
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
  const ended = host.state.read(mount, StateFile.ENDED);
  host.state.remove(mount);
  if (ended === null) return released;
  const message = `the daemon of ${directory} ended with status ${ended.trim()}`;
  const hint = `What was not yet committed may be lost; see ${status.logFile}.`;
  throw new HoldfastError('UNAVAILABLE', message, { hint });
}

/** A daemon that still serves what is mounted nowhere here has users in other mount namespaces. */
async function endCopies(host: MountHost, status: MountStatus): Promise<void> {
  const { mount } = status;
  const now = await statusOf(host, mount);
  if (now?.state !== 'mounted' || placesOf(host, mount).length > 0) return;
  try {
    await commit(host, now, COPIES_COMMIT_MS);
  } catch {
    // it is ending, or cannot commit now: looked at again
    return;
  }
  const still = await statusOf(host, mount);
  if (still?.state === 'mounted') await abortCopies(host, still);
}

function notReleased(host: MountHost, now: MountStatus): HoldfastError {
  const message = `${now.directory} is unmounted, but the volume is not released yet`;
  return new HoldfastError('TIMEOUT', message, { hint: whyNot(host, now) });
}

function whyNot(host: MountHost, { mount, logFile, state, live }: MountStatus): string {
  const places = placesOf(host, mount);
  if (places.length > 0)
    return `It is also mounted at ${places.join(' and ')}: unmount it there, too.`;
  if (state === 'mounted' && live !== null) return endUnderUsers(live.pid);
  return `Its daemon goes on trying; see ${logFile}.`;
}

/** What to do about a mount that is gone from the tree and served to who has something open. */
export function endUnderUsers(pid: number): string {
  return `End who still has something open there; or end it under them, committed: kill ${pid}.`;
}

/** The keeper ends last; but it may have been killed, and the daemon go on without it. */
async function isRunning(host: MountHost, mount: MountId): Promise<boolean> {
  if (isAlive(host, readKeeper(host.state, mount))) return true;
  try {
    await call(host, mount, 'status', STATUS_TIMEOUT_MS);
    return true;
  } catch (thrown) {
    return asFault(thrown, 'UNAVAILABLE').code === 'TIMEOUT';
  }
}

async function commit(host: MountHost, status: MountStatus, timeoutMs: number): Promise<void> {
  try {
    await call(host, status.mount, 'commit', timeoutMs);
  } catch (thrown) {
    const fault = asFault(thrown, 'UNAVAILABLE');
    if (fault.code !== 'TIMEOUT') throw fault;
    const seconds = timeoutMs / 1000;
    const message = `"${status.volume}" was not committed within ${seconds} s: still mounted`;
    const hint = 'Check with "holdfast status" that enough nodes are up.';
    throw new HoldfastError('TIMEOUT', message, { retryable: true, hint });
  }
}

async function call(
  host: MountHost,
  mount: MountId,
  what: ControlCall,
  timeoutMs: number,
): Promise<string> {
  const answer = await callDaemon(host, host.state.path(mount, StateFile.CONTROL), what, timeoutMs);
  if (answer.fault !== null) throw faultOf(answer.fault);
  return answer.body;
}

/** Null when it ended meanwhile. */
async function statusOf(host: MountHost, mount: MountId): Promise<MountStatus | null> {
  const spec = readSpec(host.state, mount);
  if (spec === null) return null;
  const keeper = readKeeper(host.state, mount);
  let live: LiveStatus | null = null;
  let fault: HoldfastError | null = null;
  try {
    live = parseStatus(await call(host, mount, 'status', STATUS_TIMEOUT_MS));
  } catch (thrown) {
    fault = asFault(thrown, 'UNAVAILABLE');
  }
  // It may have ended, and its keeper have removed all of it, while we asked.
  if (live === null && readSpec(host.state, mount) === null) return null;
  const { volume, directory, readOnly, since, logFile } = spec;
  const held = readOwnership(host.state, mount);
  const owner = held?.owner ?? null;
  const volumeId = live?.volumeId ?? held?.volume ?? null;
  const keeperPid = isAlive(host, keeper) ? (keeper?.pid ?? null) : null;
  const what = { mount, volume, volumeId, owner, directory, readOnly, since, logFile };
  const known = { ...what, keeperPid, live };
  if (live !== null) return { ...known, state: live.phase };
  // Somebody accepted and does not answer: stopped or hanging, and perhaps to go on later.
  if (fault?.code === 'TIMEOUT') return { ...known, state: 'unresponsive' };
  if (keeperPid === null) return { ...known, state: 'dead' };
  return { ...known, state: silentState(host, mount) };
}

/** Of a mount that has a keeper and, at this moment, no daemon that can be asked. */
function silentState(host: MountHost, mount: MountId): MountStatus['state'] {
  const has = (file: string): boolean => host.state.read(mount, file) !== null;
  if (!has(StateFile.DEVICE)) return 'starting';
  return has(StateFile.INIT) && !has(StateFile.OVER) ? 'adopting' : 'stopping';
}

function isMounted(host: MountHost, directory: string): boolean {
  return mountAt(host.mounts.table(), directory) !== undefined;
}

/** Only who starts it can give that up: it would be mounted behind the back of who stops it. */
function stillStarting({ volume, directory }: MountStatus): HoldfastError {
  const hint = 'Wait until it is mounted, or end the command that mounts it.';
  const message = `"${volume}" is still being mounted at ${directory}`;
  return new HoldfastError('BUSY', message, { hint });
}

function deadMount({ directory, logFile }: MountStatus): HoldfastError {
  const hint = `See ${logFile}; "holdfast umount ${directory}" clears what is left.`;
  return new HoldfastError('UNAVAILABLE', `the mount daemon of ${directory} is dead`, { hint });
}
