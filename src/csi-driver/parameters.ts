/**
 * The parameters of a StorageClass, and the mutable ones of a VolumeAttributesClass. What is not
 * known is refused: a misspelt word must not quietly make a volume that keeps less than was wanted.
 */
import { parseSeconds } from '../core/durations.js';
import type { BlockFilesystem, VolumeKind, VolumeSettings } from '../lifecycle/volume-types.js';
import { filesystemOf, type Usage } from './capability.js';
import { boundedMap, invalidArgument } from './checks.js';
import type { Text } from './messages.js';

const KINDS: readonly VolumeKind[] = ['filesystem', 'block'];
const OWN = ['replicas', 'ack', 'type', 'fsType', 'commitInterval'] as const;
const MUTABLE = ['ack', 'commitInterval'] as const;
/** What Kubernetes adds by itself. */
const ORCHESTRATOR = 'csi.storage.k8s.io/';
const ORCHESTRATOR_FSTYPE = `${ORCHESTRATOR}fstype`;
/** Says which claim a volume is for: worth keeping, so that people find it again. */
const KEPT = ['pvc/name', 'pvc/namespace', 'pv/name'].map((name) => ORCHESTRATOR + name);

export interface Parameters extends VolumeSettings {
  readonly replicas?: number;
  readonly kind: VolumeKind | null;
  readonly fsType: Usage['fsType'];
  readonly labels: Text;
}

/** Throws INVALID_ARGUMENT naming the parameter. */
export function readParameters(parameters: Text, mutable: Text = {}): Parameters {
  boundedMap('parameters', parameters);
  const own: Record<string, string> = {};
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(parameters)) {
    if (KEPT.includes(key)) labels[key] = value;
    else if (key === ORCHESTRATOR_FSTYPE) own.fsType ??= value;
    else if (!key.startsWith(ORCHESTRATOR)) own[known(key, OWN)] = value;
  }
  const { replicas, type, fsType = '' } = own;
  // What the attributes class says holds over the storage class.
  const settings = { ...readSettings(own), ...readMutable(mutable) };
  return {
    ...settings,
    ...(replicas === undefined ? {} : { replicas: wholeNumber('replicas', replicas) }),
    kind: type === undefined ? null : kindOf(type),
    fsType: filesystemOf(fsType),
    labels,
  };
}

/** Throws INVALID_ARGUMENT naming the parameter. */
export function readMutable(parameters: Text): VolumeSettings {
  boundedMap('mutable_parameters', parameters);
  for (const key of Object.keys(parameters)) known(key, MUTABLE);
  return readSettings(parameters);
}

function readSettings({ ack, commitInterval }: Text): VolumeSettings {
  return {
    ...(ack === undefined ? {} : { ackQuorum: wholeNumber('ack', ack) }),
    ...(commitInterval === undefined
      ? {}
      : { commitIntervalMs: parseSeconds(commitInterval, 'commitInterval') }),
  };
}

function known(key: string, names: readonly string[]): string {
  if (names.includes(key)) return key;
  throw invalidArgument(`Parameter "${key}" is not known; ${names.join(', ')} are.`);
}

function kindOf(text: string): VolumeKind {
  const kind = KINDS.find((one) => one === text);
  if (kind !== undefined) return kind;
  throw invalidArgument(`type is "${text}"; ${KINDS.join(' or ')} is meant.`);
}

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw invalidArgument(`${name} is "${text}"; a small whole number is meant.`);
}

export interface VolumeShape {
  readonly kind: VolumeKind;
  readonly fsType: BlockFilesystem | null;
}

/**
 * The one kind and filesystem that serve all that is wanted of a volume. Throws INVALID_ARGUMENT
 * where nothing does.
 */
export function shapeFor(usages: readonly Usage[], parameters: Parameters): VolumeShape {
  const wanted = [parameters.fsType, ...usages.map(({ fsType }) => fsType)];
  const filesystems = new Set(wanted.filter((one) => one !== null));
  const [first = null, second] = filesystems;
  if (second !== undefined) {
    throw invalidArgument(`One volume cannot have the filesystems ${[...filesystems].join(', ')}.`);
  }
  const needsBlock = usages.some(({ access }) => access === 'block');
  const isFormatted = first !== null && first !== 'native';
  const kind = parameters.kind ?? (needsBlock || isFormatted ? 'block' : 'filesystem');
  if (kind === 'filesystem' && (needsBlock || isFormatted)) {
    const what = needsBlock ? 'be used as a block device' : `have the filesystem ${first}`;
    throw invalidArgument(`A volume with type "filesystem" cannot ${what}; leave type out.`);
  }
  if (kind === 'block' && first === 'native') {
    throw invalidArgument('A volume with type "block" cannot have the filesystem "holdfast".');
  }
  return { kind, fsType: isFormatted ? first : null };
}

/** Why a volume that exists cannot be used so; null: it can. */
export function misuse(usage: Usage, { kind, fsType }: VolumeShape): string | null {
  if (kind === 'filesystem') {
    if (usage.access === 'block') return 'The volume is a filesystem, not a block device.';
    const isOther = usage.fsType !== null && usage.fsType !== 'native';
    return isOther ? `The volume has Holdfast's own filesystem, not ${usage.fsType}.` : null;
  }
  if (usage.access === 'block' || usage.fsType === null) return null;
  if (usage.fsType === 'native')
    return "The volume is a block device without Holdfast's own files.";
  const isSame = fsType === null || fsType === usage.fsType;
  return isSame ? null : `The volume has the filesystem ${fsType}, not ${usage.fsType}.`;
}
