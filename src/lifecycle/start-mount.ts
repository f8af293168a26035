/**
 * Starting a mount: opens the FUSE connection, starts a keeper with the daemon, lets the daemon
 * take the volume over and load it, and only then mounts. So a volume that cannot be had never
 * makes a mount, and what fails on the way is undone: the daemon gives the volume back when its
 * standard input ends, the keeper removes the state directory.
 *
 * INVARIANT: startMount either returns a mount that answers, or leaves nothing: no mount, no
 * process, no state directory, and the volume released.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { checkMountPoint, mountArguments, mountDescriptor, unmountFuse } from '../fuse/launcher.js';
import type { FuseDescriptor } from '../io/fuse-device.js';
import type { Keeper, MountHost } from '../io/mount-host.js';
import type { Random } from '../io/random.js';
import { checkVolumeName } from '../metadata/names.js';
import { parseFault } from './control.js';
import { type DaemonEvent, faultOf, KEEPER_SCRIPT, MOUNTED_LINE, StateFile } from './keeper.js';
import { programText } from './mount-files.js';
import type { MountRequest, MountSpec, MountStatus } from './mount-types.js';
import { findMount, listMounts, type MountsDeps, unmountDead } from './mounts.js';

const DEFAULT_TIMEOUT_MS = 60_000;
/**
 * A daemon that says nothing for so long is taken for dead: it repeats what it does. On a machine
 * that is overloaded, as after its boot, its first word alone may take a third of that.
 */
const PATIENCE_MS = 60_000;
/** For giving a volume back after a start that failed. */
const GIVE_UP_MS = 10_000;
const MOUNT_ID_BYTES = 8;

export interface StartDeps extends MountsDeps {
  readonly random: Random;
}

export interface StartHooks {
  /** What is being done or waited for, for people; repeated only when it changes. */
  readonly onProgress?: (text: string) => void;
  /** Gives the start up; startMount then rejects with CLOSED. */
  readonly signal?: AbortSignal;
}

/** A mount whose daemon ends with this process, or when it is stopped by anybody. */
export interface ForegroundMount {
  readonly status: MountStatus;
  /** The keeper's exit status; 0: unmounted and released in order. */
  readonly ended: Promise<number | string>;
  /** Asks the daemon to commit, unmount, release and end. Idempotent. */
  stop(): void;
}

/**
 * Mounts a volume; resolves when it answers. The daemon outlives this process. Throws
 * INVALID_ARGUMENT, NOT_FOUND (volume, directory, /dev/fuse), ALREADY_EXISTS (something is mounted
 * there), CONFLICT (mounted elsewhere: says by whom), BUSY, UNAVAILABLE (not root, metadata store
 * down), TIMEOUT (takeover does not end: says which step), CLOSED (given up).
 */
export async function startMount(
  deps: StartDeps,
  request: MountRequest,
  hooks: StartHooks = {},
): Promise<MountStatus> {
  const launch = await prepare(deps, { ...request, foreground: false }, hooks);
  const status = await launch.run();
  launch.detach();
  return status;
}

/** As startMount, and keeps hold of it. */
export async function startForeground(
  deps: StartDeps,
  request: MountRequest,
  hooks: StartHooks = {},
): Promise<ForegroundMount> {
  const launch = await prepare(deps, { ...request, foreground: true }, hooks);
  const status = await launch.run();
  return { status, ended: launch.ended, stop: () => launch.endInput() };
}

/** What a dead mount left at this directory goes first. */
async function prepare(deps: StartDeps, request: MountRequest, hooks: StartHooks): Promise<Launch> {
  const directory = deps.host.mounts.resolve(request.directory);
  const dead = (await listMounts(deps)).filter((one) => {
    return one.state === 'dead' && one.directory === directory;
  });
  for (const one of dead) await unmountDead(deps.host, one);
  return new Launch(deps, request, hooks, dead);
}

type Awaited = 'loaded' | 'ready';

class Launch {
  readonly #deps: StartDeps;
  readonly #host: MountHost;
  readonly #hooks: StartHooks;
  readonly #dead: readonly MountStatus[];
  readonly #spec: MountSpec;
  readonly #mountOptions: Parameters<typeof mountDescriptor>[2];
  readonly ended: Promise<number | string>;
  #onEnded: (status: number | string) => void = () => {};
  #keeper: Keeper | null = null;
  readonly #reached = new Set<string>();
  #failure: HoldfastError | null = null;
  #exit: number | string | null = null;
  #heardAt = 0;
  #wake: () => void = () => {};

  /** `dead` is what the daemon may want to know of until it has taken the volume over. */
  constructor(
    deps: StartDeps,
    request: MountRequest,
    hooks: StartHooks,
    dead: readonly MountStatus[],
  ) {
    const { host, random, clock } = deps;
    this.#deps = deps;
    this.#host = host;
    this.#hooks = hooks;
    this.#dead = dead;
    checkVolumeName(request.volume);
    const { volume: source, readOnly = false, flags = [] } = request;
    this.#mountOptions = { source, readOnly, flags };
    mountArguments(this.#mountOptions);
    const directory = checkMountPoint(host.mounts, request.directory);
    refuseHiding(host, request, directory);
    this.#spec = {
      timeoutMs: DEFAULT_TIMEOUT_MS,
      commitIntervalMs: null,
      waitMs: 0,
      foreground: false,
      kind: 'filesystem',
      ...request,
      flags,
      readOnly,
      metricsListen: request.metricsListen ?? null,
      machine: request.machine ?? null,
      version: 1,
      mount: Buffer.from(random.bytes(MOUNT_ID_BYTES)).toString('hex'),
      directory,
      since: new Date(clock.wall()).toISOString(),
      logFile: host.state.logFile(source),
    };
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
  }

  async run(): Promise<MountStatus> {
    const { signal } = this.#hooks;
    const abort = (): void => {
      this.#failure ??= new HoldfastError('CLOSED', 'the mount was given up');
      this.#wake();
    };
    signal?.addEventListener('abort', abort);
    const descriptor = this.#host.mounts.open();
    try {
      if (signal?.aborted === true) abort();
      this.#start(descriptor);
      await this.#until('loaded');
      await this.#mount(descriptor);
      for (const { mount } of this.#dead) this.#host.state.remove(mount);
      return await findMount(this.#deps, this.#spec.directory);
    } catch (thrown) {
      await this.#giveUp();
      throw thrown;
    } finally {
      this.#host.mounts.closeDescriptor(descriptor);
      signal?.removeEventListener('abort', abort);
    }
  }

  #start(descriptor: FuseDescriptor): void {
    const { state, program } = this.#host;
    const { mount, directory, foreground, logFile } = this.#spec;
    state.create(mount, {
      [StateFile.SPEC]: `${JSON.stringify(this.#spec, null, 2)}\n`,
      [StateFile.PROGRAM]: programText(program),
    });
    try {
      const args = [state.path(mount), directory];
      const options = { script: KEEPER_SCRIPT, args, descriptor };
      this.#keeper = this.#host.startKeeper(
        { ...options, logFile: foreground ? null : logFile },
        { onLine: (line) => this.#heard(line), onExit: (status) => this.#exited(status) },
      );
      const identity = this.#host.identify(this.#keeper.pid);
      if (identity !== null) state.write(mount, StateFile.KEEPER, JSON.stringify(identity));
    } catch (thrown) {
      state.remove(mount);
      throw thrown;
    }
  }

  #heard(line: string): void {
    let said: DaemonEvent;
    try {
      said = JSON.parse(line) as DaemonEvent;
    } catch {
      return;
    }
    if (said.event === 'progress') this.#hooks.onProgress?.(said.text);
    else if (said.event === 'failed') {
      this.#failure ??= faultOf(parseFault(JSON.stringify(said.fault)));
    } else this.#reached.add(said.event);
    this.#heardAt = this.#deps.clock.monotonic();
    this.#wake();
  }

  #exited(status: number | string): void {
    this.#exit = status;
    this.#onEnded(status);
    this.#wake();
  }

  /** Rejects with what went wrong first. */
  async #until(event: Awaited): Promise<void> {
    const { clock } = this.#deps;
    this.#heardAt = clock.monotonic();
    while (!this.#reached.has(event)) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#exit !== null) throw this.#died();
      const left = this.#heardAt + PATIENCE_MS - clock.monotonic();
      if (left <= 0) throw this.#late();
      await new Promise<void>((resolve) => {
        const timer = clock.after(left, resolve);
        this.#wake = () => {
          timer.cancel();
          resolve();
        };
      });
    }
  }

  async #mount(descriptor: FuseDescriptor): Promise<void> {
    const { mount, directory: mountPoint } = this.#spec;
    const { mounts, state } = this.#host;
    const where = { mountPoint, descriptor };
    if (this.#failure !== null) throw this.#failure;
    // Somebody else may have mounted there while the volume was taken over.
    checkMountPoint(mounts, mountPoint);
    const device = await mountDescriptor(mounts, where, this.#mountOptions);
    try {
      state.write(mount, StateFile.DEVICE, `${device}\n`);
      this.#keeper?.write(MOUNTED_LINE);
      await this.#until('ready');
    } catch (thrown) {
      await unmountFuse(mounts, mountPoint, { lazy: true }).catch(() => {});
      throw thrown;
    }
  }

  /** The daemon gives the volume back; then everything of this start is gone. */
  async #giveUp(): Promise<void> {
    const keeper = this.#keeper;
    if (keeper === null) return;
    keeper.end();
    const { clock } = this.#deps;
    const timer = clock.after(GIVE_UP_MS, () => keeper.kill());
    await this.ended;
    timer.cancel();
    this.#host.state.remove(this.#spec.mount);
  }

  detach(): void {
    this.#keeper?.end();
    this.#keeper?.detach();
  }

  endInput(): void {
    this.#keeper?.end();
  }

  #died(): HoldfastError {
    const { volume, logFile, foreground } = this.#spec;
    const message = `the mount daemon of "${volume}" ended (${this.#exit}) before it was mounted`;
    return new HoldfastError('UNAVAILABLE', message, foreground ? {} : { hint: `See ${logFile}.` });
  }

  #late(): HoldfastError {
    const { volume, logFile, foreground } = this.#spec;
    const message = `the mount daemon of "${volume}" does not answer`;
    return new HoldfastError('TIMEOUT', message, foreground ? {} : { hint: `See ${logFile}.` });
  }
}

/** A daemon that needs something below its own mount point would wait for itself. */
function refuseHiding(host: MountHost, request: MountRequest, directory: string): void {
  const embedded = request.metadata.startsWith('embedded:') ? [request.metadata.slice(9)] : [];
  const secret = request.secretFile === null ? [] : [request.secretFile];
  const needed = [host.state.path(''), ...host.program, ...embedded, ...secret];
  const hidden = needed.find((path) => path === directory || path.startsWith(`${directory}/`));
  if (hidden === undefined) return;
  const hint = 'Mount it at a directory of its own.';
  throw invalid(`a mount at ${directory} would hide ${hidden}, which its daemon needs`, hint);
}
