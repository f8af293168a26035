/** How large a volume is to be: the standard's ranges, and what volumes can be. */
import { VOLUME_MAX_BYTES, VOLUME_MIN_BYTES } from '../core/limits.js';
import { GIB, MIB, PAGE_BYTES } from '../core/units.js';
import type { BlockFilesystem } from '../lifecycle/volume-types.js';
import { invalidArgument } from './checks.js';
import { CsiError } from './errors.js';
import type { CapacityRange } from './messages.js';

/** For who does not say. */
const DEFAULT_BYTES = GIB;
/** What mkfs refuses to go below. */
const LEAST_BYTES: Readonly<Record<BlockFilesystem, number>> = { ext4: 16 * MIB, xfs: 300 * MIB };

export interface SizeRange {
  /** What to make: the least that will do. */
  readonly sizeBytes: number;
  /** The most that is wanted. */
  readonly limitBytes: number;
}

/** Throws INVALID_ARGUMENT, or OUT_OF_RANGE for what no volume can be. */
export function sizeRange(
  range: CapacityRange | null,
  fsType: BlockFilesystem | null = null,
  defaultBytes = DEFAULT_BYTES,
): SizeRange {
  const required = bytes('required_bytes', range?.required_bytes ?? '0');
  const limit = bytes('limit_bytes', range?.limit_bytes ?? '0');
  if (limit !== 0 && limit < required) {
    throw invalidArgument(`limit_bytes ${limit} is less than required_bytes ${required}.`);
  }
  const least = fsType === null ? VOLUME_MIN_BYTES : LEAST_BYTES[fsType];
  const most = limit === 0 ? VOLUME_MAX_BYTES : Math.min(limit, VOLUME_MAX_BYTES);
  const wanted = required === 0 ? Math.min(defaultBytes, most) : required;
  const sizeBytes = Math.ceil(Math.max(wanted, least) / PAGE_BYTES) * PAGE_BYTES;
  if (sizeBytes <= most) return { sizeBytes, limitBytes: most };
  const what = fsType === null ? 'A volume' : `A volume with ${fsType}`;
  const can = `${what} has ${least} to ${VOLUME_MAX_BYTES} bytes, in steps of ${PAGE_BYTES}`;
  const asked = limit === 0 ? `${required} or more` : `${required} to ${limit}`;
  throw new CsiError('OUT_OF_RANGE', `${can}; ${asked} were asked for.`);
}

/** Beyond 2^53 the last digits do not matter: no volume is that large. */
function bytes(field: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw invalidArgument(`${field} is ${text}.`);
}
