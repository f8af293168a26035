/**
 * Replacing running daemons by this very program: each hands its mount over to its keeper's next
 * daemon, as if it had died, but with nothing left to be recovered.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import type { FuseSession } from '../fuse/session.js';
import type { Clock } from '../io/clock.js';
import { callDaemon } from './control.js';
import { faultOf, StateFile } from './keeper.js';
import { readInit, readOwnership, writeProgram } from './mount-files.js';
import type { MountStatus } from './mount-types.js';
import { listMounts, type MountsDeps } from './mounts.js';

/** Requests that are under way get so long to be answered; the kernel asks for the rest again. */
const LAST_ANSWERS_MS = 2_000;
const LAST_ANSWERS_POLL_MS = 5;
const COMMIT_TIMEOUT_MS = 60_000;
/** For the next daemon to serve the mount. */
const ADOPT_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

export interface Settling {
  readonly session: Pick<FuseSession, 'hold' | 'requestsUnderWay'>;
  readonly clock: Clock;
  readonly commit: () => Promise<void>;
  /** Whether nothing is done and not committed. */
  readonly isSettled: () => boolean;
  /** Called once nothing that was answered is, in that very turn: no more may be answered. */
  readonly end: () => void;
}

/**
 * Takes no more requests, answers what is under way, commits it all, and ends. Rejects with why
 * that cannot be, whatever failed: the session then goes on.
 */
export async function settleSession(settling: Settling): Promise<void> {
  const { session, clock, commit, isSettled, end } = settling;
  session.hold(true);
  try {
    await commit();
    const deadline = clock.monotonic() + LAST_ANSWERS_MS;
    while (session.requestsUnderWay > 0 && clock.monotonic() < deadline) {
      await new Promise<void>((resolve) => clock.after(LAST_ANSWERS_POLL_MS, resolve));
    }
    for (let isLast = false; !isLast; ) {
      // One that waits for longer, as for a page, may be done and answered behind the commit.
      const mayBeDone = session.requestsUnderWay > 0;
      await commit();
      isLast = !mayBeDone || isSettled();
    }
    end();
  } catch (thrown) {
    session.hold(false);
    throw thrown;
  }
}

/** What became of one mount. */
export interface Upgraded {
  readonly volume: string;
  readonly directory: string;
  /** The versions of the daemons; `to` is null where it could not be replaced. */
  readonly from: string;
  readonly to: string | null;
  /** From the moment on at which it was asked to. */
  readonly tookMs: number;
  readonly fault: HoldfastError | null;
}

/** Replaces the daemon of one mount. What fails is in the result; the mount then goes on. */
export async function upgradeMount(deps: MountsDeps, status: MountStatus): Promise<Upgraded> {
  const { clock } = deps;
  const since = clock.monotonic();
  const { volume, directory } = status;
  const from = status.live?.version ?? 'unknown';
  let to: string | null = null;
  let fault: HoldfastError | null = null;
  try {
    to = await replace(deps, status);
  } catch (thrown) {
    fault = asFault(thrown, 'UNAVAILABLE');
  }
  const tookMs = Math.round(clock.monotonic() - since);
  return { volume, directory, from, to, tookMs, fault };
}

async function replace(deps: MountsDeps, status: MountStatus): Promise<string> {
  const { host } = deps;
  const { mount, directory, state, live, keeperPid } = status;
  if (live === null || state !== 'mounted') {
    throw new HoldfastError('BUSY', `the mount at ${directory} is ${state}`, { retryable: true });
  }
  if (keeperPid === null) {
    const hint = 'Unmount it and mount it again.';
    const message = `the keeper of ${directory} is gone: nobody would start the next daemon`;
    throw new HoldfastError('UNAVAILABLE', message, { hint });
  }
  if (readInit(host.state, mount) === null || readOwnership(host.state, mount) === null) {
    const message = `this program does not understand the state of the mount at ${directory}`;
    const hint = 'It goes on as it is: use a program as new as the one that serves it.';
    throw new HoldfastError('VERSION', message, { hint });
  }
  writeProgram(host.state, mount, host.program);
  const socket = host.state.path(mount, StateFile.CONTROL);
  const { fault } = await callDaemon(host, socket, 'hand-over', COMMIT_TIMEOUT_MS);
  if (fault !== null) throw faultOf(fault);
  return await untilServed(deps, status, live.pid);
}

/** Resolves to the version of the daemon that serves it after another one did. */
async function untilServed(
  deps: MountsDeps,
  { mount, directory, logFile }: MountStatus,
  formerPid: number,
): Promise<string> {
  const { clock } = deps;
  const deadline = clock.monotonic() + ADOPT_TIMEOUT_MS;
  for (;;) {
    const now = (await listMounts(deps)).find((one) => one.mount === mount);
    const live = now?.state === 'mounted' ? now.live : null;
    if (live !== null && live.pid !== formerPid) return live.version;
    if (now === undefined || now.state === 'dead' || clock.monotonic() > deadline) {
      const message = `the next daemon of ${directory} does not serve it`;
      throw new HoldfastError('TIMEOUT', message, { hint: `See ${logFile}.` });
    }
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
}
