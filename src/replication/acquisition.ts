/**
 * Runs a takeover: the claim (swap 1), then FENCEs, recovery and CREATEs side by side, then the
 * seal (swap 6). Decides nothing itself: takeover.ts, creation.ts and swap.ts do.
 */
import type { Reply } from '../block/wire/messages.js';
import { assert, present, unreachable } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { NodeId, SegmentId } from '../core/ids.js';
import { lsn, type Monotonic, pageIndex } from '../core/units.js';
import type { PlannedSegment, VolumeRecord } from '../metadata/model.js';
import { claimEpoch, planSpare, sealAtTakeover, unplan } from '../metadata/volume-record.js';
import {
  type CreationState,
  creationDeadline,
  failingNodes,
  isHopeless,
  isReady,
  newCreation,
  promisesMore,
  type SendCreate,
  stepCreation,
} from './creation.js';
import type { OwnerContext } from './owner-context.js';
import { answersFor } from './quorum.js';
import type { SegmentReader } from './reader.js';
import { readBatches } from './reader-batches.js';
import type { RecordSwapper } from './record-swapper.js';
import type { RecoveryEffect, RecoveryEvent } from './recovery.js';
import { isSuperseded, type SwapPurpose } from './swap.js';
import {
  newTakeover,
  stepTakeover,
  type TakeoverEffect,
  type TakeoverEvent,
  type TakeoverState,
  takeoverDeadline,
  takeoverStep,
} from './takeover.js';

/** A swap's purpose with what the driver does when it has landed. */
export interface OwnerSwap extends SwapPurpose {
  onLanded(now: Monotonic): void;
}

/** What makes nodes know more than the record, if nothing is damaged. */
const STORE_IS_OLDER =
  'Was the metadata store restored from a backup? Then the nodes have gone on since: see ' +
  '"etcd is lost" in docs/RUNBOOKS.md.';
/** How many fresh segments a takeover registers: the current one and a spare. */
const FRESH = 2;

export interface AcquisitionHandlers {
  /** `step` is one of owner-api's: swap, fence, recover, register. */
  onStep(step: string): void;
  /** The final swap has landed: `creation` goes on for replicas that missed a CREATE. */
  onOwned(creation: CreationState): void;
  onStop(reason: HoldfastError): void;
}

export class Acquisition {
  readonly #context: OwnerContext;
  readonly #swapper: RecordSwapper;
  readonly #reader: SegmentReader;
  readonly #handlers: AcquisitionHandlers;
  #creation: CreationState | null = null;
  #takeover: TakeoverState | null = null;
  /** The former owner gave its lease up, or is dead: FENCE need not wait for it. */
  #released = false;
  #claimAt: number = Number.POSITIVE_INFINITY;
  #done = false;
  /** Who waits for this attempt to end, once it was given up. */
  #onGivenUp: ((mayRelease: boolean) => void) | null = null;

  constructor(
    context: OwnerContext,
    swapper: RecordSwapper,
    reader: SegmentReader,
    handlers: AcquisitionHandlers,
  ) {
    this.#context = context;
    this.#swapper = swapper;
    this.#reader = reader;
    this.#handlers = handlers;
    context.watch({ deadline: (now) => this.#deadline(now), tick: (now) => this.#tick(now) });
  }

  start(): void {
    this.#handlers.onStep('swap');
    this.#swapper.open(() => this.#claim(this.#context.now()));
  }

  /**
   * Sends nothing more. `done` once no swap is under way, with whether the volume is this owner's
   * and may be marked as released: that says that no read lease runs, and this owner has none yet,
   * but the one before may. So it is left as it was found: released by whoever had it, or never
   * served by anybody. Never called when this owner is stopped first.
   */
  giveUp(done: (mayRelease: boolean) => void): void {
    this.#onGivenUp = done;
    this.#done = true;
    if (!this.#swapper.busy) this.#gaveUp('none');
  }

  #gaveUp(landed: string): void {
    const record = this.#swapper.known?.record;
    const isOurs = record?.owner?.id === this.#context.options.owner;
    // A takeover that has ended has waited for all leases.
    const isFree = this.#released || landed === 'seal' || record?.open.length === 0;
    this.#onGivenUp?.(isOurs && isFree);
  }

  #record(): VolumeRecord {
    return present(this.#swapper.known, 'the record was read').record;
  }

  #deadline(now: Monotonic): number {
    if (this.#done) return Number.POSITIVE_INFINITY;
    if (this.#takeover === null || this.#creation === null) return this.#claimAt;
    return Math.min(takeoverDeadline(this.#takeover), creationDeadline(this.#creation, now));
  }

  #tick(now: Monotonic): void {
    if (this.#done) return;
    if (this.#takeover === null || this.#creation === null) {
      this.#claim(now);
      return;
    }
    this.#create(stepCreation(this.#creation, { type: 'tick', now }));
    this.#step({ type: 'tick', now });
  }

  #claim(now: Monotonic): void {
    const record = this.#record();
    if (record.trash !== undefined) {
      // Whoever removes it later raises the epoch, which ends this attempt as well.
      this.#handlers.onStop(new HoldfastError('NOT_FOUND', 'the volume is in the trash'));
      return;
    }
    const { owner: id, address, reaped } = this.#context.options;
    const planned = [0, 1].map(() => this.#context.newSegment(record, new Set()));
    this.#claimAt = Number.POSITIVE_INFINITY;
    if (planned.some((one) => one === null)) {
      this.#claimAt = now + this.#context.limits.retryMaxMs;
      this.#context.deps.log.warn({ volume: record.volume }, 'no placement group has enough disks');
      this.#context.wake(this.#claimAt, now);
      return;
    }
    const fresh = planned.map((one) => present(one, 'a planned segment'));
    const { idleOnly = false, lost } = this.#context.options;
    this.#propose({
      name: 'claim',
      refuse: (found) => {
        const former = found.owner;
        if (reaped !== undefined && former?.id !== reaped) {
          const by = former === null ? 'nobody' : former.address;
          const what = `the volume was taken over meanwhile (epoch ${found.epoch}, ${by})`;
          return new HoldfastError('FENCED', what);
        }
        // One of our kind that did not get to the release is no owner to be disturbed.
        const isIdle = former === null || former.released || former.address === address;
        if (!idleOnly || isIdle || former.id === lost) return null;
        return new HoldfastError('CONFLICT', `the volume is owned by ${former.address}`);
      },
      change: (found) => {
        const former = found.owner;
        this.#released = former !== null && (former.released || former.id === reaped);
        const owner = { id, address, released: false };
        return claimEpoch(found, { owner, planned: fresh });
      },
      onLanded: (at) => this.#claimed(at),
    });
  }

  #propose(swap: OwnerSwap): void {
    const onLanded = (now: Monotonic): void => {
      if (this.#onGivenUp === null) swap.onLanded(now);
      else this.#gaveUp(swap.name);
    };
    const watched: OwnerSwap = { ...swap, onLanded };
    this.#swapper.propose(watched);
  }

  #claimed(now: Monotonic): void {
    const record = this.#record();
    const { retryMinMs, retryMaxMs, createGraceMs, replanMs, acceptLossMs } = this.#context.limits;
    const { acceptLoss: said } = this.#context.options;
    const { ackQuorum, epoch, volume } = record;
    const base = record.sealed.at(-1)?.endLsn ?? (record.root === null ? lsn(0) : null);
    this.#takeover = newTakeover({
      volume,
      ackQuorum,
      epoch,
      open: record.open,
      baseLsn: base,
      retryMinMs,
      retryMaxMs,
      acceptLoss: said === undefined ? null : { afterMs: acceptLossMs, said },
    });
    this.#creation = newCreation({
      ackQuorum,
      retryMinMs,
      retryMaxMs,
      graceMs: createGraceMs,
      replanMs,
    });
    for (const planned of this.#fresh(record)) this.#planned(planned, now);
    this.#step({ type: 'start', now });
  }

  #fresh(record: VolumeRecord): PlannedSegment[] {
    return record.planned.filter((planned) => planned.createEpoch === record.epoch);
  }

  #planned(planned: PlannedSegment, now: Monotonic): void {
    const creation = present(this.#creation, 'a claimed epoch');
    this.#create(stepCreation(creation, { type: 'planned', planned, now }));
  }

  #create(effects: readonly SendCreate[]): void {
    const creation = present(this.#creation, 'a claimed epoch');
    const { volume } = this.#context.options;
    for (const effect of effects) {
      sendCreate(this.#context, creation, volume, effect, () => {
        if (!this.#done) this.#advance(this.#context.now());
      });
    }
  }

  #step(event: TakeoverEvent): void {
    if (this.#done) return;
    const takeover = present(this.#takeover, 'a claimed epoch');
    for (const effect of stepTakeover(takeover, event)) this.#run(effect);
    this.#handlers.onStep(takeoverStep(takeover));
    this.#advance(event.now);
  }

  #run(effect: TakeoverEffect): void {
    switch (effect.type) {
      case 'fence':
        this.#fence(effect);
        break;
      case 'recovery':
        this.#recover(effect.round, effect.index, effect.effect);
        break;
      case 'doubt':
        this.#doubt(effect.why);
        break;
      case 'halt':
        this.#handlers.onStop(effect.reason);
        break;
      case 'again':
        this.#context.deps.log.warn(
          { volume: this.#context.options.volume, why: effect.why },
          'takeover decides again',
        );
        break;
      case 'recovered':
        break;
      default:
        unreachable(effect);
    }
  }

  #fence(effect: Extract<TakeoverEffect, { type: 'fence' }>): void {
    const { round, index, replica } = effect;
    const takeover = present(this.#takeover, 'a claimed epoch');
    const { open, epoch, volume } = takeover.config;
    const segment = present(open[index], 'an open segment');
    const to = present(segment.replicas[replica], 'a replica of it');
    const answered = (reply: Reply | null): void => {
      const now = this.#context.now();
      this.#step({ type: 'fence-answer', round, index, replica, reply, now });
    };
    const request = {
      type: 'fence',
      incarnation: to.incarnation,
      segment: segment.segment,
      volume,
      epoch,
      released: this.#released,
    } as const;
    this.#context.send(to, request, answered);
  }

  #recover(
    round: number,
    index: number,
    effect: Extract<RecoveryEffect, { type: 'read' | 'heads' | 'recover' }>,
  ): void {
    const { open, epoch, volume } = present(this.#takeover, 'a claimed epoch').config;
    const segment = present(open[index], 'an open segment');
    const tell = (event: RecoveryEvent): void => {
      if (this.#context.closed) return;
      this.#step({ type: 'recovery', round, index, event, now: this.#context.now() });
    };
    if (effect.type !== 'recover') {
      const replicas = effect.sources.map((one) => present(segment.replicas[one], 'a replica'));
      const source = { segment: segment.segment, replicas };
      if (effect.type === 'read') {
        this.#reader.readPages(source, pageIndex(effect.page), effect.count, (error, data) =>
          tell({ type: 'pages', data, lost: error?.code === 'DATA_LOST' }),
        );
        return;
      }
      const { from, end, prevCrc } = effect;
      const { createEpoch } = segment;
      readBatches(
        this.#reader,
        { ...source, volume, createEpoch, from, end, prevCrc, endCrc: null },
        ({ header }) => tell({ type: 'head', header }),
        (error) => tell({ type: 'heads-end', error }),
      );
      return;
    }
    const { replica, offset, bytes } = effect;
    const to = present(segment.replicas[replica], 'a replica of it');
    const request = {
      type: 'recover',
      incarnation: to.incarnation,
      segment: segment.segment,
      volume,
      epoch,
      createEpoch: segment.createEpoch,
      offset,
      bytes,
    } as const;
    this.#context.send(to, request, (reply) => tell({ type: 'recover-answer', replica, reply }));
  }

  /** Something only a newer owner or damage can explain: the record tells which. */
  #doubt(why: string): void {
    const { epoch } = present(this.#takeover, 'a claimed epoch').config;
    const { owner } = this.#context.options;
    this.#swapper.read((at) => {
      const superseded = at === null || isSuperseded(at.record, epoch, owner);
      const fault = superseded
        ? new HoldfastError('FENCED', why)
        : new HoldfastError('INCONSISTENT', why, { hint: STORE_IS_OLDER });
      this.#handlers.onStop(fault);
    });
  }

  /** Sends the final swap when all is ready, or replaces a fresh segment that cannot be created. */
  #advance(now: Monotonic): void {
    this.#context.wake(this.#deadline(now), now);
    const { phase } = present(this.#takeover, 'a claimed epoch');
    const creation = present(this.#creation, 'a claimed epoch');
    if (this.#done || this.#swapper.busy || this.#context.closed) return;
    const record = this.#record();
    const fresh = this.#fresh(record).map((planned) => planned.segment);
    for (const segment of fresh) {
      if (isHopeless(creation, segment, now) && this.#replan(record, segment)) return;
    }
    if (phase.type !== 'recovered') return;
    if (fresh.length < FRESH || !fresh.every((segment) => isReady(creation, segment, now))) return;
    const { epoch } = record;
    const { ends } = phase;
    this.#propose({
      name: 'seal',
      change: (found) => sealAtTakeover(found, { epoch, ends, promote: fresh, plan: [] }),
      onLanded: () => {
        this.#done = true;
        const { ackQuorum } = this.#record();
        stepCreation(creation, { type: 'quorum', ackQuorum, now: this.#context.now() });
        this.#handlers.onOwned(creation);
      },
    });
  }

  /** False where nothing better can be had. */
  #replan(record: VolumeRecord, hopeless: SegmentId): boolean {
    const creation = present(this.#creation, 'a claimed epoch');
    const avoid: ReadonlySet<NodeId> = failingNodes(creation);
    const next = this.#context.newSegment(record, avoid);
    const { directory } = this.#context.deps;
    if (next === null || !promisesMore(creation, hopeless, next.replicas, directory)) return false;
    const { epoch } = record;
    assert(next.segment !== hopeless, 'a fresh id');
    this.#propose({
      name: 'unplan',
      change: (found) =>
        planSpare(unplan(found, { epoch, segments: [hopeless] }), { epoch, plan: [next] }),
      onLanded: (now) => {
        stepCreation(creation, { type: 'forget', segment: hopeless });
        const planned = this.#record().planned.find((one) => one.segment === next.segment);
        this.#planned(present(planned, 'a segment just planned'), now);
        this.#advance(now);
      },
    });
    return true;
  }
}

/** Sends one CREATE and tells the core of its answer. */
export function sendCreate(
  context: OwnerContext,
  creation: CreationState,
  volume: VolumeRecord['volume'],
  effect: SendCreate,
  done: () => void,
): void {
  const { planned, replica } = effect;
  const to = present(planned.replicas[replica], 'a replica of the segment');
  const request = {
    type: 'create',
    incarnation: to.incarnation,
    segment: planned.segment,
    volume,
    epoch: planned.createEpoch,
  } as const;
  context.send(to, request, (reply) => {
    const created = reply !== null && answersFor(to, reply) && reply.status === 'OK';
    const now = context.now();
    stepCreation(creation, { type: 'answer', segment: planned.segment, replica, created, now });
    context.wake(creationDeadline(creation, now), now);
    done();
  });
}
