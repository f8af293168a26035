/**
 * Volumes and one machine in memory, for tests of what the CSI driver makes of them: the rules of
 * lifecycle/volumes.ts as far as a driver can see them, and faults on demand.
 */
import { HoldfastError } from '../../src/core/errors.js';
import type { VolumeId } from '../../src/core/ids.js';
import type {
  Attachment,
  BindRequest,
  CreateVolume,
  FenceOutcome,
  MachineRecord,
  MachineVolume,
  MountOptions,
  VolumeInfo,
  VolumeSettings,
  VolumeStats,
} from '../../src/lifecycle/volume-types.js';
import type { VolumeLifecycle } from '../../src/lifecycle/volumes.js';

const FINE = { abnormal: false, message: 'All is well.' };
const SINCE = '2026-01-01T00:00:00.000Z';

type Volumes = Pick<VolumeLifecycle, keyof VolumeLifecycle>;

export class FakeVolumes implements Volumes {
  readonly infos = new Map<string, VolumeInfo>();
  readonly local = new Map<string, MachineVolume>();
  readonly known: MachineRecord[] = [];
  readonly calls: string[] = [];
  /** What the next call of this name rejects with. */
  readonly faults = new Map<string, Error>();
  /** bind() says that it is done and does nothing. */
  bindsNothing = false;
  #made = 0;

  /** As far as a driver uses it. */
  readonly machine = {
    list: async () => [...this.local.values()],
    unmount: (directory: string) => this.unmount(directory),
    closeDevice: (name: string) => this.closeDevice(name),
    bind: (request: BindRequest) => this.bind(request),
    unbind: (target: string) => this.unbind(target),
    stats: (path: string) => this.stats(path),
  } as unknown as VolumeLifecycle['machine'];

  async #called(name: string): Promise<void> {
    this.calls.push(name);
    const fault = this.faults.get(name);
    if (fault === undefined) return;
    this.faults.delete(name);
    throw fault;
  }

  #existing(id: string): VolumeInfo {
    const info = this.infos.get(id);
    if (info === undefined) throw new HoldfastError('NOT_FOUND', `there is no volume "${id}"`);
    return info;
  }

  #change(id: string, change: Partial<VolumeInfo>): VolumeInfo {
    const info = { ...this.#existing(id), ...change };
    this.infos.set(id, info);
    return info;
  }

  async create(wanted: CreateVolume): Promise<VolumeInfo> {
    await this.#called('create');
    const { name, sizeBytes, limitBytes = sizeBytes, kind = 'filesystem', replicas = 3 } = wanted;
    const found = await this.byName(name);
    if (found !== null) {
      const fits = found.sizeBytes >= sizeBytes && found.sizeBytes <= limitBytes;
      if (fits && found.kind === kind && found.replicas === replicas) return found;
      throw new HoldfastError('ALREADY_EXISTS', `a volume named "${name}" exists with others`);
    }
    const { ackQuorum = 2, commitIntervalMs = null, fsType = null, labels = {} } = wanted;
    this.#made += 1;
    const id = this.#made.toString(16).padStart(32, '0') as VolumeId;
    const info: VolumeInfo = {
      ...{ id, name, kind, sizeBytes, replicas, ackQuorum, nextAckQuorum: null, commitIntervalMs },
      ...{ fsType, labels, createdAt: SINCE, attachments: [], mounted: null, held: false },
      condition: FINE,
    };
    this.infos.set(id, info);
    return info;
  }

  async get(id: string): Promise<VolumeInfo | null> {
    await this.#called('get');
    return this.infos.get(id) ?? null;
  }

  async byName(name: string): Promise<VolumeInfo | null> {
    return [...this.infos.values()].find((info) => info.name === name) ?? null;
  }

  async list(options: { readonly limit?: number; readonly token?: string } = {}) {
    await this.#called('list');
    const { limit = 1000, token } = options;
    const all = [...this.infos.values()];
    const from = token === undefined ? 0 : all.findIndex(({ id }) => id === token) + 1;
    if (token !== undefined && from === 0) {
      throw new HoldfastError('INVALID_ARGUMENT', `"${token}" is no token`);
    }
    const volumes = all.slice(from, from + limit);
    const isLast = from + limit >= all.length;
    return { volumes, next: isLast ? null : (volumes.at(-1)?.id ?? null) };
  }

  async remove(id: string): Promise<void> {
    await this.#called('remove');
    if ((this.infos.get(id)?.attachments.length ?? 0) > 0) {
      throw new HoldfastError('CONFLICT', `volume ${id} is attached`);
    }
    this.infos.delete(id);
  }

  async expand(id: string, sizeBytes: number): Promise<VolumeInfo> {
    await this.#called('expand');
    return this.#change(id, { sizeBytes: Math.max(sizeBytes, this.#existing(id).sizeBytes) });
  }

  async modify(id: string, settings: VolumeSettings): Promise<VolumeInfo> {
    await this.#called('modify');
    const { ackQuorum, commitIntervalMs } = settings;
    return this.#change(id, {
      ...(ackQuorum === undefined ? {} : { nextAckQuorum: ackQuorum }),
      ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
    });
  }

  async capacity({ replicas = 3 }: { readonly replicas?: number }) {
    await this.#called('capacity');
    const bytes = { minimumVolumeBytes: 2 ** 20, maximumVolumeBytes: 2 ** 50 };
    return { availableBytes: (3 * 2 ** 40) / replicas, ...bytes };
  }

  async zones(): Promise<string[]> {
    return ['a', 'b'];
  }

  async registerMachine(machine: string, zone: string | null, maxVolumes = 0): Promise<void> {
    await this.#called('registerMachine');
    if (this.known.some((one) => one.machine === machine)) return;
    const limit = maxVolumes === 0 ? {} : { maxVolumes };
    this.known.push({ schema: 1, machine, zone, ...limit, registeredAt: SINCE });
  }

  async machines(): Promise<MachineRecord[]> {
    return this.known;
  }

  async forgetMachine(): Promise<void> {}

  async attach(
    id: string,
    machine: string,
    { readOnly = false }: { readonly readOnly?: boolean } = {},
  ): Promise<Attachment> {
    await this.#called('attach');
    const info = this.#existing(id);
    if (!this.known.some((one) => one.machine === machine)) {
      throw new HoldfastError('NOT_FOUND', `there is no machine "${machine}"`);
    }
    const [found] = info.attachments;
    if (found !== undefined && found.machine !== machine) {
      throw new HoldfastError('CONFLICT', `the volume is attached to ${found.machine}`);
    }
    if (found !== undefined && found.readOnly !== readOnly) {
      throw new HoldfastError('ALREADY_EXISTS', 'the volume is attached otherwise');
    }
    const attachment = { machine, readOnly, since: SINCE };
    this.#change(id, { attachments: [attachment] });
    return attachment;
  }

  async detach(id: string, machine: string): Promise<void> {
    await this.#called('detach');
    const left = this.infos.get(id)?.attachments.filter((one) => one.machine !== machine);
    if (left !== undefined) this.#change(id, { attachments: left });
  }

  async fence(): Promise<FenceOutcome> {
    throw new Error('the driver detaches, which fences');
  }

  async mount(id: string, directory: string, options: MountOptions = {}): Promise<MachineVolume> {
    await this.#called('mount');
    const found = this.local.get(id);
    if (found !== undefined && found.directory !== directory) {
      throw new HoldfastError('ALREADY_EXISTS', 'mounted at another directory');
    }
    return this.#put(id, { directory, device: null, readOnly: this.#isReader(id, options) });
  }

  #isReader(id: string, options: MountOptions): boolean {
    const attached = this.#existing(id).attachments.some(({ readOnly }) => readOnly);
    return attached || options.readOnly === true;
  }

  async openDevice(id: string, options: MountOptions = {}): Promise<MachineVolume> {
    await this.#called('openDevice');
    const readOnly = this.#isReader(id, options);
    return this.#put(id, { directory: null, device: '/dev/loop7', readOnly });
  }

  #put(
    id: string,
    how: { directory: string | null; device: string | null; readOnly: boolean },
  ): MachineVolume {
    const { name, kind, fsType } = this.#existing(id);
    const targets = this.local.get(id)?.targets ?? [];
    const volume: MachineVolume = {
      ...{ name, id: id as VolumeId, kind, fsType, targets, condition: FINE, ...how },
      mount: { state: 'mounted' } as MachineVolume['mount'],
    };
    this.local.set(id, volume);
    return volume;
  }

  async unmount(directory: string): Promise<void> {
    await this.#called('unmount');
    for (const [id, one] of this.local) if (one.directory === directory) this.local.delete(id);
  }

  async closeDevice(name: string): Promise<void> {
    await this.#called('closeDevice');
    for (const [id, one] of this.local) if (one.name === name) this.local.delete(id);
  }

  async bind({ source, target }: BindRequest): Promise<void> {
    await this.#called('bind');
    if (this.bindsNothing) return;
    for (const [id, one] of this.local) {
      if (one.directory !== source && one.device !== source) continue;
      const targets = [...one.targets.filter((other) => other !== target), target];
      this.local.set(id, { ...one, targets });
      return;
    }
    throw new HoldfastError('NOT_FOUND', `no volume is mounted at ${source}`);
  }

  async unbind(target: string): Promise<void> {
    await this.#called('unbind');
    for (const [id, one] of this.local) {
      this.local.set(id, { ...one, targets: one.targets.filter((other) => other !== target) });
    }
  }

  async growHere(id: string): Promise<MachineVolume> {
    await this.#called('growHere');
    const found = this.local.get(id);
    if (found === undefined) throw new HoldfastError('NOT_FOUND', 'not on this machine');
    return found;
  }

  async stats(path: string): Promise<VolumeStats> {
    await this.#called('stats');
    for (const { id, name, directory, device, targets, condition } of this.local.values()) {
      if (![directory, device, ...targets].includes(path)) continue;
      const bytes = { totalBytes: 100, usedBytes: 40, availableBytes: 60 };
      const isRaw = directory === null;
      const inodes = isRaw
        ? { totalInodes: null, usedInodes: null, availableInodes: null }
        : { totalInodes: 10, usedInodes: 4, availableInodes: 6 };
      return { id, name, ...bytes, ...inodes, condition };
    }
    throw new HoldfastError('NOT_FOUND', `no volume is at ${path}`);
  }

  async here(id: VolumeId): Promise<MachineVolume | null> {
    return this.local.get(id) ?? null;
  }
}
