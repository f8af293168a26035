/** Settings of the whole cluster: what repair and scrub may take, and how long repair waits. */
import { z } from 'zod';
import { malformed } from '../core/errors.js';
import { MIB } from '../core/units.js';
import { parseJson } from './encoding.js';
import { ROOT } from './keys.js';
import { METADATA_SCHEMA } from './model.js';
import type { MetadataStore } from './store.js';

export const SETTINGS_KEY = `${ROOT}settings`;

export interface ClusterSettings {
  /** How long a node may be away before its copies are made elsewhere. */
  readonly repairGraceMs: number;
  /** Of copies that the controller makes, for repair, drain and balance together. */
  readonly repairBytesPerSecond: number;
  /** Whether disks are kept evenly filled. */
  readonly balance: boolean;
  /** Every sealed copy is read and verified once in so long; null: only when somebody asks. */
  readonly scrubIntervalMs: number | null;
  /** Of each disk. */
  readonly scrubBytesPerSecond: number;
}

export const DEFAULT_SETTINGS: ClusterSettings = {
  repairGraceMs: 600_000,
  repairBytesPerSecond: 64 * MIB,
  balance: true,
  scrubIntervalMs: 30 * 86_400_000,
  scrubBytesPerSecond: 16 * MIB,
};

const stored = z.strictObject({
  schema: z.literal(METADATA_SCHEMA),
  repairGraceMs: z.exactOptional(z.int().min(0)),
  repairBytesPerSecond: z.exactOptional(z.int().min(1)),
  balance: z.exactOptional(z.boolean()),
  scrubIntervalMs: z.exactOptional(z.int().min(1).nullable()),
  scrubBytesPerSecond: z.exactOptional(z.int().min(1)),
});

/** Defaults where nothing was set. Throws MALFORMED or VERSION. */
export async function readSettings(store: MetadataStore): Promise<ClusterSettings> {
  const { entry } = await store.get(SETTINGS_KEY);
  return entry === null ? DEFAULT_SETTINGS : { ...DEFAULT_SETTINGS, ...decoded(entry.value) };
}

/** Changes some of them, by the last one who does. */
export async function changeSettings(
  store: MetadataStore,
  changes: Partial<ClusterSettings>,
): Promise<ClusterSettings> {
  const { entry } = await store.get(SETTINGS_KEY);
  const before = entry === null ? {} : decoded(entry.value);
  const after = { ...before, ...changes };
  const value = JSON.stringify({ schema: METADATA_SCHEMA, ...after });
  await store.transact([], [{ type: 'put', key: SETTINGS_KEY, value }]);
  return { ...DEFAULT_SETTINGS, ...after };
}

function decoded(json: string): Partial<ClusterSettings> {
  const parsed = stored.safeParse(parseJson(json, 'cluster settings', METADATA_SCHEMA));
  if (!parsed.success) throw malformed('cluster settings: not what they should be');
  const { schema: _, ...settings } = parsed.data;
  return settings as Partial<ClusterSettings>;
}
