/**
 * Sealed segments of which some data was given up by `volume recover --accept-loss`: readers do not
 * wait for copies of them that do not answer. A key a volume, beside its record. It removes nothing
 * and hides nothing: a copy that comes back is read, and repaired from, as any other.
 */
import { z } from 'zod';
import { malformed } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { parseJson } from './encoding.js';
import { givenUpKey } from './keys.js';
import { METADATA_SCHEMA } from './model.js';
import type { MetadataStore } from './store.js';

const stored = z.object({
  schema: z.literal(METADATA_SCHEMA),
  /** When the loss was last accepted, ISO 8601. */
  at: z.string(),
  segments: z.array(z.string().regex(/^[0-9a-f]{32}$/)),
  /** What was given up then, for people: one sentence each. */
  losses: z.array(z.string()),
});

export interface GivenUp {
  readonly at: string;
  readonly segments: readonly SegmentId[];
  readonly losses: readonly string[];
}

/** Null when nothing was. Throws MALFORMED or VERSION. */
export async function readGivenUp(store: MetadataStore, volume: VolumeId): Promise<GivenUp | null> {
  const { entry } = await store.get(givenUpKey(volume));
  if (entry === null) return null;
  const what = `what volume ${volume} has given up`;
  const parsed = stored.safeParse(parseJson(entry.value, what, METADATA_SCHEMA));
  if (!parsed.success) throw malformed(`${what}: not what it should be`);
  const { at, segments, losses } = parsed.data;
  return { at, segments: segments as SegmentId[], losses };
}

/** Replaces what was noted before. */
export async function writeGivenUp(
  store: MetadataStore,
  volume: VolumeId,
  note: GivenUp,
): Promise<void> {
  const value = JSON.stringify({ schema: METADATA_SCHEMA, ...note });
  await store.transact([], [{ type: 'put', key: givenUpKey(volume), value }]);
}
