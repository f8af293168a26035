/**
 * What happens to volumes on one machine, in the machine's own mount namespace: mounting, binding,
 * loop devices. local-machine.ts does it in this process; agent-client.ts asks a `holdfast agent`,
 * which does the same outside of the caller's container, so that it outlives the caller.
 *
 * All calls are idempotent, and know nothing but what the system says: state directories, the
 * kernel's table of mounts, loop devices. Faults common to all: volume-types.ts; and
 * INVALID_ARGUMENT for paths that are not absolute or mean something else.
 */
import type {
  BindRequest,
  MachineMountRequest,
  MachineVolume,
  VolumeStats,
} from './volume-types.js';

export interface MachineVolumes {
  /** This machine's name in presences and attachments. */
  readonly name: string;

  /** Everything that is mounted or attached here, by name. */
  list(): Promise<MachineVolume[]>;

  /**
   * Mounts a volume at a directory, which is made when it is missing; of a block volume its
   * filesystem, made when the device is blank. Returns what is there when that is the same.
   * ALREADY_EXISTS (another volume or filesystem is there, or this one with other options),
   * CONFLICT (the volume is mounted elsewhere: says by whom), INCONSISTENT (a block volume holds
   * something that is no such filesystem: nothing is formatted), NOT_FOUND. A directory that was
   * made is removed when the mount fails.
   */
  mount(request: MachineMountRequest, directory: string): Promise<MachineVolume>;

  /**
   * Commits, unmounts and releases. Nothing is mounted there: done. BUSY without `retryable`
   * (somebody uses it; nothing has changed), TIMEOUT (the commit does not end; still mounted).
   */
  unmount(
    directory: string,
    options?: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void>;

  /** Makes a block volume a device, raw. CONFLICT (mounted elsewhere), NOT_FOUND. */
  openDevice(request: MachineMountRequest): Promise<MachineVolume>;

  /** Takes the device away, and releases. It is not there: done. BUSY: in use. */
  closeDevice(volume: string): Promise<void>;

  /**
   * Shows a volume at one more place, which is made when it is missing. The same is bound there:
   * done. NOT_FOUND (nothing is mounted at the source), ALREADY_EXISTS (something else is there).
   */
  bind(request: BindRequest): Promise<void>;

  /** Takes it away, and removes the target if it is empty. Nothing is there: done. */
  unbind(target: string): Promise<void>;

  /** After VolumeLifecycle.expand: lets mounts and devices here see the new size. */
  grow(volume: string, sizeBytes: number): Promise<void>;

  /** Of a directory, device or target. NOT_FOUND when no volume is there. */
  stats(path: string): Promise<VolumeStats>;
}
