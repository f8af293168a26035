/**
 * HOLDFAST_PROTOCOL, as "1" or "1-2": the protocol versions that a process speaks, instead of all
 * that it knows. For tests of clusters of several versions; a process that speaks an older one
 * neither sends nor takes what came later, as if it were the older program.
 */
import type { VersionRange } from '../block/wire/handshake.js';
import { invalid } from '../core/errors.js';
import type { Environment } from './config.js';

/** Undefined when all are spoken. Throws INVALID_ARGUMENT. */
export function spokenVersions(env: Environment): VersionRange | undefined {
  const { HOLDFAST_PROTOCOL: text } = env;
  if (text === undefined) return undefined;
  const [, min, max = min] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(text) ?? [];
  const range = { min: Number(min), max: Number(max) };
  if (range.min >= 1 && range.max >= range.min) return range;
  throw invalid(`HOLDFAST_PROTOCOL "${text}" is no protocol version and no range of them`);
}
