/**
 * What an orchestrator wants to do with a volume: as a directory or as a device, with which
 * filesystem, by how many. Multi-node modes are refused: a volume has one owner.
 */
import { BLOCK_FILESYSTEMS, type BlockFilesystem } from '../lifecycle/volume-types.js';
import { invalidArgument } from './checks.js';
import { AccessMode, type VolumeCapability } from './messages.js';

/** Holdfast's own filesystem, as `fs_type` may name it. */
const NATIVE_NAMES: readonly string[] = ['holdfast', 'fuse.holdfast'];
const GROUP_MAX = 2 ** 32 - 2;

export interface Usage {
  readonly access: 'mount' | 'block';
  /** 'native': Holdfast's own; null: whatever the volume has. */
  readonly fsType: BlockFilesystem | 'native' | null;
  readonly flags: readonly string[];
  /** The group that is to be able to use everything. */
  readonly group: number | null;
  readonly readOnly: boolean;
  /** At one path of one machine only. */
  readonly exclusive: boolean;
}

const MODE_NAMES = new Map<number, string>(Object.entries(AccessMode).map(([k, v]) => [v, k]));
const MODES: ReadonlySet<number> = new Set([
  AccessMode.SINGLE_NODE_WRITER,
  AccessMode.SINGLE_NODE_READER_ONLY,
  AccessMode.SINGLE_NODE_SINGLE_WRITER,
  AccessMode.SINGLE_NODE_MULTI_WRITER,
]);

/** Throws INVALID_ARGUMENT for what is missing and for what no volume can do. */
export function usageOf(capability: VolumeCapability | null): Usage {
  if (capability === null) throw invalidArgument('volume_capability is missing.');
  const { block, mount, access_mode } = capability;
  if (block === undefined && mount === undefined) {
    throw invalidArgument('volume_capability says neither block nor mount.');
  }
  const mode = access_mode?.mode ?? AccessMode.UNKNOWN;
  if (!MODES.has(mode)) {
    if (mode === AccessMode.UNKNOWN) throw invalidArgument('The access mode is missing.');
    const name = MODE_NAMES.get(mode) ?? String(mode);
    throw invalidArgument(`Access mode ${name}: a volume can be used on one node at a time only.`);
  }
  return {
    access: mount === undefined ? 'block' : 'mount',
    fsType: filesystemOf(mount?.fs_type ?? ''),
    flags: (mount?.mount_flags ?? []).filter((flag) => flag !== 'rw' && flag !== 'ro'),
    group: groupOf(mount?.volume_mount_group ?? ''),
    readOnly:
      mode === AccessMode.SINGLE_NODE_READER_ONLY || mount?.mount_flags.includes('ro') === true,
    exclusive: mode === AccessMode.SINGLE_NODE_SINGLE_WRITER,
  };
}

/** Of the list in CreateVolume and ValidateVolumeCapabilities, which must not be empty. */
export function usagesOf(capabilities: readonly VolumeCapability[]): readonly Usage[] {
  if (capabilities.length === 0) throw invalidArgument('volume_capabilities are missing.');
  return capabilities.map(usageOf);
}

/** Null for ''. */
export function filesystemOf(name: string): Usage['fsType'] {
  if (name === '') return null;
  if (NATIVE_NAMES.includes(name)) return 'native';
  if ((BLOCK_FILESYSTEMS as readonly string[]).includes(name)) return name as BlockFilesystem;
  const known = ['holdfast', ...BLOCK_FILESYSTEMS].join(', ');
  throw invalidArgument(`There is no filesystem "${name}": ${known} are known.`);
}

function groupOf(text: string): number | null {
  if (text === '') return null;
  if (/^\d{1,10}$/.test(text) && Number(text) <= GROUP_MAX) return Number(text);
  throw invalidArgument(`volume_mount_group "${text}" is not the number of a group.`);
}
