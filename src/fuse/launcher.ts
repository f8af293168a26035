/**
 * Mounting and unmounting, as root, by mount(8) and umount(8). The descriptor of /dev/fuse is
 * opened here and stays open in whoever will serve it; mount(8) gets it as fd 3 and is told
 * everything else by options, so that no helper of libfuse is needed. Each thing that can be wrong
 * is one clear fault.
 *
 * A mount point is touched before anything is mounted on it and never afterwards: a process that
 * serves it would wait for itself, and one whose daemon hangs would hang too. What is mounted where
 * comes from the kernel's table instead.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { KIB } from '../core/units.js';
import type { CommandResult, FuseDescriptor, FuseMounts, MountEntry } from '../io/fuse-device.js';
import { MAX_READAHEAD_BYTES, MOUNT_TIMEOUT_MS } from './limits.js';
import { Mode } from './protocol.js';

/** How our mounts are called in the table of mounts, and in `mount -t`. */
export const MOUNT_TYPE = 'fuse.holdfast';

export interface MountOptions {
  /** Shown as the mount's source, such as the volume's name. */
  readonly source: string;
  readonly readOnly?: boolean;
  /** More options of mount(8), such as `noatime`, `nodev`, `nosuid`. */
  readonly flags?: readonly string[];
}

export interface MountedFuse {
  readonly descriptor: FuseDescriptor;
  readonly mountPoint: string;
}

/** What mount(8) knows of itself; all else would be a riddle of the kernel's. */
const OPTION = new RegExp(
  '^(?:ro|rw|(?:no|strict)?(?:dir)?atime|relatime|lazytime|(?:no)?(?:dev|suid|exec)|async' +
    '|nosymfollow|(?:fs|def|root)?context=[\\w.:/-]+)$',
);
const KNOWN_OPTIONS =
  'Known are ro, noatime, nodiratime, relatime, nodev, nosuid, noexec and what mount(8) lists ' +
  'beside them as independent of the filesystem.';
/** The kernel takes these for every filesystem, and FUSE does not tell us of them. */
const NOT_KEPT = ['sync', 'dirsync'];
const INSTEAD =
  'Leave it out: an fsync of the directory, or of any file, commits all that was done before.';
/** What mount(8) and umount(8) say that did it, but could not note it down: /run is full. */
const ONLY_NOTE_FAILED = /filesystem was (?:un)?mounted, but/;
const SOURCE = /^[\w.:/@-]{1,128}$/;

/**
 * Opens a FUSE connection and mounts it at `directory`, which then waits for somebody to serve the
 * descriptor. Throws what checkMountPoint and mountDescriptor throw, and NOT_FOUND or UNAVAILABLE
 * for /dev/fuse.
 */
export async function mountFuse(
  mounts: FuseMounts,
  directory: string,
  options: MountOptions,
): Promise<MountedFuse> {
  mountArguments(options);
  const mountPoint = checkMountPoint(mounts, directory);
  const descriptor = mounts.open();
  try {
    await mountDescriptor(mounts, { mountPoint, descriptor }, options);
  } catch (thrown) {
    mounts.closeDescriptor(descriptor);
    throw thrown;
  }
  return { descriptor, mountPoint };
}

/**
 * The mount point that `directory` means. Throws UNAVAILABLE (not root), NOT_FOUND (nothing there),
 * INVALID_ARGUMENT (not a directory), ALREADY_EXISTS (a volume is mounted there).
 */
export function checkMountPoint(mounts: FuseMounts, directory: string): string {
  if (mounts.effectiveUid() !== 0) {
    throw new HoldfastError('UNAVAILABLE', 'mounting needs root', { hint: 'Run it with sudo.' });
  }
  const mountPoint = mounts.resolve(directory);
  refuseMounted(mounts.table(), mountPoint);
  const kind = mounts.kind(mountPoint);
  if (kind === 'missing') {
    const hint = `Create it with "mkdir -p ${mountPoint}".`;
    throw new HoldfastError('NOT_FOUND', `there is no directory ${mountPoint}`, { hint });
  }
  if (kind === 'other') throw invalid(`${mountPoint} is not a directory`);
  return mountPoint;
}

/**
 * Mounts an open connection, and returns the MAJOR:MINOR of the filesystem. The descriptor stays
 * the caller's. Throws INVALID_ARGUMENT (bad options), BUSY, or UNAVAILABLE (mount(8) failed).
 */
export async function mountDescriptor(
  mounts: FuseMounts,
  { mountPoint, descriptor }: MountedFuse,
  options: MountOptions,
): Promise<string> {
  const args = [...mountArguments(options), mountPoint];
  const result = await mounts.mount(args, descriptor, MOUNT_TIMEOUT_MS);
  if (!isDone(result)) throw mountFault(mountPoint, result);
  const mounted = mountAt(mounts.table(), mountPoint);
  if (mounted?.type !== MOUNT_TYPE) {
    throw new HoldfastError('UNAVAILABLE', `${mountPoint} was unmounted again at once`);
  }
  // The kernel's default is 128 KiB, a quarter of what sequential reads over a network want.
  mounts.setReadahead(mounted.device, MAX_READAHEAD_BYTES / KIB);
  return mounted.device;
}

/** The arguments of mount(8), without the directory. */
export function mountArguments(options: MountOptions): string[] {
  const { source, flags = [] } = options;
  if (!SOURCE.test(source)) throw invalid(`"${source}" cannot be the source of a mount`);
  for (const flag of flags) {
    if (NOT_KEPT.includes(flag)) {
      throw invalid(`the mount option "${flag}" does not make changes of names durable`, INSTEAD);
    }
    if (!OPTION.test(flag)) throw invalid(`"${flag}" is not a mount option`, KNOWN_OPTIONS);
  }
  const list = [
    'fd=3',
    `rootmode=${Mode.DIRECTORY.toString(8)}`,
    'user_id=0',
    'group_id=0',
    'allow_other',
    'default_permissions',
    'subtype=holdfast',
    // What mount(8) notes down: without a note, umount(8) takes the type from statfs(2), which says
    // "fuse", and does not find our helper. It is true, too: systemd unmounts before the network.
    '_netdev',
    ...(options.readOnly === true ? ['ro'] : []),
    ...flags,
  ];
  return ['-i', '-t', 'fuse', '-o', list.join(','), source];
}

function isDone({ status, message }: CommandResult): boolean {
  return status === 0 || ONLY_NOTE_FAILED.test(message);
}

/** The mount that is seen at a path: the last one made there. */
export function mountAt(table: readonly MountEntry[], path: string): MountEntry | undefined {
  return table.findLast((entry) => entry.mountPoint === path);
}

/** Whether this very filesystem, MAJOR:MINOR, is what is seen at a path. */
export function isMountedAs(mounts: FuseMounts, path: string, device: string): boolean {
  return mountAt(mounts.table(), path)?.device === device;
}

function refuseMounted(table: readonly MountEntry[], mountPoint: string): void {
  const found = mountAt(table, mountPoint);
  if (found?.type !== MOUNT_TYPE) return;
  const message = `${found.source} is already mounted at ${mountPoint}`;
  const hint = `Unmount it first with "holdfast umount ${mountPoint}".`;
  throw new HoldfastError('ALREADY_EXISTS', message, { hint });
}

function mountFault(mountPoint: string, result: CommandResult): HoldfastError {
  const { message } = result;
  if (/busy|already mounted/.test(message)) {
    const hint = 'See what uses it with "fuser -vm" or "findmnt".';
    return new HoldfastError('BUSY', `${mountPoint} is in use`, { retryable: true, hint });
  }
  const hint = /permission|not permitted|must be superuser/.test(message)
    ? 'A container needs --cap-add SYS_ADMIN --device /dev/fuse.'
    : 'See "dmesg" for what the kernel says about it.';
  const text = `mounting at ${mountPoint} failed: ${message.replace(/\s+/g, ' ')}`;
  return new HoldfastError('UNAVAILABLE', text, { hint });
}

/**
 * Unmounts what is mounted at `directory`; with `lazy`, takes it out of the tree at once and for
 * good when its last user is gone. Throws NOT_FOUND (no volume is mounted there), BUSY or
 * UNAVAILABLE.
 */
export async function unmountFuse(
  mounts: FuseMounts,
  directory: string,
  options: { readonly lazy?: boolean } = {},
): Promise<void> {
  const mountPoint = mounts.resolve(directory);
  if (mountAt(mounts.table(), mountPoint)?.type !== MOUNT_TYPE) {
    throw new HoldfastError('NOT_FOUND', `no volume is mounted at ${mountPoint}`);
  }
  if (mounts.effectiveUid() !== 0) {
    throw new HoldfastError('UNAVAILABLE', 'unmounting needs root', { hint: 'Run it with sudo.' });
  }
  // -i: no helper, -c: do not look at the mount point itself, which would hang with its daemon.
  const args = ['-i', '-c', ...(options.lazy === true ? ['-l'] : []), mountPoint];
  const result = await mounts.umount(args, MOUNT_TIMEOUT_MS);
  if (isDone(result)) return;
  if (/busy/.test(result.message)) {
    const hint = 'See who with "fuser -vm", or use --lazy.';
    const message = `${mountPoint} is in use`;
    throw new HoldfastError('BUSY', message, { retryable: true, hint });
  }
  const text = `unmounting ${mountPoint} failed: ${result.message.replace(/\s+/g, ' ')}`;
  throw new HoldfastError('UNAVAILABLE', text);
}
