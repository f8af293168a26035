/**
 * What volumes there are on this machine, put together from the mounts' state directories, the
 * kernel's table of mounts and its loop devices. Pure: what was read comes in.
 */
import { isId, type VolumeId } from '../core/ids.js';
import { MOUNT_TYPE, mountAt } from '../fuse/launcher.js';
import type { MountEntry } from '../io/fuse-device.js';
import type { LoopDevice } from './loop-devices.js';
import { blockFile } from './loop-devices.js';
import type { MountStatus } from './mount-types.js';
import type { Condition, MachineVolume } from './volume-types.js';
import { BLOCK_FILESYSTEMS } from './volume-types.js';

/** The table's name for what /dev is made of, where a bound device node comes from. */
const DEVICE_FILES = 'devtmpfs';

/** How this machine was found. */
export interface Findings {
  readonly statuses: readonly MountStatus[];
  readonly table: readonly MountEntry[];
  readonly loops: readonly LoopDevice[];
  /** MAJOR:MINOR of a mount, by its id; null before it is mounted. */
  readonly deviceOf: (mount: string) => string | null;
  /** Below it block volumes are mounted, each at a directory named by its id. */
  readonly blockRoot: string;
}

/** One volume, with the entries of the table that show it. */
export interface Found extends MachineVolume {
  readonly loop: LoopDevice | null;
  /** Where its files are seen; also those of a mount before this one, which can only fail. */
  readonly entries: readonly MountEntry[];
}

export function volumesHere(findings: Findings): Found[] {
  const { statuses, blockRoot } = findings;
  const found = statuses.map((status) =>
    status.directory.startsWith(`${blockRoot}/`)
      ? blockVolume(findings, status)
      : fileVolume(findings, status),
  );
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function fileVolume({ table, deviceOf }: Findings, status: MountStatus): Found {
  const { volume: name, volumeId: id, directory, readOnly } = status;
  const device = deviceOf(status.mount);
  const entries = table.filter((one) => one.device === device && one.type === MOUNT_TYPE);
  const targets = entries.map(({ mountPoint }) => mountPoint).filter((one) => one !== directory);
  const shown = device !== null && mountAt(table, directory)?.device === device;
  return {
    ...{ name, id, kind: 'filesystem', directory, device: null, fsType: null, readOnly, targets },
    ...{ shown, condition: conditionOf(status), mount: status, loop: null, entries },
  };
}

function blockVolume({ table, loops }: Findings, status: MountStatus): Found {
  const { volume: name, directory: below } = status;
  const named = below.slice(below.lastIndexOf('/') + 1);
  // Before its daemon knows, the directory does.
  const volumeId = status.volumeId ?? (isId(named) ? (named as VolumeId) : null);
  // A mount that ended leaves its device, and what is mounted of that, to who uses it.
  const all = loops.filter(({ id }) => id === named);
  const loop = all.find(({ file, id }) => file === blockFile(below, id)) ?? null;
  const entries = table.filter((one) => all.some((each) => shows(one, each)));
  const filesystem = entries.find(({ device }) => device === loop?.number);
  const directory = filesystem?.mountPoint ?? null;
  const fsType = BLOCK_FILESYSTEMS.find((one) => one === filesystem?.type) ?? null;
  const targets = entries.map(({ mountPoint }) => mountPoint).filter((one) => one !== directory);
  const readOnly = loop?.readOnly ?? filesystem?.readOnly ?? status.readOnly;
  return {
    ...{ name, id: volumeId, kind: 'block', directory, device: loop?.device ?? null, fsType },
    ...{ readOnly, targets, condition: conditionOf(status), mount: status, loop, entries },
  };
}

/** Whether a mount shows the filesystem on a device, or the device itself. */
export function shows(entry: MountEntry, loop: LoopDevice): boolean {
  return entry.device === loop.number || isDeviceFile(entry, loop);
}

export function isDeviceFile(entry: MountEntry, { device }: LoopDevice): boolean {
  return entry.type === DEVICE_FILES && `/dev${entry.root}` === device;
}

/**
 * Whether who goes to its directory or device now finds the volume there, if need be after a wait.
 * What is starting is not there yet, and what is stopping may be gone at any moment: below either
 * is a directory of the machine's own disk.
 */
export function isServed({ mount, shown }: Pick<MachineVolume, 'mount' | 'shown'>): boolean {
  return (mount.state === 'mounted' || mount.state === 'adopting') && shown !== false;
}

function conditionOf({ state, live, logFile }: MountStatus): Condition {
  switch (state) {
    case 'mounted': {
      const since = live?.waitingSince ?? null;
      if (since === null) return { abnormal: false, message: 'it is served' };
      return { abnormal: true, message: `it waits for its nodes since ${since}` };
    }
    case 'adopting':
      return { abnormal: false, message: `it gets another daemon: ${live?.detail ?? 'starting'}` };
    case 'starting':
    case 'stopping':
      return { abnormal: false, message: `its mount is ${state}` };
    case 'failed':
      return {
        abnormal: true,
        message: `it has lost its volume: ${live?.detail ?? 'see its log'}`,
      };
    default:
      return { abnormal: true, message: `its daemon is ${state}; see ${logFile}` };
  }
}

/** Without what is of use in here alone. */
export function publicView({ loop: _, entries: __, ...rest }: Found): MachineVolume {
  return rest;
}
