/**
 * MachineVolumes in this process: mounts by a MountStarter, everything else by the machine's own
 * programs. Nothing is remembered: each call looks first, so that it may be repeated, and follow on
 * one that a crash cut off.
 *
 * INVARIANT: a call that fails leaves no directory that was made for it, so that nobody takes an
 * empty one for a volume.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { MOUNT_TYPE, mountAt, unmountFuse } from '../fuse/launcher.js';
import type { MountEntry } from '../io/fuse-device.js';
import type { MachineCommands } from '../io/machine-commands.js';
import { bindMount, takenBy, unbindMount } from './binding.js';
import { type Found, publicView, volumesHere } from './here.js';
import {
  attachLoop,
  blockFile,
  detachLoop,
  ensureFilesystem,
  failed,
  filesystemBelow,
  forgetFormat,
  growLoop,
  growUnmounted,
  type LoopDevice,
  letGo,
  listLoops,
  sizeFile,
} from './loop-devices.js';
import type { MachineVolumes } from './machine.js';
import { readDevice } from './mount-files.js';
import { type FuseMountsHere, mountOnce, unmountOnce } from './mount-once.js';
import { listMounts } from './mounts.js';
import { OneLook } from './one-look.js';
import { OperationLocks } from './operation-locks.js';
import { statsOf } from './statistics.js';
import type {
  BindRequest,
  BlockFilesystem,
  MachineMountRequest,
  MachineVolume,
  VolumeStats,
} from './volume-types.js';

const COMMAND_MS = 30_000;
const OPERATION_LIMIT_MS = 180_000;
const GROW_MS = 15_000;
const POLL_MS = 100;

export interface LocalMachineDeps extends FuseMountsHere {
  readonly commands: MachineCommands;
  /** Below it block volumes are mounted, where nobody looks. */
  readonly blockRoot: string;
  /** How long to wait for another operation on the same volume; default: not at all. */
  readonly lockWaitMs?: number;
}

export class LocalMachine implements MachineVolumes {
  readonly name: string;
  readonly #deps: LocalMachineDeps;
  readonly #commands: MachineCommands;
  readonly #locks: OperationLocks;
  readonly #looks = new OneLook(() => this.#lookAround());

  constructor(deps: LocalMachineDeps) {
    const { clock, commands, name, lockWaitMs = 0 } = deps;
    this.name = name;
    this.#deps = deps;
    this.#commands = commands;
    this.#locks = new OperationLocks(clock, { waitMs: lockWaitMs, limitMs: OPERATION_LIMIT_MS });
  }

  async list(): Promise<MachineVolume[]> {
    return (await this.#look()).map(publicView);
  }

  #look(): Promise<Found[]> {
    return this.#looks.run();
  }

  async #lookAround(): Promise<Found[]> {
    const { host, blockRoot } = this.#deps;
    const statuses = await listMounts(this.#deps);
    const hasBlock = statuses.some(({ directory }) => directory.startsWith(`${blockRoot}/`));
    const loops = hasBlock ? await listLoops(this.#commands) : [];
    const deviceOf = (mount: string): string | null => readDevice(host.state, mount);
    return volumesHere({ statuses, table: host.mounts.table(), loops, deviceOf, blockRoot });
  }

  async mount(request: MachineMountRequest, directory: string): Promise<MachineVolume> {
    checkAbsolute(directory);
    return await this.#aloneAt(request.name, directory, async (signal) => {
      const there = this.#at(directory);
      if (request.kind === 'filesystem' && there !== undefined && there.type !== MOUNT_TYPE) {
        throw taken(there, request.name);
      }
      const made = there === undefined && this.#commands.makeDirectory(directory);
      try {
        if (request.kind === 'filesystem') await mountOnce(this.#deps, request, directory, signal);
        else await this.#mountBlock(request, directory, signal);
        return await this.#found((one) => one.directory === this.#resolve(directory), directory);
      } catch (thrown) {
        if (made && this.#at(directory) === undefined) this.#commands.removeEmpty(directory);
        throw thrown;
      }
    });
  }

  async #mountBlock(
    request: MachineMountRequest,
    directory: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { fsType = 'ext4', readOnly = false, flags = [] } = request;
    const mountPoint = this.#resolve(directory);
    const open = (await this.#look()).find(({ id, loop }) => id === request.id && loop !== null);
    const elsewhere = open?.directory ?? null;
    if (elsewhere !== null && elsewhere !== mountPoint) throw mountedAt(request.name, elsewhere);
    const loop = await this.#open(request, signal);
    try {
      await this.#clearStale(mountPoint, loop);
      const before = this.#at(directory);
      if (before !== undefined) return sameFilesystem(before, loop, request);
      await ensureFilesystem(this.#commands, loop, fsType);
      const options = [readOnly ? 'ro' : 'rw', ...(fsType === 'xfs' ? ['nouuid'] : []), ...flags];
      const args = ['-i', '-t', fsType, '-o', options.join(','), loop.device, mountPoint];
      await this.#mountDevice(args);
      if (!readOnly) await this.#growFound(loop, { directory: mountPoint, type: fsType }, args);
    } catch (thrown) {
      // What was open before may be somebody's.
      if (open?.device !== loop.device) await this.#close(loop, {}).catch(() => {});
      throw thrown;
    }
  }

  /** What a mount of this volume left there when it ended below it: nothing of it can be saved. */
  async #clearStale(mountPoint: string, { id, device }: LoopDevice): Promise<void> {
    for (;;) {
      const there = await this.#loopOf(this.#at(mountPoint));
      if (there === null || there.id !== id || there.device === device) return;
      if (!(await this.#isStale(there))) return;
      await this.#umount(['-i', '-c', '-l', mountPoint], mountPoint);
      await letGo(this.#commands, there);
    }
  }

  /** Whether it was attached through another mount than the one that serves the volume now. */
  async #isStale(loop: LoopDevice): Promise<boolean> {
    const { host } = this.#deps;
    const device = await filesystemBelow(this.#commands, loop);
    const below = this.#at(this.#below(loop.id));
    if (below?.type === MOUNT_TYPE) return device !== below.device;
    // One that was unmounted lazily is in no tree, and serves who uses it.
    const serving = (await listMounts(this.#deps)).filter(({ state }) => {
      return state !== 'dead' && state !== 'failed';
    });
    const isServed = serving.some(({ mount }) => readDevice(host.state, mount) === device);
    return device === null || !isServed;
  }

  #below(id: string): string {
    return `${this.#deps.blockRoot}/${id}`;
  }

  async #mountDevice(args: readonly string[]): Promise<void> {
    const { status, stderr } = await this.#commands.run('mount', args, COMMAND_MS);
    if (status !== 0) throw failed(`${args.slice(-2).join(' cannot be mounted at ')}`, stderr);
  }

  /**
   * The volume may have grown while nobody had it mounted, and an ext4 may only grow while it is
   * mounted where the kernel lets this process do that. If neither can be, that is told when its
   * growing is asked for.
   */
  async #growFound(
    loop: LoopDevice,
    mounted: { readonly directory: string; readonly type: string },
    args: readonly string[],
  ): Promise<void> {
    const isDone = await growLoop(this.#commands, loop, mounted).then(
      () => true,
      () => false,
    );
    if (isDone || mounted.type !== 'ext4') return;
    await this.#umount(['-i', '-c', mounted.directory], mounted.directory);
    await growUnmounted(this.#commands, loop).catch(() => {});
    await this.#mountDevice(args);
  }

  openDevice(request: MachineMountRequest): Promise<MachineVolume> {
    return this.#alone(request.name, async (signal) => {
      if (request.kind !== 'block') {
        throw invalid(`"${request.name}" is a volume of the kind "filesystem"`, 'It is no device.');
      }
      const { device, file, readOnly } = await this.#open(request, signal);
      // Before anybody writes to it, whose data the marker of a format would give up.
      if (!readOnly) await forgetFormat(this.#commands, file);
      return await this.#found((one) => one.device === device, device);
    });
  }

  /** Mounts what holds the file, and attaches a device to it; what is there already stays. */
  async #open(request: MachineMountRequest, signal: AbortSignal): Promise<LoopDevice> {
    const { id, name, sizeBytes, readOnly = false } = request;
    const below = this.#below(id);
    const file = blockFile(below, id);
    if (this.#at(below) === undefined) this.#commands.makeDirectory(below);
    const { flags: _, ...wanted } = request;
    const status = await mountOnce(this.#deps, wanted, below, signal);
    // Of a mount that ended no device has this name any more: its file is in no tree.
    const before = (await listLoops(this.#commands)).find((one) => one.file === file);
    if (before !== undefined && before.readOnly !== readOnly) {
      const how = before.readOnly ? 'read-only' : 'for writing';
      const message = `"${name}" is open ${how} already, as ${before.device}`;
      throw new HoldfastError('ALREADY_EXISTS', message);
    }
    if (before !== undefined) return before;
    try {
      if (!readOnly) await sizeFile(this.#commands, file, sizeBytes);
      return await attachLoop(this.#commands, file, readOnly);
    } catch (thrown) {
      await unmountOnce(this.#deps, status.directory, { lazy: true }).catch(() => {});
      throw thrown;
    }
  }

  closeDevice(volume: string): Promise<void> {
    return this.#alone(volume, async () => {
      const found = (await this.#look()).find(({ name, kind }) => {
        return name === volume && kind === 'block';
      });
      if (found === undefined) return;
      const { loop, entries, mount } = found;
      if (entries.length > 0) throw stillShown(volume, entries);
      if (loop !== null) await detachLoop(this.#commands, this.#deps.clock, loop);
      await this.#release(mount.directory, {});
    });
  }

  async unmount(
    directory: string,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number } = {},
  ): Promise<void> {
    checkAbsolute(directory);
    const mountPoint = this.#resolve(directory);
    const lookThere = async (): Promise<Found | undefined> =>
      (await this.#look()).find((one) => one.directory === mountPoint);
    const before = await lookThere();
    await this.#aloneAt(before?.name ?? null, directory, async () => {
      // Whatever had its turn first may have mounted it.
      const found = await lookThere();
      const entry = this.#at(directory);
      const loop = await this.#loopOf(entry);
      if (loop === null) return await this.#unmountFuse(mountPoint, found, options);
      if (await this.#isStale(loop)) return await this.#unmountStale(mountPoint, loop, options);
      const others = (found?.targets ?? []).map((target) => ({ mountPoint: target }));
      if (others.length > 0 && options.lazy !== true) throw stillShown(loop.device, others);
      const args = ['-i', '-c', ...(options.lazy === true ? ['-l'] : []), mountPoint];
      await this.#umount(args, mountPoint);
      await this.#close(loop, options);
    });
  }

  /** Nothing of it can be saved; what is mounted for this volume by now stays, if it is used. */
  async #unmountStale(
    mountPoint: string,
    loop: LoopDevice,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void> {
    await this.#umount(['-i', '-c', '-l', mountPoint], mountPoint);
    await letGo(this.#commands, loop);
    const below = this.#below(loop.id);
    const file = blockFile(below, loop.id);
    const isUsed = (await listLoops(this.#commands)).some((one) => one.file === file);
    if (!isUsed) await this.#release(below, options);
  }

  /** Whether it is ours; a bound one goes as well, since that is what umount means. */
  async #unmountFuse(
    mountPoint: string,
    found: Found | undefined,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void> {
    if (found !== undefined && found.targets.length > 0 && options.lazy !== true) {
      throw stillShown(
        found.name,
        found.targets.map((target) => ({ mountPoint: target })),
      );
    }
    await unmountOnce(this.#deps, mountPoint, options);
    const left = this.#at(mountPoint);
    if (left?.type === MOUNT_TYPE) await unmountFuse(this.#deps.host.mounts, mountPoint, options);
  }

  async #loopOf(entry: MountEntry | undefined): Promise<LoopDevice | null> {
    if (entry?.device.startsWith('7:') !== true) return null;
    const loops = await listLoops(this.#commands);
    return loops.find(({ number }) => number === entry.device) ?? null;
  }

  async #close(
    loop: LoopDevice,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void> {
    const below = this.#below(loop.id);
    try {
      await detachLoop(this.#commands, this.#deps.clock, loop);
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError) || thrown.code !== 'BUSY') throw thrown;
      // It ends with its last user, and the mount below with it, which its file keeps served.
      if (options.lazy !== true) throw stillOpen(thrown, below);
    }
    await this.#release(below, options);
  }

  async #release(
    below: string,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void> {
    for (const loop of await listLoops(this.#commands)) {
      // Those of mounts before this one, which may have users left.
      if (this.#below(loop.id) === below) await letGo(this.#commands, loop);
    }
    await unmountOnce(this.#deps, below, options);
    if (this.#at(below) === undefined) this.#commands.removeEmpty(below);
  }

  bind(request: BindRequest): Promise<void> {
    checkAbsolute(request.source);
    checkAbsolute(request.target);
    return this.#alone(request.target, async () => {
      const isDevice = request.source.startsWith('/dev/');
      const loops = isDevice ? await listLoops(this.#commands) : [];
      // The table of mounts has no symbolic links in its paths; a caller's may have.
      const source = isDevice ? request.source : this.#resolve(request.source);
      const target = this.#resolve(request.target);
      await bindMount(this.#binding, { ...request, source, target }, loops);
    });
  }

  unbind(target: string): Promise<void> {
    checkAbsolute(target);
    return this.#alone(target, async () => {
      const loops = this.#at(target) === undefined ? [] : await listLoops(this.#commands);
      await unbindMount(this.#binding, this.#resolve(target), loops);
    });
  }

  get #binding() {
    const { host, blockRoot } = this.#deps;
    return {
      marks: `${blockRoot}.binding`,
      commands: this.#commands,
      mounts: host.mounts,
      umount: (path: string) => this.#umount(['-i', '-c', path], path),
    };
  }

  grow(volume: string, sizeBytes: number): Promise<void> {
    return this.#alone(volume, async () => {
      const deadline = this.#deps.clock.monotonic() + GROW_MS;
      for (;;) {
        const found = (await this.#look()).find(({ name }) => name === volume);
        if (found === undefined) return;
        const seen = found.mount.live?.sizeBytes ?? 0;
        if (seen >= sizeBytes) return await this.#growBlock(found, sizeBytes);
        if (this.#deps.clock.monotonic() >= deadline) {
          const message = `the mount of "${volume}" has not seen its new size yet`;
          throw new HoldfastError('TIMEOUT', message, { retryable: true, hint: 'Try again.' });
        }
        await new Promise<void>((resolve) => this.#deps.clock.after(POLL_MS, resolve));
      }
    });
  }

  async #growBlock({ loop, directory, fsType }: Found, sizeBytes: number): Promise<void> {
    if (loop === null || loop.readOnly) return;
    await sizeFile(this.#commands, loop.file, sizeBytes);
    const mounted = directory === null || fsType === null ? null : { directory, type: fsType };
    await growLoop(this.#commands, loop, mounted);
  }

  async stats(path: string): Promise<VolumeStats> {
    checkAbsolute(path);
    const where = path.startsWith('/dev/') ? path : this.#resolve(path);
    const found = (await this.#look()).find(({ device, directory, targets }) => {
      return device === where || directory === where || targets.includes(where);
    });
    if (found === undefined) throw new HoldfastError('NOT_FOUND', `no volume is at ${path}`);
    return await statsOf(this.#commands, found, where);
  }

  async #umount(args: readonly string[], path: string): Promise<void> {
    const { status, stderr } = await this.#commands.run('umount', args, COMMAND_MS);
    if (status === 0) return;
    if (/busy/.test(stderr)) {
      const hint = `See who with "fuser -vm ${path}".`;
      throw new HoldfastError('BUSY', `${path} is in use`, { hint });
    }
    throw failed(`${path} cannot be unmounted`, stderr);
  }

  async #found(test: (one: Found) => boolean, where: string): Promise<MachineVolume> {
    const found = (await this.#look()).find(test);
    if (found !== undefined) return publicView(found);
    throw new HoldfastError('UNAVAILABLE', `${where} was unmounted again at once`);
  }

  #at(directory: string): MountEntry | undefined {
    const { mounts } = this.#deps.host;
    const path = tryResolve(() => mounts.resolve(directory));
    return path === null ? undefined : mountAt(mounts.table(), path);
  }

  #resolve(directory: string): string {
    return tryResolve(() => this.#deps.host.mounts.resolve(directory)) ?? directory;
  }

  /**
   * Also at the directory: a mount that waits for its turn, or has only begun, is seen nowhere, and
   * who takes away what is there has nothing but the directory to wait for it by.
   */
  #aloneAt<T>(
    volume: string | null,
    directory: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const there = this.#resolve(directory);
    if (volume === null) return this.#alone(there, work);
    return this.#alone(volume, (signal) => this.#alone(there, () => work(signal)));
  }

  #alone<T>(key: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#locks.run(key, `"${key}"`, work);
  }
}

/** Null: its parent is missing, and so is everything in it. */
function tryResolve(resolve: () => string): string | null {
  try {
    return resolve();
  } catch (thrown) {
    if (thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND') return null;
    throw thrown;
  }
}

function checkAbsolute(path: string): void {
  const isPlain = path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..');
  if (!isPlain) throw invalid(`"${path.slice(0, 256)}" is no absolute path`);
}

/** Throws ALREADY_EXISTS when what is mounted there is not what is wanted. */
function sameFilesystem(
  entry: MountEntry,
  loop: LoopDevice,
  { name, fsType, readOnly = false }: MachineMountRequest,
): void {
  const isType = fsType === undefined || entry.type === (fsType satisfies BlockFilesystem);
  if (entry.device === loop.number && isType && entry.readOnly === readOnly) return;
  throw taken(entry, name);
}

function taken(entry: MountEntry, name: string): HoldfastError {
  return takenBy(entry, `It is not "${name}" as wanted.`);
}

function mountedAt(name: string, directory: string): HoldfastError {
  const hint = `Unmount it first with "holdfast umount ${directory}", or bind it from there.`;
  return new HoldfastError('CONFLICT', `"${name}" is mounted at ${directory}`, { hint });
}

function stillShown(what: string, at: readonly { readonly mountPoint: string }[]): HoldfastError {
  const places = at.map(({ mountPoint }) => mountPoint).join(', ');
  const message = `"${what}" is still mounted at ${places}`;
  return new HoldfastError('BUSY', message, { hint: 'Unmount it there first.' });
}

/** The filesystem is unmounted: its directory says nothing of the volume any more. */
function stillOpen({ message, hint }: HoldfastError, below: string): HoldfastError {
  const next = `${hint} When they have ended: holdfast umount ${below}`;
  return new HoldfastError('BUSY', message, { hint: next });
}
