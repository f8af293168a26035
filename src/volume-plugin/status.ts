/** What `docker volume inspect` shows of a volume under "Status": for people, in their units. */
import { formatSize } from '../core/sizes.js';
import type { MachineVolume, VolumeInfo } from '../lifecycle/volume-types.js';
import { isReadOnly, labelsOf } from './options.js';

export interface StatusFacts {
  readonly info: VolumeInfo;
  /** Null: not mounted on this machine. */
  readonly here: MachineVolume | null;
  /** How many of this machine's containers use it. */
  readonly callers: number;
}

export function statusOf({ info, here, callers }: StatusFacts): Readonly<Record<string, unknown>> {
  const live = here?.mount.live ?? null;
  const labels = labelsOf(info);
  return {
    id: info.id,
    type: info.kind,
    ...(info.fsType === null ? {} : { fsType: info.fsType }),
    size: formatSize(info.sizeBytes),
    // Only its owner knows, and it answers on its own machine.
    ...(live === null ? {} : { used: formatSize(live.usedBytes) }),
    ...(live === null ? {} : { notYetCommitted: formatSize(live.dirtyBytes) }),
    replicas: info.replicas,
    ack: info.ackQuorum,
    readOnly: isReadOnly(info),
    ...(info.commitIntervalMs === null
      ? {}
      : { commitInterval: `${info.commitIntervalMs / 1000} s` }),
    health: healthOf(info, here),
    mounted: mountedText(info),
    containersHere: callers,
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
  };
}

function healthOf(info: VolumeInfo, here: MachineVolume | null): string {
  const seen = [info.condition, ...(here === null ? [] : [here.condition])];
  return (seen.find(({ abnormal }) => abnormal) ?? info.condition).message;
}

function mountedText({ mounted, held, attachments }: VolumeInfo): string {
  if (mounted !== null) {
    const { machine, directory, since } = mounted;
    return `on ${machine} at ${directory} since ${since}`;
  }
  const [attached] = attachments;
  if (attached !== undefined) return `no; reserved for ${attached.machine}`;
  return held ? 'no; its last machine did not release it' : 'no';
}
