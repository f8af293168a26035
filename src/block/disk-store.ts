/**
 * The storage engine of one disk: answers every request that concerns a segment. One event loop
 * owns all of a disk's state; each event is applied at once, and replies leave when what they state
 * is durable. Verdicts are segment-table.ts, durability is engine.ts; SEAL, DELETE, DROP and COPY,
 * which ask the metadata store first, are confirmed.ts and copy.ts; reads and fences are
 * answers.ts.
 *
 * INVARIANT: `reply` is called exactly once for each request.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import type { ClusterId, Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import {
  DISK_MAX_CHECKSUM_TABLES,
  DISK_MAX_OPEN_FILES,
  DISK_MAX_PENDING_BYTES,
  DISK_RESERVE_BYTES,
  INDEX_SLICE_ENTRIES,
  INVENTORY_PAGE,
  JOURNAL_BATCH_MAX_BYTES,
  READ_LEASE_MS,
} from '../core/limits.js';
import type { Disk } from '../io/disk.js';
import type { Random } from '../io/random.js';
import { answerFence, answerLocate, answerRead } from './answers.js';
import { confirmDelete, confirmDrop, confirmSeal } from './confirmed.js';
import { confirmCopy } from './copy.js';
import type {
  DiskLimits,
  DiskState,
  DiskStats,
  DiskStoreOptions,
  ReplyCallback,
  SegmentInspection,
} from './disk-store-api.js';
import { Engine } from './engine.js';
import { formatDisk } from './forming.js';
import { inventoryPage } from './inventory.js';
import { openDisk } from './opening.js';
import type { Segment } from './replica-state.js';
import { decide, inventoryEntry, suspectFrom } from './segment-table.js';
import { Replies, type Task } from './task.js';
import type { InventoryRequest, Request } from './wire/messages.js';
import { acceptAppend, acceptCreate, acceptRecover, promise } from './writes.js';

type OnSegment = Exclude<Request, { type: 'inventory' | 'status' }>;

const DEFAULT_LIMITS: DiskLimits = {
  pendingBytes: DISK_MAX_PENDING_BYTES,
  reserveBytes: DISK_RESERVE_BYTES,
  journalBatchBytes: JOURNAL_BATCH_MAX_BYTES,
  journalLapBytes: Number.POSITIVE_INFINITY,
  openFiles: DISK_MAX_OPEN_FILES,
  cachedSums: DISK_MAX_CHECKSUM_TABLES,
  indexSlice: INDEX_SLICE_ENTRIES,
  readLeaseMs: READ_LEASE_MS,
};

export class DiskStore {
  readonly #options: DiskStoreOptions;
  readonly #limits: DiskLimits;
  readonly #replies = new Replies();
  #engine: Engine | null = null;
  #task: Task | null = null;
  #opening = false;
  /** It could not be opened. */
  #isUseless = false;
  #stopping: (() => void)[] | null = null;

  constructor(options: DiskStoreOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  /** Writes superblock and journal of an empty disk. ALREADY_EXISTS when it holds one. */
  static format(
    disk: Disk,
    identity: {
      readonly cluster: ClusterId;
      readonly node: NodeId;
      readonly journalBytes: number;
    },
    random: Random,
    done: (error: HoldfastError | null, incarnation: Incarnation | null) => void,
  ): void {
    formatDisk(disk, identity, random, done);
  }

  /** For messages to people. */
  get name(): string {
    return this.#options.disk.name;
  }

  /**
   * The disk's current life; '' until open() has called back, and when a disk that could not be
   * opened is not known to be the one meant.
   */
  get incarnation(): Incarnation {
    return this.#replies.incarnation;
  }

  get state(): DiskState {
    if (this.#engine !== null) return this.#engine.state;
    if (this.#isUseless) return 'failed';
    return this.#opening ? 'opening' : 'closed';
  }

  /** Whether it could be opened, whatever became of it since. */
  get opened(): boolean {
    return this.#engine !== null;
  }

  /** Recovers what the disk holds. Requests are refused until `done`. For errors see opening.ts. */
  open(done: (error: HoldfastError | null) => void): void {
    const { disk, random, log, cluster, node, clock, confirmations, requests } = this.#options;
    const openFiles = { files: this.#limits.openFiles, tables: this.#limits.cachedSums };
    const onFailure = (error: HoldfastError): void => this.#engine?.fail(error);
    this.#opening = true;
    this.#isUseless = false;
    const options = { disk, random, log, cluster, node, openFiles, onFailure };
    openDisk(options, (error, recovered, incarnation) => {
      this.#opening = false;
      if (recovered === null) {
        this.#replies.incarnation = incarnation ?? ('' as Incarnation);
        this.#isUseless = true;
        done(error);
        return;
      }
      const limits = this.#limits;
      const engine = new Engine({ disk, clock, log, limits }, recovered);
      this.#engine = engine;
      this.#replies.incarnation = engine.incarnation;
      const copies = new Map<SegmentId, number>();
      this.#task = { engine, replies: this.#replies, confirmations, requests, copies };
      done(null);
    });
  }

  /** Does this disk know the segment, if only as a tombstone? */
  knows(segment: Segment['id']): boolean {
    return this.#engine?.segments.has(segment) ?? false;
  }

  /** Handles a request; `reply` is called once, perhaps before this call returns. */
  handle(request: Request, reply: ReplyCallback): void {
    const task = this.#task;
    const replies = this.#replies;
    if (task === null || task.engine.state === 'closed') {
      replies.send(reply, 'DISK', null);
      return;
    }
    if (this.#stopping !== null) {
      replies.send(reply, 'BUSY', null);
      return;
    }
    const { engine } = task;
    if (request.type === 'status') {
      replies.send(reply, 'REFUSED', null);
      return;
    }
    if (request.incarnation !== engine.incarnation) {
      // A FENCE may still fence; the reply's incarnation keeps it from counting.
      const fences = request.type === 'fence' && engine.segments.has(request.segment);
      if (!fences) {
        replies.send(reply, 'INCARNATION', null);
        return;
      }
    }
    if (request.type === 'inventory') {
      this.#inventory(engine, request, reply);
      return;
    }
    if (engine.state === 'failed' && request.type !== 'read') {
      replies.send(reply, 'DISK', engine.segments.get(request.segment));
      return;
    }
    try {
      this.#dispatch(task, request, reply);
    } catch (error) {
      // Only a disk that is gone throws here, before anything was accepted.
      if (!(error instanceof HoldfastError)) throw error;
      engine.fail(asFault(error, 'DISK_FAILED'));
      replies.send(reply, 'DISK', undefined);
    }
  }

  #dispatch(task: Task, request: OnSegment, reply: ReplyCallback): void {
    const { engine, replies } = task;
    const state = engine.segments.get(request.segment);
    const verdict = decide(state, request);
    if (verdict.act === 'answer' && verdict.status !== 'OK') {
      replies.send(reply, verdict.status, state);
      return;
    }
    switch (request.type) {
      case 'append':
        if (state !== undefined) acceptAppend(task, state, request, reply);
        return;
      case 'ping':
        if (state === undefined) return;
        promise(task, state, request.epoch);
        replies.send(reply, 'OK', state);
        return;
      case 'create':
        acceptCreate(task, state, request, reply);
        return;
      case 'fence':
        answerFence(task, state, request, reply);
        return;
      case 'read':
        if (state !== undefined) answerRead(task, state, request, reply);
        return;
      case 'locate':
        if (state !== undefined) answerLocate(task, state, request, reply);
        return;
      case 'recover':
        if (state !== undefined) acceptRecover(task, state, request, reply);
        return;
      case 'seal':
        if (state !== undefined) confirmSeal(task, state, request, reply);
        return;
      case 'copy':
        confirmCopy(task, request, reply);
        return;
      case 'delete':
        confirmDelete(task, request, reply);
        return;
      case 'drop':
        confirmDrop(task, request, reply);
        return;
    }
  }

  #inventory(engine: Engine, request: InventoryRequest, reply: ReplyCallback): void {
    const limit = Math.max(1, Math.min(request.limit, INVENTORY_PAGE));
    const { page, more } = inventoryPage(engine.segments.keys(), request.after ?? '', limit);
    const entries = page.flatMap((id) => {
      const state = engine.segments.get(id as SegmentId);
      // Dropped here, it says nothing of the segment.
      return state === undefined || state.dropped ? [] : [inventoryEntry(state)];
    });
    this.#replies.send(reply, 'OK', null, { type: 'inventory', entries, more });
  }

  /** Sealed copies that a read found rotten since the last call, with their volumes. */
  takeRotten(): (readonly [SegmentId, VolumeId])[] {
    const found = [...this.#replies.rotten];
    this.#replies.rotten.clear();
    return found;
  }

  /** What is durable of every segment. */
  inspect(): SegmentInspection[] {
    return [...(this.#engine?.segments.values() ?? [])].map((state) => ({
      segment: state.id,
      createEpoch: state.createEpoch,
      maxEpoch: state.durable.maxEpoch,
      durableLength: state.durableLength,
      acceptedLength: state.acceptedLength,
      sealedEnd: state.durable.sealed ? state.durableLength : null,
      suspectFrom: suspectFrom(state),
      deleted: state.durable.deleted,
      hasCreate: state.durable.hasCreate,
    }));
  }

  /** Facts for metrics and status. */
  stats(): DiskStats {
    const engine = this.#engine;
    const { counts } = this.#replies;
    const space = engine?.space() ?? this.#spaceOfUseless();
    return {
      incarnation: this.incarnation,
      state: this.state,
      ...space,
      segments: heldOf(engine?.segments.values() ?? []),
      bytesWritten: (engine?.journal.bytesWritten ?? 0) + (engine?.directBytes ?? 0),
      bytesRead: counts.bytesRead,
      flushes: engine?.journal.flushes ?? 0,
      flushMs: engine?.journal.flushMs ?? [],
      journalBytes: engine?.journal.sizeBytes ?? 0,
      journalUsedBytes: engine?.journal.usedBytes ?? 0,
      pendingBytes: (engine?.pendingBytes ?? 0) + (engine?.files.pendingBytes ?? 0),
      journalQueue: engine?.journal.queued ?? 0,
      waiting: counts.waiting,
      reads: counts.reads,
      checksumFailures: counts.checksumFailures,
      repairedBytes: counts.repairedBytes,
    };
  }

  /** A disk that cannot be opened has no room, and a size that other parts may know it by. */
  #spaceOfUseless(): { readonly freeBytes: number; readonly totalBytes: number } {
    if (!this.#isUseless) return { freeBytes: 0, totalBytes: 0 };
    try {
      return { freeBytes: 0, totalBytes: this.#options.disk.space().totalBytes };
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      return { freeBytes: 0, totalBytes: 0 };
    }
  }

  /** Lets what is under way become durable, then closes. Idempotent. */
  stop(done: () => void): void {
    if (this.#stopping !== null) {
      this.#stopping.push(done);
      return;
    }
    const waiting = [done];
    this.#stopping = waiting;
    const finish = (): void => {
      for (const callback of waiting.splice(0)) callback();
    };
    if (this.#engine === null) this.#options.clock.soon(finish);
    else this.#engine.stop(finish);
  }
}

/** Without those that were deleted or dropped, or never made here, and are only remembered. */
function heldOf(segments: Iterable<Segment>): number {
  let held = 0;
  for (const { hasCreate, deleted } of segments) if (hasCreate && !deleted) held += 1;
  return held;
}
