/**
 * The decisions of one read of up to READ_MAX_PAGES pages, without I/O: which replica to ask for
 * which pages, which of the answers to believe, and what to say when no good copy is left.
 *
 * Replicas are asked in the order given: the next one when an answer was bad, or (hedge) when it is
 * late. Every page is verified against the checksum its writer computed; good pages of several
 * replicas are merged. A replica whose disk cannot read a whole range is asked again in halves,
 * after all others were tried, so that every page that still exists anywhere is found.
 *
 * INVARIANT: `done` is emitted only when every page was verified; never with invented bytes.
 */

import type { Reply } from '../block/wire/messages.js';
import { assert } from '../core/assert.js';
import type { PageChecksummer } from '../core/checksum.js';
import { asBuffer } from '../core/codec.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Replica } from '../metadata/model.js';

/** A segment and who may have copies of it, in no particular order. */
export interface ReadSource {
  readonly segment: SegmentId;
  readonly replicas: readonly Replica[];
}

export interface PageRange {
  readonly page: number;
  readonly count: number;
}

/** Why a replica could not serve pages that it should have. */
export type BadReason = 'checksum' | 'disk' | 'missing' | 'incarnation' | 'refused';

export type ReadEvent =
  | { readonly type: 'start' }
  | { readonly type: 'reply'; readonly attempt: ReadAttempt; readonly reply: Reply }
  /** The request failed on its way: nothing is known about the replica's pages. */
  | { readonly type: 'failed'; readonly attempt: ReadAttempt; readonly error: HoldfastError }
  /** The bound for an answer has passed. */
  | { readonly type: 'late' };

export interface ReadAttempt extends PageRange {
  /** Index into the ranked replicas. */
  readonly replica: number;
}

export type ReadEffect =
  | { readonly type: 'send'; readonly attempt: ReadAttempt }
  | { readonly type: 'bad'; readonly replica: number; readonly reason: BadReason; page: number }
  | { readonly type: 'done'; readonly data: Uint8Array }
  | { readonly type: 'failed'; readonly error: HoldfastError };

interface Candidate {
  readonly replica: Replica;
  /** Not yet asked for, in this order. */
  readonly ranges: PageRange[];
  /** Halves of ranges that its disk could not read as a whole; asked for last. */
  readonly halves: PageRange[];
  unreachable: boolean;
  /** The last thing heard, for the error message. */
  said: string;
}

export class PageRead {
  readonly #segment: SegmentId;
  readonly #range: PageRange;
  readonly #checksummer: PageChecksummer;
  readonly #candidates: Candidate[];
  /** Per page: 1 when verified bytes of it stand in #data. */
  readonly #have: Uint8Array;
  #missing: number;
  #data: Buffer | null = null;
  #inFlight = 0;
  #finished = false;

  constructor(
    segment: SegmentId,
    range: PageRange,
    ranked: readonly Replica[],
    checksummer: PageChecksummer,
  ) {
    assert(range.count >= 1 && range.count <= READ_MAX_PAGES, 'pages of a read');
    this.#segment = segment;
    this.#range = range;
    this.#checksummer = checksummer;
    this.#candidates = ranked.map((replica) => ({
      replica,
      ranges: [range],
      halves: [],
      unreachable: false,
      said: 'not asked',
    }));
    this.#have = new Uint8Array(range.count);
    this.#missing = range.count;
  }

  get finished(): boolean {
    return this.#finished;
  }

  step(event: ReadEvent): ReadEffect[] {
    if (this.#finished) return [];
    const effects: ReadEffect[] = [];
    switch (event.type) {
      case 'start':
        break;
      case 'late':
        this.#askNext(effects);
        return effects;
      case 'failed': {
        const candidate = this.#answered(event.attempt);
        candidate.unreachable = true;
        candidate.said = event.error.code;
        break;
      }
      case 'reply':
        this.#onReply(event.attempt, event.reply, effects);
        break;
    }
    if (!this.#finished && this.#inFlight === 0) this.#goOn(effects);
    return effects;
  }

  #answered(attempt: ReadAttempt): Candidate {
    assert(this.#inFlight > 0, 'an answer nobody waits for');
    this.#inFlight -= 1;
    const candidate = this.#candidates[attempt.replica];
    assert(candidate !== undefined, 'an answer of an unknown replica');
    return candidate;
  }

  #goOn(effects: ReadEffect[]): void {
    if (this.#askNext(effects)) return;
    this.#finished = true;
    effects.push({ type: 'failed', error: this.#verdict() });
  }

  /**
   * Asks the next replica that may have missing pages; false when all were asked for everything.
   */
  #askNext(effects: ReadEffect[]): boolean {
    for (const queue of ['ranges', 'halves'] as const) {
      for (const [index, candidate] of this.#candidates.entries()) {
        const list = candidate[queue];
        for (let range = list.shift(); range !== undefined; range = list.shift()) {
          const wanted = this.#stillMissing(range);
          if (wanted === null) continue;
          this.#inFlight += 1;
          effects.push({ type: 'send', attempt: { replica: index, ...wanted } });
          return true;
        }
      }
    }
    return false;
  }

  /** The part of `range` from its first to its last missing page. */
  #stillMissing(range: PageRange): PageRange | null {
    const base = this.#range.page;
    let first = range.page;
    let end = range.page + range.count;
    while (first < end && this.#have[first - base] === 1) first += 1;
    while (end > first && this.#have[end - 1 - base] === 1) end -= 1;
    return first === end ? null : { page: first, count: end - first };
  }

  #onReply(attempt: ReadAttempt, reply: Reply, effects: ReadEffect[]): void {
    const candidate = this.#answered(attempt);
    candidate.said = reply.status;
    const bad = (reason: BadReason, page = attempt.page): void => {
      effects.push({ type: 'bad', replica: attempt.replica, reason, page });
    };
    if (reply.incarnation !== candidate.replica.incarnation || reply.status === 'INCARNATION') {
      candidate.said = 'INCARNATION';
      bad('incarnation');
      return;
    }
    switch (reply.status) {
      case 'OK':
        this.#onPages(attempt, reply, effects);
        return;
      case 'BUSY':
        candidate.unreachable = true;
        return;
      case 'DISK':
      case 'SUSPECT':
        bad('disk');
        this.#halve(candidate, attempt);
        return;
      case 'UNKNOWN':
      case 'GAP':
      case 'DELETED':
        bad('missing');
        this.#halve(candidate, attempt);
        return;
      default:
        bad('refused');
    }
  }

  #halve(candidate: Candidate, attempt: ReadAttempt): void {
    if (attempt.count < 2 || candidate.said === 'UNKNOWN' || candidate.said === 'DELETED') return;
    const first = Math.ceil(attempt.count / 2);
    candidate.halves.push({ page: attempt.page, count: first });
    candidate.halves.push({ page: attempt.page + first, count: attempt.count - first });
  }

  #onPages(attempt: ReadAttempt, reply: Reply, effects: ReadEffect[]): void {
    const { body } = reply;
    const candidate = this.#candidates[attempt.replica] as Candidate;
    const count = body?.type === 'read' ? body.checksums.length : 0;
    if (
      body?.type !== 'read' ||
      body.page !== attempt.page ||
      count > attempt.count ||
      body.data.length !== count * PAGE_BYTES
    ) {
      candidate.said = 'a reply of the wrong shape';
      effects.push({
        type: 'bad',
        replica: attempt.replica,
        reason: 'refused',
        page: attempt.page,
      });
      return;
    }
    const firstBad = this.#keepGood(body.data, body.checksums, attempt.page);
    if (firstBad !== null) {
      candidate.said = `checksum mismatch in page ${firstBad}`;
      effects.push({ type: 'bad', replica: attempt.replica, reason: 'checksum', page: firstBad });
    }
    if (count < attempt.count) {
      candidate.said = `${count} of ${attempt.count} pages`;
      const page = attempt.page + count;
      effects.push({ type: 'bad', replica: attempt.replica, reason: 'missing', page });
    }
    if (this.#missing > 0) return;
    this.#finished = true;
    assert(this.#data !== null, 'data of a finished read');
    effects.push({ type: 'done', data: this.#data });
  }

  /** Takes over the pages that verify; returns the first that does not. */
  #keepGood(data: Uint8Array, checksums: Uint32Array, page: number): number | null {
    let firstBad: number | null = null;
    let good = 0;
    const verified = new Uint8Array(checksums.length);
    for (let i = 0; i < checksums.length; i++) {
      if (this.#checksummer.page(data, i * PAGE_BYTES, page + i) === checksums[i]) {
        verified[i] = 1;
        good += 1;
      } else {
        firstBad ??= page + i;
      }
    }
    if (good === this.#range.count) {
      // All at once from one replica, as almost always: no copy.
      this.#have.fill(1);
      this.#missing = 0;
      this.#data = asBuffer(data);
      return null;
    }
    for (let i = 0; i < verified.length; i++) {
      if (verified[i] === 1) this.#keep(data, i, page + i - this.#range.page);
    }
    return firstBad;
  }

  #keep(data: Uint8Array, from: number, to: number): void {
    if (this.#have[to] === 1) return;
    this.#data ??= Buffer.allocUnsafe(this.#range.count * PAGE_BYTES);
    this.#data.set(data.subarray(from * PAGE_BYTES, (from + 1) * PAGE_BYTES), to * PAGE_BYTES);
    this.#have[to] = 1;
    this.#missing -= 1;
  }

  #verdict(): HoldfastError {
    const missing = this.#range.page + this.#have.indexOf(0);
    const answers = this.#candidates.map(({ replica, said }) => `${replica.node}: ${said}`);
    const what = `page ${missing} of segment ${this.#segment}`;
    const heard = answers.length === 0 ? 'it has no replicas' : answers.join(', ');
    if (this.#candidates.some((candidate) => candidate.unreachable)) {
      return new HoldfastError('UNAVAILABLE', `cannot read ${what} now (${heard})`, {
        retryable: true,
        hint: 'Bring the unreachable nodes back: they may hold good copies.',
      });
    }
    return new HoldfastError('DATA_LOST', `no good copy of ${what} is left (${heard})`, {
      hint: 'Bring back a former disk of these nodes, or restore the volume from a backup.',
    });
  }
}
