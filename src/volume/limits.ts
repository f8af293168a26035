/**
 * Bounds of a filesystem volume, and the geometry of its formats. Values marked "format" are part
 * of what is stored and never change for an existing volume.
 */
import { assert } from '../core/assert.js';
import { BATCH_MAX_BYTES, RECORD_MAX_BYTES } from '../core/limits.js';
import { KIB, MIB, PAGE_BYTES } from '../core/units.js';

/** Bytes of one name, as NAME_MAX. */
export const NAME_MAX = 255;
/** Bytes of a symbolic link's target, as PATH_MAX without its NUL. */
export const SYMLINK_MAX = 4095;
/** Hard links of one file, as ext4. A directory may have any number of subdirectories. */
export const LINK_MAX = 65_000;
export const XATTR_NAME_MAX = 255;
/** One value; and all of an inode's names and values together. Both fit into a record. */
export const XATTR_VALUE_MAX = 32 * KIB;
export const XATTR_TOTAL_MAX = 60 * KIB;
/** Files end below this: page numbers fit into 32 bits (format). */
export const FILE_MAX_BYTES = 0xffff_ffff * PAGE_BYTES;

/** Inode number = generation × 2^32 + slot (format). */
export const SLOT_RANGE = 0x1_0000_0000;
/** A slot whose generation has got here is never used again: inode numbers stay below 2^53. */
export const GENERATION_MAX = 0x1f_ffff;

/** A place = segment slot × 2^22 + page (format of checkpoint images): 16 GiB a segment. */
export const PLACE_PAGES = 0x40_0000;
export const SEGMENT_SLOTS_MAX = 0x100_0000;

/** What one inode with its entry counts for in the volume's space, besides its data. */
export const INODE_BYTES = 256;

/** A group is closed once it has this many pages. */
export const GROUP_SOFT_PAGES = 256;
/** It never has more: one write of 1 MiB at any offset fits. */
export const GROUP_HARD_PAGES = 258;
/** Bytes of operations in one group's record. */
export const GROUP_RECORD_BYTES = 60 * KIB;
/** The largest single write() that is one operation; larger ones are split. */
export const WRITE_MAX_BYTES = 1 * MIB;

/** Appended and not acknowledged, above which writes call back later. */
export const HISTORY_MAX_PENDING_BYTES = 24 * MIB;
/** The intent log: so many regions of so many bytes, each used again once the log has all of it. */
export const INTENT_REGIONS = 8;
export const INTENT_REGION_BYTES = 8 * MIB;
/** A batch is closed when it has so many bytes. */
export const INTENT_BATCH_BYTES = 2 * MIB;
/** Data up to this size is copied behind its operation: cheaper than a part of its own. */
export const INTENT_INLINE_BYTES = 4 * KIB;
/** Intents of one open group, above which it is closed: pages may change in place for ever. */
export const INTENT_GROUP_BYTES = 8 * MIB;
/** Replies that a successor takes over from its predecessor. */
export const INTENT_CARRIED_BYTES = 1 * MIB;
/** Verified pages kept in memory: tails of files that grow, and what was read ahead. */
export const CACHE_PAGES = 8 * KIB;
/** Pages fetched ahead of a sequential reader: several large fetches at a time. */
export const READ_AHEAD_PAGES = 1024;
/** A checkpoint begins after so many bytes of records, or of records and pages. */
export const CHECKPOINT_RECORD_BYTES = 16 * MIB;
export const CHECKPOINT_LOG_BYTES = 512 * MIB;
/** At an unmount one is taken after this part of either. */
export const CHECKPOINT_WORTH = 1 / 16;
/** Bytes of leaf images in one checkpoint record's pages. */
export const IMAGE_BATCH_BYTES = 1 * MIB;

/** For so long after its last close or name the space of an orphan may be had in advance. */
export const LEAVING_MS = 1_000;
/** Chunks (MiB) of a file without a name that are given up in one turn; and inodes. */
export const ENDING_CHUNKS = 1_024;
export const ENDING_INODES = 1_024;

/** Cleaning begins when less than this part of the sealed log lives, and aims at the other. */
export const CLEAN_BELOW = 0.7;
export const CLEAN_UNTIL = 0.75;
/** Pages of the segments that one round moves out of: bounds its memory, 8 bytes a page. */
export const CLEAN_PAGES_MAX = 16 * 16 * KIB;
/** What may be moved besides a share of what is written: while the volume is used, and when not. */
export const CLEAN_STEADY_BYTES_PER_S = 4 * MIB;
export const CLEAN_QUIET_BYTES_PER_S = 128 * MIB;
/** How often a volume that is written to is looked at for space to win back. */
export const RECLAIM_INTERVAL_MS = 2_000;
/** A volume is quiet when no more than this was written between two looks. */
export const RECLAIM_QUIET_BYTES = 1 * MIB;
/** Dead segments cause a checkpoint when they are this many bytes (and an eighth of the log). */
export const RECLAIM_DEAD_BYTES = 128 * MIB;
/** After a cycle that won nothing this much is written before there is another. */
export const RECLAIM_REST_BYTES = 64 * MIB;

assert(
  3 * INTENT_BATCH_BYTES < INTENT_REGION_BYTES && WRITE_MAX_BYTES < INTENT_BATCH_BYTES,
  'a batch fits into a region, with the write that fills it',
);
assert(
  4 * INTENT_GROUP_BYTES <= INTENT_REGIONS * INTENT_REGION_BYTES,
  'groups that are closed leave room for the one that is open',
);
assert(GROUP_RECORD_BYTES + 1 * KIB < RECORD_MAX_BYTES, 'a group fits into a record');
assert(
  RECORD_MAX_BYTES + GROUP_HARD_PAGES * (PAGE_BYTES + 4) + PAGE_BYTES < BATCH_MAX_BYTES,
  'a group fits into a batch',
);
assert(WRITE_MAX_BYTES / PAGE_BYTES + 1 < GROUP_HARD_PAGES, 'one write fits into a group');
assert(XATTR_TOTAL_MAX + 512 < RECORD_MAX_BYTES, 'all xattrs fit into a record');
