/**
 * VolumeLifecycle over the metadata store and one machine: puts operations on one volume in order,
 * and tells the machine what the store knows.
 */
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import type { MachineRecord, VolumeRecord } from '../metadata/model.js';
import { Attaching, type AttachingDeps } from './attaching.js';
import { Catalog, type CatalogDeps } from './catalog.js';
import type { MachineVolumes } from './machine.js';
import { OperationLocks } from './operation-locks.js';
import type {
  Attachment,
  BindRequest,
  Capacity,
  CreateVolume,
  FenceOutcome,
  MachineMountRequest,
  MachineVolume,
  MountOptions,
  VolumeInfo,
  VolumePage,
  VolumeSettings,
  VolumeStats,
} from './volume-types.js';
import type { VolumeLifecycle } from './volumes.js';

/** Commits wait for nodes, and orchestrators give up after one or two minutes. */
const OPERATION_LIMIT_MS = 110_000;

export interface LifecycleDeps extends CatalogDeps, Pick<AttachingDeps, 'shutOut'> {
  readonly clock: Clock;
  readonly machine: MachineVolumes;
  /** How long to wait for another operation on the same volume; default: not at all. */
  readonly lockWaitMs?: number;
}

export class StoredVolumes implements VolumeLifecycle {
  readonly machine: MachineVolumes;
  readonly #catalog: Catalog;
  readonly #attaching: Attaching;
  readonly #locks: OperationLocks;

  constructor(deps: LifecycleDeps) {
    const { clock, store, machine, shutOut, lockWaitMs = 0 } = deps;
    this.machine = machine;
    this.#catalog = new Catalog(deps);
    this.#attaching = new Attaching({ store, clock, shutOut, catalog: this.#catalog });
    this.#locks = new OperationLocks(clock, { waitMs: lockWaitMs, limitMs: OPERATION_LIMIT_MS });
  }

  create(wanted: CreateVolume): Promise<VolumeInfo> {
    const what = `volume "${wanted.name}"`;
    return this.#locks.run(`name ${wanted.name}`, what, () => this.#catalog.create(wanted));
  }

  get(id: string): Promise<VolumeInfo | null> {
    return this.#catalog.get(id);
  }

  byName(name: string): Promise<VolumeInfo | null> {
    return this.#catalog.byName(name);
  }

  list(options?: { readonly limit?: number; readonly token?: string }): Promise<VolumePage> {
    return this.#catalog.list(options);
  }

  remove(
    id: string,
    options?: { readonly keepMs?: number | null; readonly force?: boolean },
  ): Promise<void> {
    return this.#alone(id, () => this.#catalog.remove(id, options));
  }

  expand(id: string, sizeBytes: number): Promise<VolumeInfo> {
    return this.#alone(id, () => this.#catalog.expand(id, sizeBytes));
  }

  modify(id: string, settings: VolumeSettings): Promise<VolumeInfo> {
    return this.#alone(id, () => this.#catalog.modify(id, settings));
  }

  capacity(options: {
    readonly zones?: readonly string[];
    readonly replicas?: number;
  }): Promise<Capacity> {
    return this.#catalog.capacity(options);
  }

  zones(): Promise<string[]> {
    return this.#catalog.zones();
  }

  registerMachine(machine: string, zone: string | null, maxVolumes = 0): Promise<void> {
    return this.#attaching.registerMachine(machine, zone, maxVolumes);
  }

  machines(): Promise<MachineRecord[]> {
    return this.#attaching.machines();
  }

  forgetMachine(machine: string): Promise<void> {
    return this.#attaching.forgetMachine(machine);
  }

  attach(
    id: string,
    machine: string,
    options: { readonly readOnly?: boolean } = {},
  ): Promise<Attachment> {
    const readOnly = options.readOnly === true;
    return this.#alone(id, () => this.#attaching.attach(id, machine, readOnly));
  }

  detach(id: string, machine: string, options: { readonly waitMs?: number } = {}): Promise<void> {
    return this.#alone(id, () => this.#attaching.detach(id, machine, options.waitMs));
  }

  fence(
    id: string,
    options: { readonly force?: boolean; readonly timeoutMs?: number } = {},
  ): Promise<FenceOutcome> {
    return this.#alone(id, () => this.#attaching.fence(id, options));
  }

  /**
   * One that this machine may mount. NOT_FOUND; CONFLICT: it is attached to another one, and which.
   */
  async usable(id: string): Promise<VolumeInfo> {
    const record = await this.#catalog.known(id);
    await this.#attaching.checkAttached(record, this.machine.name);
    return await this.#catalog.info(record);
  }

  mount(id: string, directory: string, options: MountOptions = {}): Promise<MachineVolume> {
    return this.#alone(id, async () => {
      return await this.machine.mount(await this.#request(id, options), directory);
    });
  }

  /** Whatever is there says which volume it is. */
  async unmount(
    directory: string,
    options?: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void> {
    const here = (await this.machine.list()).find((one) => one.directory === directory);
    const key = here?.id ?? directory;
    await this.#alone(key, () => this.machine.unmount(directory, options));
  }

  openDevice(id: string, options: MountOptions = {}): Promise<MachineVolume> {
    return this.#alone(id, async () => {
      return await this.machine.openDevice(await this.#request(id, options));
    });
  }

  closeDevice(id: string): Promise<void> {
    return this.#alone(id, async () => {
      const here = await this.here(id as VolumeId);
      if (here !== null) await this.machine.closeDevice(here.name);
    });
  }

  bind(request: BindRequest): Promise<void> {
    return this.#alone(request.target, () => this.machine.bind(request));
  }

  unbind(target: string): Promise<void> {
    return this.#alone(target, () => this.machine.unbind(target));
  }

  growHere(id: string): Promise<MachineVolume> {
    return this.#alone(id, async () => {
      const { name, sizeBytes } = await this.#catalog.known(id);
      const before = await this.here(id as VolumeId);
      if (before === null) throw notHere(name, this.machine.name);
      await this.machine.grow(name, sizeBytes);
      return (await this.here(id as VolumeId)) ?? before;
    });
  }

  stats(path: string): Promise<VolumeStats> {
    return this.machine.stats(path);
  }

  async here(id: VolumeId): Promise<MachineVolume | null> {
    return (await this.machine.list()).find((one) => one.id === id) ?? null;
  }

  async #request(id: string, options: MountOptions): Promise<MachineMountRequest> {
    const record = await this.#catalog.known(id);
    const attachment = await this.#attaching.checkAttached(record, this.machine.name);
    return requestOf(record, options, attachment);
  }

  #alone<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(key, `"${key}"`, work);
  }
}

function requestOf(
  record: VolumeRecord,
  options: MountOptions,
  attachment: Attachment | null,
): MachineMountRequest {
  const { volume: id, name, kind, sizeBytes, settings } = record;
  const { fsType } = settings ?? {};
  return {
    ...(fsType === undefined ? {} : { fsType }),
    ...options,
    ...(attachment?.readOnly === true ? { readOnly: true } : {}),
    ...{ id, name, kind, sizeBytes },
  };
}

function notHere(name: string, machine: string): HoldfastError {
  return new HoldfastError('NOT_FOUND', `volume "${name}" is not mounted on ${machine}`);
}
