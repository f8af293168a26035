/**
 * Replays a journal onto the state of an index: applies the groups that count, in order, writes
 * their batches into the segment files, walks the chains beyond, and decides what each segment is
 * (recovery.ts). Nothing is flushed here: opening.ts does that before anything is reported.
 */
import { assert } from '../core/assert.js';
import { asFault, type HoldfastError } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { BATCH_MAX_BYTES, SEGMENT_HARD_BYTES } from '../core/limits.js';
import { alignToPage, epoch, offset, type SegmentOffset } from '../core/units.js';
import type { Disk, DiskDone, DiskFile } from '../io/disk.js';
import type { Log } from '../io/log.js';
import { type ChainEnd, continues, walkChain } from './chain.js';
import { assertBadSectors, pagesBetween } from './disk-steps.js';
import type { Index, IndexEntry } from './index-snapshot.js';
import { decodeEntries, type Entry } from './journal-format.js';
import type { ScannedGroup } from './journal-scan.js';
import { decideJournal, decideSegment } from './recovery.js';
import type { BatchBytes } from './replica-state.js';
import { newSegment, type Segment } from './replica-state.js';
import type { SegmentFiles } from './segment-files.js';
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchSegmentBytes,
  decodeWireBatch,
} from './wire/batch.js';

interface ReplayOptions {
  readonly disk: Disk;
  readonly log: Log;
  readonly files: SegmentFiles;
  readonly index: Index;
  readonly journal: DiskFile;
  readonly groups: readonly ScannedGroup[];
  readonly unreadable: readonly number[];
  readonly journalBytes: number;
}

/** What is known of one segment while its journal entries are applied. */
interface Found {
  readonly state: Segment;
  recorded: SegmentOffset;
  sealedEnd: SegmentOffset | null;
  sealedCrc: number;
  suspect: boolean;
  /** Its file may hold what was never flushed. */
  touched: boolean;
}

export class Replay {
  readonly segments = new Map<SegmentId, Segment>();
  readonly lap: number;
  readonly sequence: number;
  amnesia: boolean;
  readonly #options: ReplayOptions;
  readonly #found = new Map<SegmentId, Found>();
  readonly #groups: readonly ScannedGroup[];
  readonly #historyLost: boolean;
  /** The disk cannot be judged now: the start fails, and nothing is written. */
  #failure: HoldfastError | null = null;

  constructor(options: ReplayOptions) {
    this.#options = options;
    const { index, groups, log, disk } = options;
    const decision = decideJournal(groups, index.sequence);
    this.#groups = groups.slice(0, decision.apply);
    this.#historyLost = decision.historyLost || this.#tailUnreadable();
    if (this.#historyLost) {
      log.error({ disk: disk.name }, 'the journal lost groups that were flushed');
    }
    this.amnesia = index.amnesia || this.#historyLost;
    // Beyond any group that may have been written, also a torn one.
    this.lap = groups.reduce((most, group) => Math.max(most, group.lap), index.lap) + 1;
    this.sequence = (groups.at(-1)?.sequence ?? index.sequence) + 2;
    for (const entry of index.entries) this.#load(entry);
  }

  /** Was there a group behind the last one? Holes before it show by their sequence. */
  #tailUnreadable(): boolean {
    const { unreadable, journalBytes, index } = this.#options;
    const last = this.#groups.at(-1);
    const lap = last?.lap ?? index.lap;
    const half = journalBytes / 2;
    const tail = last === undefined ? (lap % 2) * half : alignToPage(last.bodyAt + last.length);
    return unreadable.includes(tail) || unreadable.includes(((lap + 1) % 2) * half);
  }

  #load(entry: IndexEntry): void {
    const state = newSegment(entry.id, entry.volume);
    state.createEpoch = entry.createEpoch;
    state.maxEpoch = entry.maxEpoch;
    state.hasCreate = entry.hasCreate;
    state.deleted = entry.deleted;
    state.dropped = entry.dropped;
    state.durableLength = entry.durableLength;
    state.durableCrc = entry.durableCrc;
    this.#found.set(entry.id, {
      state,
      recorded: entry.durableLength,
      sealedEnd: entry.sealed ? entry.durableLength : null,
      sealedCrc: entry.durableCrc,
      suspect: entry.suspect,
      touched: !entry.sealed && !entry.deleted,
    });
  }

  /** `done` is called once; then `segments` and `entries` hold the result. */
  run(done: DiskDone): void {
    let group = 0;
    let entries: Entry[] = [];
    let at = 0;
    const next = (): void => {
      if (this.#failure !== null) {
        done(this.#failure);
        return;
      }
      try {
        for (;;) {
          const entry = entries[at];
          if (entry === undefined) {
            const header = this.#groups[group];
            if (header === undefined) {
              this.#beyond(done);
              return;
            }
            entries = this.#read(header);
            group += 1;
            at = 0;
            continue;
          }
          at += 1;
          if (entry.type !== 'batch') this.#apply(entry);
          else if (!this.#batch(entry.segment, entry.bytes, next)) return;
        }
      } catch (error) {
        done(asFault(error, 'DISK_FAILED'));
      }
    };
    next();
  }

  #read(group: ScannedGroup): Entry[] {
    const body = Buffer.alloc(group.length);
    const bytesRead = this.#options.journal.readSync(body, group.bodyAt);
    return decodeEntries(group, body.subarray(0, bytesRead));
  }

  #get(segment: SegmentId, volume: VolumeId): Found {
    let found = this.#found.get(segment);
    if (found === undefined) {
      found = {
        state: newSegment(segment, volume),
        recorded: offset(0),
        sealedEnd: null,
        sealedCrc: 0,
        suspect: this.amnesia,
        touched: true,
      };
      this.#found.set(segment, found);
    }
    return found;
  }

  #apply(entry: Exclude<Entry, { type: 'batch' }>): void {
    if (entry.type === 'seal' || entry.type === 'length') {
      const found = this.#found.get(entry.segment);
      // Only after lost groups; the segment's next entry tells what is needed.
      if (found === undefined || found.state.deleted) return;
      found.touched = true;
      if (found.sealedEnd === null && entry.end > found.recorded) found.recorded = entry.end;
      if (entry.type === 'length') return;
      found.sealedEnd = entry.end;
      found.sealedCrc = entry.crc;
      return;
    }
    const fresh = !this.#found.has(entry.segment);
    const found = this.#get(entry.segment, entry.volume);
    const { state } = found;
    if (entry.type === 'delete' || entry.type === 'drop') {
      state.deleted = true;
      state.dropped = entry.type === 'drop';
      return;
    }
    if (state.deleted && !(entry.type === 'create' && entry.copy)) return;
    if (state.deleted) this.#copiedAgain(found);
    state.maxEpoch = epoch(Math.max(state.maxEpoch, entry.epoch));
    if (entry.type === 'fence') return;
    // A disk with amnesia distrusts what it does not know, but not what was created since.
    if (fresh) found.suspect = false;
    state.hasCreate = true;
    state.createEpoch = entry.epoch;
    if (entry.copy) found.suspect = true;
  }

  /** A tombstone that became a copy again: of what the disk had before, nothing counts. */
  #copiedAgain(found: Found): void {
    found.state.deleted = false;
    found.state.dropped = false;
    this.#advance(found.state, 0, 0);
    found.recorded = offset(0);
    found.sealedEnd = null;
    found.touched = true;
  }

  /** Applies a batch; false when that goes on later and then calls `next`. */
  #batch(segment: SegmentId, bytes: Buffer, next: () => void): boolean {
    const header = decodeWireBatch(bytes);
    const found = this.#get(segment, header.volume);
    const { state } = found;
    if (state.deleted || found.sealedEnd !== null) return true;
    if (!state.hasCreate) {
      // Its CREATE was in a lost group.
      found.suspect = true;
      state.hasCreate = true;
      state.createEpoch = header.epoch;
      state.maxEpoch = epoch(Math.max(state.maxEpoch, header.epoch));
    }
    if (header.offset + batchSegmentBytes(header) <= state.durableLength) return true;
    if (header.offset === state.durableLength) {
      this.#take(found, header, bytes);
      return true;
    }
    if (!this.#options.files.get(segment).exists) return true;
    // A large batch went straight to the file before this one: go on there if it arrived whole.
    this.#walk(found, header.offset, () => {
      try {
        if (header.offset === state.durableLength) this.#take(found, header, bytes);
      } catch (error) {
        this.#failure ??= asFault(error, 'DISK_FAILED');
      }
      next();
    });
    return false;
  }

  #take(found: Found, header: BatchHeader, bytes: Buffer): void {
    const { state } = found;
    const chain = { segment: state.id, volume: state.volume, epoch: state.createEpoch };
    if (!continues(header, chain, state.durableLength, state.durableCrc)) {
      const facts = { segment: state.id, offset: header.offset };
      this.#options.log.error(facts, 'a journaled batch does not continue its segment');
      found.suspect = true;
      return;
    }
    const head = bytes.subarray(0, BATCH_HEADER_BYTES + header.bodyLength);
    const file = this.#options.files.get(state.id);
    file.enqueue({ header, head, pages: bytes.subarray(head.length) });
    file.drain();
    found.touched = true;
    this.#advance(state, header.offset + batchSegmentBytes(header), header.headerCrc);
  }

  #advance(state: Segment, end: number, crc: number): void {
    state.durableLength = offset(end);
    state.durableCrc = crc;
  }

  /**
   * Follows the chain in the file from the end that is known, not beyond `until`. There is a file:
   * `done` is called after this has returned, so that thousands of segments are no deep stack.
   */
  #walk(found: Found, until: SegmentOffset, done: (end: ChainEnd) => void): void {
    const { state } = found;
    const { files } = this.#options;
    const file = files.get(state.id);
    assert(file.exists, 'a file to walk');
    file.pin(1);
    const { id: segment, volume, createEpoch } = state;
    const from = { from: state.durableLength, crc: state.durableCrc, until };
    let failed: ChainEnd | null = null;
    // After a failed flush the page cache may hold bytes that it takes for written: write them
    // anew.
    const onBatch = (batch: BatchBytes): void => {
      if (failed !== null) return;
      try {
        file.rewrite(batch);
      } catch (error) {
        // That the disk takes no writes now says nothing about the bytes that it has.
        const { offset: end, prevCrc: crc } = batch.header;
        failed = { end, crc, unreadable: true };
        this.#failure ??= asFault(error, 'DISK_FAILED');
      }
    };
    const data = file.data();
    walkChain({ file: data, segment, volume, epoch: createEpoch, ...from, onBatch }, (walked) => {
      const end = failed ?? walked;
      file.pin(-1);
      if (walked.unreadable) {
        // For good, also if a later walk gets further: batches of the journal may have been left
        // out that belong behind what could not be read.
        found.suspect = true;
        this.#judgeReads(file.data(), end.end);
      }
      this.#advance(state, end.end, end.crc);
      done(end);
    });
  }

  /** A chain that ends where a read failed is cut there only if a sector is really bad. */
  #judgeReads(data: DiskFile, from: number): void {
    try {
      const to = Math.min(data.size(), from + BATCH_MAX_BYTES);
      assertBadSectors(this.#options.disk, data, pagesBetween(from, to));
    } catch (error) {
      this.#failure ??= asFault(error, 'DISK_FAILED');
    }
  }

  /** Walks every segment that may reach further than is known, then decides. */
  #beyond(done: DiskDone): void {
    const waiting = [...this.#found.values()];
    const next = (): void => {
      if (this.#failure !== null) {
        done(this.#failure);
        return;
      }
      try {
        for (let found = waiting.pop(); found !== undefined; found = waiting.pop()) {
          if (!found.touched || found.state.deleted || !found.state.hasCreate) {
            this.#decide(found, false);
            continue;
          }
          const current = found;
          this.#checkFile(current);
          const until = current.sealedEnd ?? offset(SEGMENT_HARD_BYTES);
          const { exists } = this.#options.files.get(current.state.id);
          if (!exists || current.state.durableLength >= until) {
            this.#decide(current, false);
            continue;
          }
          this.#walk(current, until, ({ unreadable }) => {
            try {
              this.#decide(current, unreadable);
            } catch (error) {
              return done(asFault(error, 'DISK_FAILED'));
            }
            next();
          });
          return;
        }
      } catch (error) {
        done(asFault(error, 'DISK_FAILED'));
        return;
      }
      done(null);
    };
    next();
  }

  /** A file that is missing or too short contradicts the index: find out how far the chain goes. */
  #checkFile(found: Found): void {
    const { state } = found;
    const file = this.#options.files.get(state.id);
    const size = file.exists ? file.data().size() : 0;
    if (size >= state.durableLength) return;
    const facts = { segment: state.id, size, length: state.durableLength };
    this.#options.log.error(facts, 'a segment file is shorter than its index says');
    this.#advance(state, 0, 0);
  }

  #decide(found: Found, unreadable: boolean): void {
    const { state } = found;
    const decision = decideSegment({
      deleted: state.deleted,
      sealedEnd: found.sealedEnd,
      suspect: found.suspect,
      recorded: found.recorded,
      chainEnd: state.durableLength,
      unreadable,
      historyLost: this.#historyLost,
    });
    if (decision.keep === 'tombstone') this.#advance(state, 0, 0);
    else if (decision.keep === 'sealed') {
      state.sealed = true;
      this.#advance(state, decision.length, found.sealedCrc);
    } else state.suspect = decision.suspect;
    state.acceptedLength = state.durableLength;
    state.acceptedCrc = state.durableCrc;
    const { hasCreate, maxEpoch, sealed, deleted } = state;
    state.durable = { hasCreate, maxEpoch, sealed, deleted };
    this.segments.set(state.id, state);
    if (!found.touched || state.deleted || !state.hasCreate) return;
    const file = this.#options.files.get(state.id);
    if (!file.exists) return;
    file.distrust();
    if (state.sealed) file.truncate(state.durableLength);
  }

  /** Unlinks what a crash left of deleted segments. */
  removeDeleted(): void {
    const { disk, files } = this.#options;
    for (const directory of disk.list('segments')) {
      if (!directory.endsWith('/')) continue;
      const place = `segments/${directory.slice(0, -1)}`;
      for (const name of disk.list(place)) {
        const id = name.slice(0, name.indexOf('.')) as SegmentId;
        if (this.segments.get(id)?.deleted !== true) continue;
        // Replay may have it open: a later copy would go on writing into what has no name.
        files.get(id).remove();
        files.forget(id);
      }
    }
  }
}
