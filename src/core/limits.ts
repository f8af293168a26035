/**
 * Every bound on a queue, batch, retry, frame and time, in one place, with the relations between
 * them asserted when the module loads. Values that are part of a format or of the protocol's safety
 * argument say so.
 */
import { assert } from './assert.js';
import { GIB, KIB, MIB, PAGE_BYTES } from './units.js';

/** A segment is rolled at this size when a spare is registered (soft). */
export const SEGMENT_SOFT_BYTES = 64 * MIB;
/** Without a registered spare a segment grows up to this size (hard). */
export const SEGMENT_HARD_BYTES = 16 * GIB;
/**
 * Page indexes are 32 bits in formats and in the salt of page checksums: no offset may reach this.
 */
export const SEGMENT_FORMAT_MAX_BYTES = 2 ** 32 * PAGE_BYTES;

/**
 * The index of a disk keeps the epoch that created a segment in 48 bits: enough for a takeover each
 * millisecond for 8,900 years. Part of the disk format; requests beyond it are MALFORMED.
 */
export const EPOCH_MAX = 2 ** 48 - 1;

/** Records and data pages of one batch, in bytes of the segment. */
export const BATCH_MAX_BYTES = 2 * MIB;
export const BATCH_MAX_RECORDS = 16_384;
export const RECORD_MAX_BYTES = 64 * KIB;

/** A frame on the wire: one message with its payload. */
export const FRAME_MAX_BYTES = BATCH_MAX_BYTES + 64 * KIB;
/** Before a peer has proved that it knows the secret, it may send no frame larger than this. */
export const FRAME_MAX_BYTES_UNAUTHENTICATED = 1 * KIB;
/** Pages of one READ. */
export const READ_MAX_PAGES = 256;
/** Page checksums of one LOCATE: more than those of a segment that is rolled when it is full. */
export const LOCATE_MAX_PAGES = (SEGMENT_SOFT_BYTES / PAGE_BYTES) * 1.5;
export const LOCATE_PATH_MAX_BYTES = 4 * KIB;
/** LOCATEs of one reader that are under way. */
export const LOCATE_MAX_IN_FLIGHT = 4;
/** A replica is asked again for pages that it did not have yet, and another one, after this. */
export const LOCATE_AGAIN_MS = 100;
/** A node whose files are not on this machine is not asked again for this long. */
export const LOCATE_ELSEWHERE_MS = 60_000;
/** Copies on this machine that a reader has open, each with up to LOCATE_MAX_PAGES checksums. */
export const LOCAL_COPIES_MAX = 256;
/** Segments of which a reader remembers whether it has asked. */
export const LOCAL_PLACES_MAX = 4096;
/** One that nobody reads is closed after this: an open file keeps the space of a deleted one. */
export const LOCAL_COPY_IDLE_MS = 10_000;
/** What was written or read so lately is still in the page cache, also where memory is short. */
export const LOCAL_FRESH_MS = 60_000;
/** A read of a local file that takes longer is given to the nodes… */
export const LOCAL_READ_LATE_MS = 100;
/** …and what else stands on that disk is, for this long. */
export const LOCAL_AVOID_MS = 10_000;
/** Requests of READ_MAX_PAGES under way for one large read. */
export const READ_MAX_IN_FLIGHT = 4;
/**
 * A second replica is asked when the first has not answered after 4 × its usual time, within these.
 */
export const READ_HEDGE_MIN_MS = 25;
export const READ_HEDGE_MAX_MS = 500;
/** A replica that failed to answer is asked last for this long. */
export const READ_AVOID_MS = 2_000;
/** One that was merely late, for this long: it may have been a moment's hiccup. */
export const READ_AVOID_LATE_MS = 500;
/** "No replica has a good copy" is asked for anew when it could not be told for this long. */
export const READ_LOST_FRESH_MS = 2_000;

/** Unanswered requests of one connection; the sender queues above it. */
export const CONNECTION_MAX_IN_FLIGHT = 1024;
/** Bytes queued to be sent on one connection before its producer must wait. */
export const CONNECTION_MAX_QUEUED_BYTES = 8 * MIB;
/** Connections to one node that have proved the secret. */
export const NODE_MAX_CONNECTIONS = 1024;
/**
 * Those that have not yet: with more, the oldest of them ends, so strangers shut nobody out. As
 * many as there may be owners, since all of them come at once when a node is back.
 */
export const NODE_MAX_UNPROVEN_CONNECTIONS = NODE_MAX_CONNECTIONS;
/** Disks of one node: their incarnations fit into the last frame of the handshake. */
export const NODE_MAX_DISKS = 32;
/** Places that a COPY may be told to fetch from. */
export const COPY_MAX_SOURCES = 16;
/** Operations of one disk that are in the thread pool at once; more wait for their turn. */
export const DISK_MAX_THREADS = 4;
/** Threads of a node's pool that are no disk's: for names that are looked up, and the like. */
export const NODE_SPARE_THREADS = 4;
/** Bytes of accepted, not yet durable writes of one disk. */
export const DISK_MAX_PENDING_BYTES = 32 * MIB;

/** Batches smaller than this go through the journal, larger ones straight to the segment file. */
export const JOURNAL_BATCH_MAX_BYTES = 64 * KIB;
export const JOURNAL_DEFAULT_BYTES = 64 * MIB;
export const JOURNAL_MIN_BYTES = 4 * MIB;
/** One journal group: a write and a flush that many commits share. */
export const JOURNAL_GROUP_MAX_BYTES = 1 * MIB;
export const JOURNAL_GROUP_MAX_ENTRIES = 256;
/** Journaled batches are written to their segment files when there are this many bytes of them… */
export const DRAIN_BYTES = 256 * KIB;
/** …or after this time; in calls of at most about this many bytes. */
export const DRAIN_DELAY_MS = 20;
export const DRAIN_RUN_BYTES = 1 * MIB;
/** A LENGTH entry waits this long for another reason to write a group. */
export const JOURNAL_IDLE_MS = 100;
/** Files that one disk's store holds open, and segments whose page checksums it holds in memory. */
export const DISK_MAX_OPEN_FILES = 256;
export const DISK_MAX_CHECKSUM_TABLES = 256;
/** Segments that a snapshot of the index takes in one turn of the event loop: about 1 ms. */
export const INDEX_SLICE_ENTRIES = 2_048;
/** How long after a full disk refused a write of journaled bytes it is tried again. */
export const DISK_FULL_RETRY_MS = 1_000;
/**
 * A flush that holds up the event loop for this long is a stall. Shorter ones are far below
 * everything that others wait for (the lag limit, the lease).
 */
export const FLUSH_IN_PLACE_MAX_MS = 10;
/**
 * After a stall this many times its length passes before the next flush in place: so stalls take at
 * most a tenth of the event loop's time. One that follows another doubles that, up to the most, so
 * that a disk whose every flush is a stall gets a hundredth.
 */
export const FLUSH_IN_PLACE_PAUSE = 9;
export const FLUSH_IN_PLACE_PAUSE_MAX = 99;
/** So many flushes in place without a stall, and the next stall is the first one again. */
export const FLUSH_IN_PLACE_GOOD = 100;
/**
 * Groups up to this size are flushed in place: a replica that lags a little gets its commits by
 * twos and threes, and two thread switches for each would keep it lagging. Larger groups are a load
 * that goes on while they are flushed.
 */
export const FLUSH_IN_PLACE_ENTRIES = 3;
/**
 * A read in place (of what is probably cached) that takes longer stops further ones for a while.
 */
export const READ_IN_PLACE_MAX_MS = 2;
/** Larger reads leave the event loop to others. */
export const READ_IN_PLACE_MAX_BYTES = 64 * KIB;
/** Kept free on a disk for FENCE, RECOVER and SEAL: new CREATEs are refused below it. */
export const DISK_RESERVE_BYTES = 64 * MIB;

/** Bytes a replica may lag behind before the owner rolls, or stops sending to it. */
export const REPLICA_MAX_LAG_BYTES = 16 * MIB;
export const REPLICA_MAX_LAG_MS = 1_000;
/**
 * After this an owner leaves an open segment with a replica on a disk that is away: long enough for
 * a restart, and sooner than repair gives the disk up.
 */
export const REPLICA_ABSENT_MS = 60_000;
/** An open segment that has records is rolled at this age. */
export const SEGMENT_MAX_AGE_MS = 86_400_000;
/** Appended, not yet acknowledged bytes of one volume; append() waits above it. */
export const WRITER_MAX_PENDING_BYTES = 32 * MIB;
/** Batches of one segment under way to one replica. */
export const WRITER_MAX_BATCHES_IN_FLIGHT = 16;
/** With this many batches under way, small appends wait and share the next one. */
export const WRITER_SMALL_BATCHES_IN_FLIGHT = 2;
/** Bytes of waiting appends that are worth a batch of their own at once. */
export const WRITER_EAGER_BYTES = 128 * KIB;
/** SEALs, COPYs and DELETEs of one owner under way at once, and the longest pause between tries. */
export const UPKEEP_MAX_IN_FLIGHT = 8;
export const UPKEEP_RETRY_MAX_MS = 5_000;
/** A COPY may fetch a whole segment. */
export const COPY_TIMEOUT_MS = 120_000;

/** L: what a grant promises, on the node's monotonic clock. Part of the safety argument. */
export const READ_LEASE_MS = 2_000;
/**
 * The part of L that the owner uses, counted from its send time: room for clocks that run apart.
 */
export const READ_LEASE_SAFE_FRACTION = 0.9;

export const REQUEST_TIMEOUT_MS = 5_000;
export const CONNECT_TIMEOUT_MS = 3_000;
export const HANDSHAKE_TIMEOUT_MS = 3_000;
/** A connection on which requests time out and nothing has arrived for this long is given up. */
export const CONNECTION_SILENCE_MS = 5_000;
/** How long an orderly stop waits for what is in progress. */
export const STOP_GRACE_MS = 10_000;
export const RECONNECT_MIN_MS = 20;
export const RECONNECT_MAX_MS = 2_000;

/** etcd leases: a hint of liveness, never safety. */
export const LEASE_TTL_SECONDS = 10;
/** After a metadata outage nobody judges leases for this long. */
export const LEASE_GRACE_AFTER_OUTAGE_MS = 30_000;
export const METADATA_TIMEOUT_MS = 5_000;

export const REPLICAS_MAX = 5;
export const REPLICA_COUNTS = [1, 2, 3, 5] as const;
/** Buckets of sealed segments for each replica count. Part of the metadata format. */
export const PLACEMENT_GROUPS = 128;

export const NAME_MAX_BYTES = 128;
export const ZONE_MAX_BYTES = 128;
export const ADDRESS_MAX_BYTES = 300;
/** How orchestrators call a machine. */
export const MACHINE_MAX_BYTES = 256;
/** Un-fsynced changes are committed this often. */
export const COMMIT_INTERVAL_MIN_MS = 1_000;
export const COMMIT_INTERVAL_MAX_MS = 60_000;
export const COMMIT_INTERVAL_DEFAULT_MS = 5_000;
/** A program's version, as a node tells it to people. */
export const VERSION_MAX_BYTES = 64;
export const VOLUME_MIN_BYTES = 1 * MIB;
export const VOLUME_MAX_BYTES = 1024 * 1024 * GIB;
export const INVENTORY_PAGE = 1_000;

assert(SEGMENT_HARD_BYTES < SEGMENT_FORMAT_MAX_BYTES, 'page indexes of a segment fit');
assert(BATCH_MAX_BYTES + 4 * KIB < FRAME_MAX_BYTES, 'a batch fits into a frame');
assert(READ_MAX_PAGES * (PAGE_BYTES + 4) + KIB < FRAME_MAX_BYTES, 'a READ reply fits into a frame');
assert(JOURNAL_BATCH_MAX_BYTES * 8 < JOURNAL_MIN_BYTES, 'a journal half holds several batches');
assert(
  JOURNAL_GROUP_MAX_BYTES * 2 <= JOURNAL_MIN_BYTES && JOURNAL_BATCH_MAX_BYTES < MIB / 2,
  'a group fits into half a journal, a batch into a group',
);
assert(READ_LEASE_SAFE_FRACTION < 1, 'the owner stops before the node does');
assert(REPLICA_MAX_LAG_BYTES < WRITER_MAX_PENDING_BYTES, 'a laggard is noticed before we block');
