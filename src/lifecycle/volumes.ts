/**
 * Volumes from creation to removal, for the command line, the Docker plugin and the CSI driver
 * alike. What is known of a volume stands in the metadata store, what is mounted is asked of the
 * machine; nothing is kept in memory but who is at work on what.
 *
 * INVARIANT: operations on one volume follow one another within this process;
 * across processes, compare-and-swap and the machine's state directories decide.
 */
import type { VolumeId } from '../core/ids.js';
import type { MachineVolumes } from './machine.js';
import type {
  Attachment,
  BindRequest,
  Capacity,
  CreateVolume,
  FenceOutcome,
  MachineRecord,
  MachineVolume,
  MountOptions,
  VolumeInfo,
  VolumePage,
  VolumeSettings,
  VolumeStats,
} from './volume-types.js';

/** See volume-types.ts for faults common to all. Ids that are no ids are not found. */
export interface VolumeLifecycle {
  readonly machine: MachineVolumes;

  /**
   * Idempotent by name: returns one that exists and fits. INVALID_ARGUMENT, ALREADY_EXISTS (the
   * name is taken by one of another kind, size, replicas, ack or filesystem: says what differs).
   */
  create(wanted: CreateVolume): Promise<VolumeInfo>;

  /** Null when there is none in use. */
  get(id: string): Promise<VolumeInfo | null>;

  /** Null when there is none in use; also for what can be no name. */
  byName(name: string): Promise<VolumeInfo | null>;

  /** In the order of ids. INVALID_ARGUMENT for a `token` that is none. */
  list(options?: { readonly limit?: number; readonly token?: string }): Promise<VolumePage>;

  /**
   * To the trash. There is none: done. CONFLICT: mounted or attached (says where), or its last
   * owner did not release it and `force` was not said. `keepMs`: null: until somebody purges it;
   * default 7 days.
   */
  remove(
    id: string,
    options?: { readonly keepMs?: number | null; readonly force?: boolean },
  ): Promise<void>;

  /** Grows to at least `sizeBytes`; one that is as large stays. NOT_FOUND, INVALID_ARGUMENT. */
  expand(id: string, sizeBytes: number): Promise<VolumeInfo>;

  /** NOT_FOUND, INVALID_ARGUMENT. */
  modify(id: string, settings: VolumeSettings): Promise<VolumeInfo>;

  /** Free space of the nodes in these zones (default: all). A zone without nodes has none. */
  capacity(options: {
    readonly zones?: readonly string[];
    readonly replicas?: number;
  }): Promise<Capacity>;

  /** In which there are nodes, in order. */
  zones(): Promise<string[]>;

  /** Makes a machine known for attach(), for `maxVolumes` (0: any number) of them; idempotent. */
  registerMachine(machine: string, zone: string | null, maxVolumes?: number): Promise<void>;
  /** By name. */
  machines(): Promise<MachineRecord[]>;
  /** Removes a machine that will not come back. CONFLICT while something is attached to it. */
  forgetMachine(machine: string): Promise<void>;

  /**
   * Says that a machine may use the volume, and no other one. The same again: done. NOT_FOUND (the
   * volume; the machine: then `message` says machine), ALREADY_EXISTS (attached there with another
   * readOnly), CONFLICT (attached to another machine: says which), TOO_LARGE (the machine has as
   * many as it may).
   */
  attach(
    id: string,
    machine: string,
    options?: { readonly readOnly?: boolean },
  ): Promise<Attachment>;

  /**
   * Ends an attachment once the machine cannot use the volume any more: waits up to `waitMs`
   * (default 12 s: the presence of a dead machine ends within 10) for an orderly release or the end
   * of its presence, then fences whoever still has it. Not attached, or no such volume: done.
   */
  detach(id: string, machine: string, options?: { readonly waitMs?: number }): Promise<void>;

  /**
   * Shuts the owner out for good: it can neither write nor answer reads afterwards. NOT_FOUND,
   * CONFLICT (it is alive and well, and `force` was not said: says who), TIMEOUT (too few nodes
   * answer).
   */
  fence(
    id: string,
    options?: { readonly force?: boolean; readonly timeoutMs?: number },
  ): Promise<FenceOutcome>;

  /**
   * Mounts a volume on this machine: see MachineVolumes.mount. CONFLICT also when it is attached to
   * another machine.
   */
  mount(id: string, directory: string, options?: MountOptions): Promise<MachineVolume>;
  unmount(
    directory: string,
    options?: { readonly lazy?: boolean; readonly timeoutMs?: number },
  ): Promise<void>;

  /** Makes a block volume a raw device of this machine: see MachineVolumes.openDevice. */
  openDevice(id: string, options?: MountOptions): Promise<MachineVolume>;
  closeDevice(id: string): Promise<void>;

  bind(request: BindRequest): Promise<void>;
  unbind(target: string): Promise<void>;

  /** Lets this machine see what expand() gave. NOT_FOUND: no such volume, or it is not here. */
  growHere(id: string): Promise<MachineVolume>;

  /** Of a directory, device or target on this machine. NOT_FOUND. */
  stats(path: string): Promise<VolumeStats>;

  /** Of this machine; null when it is not mounted or attached here. */
  here(id: VolumeId): Promise<MachineVolume | null>;
}

/** All that are in use, page by page. */
export async function everyVolume(lifecycle: Pick<VolumeLifecycle, 'list'>): Promise<VolumeInfo[]> {
  const found: VolumeInfo[] = [];
  for (let token: string | null = null; ; ) {
    const page: VolumePage = await lifecycle.list(token === null ? {} : { token });
    found.push(...page.volumes);
    if (page.next === null) return found;
    token = page.next;
  }
}
