/**
 * What an engine asks of the plugin, in memory: volumes and a machine that do as
 * test/csi-driver/fake-volumes.ts says, virtual time, and plugins that are killed and started again
 * on the same files.
 */
import { HoldfastError } from '../../src/core/errors.js';
import { silentLog } from '../../src/io/log.js';
import type { MachineVolumes } from '../../src/lifecycle/machine.js';
import type { LiveStatus, MountStatus } from '../../src/lifecycle/mount-types.js';
import type { MachineVolume, MountOptions } from '../../src/lifecycle/volume-types.js';
import type { VolumeLifecycle } from '../../src/lifecycle/volumes.js';
import { Claims } from '../../src/volume-plugin/claims.js';
import { samePlaces } from '../../src/volume-plugin/places.js';
import { VolumePlugin } from '../../src/volume-plugin/volume-plugin.js';
import { FakeVolumes } from '../csi-driver/fake-volumes.js';
import { MemoryFiles } from '../fixtures/memory-files.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';

export const ROOT = '/volumes';

interface HiddenAs {
  readonly shown?: boolean;
  readonly mount?: Partial<MountStatus>;
}

export class Engine {
  readonly volumes = new FakeVolumes();
  readonly files = new MemoryFiles();
  readonly scheduler = new SimScheduler();
  /** What the lifecycle was asked for, with what. */
  readonly asked: { call: string; args: unknown[] }[] = [];
  /** The metadata store does not answer: only what is on this machine works. */
  isCut = false;
  /** Whether what is mounted is still there a moment later. */
  lasting = true;
  /** Directories. */
  readonly removed: string[] = [];
  plugin = this.start();

  /** A new process of the plugin. */
  start(): VolumePlugin {
    const claims = new Claims(this.files);
    const { clock } = new SimProcess(this.scheduler, 'plugin');
    const removeEmpty = (path: string): void => void this.removed.push(path);
    const places = samePlaces(ROOT, { removeEmpty }, (path) => path);
    const { machine, ...volumes } = this.#parts();
    const lifecycle = async (): Promise<VolumeLifecycle> => volumes.lifecycle;
    return new VolumePlugin(
      { lifecycle, machine, claims, clock, places, log: silentLog },
      { defaults: { sizeBytes: 2 ** 30, replicas: 3 }, waitMs: 15_000, keepMs: 1000 },
    );
  }

  /** The old process is killed; what stands in files and on the machine stays. */
  restart(): void {
    this.plugin.close();
    this.plugin = this.start();
  }

  async ask(
    call: string,
    body: unknown = {},
    gone: AbortSignal = new AbortController().signal,
  ): Promise<Record<string, unknown>> {
    const path = call.includes('.') ? `/${call}` : `/VolumeDriver.${call}`;
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return (await this.plugin.answer(path, text, gone)) as Record<string, unknown>;
  }

  async create(name: string, options?: Record<string, string>): Promise<string> {
    return String((await this.ask('Create', { Name: name, Opts: options })).Err);
  }

  async mount(name: string, caller: string): Promise<Record<string, unknown>> {
    return await this.ask('Mount', { Name: name, ID: caller });
  }

  async unmount(name: string, caller: string): Promise<string> {
    return String((await this.ask('Unmount', { Name: name, ID: caller })).Err);
  }

  /** Directories at which something is mounted. */
  get mounted(): string[] {
    return [...this.volumes.local.values()].map(({ directory }) => directory ?? '').sort();
  }

  /** What is mounted is in another state from now on. */
  hideAs({ mount = {}, ...more }: HiddenAs): void {
    for (const [id, one] of this.volumes.local) {
      this.volumes.local.set(id, { ...one, ...more, mount: { ...one.mount, ...mount } });
    }
  }

  argumentsOf(call: string): unknown[] {
    return this.asked.findLast((one) => one.call === call)?.args ?? [];
  }

  #parts(): { readonly machine: MachineVolumes; readonly lifecycle: VolumeLifecycle } {
    const { volumes } = this;
    const machine: Partial<MachineVolumes> = {
      list: async () => [...volumes.local.values()],
      unmount: (directory) => volumes.unmount(directory),
      closeDevice: (name) => volumes.closeDevice(name),
    };
    return { machine: machine as MachineVolumes, lifecycle: this.#lifecycle() };
  }

  #lifecycle(): VolumeLifecycle {
    const { volumes, asked } = this;
    const own: Partial<Record<string, unknown>> = {
      mount: (id: string, directory: string, options: MountOptions) => {
        return this.#mount(id, directory, options);
      },
      fence: async (id: string) => {
        const info = volumes.infos.get(id);
        if (info !== undefined) volumes.infos.set(id, { ...info, held: false });
      },
    };
    return new Proxy(volumes, {
      get: (target, key: string) => {
        const found = own[key] ?? Reflect.get(target, key, target);
        if (typeof found !== 'function') return found;
        return (...args: unknown[]) => {
          asked.push({ call: key, args });
          if (this.isCut) throw new HoldfastError('UNAVAILABLE', 'etcd is down');
          return found.apply(target, args);
        };
      },
    }) as unknown as VolumeLifecycle;
  }

  async #mount(id: string, directory: string, options: MountOptions): Promise<MachineVolume> {
    const made = await this.volumes.mount(id, directory, options);
    const live = { usedBytes: 3 * 2 ** 20, dirtyBytes: 0 } as LiveStatus;
    const volume = { ...made, mount: { ...made.mount, live } as MountStatus };
    if (this.lasting) this.volumes.local.set(id, volume);
    else this.volumes.local.delete(id);
    return volume;
  }
}
