/**
 * The Node service: volumes on this machine. What is staged and published is asked of the machine
 * each time (lifecycle/volumes.ts), so that another driver process may go on where one ended.
 *
 * INVARIANT: NodePublishVolume answers OK only after the target was seen to be that very volume;
 * otherwise no target is left for a pod to start on.
 */
import { HoldfastError } from '../core/errors.js';
import { isId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import type { GroupAccess } from '../io/group-access.js';
import { isServed } from '../lifecycle/here.js';
import type { MachineVolumes } from '../lifecycle/machine.js';
import { OperationLocks } from '../lifecycle/operation-locks.js';
import type { MachineVolume } from '../lifecycle/volume-types.js';
import type { VolumeLifecycle } from '../lifecycle/volumes.js';
import { type Usage, usageOf } from './capability.js';
import { invalidArgument, noVolume, requiredPath, requiredVolumeId } from './checks.js';
import { refuseMisuse } from './controller.js';
import { CsiError } from './errors.js';
import {
  type Node,
  type NodeExpandVolumeRequest,
  type NodeGetVolumeStatsRequest,
  type NodePublishVolumeRequest,
  NodeRpc,
  type NodeStageVolumeRequest,
  type NodeUnpublishVolumeRequest,
  type NodeUnstageVolumeRequest,
  UsageUnit,
  type VolumeUsage,
} from './messages.js';
import { sizeRange } from './sizes.js';
import { topologyOf } from './topology.js';

/** For an owner elsewhere that is just letting go; kubelet gives a call two minutes. */
const WAIT_MS = 20_000;
const TAKEOVER_MS = 60_000;
/** A repetition waits a little for the call before it, then it gets ABORTED. */
const CALLS = { waitMs: 5_000, limitMs: 115_000 };

export interface NodeServiceOptions {
  /** What is taken away here is taken away without the cluster: it may be out of reach. */
  readonly machine: MachineVolumes;
  /** Rejects with UNAVAILABLE as long as the cluster cannot be reached. */
  readonly volumes: () => Promise<VolumeLifecycle>;
  readonly groups: GroupAccess;
  readonly clock: Clock;
  /** This machine, as ControllerPublishVolume and attachments name it. */
  readonly nodeId: string;
  readonly zone: string;
  /** How many volumes an orchestrator should put here; 0: as many as it likes. */
  readonly maxVolumes: number;
  /** For orchestrators that never unstage, such as Swarm: the last unpublish does it. */
  readonly unpublishUnstages: boolean;
}

export class NodeService implements Node {
  readonly #options: NodeServiceOptions;
  readonly #machine: MachineVolumes;
  readonly #volumes: () => Promise<VolumeLifecycle>;
  readonly #locks: OperationLocks;

  constructor(options: NodeServiceOptions) {
    this.#options = options;
    this.#machine = options.machine;
    this.#volumes = options.volumes;
    this.#locks = new OperationLocks(options.clock, CALLS);
  }

  async NodeGetCapabilities() {
    return { capabilities: Object.values(NodeRpc).map((type) => ({ rpc: { type } })) };
  }

  /** What an orchestrator may publish to must be known to the controller: it asks here first. */
  async NodeGetInfo() {
    const { nodeId, zone, maxVolumes } = this.#options;
    await (await this.#volumes()).registerMachine(nodeId, zone, maxVolumes);
    return {
      node_id: nodeId,
      max_volumes_per_node: maxVolumes,
      accessible_topology: topologyOf(zone),
    };
  }

  async NodeStageVolume(request: NodeStageVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const path = requiredPath('staging_target_path', request.staging_target_path);
    const usage = usageOf(request.volume_capability);
    return await this.#alone(id, async () => {
      await this.#stage(id, path, usage);
      return {};
    });
  }

  async NodeUnstageVolume(request: NodeUnstageVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const path = requiredPath('staging_target_path', request.staging_target_path);
    return await this.#alone(id, async () => {
      const there = await this.#here(id);
      if (there === null) {
        await this.#clear(path, id);
        return {};
      }
      const { directory, targets } = there;
      // With no directory of its own, what is at the path is what an earlier mount left.
      const others = directory === null ? targets.filter((one) => one !== path) : targets;
      if (others.length > 0) {
        const message = `The volume is still published at ${others.join(', ')}.`;
        throw new CsiError('FAILED_PRECONDITION', message);
      }
      const isStaged = directory === null || directory === path || (await this.#isAt(path, id));
      if (isStaged) await this.#unstage(there, id, path);
      return {};
    });
  }

  async #unstage(
    { directory, name }: MachineVolume,
    id: string,
    path = directory ?? '',
  ): Promise<void> {
    if (directory !== null) return await this.#machine.unmount(path);
    if (path !== '') await this.#clear(path, id);
    await this.#machine.closeDevice(name);
  }

  /**
   * Whatever is left there of the volume, of which nobody but the kernel may know any more. A mount
   * that only begins does not know its volume yet, or still waits for its turn: that is waited for,
   * and taken away. Else the volume would be mounted here with no attachment, and no other machine
   * could have it.
   */
  async #clear(path: string, id: string): Promise<void> {
    const shown = await this.#shownAt(path);
    if (isId(id) && (shown === null || shown === id)) await this.#machine.unmount(path);
  }

  async NodePublishVolume(request: NodePublishVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const target = requiredPath('target_path', request.target_path);
    const usage = usageOf(request.volume_capability);
    if (request.staging_target_path === '') {
      throw new CsiError('FAILED_PRECONDITION', 'staging_target_path is missing: stage it first.');
    }
    const staging = requiredPath('staging_target_path', request.staging_target_path);
    if (staging === target) throw invalidArgument('target_path and staging_target_path are one.');
    const readOnly = request.readonly || usage.readOnly;
    return await this.#alone(id, async () => {
      try {
        await this.#publish({ id, staging, target, usage, readOnly });
      } catch (thrown) {
        // An empty directory would do for a pod to start on.
        if (!(await this.#isAt(target, id))) await this.#machine.unbind(target).catch(() => {});
        throw thrown;
      }
      return {};
    });
  }

  async #publish(wanted: {
    readonly id: string;
    readonly staging: string;
    readonly target: string;
    readonly usage: Usage;
    readonly readOnly: boolean;
  }): Promise<void> {
    const { id, staging, target, usage, readOnly } = wanted;
    const staged = await this.#staged(id, staging, usage);
    const { targets } = staged;
    if (usage.exclusive && targets.length > 0 && !(await this.#isAt(target, id))) {
      const message = `The volume is published at ${targets.join(', ')}, and may be once only.`;
      throw new CsiError('FAILED_PRECONDITION', message);
    }
    const isDevice = usage.access === 'block';
    if (isDevice && readOnly && !staged.readOnly) throw writableDevice();
    const source = isDevice ? staged.device : staged.directory;
    if (source === null) {
      throw new CsiError(
        'FAILED_PRECONDITION',
        `The volume is staged, but not as a ${usage.access}.`,
      );
    }
    if (usage.group !== null && !staged.readOnly)
      await this.#options.groups.grant(source, usage.group);
    await this.#machine.bind({ source, target, readOnly });
    if (await this.#isAt(target, id)) return;
    throw new CsiError(
      'UNAVAILABLE',
      `${target} does not show the volume after it was bound there.`,
    );
  }

  /**
   * Stages it where that is not so: kubelet takes for staged what it staged before a crash, and
   * would else never get further.
   */
  async #staged(id: string, path: string, usage: Usage): Promise<MachineVolume> {
    const there = await this.#here(id);
    const isSame =
      usage.access === 'block'
        ? there?.directory === null && there.device !== null
        : there?.directory === path;
    if (there !== null && isSame && isServed(there)) return there;
    return await this.#stage(id, path, usage);
  }

  async #stage(id: string, path: string, usage: Usage): Promise<MachineVolume> {
    const volumes = await this.#volumes();
    const info = await volumes.get(id);
    if (info === null) throw noVolume(id);
    refuseMisuse(usage, info);
    const options = { readOnly: usage.readOnly, waitMs: WAIT_MS, timeoutMs: TAKEOVER_MS };
    if (usage.access === 'block') return await volumes.openDevice(id, options);
    const { fsType, flags, group } = usage;
    const isFormatted = fsType !== null && fsType !== 'native';
    const form = isFormatted ? { fsType } : {};
    const staged = await volumes.mount(id, path, { ...options, ...form, flags });
    if (group !== null && !staged.readOnly)
      await this.#options.groups.grant(staged.directory ?? path, group);
    return staged;
  }

  async NodeUnpublishVolume(request: NodeUnpublishVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const target = requiredPath('target_path', request.target_path);
    return await this.#alone(id, async () => {
      const other = await this.#shownAt(target);
      if (other !== null && other !== id) {
        throw new CsiError('FAILED_PRECONDITION', `${target} shows another volume, ${other}.`);
      }
      await this.#machine.unbind(target);
      const there = this.#options.unpublishUnstages ? await this.#here(id) : null;
      if (there?.targets.length === 0) await this.#unstage(there, id);
      return {};
    });
  }

  async NodeGetVolumeStats(request: NodeGetVolumeStatsRequest) {
    const id = requiredVolumeId(request.volume_id);
    if (request.volume_path === '') throw invalidArgument('volume_path is missing.');
    const stats = await this.#machine.stats(request.volume_path).catch(missingAt(request));
    if (stats.id !== id) throw notThere(request);
    const usage: VolumeUsage[] = [
      {
        unit: UsageUnit.BYTES,
        total: stats.totalBytes,
        used: stats.usedBytes,
        available: stats.availableBytes,
      },
    ];
    const { totalInodes: total, usedInodes: used, availableInodes: available } = stats;
    if (total !== null && used !== null && available !== null) {
      usage.push({ unit: UsageUnit.INODES, total, used, available });
    }
    return { usage, volume_condition: stats.condition };
  }

  async NodeExpandVolume(request: NodeExpandVolumeRequest) {
    const id = requiredVolumeId(request.volume_id);
    if (request.volume_path === '') throw invalidArgument('volume_path is missing.');
    if (request.volume_capability !== null) usageOf(request.volume_capability);
    const info = await (await this.#volumes()).get(id);
    if (info === null) throw noVolume(id);
    const { sizeBytes } = info;
    const wanted = sizeRange(request.capacity_range, info.fsType, sizeBytes);
    if (wanted.sizeBytes > sizeBytes) {
      const message = `The volume has ${sizeBytes} bytes: expand it with the controller first.`;
      throw new CsiError('OUT_OF_RANGE', message);
    }
    if (!(await this.#isAt(request.volume_path, id))) throw notThere(request);
    return await this.#alone(id, async () => {
      await (await this.#volumes()).growHere(id);
      return { capacity_bytes: sizeBytes };
    });
  }

  #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(id, `volume ${id}`, work);
  }

  async #here(id: string): Promise<MachineVolume | null> {
    if (!isId(id)) return null;
    return (await this.#machine.list()).find((one) => one.id === id) ?? null;
  }

  /** Whether a path of this machine is seen to be the volume. */
  async #isAt(path: string, id: string): Promise<boolean> {
    return (await this.#shownAt(path)) === id;
  }

  /**
   * The id of the volume that a path shows; null: none, or it cannot be found out. A daemon that
   * does not answer just now still has its mounts.
   */
  async #shownAt(path: string): Promise<string | null> {
    const here = await this.#machine.list();
    const found = here.find(({ directory, targets }) => {
      return directory === path || targets.includes(path);
    });
    if (found !== undefined) return found.id;
    try {
      return (await this.#machine.stats(path)).id;
    } catch (thrown) {
      if (thrown instanceof HoldfastError) return null;
      throw thrown;
    }
  }
}

/** A device that is bound read-only can be written to all the same. */
function writableDevice(): CsiError {
  const message =
    'The device is open for writing on this machine; one that is to be read-only for a pod must ' +
    'be attached read-only.';
  return new CsiError('FAILED_PRECONDITION', message);
}

interface AtPath {
  readonly volume_id: string;
  readonly volume_path: string;
}

function notThere({ volume_id, volume_path }: AtPath): CsiError {
  return new CsiError('NOT_FOUND', `Volume ${volume_id} is not at "${volume_path}".`);
}

/** A path that can be nobody's is as good as one where nothing is. */
function missingAt(request: AtPath): (thrown: unknown) => never {
  return (thrown) => {
    const code = thrown instanceof HoldfastError ? thrown.code : null;
    throw code === 'NOT_FOUND' || code === 'INVALID_ARGUMENT' ? notThere(request) : thrown;
  };
}
