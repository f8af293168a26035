/** What a mount daemon is made of, and which volumes it can mount. */
import { asFault, HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { COMMIT_INTERVAL_DEFAULT_MS } from '../core/limits.js';
import type { InitReply } from '../fuse/encode.js';
import { isMountedAs, unmountFuse } from '../fuse/launcher.js';
import type { Clock } from '../io/clock.js';
import type { FuseDevice } from '../io/fuse-device.js';
import type { Log } from '../io/log.js';
import type { MachineCommands } from '../io/machine-commands.js';
import type { MountHost } from '../io/mount-host.js';
import type { Random } from '../io/random.js';
import type { VolumeKind, VolumeRecord } from '../metadata/model.js';
import { isRawLog, RAW_LOG_LABEL } from '../metadata/names.js';
import type { Presence } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Volumes } from '../metadata/volumes.js';
import type { Directory } from '../replication/directory.js';
import type { LogOwner } from '../replication/owner.js';
import type { OwnerDeps } from '../replication/owner-types.js';
import type { VolumeFilesystem } from '../volume/filesystem.js';
import type { Adoption, IntentFiles } from './adoption.js';
import type { LiveStatus, MountSpec } from './mount-types.js';

const PRESENCE_PATIENCE_MS = 2_000;
const PRESENCE_POLL_MS = 20;

export interface MountDaemonDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: MetadataStore;
  readonly requests: OwnerDeps['requests'];
  readonly localFiles?: OwnerDeps['localFiles'];
  readonly directory: Directory;
  readonly host: MountHost;
  readonly commands: MachineCommands;
  readonly intents: IntentFiles;
  /** What a daemon before this one left of the mount; null: there was none. */
  readonly adoption: Adoption | null;
  /** Of the FUSE connection; asked for once, when it is mounted. */
  readonly device: () => FuseDevice;
  readonly hostname: string;
  readonly pid: number;
  readonly version: string;
  readonly residentBytes: () => number;
}

export interface MountDaemonHandlers {
  onProgress(text: string): void;
  /** The kernel has its first answer. */
  onReady(agreed: InitReply): void;
}

/** Throws INVALID_ARGUMENT for a volume that is none of that kind, or a plain log. */
export function checkKind({ name, kind, labels }: VolumeRecord, wanted: VolumeKind): void {
  if (kind !== wanted) {
    const message = `"${name}" is a volume of the kind "${kind}", not "${wanted}"`;
    throw new HoldfastError('INVALID_ARGUMENT', message);
  }
  if (!isRawLog(labels)) return;
  const hint = `It has the label ${RAW_LOG_LABEL.key}=${RAW_LOG_LABEL.value}: see "holdfast log".`;
  throw new HoldfastError('INVALID_ARGUMENT', `"${name}" is a plain log`, { hint });
}

/** What the mount was told, else what the volume's settings say now. */
export function commitInterval(
  { commitIntervalMs }: Pick<MountSpec, 'commitIntervalMs'>,
  { settings }: Pick<VolumeRecord, 'settings'>,
): number {
  return commitIntervalMs ?? settings?.commitIntervalMs ?? COMMIT_INTERVAL_DEFAULT_MS;
}

/** What a mount's status says of its filesystem; null: of a volume that is not loaded yet. */
export function usageOf(
  filesystem: VolumeFilesystem | null,
  volumeBytes: number,
): Pick<LiveStatus, 'sizeBytes' | 'usedBytes' | 'files' | 'freeFiles' | 'dirtyBytes'> {
  if (filesystem === null) {
    return { sizeBytes: volumeBytes, usedBytes: 0, files: 0, freeFiles: 0, dirtyBytes: 0 };
  }
  const { totalBytes, freeBytes, files, freeFiles } = filesystem.statfs();
  const { dirtyBytes } = filesystem.history;
  return { sizeBytes: totalBytes, usedBytes: totalBytes - freeBytes, files, freeFiles, dirtyBytes };
}

/** What a mount's status says of its owner; null: there is none yet. */
export function standingOf(
  owner: LogOwner | null,
): Pick<LiveStatus, 'leaseHeld' | 'localReadPages'> {
  return { leaseHeld: owner?.leaseHeld ?? false, localReadPages: owner?.localReadPages ?? 0 };
}

/** Who owns the volume now, for the log; nothing when nobody can be asked. */
export async function ownerNow(
  volumes: Volumes,
  volume: VolumeId,
): Promise<{ readonly takenBy?: string }> {
  try {
    const address = (await volumes.head(volume))?.record.owner?.address;
    return address === undefined ? {} : { takenBy: address };
  } catch {
    return {};
  }
}

/** Takes a mount out of the tree, if it still is there; lazily, if it is in use. */
export async function takeAway(
  { host, log }: Pick<MountDaemonDeps, 'host' | 'log'>,
  directory: string,
  device: string | null,
  options: { readonly lazy: boolean },
): Promise<void> {
  if (device === null || !isMountedAs(host.mounts, directory, device)) return;
  try {
    await unmountFuse(host.mounts, directory, options);
  } catch (thrown) {
    const fault = asFault(thrown, 'UNAVAILABLE');
    if (fault.code === 'BUSY' && !options.lazy) {
      return takeAway({ host, log }, directory, device, { lazy: true });
    }
    log.error({ directory, error: fault.message }, 'The mount could not be taken away.');
  }
}

/** So that whoever tries to mount it from now on is told; not that anything depended on it. */
export async function untilPublished(clock: Clock, presence: Presence): Promise<void> {
  const deadline = clock.monotonic() + PRESENCE_PATIENCE_MS;
  while (!presence.published && clock.monotonic() < deadline) {
    await new Promise<void>((resolve) => clock.after(PRESENCE_POLL_MS, resolve));
  }
}

/**
 * What is read through an owner that has stopped may never come: rejects when the mount has ended
 * before `work` has.
 */
export function unlessEnded<T>(work: Promise<T>, ended: Promise<HoldfastError | null>): Promise<T> {
  const end = ended.then((fault): never => {
    throw fault ?? new HoldfastError('CLOSED', 'the mount was given up');
  });
  return Promise.race([work, end]);
}
