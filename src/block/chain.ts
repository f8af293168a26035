/**
 * Walks the chain of batches in a segment's file: from a place where the chain's crc is known, as
 * far as batches follow that verify completely and continue the chain. Used by recovery, SEAL and
 * COPY, in windows of bounded size and without holding up the event loop.
 */
import type { SegmentId, VolumeId } from '../core/ids.js';
import { BATCH_MAX_BYTES } from '../core/limits.js';
import { type Epoch, offset, type SegmentOffset } from '../core/units.js';
import type { DiskFile } from '../io/disk.js';
import type { BatchBytes } from './replica-state.js';
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchSegmentBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
  pagesStart,
} from './wire/batch.js';

const WINDOW_BYTES = 512 * 1024;

export interface ChainWalk {
  readonly file: DiskFile;
  readonly segment: SegmentId;
  readonly volume: VolumeId;
  /** The segment's create epoch. */
  readonly epoch: Epoch;
  readonly from: SegmentOffset;
  readonly crc: number;
  /** Goes no further than this offset. */
  readonly until: SegmentOffset;
  /** For each batch, in order; its bytes are valid during the call only. */
  readonly onBatch?: (batch: BatchBytes) => void;
}

export interface ChainEnd {
  readonly end: SegmentOffset;
  readonly crc: number;
  /** It ended at bytes that the disk could not read. */
  readonly unreadable: boolean;
}

/** Does this verified batch continue the chain of this segment at `at`? */
export function continues(
  header: BatchHeader,
  chain: Pick<ChainWalk, 'segment' | 'volume' | 'epoch'>,
  at: number,
  crc: number,
): boolean {
  return (
    header.segment === chain.segment &&
    header.volume === chain.volume &&
    header.epoch === chain.epoch &&
    header.offset === at &&
    header.prevCrc === crc
  );
}

/** A batch in segment form at `at` of `bytes` as head and pages, which share its memory. */
export function segmentBatchBytes(header: BatchHeader, bytes: Uint8Array, at: number): BatchBytes {
  const pages = at + pagesStart(header);
  return {
    header,
    head: bytes.subarray(at, at + BATCH_HEADER_BYTES + header.bodyLength),
    pages: bytes.subarray(pages, at + batchSegmentBytes(header)),
  };
}

/** Walks; `done` is called once, never before this call returns. */
export function walkChain(walk: ChainWalk, done: (end: ChainEnd) => void): void {
  new Walker(walk, done).read(WINDOW_BYTES);
}

class Walker {
  readonly #walk: ChainWalk;
  readonly #done: (end: ChainEnd) => void;
  #at: number;
  #crc: number;

  constructor(walk: ChainWalk, done: (end: ChainEnd) => void) {
    this.#walk = walk;
    this.#done = done;
    this.#at = walk.from;
    this.#crc = walk.crc;
  }

  read(bytes: number): void {
    const left = this.#walk.until - this.#at;
    const window = Buffer.allocUnsafe(Math.max(0, Math.min(bytes, left)));
    this.#walk.file.read(window, this.#at, (error, bytesRead) => {
      if (error !== null) this.#end(true);
      else this.#parse(window.subarray(0, bytesRead), bytesRead < window.length);
    });
  }

  #parse(window: Buffer, fileEnds: boolean): void {
    let pos = 0;
    while (window.length - pos >= BATCH_HEADER_BYTES) {
      let header: BatchHeader;
      try {
        header = decodeBatchHeader(window, pos);
        if (!continues(header, this.#walk, this.#at, this.#crc)) {
          this.#end(false);
          return;
        }
        const bytes = batchSegmentBytes(header);
        if (bytes > window.length - pos) {
          if (fileEnds || this.#at + bytes > this.#walk.until) {
            this.#end(false);
            return;
          }
          this.read(Math.max(WINDOW_BYTES, Math.min(bytes, BATCH_MAX_BYTES)));
          return;
        }
        decodeSegmentBatch(window, pos);
      } catch {
        this.#end(false);
        return;
      }
      this.#walk.onBatch?.(segmentBatchBytes(header, window, pos));
      pos += batchSegmentBytes(header);
      this.#at += batchSegmentBytes(header);
      this.#crc = header.headerCrc;
    }
    if (fileEnds || pos === 0 || this.#at >= this.#walk.until) {
      this.#end(false);
      return;
    }
    this.read(WINDOW_BYTES);
  }

  #end(unreadable: boolean): void {
    this.#done({ end: offset(this.#at), crc: this.#crc, unreadable });
  }
}
