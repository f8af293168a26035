/**
 * The superblock: whose disk this is and in which life, in two copies so that one rotten page does
 * not hide a disk's data. It is written when a disk is formatted and when its data was lost, never
 * on the write path. docs/FORMATS.md §Superblock.
 *
 * INVARIANT: `forming` is on disk before anything that it announces is touched, so that a crash in
 * the middle of forming a disk is finished by the next start and never taken for data.
 */
import { crc32 } from '../core/checksum.js';
import { asBuffer, readId, readU64, writeId, writeU64 } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { ClusterId, Incarnation, NodeId } from '../core/ids.js';
import { JOURNAL_MIN_BYTES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';

/** "HFSB", little-endian. */
const MAGIC = 0x42534648;
const VERSION = 1;
const CRC_AT = PAGE_BYTES - 4;
/** A journal larger than this is nobody's wish but a rotten byte's. */
const JOURNAL_MAX_BYTES = 2 ** 36;
/** Both copies, one after the other. */
export const SUPERBLOCK_BYTES = 2 * PAGE_BYTES;

export interface Superblock {
  readonly cluster: ClusterId;
  readonly node: NodeId;
  readonly incarnation: Incarnation;
  /** Both halves; a multiple of two pages. */
  readonly journalBytes: number;
  /** Journal, index and segments are not complete yet: form them (anew). */
  readonly forming: boolean;
}

/** One copy, a page long. */
export function encodeSuperblock(block: Superblock): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  page.writeUInt32LE(MAGIC, 0);
  page.writeUInt16LE(VERSION, 4);
  page.writeUInt16LE(block.forming ? 1 : 0, 6);
  writeId(page, block.cluster, 8);
  writeId(page, block.node, 24);
  writeId(page, block.incarnation, 40);
  writeU64(page, block.journalBytes, 56);
  page.writeUInt32LE(crc32(page.subarray(0, CRC_AT)), CRC_AT);
  return page;
}

/** Throws MALFORMED, or VERSION for a newer format. */
export function decodeSuperblock(bytes: Uint8Array): Superblock {
  if (bytes.length < PAGE_BYTES) throw malformed('superblock: too few bytes');
  const page = asBuffer(bytes);
  if (page.readUInt32LE(0) !== MAGIC) throw malformed('superblock: wrong magic');
  if (crc32(page.subarray(0, CRC_AT)) !== page.readUInt32LE(CRC_AT)) {
    throw malformed('superblock: checksum mismatch');
  }
  const version = page.readUInt16LE(4);
  if (version !== VERSION) {
    throw new HoldfastError('VERSION', `disk format ${version} is not known here`, {
      hint: 'Run the version of holdfast that wrote this disk, or a newer one.',
    });
  }
  const forming = page.readUInt16LE(6);
  if (forming > 1) throw malformed('superblock: state');
  const journalBytes = readU64(page, 56);
  if (
    journalBytes < JOURNAL_MIN_BYTES ||
    journalBytes > JOURNAL_MAX_BYTES ||
    journalBytes % (2 * PAGE_BYTES) !== 0
  ) {
    throw malformed('superblock: journal size');
  }
  return {
    cluster: readId(page, 8),
    node: readId(page, 24),
    incarnation: readId(page, 40),
    journalBytes,
    forming: forming === 1,
  };
}

/**
 * The better of the two copies. They differ only when a rewrite was cut short: then the one that
 * says `forming` was written later or announces what is not finished, so it wins. Throws when both
 * are bad.
 */
export function chooseSuperblock(bytes: Uint8Array): { block: Superblock; damaged: boolean } {
  const copies: Superblock[] = [];
  let failure: unknown = malformed('superblock: missing');
  for (const at of [0, PAGE_BYTES]) {
    try {
      copies.push(decodeSuperblock(bytes.subarray(at, at + PAGE_BYTES)));
    } catch (error) {
      failure = error;
    }
  }
  const [first, second] = copies;
  if (first === undefined) throw failure;
  if (second === undefined) return { block: first, damaged: true };
  const differ = first.forming !== second.forming || first.incarnation !== second.incarnation;
  return { block: second.forming && differ ? second : first, damaged: differ };
}
