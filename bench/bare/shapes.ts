/** Sizes on the wire and in the journal of what a 4 KiB commit is made of, for bare programs. */
import { PAGE_BYTES } from '../../src/core/units.js';

/** An APPEND of one record with one page, as `wire/request-frames.ts` and `batch.ts` make it. */
export const FRAME_BYTES = 4_323;
export const REPLY_BYTES = 54;
/** A journal group of one such batch. */
export const SLOT_BYTES = 2 * PAGE_BYTES;
