/**
 * The Controller service: volumes of the whole cluster. Thin over lifecycle/volumes.ts, which does
 * everything twice without harm; here stands what the standard says and volumes do not know.
 */

import { HoldfastError } from '../core/errors.js';
import { VOLUME_MAX_BYTES, VOLUME_MIN_BYTES } from '../core/limits.js';
import type { VolumeInfo } from '../lifecycle/volume-types.js';
import type { VolumeLifecycle } from '../lifecycle/volumes.js';
import { type Usage, usageOf, usagesOf } from './capability.js';
import {
  invalidArgument,
  noVolume,
  requiredName,
  requiredNodeId,
  requiredVolumeId,
} from './checks.js';
import { CsiError } from './errors.js';
import {
  type Controller,
  type ControllerExpandVolumeRequest,
  type ControllerModifyVolumeRequest,
  type ControllerPublishVolumeRequest,
  ControllerRpc,
  type ControllerUnpublishVolumeRequest,
  type CreateVolumeRequest,
  type GetCapacityRequest,
  type ListedVolume,
  type ListVolumesRequest,
  type Topology,
  type ValidateVolumeCapabilitiesRequest,
  type ValidateVolumeCapabilitiesResponse,
  type Volume,
  type VolumeRequest,
} from './messages.js';
import { NAME_LABEL, volumeNameFor } from './names.js';
import { misuse, readMutable, readParameters, shapeFor } from './parameters.js';
import { sizeRange } from './sizes.js';
import { accessibleTopology, isPossible } from './topology.js';

export class ControllerService implements Controller {
  readonly #volumes: () => Promise<VolumeLifecycle>;

  /** `volumes` rejects with UNAVAILABLE as long as the cluster cannot be reached. */
  constructor(volumes: () => Promise<VolumeLifecycle>) {
    this.#volumes = volumes;
  }

  async ControllerGetCapabilities() {
    const types = Object.values(ControllerRpc);
    return { capabilities: types.map((type) => ({ rpc: { type } })) };
  }

  async CreateVolume(request: CreateVolumeRequest): Promise<{ readonly volume: Volume }> {
    const name = requiredName(request.name);
    const usages = usagesOf(request.volume_capabilities);
    const parameters = readParameters(request.parameters, request.mutable_parameters);
    const shape = shapeFor(usages, parameters);
    const { kind, fsType } = shape;
    const size = sizeRange(request.capacity_range, fsType);
    if (request.volume_content_source !== null) {
      throw invalidArgument('Volumes cannot be made from snapshots or other volumes yet.');
    }
    const topology = await this.#topologyFor(request);
    const { replicas, ackQuorum, commitIntervalMs, labels } = parameters;
    const info = await (await this.#volumes()).create({
      name: volumeNameFor(name),
      ...size,
      kind,
      ...(replicas === undefined ? {} : { replicas }),
      ...(ackQuorum === undefined ? {} : { ackQuorum }),
      ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
      ...(fsType === null ? {} : { fsType }),
      labels: { ...labels, [NAME_LABEL]: name },
    });
    if (info.labels[NAME_LABEL] !== name) {
      const message = `There is a volume "${info.name}" that was made by somebody else.`;
      throw new CsiError('ALREADY_EXISTS', message);
    }
    return { volume: volumeOf(info, topology) };
  }

  async #topologyFor(request: CreateVolumeRequest): Promise<readonly Topology[]> {
    const required = request.accessibility_requirements;
    return required === null ? [] : accessibleTopology(required, await this.#zones());
  }

  /** Of storage nodes and of machines that may use volumes. */
  async #zones(): Promise<string[]> {
    const volumes = await this.#volumes();
    const [storage, machines] = await Promise.all([volumes.zones(), volumes.machines()]);
    const zones = new Set<string>(storage);
    for (const { zone } of machines) if (zone !== null) zones.add(zone);
    return [...zones].sort();
  }

  async DeleteVolume(request: VolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    await (await this.#volumes()).remove(id);
    return {};
  }

  async ControllerPublishVolume(request: ControllerPublishVolumeRequest) {
    const id = requiredVolumeId(request.volume_id);
    const machine = requiredNodeId(request.node_id);
    const usage = usageOf(request.volume_capability);
    const info = await this.#existing(id);
    refuseMisuse(usage, info);
    const readOnly = request.readonly || usage.readOnly;
    await (await this.#volumes()).attach(id, machine, { readOnly });
    return { publish_context: {} };
  }

  async ControllerUnpublishVolume(request: ControllerUnpublishVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const one = request.node_id === '' ? null : requiredNodeId(request.node_id);
    const volumes = await this.#volumes();
    // Without a node: from all of them.
    const all = (await volumes.get(id))?.attachments.map(({ machine }) => machine) ?? [];
    for (const machine of one === null ? all : [one]) await volumes.detach(id, machine);
    return {};
  }

  async ValidateVolumeCapabilities(
    request: ValidateVolumeCapabilitiesRequest,
  ): Promise<ValidateVolumeCapabilitiesResponse> {
    const id = requiredVolumeId(request.volume_id);
    const { volume_capabilities, volume_context, parameters, mutable_parameters } = request;
    if (volume_capabilities.length === 0) throw invalidArgument('volume_capabilities are missing.');
    const info = await this.#existing(id);
    try {
      for (const usage of usagesOf(volume_capabilities)) refuseMisuse(usage, info);
      refuseOtherParameters(request, info);
    } catch (thrown) {
      // Not confirmed is an answer, not a fault.
      if (!(thrown instanceof CsiError || thrown instanceof HoldfastError)) throw thrown;
      return { message: thrown.message };
    }
    const confirmed = { volume_context, volume_capabilities, parameters, mutable_parameters };
    return { confirmed, message: '' };
  }

  async ListVolumes(request: ListVolumesRequest) {
    const { max_entries: limit, starting_token: token } = request;
    if (limit < 0) throw invalidArgument(`max_entries is ${limit}.`);
    const options = { ...(limit === 0 ? {} : { limit }), ...(token === '' ? {} : { token }) };
    try {
      const { volumes, next } = await (await this.#volumes()).list(options);
      return { entries: volumes.map(listed), next_token: next ?? '' };
    } catch (thrown) {
      const isToken = thrown instanceof HoldfastError && thrown.code === 'INVALID_ARGUMENT';
      if (!isToken || token === '') throw thrown;
      throw new CsiError('ABORTED', 'starting_token is of no list; begin again without one.');
    }
  }

  async GetCapacity(request: GetCapacityRequest) {
    const usages = request.volume_capabilities.map(usageOf);
    const parameters = readParameters(request.parameters);
    const { fsType } = shapeFor(usages, parameters);
    const { replicas } = parameters;
    const volumes = await this.#volumes();
    const capacity = await volumes.capacity(replicas === undefined ? {} : { replicas });
    const isHere = isPossible(request.accessible_topology, await this.#zones());
    const least = sizeRange({ required_bytes: '1', limit_bytes: '0' }, fsType).sizeBytes;
    return {
      available_capacity: isHere ? capacity.availableBytes : 0,
      maximum_volume_size: { value: Math.min(VOLUME_MAX_BYTES, capacity.maximumVolumeBytes) },
      minimum_volume_size: { value: Math.max(VOLUME_MIN_BYTES, least) },
    };
  }

  async ControllerExpandVolume(request: ControllerExpandVolumeRequest) {
    const id = requiredVolumeId(request.volume_id);
    const { capacity_range, volume_capability } = request;
    if (capacity_range === null) throw invalidArgument('capacity_range is missing.');
    const usage = volume_capability === null ? null : usageOf(volume_capability);
    const before = await this.#existing(id);
    const size = sizeRange(capacity_range, before.fsType, before.sizeBytes);
    if (usage !== null) refuseMisuse(usage, before);
    if (before.sizeBytes > size.limitBytes) {
      const message = `The volume has ${before.sizeBytes} bytes and cannot shrink.`;
      throw new CsiError('OUT_OF_RANGE', message);
    }
    const sizeBytes = Math.max(before.sizeBytes, size.sizeBytes);
    const info = await (await this.#volumes()).expand(id, sizeBytes);
    return { capacity_bytes: info.sizeBytes, node_expansion_required: true };
  }

  async ControllerGetVolume(request: VolumeRequest): Promise<ListedVolume> {
    return listed(await this.#existing(requiredVolumeId(request.volume_id)));
  }

  async ControllerModifyVolume(request: ControllerModifyVolumeRequest): Promise<object> {
    const id = requiredVolumeId(request.volume_id);
    const settings = readMutable(request.mutable_parameters);
    await this.#existing(id);
    if (Object.keys(settings).length > 0) await (await this.#volumes()).modify(id, settings);
    return {};
  }

  async #existing(id: string): Promise<VolumeInfo> {
    const info = await (await this.#volumes()).get(id);
    if (info === null) throw noVolume(id);
    return info;
  }
}

/** Throws INVALID_ARGUMENT. */
export function refuseMisuse(usage: Usage, info: VolumeInfo): void {
  const why = misuse(usage, info);
  if (why !== null) throw invalidArgument(why);
}

function refuseOtherParameters(request: ValidateVolumeCapabilitiesRequest, info: VolumeInfo): void {
  const wanted = readParameters(request.parameters, request.mutable_parameters);
  const { replicas = info.replicas, kind, ackQuorum } = wanted;
  if (replicas !== info.replicas)
    throw invalidArgument(`The volume has ${info.replicas} replicas.`);
  if (kind !== null && kind !== info.kind) throw invalidArgument(`The volume is a ${info.kind}.`);
  const ack = info.nextAckQuorum ?? info.ackQuorum;
  if (ackQuorum !== undefined && ackQuorum !== ack) {
    throw invalidArgument(`The volume's ack is ${ack}.`);
  }
}

function volumeOf(info: VolumeInfo, topology: readonly Topology[] = []): Volume {
  return {
    capacity_bytes: info.sizeBytes,
    volume_id: info.id,
    volume_context: { name: info.name, type: info.kind },
    accessible_topology: topology,
  };
}

function listed(info: VolumeInfo): ListedVolume {
  return {
    volume: volumeOf(info),
    status: {
      published_node_ids: info.attachments.map(({ machine }) => machine),
      volume_condition: info.condition,
    },
  };
}
