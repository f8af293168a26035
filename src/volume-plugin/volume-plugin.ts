/**
 * The Docker volume plugin: the engine's calls, turned into those of the one module that knows
 * volumes (src/lifecycle/volumes.ts). Nothing is kept in memory but who waits for whom: what exists
 * is asked of the metadata store, what is mounted of the machine, and who uses it stands in Claims.
 *
 * INVARIANT: calls for one volume follow one another.
 * INVARIANT: a claim is written after the mount stands and removed before it is taken away. A
 * plugin that is killed between leaves a volume that nobody claims, which sweep() takes away.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { isServed } from '../lifecycle/here.js';
import type { MachineVolumes } from '../lifecycle/machine.js';
import { OperationLocks } from '../lifecycle/operation-locks.js';
import type { MachineVolume, VolumeInfo } from '../lifecycle/volume-types.js';
import { everyVolume, type VolumeLifecycle } from '../lifecycle/volumes.js';
import type { Claims } from './claims.js';
import {
  isReadOnly,
  parseOptions,
  refuseOther,
  type VolumeDefaults,
  wantedVolume,
} from './options.js';
import type { Places } from './places.js';
import {
  CALLS,
  errorText,
  isPluginPath,
  type PluginBody,
  type PluginPath,
  type PluginReply,
  type PluginVolume,
  parseBody,
} from './protocol.js';
import { statusOf } from './status.js';

const SWEEP_MS = 30_000;
/** Within the engine's minute, with time to say why. */
const UNMOUNT_COMMIT_MS = 40_000;
/** What a store or node did not answer in time is tried again for so long. */
const PATIENCE_MS = 20_000;
const RETRY_MS = 1_000;
/** Longer than any answer may take. */
const TURN_MS = 120_000;
const OPERATION_LIMIT_MS = 180_000;

export interface VolumePluginDeps {
  /** Rejects while the cluster cannot be reached; asked again at the next call. */
  readonly lifecycle: () => Promise<VolumeLifecycle>;
  /** Knows what is mounted here, whether or not the cluster can be reached. */
  readonly machine: MachineVolumes;
  readonly places: Places;
  readonly claims: Claims;
  readonly clock: Clock;
  readonly log: Log;
}

export interface VolumePluginSettings {
  readonly defaults: VolumeDefaults;
  /** How long to wait for another machine to release a volume, or to be found dead. */
  readonly waitMs: number;
  /** How long removed volumes are kept; null: until somebody purges them. */
  readonly keepMs: number | null;
}

/** `signal` aborts when nobody waits for the answer any more. */
type Handlers = {
  readonly [P in PluginPath]: (
    body: PluginBody<P>,
    signal: AbortSignal,
  ) => Promise<Readonly<Record<string, unknown>>>;
};

export class VolumePlugin {
  readonly #deps: VolumePluginDeps;
  readonly #settings: VolumePluginSettings;
  readonly #locks: OperationLocks;
  #isClosed = false;

  constructor(deps: VolumePluginDeps, settings: VolumePluginSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#locks = new OperationLocks(deps.clock, { waitMs: TURN_MS, limitMs: OPERATION_LIMIT_MS });
  }

  /**
   * Answers one request of the engine's, always in time. Null for a path that the protocol does not
   * have. `gone` aborts when the engine hangs up. Rejects where it is to get no answer.
   */
  async answer(path: string, text: string, gone: AbortSignal): Promise<PluginReply | null> {
    if (!isPluginPath(path)) return null;
    const { clock, log } = this.#deps;
    const since = clock.monotonic();
    let fault: HoldfastError | null = null;
    let reply: Readonly<Record<string, unknown>> = {};
    let volume: unknown;
    try {
      const body = parseBody(path, text);
      volume = (body as { readonly Name?: string }).Name;
      reply = await this.#within(path, body, gone);
    } catch (thrown) {
      fault = asFault(thrown, 'UNAVAILABLE');
    }
    const facts = {
      call: path.slice(path.indexOf('.') + 1),
      volume,
      ms: clock.monotonic() - since,
    };
    const isChange = CHANGES.has(path);
    if (fault !== null) {
      // The engine asks for each new volume first whether it exists.
      const isNews = isChange || fault.code !== 'NOT_FOUND';
      if (isNews)
        log.warn({ ...facts, code: fault.code, error: fault.message }, 'A call was refused.');
      if (saysNothing(path, text, fault)) throw fault;
      return { Err: errorText(fault) };
    }
    if (isChange) log.info(facts, 'A call was done.');
    return { ...reply, Err: '' };
  }

  /** Takes away, now and from time to time, what no container uses any more. */
  async sweep(): Promise<void> {
    const { claims, clock, log } = this.#deps;
    for (const volume of claims.list()) {
      try {
        await this.#inTurn(volume, () => this.#unmountUnused(volume));
      } catch (thrown) {
        const { code, message } = asFault(thrown, 'UNAVAILABLE');
        log.warn({ volume, code, error: message }, 'A mount that nobody uses stays.');
      }
    }
    if (!this.#isClosed) clock.after(SWEEP_MS, () => void this.sweep());
  }

  /** Mounts stay: whoever uses them does not need this process. */
  close(): void {
    this.#isClosed = true;
  }

  /** Runs a call; gives up waiting for it, but not on it, before the engine does. */
  #within<P extends PluginPath>(
    path: P,
    body: PluginBody<P>,
    gone: AbortSignal,
  ): Promise<Readonly<Record<string, unknown>>> {
    const { withinMs } = CALLS[path];
    const given = new AbortController();
    const forget = (): void => given.abort();
    gone.addEventListener('abort', forget);
    if (gone.aborted) forget();
    return new Promise((resolve, reject) => {
      const timer = this.#deps.clock.after(withinMs, () => {
        forget();
        const message = `this takes more than ${withinMs / 1000} s, and goes on`;
        const hint = 'Try again; "holdfast status" says what the cluster lacks.';
        reject(new HoldfastError('TIMEOUT', message, { retryable: true, hint }));
      });
      const handler = this.#handlers[path] as Handlers[P];
      const done = handler(body, given.signal);
      done.then(resolve, reject).finally(() => {
        timer.cancel();
        gone.removeEventListener('abort', forget);
      });
    });
  }

  readonly #handlers: Handlers = {
    '/Plugin.Activate': async () => ({ Implements: ['VolumeDriver'] }),
    '/VolumeDriver.Capabilities': async () => ({ Capabilities: { Scope: 'global' } }),
    '/VolumeDriver.Create': ({ Name, Opts }) => {
      return this.#inTurn(Name, () => this.#create(Name, Opts ?? {}));
    },
    '/VolumeDriver.Remove': ({ Name }) => this.#inTurn(Name, () => this.#remove(Name)),
    '/VolumeDriver.Mount': ({ Name, ID }, signal) => {
      return this.#inTurn(Name, () => this.#mount(Name, ID, signal));
    },
    '/VolumeDriver.Unmount': ({ Name, ID }) => {
      return this.#inTurn(Name, () => this.#unmount(Name, ID));
    },
    '/VolumeDriver.Path': async ({ Name }) => ({ Mountpoint: await this.#mountpoint(Name) }),
    '/VolumeDriver.Get': async ({ Name }, signal) => {
      return { Volume: await this.#patiently(signal, () => this.#describe(Name)) };
    },
    '/VolumeDriver.List': async () => ({ Volumes: await this.#list() }),
  };

  #inTurn<T>(volume: string, action: () => Promise<T>): Promise<T> {
    return this.#locks.run(volume, `volume "${volume}"`, action);
  }

  async #create(name: string, options: Readonly<Record<string, string>>) {
    const asked = parseOptions(options);
    const lifecycle = await this.#deps.lifecycle();
    const found = await lifecycle.byName(name);
    if (found !== null) refuseOther(found, asked);
    else await lifecycle.create(wantedVolume(name, asked, this.#settings.defaults));
    return {};
  }

  async #mount(name: string, caller: string, signal: AbortSignal) {
    const { claims, places } = this.#deps;
    claims.begin(name);
    try {
      await this.#patiently(signal, () => this.#ensureMounted(name));
    } catch (thrown) {
      await this.#forgetUnmounted(name);
      throw thrown;
    }
    if (signal.aborted) {
      await this.#unmountUnused(name);
      throw new HoldfastError('CLOSED', `nobody waits for the mount of "${name}" any more`);
    }
    claims.add(name, caller);
    return { Mountpoint: places.shown(name) };
  }

  /** Where all starts at once, as after a boot, what is slow for a moment fails no container. */
  async #patiently<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { clock } = this.#deps;
    const until = clock.monotonic() + PATIENCE_MS;
    for (;;) {
      try {
        return await work();
      } catch (thrown) {
        const mayPass = thrown instanceof HoldfastError && thrown.retryable;
        if (!mayPass || signal.aborted || clock.monotonic() >= until) throw thrown;
      }
      await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve));
    }
  }

  async #ensureMounted(name: string): Promise<void> {
    const { places } = this.#deps;
    const here = await this.#here(name);
    // A volume that works here needs no metadata store for one more container.
    if (here === null || !isServed(here)) {
      const lifecycle = await this.#deps.lifecycle();
      const info = await findVolume(lifecycle, name);
      const options = { readOnly: isReadOnly(info), waitMs: this.#settings.waitMs };
      await lifecycle.mount(info.id, places.directory(name), options);
    }
    await places.show(name);
    // Below what is not mounted is a directory of the machine's own, which a container would fill.
    const there = await this.#here(name);
    if (there !== null && isServed(there)) return;
    const message = `"${name}" was unmounted again at once`;
    throw new HoldfastError('UNAVAILABLE', message, { retryable: true, hint: 'Try again.' });
  }

  /** After a mount that failed: what may stand all the same is left to sweep(). */
  async #forgetUnmounted(name: string): Promise<void> {
    const { claims } = this.#deps;
    const isFree = claims.of(name)?.length === 0 && (await this.#here(name)) === null;
    if (isFree) claims.end(name);
  }

  async #unmount(name: string, caller: string) {
    this.#deps.claims.remove(name, caller);
    await this.#unmountUnused(name);
    return {};
  }

  /** Those that this plugin mounted and nobody claims; also what an earlier call left. */
  async #unmountUnused(name: string): Promise<void> {
    const { claims, places, machine } = this.#deps;
    if (claims.of(name)?.length !== 0) return;
    await places.hide(name);
    // At its directory may be somebody else's mount.
    const isHere = (await this.#here(name)) !== null;
    if (isHere) await machine.unmount(places.directory(name), { timeoutMs: UNMOUNT_COMMIT_MS });
    else if (await this.#isDeviceLeft(name)) await machine.closeDevice(name);
    places.tidy(name);
    claims.end(name);
  }

  /** Of a mount that began to go while somebody had its device open. */
  async #isDeviceLeft(name: string): Promise<boolean> {
    const all = await this.#deps.machine.list();
    return all.some((one) => one.name === name && one.kind === 'block' && one.directory === null);
  }

  async #remove(name: string) {
    const { claims } = this.#deps;
    const callers = claims.of(name)?.length ?? 0;
    if (callers > 0 && (await this.#here(name)) !== null) throw inUse(name, callers);
    // Claims on a mount that is gone are those of containers that are, too.
    if (callers > 0) claims.end(name);
    await this.#unmountUnused(name);
    const lifecycle = await this.#deps.lifecycle();
    const info = await lifecycle.byName(name);
    if (info === null) return {};
    // A machine that died with it must not come back with it: then its last owner is shut out.
    const isOrphan = info.held && info.mounted === null && info.attachments.length === 0;
    if (isOrphan) await lifecycle.fence(info.id);
    await lifecycle.remove(info.id, { keepMs: this.#settings.keepMs });
    return {};
  }

  async #mountpoint(name: string): Promise<string> {
    const here = await this.#here(name);
    return here === null ? '' : this.#deps.places.shown(name);
  }

  async #describe(name: string): Promise<PluginVolume> {
    const lifecycle = await this.#deps.lifecycle();
    const info = await findVolume(lifecycle, name);
    const here = await this.#here(name);
    const callers = this.#deps.claims.of(name)?.length ?? 0;
    return { ...this.#entry(info, here), Status: statusOf({ info, here, callers }) };
  }

  async #list(): Promise<PluginVolume[]> {
    const lifecycle = await this.#deps.lifecycle();
    const mounted = await this.#ours();
    const found = (await everyVolume(lifecycle)).map((info) =>
      this.#entry(info, mounted.get(info.name) ?? null),
    );
    return found.sort((a, b) => (a.Name < b.Name ? -1 : 1));
  }

  #entry({ name, createdAt }: VolumeInfo, here: MachineVolume | null): PluginVolume {
    const path = here === null ? '' : this.#deps.places.shown(name);
    return { Name: name, Mountpoint: path, CreatedAt: createdAt };
  }

  async #here(name: string): Promise<MachineVolume | null> {
    return (await this.#ours()).get(name) ?? null;
  }

  /** What this plugin has mounted, by volume. */
  async #ours(): Promise<ReadonlyMap<string, MachineVolume>> {
    const { places, machine } = this.#deps;
    const all = await machine.list();
    return new Map(
      all
        .filter(({ directory, name }) => directory !== null && places.volumeAt(directory) === name)
        .map((one) => [one.name, one]),
    );
  }
}

const CHANGES: ReadonlySet<string> = new Set(
  ['Create', 'Remove', 'Mount', 'Unmount'].map((call) => `/VolumeDriver.${call}`),
);

/**
 * Whatever error Get answers with, the engine takes for "no such volume": it forgets the volume and
 * may make one of its own under that name, on this machine. Where nobody answers it asks again for
 * a while (with an empty body), and then says that it could not ask.
 */
function saysNothing(path: PluginPath, text: string, { code }: HoldfastError): boolean {
  if (path !== '/VolumeDriver.Get' || code === 'NOT_FOUND') return false;
  return code !== 'INVALID_ARGUMENT' || text.trim() === '';
}

/** Throws NOT_FOUND. */
async function findVolume(lifecycle: VolumeLifecycle, name: string): Promise<VolumeInfo> {
  const info = await lifecycle.byName(name);
  if (info !== null) return info;
  const hint = `Make it with "docker volume create -d holdfast ${name}".`;
  throw new HoldfastError('NOT_FOUND', `no volume is named "${name}"`, { hint });
}

function inUse(name: string, callers: number): HoldfastError {
  const one = 'a container of this machine uses';
  const users = callers === 1 ? one : `${callers} containers of this machine use`;
  const hint = 'Stop them first; "docker ps --filter volume=NAME" lists them.';
  return new HoldfastError('BUSY', `${users} "${name}"`, { hint });
}
