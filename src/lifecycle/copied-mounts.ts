/**
 * Copies of a mount in other mount namespaces: a container that was started while the volume was
 * mounted has one, and it keeps the connection alive when the mount is gone here. Whoever unmounts
 * here means the volume to be released, so the connection is ended for the copies as well, after
 * all that they were answered is committed. Their users get ENOTCONN from then on.
 */
import { HoldfastError } from '../core/errors.js';
import type { FuseMounts, MountEntry } from '../io/fuse-device.js';
import type { MountHost, StateDirectory } from '../io/mount-host.js';
import { StateFile } from './keeper.js';
import { readDevice } from './mount-files.js';
import type { MountId, MountStatus } from './mount-types.js';

/** Where the filesystem of a mount, or a part of it, is still seen in this mount namespace. */
export function placesOf(host: MountHost, mount: MountId): string[] {
  return placesIn(host.mounts.table(), readDevice(host.state, mount));
}

function placesIn(table: readonly MountEntry[], device: string | null): string[] {
  return table.filter((entry) => entry.device === device).map(({ mountPoint }) => mountPoint);
}

/**
 * Aborts the connection of a mount that is gone here, and where its daemon runs, and is served all
 * the same. Throws UNAVAILABLE when the kernel offers no way to.
 */
export async function abortCopies(
  host: MountHost,
  { mount, live, keeperPid, volume: source }: MountStatus,
): Promise<void> {
  const device = readDevice(host.state, mount);
  const home = keeperPid ?? live?.pid;
  const { mounts } = host;
  if (device === null || home === undefined || !mounts.processes().includes(home)) return;
  const seen = [...placesIn(mounts.table(), device), ...placesIn(mounts.table(home), device)];
  if (seen.length > 0) return;
  // Without a copy the daemon is about to see the end by itself, and the number of the filesystem
  // may already be another one's.
  const hasCopy = mounts.processes().some((pid) => isSeenBy(mounts, pid, { device, source }));
  if (!hasCopy) return;
  host.state.write(
    mount,
    StateFile.ABORTED,
    'It is still mounted in another mount namespace, as of a container',
  );
  if (await host.mounts.abort(device)) return;
  const hint = 'Find who has it with "grep fuse.holdfast /proc/*/mountinfo", and unmount it there.';
  const message = 'it is still mounted in another mount namespace, and cannot be ended there';
  throw new HoldfastError('UNAVAILABLE', message, { hint });
}

function isSeenBy(
  mounts: FuseMounts,
  pid: number,
  { device, source }: Pick<MountEntry, 'device' | 'source'>,
): boolean {
  try {
    return mounts.table(pid).some((one) => one.device === device && one.source === source);
  } catch {
    // it has ended
    return false;
  }
}

/** Why the connection was aborted; null when it was not. */
export function abortNote(state: StateDirectory, mount: MountId): string | null {
  return state.read(mount, StateFile.ABORTED);
}
