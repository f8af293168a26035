/**
 * Pages of sealed segments that were given up by `volume recover --accept-loss`: readers do not
 * wait for copies of them that do not answer. A key a volume, beside its record. It removes nothing
 * and hides nothing: a copy that comes back is read, and repaired from, as any other.
 */
import { z } from 'zod';
import { malformed } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { id, parseJson } from './encoding.js';
import { givenUpKey } from './keys.js';
import type { MetadataStore } from './store.js';

const GIVEN_UP_SCHEMA = 2;

const segment = id<SegmentId>();
const span = z.object({ page: z.int().min(0), count: z.int().min(1) });
const losses = z.array(z.string());
const stored = z.discriminatedUnion('schema', [
  z.object({ schema: z.literal(1), at: z.string(), segments: z.array(segment), losses }),
  z.object({
    ...{ schema: z.literal(GIVEN_UP_SCHEMA), at: z.string(), losses, end: losses },
    segments: z.array(z.object({ segment, pages: z.array(span) })),
  }),
]);

/** In order and apart. */
export interface GivenUpPages {
  readonly segment: SegmentId;
  readonly pages: readonly { readonly page: number; readonly count: number }[];
}

export interface GivenUp {
  /** When a loss was last accepted, ISO 8601. */
  readonly at: string;
  readonly segments: readonly GivenUpPages[];
  /** What that means, for people: one sentence each. */
  readonly losses: readonly string[];
  /** What was given up behind the end of the log, for people; there is no way back from that. */
  readonly end: readonly string[];
}

/** Schema 1 did not tell pages apart. */
const ALL_PAGES = [{ page: 0, count: Number.MAX_SAFE_INTEGER }];

/** Null when nothing was. Throws MALFORMED or VERSION. */
export async function readGivenUp(store: MetadataStore, volume: VolumeId): Promise<GivenUp | null> {
  const { entry } = await store.get(givenUpKey(volume));
  if (entry === null) return null;
  const what = `what volume ${volume} has given up`;
  const parsed = stored.safeParse(parseJson(entry.value, what, GIVEN_UP_SCHEMA));
  if (!parsed.success) throw malformed(`${what}: not what it should be`);
  const { data } = parsed;
  const { at } = data;
  if (data.schema === GIVEN_UP_SCHEMA) {
    return { at, segments: data.segments, losses: data.losses, end: data.end };
  }
  const segments = data.segments.map((one) => ({ segment: one, pages: ALL_PAGES }));
  return { at, segments, losses: data.losses, end: [] };
}

/** Replaces what was noted before; null: nothing is given up any more. */
export async function writeGivenUp(
  store: MetadataStore,
  volume: VolumeId,
  note: GivenUp | null,
): Promise<void> {
  const key = givenUpKey(volume);
  const value = JSON.stringify({ schema: GIVEN_UP_SCHEMA, ...note });
  await store.transact([], [note === null ? { type: 'delete', key } : { type: 'put', key, value }]);
}
