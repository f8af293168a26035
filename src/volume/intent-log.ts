/**
 * A mount's intent log: every change of the history, and the replies to requests that made changes,
 * in memory that outlives this process (IntentFile), so that a successor can go on where it died.
 * Changes and replies are staged as they come and written together at the end of the turn, before
 * any of the turn's replies goes out.
 *
 * INVARIANT: a reply goes out only after everything that was recorded before it is in the file.
 * INVARIANT: a record is given to the log only after its operations, and the replies to the
 * requests that made them, are in the file; so a request whose changes a successor finds in the log
 * is one whose reply it finds here. (A WRITE may be answered later than its record. It says where
 * its bytes go, so doing it again changes nothing.)
 * INVARIANT: when a turn is written, all replies of the turns before it have gone out; so only the
 * last turn's can be missing.
 *
 * The file's regions are used again once all that they hold is in the log. When none is free, the
 * rest of the turn waits, with its replies and the records that it belongs to, and is a turn of its
 * own: what is in the file is answered before anything is written over it.
 */
import { assert } from '../core/assert.js';
import { ByteWriter } from '../core/codec.js';
import { asFault, type HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import type { IntentFile } from '../io/intent-file.js';
import type { Inode } from './filesystem-api.js';
import {
  BATCH_HEAD_BYTES,
  BATCH_TAIL_BYTES,
  CARRIED_AT,
  EntryKind,
  encodeCarried,
  encodeIdentity,
  encodeResult,
  type IntentIdentity,
  REGIONS_AT,
  type RequestName,
  type Result,
  sealBatch,
} from './intent-format.js';
import {
  INTENT_BATCH_BYTES,
  INTENT_CARRIED_BYTES,
  INTENT_GROUP_BYTES,
  INTENT_INLINE_BYTES,
  INTENT_REGION_BYTES,
  INTENT_REGIONS,
} from './limits.js';
import type { Operation, Write } from './operations.js';
import { encodeOperation } from './record-codec.js';

export interface IntentLogOptions {
  readonly file: IntentFile;
  readonly identity: IntentIdentity;
  /** Replies that the predecessor may not have been able to give. */
  readonly carried?: readonly Result[];
  /** Runs a callback when the event under way is over, before any other. */
  readonly endOfTurn?: (run: () => void) => void;
  /** The file cannot be written: until it can, replies wait for the log itself. */
  readonly onFault?: (fault: HoldfastError) => void;
}

/** The history, as the intent log needs it. */
export interface IntentUser {
  /** Records may be given to the log now that could not before. */
  onWritten(): void;
  /** The open record takes too much room: it is to be closed. */
  onCrowded(): void;
}

/** Bytes of a write's pages that may differ from zero. */
export interface Filled {
  readonly from: number;
  readonly to: number;
}

class Batch {
  readonly control = new ByteWriter(16 * 1024);
  /** In the order in which batches were staged. */
  number = 0;
  data: Uint8Array[] = [];
  dataBytes = 0;
  /** Of the first and the last operation. */
  firstLsn = 0;
  lastLsn = 0;

  constructor() {
    this.clear();
  }

  get bytes(): number {
    return this.control.length + this.dataBytes + BATCH_TAIL_BYTES;
  }

  clear(): void {
    this.control.truncate(0).skip(BATCH_HEAD_BYTES);
    this.data = [];
    this.dataBytes = 0;
    this.firstLsn = 0;
    this.lastLsn = 0;
  }
}

/** A reply that waits for all batches up to one of them, by number. */
interface Waiting {
  readonly number: number;
  readonly callback: () => void;
}

interface Region {
  used: number;
  /** Of the last operation in it. */
  lastLsn: number;
}

export class IntentLog {
  readonly #file: IntentFile;
  readonly #endOfTurn: (run: () => void) => void;
  readonly #onFault: (fault: HoldfastError) => void;
  #user: IntentUser | null = null;
  /** Not yet written, in order; the last one is being filled. None: nothing is staged. */
  readonly #staged: Batch[] = [];
  /** Memory for the next batch. */
  #spare: Batch | null = new Batch();
  /** Between two requests, so that a batch may end here; before the file counts it always may. */
  #mayCut = false;
  readonly #regions: Region[] = [];
  #region = 0;
  #sequence = 0;
  /** The LSN behind the last operation written. */
  #after = 0;
  #turn = 1;
  /** Records up to it are in the log; below the first one at the start. */
  #committed = -1;
  /** The record whose operations came last, and how much they took. */
  #lsn = 0;
  #lsnBytes = 0;
  /** Of the last batch staged. */
  #number = 0;
  /** In the order of their batches. */
  readonly #waiting: Waiting[] = [];
  #scheduled = false;
  #founded = false;
  #closed = false;
  #faulty = false;
  #carries: boolean;

  constructor(options: IntentLogOptions) {
    const { file, identity, carried = [], endOfTurn = queueMicrotask } = options;
    this.#file = file;
    this.#endOfTurn = endOfTurn;
    this.#onFault = options.onFault ?? (() => {});
    const results = encodeCarried(carried);
    assert(results.length <= INTENT_CARRIED_BYTES, 'replies to carry over');
    this.#carries = carried.length > 0;
    const header = Buffer.alloc(PAGE_BYTES);
    encodeIdentity(identity).copy(header);
    file.write([header, results], 0);
  }

  /** To be called once, before anything is recorded. */
  attach(user: IntentUser): void {
    assert(this.#user === null, 'an intent log has one history');
    this.#user = user;
  }

  /**
   * What was recorded so far takes the place of the mount's former intents: from here on it holds,
   * and records may be given to the log. Throws DISK_FULL or DISK_FAILED; it may then be tried
   * again.
   */
  establish(): void {
    assert(!this.#founded, 'an intent log is established once');
    let next = this.#staged[0];
    for (; next !== undefined; next = this.#staged[0]) {
      assert(this.#write(next), 'before anything is in the log there is room');
      this.#staged.shift();
    }
    this.#turn++;
    this.#file.establish();
    this.#founded = true;
    this.#user?.onWritten();
  }

  /** Whether something recorded is not in the file yet. */
  get staged(): boolean {
    return this.#staged.length > 0;
  }

  /** Whether something of this record, or before it, is not in the file yet. */
  holds(lsn: number): boolean {
    if (!this.#founded) return true;
    const [first] = this.#staged;
    return !this.#faulty && first !== undefined && first.firstLsn <= lsn;
  }

  /** An operation of record `lsn`. The cleaner's own need not survive, and are left out. */
  operation(lsn: number, operation: Operation): void {
    if (operation.type === 'move' || operation.type === 'follow') return;
    const { control } = this.#batch(lsn);
    const before = control.length;
    control.u8(EntryKind.operation);
    encodeOperation(control, operation);
    this.#lsnBytes += control.length - before;
  }

  /** A write of record `lsn`; `views` are the bytes of its pages, in memory that it keeps. */
  write(lsn: number, operation: Write, filled: Filled, views: readonly Uint8Array[]): void {
    const batch = this.#batch(lsn);
    const { control } = batch;
    const length = filled.to - filled.from;
    const isInline = length <= INTENT_INLINE_BYTES;
    control.u8(EntryKind.write);
    encodeOperation(control, operation);
    control
      .u32(filled.from)
      .u32(filled.to)
      .u8(isInline ? 1 : 0);
    this.#lsnBytes += length;
    for (const view of views) {
      if (isInline) control.bytes(view);
      else batch.data.push(view);
    }
    if (!isInline) batch.dataBytes += length;
    this.#mayCut = true;
  }

  /** Bytes of a page of record `lsn`, the open one, were changed in place. */
  patch(lsn: number, inode: Inode, page: number, from: number, bytes: Uint8Array): void {
    const { control } = this.#batch(lsn);
    control.u8(EntryKind.patch).u64(inode).u32(page).u16(from).u16(bytes.length).bytes(bytes);
    this.#lsnBytes += bytes.length + 24;
    this.#mayCut = true;
  }

  /** The reply to a request whose changes were just recorded. */
  result(request: RequestName, bytes: Uint8Array): void {
    const batch = this.#staged.at(-1);
    assert(batch !== undefined, 'a result follows what it is the result of');
    encodeResult(batch.control, request, bytes);
    this.#mayCut = true;
  }

  /** The batch that takes the next entry. */
  #batch(lsn: number): Batch {
    let batch = this.#staged.at(-1);
    // What a predecessor left is recorded again without replies between it, all at once.
    const mayCut = this.#mayCut || !this.#founded;
    if (batch === undefined || (mayCut && batch.bytes > INTENT_BATCH_BYTES)) {
      batch = this.#spare ?? new Batch();
      this.#spare = null;
      batch.number = ++this.#number;
      batch.firstLsn = lsn;
      this.#staged.push(batch);
    }
    this.#mayCut = false;
    if (batch.lastLsn !== lsn) {
      assert(lsn >= batch.lastLsn, 'operations are recorded in order');
      batch.control.u8(EntryKind.lsn).u64(lsn);
      batch.lastLsn = lsn;
    }
    if (this.#lsn !== lsn) {
      this.#lsn = lsn;
      this.#lsnBytes = 0;
    }
    return batch;
  }

  /** Calls back once all recorded so far is in the file: at the end of the turn, or later. */
  whenWritten(callback: () => void): void {
    this.#waiting.push({ number: this.#number, callback });
    this.schedule();
  }

  /** Writes what is staged at the end of the turn. */
  schedule(): void {
    if (this.#scheduled || !this.#founded) return;
    this.#scheduled = true;
    this.#endOfTurn(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  /** Writes what is staged, as far as there is room. Not within a request. */
  flush(): void {
    if (!this.#founded || this.#closed) return;
    const before = this.#sequence;
    let next = this.#staged[0];
    for (; next !== undefined && this.#write(next); next = this.#staged[0]) {
      this.#staged.shift();
      if (this.#spare === null && next.bytes <= 4 * INTENT_BATCH_BYTES) {
        next.clear();
        this.#spare = next;
      }
    }
    this.#answer();
    if (this.#lsnBytes > INTENT_GROUP_BYTES) this.#user?.onCrowded();
    // Where there was no room nothing is new: who was told would have it looked for again at once,
    // for ever, and what makes room would never be heard of.
    if (this.#sequence > before || this.#faulty) this.#user?.onWritten();
  }

  /** Gives the replies to all that is in the file: its turn is over. */
  #answer(): void {
    const from = this.#staged[0]?.number ?? Number.POSITIVE_INFINITY;
    const first = this.#waiting.findIndex(({ number }) => number >= from);
    const written = this.#waiting.splice(0, first < 0 ? this.#waiting.length : first);
    for (const { callback } of written) callback();
    this.#turn++;
  }

  /** Records up to `lsn` are in the log: their room is free. */
  committed(lsn: number): void {
    this.#committed = lsn;
    if (this.#faulty) {
      while ((this.#staged[0]?.lastLsn ?? Number.POSITIVE_INFINITY) <= lsn) this.#staged.shift();
    }
    if (this.#waiting.length > 0 || this.staged) this.schedule();
  }

  /** The log has failed for good: nobody waits for intents any more. */
  abandon(): void {
    this.#staged.length = 0;
    this.schedule();
  }

  /** All replies that were carried over have been given. */
  dropCarried(): void {
    if (!this.#carries || this.#closed) return;
    this.#carries = false;
    this.#file.write([encodeCarried([])], CARRIED_AT);
  }

  /** False: no room for it now. */
  #write(batch: Batch): boolean {
    const region = this.#regionFor(batch.bytes);
    if (region === null) return false;
    const head = batch.control.done();
    const { dataBytes } = batch;
    const length = batch.bytes;
    const sequence = this.#sequence + 1;
    sealBatch(head, { dataBytes, sequence, turn: this.#turn, after: this.#after });
    const at = REGIONS_AT + this.#region * INTENT_REGION_BYTES + region.used;
    try {
      this.#file.write(this.#parts(batch, sequence), at);
    } catch (thrown) {
      // It is written again as it was.
      batch.control.truncate(head.length);
      this.#failed(asFault(thrown, 'DISK_FAILED'));
      return false;
    }
    this.#faulty = false;
    this.#sequence = sequence;
    this.#after = batch.lastLsn + 1;
    region.used += length;
    region.lastLsn = batch.lastLsn;
    return true;
  }

  /** Without data it is one piece of memory, and a plain write. */
  #parts(batch: Batch, sequence: number): Uint8Array[] {
    const { control, data } = batch;
    if (data.length === 0) return [control.u64(sequence).done()];
    return [control.done(), ...data, new ByteWriter(BATCH_TAIL_BYTES).u64(sequence).done()];
  }

  /** Where so many bytes go, made the current region; null when all are taken. */
  #regionFor(bytes: number): Region | null {
    assert(bytes <= INTENT_REGION_BYTES, 'a batch fits into a region');
    const current = this.#regions[this.#region];
    const isFree = (region: Region): boolean => region.lastLsn <= this.#committed;
    // The first ones are used again and again: their memory is warm, and that of others not taken.
    if (this.#regions.every(isFree)) return this.#use(0);
    if (current !== undefined && current.used + bytes <= INTENT_REGION_BYTES) return current;
    const free = this.#regions.findIndex(isFree);
    if (free >= 0) return this.#use(free);
    const most = this.#founded ? INTENT_REGIONS : 2 * INTENT_REGIONS;
    return this.#regions.length < most ? this.#use(this.#regions.length) : null;
  }

  #use(index: number): Region {
    const region = { used: 0, lastLsn: 0 };
    this.#regions[index] = region;
    this.#region = index;
    return region;
  }

  /**
   * Without the file, changes are safe once they are in the log: replies wait for that. (A request
   * whose changes are in the log, and that was not answered when the process died, is then done
   * again.)
   */
  #failed(fault: HoldfastError): void {
    if (!this.#founded) throw fault;
    if (!this.#faulty) this.#onFault(fault);
    this.#faulty = true;
    this.#user?.onCrowded();
  }

  /** Nothing is written any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
  }
}
