/** What the controller tells people of repair, in the metadata store: a hint, seconds old. */
import { z } from 'zod';
import { malformed } from '../core/errors.js';
import type { NodeId } from '../core/ids.js';
import { parseJson } from './encoding.js';
import { ROOT } from './keys.js';
import { METADATA_SCHEMA } from './model.js';
import type { Compare, MetadataStore } from './store.js';

export const REPORT_KEY = `${ROOT}repair-report`;

const count = z.int().min(0);
const numbers = z.object({
  /** Segments with fewer copies that count than their volume wants. */
  degraded: count,
  /** Of these, with a single one that can be read now. */
  endangered: count,
  /** Segments without a copy that can be read now. */
  unreadable: count,
  /** Copies that are to be made, and their bytes. */
  copies: count,
  bytes: count,
  /** Copies on disks that are drained. */
  leaving: count,
  running: count,
  runningBytes: count,
  doneCopies: count,
  doneBytes: count,
  failedCopies: count,
  bytesPerSecond: count,
  bytesPerSecondMax: count,
  balancing: z.boolean(),
});
const stored = numbers.extend({
  schema: z.literal(METADATA_SCHEMA),
  /** The node that leads. */
  node: z.string(),
  /** ISO 8601. */
  at: z.string(),
});

export type RepairReport = Omit<z.infer<typeof stored>, 'schema'>;

/** Null when no node has led yet. Throws MALFORMED or VERSION. */
export async function readRepairReport(store: MetadataStore): Promise<RepairReport | null> {
  const { entry } = await store.get(REPORT_KEY);
  if (entry === null) return null;
  const parsed = stored.safeParse(parseJson(entry.value, 'repair report', METADATA_SCHEMA));
  if (!parsed.success) throw malformed('repair report: not what it should be');
  const { schema: _, ...report } = parsed.data;
  return report;
}

export async function writeRepairReport(
  store: MetadataStore,
  guard: readonly Compare[],
  report: z.infer<typeof numbers> & { readonly node: NodeId; readonly at: string },
): Promise<void> {
  const value = JSON.stringify({ schema: METADATA_SCHEMA, ...report });
  await store.transact(guard, [{ type: 'put', key: REPORT_KEY, value }]);
}
