/**
 * The log owner: takes a volume over (acquisition.ts), then serves it (service.ts) until it
 * releases it, is stopped, or finds that a newer owner has taken over. Decisions are the pure cores
 * named in these two; this file is the public face and the order of things.
 *
 * INVARIANT: once stopped, for whatever reason, nothing is acknowledged or answered any more but
 * the reason.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import { assert, present } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { READ_LOST_FRESH_MS } from '../core/limits.js';
import { epoch, type Lsn, lsn, type Monotonic } from '../core/units.js';
import type { OpenSegment, Replica, Root, SealedSegment, VolumeRecord } from '../metadata/model.js';
import { release } from '../metadata/volume-record.js';
import { Acquisition, type OwnerSwap } from './acquisition.js';
import { GivenUpReads } from './given-up-reads.js';
import type { OwnerState, ReplayedRecord, VolumeOwner } from './owner-api.js';
import { OwnerContext } from './owner-context.js';
import {
  DEFAULT_OWNER_LIMITS,
  type InspectedSegment,
  type OwnerDeps,
  type OwnerInspection,
  type OwnerOptions,
} from './owner-types.js';
import { type PagesHandler, SegmentReader } from './reader.js';
import { RecordSwapper } from './record-swapper.js';
import { type ReplayReader, replayLog } from './replay.js';
import { type AppendDone, Service } from './service.js';
import type { Stream } from './stream.js';
import { deletion, newRoot, type VolumeSwap } from './volume-swaps.js';

/** Pages that no replica has, as far as those know who were asked. */
interface Loss {
  readonly segment: SegmentId;
  readonly asked: readonly Replica[];
  /** When the last of them said so. */
  readonly heardAt: Monotonic;
  /** Who is to be told. */
  readonly done: PagesHandler;
}

export class LogOwner implements VolumeOwner {
  readonly #context: OwnerContext;
  readonly #swapper: RecordSwapper;
  readonly #reader: SegmentReader;
  readonly #givenUp: GivenUpReads;
  #acquisition: Acquisition | null = null;
  #service: Service | null = null;
  #state: OwnerState = { type: 'idle' };
  #onState: (state: OwnerState) => void = () => {};
  #releasing = false;
  /** Who waits for pages that nobody who answers has. */
  readonly #readsAgain = new Set<PagesHandler>();
  /** Of these, who was about to be told of a loss: since when the store has named who was asked. */
  readonly #doubted = new WeakMap<PagesHandler, Monotonic>();
  #onReleased: ((error: HoldfastError | null) => void) | null = null;
  #index: {
    readonly list: VolumeRecord['sealed'];
    readonly byId: ReadonlyMap<SegmentId, SealedSegment>;
  } | null = null;

  constructor(deps: OwnerDeps, options: OwnerOptions) {
    const limits = { ...DEFAULT_OWNER_LIMITS, ...options.limits };
    const context = new OwnerContext(deps, options, limits);
    this.#context = context;
    const { clock, store, log, requests, directory, localFiles } = deps;
    const { volume, owner } = options;
    this.#swapper = new RecordSwapper({
      clock,
      store,
      log,
      volume,
      owner,
      limits,
      landed: (purpose) => (purpose as OwnerSwap).onLanded(context.now()),
      stop: (reason) => this.#stop(reason),
      wake: () => context.wake(this.#swapper.deadline(), context.now()),
    });
    this.#reader = new SegmentReader({
      ...{ clock, requests, directory, localFiles },
      isFresh: (segment) => context.isFresh(segment),
    });
    this.#givenUp = new GivenUpReads(store, clock, volume);
    context.watch({
      deadline: () => this.#swapper.deadline(),
      tick: (now) => this.#swapper.tick(now),
    });
  }

  get state(): OwnerState {
    return this.#state;
  }

  get record(): VolumeRecord | null {
    return this.#swapper.known?.record ?? null;
  }

  get committedLsn(): Lsn {
    return this.#service?.committedLsn ?? lsn(0);
  }

  start(onState: (state: OwnerState) => void): void {
    assert(this.#acquisition === null, 'an owner is started once');
    this.#onState = onState;
    this.#acquisition = new Acquisition(this.#context, this.#swapper, this.#reader, {
      onStep: (step) => this.#step(step),
      onOwned: (creation) => {
        const stop = (reason: HoldfastError): void => this.#stop(reason);
        this.#service = new Service(this.#context, this.#swapper, creation, stop);
        this.#enter({ type: 'serving', epoch: present(this.record, 'a record').epoch });
      },
      onStop: (reason) => this.#stop(reason),
    });
    const acquisition = this.#acquisition;
    this.#context.deps.clock.soon(() => {
      if (!this.#context.closed) acquisition.start();
    });
  }

  append(entry: BatchEntry, done: AppendDone): boolean {
    const service = this.#serving();
    if (service !== null) return service.append(entry, done);
    this.#refuse((reason) => done(reason, null));
    return true;
  }

  onDrain(callback: () => void): void {
    const service = this.#serving();
    if (service === null) this.#context.deps.clock.soon(callback);
    else service.onDrain(callback);
  }

  readPages(
    segment: SegmentId,
    page: number,
    count: number,
    done: (error: HoldfastError | null, data: Uint8Array | null) => void,
  ): void {
    this.checkLease((refused) => {
      if (refused !== null) {
        done(refused, null);
        return;
      }
      const replicas = this.#replicasOf(segment);
      if (replicas === null) {
        const what = `segment ${segment} is not in the log`;
        this.#context.deps.clock.soon(() => done(new HoldfastError('NOT_FOUND', what), null));
        return;
      }
      this.#reader.readPages({ segment, replicas }, page, count, (error, data) => {
        const heardAt = this.#context.now();
        // The owner may have lost the volume while it read: asked again just before the answer.
        this.checkLease((lapsed) => {
          if (lapsed !== null) done(lapsed, null);
          else if (error?.retryable === true) {
            // Who does not answer may have a copy, and whatever was said before is long ago.
            this.#doubted.delete(done);
            const verdict = this.#givenUp.verdict(segment, page, count, error);
            if (verdict !== null) done(verdict, null);
            else this.#readAgain(segment, page, count, done);
          } else if (error?.code !== 'DATA_LOST') done(error, data);
          else
            this.#ifStillLost({ segment, asked: replicas, heardAt, done }, (isLost, isNamed) => {
              if (isLost) return done(error, null);
              const told = this.#readAgain(segment, page, count, done);
              if (isNamed) this.#doubted.set(told, this.#context.now());
            });
        });
      });
    });
  }

  /**
   * Calls back with null while this owner provably still owns the volume (perhaps before this call
   * returns): what it answers then from memory is not stale. FENCED or CLOSED otherwise.
   */
  checkLease(done: (error: HoldfastError | null) => void): void {
    const service = this.#serving();
    if (service === null) this.#refuse(done);
    else service.withLease(done);
  }

  /**
   * Whether `checkLease` would answer null at once: for a fast path that asks at each request.
   * Asking is a use: a lease that is asked for is renewed before it lapses, and one that nobody
   * asks for lapses and costs nothing.
   */
  get leaseHeld(): boolean {
    return this.#serving()?.leaseHeld ?? false;
  }

  /** Null when nobody waits for nodes; else a mark that changes when they grant something. */
  get awaited(): number | null {
    const service = this.#serving();
    return service?.awaited ?? (service !== null && this.#readsAgain.size > 0 ? 0 : null);
  }

  /** Pages that were read from files of this machine. */
  get localReadPages(): number {
    return this.#reader.localPages;
  }

  /**
   * Points the volume at a checkpoint whose pages were all acknowledged. `done` once, in the order
   * of the calls of setRoot and deleteSealed: null when the swap is durable; FENCED, CLOSED or
   * INCONSISTENT when the owner has stopped, and then it may or may not have happened.
   */
  setRoot(root: Root, done: (error: HoldfastError | null) => void): void {
    this.#volumeSwap(newRoot(root, done));
  }

  /**
   * Gives sealed segments up that nothing durable reaches: to pendingDelete, and from there to
   * their replicas, which are not waited for. Those that are not sealed any more are left out. They
   * end before the root's LSN, and the last one sealed is not among them (asserted). `done` as of
   * setRoot.
   */
  deleteSealed(segments: readonly SegmentId[], done: (error: HoldfastError | null) => void): void {
    this.#volumeSwap(deletion(segments, done));
  }

  #volumeSwap(swap: VolumeSwap): void {
    const service = this.#serving();
    if (service === null) this.#refuse(swap.done);
    else service.volumeSwaps.add(swap);
  }

  replay(
    from: Lsn,
    onRecord: (record: ReplayedRecord) => void,
    done: (error: HoldfastError | null) => void,
  ): void {
    const service = this.#serving();
    const { record } = this;
    if (service === null || record === null) {
      this.#refuse(done);
      return;
    }
    const { current, frozen } = service.writer;
    const tails: { segment: OpenSegment; end: Stream['commitOffset'] }[] = [];
    if (frozen !== null) {
      const segment = record.open.find((open) => open.segment === frozen.segment);
      tails.push({ segment: present(segment, 'a frozen segment is open'), end: frozen.end });
    }
    tails.push({ segment: current.segment, end: current.commitOffset });
    const heard = (found: ReplayedRecord): void => {
      if (this.#state.type === 'serving') onRecord(found);
    };
    // As any other read: from whoever has a copy by now, and again until one answers.
    const reader: ReplayReader = {
      soon: (callback) => this.#reader.soon(callback),
      readPages: (of, page, count, read) => this.readPages(of.segment, page, count, read),
    };
    replayLog(reader, { record, tails, from }, heard, (error) =>
      this.checkLease((lapsed) => done(lapsed ?? error)),
    );
  }

  release(done: (error: HoldfastError | null) => void): void {
    const service = this.#serving();
    if (service === null) {
      this.#giveUp(done);
      return;
    }
    this.#releasing = true;
    this.#onReleased = done;
    service.release(() => this.#markReleased(done));
  }

  /** Of a volume that is not taken over yet: it is left as released as it was found. */
  #giveUp(done: (error: HoldfastError | null) => void): void {
    const unmarked = (): void => {
      this.stop();
      this.#context.deps.clock.soon(() => done(null));
    };
    if (this.#state.type !== 'taking-over' || this.#releasing) {
      unmarked();
      return;
    }
    this.#releasing = true;
    this.#onReleased = done;
    present(this.#acquisition, 'an attempt').giveUp((mayRelease) => {
      if (mayRelease) {
        this.#markReleased(done);
        return;
      }
      this.#onReleased = null;
      unmarked();
    });
  }

  #markReleased(done: (error: HoldfastError | null) => void): void {
    const { epoch: held } = present(this.record, 'a record');
    const swap: OwnerSwap = {
      name: 'release',
      change: (found) => release(found, { epoch: held }),
      onLanded: () => {
        this.#onReleased = null;
        this.#stop(new HoldfastError('CLOSED', 'the volume was released'));
        done(null);
      },
    };
    this.#swapper.propose(swap);
  }

  stop(): void {
    this.#stop(new HoldfastError('CLOSED', 'the owner was stopped'));
  }

  /** A view of everything that the invariants speak of. */
  inspect(): OwnerInspection {
    const service = this.#service;
    const { record } = this;
    const writer = service?.writer ?? null;
    const planned = record?.planned.find((one) => one.createEpoch === record.epoch) ?? null;
    const { owner } = this.#context.options;
    return {
      owner,
      epoch: record?.owner?.id === owner ? record.epoch : epoch(0),
      state: this.#state,
      current: writer === null ? null : inspected(writer.current),
      frozen: writer?.frozen ?? null,
      spare: writer?.spare?.segment.segment ?? null,
      planned: planned?.segment ?? null,
      committedLsn: this.committedLsn,
      nextLsn: writer?.nextLsn ?? lsn(0),
      leaseValidUntil: service?.leaseValidUntil ?? (0 as Monotonic),
      swapInFlight: this.#swapper.inFlight,
      pendingBytes: service?.pendingBytes ?? 0,
    };
  }

  /** The service, unless it has stopped or is being released. */
  #serving(): Service | null {
    return this.#state.type === 'serving' && !this.#releasing ? this.#service : null;
  }

  #refuse(done: (reason: HoldfastError) => void): void {
    const reason =
      this.#state.type === 'stopped'
        ? this.#state.reason
        : new HoldfastError('CLOSED', `the owner is ${this.#state.type}, not serving`);
    this.#context.deps.clock.soon(() => done(reason));
  }

  #readAgain(segment: SegmentId, page: number, count: number, done: PagesHandler): PagesHandler {
    const { clock } = this.#context.deps;
    let told = done;
    if (!this.#readsAgain.has(done)) {
      told = (error, data) => {
        this.#readsAgain.delete(told);
        done(error, data);
      };
      this.#readsAgain.add(told);
    }
    clock.after(this.#context.limits.retryMinMs, () => this.readPages(segment, page, count, told));
    return told;
  }

  /**
   * That those who were asked have no good copy says nothing while repair may have moved all of
   * them: the metadata store is asked before it is believed, however long that takes. What they
   * said before a long wait is no answer any more: a disk may be back, a copy complete. Said again
   * when the store has just named them it is believed at once. (Twice in a row it is in any case,
   * lest nobody ever hears of a loss while store and nodes are slow.)
   */
  #ifStillLost(
    { segment, asked, heardAt, done }: Loss,
    tell: (isLost: boolean, isNamed: boolean) => void,
  ): void {
    const namedAt = this.#doubted.get(done);
    if (namedAt !== undefined && heardAt - namedAt <= READ_LOST_FRESH_MS) {
      tell(true, true);
      return;
    }
    this.#swapper.read((at) => {
      const now = at?.record.sealed.find((one) => one.segment === segment)?.replicas ?? asked;
      const known = new Set(asked.map(({ incarnation }) => incarnation));
      const isNamed = now.every(({ incarnation }) => known.has(incarnation));
      const isFresh = this.#context.now() - heardAt <= READ_LOST_FRESH_MS;
      tell(isNamed && (isFresh || namedAt !== undefined), isNamed);
    });
  }

  /** Who may have a copy; null when the segment is not in the log. */
  #replicasOf(segment: SegmentId): readonly Replica[] | null {
    const { record } = this;
    if (record === null) return null;
    const open = record.open.find((one) => one.segment === segment);
    if (open !== undefined) return open.replicas;
    return this.#sealedById(record.sealed).get(segment)?.replicas ?? null;
  }

  /** Asked at each read, while the list changes once a segment. */
  #sealedById(list: VolumeRecord['sealed']): ReadonlyMap<SegmentId, SealedSegment> {
    if (this.#index?.list === list) return this.#index.byId;
    const byId = new Map(list.map((one) => [one.segment, one]));
    this.#index = { list, byId };
    return byId;
  }

  #step(step: string): void {
    if (this.#state.type === 'stopped' || this.#state.type === 'serving') return;
    if (this.#state.type === 'taking-over' && this.#state.step === step) return;
    this.#enter({ type: 'taking-over', step, epoch: this.record?.epoch ?? epoch(0) });
  }

  #enter(state: OwnerState): void {
    if (this.#state.type === 'stopped') return;
    this.#state = state;
    this.#onState(state);
  }

  #stop(reason: HoldfastError): void {
    if (this.#state.type === 'stopped') return;
    const { volume, owner } = this.#context.options;
    const fields = { volume, owner, code: reason.code };
    const { log } = this.#context.deps;
    if (reason.code === 'INCONSISTENT') log.error(fields, reason.message);
    else log.info(fields, reason.message);
    this.#context.close();
    this.#swapper.close();
    this.#reader.close();
    this.#service?.fail(reason);
    const onReleased = this.#onReleased;
    if (onReleased !== null) this.#context.deps.clock.soon(() => onReleased(reason));
    this.#enter({ type: 'stopped', reason });
  }
}

function inspected(stream: Stream): InspectedSegment {
  return {
    segment: stream.segment.segment,
    commitOffset: stream.commitOffset,
    nextOffset: stream.nextOffset,
    replicas: stream.followers.map(({ replica, durable, mode }) => ({ replica, durable, mode })),
  };
}
