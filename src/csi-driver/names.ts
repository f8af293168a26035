/**
 * An orchestrator may call a volume anything; a volume's name is a piece of keys, paths and unit
 * names. A name that is fit stays what it is, so that people find "pvc-…" again; any other becomes
 * what is readable of it and a piece of its hash. The full name stands in a label, and decides.
 */
import { createHash } from 'node:crypto';

export const NAME_LABEL = 'csi.holdfast.io/name';

const READABLE_MAX = 80;
const HASH_DIGITS = 32;
/** As metadata/names.ts has it, and lower than its limit in length. */
const FIT = /^[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?$/;

/** A volume name, the same for the same `name` and different for any other. */
export function volumeNameFor(name: string): string {
  if (FIT.test(name)) return name;
  const readable = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, READABLE_MAX)
    .replace(/^-+|-+$/g, '');
  const hash = createHash('sha256').update(name).digest('hex').slice(0, HASH_DIGITS);
  return readable === '' ? `csi-${hash}` : `${readable}-${hash}`;
}
