/**
 * Branded units, so that no two bare numbers stand side by side. All are non-negative integers
 * below 2^53, which JavaScript numbers hold exactly; 2^53 bytes is 8 PiB and 2^53 records outlast
 * the product.
 */
import type { Brand } from './ids.js';

/** Log sequence number: counts the records of one volume's log from 0. */
export type Lsn = Brand<number, 'Lsn'>;
/** A volume's epoch: raised by one at each takeover; 0 means that nobody ever owned it. */
export type Epoch = Brand<number, 'Epoch'>;
/** Bytes from the start of a segment; always a multiple of PAGE_BYTES at batch boundaries. */
export type SegmentOffset = Brand<number, 'SegmentOffset'>;
/** Pages (4 KiB) from the start of a segment. */
export type PageIndex = Brand<number, 'PageIndex'>;
/** Milliseconds on the monotonic clock of one process; may have a fraction. */
export type Monotonic = Brand<number, 'Monotonic'>;
/** A metadata store's revision: grows with every change to the store. */
export type Revision = Brand<number, 'Revision'>;

export const lsn = (value: number): Lsn => value as Lsn;
export const epoch = (value: number): Epoch => value as Epoch;
export const offset = (value: number): SegmentOffset => value as SegmentOffset;
export const pageIndex = (value: number): PageIndex => value as PageIndex;
export const revision = (value: number): Revision => value as Revision;

/** The unit of checksum and random read, in bytes. Part of the disk format. */
export const PAGE_BYTES = 4096;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Rounds up to a whole number of pages, in bytes. */
export function alignToPage(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
