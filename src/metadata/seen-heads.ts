/**
 * What the volume heads of a store say that is about to be replaced, read as far as they can be: a
 * damaged one must not keep anybody from putting good metadata in its place. For import and rebuild
 * alone; whoever swaps a record reads it strictly (encoding.ts).
 */
import { isId, type SegmentId, type VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import { keyTail, VOLUMES } from './keys.js';
import type { KeyValue } from './store.js';

export interface SeenHead {
  readonly volume: VolumeId;
  /** Null: it cannot be read. */
  readonly name: string | null;
  /** 0: it cannot be read. */
  readonly epoch: Epoch;
  readonly open: readonly SegmentId[];
  /** Nothing of it comes back. */
  readonly purging: boolean;
}

export function seenHeads(entries: readonly KeyValue[]): SeenHead[] {
  return entries.flatMap(({ key, value }) => {
    if (!key.startsWith(VOLUMES)) return [];
    const volume = keyTail(key, VOLUMES);
    return isId(volume) ? [headIn(volume as VolumeId, fieldsOf(value))] : [];
  });
}

function headIn(volume: VolumeId, fields: Fields): SeenHead {
  const { name, epoch: at, open } = fields;
  const isEpoch = typeof at === 'number' && Number.isSafeInteger(at) && at > 0;
  const listed = Array.isArray(open) ? open.map((one: unknown) => asFields(one).segment) : [];
  return {
    volume,
    name: typeof name === 'string' ? name : null,
    epoch: epoch(isEpoch ? at : 0),
    open: listed.filter((id): id is SegmentId => typeof id === 'string' && isId(id)),
    purging: asFields(fields.trash).purging === true,
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** No fields when it is no JSON object. */
function fieldsOf(json: string): Fields {
  try {
    return asFields(JSON.parse(json));
  } catch {
    return {};
  }
}

function asFields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}
