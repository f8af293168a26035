/**
 * Bind mounts of volumes: their directories, or their devices as files. Whatever else is mounted at
 * a target is somebody else's and stays.
 *
 * INVARIANT: what was asked for read-only is not left writable: mount(8) binds first and makes it
 * read-only then, and may be killed between. A mark stands beside it for as long.
 */
import { createHash } from 'node:crypto';
import { HoldfastError, invalid } from '../core/errors.js';
import { MOUNT_TYPE, mountAt } from '../fuse/launcher.js';
import type { FuseMounts, MountEntry } from '../io/fuse-device.js';
import type { MachineCommands } from '../io/machine-commands.js';
import { isDeviceFile, shows } from './here.js';
import { failed, type LoopDevice } from './loop-devices.js';
import type { BindRequest } from './volume-types.js';

const COMMAND_MS = 30_000;

export interface BindingDeps {
  readonly commands: MachineCommands;
  readonly mounts: FuseMounts;
  /** Throws BUSY or UNAVAILABLE. */
  readonly umount: (path: string) => Promise<void>;
  /** A directory for the marks. */
  readonly marks: string;
}

function markOf({ marks }: BindingDeps, target: string): string {
  return `${marks}/${createHash('sha256').update(target).digest('hex')}`;
}

/** `loops` are those of volumes, when the source is a device. */
export async function bindMount(
  deps: BindingDeps,
  { source, target, readOnly = false }: BindRequest,
  loops: readonly LoopDevice[],
): Promise<void> {
  const { commands, mounts, umount } = deps;
  const mark = markOf(deps, target);
  const loop = loops.find(({ device }) => device === source) ?? null;
  const from = mountAt(mounts.table(), source);
  if (loop === null && from === undefined) {
    throw new HoldfastError('NOT_FOUND', `no volume is mounted at ${source}`);
  }
  const isSame = (entry: MountEntry): boolean =>
    loop === null ? entry.device === from?.device : isDeviceFile(entry, loop);
  const there = mountAt(mounts.table(), target);
  if (there !== undefined) {
    if (isSame(there) && there.readOnly === readOnly) return commands.removeEmpty(mark);
    const isHalf = isSame(there) && readOnly && commands.kind(mark) === 'file';
    if (!isHalf) throw takenBy(there, 'Unmount that first.');
    await umount(target);
  }
  const made = loop === null ? commands.makeDirectory(target) : commands.makeFile(target);
  // Only now its parents are there for certain, and links among them can be followed.
  const place = mounts.resolve(target);
  if (readOnly) commands.makeFile(mark);
  const options = readOnly ? 'bind,ro' : 'bind';
  const args = ['-i', '-o', options, source, place];
  const { status, stderr } = await commands.run('mount', args, COMMAND_MS);
  const shown = mountAt(mounts.table(), place);
  if (status === 0 && shown !== undefined && isSame(shown)) return commands.removeEmpty(mark);
  // What was mounted at the source may have gone meanwhile, so that the empty directory below it
  // was bound.
  if (shown !== undefined) await umount(place).catch(() => {});
  if (mountAt(mounts.table(), place) === undefined) {
    commands.removeEmpty(mark);
    if (made) commands.removeEmpty(target);
  }
  const why = status === 0 ? 'it is not there any more' : stderr;
  throw failed(`${source} cannot be bound to ${target}`, why);
}

/** Something else than what is wanted is mounted there. */
export function takenBy(
  { mountPoint, source, type, readOnly }: MountEntry,
  hint: string,
): HoldfastError {
  const message = `${mountPoint} has ${source} (${type}${readOnly ? ', read-only' : ''}) already`;
  return new HoldfastError('ALREADY_EXISTS', message, { hint });
}

export async function unbindMount(
  deps: BindingDeps,
  target: string,
  loops: readonly LoopDevice[],
): Promise<void> {
  const { commands, mounts, umount } = deps;
  // A call that was repeated while the first one hung may have bound it twice.
  for (;;) {
    const entry = mountAt(mounts.table(), target);
    if (entry === undefined) break;
    const isOurs = entry.type === MOUNT_TYPE || loops.some((loop) => shows(entry, loop));
    if (!isOurs) throw invalid(`${target} has ${entry.source} (${entry.type}), which is no volume`);
    await umount(target);
  }
  commands.removeEmpty(markOf(deps, target));
  commands.removeEmpty(target);
}
