/**
 * Reads pages of segments from their replicas: the best replica first, verified end to end, falling
 * over to others (reader-core.ts decides). On the read path it stands between the owner, which
 * holds the read lease, and the nodes' clients; takeover and replay use it as well.
 */

import type { NodeRequests } from '../block/wire/requests.js';
import { assert } from '../core/assert.js';
import { PageChecksummer } from '../core/checksum.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_MAX_IN_FLIGHT, READ_MAX_PAGES, REQUEST_TIMEOUT_MS } from '../core/limits.js';
import { PAGE_BYTES, pageIndex } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { LocalFiles } from '../io/local-files.js';
import type { Replica } from '../metadata/model.js';
import type { Directory } from './directory.js';
import { LocalCopies } from './local-copies.js';
import {
  type BadReason,
  type PageRange,
  PageRead,
  type ReadAttempt,
  type ReadEffect,
  type ReadSource,
} from './reader-core.js';
import { ReaderHealth } from './reader-health.js';

/** A replica that answered, but not with good bytes: for repair. */
export interface BadReplica {
  readonly segment: SegmentId;
  readonly replica: Replica;
  readonly reason: BadReason;
  /** The first page concerned. */
  readonly page: number;
}

export interface ReaderParts {
  /** Where copies may be read without their nodes (local-copies.ts). */
  readonly localFiles?: LocalFiles | undefined;
  /** Whether all of a segment was written within LOCAL_FRESH_MS. */
  readonly isFresh?: ((segment: SegmentId) => boolean) | undefined;
  readonly clock: Clock;
  readonly requests: NodeRequests;
  readonly directory: Pick<Directory, 'address'>;
  /**
   * Told about replicas that could not serve pages which they should have; may be told repeatedly.
   */
  onBadReplica?(bad: BadReplica): void;
}

/** Exactly one of the arguments is null. `data` holds whole pages and belongs to the receiver. */
export type PagesHandler = (error: HoldfastError | null, data: Uint8Array | null) => void;

const NO_ADDRESS = 'no address of the node is known';

export class SegmentReader {
  readonly #parts: ReaderParts;
  readonly #health: ReaderHealth;
  readonly #local: LocalCopies | null;
  #closed = false;
  #lastSegment: SegmentId | null = null;
  #lastChecksummer: PageChecksummer | null = null;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
    this.#health = new ReaderHealth(parts.clock);
    const { localFiles: files } = parts;
    this.#local = files === undefined ? null : new LocalCopies({ ...parts, files });
  }

  /** Pages that were read from files of this machine. */
  get localPages(): number {
    return this.#local?.pages ?? 0;
  }

  /** Calls back after the events that are already waiting, unless closed by then. */
  soon(callback: () => void): void {
    this.#parts.clock.soon(() => {
      if (!this.#closed) callback();
    });
  }

  /** No callback runs afterwards. */
  close(): void {
    this.#closed = true;
    this.#local?.close();
  }

  /**
   * Reads `count` pages from `page` on and calls `done` once, never before this call returns, with
   * verified bytes; or with DATA_LOST when every replica has answered and a page of which none has
   * a good copy is among them, or with UNAVAILABLE (retryable) when replicas that could not be
   * reached may have one.
   */
  readPages(source: ReadSource, page: number, count: number, done: PagesHandler): void {
    assert(Number.isSafeInteger(page) && page >= 0, 'page of a read');
    assert(Number.isSafeInteger(count) && count >= 1, 'page count of a read');
    if (count <= READ_MAX_PAGES) this.#readChunk(source, page, count, done);
    else this.#readChunks(source, page, count, done);
  }

  #readChunks(source: ReadSource, page: number, count: number, done: PagesHandler): void {
    const whole = Buffer.allocUnsafe(count * PAGE_BYTES);
    let next = 0;
    let inFlight = 0;
    let failed = false;
    const pump = (): void => {
      while (!failed && next < count && inFlight < READ_MAX_IN_FLIGHT) {
        const at = next;
        const pages = Math.min(READ_MAX_PAGES, count - at);
        next += pages;
        inFlight += 1;
        this.#readChunk(source, page + at, pages, (error, data) => {
          inFlight -= 1;
          if (failed) return;
          if (error !== null) {
            failed = true;
            done(error, null);
            return;
          }
          whole.set(data as Uint8Array, at * PAGE_BYTES);
          if (next >= count && inFlight === 0) done(null, whole);
          else pump();
        });
      }
    };
    pump();
  }

  #readChunk(source: ReadSource, page: number, count: number, done: PagesHandler): void {
    const checksummer = this.#checksummer(source.segment);
    const isHere = this.#local?.read(source, page, count, checksummer, (data, suspect) => {
      if (this.#closed) return;
      if (data === null) this.#readRemote(source, { page, count }, suspect, done);
      else done(null, data);
    });
    if (isHere !== true) this.#readRemote(source, { page, count }, null, done);
  }

  /** Asks the best replica first; or `suspect`, whose node is to find out that it is bad. */
  #readRemote(
    source: ReadSource,
    range: PageRange,
    suspect: Replica | null,
    done: PagesHandler,
  ): void {
    const ranked = this.#health.rank(source.replicas);
    if (suspect !== null) {
      const isIt = (one: Replica): number => Number(one.incarnation === suspect.incarnation);
      ranked.sort((a, b) => isIt(b) - isIt(a));
    }
    const read = new PageRead(source.segment, range, ranked, this.#checksummer(source.segment));
    new ChunkDriver(this.#parts, this.#health, source.segment, ranked, read, (error, data) => {
      if (!this.#closed) done(error, data);
    }).start();
  }

  #checksummer(segment: SegmentId): PageChecksummer {
    if (this.#lastSegment !== segment || this.#lastChecksummer === null) {
      this.#lastSegment = segment;
      this.#lastChecksummer = new PageChecksummer(segment);
    }
    return this.#lastChecksummer;
  }
}

/** Carries out what one PageRead decides. */
class ChunkDriver {
  readonly #parts: ReaderParts;
  readonly #health: ReaderHealth;
  readonly #segment: SegmentId;
  readonly #ranked: readonly Replica[];
  readonly #read: PageRead;
  readonly #done: PagesHandler;
  #lateTimer: Timer | null = null;

  constructor(
    parts: ReaderParts,
    health: ReaderHealth,
    segment: SegmentId,
    ranked: readonly Replica[],
    read: PageRead,
    done: PagesHandler,
  ) {
    this.#parts = parts;
    this.#health = health;
    this.#segment = segment;
    this.#ranked = ranked;
    this.#read = read;
    this.#done = done;
  }

  start(): void {
    const effects = this.#read.step({ type: 'start' });
    // With no replica to ask the answer is there at once; callers hear of it later all the same.
    if (effects[0]?.type === 'send') this.#apply(effects);
    else this.#parts.clock.soon(() => this.#apply(effects));
  }

  #apply(effects: readonly ReadEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'send':
          this.#send(effect.attempt);
          break;
        case 'bad':
          this.#bad(effect.replica, effect.reason, effect.page);
          break;
        case 'done':
          this.#lateTimer?.cancel();
          this.#done(null, effect.data);
          break;
        case 'failed':
          this.#lateTimer?.cancel();
          this.#done(effect.error, null);
          break;
      }
    }
  }

  #bad(index: number, reason: BadReason, page: number): void {
    const replica = this.#ranked[index] as Replica;
    // A replica that merely lags behind is no worse for other pages.
    if (reason !== 'missing') this.#health.failed(replica);
    this.#parts.onBadReplica?.({ segment: this.#segment, replica, reason, page });
  }

  #send(attempt: ReadAttempt): void {
    const { clock, directory, requests } = this.#parts;
    const replica = this.#ranked[attempt.replica] as Replica;
    const address = directory.address(replica.node);
    if (address === null) {
      const error = new HoldfastError('UNAVAILABLE', NO_ADDRESS, { retryable: true });
      clock.soon(() => this.#failed(attempt, replica, error));
      return;
    }
    const sentAt = clock.monotonic();
    this.#armLate(replica);
    const request = {
      type: 'read',
      segment: this.#segment,
      incarnation: replica.incarnation,
      page: pageIndex(attempt.page),
      count: attempt.count,
    } as const;
    requests.send({ node: replica.node, address }, request, REQUEST_TIMEOUT_MS, (error, reply) => {
      if (error !== null) {
        this.#failed(attempt, replica, error);
        return;
      }
      assert(reply !== null, 'an answer is an error or a reply');
      this.#health.answered(replica, clock.monotonic() - sentAt);
      this.#apply(this.#read.step({ type: 'reply', attempt, reply }));
    });
  }

  #failed(attempt: ReadAttempt, replica: Replica, error: HoldfastError): void {
    this.#health.failed(replica);
    this.#apply(this.#read.step({ type: 'failed', attempt, error }));
  }

  #armLate(replica: Replica): void {
    if (this.#ranked.length < 2) return;
    this.#lateTimer?.cancel();
    this.#lateTimer = this.#parts.clock.after(this.#health.lateAfter(replica), () => {
      if (this.#read.finished) return;
      this.#health.late(replica);
      this.#apply(this.#read.step({ type: 'late' }));
    });
  }
}
