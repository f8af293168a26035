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
/**
 * Formats of a disk that this program opens. A disk is formed in the oldest, and raised to a newer
 * one before the first thing is written that programs which know only older ones would misread:
 *   2   DROP entries in the journal, dropped segments in the index
 */
export const DISK_FORMAT_MIN = 1;
export const DISK_FORMAT_MAX = 2;
const CRC_AT = PAGE_BYTES - 4;
/** Zeroes from here to the checksum. */
const FIELDS_END = 64;
/** A journal larger than this is nobody's wish but a rotten byte's. */
const JOURNAL_MAX_BYTES = 2 ** 36;
/** Both copies, one after the other. */
export const SUPERBLOCK_BYTES = 2 * PAGE_BYTES;

export interface Superblock {
  /** DISK_FORMAT_MIN to DISK_FORMAT_MAX. */
  readonly format: number;
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
  page.writeUInt16LE(block.format, 4);
  page.writeUInt16LE(block.forming ? 1 : 0, 6);
  writeId(page, block.cluster, 8);
  writeId(page, block.node, 24);
  writeId(page, block.incarnation, 40);
  writeU64(page, block.journalBytes, 56);
  page.writeUInt32LE(crc32(page.subarray(0, CRC_AT)), CRC_AT);
  return page;
}

/** Throws MALFORMED, or VERSION for a format that this program does not know. */
export function decodeSuperblock(bytes: Uint8Array): Superblock {
  if (bytes.length < PAGE_BYTES) throw malformed('superblock: too few bytes');
  const page = asBuffer(bytes);
  if (page.readUInt32LE(0) !== MAGIC) throw malformed('superblock: wrong magic');
  if (!crcMatches(page)) {
    throw malformed('superblock: checksum mismatch');
  }
  const format = page.readUInt16LE(4);
  if (format < DISK_FORMAT_MIN || format > DISK_FORMAT_MAX) {
    const known = `${DISK_FORMAT_MIN} to ${DISK_FORMAT_MAX}`;
    throw new HoldfastError('VERSION', `disk format ${format}, known here are ${known}`, {
      hint: 'Nothing was changed. Run the version of holdfast that wrote it, or the next one.',
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
    format,
    cluster: readId(page, 8),
    node: readId(page, 24),
    incarnation: readId(page, 40),
    journalBytes,
    forming: forming === 1,
  };
}

/**
 * The better of the two copies; null where one cannot be read. They differ only when a rewrite was
 * cut short, and nothing that it announced had begun then: either is true, and the one that says
 * `forming` was written later or announces what is not finished, so it wins, and else the newer
 * format. Throws when both are bad, and VERSION when one is of a format that is not known.
 */
export function chooseSuperblock(copies: readonly (Uint8Array | null)[]): {
  readonly block: Superblock;
  readonly damaged: boolean;
} {
  const good: Superblock[] = [];
  let failure: unknown = malformed('superblock: missing');
  for (const copy of copies) {
    if (copy === null) continue;
    try {
      good.push(decodeSuperblock(copy));
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'VERSION') throw error;
      failure = error;
    }
  }
  const [first, second] = good;
  if (first === undefined) throw failure;
  if (second === undefined) return { block: first, damaged: true };
  const isRaised = second.format > first.format;
  const differ = first.forming !== second.forming || first.incarnation !== second.incarnation;
  const block = (second.forming && differ) || isRaised ? second : first;
  return { block, damaged: differ || first.format !== second.format };
}

/**
 * Reads both copies, each by itself, so that a bad sector costs one of them. `read` fills a page
 * from a position and throws. Throws what it threw when no other copy is good: that may pass.
 */
export function readSuperblock(
  read: (into: Buffer, position: number) => void,
): ReturnType<typeof chooseSuperblock> {
  let unreadable: unknown = null;
  const copies = [0, PAGE_BYTES].map((position) => {
    const page = Buffer.alloc(PAGE_BYTES);
    try {
      read(page, position);
      return page;
    } catch (error) {
      unreadable = error;
      return null;
    }
  });
  try {
    return chooseSuperblock(copies);
  } catch (error) {
    if (unreadable !== null && (error as HoldfastError).code === 'MALFORMED') throw unreadable;
    throw error;
  }
}

/**
 * Whether a superblock file is what a power cut leaves of the very first write to a disk: nothing,
 * or sectors of it between sectors of zeroes. Together with the absence of everything else that is
 * ours it means that the disk was never formed: forming begins when both copies are durable.
 */
export function isUnfinishedSuperblock(bytes: Uint8Array): boolean {
  if (bytes.length > SUPERBLOCK_BYTES) return false;
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const page = Buffer.alloc(PAGE_BYTES);
    page.set(bytes.subarray(at, at + PAGE_BYTES));
    // A whole copy, also one of a newer format, is a formatted disk.
    if (page.readUInt32LE(0) === MAGIC && crcMatches(page)) return false;
    const begins = page.readUInt32LE(0) === MAGIC || page.subarray(0, FIELDS_END).every(isZero);
    if (!begins || !page.subarray(FIELDS_END, CRC_AT).every(isZero)) return false;
  }
  return true;
}

const isZero = (byte: number): boolean => byte === 0;

function crcMatches(page: Buffer): boolean {
  return crc32(page.subarray(0, CRC_AT)) === page.readUInt32LE(CRC_AT);
}
