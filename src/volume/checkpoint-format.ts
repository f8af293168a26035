/**
 * The bytes of a checkpoint, all in data pages of checkpoint records (docs/VOLUME.md §Checkpoints):
 *
 * - images of buckets, packed one behind the other: an inode page is its words; a leaf is
 *   u32 count | count × {u32 high, u32 low, u32 length, blob}
 * - the manifest, cut into parts: what stands where
 * - the top page, which the root points to: where the manifest's parts stand, and its checksum
 */
import { crc32 } from '../core/checksum.js';
import { ByteReader, ByteWriter } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { alignToPage, type Lsn, lsn, PAGE_BYTES } from '../core/units.js';
import type { BlobArena } from './arena.js';
import type { ImagePlace } from './bucket.js';
import { INODE_WORDS, type InodePage, PAGE_INODES } from './inode-table.js';
import { LEAF_ITEMS, type Leaf, type Tree } from './tree.js';

/** "HFC1" and "HFR1", little-endian. */
const MANIFEST_MAGIC = 0x31434648;
const TOP_MAGIC = 0x31524648;
const VERSION = 1;
/** Inode pages, then the trees in the order of VolumeState.trees. */
export const SECTIONS = 5;
const INODE_PAGE_BYTES = PAGE_INODES * INODE_WORDS * 4;
const ITEM_BYTES = 12;

export interface Manifest {
  /** Replay goes on from here. */
  readonly lsn: Lsn;
  readonly inodeSlots: number;
  readonly segments: readonly { readonly slot: number; readonly segment: SegmentId }[];
  /** Groups that were on their way when the images were taken: chunk id → where they came to. */
  readonly pending: readonly { readonly chunk: number; readonly place: number }[];
  readonly sections: readonly (readonly ImagePlace[])[];
}

export interface ManifestPart {
  readonly segment: SegmentId;
  readonly page: number;
  readonly pages: number;
}

export interface Top {
  readonly length: number;
  readonly crc: number;
  readonly parts: readonly ManifestPart[];
}

/** Pages filled up with zeroes. */
export function padToPages(bytes: Uint8Array): Buffer {
  const padded = Buffer.alloc(alignToPage(bytes.length));
  padded.set(bytes);
  return padded;
}

export function encodeInodePage(page: InodePage): Buffer {
  const { words } = page;
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

export function decodeInodePage(bytes: Buffer, page: InodePage): void {
  if (bytes.length !== INODE_PAGE_BYTES) throw malformed('inode page of the wrong size');
  bytes.copy(Buffer.from(page.words.buffer, page.words.byteOffset, INODE_PAGE_BYTES));
}

/** Bytes of a leaf's image. */
export function leafBytes(leaf: Leaf, arena: BlobArena): number {
  let length = 4;
  for (let i = 0; i < leaf.count; i++) length += ITEM_BYTES + arena.length(leaf.blob(i));
  return length;
}

export function encodeLeaf(leaf: Leaf, arena: BlobArena): Buffer {
  const bytes = Buffer.allocUnsafe(leafBytes(leaf, arena));
  bytes.writeUInt32LE(leaf.count, 0);
  let at = 4;
  for (let i = 0; i < leaf.count; i++) {
    const blob = leaf.blob(i);
    const blobBytes = arena.length(blob);
    bytes.writeUInt32LE(leaf.high(i), at);
    bytes.writeUInt32LE(leaf.low(i), at + 4);
    bytes.writeUInt32LE(blobBytes, at + 8);
    const from = arena.byteAt(blob);
    arena.bytes(blob).copy(bytes, at + ITEM_BYTES, from, from + blobBytes);
    at += ITEM_BYTES + blobBytes;
  }
  return bytes;
}

/** Adds a leaf behind `last` with the items of an image. Throws MALFORMED. */
export function decodeLeaf(bytes: Buffer, tree: Tree, last: Leaf | null, arena: BlobArena): Leaf {
  const reader = new ByteReader(bytes);
  const count = reader.u32('items of a leaf');
  if (count === 0 || count > LEAF_ITEMS) throw malformed(`a leaf of ${count} items`);
  let leaf: Leaf | null = null;
  let [formerHigh, formerLow] = last === null ? [0, -1] : keyOf(last, last.count - 1);
  for (let i = 0; i < count; i++) {
    const high = reader.u32('key');
    const low = reader.u32('key');
    const length = reader.u32('length of a blob');
    if (length === 0 || length > 0xffff) throw malformed(`a blob of ${length} bytes`);
    const blob = arena.store(reader.bytes(length, 'blob'));
    const isBehind = high > formerHigh || (high === formerHigh && low > formerLow);
    if (!isBehind) throw malformed('keys of a leaf are out of order');
    leaf ??= tree.startLeaf(last, high, low);
    tree.append(leaf, high, low, blob);
    formerHigh = high;
    formerLow = low;
  }
  reader.end('leaf');
  return leaf as Leaf;
}

function keyOf(leaf: Leaf, index: number): [number, number] {
  return [leaf.high(index), leaf.low(index)];
}

export function encodeManifest(manifest: Manifest): Buffer {
  const writer = new ByteWriter(PAGE_BYTES);
  writer.u32(MANIFEST_MAGIC).u16(VERSION).u64(manifest.lsn).u32(manifest.inodeSlots);
  writer.u32(manifest.segments.length);
  for (const { slot, segment } of manifest.segments) writer.u32(slot).id(segment);
  writer.u32(manifest.pending.length);
  for (const { chunk, place } of manifest.pending) writer.u32(chunk).u64(place);
  for (const section of manifest.sections) {
    writer.u32(section.length);
    for (const { segment, offset, length } of section) {
      writer.u32(segment).u64(offset).u32(length);
    }
  }
  return writer.done();
}

function checkVersion(version: number): void {
  if (version === VERSION) return;
  throw new HoldfastError('VERSION', `checkpoint format ${version} is not known here`, {
    hint: 'Run the version of holdfast that wrote this volume, or a newer one.',
  });
}

/** Throws MALFORMED or VERSION. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const reader = new ByteReader(bytes);
  if (reader.u32('magic') !== MANIFEST_MAGIC) throw malformed('manifest: wrong magic');
  checkVersion(reader.u16('version'));
  const from = lsn(reader.u64('lsn'));
  const inodeSlots = reader.u32('inode slots');
  const segments = many(reader, () => {
    const slot = reader.u32('slot');
    return { slot, segment: reader.id<SegmentId>('segment') };
  });
  const pending = many(reader, () => {
    const chunk = reader.u32('chunk');
    return { chunk, place: reader.u64('place') };
  });
  const sections: ImagePlace[][] = [];
  for (let i = 0; i < SECTIONS; i++) {
    const section = many(reader, () => {
      const segment = reader.u32('slot');
      const offset = reader.u64('offset');
      return { segment, offset, length: reader.u32('length') };
    });
    sections.push(section);
  }
  reader.end('manifest');
  return { lsn: from, inodeSlots, segments, pending, sections };
}

function many<T>(reader: ByteReader, one: () => T): T[] {
  const count = reader.u32('count');
  const found: T[] = [];
  for (let i = 0; i < count; i++) found.push(one());
  return found;
}

/** One page. */
export function encodeTop(manifest: Uint8Array, parts: readonly ManifestPart[]): Buffer {
  const writer = new ByteWriter(PAGE_BYTES);
  writer.u32(TOP_MAGIC).u16(VERSION).u32(manifest.length).u32(crc32(manifest)).u16(parts.length);
  for (const { segment, page, pages } of parts) writer.id(segment).u32(page).u32(pages);
  return padToPages(writer.done());
}

/** Throws MALFORMED or VERSION. */
export function decodeTop(bytes: Uint8Array): Top {
  const reader = new ByteReader(bytes);
  if (reader.u32('magic') !== TOP_MAGIC) throw malformed('checkpoint: wrong magic');
  checkVersion(reader.u16('version'));
  const length = reader.u32('length');
  const crc = reader.u32('checksum');
  const parts: ManifestPart[] = [];
  for (let left = reader.u16('parts'); left > 0; left--) {
    const segment = reader.id<SegmentId>('segment');
    const page = reader.u32('page');
    parts.push({ segment, page, pages: reader.u32('pages') });
  }
  return { length, crc, parts };
}
