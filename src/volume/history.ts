/**
 * The volume's history on its way into the log. Every change is applied to the state when it is
 * called and joins the open group; a group is one record, so a crash keeps all of it or nothing,
 * and groups reach the log in order: what survives is a prefix. Later changes of a page in the open
 * group need no second copy of it.
 *
 * A group is closed when it is full, by fsync, and by the commit interval. When the log
 * acknowledges it, its pages get their places, in log order. Where there is an intent log
 * (intent-log.ts), each change is told to it, and a group goes to the log after its intents.
 *
 * INVARIANT: an operation is applied if and only if it is in a group; no group overtakes another.
 */
import { assert } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import { COMMIT_INTERVAL_DEFAULT_MS } from '../core/limits.js';
import { type Lsn, lsn, PAGE_BYTES } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Appended, VolumeOwner } from '../replication/owner-api.js';
import { apply } from './apply.js';
import { Deferred } from './deferred.js';
import { type Done, FsError, type Inode } from './filesystem-api.js';
import type { Filled, IntentLog } from './intent-log.js';
import {
  GROUP_HARD_PAGES,
  GROUP_RECORD_BYTES,
  GROUP_SOFT_PAGES,
  HISTORY_MAX_PENDING_BYTES,
  SLOT_RANGE,
} from './limits.js';
import { dataPages, type Move, type Operation, type Share, type Write } from './operations.js';
import { isPending, type PendingChunk, PendingPool } from './pending.js';
import { encodeCheckpointRecord, encodeRecord, operationBytes } from './record-codec.js';
import { placeOf } from './segments.js';
import type { VolumeState } from './state.js';

/** What the log carries for one group: its operations as a record, and their pages. */
interface Group {
  readonly sequence: number;
  readonly lsn: Lsn;
  /** Instead of operations: pages of a checkpoint. */
  readonly checkpoint?: { readonly pages: Uint8Array; readonly done: AppendDone };
  readonly operations: Operation[];
  recordBytes: number;
  chunk: PendingChunk | null;
  /** Pages that the cleaner moved: no intents tell of them, so they do not change in place. */
  readonly moved: { readonly place: number; readonly count: number }[];
}

export type AppendDone = (error: HoldfastError | null, appended: Appended | null) => void;

export interface HistoryOptions {
  readonly commitIntervalMs?: number;
  readonly maxPendingBytes?: number;
  /** Of the mount, so that a successor of this process loses nothing. */
  readonly intents?: IntentLog;
}

export interface HistoryDeps {
  readonly owner: VolumeOwner;
  readonly clock: Clock;
  readonly state: VolumeState;
}

const NO_PAGES = new Uint8Array(0);

interface Waiter {
  readonly sequence: number;
  readonly done: (error: HoldfastError | null) => void;
}

export class History {
  readonly pool = new PendingPool();
  readonly intents: IntentLog | null;
  readonly deferred: Deferred;
  /** Told that a group's pages have their places, before they are forgotten here. */
  readonly placed: ((chunk: PendingChunk, place: number) => void)[] = [];
  /** Something was given to the log. */
  readonly onLogged: (() => void)[] = [];
  /** The log has failed for good. */
  onFailure: (error: HoldfastError) => void = () => {};
  readonly #owner: VolumeOwner;
  readonly #clock: Clock;
  readonly #state: VolumeState;
  #commitIntervalMs: number;
  readonly #maxPendingBytes: number;
  #group: Group;
  #timer: Timer | null = null;
  /** Closed, not yet given to the owner. */
  readonly #queue: Group[] = [];
  #blocked = false;
  #acknowledged = 0;
  #nextLsn: Lsn;
  #pendingBytes = 0;
  #loggedRecordBytes = 0;
  #loggedBytes = 0;
  #waiters: Waiter[] = [];
  #held: (() => void)[] = [];
  #failure: HoldfastError | null = null;

  /** `next` is the LSN that the first record will get. */
  constructor(deps: HistoryDeps, next: Lsn, options: HistoryOptions = {}) {
    this.#owner = deps.owner;
    this.#clock = deps.clock;
    this.#state = deps.state;
    this.deferred = new Deferred(deps.clock);
    this.#nextLsn = next;
    this.#commitIntervalMs = options.commitIntervalMs ?? COMMIT_INTERVAL_DEFAULT_MS;
    this.#maxPendingBytes = options.maxPendingBytes ?? HISTORY_MAX_PENDING_BYTES;
    this.#group = newGroup(1, next);
    this.intents = options.intents ?? null;
    this.intents?.attach({ onWritten: () => this.#pump(), onCrowded: () => this.close() });
  }

  get failure(): HoldfastError | null {
    return this.#failure;
  }

  /** The LSN of the next record to be closed. */
  get nextLsn(): Lsn {
    return this.#nextLsn;
  }

  /** Bytes given to the log since this began: records, and records with their pages. */
  get logged(): { readonly recordBytes: number; readonly bytes: number } {
    return { recordBytes: this.#loggedRecordBytes, bytes: this.#loggedBytes };
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Bytes of changes that are not yet on stable storage. */
  get dirtyBytes(): number {
    return this.#pendingBytes + groupBytes(this.#group);
  }

  /** Whether nothing is on its way. */
  get isSettled(): boolean {
    return this.#group.operations.length === 0 && this.#acknowledged === this.#group.sequence - 1;
  }

  assertAlive(): void {
    if (this.#failure !== null) throw new FsError('EIO', this.#failure.message);
  }

  /** Records an operation without data and applies it. */
  perform(operation: Operation): void {
    this.room(0, operationBytes(operation));
    this.#add(operation, 0);
    if (operation.type === 'share') this.#followPending(operation);
  }

  /** Shared pages that are still on their way to the log are at two places in files now. */
  #followPending({ inode, toPage, count }: Share): void {
    const { extents, inodes } = this.#state;
    const slot = inodes.slotOf(inode);
    const end = toPage + count;
    for (let at = extents.nextData(slot, toPage, end); at !== -1; ) {
      const run = extents.run(slot, at, end - at);
      if (isPending(run.place)) this.alsoAt(run.place, inode, at, run.count);
      at = extents.nextData(slot, at + run.count, end);
    }
  }

  /** Makes sure that so much fits into the open group, closing it if need be. */
  room(pages: number, recordBytes: number): void {
    this.assertAlive();
    const group = this.#group;
    const now = group.chunk === null ? 0 : group.chunk.count;
    if (now + pages > GROUP_HARD_PAGES || group.recordBytes + recordBytes > GROUP_RECORD_BYTES) {
      this.close();
    }
  }

  #add(operation: Operation, place: number): void {
    const group = this.#group;
    apply(this.#state, operation, place);
    if (operation.type !== 'write') this.intents?.operation(group.lsn, operation);
    if (group.operations.length === 0) this.#startTimer();
    group.operations.push(operation);
    group.recordBytes += operationBytes(operation);
  }

  /** Whether a pending place is in the open group, so that its page may still be changed. */
  isOpen(place: number): boolean {
    const { chunk, moved } = this.#group;
    if (chunk === null || place < chunk.place || place >= chunk.place + chunk.count) return false;
    return !moved.some((one) => place >= one.place && place < one.place + one.count);
  }

  /** Bytes of an open page were changed in place. */
  patched(inode: Inode, page: number, from: number, bytes: Uint8Array): void {
    this.intents?.patch(this.#group.lsn, inode, page, from, bytes);
  }

  /** Pages for data of the open group, contents undefined; `room` must have been asked before. */
  takePages(count: number): number {
    this.#group.chunk ??= this.pool.open();
    return this.#group.chunk.take(count);
  }

  /**
   * Records a write (or move) whose pages were just taken at `place`, and filled; joins it with the
   * operation before it when it goes on where that ended. All bytes of the pages outside of
   * `filled` are zero.
   */
  performWrite(operation: Write | Move, place: number, filled?: Filled): void {
    const group = this.#group;
    const { count } = operation;
    const slot = operation.inode % SLOT_RANGE;
    if (count > 0) {
      assert(group.chunk !== null, 'data pages were taken');
      this.#addRange(group.chunk, slot, operation.page, count);
      if (operation.type === 'move') group.moved.push({ place, count });
    }
    if (operation.type === 'write' && this.intents !== null) {
      const whole = filled ?? { from: 0, to: count * PAGE_BYTES };
      const views =
        count === 0
          ? []
          : this.pool.of(place).bytes(this.pool.indexOf(place), whole.from, whole.to);
      this.intents.write(group.lsn, operation, whole, views);
    }
    const last = group.operations.at(-1);
    if (operation.type === 'write' && last?.type === 'write' && follows(last, operation)) {
      apply(this.#state, operation, place);
      last.count += operation.count;
      last.size = operation.size;
      last.time = operation.time;
      return;
    }
    this.#add(operation, place);
  }

  #addRange(chunk: PendingChunk, slot: number, page: number, count: number): void {
    const last = chunk.ranges.at(-1);
    if (last !== undefined && last.slot === slot && last.page + last.count === page) {
      chunk.ranges[chunk.ranges.length - 1] = { slot, page: last.page, count: last.count + count };
    } else {
      chunk.ranges.push({ slot, page, count });
    }
  }

  /** The pages at a pending place have come to be in another range as well (shared). */
  alsoAt(place: number, inode: Inode, page: number, count: number): void {
    this.pool.of(place).ranges.push({ slot: inode % SLOT_RANGE, page, count });
  }

  /** Closes the open group if it has enough pages to be worth a record of its own. */
  closeIfLarge(): void {
    const chunk = this.#group.chunk;
    if (chunk !== null && chunk.count >= GROUP_SOFT_PAGES) this.close();
  }

  /** Closes the open group: what comes later is in another record. */
  close(): void {
    const group = this.#group;
    if (group.operations.length === 0 || this.#failure !== null) return;
    this.#timer?.cancel();
    this.#timer = null;
    this.#enqueue(group);
  }

  #enqueue(group: Group): void {
    this.#nextLsn = lsn(this.#nextLsn + 1);
    this.#group = newGroup(group.sequence + 1, this.#nextLsn);
    this.#pendingBytes += groupBytes(group);
    this.#queue.push(group);
    this.#pump();
    for (const tell of this.onLogged) tell();
  }

  /** Puts a record of a checkpoint behind everything up to now. */
  appendCheckpoint(pages: Uint8Array, done: AppendDone): void {
    this.close();
    if (this.#failure !== null) {
      this.deferred.run(() => done(this.#failure, null));
      return;
    }
    const checkpoint = { pages, done };
    this.#enqueue({ ...this.#group, checkpoint });
  }

  /** From the next group on. */
  setCommitInterval(ms: number): void {
    this.#commitIntervalMs = ms;
  }

  #startTimer(): void {
    this.#timer = this.#clock.after(this.#commitIntervalMs, () => {
      this.#timer = null;
      this.close();
    });
  }

  /** Gives closed groups to the owner until it asks to wait, or their intents are not written. */
  #pump(): void {
    while (!this.#blocked && this.#failure === null) {
      const [group] = this.#queue;
      if (group === undefined) return;
      if (this.intents?.holds(group.lsn) === true) {
        this.intents.schedule();
        return;
      }
      this.#queue.shift();
      const entry = group.checkpoint === undefined ? this.#encode(group) : checkpointEntry(group);
      const more = this.#owner.append(entry, (error, appended) =>
        this.#appended(group, error, appended),
      );
      if (!more) {
        this.#blocked = true;
        this.#owner.onDrain(() => {
          this.#blocked = false;
          this.#pump();
        });
      }
    }
  }

  #encode(group: Group): { record: Buffer; pages: Uint8Array[] } {
    const record = encodeRecord(group.operations);
    assert(countPages(group) === (group.chunk?.count ?? 0), 'each data page has an operation');
    this.#loggedRecordBytes += record.length;
    this.#loggedBytes += record.length + (group.chunk?.count ?? 0) * PAGE_BYTES;
    return { record, pages: group.chunk?.parts() ?? [] };
  }

  #appended(group: Group, error: HoldfastError | null, appended: Appended | null): void {
    if (this.#failure !== null) return;
    if (error !== null || appended === null) {
      assert(error !== null, 'an append ends with an error or a place');
      this.#fail(error);
      return;
    }
    assert(group.sequence === this.#acknowledged + 1, 'groups are acknowledged in order');
    this.#acknowledged = group.sequence;
    this.intents?.committed(group.lsn);
    this.#pendingBytes -= groupBytes(group);
    if (group.chunk !== null) this.#place(group.chunk, appended);
    group.checkpoint?.done(null, appended);
    this.#wake();
  }

  /** The group's pages have their places: the extents that point to them follow. */
  #place(chunk: PendingChunk, appended: Appended): void {
    const place = placeOf(this.#state.segments.slotOf(appended.segment), appended.firstPage);
    for (const range of chunk.ranges) {
      this.#state.extents.relocate(range, chunk.place, chunk.count, place);
    }
    for (const tell of this.placed) tell(chunk, place);
    this.pool.close(chunk);
  }

  #wake(): void {
    while ((this.#waiters[0]?.sequence ?? Number.POSITIVE_INFINITY) <= this.#acknowledged) {
      this.#waiters.shift()?.done(null);
    }
    if (this.#held.length === 0 || this.#pendingBytes > this.#maxPendingBytes) return;
    const held = this.#held;
    this.#held = [];
    for (const callback of held) callback();
  }

  #fail(error: HoldfastError): void {
    this.#failure = error;
    this.#timer?.cancel();
    this.#queue.length = 0;
    this.intents?.abandon();
    const waiters = this.#waiters;
    const held = this.#held;
    this.#waiters = [];
    this.#held = [];
    for (const waiter of waiters) waiter.done(error);
    for (const callback of held) callback();
    this.onFailure(error);
  }

  /** Closes the group; `done` is called when all up to now is on stable storage. */
  commit(done: Done): void {
    this.close();
    if (this.#failure !== null || this.#acknowledged === this.#group.sequence - 1) {
      this.deferred.run(() => done(this.#failure));
      return;
    }
    this.#waiters.push({ sequence: this.#group.sequence - 1, done });
  }

  /** Calls back when there is room for more data: soon, or when the log has caught up. */
  whenRoom(done: Done): void {
    const answer = (): void => done(this.#failure);
    if (this.#pendingBytes <= this.#maxPendingBytes) this.deferred.run(answer);
    else this.#held.push(answer);
  }

  /** Stops timers; nothing more is given to the owner. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.intents?.close();
  }
}

function newGroup(sequence: number, at: Lsn): Group {
  return { sequence, lsn: at, operations: [], recordBytes: 0, chunk: null, moved: [] };
}

/** Whether a write goes on where the one before it ended, or only brings size and time up. */
function follows(last: Write, next: Write): boolean {
  if (last.inode !== next.inode) return false;
  return next.count === 0 || (last.count > 0 && last.page + last.count === next.page);
}

function countPages(group: Group): number {
  let pages = 0;
  for (const operation of group.operations) pages += dataPages(operation);
  return pages;
}

function checkpointEntry(group: Group): { record: Buffer; pages: Uint8Array[] } {
  return { record: encodeCheckpointRecord(), pages: [group.checkpoint?.pages ?? NO_PAGES] };
}

function groupBytes(group: Group): number {
  if (group.checkpoint !== undefined) return group.checkpoint.pages.length;
  return group.recordBytes + (group.chunk?.count ?? 0) * PAGE_BYTES;
}
