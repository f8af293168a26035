/**
 * Finds the newest checkpoint in a log alone, for when the metadata that pointed to it is lost: the
 * records of checkpoints say what they are, a top page is one whose manifest is whole and verifies.
 * Only what lies below a committed offset counts: a takeover keeps that, and an owner swaps no root
 * in before it is committed. So nothing that was deleted since is needed by the newest one found.
 */
import { crc32 } from '../core/checksum.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import { type LogSpan, scanRecords } from '../replication/log-scan.js';
import type { SegmentReader } from '../replication/reader.js';
import type { ReadSource } from '../replication/reader-core.js';
import { decodeManifest, decodeTop, type Manifest, type Top } from './checkpoint-format.js';
import { RecordKind } from './record-codec.js';
import type { CheckpointRoot } from './root-store.js';

export interface FoundRoot {
  readonly root: CheckpointRoot;
  /** Segments without which the checkpoint cannot be loaded. */
  readonly images: readonly SegmentId[];
  /** Segments that may have data of files, besides. */
  readonly others: readonly SegmentId[];
}

export interface RootSearch {
  /** Null: there is none. */
  readonly found: FoundRoot | null;
  /** Newer places where one may have stood that cannot be read, one sentence each. */
  readonly unreadable: readonly string[];
}

type Reader = Pick<SegmentReader, 'readPages'>;

/** `spans` in the order of the log. Rejects with what reading says: UNAVAILABLE, VERSION. */
export async function findRoot(reader: Reader, spans: readonly LogSpan[]): Promise<RootSearch> {
  const sources = new Map<SegmentId, ReadSource>(spans.map((span) => [span.segment, span]));
  const unreadable: string[] = [];
  for (const span of [...spans].reverse()) {
    const { pages, error } = await singlePages(reader, span);
    if (error !== null) unreadable.push(error);
    for (const page of pages.reverse()) {
      const found = await rootAt(reader, sources, span.segment, page);
      if (typeof found === 'string') unreadable.push(found);
      else if (found !== null) return { found, unreadable };
    }
  }
  return { found: null, unreadable };
}

/** The pages that may be a checkpoint's top page, below what is committed, in order. */
async function singlePages(
  reader: Reader,
  span: LogSpan,
): Promise<{ readonly pages: number[]; readonly error: string | null }> {
  const all: number[] = [];
  const { committed, error } = await scanRecords(reader, span, (found) => {
    const isCheckpoint = found.record[1] === RecordKind.checkpoint;
    if (isCheckpoint && found.pageCount === 1) all.push(found.firstPage);
  });
  if (error !== null && !isDamage(error)) throw error;
  const pages = all.filter((page) => (page + 1) * PAGE_BYTES <= committed);
  return { pages, error: error === null ? null : error.message };
}

function isDamage({ code }: HoldfastError): boolean {
  return code === 'DATA_LOST' || code === 'INCONSISTENT' || code === 'MALFORMED';
}

/** Null for a page that is none; a sentence for a top page whose manifest cannot be read. */
async function rootAt(
  reader: Reader,
  sources: ReadonlyMap<SegmentId, ReadSource>,
  segment: SegmentId,
  page: number,
): Promise<FoundRoot | string | null> {
  const read = (id: SegmentId, first: number, count: number): Promise<Uint8Array> => {
    const source = sources.get(id);
    if (source === undefined) throw new HoldfastError('DATA_LOST', `segment ${id} is missing`);
    return new Promise((resolve, reject) => {
      reader.readPages(source, first, count, (error, data) => {
        if (data === null) reject(error);
        else resolve(data);
      });
    });
  };
  const where = `the checkpoint at page ${page} of segment ${segment}`;
  let top: Top;
  try {
    top = decodeTop(await read(segment, page, 1));
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError && isDamage(thrown))) throw thrown;
    // Images and manifests may be one page as well.
    return thrown.code === 'MALFORMED' ? null : `${where} cannot be read: ${thrown.message}`;
  }
  try {
    const parts: Uint8Array[] = [];
    for (const part of top.parts) parts.push(await read(part.segment, part.page, part.pages));
    const bytes = Buffer.concat(parts).subarray(0, top.length);
    if (crc32(bytes) !== top.crc) return `${where} cannot be read: its manifest does not verify`;
    return foundAt(segment, page, top, decodeManifest(bytes));
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError && isDamage(thrown))) throw thrown;
    return `${where} cannot be read: ${thrown.message}`;
  }
}

function foundAt(segment: SegmentId, page: number, top: Top, manifest: Manifest): FoundRoot {
  const ids = new Map(manifest.segments.map((one) => [one.slot, one.segment]));
  const images = new Set<SegmentId>([segment, ...top.parts.map((part) => part.segment)]);
  for (const place of manifest.sections.flat()) {
    const id = ids.get(place.segment);
    if (id !== undefined) images.add(id);
  }
  const others = manifest.segments.map((one) => one.segment).filter((id) => !images.has(id));
  const root = { segment, page, lsn: manifest.lsn };
  return { root, images: [...images], others };
}
