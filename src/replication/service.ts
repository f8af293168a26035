/**
 * Serves a volume that was taken over: drives the writer and the lease, brings spares into being,
 * swaps rolls into the record, and keeps up the segments it no longer writes. Every append passes
 * through `append` and every acknowledgement through `#committed`.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import { entryBytes } from '../block/wire/batch.js';
import type { Reply } from '../block/wire/messages.js';
import { assert, present, unreachable } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { type Lsn, type Monotonic, offset, type SegmentOffset } from '../core/units.js';
import type { OpenSegment, VolumeRecord } from '../metadata/model.js';
import type { VersionedVolume } from '../metadata/stored-volume.js';
import type { SegmentEnd } from '../metadata/volume-record.js';
import { roll } from '../metadata/volume-record.js';
import type { OwnerSwap } from './acquisition.js';
import type { CreationState } from './creation.js';
import {
  type LeaseEvent,
  type LeaseState,
  leaseDeadline,
  leaseHolds,
  leaseIsWarm,
  newLease,
  stepLease,
} from './lease.js';
import type { Appended } from './owner-api.js';
import type { OwnerContext } from './owner-context.js';
import { answersFor } from './quorum.js';
import type { RecordSwapper } from './record-swapper.js';
import { Spares } from './spares.js';
import type { QueuedEntry, SentBatch } from './stream.js';
import { Upkeep } from './upkeep-driver.js';
import { VolumeSwaps } from './volume-swaps.js';
import {
  startWriter,
  stepWriter,
  unfinished,
  type WriterEffect,
  type WriterEvent,
  type WriterState,
  writerDeadline,
} from './writer.js';

export type AppendDone = (error: HoldfastError | null, appended: Appended | null) => void;

/** What the answer to an APPEND or PING is matched with. */
interface Sent {
  readonly generation: number | null;
  readonly end: SegmentOffset;
  readonly sentAt: Monotonic;
}

export class Service {
  readonly #context: OwnerContext;
  readonly #swapper: RecordSwapper;
  readonly #onStop: (reason: HoldfastError) => void;
  readonly #spares: Spares;
  readonly #writer: WriterState;
  readonly #lease: LeaseState;
  readonly #upkeep: Upkeep;
  /** Of the layer above; they wait for the swapper like our own. */
  readonly volumeSwaps: VolumeSwaps;
  /** Rolled in the log, not yet in the record. */
  #rollPending: SegmentEnd | null = null;
  #pendingBytes = 0;
  #drained: (() => void)[] = [];
  #waiting: ((error: HoldfastError | null) => void)[] = [];
  #releasing = false;
  #effects: WriterEffect[] = [];
  #performing = false;
  #failure: HoldfastError | null = null;

  constructor(
    context: OwnerContext,
    swapper: RecordSwapper,
    creation: CreationState,
    onStop: (reason: HoldfastError) => void,
  ) {
    this.#context = context;
    this.#swapper = swapper;
    this.#onStop = onStop;
    const now = context.now();
    const record = this.#record();
    const { ackQuorum, epoch, volume } = record;
    const [current, spare] = record.open;
    assert(current !== undefined && current.createEpoch === epoch, 'a fresh current segment');
    const { limits } = context;
    const { leaseMs, leaseSafeFraction: safeFraction } = limits;
    this.#lease = newLease({ ackQuorum, leaseMs, safeFraction, retryMs: leaseMs / 10 });
    this.#leaseStep({
      type: 'current',
      segment: current.segment,
      replicas: current.replicas.length,
    });
    context.noteOpened(current.segment, now);
    const facts = () => factsOf(this.#record());
    const previous = record.sealed.at(-1) ?? null;
    const start = { current, spare: spare ?? null, previous, now };
    const [writer, effects] = startWriter({ volume, ackQuorum, facts, limits }, start);
    this.#writer = writer;
    this.#spares = new Spares(context, creation, {
      writer,
      record: () => this.#record(),
      step: (event) => this.#step(event),
      propose: (name, change, then) => this.#propose(name, change, then),
      maintain: (at) => this.maintain(at),
    });
    this.#spares.inUse(current.segment);
    this.#upkeep = new Upkeep(context, () => this.maintain(context.now()));
    this.volumeSwaps = new VolumeSwaps(context.deps.clock, () => this.maintain(context.now()));
    context.watch({ deadline: (at) => this.#deadline(at), tick: (at) => this.#tick(at) });
    this.#perform(effects, now);
    const { modRevision } = this.#known();
    this.#upkeep.adopt(record, modRevision, now);
    this.maintain(now);
  }

  get committedLsn(): Lsn {
    return this.#writer.committedLsn;
  }

  get writer(): WriterState {
    return this.#writer;
  }

  get leaseValidUntil(): Monotonic {
    return this.#lease.validUntil;
  }

  /** Whether `withLease` would call back at once; asking is a use that keeps the lease running. */
  get leaseHeld(): boolean {
    const now = this.#context.now();
    if (!leaseHolds(this.#lease, now)) return false;
    if (!leaseIsWarm(this.#lease, now)) this.#leaseStep({ type: 'used', now });
    return true;
  }

  /**
   * Null when nobody waits for nodes: for a commit, else for the lease. Else a mark that changes
   * when they grant that; reads that are answered say nothing of a commit that is not.
   */
  get awaited(): number | null {
    if (this.#unfinished()) return this.#writer.committedLsn;
    return this.#waiting.length > 0 ? this.#lease.validUntil : null;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  #known(): VersionedVolume {
    return present(this.#swapper.known, 'a known record');
  }

  #record(): VolumeRecord {
    return this.#known().record;
  }

  append(entry: BatchEntry, done: AppendDone): boolean {
    assert(!this.#releasing, 'appends end before the release');
    if (this.#writer.stopped) {
      // By the time it is told, the owner has said why; without a reason it would read as success.
      const why = (): HoldfastError => present(this.#failure, 'why the writer stopped');
      this.#context.deps.clock.soon(() => done(why(), null));
      return true;
    }
    let pageBytes = 0;
    for (const part of entry.pages) pageBytes += part.length;
    const bytes = entryBytes(entry.record.length, pageBytes);
    this.#pendingBytes += bytes;
    const queued: QueuedEntry = { entry, lsn: this.#writer.nextLsn, bytes, done };
    this.#step({ type: 'append', queued, now: this.#context.now() });
    return this.#pendingBytes <= this.#context.limits.maxPendingBytes;
  }

  onDrain(callback: () => void): void {
    if (this.#pendingBytes <= this.#context.limits.maxPendingBytes) {
      this.#context.deps.clock.soon(callback);
    } else this.#drained.push(callback);
  }

  /** Calls back with null when, at that moment, no other owner can have acknowledged anything. */
  withLease(done: (error: HoldfastError | null) => void): void {
    const now = this.#context.now();
    if (leaseHolds(this.#lease, now)) {
      this.#leaseStep({ type: 'used', now });
      done(null);
      return;
    }
    this.#waiting.push(done);
    this.#leaseStep({ type: 'wanted', now });
  }

  /** Stops taking anything; calls back once nothing is pending and the release has landed. */
  release(done: () => void): void {
    this.#releasing = true;
    const whenIdle = (): void => {
      if (this.#context.closed) return;
      if (!this.#unfinished() && !this.#swapper.busy && this.#rollPending === null) done();
      else this.#context.deps.clock.after(this.#context.limits.retryMinMs, whenIdle);
    };
    whenIdle();
  }

  /** Is anything appended that is not yet committed? */
  #unfinished(): boolean {
    const { queue, current } = this.#writer;
    return queue.length > 0 || current.commitOffset < current.nextOffset;
  }

  /** Fails everything that waits, in order. The owner has stopped. */
  fail(reason: HoldfastError): void {
    this.#failure = reason;
    this.#leaseStep({ type: 'current', segment: null, replicas: 0 });
    const entries = unfinished(this.#writer);
    const waiting = this.#waiting;
    this.#waiting = [];
    this.volumeSwaps.fail(reason);
    this.#context.deps.clock.soon(() => {
      for (const queued of entries) queued.done(reason, null);
      for (const done of waiting) done(reason);
    });
  }

  #deadline(now: Monotonic): number {
    return Math.min(
      writerDeadline(this.#writer),
      leaseDeadline(this.#lease),
      this.#spares.deadline(now),
    );
  }

  #tick(now: Monotonic): void {
    this.#spares.tick(now);
    this.#leaseStep({ type: 'tick', now });
    // Each tick of the writer is a use: it asks the spare.
    if (writerDeadline(this.#writer) <= now) this.#step({ type: 'tick', now });
    if (!this.#context.closed) this.maintain(now);
  }

  #step(event: WriterEvent): void {
    const effects = stepWriter(this.#writer, event);
    this.#followCurrent();
    this.#perform(effects, event.now);
    this.#context.wake(writerDeadline(this.#writer), event.now);
  }

  /**
   * In the order of the events: an append from within a callback must not overtake what is queued.
   */
  #perform(effects: readonly WriterEffect[], now: Monotonic): void {
    for (const effect of effects) this.#effects.push(effect);
    if (this.#performing) return;
    this.#performing = true;
    for (let i = 0; i < this.#effects.length; i++) this.#run(this.#effects[i] as WriterEffect, now);
    this.#effects = [];
    this.#performing = false;
  }

  /** The lease moves with the writer, at once: grants on a frozen segment are worth nothing. */
  #followCurrent(): void {
    const { segment, replicas } = this.#writer.current.segment;
    if (segment === this.#lease.segment || this.#context.closed) return;
    this.#context.noteOpened(segment, this.#context.now());
    this.#leaseStep({ type: 'current', segment, replicas: replicas.length });
    if (this.#waiting.length > 0) this.#leaseStep({ type: 'wanted', now: this.#context.now() });
  }

  #run(effect: WriterEffect, now: Monotonic): void {
    if (this.#context.closed && effect.type !== 'committed') return;
    switch (effect.type) {
      case 'send':
        this.#send(effect, now);
        break;
      case 'ping':
        this.#ping(effect.segment, effect.replica, now);
        break;
      case 'committed':
        this.#committed(effect.segment, effect.batch);
        break;
      case 'rolled':
        this.#rolled(effect);
        break;
      case 'dropped': {
        const { replica, dropped } = effect.follower;
        const { volume } = this.#context.options;
        const fields = { volume, node: replica.node, reason: dropped, why: effect.why };
        this.#context.deps.log.warn(fields, 'going on without a replica');
        break;
      }
      case 'stop':
        this.#onStop(effect.reason);
        break;
      default:
        unreachable(effect);
    }
  }

  #send(effect: Extract<WriterEffect, { type: 'send' }>, sentAt: Monotonic): void {
    const { segment, replica, generation, batch } = effect;
    const to = present(segment.replicas[replica], 'a replica of the segment');
    const request = {
      type: 'append',
      incarnation: to.incarnation,
      segment: segment.segment,
      epoch: segment.createEpoch,
      offset: batch.offset,
      batch: batch.encoded.parts,
    } as const;
    this.#context.send(to, request, (reply) =>
      this.#answered(segment, replica, { generation, end: batch.end, sentAt }, reply),
    );
  }

  #ping(segment: OpenSegment, replica: number, sentAt: Monotonic): void {
    const to = present(segment.replicas[replica], 'a replica of the segment');
    const { incarnation } = to;
    const epoch = segment.createEpoch;
    const request = { type: 'ping', incarnation, segment: segment.segment, epoch } as const;
    const sent: Sent = { generation: null, end: offset(0), sentAt };
    this.#context.send(to, request, (reply) => this.#answered(segment, replica, sent, reply));
  }

  #answered(segment: OpenSegment, replica: number, sent: Sent, reply: Reply | null): void {
    const { generation, end, sentAt } = sent;
    const now = this.#context.now();
    const from = present(segment.replicas[replica], 'a replica of the segment');
    if (reply !== null && reply.status === 'OK' && answersFor(from, reply)) {
      this.#leaseStep({ type: 'granted', segment: segment.segment, replica, sentAt, now });
    }
    if (this.#context.closed) return;
    const id = segment.segment;
    this.#step({ type: 'answer', segment: id, replica, generation, end, reply, now });
  }

  #committed(segment: SegmentId, batch: SentBatch): void {
    const { entries, encoded } = batch;
    for (let i = 0; i < entries.length; i++) {
      const queued = entries[i] as QueuedEntry;
      this.#pendingBytes -= queued.bytes;
      const firstPage = present(encoded.entryPages[i], 'a place for each entry');
      // A callback before this one may have stopped the owner.
      if (this.#failure !== null) queued.done(this.#failure, null);
      else queued.done(null, { lsn: queued.lsn, segment, firstPage });
    }
    if (this.#drained.length === 0) return;
    if (this.#pendingBytes > this.#context.limits.maxPendingBytes / 2) return;
    const drained = this.#drained;
    this.#drained = [];
    for (const callback of drained) callback();
  }

  #rolled(effect: Extract<WriterEffect, { type: 'rolled' }>): void {
    this.#spares.inUse(effect.current.segment);
    assert(this.#rollPending === null, 'one roll at a time');
    this.#rollPending = effect.sealed;
    this.#context.deps.clock.soon(() => {
      if (!this.#context.closed) this.maintain(this.#context.now());
    });
  }

  #leaseStep(event: LeaseEvent): void {
    for (const effect of stepLease(this.#lease, event)) {
      if (effect.type === 'ping') {
        const { segment } = this.#writer.current;
        assert(segment.segment === effect.segment, 'the lease is on the current segment');
        const now = this.#context.now();
        for (const replica of segment.replicas.keys()) this.#ping(segment, replica, now);
      } else {
        const waiting = this.#waiting;
        this.#waiting = [];
        // Each asks again: the lease may lapse while the one before is served.
        for (const done of waiting) this.withLease(done);
      }
    }
    const now = this.#context.now();
    this.#context.wake(leaseDeadline(this.#lease), now);
  }

  /** Proposes the most urgent swap, if none is in flight. */
  maintain(now: Monotonic): void {
    if (this.#swapper.busy || this.#context.closed) return;
    const record = this.#record();
    if (this.#rollPending !== null) {
      this.#proposeRoll(record, this.#rollPending, this.#spares.ready(record, now));
    } else if (this.#proposeVolumeSwap()) {
      // It gets its turn: the next roll has to ask the next spare first.
    } else if (this.#releasing && !this.#unfinished()) {
      // Until then a spare may be what the last records need to become durable.
      return;
    } else if (!this.#spares.proposeNext(record, now)) {
      this.#proposeClear(record);
    }
    this.#context.wake(this.#deadline(now), now);
  }

  #propose(name: string, change: OwnerSwap['change'], then: (now: Monotonic) => void): void {
    const swap: OwnerSwap = {
      name,
      change,
      onLanded: (now) => {
        const { record, modRevision } = this.#known();
        then(now);
        this.#upkeep.adopt(record, modRevision, now);
        this.maintain(now);
      },
    };
    this.#swapper.propose(swap);
  }

  #proposeRoll(record: VolumeRecord, sealed: SegmentEnd, promote: SegmentId | null): void {
    const { epoch } = record;
    const plan = promote !== null || record.planned.length === 0 ? this.#spares.fresh(record) : [];
    const args = { epoch, sealed, promote, plan };
    this.#propose(
      'roll',
      (found) => roll(found, args),
      (now) => {
        this.#rollPending = null;
        this.#step({ type: 'roll-confirmed', now });
        if (promote !== null) this.#spares.registered(promote, now);
        this.#spares.createPlanned(now);
      },
    );
  }

  /** False when none waits. */
  #proposeVolumeSwap(): boolean {
    const next = this.volumeSwaps.begin(this.#known());
    if (next === null) return false;
    const change: OwnerSwap['change'] = (found, at) => next.change(found, at) ?? found;
    this.#propose(next.name, change, () => this.volumeSwaps.landed(this.#known()));
    return true;
  }

  #proposeClear(record: VolumeRecord): void {
    const clearing = this.#upkeep.clearing(record);
    if (clearing !== null) this.#propose('clear', clearing.change, clearing.landed);
  }
}

function factsOf({ name, kind, sizeBytes, replicas, ackQuorum }: VolumeRecord) {
  return { name, kind, sizeBytes, replicas, ackQuorum };
}
