/**
 * A volume as it stands in the store: a head under the volume's key and its sealed segments in
 * chunks, read as of one moment and changed in one transaction. Everything above works on whole
 * records (volume-record.ts); only this file knows how they are cut.
 *
 * INVARIANT: a transaction that changes a chunk's segments writes the head too, and compares the
 * revisions of the head and of each chunk that it writes. So a head of a revision not newer than
 * the chunks' reading belongs to them, and nobody's change of a chunk is overwritten.
 */
import { HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { lsn, offset, type Revision, revision } from '../core/units.js';
import { decodeStored, encodeHead } from './encoding.js';
import { chunkKey, chunkNumber, chunkPrefix, volumeKey } from './keys.js';
import {
  RANGE_PAGE,
  TRANSACTION_MAX_BYTES,
  TRANSACTION_MAX_OPERATIONS,
  transactionBytes,
} from './limits.js';
import {
  METADATA_SCHEMA,
  type PlannedSegment,
  type SealedSegment,
  type SealedSummary,
  VOLUME_SCHEMA,
  type VolumeHead,
  type VolumeRecord,
} from './model.js';
import { brokenInvariant, commonStart } from './record-invariant.js';
import { CHUNK_SEGMENTS, type ChunkEntry, decodeChunk, encodeChunk } from './sealed-chunks.js';
import type { Compare, KeyValue, MetadataStore, Operation, RangeOptions } from './store.js';

export interface StoredChunk {
  readonly number: number;
  readonly modRevision: Revision;
  readonly entries: readonly ChunkEntry[];
}

/** A record as it stood at a revision; swaps compare that revision. */
export interface VersionedVolume {
  readonly record: VolumeRecord;
  /** Of the head. */
  readonly modRevision: Revision;
  /** Of pendingDelete, what stands in the head. */
  readonly listed: readonly PlannedSegment[];
  /** In the order of the log. */
  readonly chunks: readonly StoredChunk[];
}

export interface VersionedHead {
  readonly record: VolumeHead;
  readonly modRevision: Revision;
}

/** A transaction that puts one record in the place of another. */
export interface VolumeChange {
  readonly compare: readonly Compare[];
  readonly operations: readonly Operation[];
  /** What stands in the store once it was committed as `revision`. */
  at(revision: Revision): VersionedVolume;
}

/** Chunks that one swap rewrites at most: with the head they stay below what a store takes. */
export const SWAP_CHUNKS_MAX = 12;
/** Segments that were never sealed and wait for deletion; with more of them they go to chunks. */
const LISTED_MAX = 32;
/** Chunks are read in pages of this many: 2 MiB at the most. */
const CHUNKS_PAGE = 32;
const RETRIES = 50;

/**
 * The volume as of one moment, linearizably; null when there is none. `known` saves reading chunks
 * that are unchanged, and is the answer where nothing has changed. Throws what decoding throws, and
 * CONFLICT when it changes all the time.
 */
export async function readVolume(
  store: MetadataStore,
  volume: VolumeId,
  known: VersionedVolume | null = null,
): Promise<VersionedVolume | null> {
  for (let attempt = 0; attempt < RETRIES; attempt++) {
    const { chunks, revision: at } = await readChunks(store, volume, known);
    const { entry } = await store.get(volumeKey(volume));
    if (entry === null) return null;
    // A newer head may be one that changed the chunks while they were read.
    if (entry.modRevision > at) continue;
    return isSame(known, entry, chunks) ? known : assembled(volume, entry, chunks);
  }
  const message = `the record of volume ${volume} changes all the time`;
  throw new HoldfastError('CONFLICT', message, { retryable: true });
}

function isSame(
  known: VersionedVolume | null,
  head: KeyValue,
  chunks: readonly StoredChunk[],
): known is VersionedVolume {
  if (known?.modRevision !== head.modRevision || known.chunks.length !== chunks.length)
    return false;
  return chunks.every((chunk, at) => chunk === known.chunks[at]);
}

interface ReadChunks {
  readonly chunks: StoredChunk[];
  /** The store's when the first of them were read. */
  readonly revision: Revision;
}

/** All chunks, in pages. */
export async function readChunks(
  store: MetadataStore,
  volume: VolumeId,
  known: VersionedVolume | null = null,
): Promise<ReadChunks> {
  if (known !== null && known.chunks.length > CHUNKS_PAGE) return changes(store, volume, known);
  const chunks: StoredChunk[] = [];
  const revision = await eachChunk(store, volume, { limit: CHUNKS_PAGE }, (entry) => {
    chunks.push(chunkOf(volume, entry, known));
  });
  return { chunks, revision };
}

/** Reads which chunks there are, and those of them that have changed. */
async function changes(
  store: MetadataStore,
  volume: VolumeId,
  known: VersionedVolume,
): Promise<ReadChunks> {
  const entries: KeyValue[] = [];
  const list = { limit: RANGE_PAGE, keysOnly: true };
  const revision = await eachChunk(store, volume, list, (entry) => entries.push(entry));
  const before = new Map(known.chunks.map((chunk) => [chunk.number, chunk]));
  const chunks: StoredChunk[] = [];
  let changed = 0;
  for (const { key, modRevision } of entries) {
    const same = before.get(chunkNumber(key) ?? -1);
    if (same?.modRevision === modRevision) {
      chunks.push(same);
      continue;
    }
    changed += 1;
    if (changed > CHUNKS_PAGE) return await readChunks(store, volume);
    // One that is gone by now changed the head with it: all is read again.
    const { entry } = await store.get(key);
    if (entry !== null) chunks.push(chunkOf(volume, entry));
  }
  return { chunks, revision };
}

/** Page by page; resolves to the store's revision when the first was read. */
async function eachChunk(
  store: MetadataStore,
  volume: VolumeId,
  pages: RangeOptions,
  visit: (entry: KeyValue) => void,
): Promise<Revision> {
  let first: Revision | null = null;
  for (let after: string | undefined; ; ) {
    const options = { ...pages, ...(after === undefined ? {} : { after }) };
    const page = await store.range(chunkPrefix(volume), options);
    first ??= page.revision;
    page.entries.forEach(visit);
    after = page.entries.at(-1)?.key;
    if (!page.more || after === undefined) return first;
  }
}

/** Throws MALFORMED or VERSION. */
export function chunkOf(
  volume: VolumeId,
  { key, value, modRevision }: KeyValue,
  known: VersionedVolume | null = null,
): StoredChunk {
  const number = chunkNumber(key);
  if (number === null) throw new HoldfastError('INCONSISTENT', `"${key}" is no chunk's key`);
  const same = known?.chunks.find((one) => one.number === number);
  if (same?.modRevision === modRevision) return same;
  return { number, modRevision, entries: decodeChunk(volume, value) };
}

/** The head under a volume's key, also of a record of schema 1. */
export function versionedHead(volume: VolumeId, entry: KeyValue): VersionedHead {
  const stored = decodeStored(entry.value);
  const record =
    stored.type === 'head' ? stored.head : headOf(stored.record, stored.record.pendingDelete, null);
  checkPlace(volume, record);
  return { record, modRevision: entry.modRevision };
}

function checkPlace(volume: VolumeId, record: { readonly volume: VolumeId }): void {
  if (record.volume === volume) return;
  throw new HoldfastError('INCONSISTENT', `volume ${record.volume} stands under ${volume}`);
}

/** Puts head and chunks together. Throws INCONSISTENT when they are not of one record. */
export function assembled(
  volume: VolumeId,
  entry: KeyValue,
  chunks: readonly StoredChunk[],
): VersionedVolume {
  const stored = decodeStored(entry.value);
  const { modRevision } = entry;
  const inconsistent = (what: string): HoldfastError =>
    new HoldfastError('INCONSISTENT', `volume record ${volume}: ${what}`);
  if (stored.type === 'whole') {
    const { record } = stored;
    checkPlace(volume, record);
    if (chunks.length > 0) throw inconsistent('it has chunks, and is of a schema without them');
    return { record, modRevision, listed: record.pendingDelete, chunks };
  }
  checkPlace(volume, stored.head);
  const { log, ...head } = stored.head;
  const sealed: SealedSegment[] = [];
  const dead: PlannedSegment[] = [];
  for (const { entries } of chunks) {
    for (const entry of entries) {
      if (entry.dead || head.trash?.purging === true) dead.push(plannedOf(entry.sealed));
      else sealed.push(entry.sealed);
    }
  }
  const found = summaryOf(sealed, chunks.at(-1)?.number ?? null);
  for (const what of ['segments', 'bytes', 'newestChunk'] as const) {
    if (found[what] === log[what]) continue;
    throw inconsistent(`its chunks have ${found[what]} ${what}, its head says ${log[what]}`);
  }
  const pendingDelete = [...head.pendingDelete, ...dead];
  const record: VolumeRecord = { ...head, schema: METADATA_SCHEMA, sealed, pendingDelete };
  const broken = brokenInvariant(record);
  if (broken !== null) throw inconsistent(broken);
  return { record, modRevision, listed: head.pendingDelete, chunks };
}

function plannedOf({ segment, group, createEpoch, replicas }: PlannedSegment): PlannedSegment {
  return { segment, group, createEpoch, replicas };
}

function summaryOf(sealed: readonly SealedSegment[], newestChunk: number | null): SealedSummary {
  let bytes = 0;
  for (const { end } of sealed) bytes += end;
  return { segments: sealed.length, bytes, newestChunk };
}

function headOf(
  record: VolumeRecord,
  listed: readonly PlannedSegment[],
  newestChunk: number | null,
): VolumeHead {
  const { sealed, ...rest } = record;
  const log = summaryOf(sealed, newestChunk);
  return { ...rest, schema: VOLUME_SCHEMA, pendingDelete: listed, log };
}

/** A chunk as it will be; `was` null: a new one. */
interface Draft {
  readonly number: number;
  readonly was: StoredChunk | null;
  readonly entries: readonly ChunkEntry[];
}

interface Kept {
  readonly drafts: Draft[];
  /** Sealed segments that stand in no chunk yet, in the order of the log. */
  readonly fresh: readonly SealedSegment[];
  readonly listed: readonly PlannedSegment[];
}

/**
 * What puts `after` in the place of `before` (null: there was no volume). Of a record of schema 1
 * it makes head and chunks.
 */
export function changeOf(
  before: VersionedVolume | null,
  after: VolumeRecord,
  chunkSegments = CHUNK_SEGMENTS,
): VolumeChange {
  const kept = keep(before, after);
  const isLong = kept.listed.length > LISTED_MAX;
  const listed = isLong ? [] : kept.listed;
  const drafts = filled(
    kept.drafts,
    [...kept.fresh.map(living), ...(isLong ? kept.listed.map(neverSealed) : [])],
    chunkSegments,
  );
  const left = drafts.filter(({ entries }) => entries.length > 0);
  const head = headOf(after, listed, left.at(-1)?.number ?? null);
  const { volume } = after;
  const compare: Compare[] = [
    { key: volumeKey(volume), modRevision: before?.modRevision ?? revision(0) },
  ];
  const operations: Operation[] = [
    { type: 'put', key: volumeKey(volume), value: encodeHead(head) },
  ];
  for (const { number, was, entries } of drafts) {
    if (entries === was?.entries || (was === null && entries.length === 0)) continue;
    const key = chunkKey(volume, number);
    compare.push({ key, modRevision: was?.modRevision ?? revision(0) });
    if (entries.length === 0) operations.push({ type: 'delete', key });
    else operations.push({ type: 'put', key, value: encodeChunk(volume, entries) });
  }
  const at = (modRevision: Revision): VersionedVolume => {
    const chunks = left.map(({ number, was, entries }) =>
      was?.entries === entries ? was : { number, modRevision, entries },
    );
    return { record: after, modRevision, listed, chunks };
  };
  return { compare, operations, at };
}

function keep(before: VersionedVolume | null, after: VolumeRecord): Kept {
  if (before === null) return { drafts: [], fresh: after.sealed, listed: after.pendingDelete };
  const { record, chunks, listed } = before;
  const isInChunks = chunks.length > 0 || record.sealed.length === 0;
  const sealedBefore = record.sealed.length;
  const pendingBefore = record.pendingDelete.length;
  const isLonger =
    commonStart(record.sealed, after.sealed) === sealedBefore &&
    commonStart(record.pendingDelete, after.pendingDelete) === pendingBefore;
  if (!isLonger || !isInChunks) return edited(before, after);
  return {
    drafts: chunks.map((was) => ({ number: was.number, was, entries: was.entries })),
    fresh: after.sealed.slice(sealedBefore),
    listed: [...listed, ...after.pendingDelete.slice(pendingBefore)],
  };
}

/** Looks at each segment: some have been given up or deleted. */
function edited({ chunks }: VersionedVolume, after: VolumeRecord): Kept {
  const sealed = new Set(after.sealed.map(({ segment }) => segment));
  const pending = new Set(after.pendingDelete.map(({ segment }) => segment));
  // The head says for all of them that they are given up.
  const isPurging = after.trash?.purging === true;
  const placed = new Set<SegmentId>();
  const drafts = chunks.map((was): Draft => {
    const entries: ChunkEntry[] = [];
    let changed = false;
    for (const entry of was.entries) {
      const { segment } = entry.sealed;
      const dies = pending.has(segment) && !entry.dead && !isPurging;
      const stays = sealed.has(segment) || pending.has(segment);
      if (stays) placed.add(segment);
      if (stays) entries.push(dies ? { ...entry, dead: true } : entry);
      if (dies || !stays) changed = true;
    }
    return { number: was.number, was, entries: changed ? entries : was.entries };
  });
  return {
    drafts,
    fresh: after.sealed.filter(({ segment }) => !placed.has(segment)),
    listed: after.pendingDelete.filter(({ segment }) => !placed.has(segment)),
  };
}

function living(sealed: SealedSegment): ChunkEntry {
  return { sealed, dead: false };
}

function neverSealed(segment: PlannedSegment): ChunkEntry {
  const sealed = { ...plannedOf(segment), end: offset(0), endLsn: lsn(0), crc: 0 };
  return { sealed, dead: true };
}

/** Adds entries to the last chunk and to new ones behind it. */
function filled(
  drafts: readonly Draft[],
  added: readonly ChunkEntry[],
  chunkSegments: number,
): Draft[] {
  const all = [...drafts];
  for (let from = 0; from < added.length; ) {
    const last = all.at(-1);
    const isFull = last === undefined || last.entries.length >= chunkSegments;
    // One that has just become empty is removed, and not used again by the same change.
    const isOver = last !== undefined && last.was !== null && last.entries.length === 0;
    const base: Draft =
      isFull || isOver ? { number: (last?.number ?? -1) + 1, was: null, entries: [] } : last;
    if (base === last) all.pop();
    const count = chunkSegments - base.entries.length;
    all.push({ ...base, entries: [...base.entries, ...added.slice(from, from + count)] });
    from += count;
  }
  return all;
}

/** Those of `segments` that one swap can take out of a volume or mark as given up. */
export function withinOneSwap(
  { chunks }: VersionedVolume,
  segments: readonly SegmentId[],
): SegmentId[] {
  const wanted = new Set(segments);
  const later = new Set<SegmentId>();
  let touched = 0;
  for (const { entries } of chunks) {
    const here = entries.filter(({ sealed }) => wanted.has(sealed.segment));
    if (here.length > 0) touched += 1;
    if (touched > SWAP_CHUNKS_MAX) for (const { sealed } of here) later.add(sealed.segment);
  }
  return segments.filter((segment) => !later.has(segment));
}

/** TOO_LARGE when no store would take it: trying again would not help. */
export function checkSize(
  { record: { name } }: { record: VolumeRecord },
  change: VolumeChange,
): void {
  const bytes = transactionBytes(change.operations);
  const { length } = change.operations;
  if (bytes <= TRANSACTION_MAX_BYTES && length <= TRANSACTION_MAX_OPERATIONS) return;
  throw new HoldfastError(
    'TOO_LARGE',
    `a change of the record of volume "${name}" takes ${bytes} bytes under ${length} keys, ` +
      `at most ${TRANSACTION_MAX_BYTES} under ${TRANSACTION_MAX_OPERATIONS} are possible`,
    { hint: 'Remove labels of the volume; bring nodes back that hold what is to be deleted.' },
  );
}
