/**
 * What the records of a store say that is about to be replaced, read as far as they can be: a
 * damaged one must not keep anybody from putting good metadata in its place. For import and rebuild
 * alone; whoever swaps a record reads it strictly (encoding.ts).
 */
import { isId, type NodeId, type SegmentId, type VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import { keyTail, NODES, VOLUMES } from './keys.js';
import type { KeyValue } from './store.js';

export interface SeenHead {
  readonly volume: VolumeId;
  /** Null: it cannot be read. */
  readonly name: string | null;
  /** Null: it cannot be read. */
  readonly epoch: Epoch | null;
  readonly open: readonly SegmentId[];
  /** Nothing of it comes back. */
  readonly purging: boolean;
}

export interface SeenNode {
  readonly node: NodeId;
  /** Null: it cannot be read. */
  readonly address: string | null;
}

export function seenNodes(entries: readonly KeyValue[]): SeenNode[] {
  return entries.flatMap(({ key, value }) => {
    if (!key.startsWith(NODES) || !isId(keyTail(key, NODES))) return [];
    const { address } = fieldsOf(value);
    const isThere = typeof address === 'string' && address !== '';
    return [{ node: keyTail(key, NODES) as NodeId, address: isThere ? address : null }];
  });
}

/** Of the cluster record, or of the mark of an import; 0 when it cannot be read. */
export function seenGeneration(value: string | undefined): number {
  const { generation } = fieldsOf(value ?? '');
  return isCount(generation) ? generation : 0;
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
  const listed = Array.isArray(open) ? open.map((one: unknown) => asFields(one).segment) : [];
  return {
    volume,
    name: typeof name === 'string' ? name : null,
    epoch: isCount(at) ? epoch(at) : null,
    open: listed.filter((id): id is SegmentId => typeof id === 'string' && isId(id)),
    purging: asFields(fields.trash).purging === true,
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
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
