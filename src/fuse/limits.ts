/**
 * Every bound of the FUSE layer: what is negotiated with the kernel, how long it may cache, and how
 * much the daemon takes on before it leaves requests waiting in the kernel.
 */
import { assert } from '../core/assert.js';
import { KIB, MIB, PAGE_BYTES } from '../core/units.js';
import { IN_HEADER, WRITE_IN } from './protocol.js';

/** Bytes of one WRITE, and of one READ (as pages). */
export const MAX_WRITE_BYTES = 1 * MIB;
export const MAX_PAGES = 256;
/** The kernel cuts this down to the mount's own limit, which the launcher raises by sysfs. */
export const MAX_READAHEAD_BYTES = 1 * MIB;
/** Read-ahead, write-back and asynchronous direct requests that the kernel has under way. */
export const MAX_BACKGROUND = 128;
export const CONGESTION_THRESHOLD = 96;

/** The longest request: a WRITE with its headers. Rounded to pages for the buffer that takes it. */
export const REQUEST_BUFFER_BYTES = MAX_WRITE_BYTES + PAGE_BYTES;

/**
 * How long names and attributes may be cached. The owner is the only one that changes the volume
 * and every change of it passes the kernel, so this is only a bound on the unforeseen.
 */
export const CACHE_SECONDS = 86_400;

/** Requests read and not yet answered, above which no more are read from the kernel. */
export const MAX_IN_FLIGHT_REQUESTS = 1024;
/** Bytes of WRITEs not yet answered, likewise. */
export const MAX_IN_FLIGHT_BYTES = 64 * MIB;

/** Who waits for longer than this is looked after so often: whether he was killed meanwhile. */
export const KILLED_CHECK_MS = 1_000;

/** Requests served in one turn of the event loop, so that network and timers get theirs. */
export const MAX_REQUESTS_A_WAKEUP = 16;

/**
 * So long the next request is looked for without sleeping, when those before it came soon: what a
 * program takes from one system call to the next, and a few wake-ups of a processor, which take
 * 0.05 ms and more each on a busy host.
 */
export const BUSY_POLL_MS = 0.2;

/** The payload of one READDIR or READDIRPLUS reply, whatever the kernel asks for. */
export const MAX_LISTING_BYTES = 64 * KIB;
/** As in <linux/limits.h>. */
export const XATTR_NAME_MAX = 255;
export const XATTR_VALUE_MAX = 64 * KIB;
export const SYMLINK_MAX = 4095;
/** A name or symlink target in a request; names above NAME_MAX are refused one layer up. */
export const STRING_MAX = 4096;

/** st_blksize: the buffer size that stdio takes, so that small fwrites become few requests. */
export const PREFERRED_IO_BYTES = 128 * KIB;

/** File data up to this size is copied behind the reply's header: cheaper than a vector of two. */
export const REPLY_COPY_MAX_BYTES = 16 * KIB;
/** Replies of more parts than this are joined first: writev(2) takes 1024, whole or not at all. */
export const MAX_REPLY_PARTS = 512;

/** mount(8) and umount(8) get this long before they are given up. */
export const MOUNT_TIMEOUT_MS = 15_000;

assert(MAX_PAGES * PAGE_BYTES === MAX_WRITE_BYTES, 'max_pages covers max_write');
assert(
  REQUEST_BUFFER_BYTES >= MAX_WRITE_BYTES + IN_HEADER.BYTES + WRITE_IN.BYTES,
  'the kernel refuses to fill a buffer that is smaller than its longest request',
);
assert(MAX_IN_FLIGHT_BYTES > 8 * MAX_WRITE_BYTES, 'a few large writes are always under way');
