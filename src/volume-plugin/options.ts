/**
 * The options of `docker volume create -o KEY=VALUE`: what a new volume is to be, checked here, and
 * whether one that exists is what was asked for. What is not known is refused: a misspelt option
 * must not be a volume without it.
 */

import { parseSeconds } from '../core/durations.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { formatSize, parseSize } from '../core/sizes.js';
import {
  BLOCK_FILESYSTEMS,
  type BlockFilesystem,
  type CreateVolume,
  type VolumeInfo,
} from '../lifecycle/volume-types.js';

/** Labels that begin so are this plugin's own. */
const OWN_LABELS = 'docker.';
const READ_ONLY_LABEL = `${OWN_LABELS}read-only`;
const LABEL = 'label.';

export interface VolumeDefaults {
  readonly sizeBytes: number;
  readonly replicas: number;
}

/** What was asked for; undefined where nothing was said. */
export interface AskedOptions {
  readonly sizeBytes?: number;
  readonly replicas?: number;
  readonly ackQuorum?: number;
  readonly kind?: 'filesystem' | 'block';
  readonly fsType?: BlockFilesystem;
  readonly commitIntervalMs?: number;
  readonly readOnly?: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

type Parser = (value: string) => Omit<AskedOptions, 'labels'>;

const PARSERS: Readonly<Record<string, Parser>> = {
  size: (value) => ({ sizeBytes: parseSize(value, 'size') }),
  replicas: (value) => ({ replicas: wholeNumber('replicas', value) }),
  ack: (value) => ({ ackQuorum: wholeNumber('ack', value) }),
  type: (value) => ({ kind: oneOf('type', value, ['filesystem', 'block']) }),
  'fs-type': (value) => ({ fsType: oneOf('fs-type', value, BLOCK_FILESYSTEMS) }),
  'read-only': (value) => ({ readOnly: oneOf('read-only', value, ['true', 'false']) === 'true' }),
  'commit-interval': (value) => ({ commitIntervalMs: parseSeconds(value, 'commit-interval') }),
};

/** Throws INVALID_ARGUMENT. */
export function parseOptions(options: Readonly<Record<string, string>>): AskedOptions {
  let asked: Omit<AskedOptions, 'labels'> = {};
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith(LABEL)) labels[labelKey(key)] = value;
    else if (Object.hasOwn(PARSERS, key)) asked = { ...asked, ...PARSERS[key]?.(value) };
    else throw unknownOption(key);
  }
  if (asked.fsType !== undefined && asked.kind !== 'block') {
    throw invalid('fs-type is for block volumes only', 'Add type=block, or leave fs-type out.');
  }
  return { ...asked, labels };
}

/** Of a new volume. */
export function wantedVolume(
  name: string,
  asked: AskedOptions,
  defaults: VolumeDefaults,
): CreateVolume {
  const { readOnly, labels, ...rest } = asked;
  const own = readOnly === true ? { [READ_ONLY_LABEL]: 'true' } : {};
  return { ...defaults, ...rest, name, labels: { ...labels, ...own } };
}

export function isReadOnly({ labels }: VolumeInfo): boolean {
  return labels[READ_ONLY_LABEL] === 'true';
}

/** Without what this plugin notes for itself. */
export function labelsOf({ labels }: VolumeInfo): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !key.startsWith(OWN_LABELS)));
}

/** Throws ALREADY_EXISTS saying what a volume of this name has instead of what was asked for. */
export function refuseOther(found: VolumeInfo, asked: AskedOptions): void {
  const { labels, readOnly, ...rest } = asked;
  const has = { ...found, readOnly: isReadOnly(found) };
  const facts = { ...rest, ...(readOnly === undefined ? {} : { readOnly }) };
  const others = (Object.keys(facts) as (keyof typeof facts)[])
    .filter((key) => facts[key] !== has[key])
    .map((key) => `${TEXTS[key].what} ${TEXTS[key].of(has[key])}`);
  const otherLabels = Object.keys(labels)
    .filter((key) => found.labels[key] !== labels[key])
    .map((key) => `label ${key} ${found.labels[key] ?? 'not set'}`);
  const all = [...others, ...otherLabels];
  if (all.length === 0) return;
  const message = `a volume "${found.name}" exists with ${all.join(', ')}`;
  const hint = 'Ask for the same, or for another name.';
  throw new HoldfastError('ALREADY_EXISTS', message, { hint });
}

interface Wording {
  readonly what: string;
  of(value: unknown): string;
}

const plain = (what: string): Wording => ({ what, of: (value) => String(value ?? 'not set') });

const TEXTS: Readonly<Record<Exclude<keyof AskedOptions, 'labels'>, Wording>> = {
  sizeBytes: { what: 'size', of: (value) => formatSize(Number(value)) },
  replicas: plain('replicas'),
  ackQuorum: plain('ack'),
  kind: plain('type'),
  fsType: plain('fs-type'),
  readOnly: plain('read-only'),
  commitIntervalMs: {
    what: 'commit-interval',
    of: (value) => (value === null ? 'not set' : `${Number(value) / 1000} s`),
  },
};

function wholeNumber(what: string, value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value);
  throw invalid(`${what}: "${value.slice(0, 40)}" is not a whole number`);
}

function oneOf<T extends string>(what: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found !== undefined) return found;
  throw invalid(`${what}: "${value.slice(0, 40)}" is not ${allowed.join(' or ')}`);
}

function labelKey(option: string): string {
  const key = option.slice(LABEL.length);
  // JavaScript itself takes a property of that name for something else, and it would be lost.
  if (key === '' || key === '__proto__')
    throw invalid(`"${option}" names no label`, 'Write label.KEY=VALUE.');
  if (!key.startsWith(OWN_LABELS)) return key;
  throw invalid(`labels that begin with "${OWN_LABELS}" are the plugin's own: "${key}"`);
}

function unknownOption(key: string): HoldfastError {
  const known = [...Object.keys(PARSERS), `${LABEL}KEY`].join(', ');
  return invalid(`"${key.slice(0, 40)}" is no option of a volume`, `Options are ${known}.`);
}
