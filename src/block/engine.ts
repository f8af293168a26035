/**
 * The machinery under a disk's requests: commits on their way through journal or segment file to
 * durable, in order for each segment; snapshots of the index; failure and space. disk-store.ts and
 * the files beside it decide what to commit; this file makes it durable.
 *
 * INVARIANT: after a failed flush nothing is acknowledged any more until the disk is opened again.
 */
import { assert } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { Incarnation, SegmentId } from '../core/ids.js';
import {
  DISK_FULL_RETRY_MS,
  DRAIN_BYTES,
  DRAIN_DELAY_MS,
  JOURNAL_IDLE_MS,
} from '../core/limits.js';
import { MIB, type Monotonic, offset, type SegmentOffset } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Disk } from '../io/disk.js';
import type { Log } from '../io/log.js';
import type { DiskLimits, DiskState } from './disk-store-api.js';
import { DiskFormat } from './forming.js';
import { writeIndex } from './index-file.js';
import { IndexEncoder } from './index-snapshot.js';
import { Journal } from './journal.js';
import { type Entry, EntryType, encodeEntry } from './journal-format.js';
import type { Recovered } from './opening.js';
import type { BatchBytes, Commit, JournalEntry, Segment, Settle } from './replica-state.js';
import type { SegmentFiles } from './segment-files.js';
import { noteAccepted, retreat } from './segment-table.js';
import { batchSegmentBytes } from './wire/batch.js';
import type { StatusName } from './wire/messages.js';

const NO_BATCHES: readonly BatchBytes[] = [];
const NO_PARTS: readonly Uint8Array[] = [];
const SPACE_MAX_AGE_MS = 1_000;
/** How long an orderly stop waits for flushes, and then for its snapshot. */
const STOP_MS = 5_000;

export interface EngineOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: DiskLimits;
}

/** A commit that may be a journal entry as well, so that an append makes one object. */
class PendingCommit implements Commit, JournalEntry {
  durable = false;
  failure: StatusName | null = null;
  batches = NO_BATCHES;
  direct = false;
  readonly start: SegmentOffset;
  readonly startCrc: number;
  end: SegmentOffset;
  crc: number;
  readonly #engine: Engine;

  constructor(
    engine: Engine,
    readonly state: Segment,
    readonly entryType: EntryType,
    readonly parts: readonly Uint8Array[],
    readonly bytes: number,
    readonly settle: Settle,
  ) {
    this.#engine = engine;
    this.start = state.acceptedLength;
    this.startCrc = state.acceptedCrc;
    this.end = this.start;
    this.crc = this.startCrc;
  }

  get segment(): SegmentId {
    return this.state.id;
  }

  written(): void {
    this.durable = true;
    this.#engine.settle(this.state);
  }

  finished(error: HoldfastError | null): void {
    if (error === null) this.durable = true;
    else if (error.code === 'DISK_FULL') this.failure = 'FULL';
    else this.#engine.fail(error);
    this.#engine.settle(this.state);
  }
}

export class Engine {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: DiskLimits;
  readonly incarnation: Incarnation;
  readonly segments: Map<SegmentId, Segment>;
  readonly files: SegmentFiles;
  readonly journal: Journal;
  readonly amnesia: boolean;
  readonly format: DiskFormat;
  readonly startedAt: Monotonic;
  state: DiskState = 'ok';
  pendingBytes = 0;
  directBytes = 0;
  readonly #lengths = new Set<Segment>();
  readonly #reserve: number;
  #slot: 0 | 1;
  #drainPlanned = false;
  #drainNotBefore = 0;
  #drainTimer: Timer | null = null;
  #lengthTimer: Timer | null = null;
  #space = { freeBytes: 0, totalBytes: 0 };
  #spaceAt = Number.NEGATIVE_INFINITY;
  #spaceWritten = 0;

  constructor(options: EngineOptions, recovered: Recovered) {
    this.disk = options.disk;
    this.clock = options.clock;
    this.log = options.log;
    this.limits = options.limits;
    this.incarnation = recovered.superblock.incarnation;
    this.segments = recovered.segments;
    this.files = recovered.files;
    this.amnesia = recovered.amnesia;
    this.format = new DiskFormat(this.disk, this.log, recovered.superblock);
    this.#slot = recovered.slot;
    this.startedAt = this.clock.monotonic();
    this.journal = new Journal({
      file: recovered.journalFile,
      clock: this.clock,
      incarnation: this.incarnation,
      journalBytes: recovered.superblock.journalBytes,
      lapBytes: this.limits.journalLapBytes,
      lap: recovered.lap,
      sequence: recovered.sequence,
      extra: () => this.#lengthEntries(),
      onLap: (lap, sequence) =>
        this.#snapshot(lap, sequence, () => {
          this.journal.cleaned(lap - 1);
        }),
      onSettled: () => this.#planDrain(),
      onFailure: (error) => this.fail(error),
    });
    const total = this.space().totalBytes;
    this.#reserve = Math.min(this.limits.reserveBytes, Math.floor(total / 16));
  }

  /**
   * Journals a change that is not a batch; `settle` is called behind all that was accepted before.
   */
  mark(state: Segment, entry: Exclude<Entry, { type: 'batch' }>, settle: Settle): void {
    const payload = encodeEntry(entry);
    const type = EntryType[entry.type];
    const commit = new PendingCommit(this, state, type, [payload], payload.length, settle);
    state.queue.push(commit);
    this.pendingBytes += commit.bytes;
    this.journal.submit(commit);
  }

  /** Calls `settle` behind all that was accepted before, perhaps before this call returns. */
  barrier(state: Segment, settle: Settle): void {
    if (state.queue.length === 0) {
      settle(null);
      return;
    }
    const commit = new PendingCommit(this, state, EntryType.length, NO_PARTS, 0, settle);
    commit.durable = true;
    state.queue.push(commit);
  }

  /** Accepts one batch through the journal; `parts` is its wire form. */
  journaled(
    state: Segment,
    batch: BatchBytes,
    parts: readonly Uint8Array[],
    bytes: number,
    settle: Settle,
  ): void {
    this.#accept(state, [batch], parts, bytes, false, settle);
  }

  /** Accepts batches straight into the segment file. */
  direct(state: Segment, batches: readonly BatchBytes[], bytes: number, settle: Settle): void {
    this.#accept(state, batches, NO_PARTS, bytes, true, settle);
  }

  #accept(
    state: Segment,
    batches: readonly BatchBytes[],
    parts: readonly Uint8Array[],
    bytes: number,
    direct: boolean,
    settle: Settle,
  ): void {
    const commit = new PendingCommit(this, state, EntryType.batch, parts, bytes, settle);
    commit.batches = batches;
    commit.direct = direct;
    for (const { header } of batches) {
      assert(header.offset === state.acceptedLength, 'batches follow each other');
      const end = header.offset + batchSegmentBytes(header);
      noteAccepted(state, offset(end), header.headerCrc);
    }
    commit.end = state.acceptedLength;
    commit.crc = state.acceptedCrc;
    state.queue.push(commit);
    this.pendingBytes += bytes;
    this.#spaceWritten += commit.end - commit.start;
    if (!direct) this.journal.submit(commit);
    else {
      this.directBytes += bytes;
      this.files.get(state.id).writeDirect(batches, (error) => commit.finished(error));
    }
  }

  /** Settles what is durable at the head of a segment's queue. */
  settle(state: Segment): void {
    for (let head = state.queue[0]; head !== undefined; head = state.queue[0]) {
      if (this.state === 'failed' || (!head.durable && head.failure === null)) return;
      if (head.failure !== null) {
        this.#fallBack(state, head);
        continue;
      }
      state.queue.shift();
      this.pendingBytes -= head.bytes;
      if (head.batches.length > 0) this.#extend(state, head);
      head.settle(null);
    }
  }

  #extend(state: Segment, commit: Commit): void {
    assert(commit.start === state.durableLength, 'the durable prefix has no holes');
    state.durableLength = commit.end;
    state.durableCrc = commit.crc;
    const file = this.files.get(state.id);
    for (const batch of commit.batches) {
      if (commit.direct) file.entered(batch);
      else file.enqueue(batch);
    }
    if (commit.direct) this.#noteLength(state);
    else this.files.wait(file);
  }

  /** The head could not be written: it and all bytes behind it were never accepted. */
  #fallBack(state: Segment, head: Commit): void {
    const dropped = state.queue.filter((commit) => commit.batches.length > 0);
    const kept = state.queue.filter((commit) => commit.batches.length === 0);
    state.queue.splice(0, state.queue.length, ...kept);
    retreat(state, head.start, head.startCrc);
    for (const commit of dropped) {
      this.pendingBytes -= commit.bytes;
      commit.settle(head.failure);
    }
  }

  #noteLength(state: Segment): void {
    this.#lengths.add(state);
    this.#lengthTimer ??= this.clock.after(JOURNAL_IDLE_MS, () => {
      this.#lengthTimer = null;
      this.journal.submitExtra();
    });
  }

  #lengthEntries(): readonly JournalEntry[] {
    if (this.#lengths.size === 0) return [];
    const entries = [...this.#lengths].map((state): JournalEntry => {
      const { durableLength: end, durableCrc: crc, id: segment } = state;
      const parts = [encodeEntry({ type: 'length', segment, end, crc })];
      return { entryType: EntryType.length, segment, parts, bytes: 12, written: () => {} };
    });
    this.#lengths.clear();
    return entries;
  }

  /**
   * Nothing is acknowledged any more. Everybody who waits is told, in no order that means anything.
   */
  fail(error: HoldfastError): void {
    if (this.state === 'failed') return;
    this.state = 'failed';
    this.journal.stop();
    this.log.error({ disk: this.disk.name, code: error.code, error: error.message }, 'disk failed');
    for (const state of this.segments.values()) {
      for (const commit of state.queue.splice(0)) commit.settle('DISK');
    }
    this.pendingBytes = 0;
  }

  #planDrain(): void {
    const { pendingBytes } = this.files;
    if (pendingBytes === 0 || this.clock.monotonic() < this.#drainNotBefore) return;
    if (pendingBytes < DRAIN_BYTES) {
      // In bulk, and not between two commits: the journal has the bytes; reads write them first.
      this.#drainTimer ??= this.clock.after(DRAIN_DELAY_MS, () => this.#drain());
    } else if (!this.#drainPlanned) {
      this.#drainPlanned = true;
      this.clock.soon(() => this.#drain());
    }
  }

  #drain(): void {
    this.#drainPlanned = false;
    this.#drainTimer?.cancel();
    this.#drainTimer = null;
    if (this.state === 'failed' || this.state === 'closed') return;
    try {
      this.files.drain();
      this.space();
    } catch (error) {
      if (!this.#isFull(error as HoldfastError)) return;
      this.#drainNotBefore = this.clock.monotonic() + DISK_FULL_RETRY_MS;
      this.#drainTimer = this.clock.after(DISK_FULL_RETRY_MS, () => this.#drain());
    }
  }

  /**
   * A full disk holds journaled bytes back in memory (bounded by pendingBytes), for the caller to
   * try again; any other error is the disk's end.
   */
  #isFull(error: HoldfastError): boolean {
    if (error.code !== 'DISK_FULL') {
      this.fail(error);
      return false;
    }
    if (this.state === 'ok') {
      this.log.warn({ disk: this.disk.name }, 'disk is full: journaled bytes wait in memory');
      this.state = 'full';
    }
    return true;
  }

  /** Writes the index such that replay begins at `lap`, whose first group has `sequence`. */
  #snapshot(lap: number, sequence: number, done: () => void): void {
    const { incarnation, amnesia } = this;
    const head = { incarnation, lap, sequence, amnesia };
    const encoder = new IndexEncoder(head, this.segments.values());
    const encode = (): void => {
      if (this.state === 'failed' || this.state === 'closed') return;
      if (encoder.encode(this.limits.indexSlice)) this.#writeSnapshot(encoder.finish(), done);
      else this.clock.soon(encode);
    };
    this.#whenEntered(encode);
  }

  /**
   * Calls back once every batch that the laps until now hold is with its file. One that is durable
   * in the journal may wait behind a direct write of its segment: no file has it yet, and no lap
   * would when it is acknowledged after the snapshot.
   */
  #whenEntered(done: () => void): void {
    let waiting = 1;
    const entered = (): void => {
      waiting -= 1;
      if (waiting === 0) done();
    };
    for (const state of this.segments.values()) {
      const { queue } = state;
      // Not behind all that was accepted: that may need the room which this snapshot makes.
      const last = queue.findLastIndex(
        (one) => one.durable && !one.direct && one.batches.length > 0,
      );
      if (last < 0) continue;
      waiting += 1;
      const mark = new PendingCommit(this, state, EntryType.length, NO_PARTS, 0, entered);
      mark.durable = true;
      queue.splice(last + 1, 0, mark);
    }
    entered();
  }

  #writeSnapshot(parts: readonly Buffer[], done: () => void): void {
    const again = (error: HoldfastError): void => {
      if (this.#isFull(error)) this.clock.after(DISK_FULL_RETRY_MS, write);
    };
    const write = (): void => {
      if (this.state === 'failed' || this.state === 'closed') return;
      this.files.settleAll((error) => {
        if (error !== null) return again(error);
        writeIndex(this.disk, this.#slot, parts, (failure) => {
          if (failure !== null) return again(failure);
          this.#slot = this.#slot === 0 ? 1 : 0;
          done();
        });
      });
    };
    write();
  }

  /** Bytes that a copy has written past the commits: the free space is to be looked up sooner. */
  noteWritten(bytes: number): void {
    this.#spaceWritten += bytes;
  }

  /** Free and total space, looked up now and then; updates 'full'. */
  space(): { readonly freeBytes: number; readonly totalBytes: number } {
    const now = this.clock.monotonic();
    if (now - this.#spaceAt > SPACE_MAX_AGE_MS || this.#spaceWritten > MIB) {
      try {
        this.#space = this.disk.space();
      } catch (error) {
        this.log.warn(
          { disk: this.disk.name, error: (error as Error).message },
          'free space is not known',
        );
      }
      this.#spaceAt = now;
      this.#spaceWritten = 0;
    }
    if (this.state === 'ok' || this.state === 'full') {
      this.state = this.#space.freeBytes < this.#reserve ? 'full' : 'ok';
    }
    return this.#space;
  }

  /** Is there room for new segments ('create') or for more in those that exist ('append')? */
  hasRoom(purpose: 'create' | 'append'): boolean {
    const least = purpose === 'create' ? this.#reserve : this.#reserve / 2;
    return this.space().freeBytes >= least;
  }

  get overloaded(): boolean {
    return this.pendingBytes + this.files.pendingBytes > this.limits.pendingBytes;
  }

  /** Lets everything become durable, leaves an index that needs no replay, and closes. */
  stop(done: () => void): void {
    const close = (): void => {
      this.state = this.state === 'failed' ? 'failed' : 'closed';
      this.journal.close();
      this.#lengthTimer?.cancel();
      this.#drainTimer?.cancel();
      this.files.close();
      done();
    };
    const deadline = this.clock.monotonic() + STOP_MS;
    const wait = (): void => {
      if (this.state === 'failed' || this.clock.monotonic() > deadline) {
        close();
        return;
      }
      if (!this.journal.idle || this.pendingBytes > 0) {
        this.clock.after(1, wait);
        return;
      }
      if (this.journal.usedBytes === 0) {
        close();
        return;
      }
      this.#lengths.clear();
      let closed = false;
      const once = (): void => {
        if (closed) return;
        closed = true;
        timer.cancel();
        close();
      };
      // A full disk may hold the snapshot up for ever; the journal has everything as well.
      const timer = this.clock.after(STOP_MS, once);
      this.journal.endLap(once);
    };
    wait();
  }
}
