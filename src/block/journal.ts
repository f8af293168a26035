/**
 * The journal of one disk: group commit into two halves of a file whose blocks are already written,
 * so that a flush does not grow the file. At most one group is being flushed; the next one gathers
 * meanwhile. With nothing under way, an entry is written and flushed in the same turn: one write,
 * one flush.
 *
 * INVARIANT: a group is written only when the one before it is durable, so flushedSequence =
 * sequence − 1.
 * INVARIANT: a half is written anew only after a snapshot holds everything that its groups said.
 */
import { assert, present } from '../core/assert.js';
import { crc32 } from '../core/checksum.js';
import type { HoldfastError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import {
  FLUSH_IN_PLACE_ENTRIES,
  JOURNAL_GROUP_MAX_BYTES,
  JOURNAL_GROUP_MAX_ENTRIES,
} from '../core/limits.js';
import { alignToPage, PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { DiskFile } from '../io/disk.js';
import {
  ENTRY_HEADER_BYTES,
  GROUP_HEADER_BYTES,
  writeEntryHeader,
  writeGroupHeader,
} from './journal-format.js';
import type { JournalEntry } from './replica-state.js';

/** Groups above this are not written in place: copying them would hold up the event loop. */
const WRITE_IN_PLACE_BYTES = 256 * 1024;
const FLUSH_WINDOW = 256;
const ZEROES = Buffer.alloc(PAGE_BYTES);

export interface JournalOptions {
  readonly file: DiskFile;
  readonly clock: Clock;
  readonly incarnation: Incarnation;
  readonly journalBytes: number;
  /** A lap ends here, though its half may have room; at least one group is written. */
  readonly lapBytes: number;
  /** The first lap and sequence to write. */
  readonly lap: number;
  readonly sequence: number;
  /** A new lap has begun: take a snapshot that makes the laps before it superfluous. */
  readonly onLap: (lap: number, sequence: number) => void;
  /** Entries that may join a group but are no reason to write one. */
  readonly extra: () => readonly JournalEntry[];
  /** After the last `written` of a group: the turn's work is done. */
  readonly onSettled: () => void;
  readonly onFailure: (error: HoldfastError) => void;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #halfBytes: number;
  /** Group header and entry headers of the group under way. */
  readonly #heads = Buffer.alloc(
    GROUP_HEADER_BYTES + JOURNAL_GROUP_MAX_ENTRIES * ENTRY_HEADER_BYTES,
  );
  #queue: JournalEntry[] = [];
  #flying: JournalEntry[] = [];
  #busy = false;
  /** Extra entries are a reason to write a group by now. */
  #extraDue = false;
  #failed = false;
  #lap: number;
  #sequence: number;
  /** Where in the current half the next group goes. */
  #at = 0;
  /** All laps up to this one are in a durable snapshot. */
  #cleanLap: number;
  #lastEntries = 1;
  #onClean: (() => void) | null = null;
  readonly flushMs: number[] = [];
  flushes = 0;
  bytesWritten = 0;

  constructor(options: JournalOptions) {
    assert(options.journalBytes >= JOURNAL_GROUP_MAX_BYTES * 2, 'journal holds a group a half');
    this.#options = options;
    this.#halfBytes = options.journalBytes / 2;
    this.#lap = options.lap;
    this.#sequence = options.sequence;
    this.#cleanLap = options.lap - 1;
  }

  get queued(): number {
    return this.#queue.length + this.#flying.length;
  }

  get idle(): boolean {
    return !this.#busy && this.#queue.length === 0;
  }

  get sizeBytes(): number {
    return this.#halfBytes * 2;
  }

  /** Bytes that the next start would have to replay. */
  get usedBytes(): number {
    return this.#at + (this.#cleanLap < this.#lap - 1 ? this.#halfBytes : 0);
  }

  get lap(): number {
    return this.#lap;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** Queues an entry; flushes it at once when nothing is under way. */
  submit(entry: JournalEntry): void {
    assert(entry.bytes + ENTRY_HEADER_BYTES <= JOURNAL_GROUP_MAX_BYTES, 'entry fits into a group');
    this.#queue.push(entry);
    if (!this.#busy) this.#next();
  }

  /** Writes the extra entries that no group has taken along. */
  submitExtra(): void {
    this.#extraDue = true;
    if (!this.#busy) this.#next();
  }

  /** Begins a new lap although the current one has room, once the one before it is clean. */
  endLap(done: () => void): void {
    assert(this.idle, 'nothing is under way');
    this.#onClean = done;
    if (this.#cleanLap >= this.#lap - 1) this.#turn();
  }

  #turn(): void {
    this.#lap += 1;
    this.#at = 0;
    this.#options.onLap(this.#lap, this.#sequence);
  }

  /** A snapshot that makes laps up to `lap` superfluous is durable. */
  cleaned(lap: number): void {
    assert(lap < this.#lap, 'the current lap is never clean');
    this.#cleanLap = Math.max(this.#cleanLap, lap);
    const onClean = this.#onClean;
    if (onClean !== null && this.idle) {
      if (this.#at > 0) this.#turn();
      else if (this.#cleanLap === this.#lap - 1) onClean();
      return;
    }
    if (!this.#busy) this.#next();
  }

  /** Writes nothing more. */
  stop(): void {
    this.#failed = true;
  }

  close(): void {
    this.stop();
    this.#options.file.close();
  }

  #next(): void {
    if (this.#failed || (this.#queue.length === 0 && !this.#extraDue)) return;
    this.#extraDue = false;
    for (const entry of this.#options.extra()) this.#queue.push(entry);
    if (this.#queue.length === 0) return;
    let count = 0;
    let length = 0;
    while (count < this.#queue.length && count < JOURNAL_GROUP_MAX_ENTRIES) {
      const entry = present(this.#queue[count], 'counted');
      const more = ENTRY_HEADER_BYTES + entry.bytes;
      if (count > 0 && length + more > JOURNAL_GROUP_MAX_BYTES - GROUP_HEADER_BYTES) break;
      length += more;
      count += 1;
    }
    const padded = alignToPage(GROUP_HEADER_BYTES + length);
    const isFull = this.#at > 0 && this.#at + padded > this.#options.lapBytes;
    if (isFull || this.#at + padded > this.#halfBytes) {
      // The other half holds the lap before this one; wait until a snapshot has made it
      // superfluous.
      if (this.#cleanLap < this.#lap - 1) return;
      this.#turn();
    }
    if (count === this.#queue.length) {
      this.#flying = this.#queue;
      this.#queue = [];
    } else {
      this.#flying = this.#queue.splice(0, count);
    }
    this.#busy = true;
    this.#write(length, padded);
  }

  #write(length: number, padded: number): void {
    const { file, incarnation } = this.#options;
    const position = (this.#lap % 2) * this.#halfBytes + this.#at;
    const parts: Uint8Array[] = [];
    let headAt = 0;
    let at = GROUP_HEADER_BYTES;
    let bodyCrc = 0;
    for (const entry of this.#flying) {
      writeEntryHeader(this.#heads, at, entry.entryType, entry.segment, entry.bytes);
      bodyCrc = crc32(this.#heads.subarray(at, at + ENTRY_HEADER_BYTES), bodyCrc);
      at += ENTRY_HEADER_BYTES;
      // Headers that follow each other directly (the group's and the first entry's) are one part.
      parts.push(this.#heads.subarray(headAt, at));
      headAt = at;
      for (const part of entry.parts) {
        bodyCrc = crc32(part, bodyCrc);
        parts.push(part);
      }
    }
    const filler = padded - GROUP_HEADER_BYTES - length;
    if (filler > 0) parts.push(ZEROES.subarray(0, filler));
    writeGroupHeader(this.#heads, incarnation, position, {
      lap: this.#lap,
      sequence: this.#sequence,
      flushedSequence: this.#sequence - 1,
      length,
      entries: this.#flying.length,
      bodyCrc,
    });
    this.#at += padded;
    this.bytesWritten += padded;
    if (padded > WRITE_IN_PLACE_BYTES) {
      file.write(parts, position, (error) => (error === null ? this.#flush() : this.#fail(error)));
      return;
    }
    try {
      file.writeSync(parts, position);
    } catch (error) {
      this.#fail(error as HoldfastError);
      return;
    }
    this.#flush();
  }

  #flush(): void {
    // Few commits after few commits: little else waits, so the flush may happen in place.
    const entries = this.#flying.length;
    const few = Math.max(entries, this.#lastEntries) <= FLUSH_IN_PLACE_ENTRIES;
    const alone = few && this.#queue.length === 0;
    this.#lastEntries = entries;
    const started = this.#options.clock.monotonic();
    this.#options.file.datasync(alone, (error) => {
      if (error !== null) {
        this.#fail(error);
        return;
      }
      this.#note(this.#options.clock.monotonic() - started);
      this.#flushed();
    });
  }

  #flushed(): void {
    this.#sequence += 1;
    const written = this.#flying;
    for (let i = 0; i < written.length; i++) {
      if (this.#failed) return;
      present(written[i], 'counted').written();
    }
    this.#flying = [];
    this.#busy = false;
    this.#options.onSettled();
    if (!this.#busy) this.#next();
  }

  #note(ms: number): void {
    if (this.flushMs.length < FLUSH_WINDOW) this.flushMs.push(ms);
    else this.flushMs[this.flushes % FLUSH_WINDOW] = ms;
    this.flushes += 1;
  }

  #fail(error: HoldfastError): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#options.onFailure(error);
  }
}
