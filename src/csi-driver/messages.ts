/**
 * The messages of csi.proto as the driver's code sees them, with the names that the standard gives
 * them. Whatever a caller leaves out arrives as '', 0, false, [] or {}, a missing message as null,
 * of alternatives only the one that was chosen; 64-bit numbers arrive as decimal text and may be
 * answered as numbers. Secrets arrive too and are never looked at, so they have no place here.
 */
export type Int64 = string;
export type Text = Readonly<Record<string, string>>;

export const AccessMode = {
  UNKNOWN: 0,
  SINGLE_NODE_WRITER: 1,
  SINGLE_NODE_READER_ONLY: 2,
  MULTI_NODE_READER_ONLY: 3,
  MULTI_NODE_SINGLE_WRITER: 4,
  MULTI_NODE_MULTI_WRITER: 5,
  SINGLE_NODE_SINGLE_WRITER: 6,
  SINGLE_NODE_MULTI_WRITER: 7,
} as const;

export interface VolumeCapability {
  readonly block?: object;
  readonly mount?: {
    readonly fs_type: string;
    readonly mount_flags: readonly string[];
    readonly volume_mount_group: string;
  };
  readonly access_mode: { readonly mode: number } | null;
}

export interface CapacityRange {
  readonly required_bytes: Int64;
  readonly limit_bytes: Int64;
}

export interface Topology {
  readonly segments: Text;
}

export interface TopologyRequirement {
  readonly requisite: readonly Topology[];
  readonly preferred: readonly Topology[];
}

export interface Volume {
  readonly capacity_bytes: number;
  readonly volume_id: string;
  readonly volume_context: Text;
  readonly accessible_topology: readonly Topology[];
}

export interface VolumeCondition {
  readonly abnormal: boolean;
  readonly message: string;
}

export interface VolumeStatus {
  readonly published_node_ids: readonly string[];
  readonly volume_condition: VolumeCondition;
}

export const PluginService = {
  CONTROLLER_SERVICE: 1,
  VOLUME_ACCESSIBILITY_CONSTRAINTS: 2,
} as const;
export const VolumeExpansion = { ONLINE: 1 } as const;

export type PluginCapability =
  | { readonly service: { readonly type: number } }
  | { readonly volume_expansion: { readonly type: number } };

export interface Identity {
  GetPluginInfo(request: object): Promise<{
    readonly name: string;
    readonly vendor_version: string;
    readonly manifest: Text;
  }>;
  GetPluginCapabilities(request: object): Promise<{
    readonly capabilities: readonly PluginCapability[];
  }>;
  Probe(request: object): Promise<{ readonly ready: { readonly value: boolean } }>;
}

export interface CreateVolumeRequest {
  readonly name: string;
  readonly capacity_range: CapacityRange | null;
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Text;
  readonly volume_content_source: object | null;
  readonly accessibility_requirements: TopologyRequirement | null;
  readonly mutable_parameters: Text;
}

/** Of calls that say nothing more than which volume they are about. */
export interface VolumeRequest {
  readonly volume_id: string;
}

export interface ControllerPublishVolumeRequest extends VolumeRequest {
  readonly node_id: string;
  readonly volume_capability: VolumeCapability | null;
  readonly readonly: boolean;
}

export interface ControllerUnpublishVolumeRequest extends VolumeRequest {
  readonly node_id: string;
}

export interface ValidateVolumeCapabilitiesRequest extends VolumeRequest {
  readonly volume_context: Text;
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Text;
  readonly mutable_parameters: Text;
}

export interface ValidateVolumeCapabilitiesResponse {
  readonly confirmed?: {
    readonly volume_context: Text;
    readonly volume_capabilities: readonly VolumeCapability[];
    readonly parameters: Text;
    readonly mutable_parameters: Text;
  };
  readonly message: string;
}

export interface ListVolumesRequest {
  readonly max_entries: number;
  readonly starting_token: string;
}

export interface ListedVolume {
  readonly volume: Volume;
  readonly status: VolumeStatus;
}

export interface GetCapacityRequest {
  readonly volume_capabilities: readonly VolumeCapability[];
  readonly parameters: Text;
  readonly accessible_topology: Topology | null;
}

export interface GetCapacityResponse {
  readonly available_capacity: number;
  readonly maximum_volume_size: { readonly value: number };
  readonly minimum_volume_size: { readonly value: number };
}

export interface RpcCapability {
  readonly rpc: { readonly type: number };
}

export const ControllerRpc = {
  CREATE_DELETE_VOLUME: 1,
  PUBLISH_UNPUBLISH_VOLUME: 2,
  LIST_VOLUMES: 3,
  GET_CAPACITY: 4,
  PUBLISH_READONLY: 8,
  EXPAND_VOLUME: 9,
  LIST_VOLUMES_PUBLISHED_NODES: 10,
  VOLUME_CONDITION: 11,
  GET_VOLUME: 12,
  SINGLE_NODE_MULTI_WRITER: 13,
  MODIFY_VOLUME: 14,
} as const;

export interface ControllerExpandVolumeRequest extends VolumeRequest {
  readonly capacity_range: CapacityRange | null;
  readonly volume_capability: VolumeCapability | null;
}

export interface ControllerModifyVolumeRequest extends VolumeRequest {
  readonly mutable_parameters: Text;
}

export interface Controller {
  CreateVolume(request: CreateVolumeRequest): Promise<{ readonly volume: Volume }>;
  DeleteVolume(request: VolumeRequest): Promise<object>;
  ControllerPublishVolume(request: ControllerPublishVolumeRequest): Promise<{
    readonly publish_context: Text;
  }>;
  ControllerUnpublishVolume(request: ControllerUnpublishVolumeRequest): Promise<object>;
  ValidateVolumeCapabilities(
    request: ValidateVolumeCapabilitiesRequest,
  ): Promise<ValidateVolumeCapabilitiesResponse>;
  ListVolumes(request: ListVolumesRequest): Promise<{
    readonly entries: readonly ListedVolume[];
    readonly next_token: string;
  }>;
  GetCapacity(request: GetCapacityRequest): Promise<GetCapacityResponse>;
  ControllerGetCapabilities(request: object): Promise<{
    readonly capabilities: readonly RpcCapability[];
  }>;
  ControllerExpandVolume(request: ControllerExpandVolumeRequest): Promise<{
    readonly capacity_bytes: number;
    readonly node_expansion_required: boolean;
  }>;
  ControllerGetVolume(request: VolumeRequest): Promise<ListedVolume>;
  ControllerModifyVolume(request: ControllerModifyVolumeRequest): Promise<object>;
}

export interface NodeStageVolumeRequest extends VolumeRequest {
  readonly staging_target_path: string;
  readonly volume_capability: VolumeCapability | null;
}

export interface NodeUnstageVolumeRequest extends VolumeRequest {
  readonly staging_target_path: string;
}

export interface NodePublishVolumeRequest extends NodeStageVolumeRequest {
  readonly target_path: string;
  readonly readonly: boolean;
}

export interface NodeUnpublishVolumeRequest extends VolumeRequest {
  readonly target_path: string;
}

export interface NodeGetVolumeStatsRequest extends VolumeRequest {
  readonly volume_path: string;
}

export const UsageUnit = { BYTES: 1, INODES: 2 } as const;

export interface VolumeUsage {
  readonly available: number;
  readonly total: number;
  readonly used: number;
  readonly unit: number;
}

export interface NodeExpandVolumeRequest extends VolumeRequest {
  readonly volume_path: string;
  readonly capacity_range: CapacityRange | null;
  readonly volume_capability: VolumeCapability | null;
}

export const NodeRpc = {
  STAGE_UNSTAGE_VOLUME: 1,
  GET_VOLUME_STATS: 2,
  EXPAND_VOLUME: 3,
  VOLUME_CONDITION: 4,
  SINGLE_NODE_MULTI_WRITER: 5,
  VOLUME_MOUNT_GROUP: 6,
} as const;

export interface Node {
  NodeStageVolume(request: NodeStageVolumeRequest): Promise<object>;
  NodeUnstageVolume(request: NodeUnstageVolumeRequest): Promise<object>;
  NodePublishVolume(request: NodePublishVolumeRequest): Promise<object>;
  NodeUnpublishVolume(request: NodeUnpublishVolumeRequest): Promise<object>;
  NodeGetVolumeStats(request: NodeGetVolumeStatsRequest): Promise<{
    readonly usage: readonly VolumeUsage[];
    readonly volume_condition: VolumeCondition;
  }>;
  NodeExpandVolume(request: NodeExpandVolumeRequest): Promise<{ readonly capacity_bytes: number }>;
  NodeGetCapabilities(request: object): Promise<{
    readonly capabilities: readonly RpcCapability[];
  }>;
  NodeGetInfo(request: object): Promise<{
    readonly node_id: string;
    readonly max_volumes_per_node: number;
    readonly accessible_topology: Topology;
  }>;
}
