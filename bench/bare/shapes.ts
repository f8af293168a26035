/** What bare programs say to each other, in sizes that a 4 KiB commit has with Holdfast. */
import { PAGE_BYTES } from '../../src/core/units.js';

/** A frame begins with its length, itself included, and its kind, as u32 each. */
export const FRAME_HEADER_BYTES = 8;
export const FrameKind = {
  /** Journaled and flushed, then answered. */
  COMMIT: 1,
  /** Written behind what came before, not answered. */
  DATA: 2,
  /** Answered when all data before is flushed. */
  FLUSH: 3,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** What an APPEND of one record has besides the page: `wire/request-frames.ts`, `batch.ts`. */
export const COMMIT_HEADER_BYTES = 227;
export const COMMIT_BYTES = COMMIT_HEADER_BYTES + PAGE_BYTES;
export const REPLY_BYTES = 54;

/** `header` with the rest of the frame, whose bytes follow, said in it. */
export function frameHeader(header: Buffer, kind: FrameKind, followingBytes: number): Buffer {
  header.writeUInt32LE(header.length + followingBytes, 0);
  header.writeUInt32LE(kind, 4);
  return header;
}
