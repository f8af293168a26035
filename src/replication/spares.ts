/**
 * Sees to it that a spare is registered and another one planned and created: plans, has CREATEs
 * sent, registers, and gives up what cannot be created, or does not answer or count any more, for
 * something better. Tells the writer when the spare is better than the segment it writes. Proposes
 * swaps for the service, one at a time; nothing on the write path waits here.
 *
 * INVARIANT: a registered spare that is to be replaced is taken from the writer before the swap is
 * proposed, so that nothing is ever written to it, whatever becomes of the swap.
 */
import { present } from '../core/assert.js';
import type { NodeId, SegmentId } from '../core/ids.js';
import type { Monotonic } from '../core/units.js';
import type { PlannedSegment, Replica, VolumeRecord } from '../metadata/model.js';
import {
  type NewSegment,
  planSpare,
  registerSpare,
  replaceSpare,
  unplan,
} from '../metadata/volume-record.js';
import { type OwnerSwap, sendCreate } from './acquisition.js';
import {
  type CreationState,
  createdCopies,
  creationDeadline,
  failingNodes,
  isHopeless,
  isReady,
  promisesMore,
  type SendCreate,
  stepCreation,
} from './creation.js';
import type { OwnerContext } from './owner-context.js';
import { silentInSpare } from './roll.js';
import { Soundness } from './soundness.js';
import type { WriterEvent, WriterState } from './writer.js';

/** Times the longest back-off: how often something better than a poor spare is looked for. */
const POOR_BACK_OFF = 5;
/** Looks at the directory within the time that a disk may be away. */
const LOOKS = 6;

export interface SparesHost {
  readonly writer: WriterState;
  record(): VolumeRecord;
  step(event: WriterEvent): void;
  propose(name: string, change: OwnerSwap['change'], then: (now: Monotonic) => void): void;
  maintain(now: Monotonic): void;
}

export class Spares {
  readonly #context: OwnerContext;
  readonly #creation: CreationState;
  readonly #host: SparesHost;
  readonly #soundness: Soundness;
  /** Since when the current segment has been that. */
  #current: { readonly segment: SegmentId; readonly since: Monotonic } | null = null;
  #lookAt = 0;
  #retryPlanAt = 0;
  #retryPoorAt = 0;

  constructor(context: OwnerContext, creation: CreationState, host: SparesHost) {
    this.#context = context;
    this.#creation = creation;
    this.#host = host;
    this.#soundness = new Soundness(context.deps.directory, context.limits.absentMs);
  }

  deadline(now: Monotonic): number {
    const retryAt = this.#retryPlanAt > now ? this.#retryPlanAt : Number.POSITIVE_INFINITY;
    return Math.min(creationDeadline(this.#creation, now), retryAt, this.#lookAt);
  }

  tick(now: Monotonic): void {
    this.#create(stepCreation(this.#creation, { type: 'tick', now }));
    if (now >= this.#lookAt) this.#look(now);
  }

  /** Whether the current segment is to be left, although nothing may be written. */
  #look(now: Monotonic): void {
    this.#lookAt = now + this.#context.limits.absentMs / LOOKS;
    const { writer } = this.#host;
    const record = this.#host.record();
    const listed = [...record.open, ...record.planned].flatMap(({ replicas }) => replicas);
    this.#soundness.look(listed, now);
    const { segment, replicas } = writer.current.segment;
    if (this.#current?.segment !== segment) this.#current = { segment, since: now };
    const { spare, frozen } = writer;
    if (spare === null || frozen !== null) return;
    const kept = this.#soundness.count(replicas, record.replicas, now);
    const offered = this.#soundness.count(spare.segment.replicas, record.replicas, now);
    const isOld = now >= this.#current.since + this.#context.limits.segmentMaxAgeMs;
    const hasRecords = writer.committedLsn > (record.sealed.at(-1)?.endLsn ?? 0);
    let above = Number.POSITIVE_INFINITY;
    if (offered > kept) above = kept;
    else if (isOld && hasRecords && offered === kept) above = kept - 1;
    if (above !== writer.leaveAbove || above !== Number.POSITIVE_INFINITY) {
      this.#host.step({ type: 'leave', above, now });
    }
  }

  /** It is written to: no more CREATEs. */
  inUse(segment: SegmentId): void {
    stepCreation(this.#creation, { type: 'forget', segment });
  }

  /** What this owner has planned, not yet registered. */
  planned(record: VolumeRecord): PlannedSegment | null {
    return record.planned.find((one) => one.createEpoch === record.epoch) ?? null;
  }

  /** The planned one, if it may be registered. */
  ready(record: VolumeRecord, now: Monotonic): SegmentId | null {
    const planned = this.planned(record);
    if (planned === null || !isReady(this.#creation, planned.segment, now)) return null;
    return planned.segment;
  }

  /** A segment to plan, away from nodes in trouble; none when there are too few nodes. */
  fresh(record: VolumeRecord, silent: ReadonlySet<NodeId> = new Set()): NewSegment[] {
    const avoid: Set<NodeId> = failingNodes(this.#creation);
    for (const follower of this.#host.writer.current.followers) {
      if (follower.mode !== 'following') avoid.add(follower.replica.node);
    }
    for (const node of silent) avoid.add(node);
    const segment = this.#context.newSegment(record, avoid);
    return segment === null ? [] : [segment];
  }

  /** The most urgent swap for the next spare, if there is one to propose. */
  proposeNext(record: VolumeRecord, now: Monotonic): boolean {
    const planned = this.planned(record);
    const ready = this.ready(record, now);
    if (record.open.length === 1 && ready !== null) {
      this.#register(record, ready);
      return true;
    }
    if (now >= this.#retryPlanAt) {
      if (planned === null) return this.#plan(record, null, this.fresh(record), now);
      if (isHopeless(this.#creation, planned.segment, now)) {
        const { directory } = this.#context.deps;
        const plan = this.fresh(record).filter(({ replicas }) =>
          promisesMore(this.#creation, planned.segment, replicas, directory),
        );
        if (this.#plan(record, planned.segment, plan, now)) return true;
      }
    }
    return this.#replacePoor(record, planned, ready, now);
  }

  #register(record: VolumeRecord, segment: SegmentId): void {
    const { epoch } = record;
    this.#host.propose(
      'register',
      (found) => registerSpare(found, { epoch, segment }),
      (now) => this.registered(segment, now),
    );
  }

  /** A swap has landed that registers it. */
  registered(segment: SegmentId, now: Monotonic): void {
    this.#lookAt = now;
    const spare = this.#host.record().open.find((one) => one.segment === segment);
    this.#host.step({ type: 'spare', segment: present(spare, 'a registered spare'), now });
  }

  /** Plans the next spare, in the place of one that is given up if there is such. */
  #plan(
    record: VolumeRecord,
    instead: SegmentId | null,
    plan: readonly NewSegment[],
    now: Monotonic,
  ): boolean {
    const { epoch } = record;
    if (plan.length === 0) {
      this.#retryPlanAt = now + this.#context.limits.retryMaxMs;
      return false;
    }
    const change = (found: VolumeRecord): VolumeRecord => {
      const rest = instead === null ? found : unplan(found, { epoch, segments: [instead] });
      return planSpare(rest, { epoch, plan });
    };
    this.#host.propose(instead === null ? 'plan' : 'unplan', change, (at) => {
      if (instead !== null) stepCreation(this.#creation, { type: 'forget', segment: instead });
      this.createPlanned(at);
    });
    return true;
  }

  /**
   * A spare some of whose replicas do not answer, or do not count, is worth little when it is
   * needed, and keeps the next takeover waiting. The planned one takes its place when more of its
   * replicas are there; if it is no better, it is planned anew first.
   */
  #replacePoor(
    record: VolumeRecord,
    planned: PlannedSegment | null,
    ready: SegmentId | null,
    now: Monotonic,
  ): boolean {
    const { writer } = this.#host;
    const { spare, frozen } = writer;
    if (spare === null || frozen !== null || planned === null) return false;
    const silent = new Set(silentInSpare(writer, now).map(({ node }) => node));
    const sound = (replicas: readonly Replica[], without: ReadonlySet<NodeId> = silent): number => {
      const counting = replicas.filter(({ node }) => !without.has(node));
      return this.#soundness.count(counting, record.replicas, now);
    };
    const ofSpare = sound(spare.segment.replicas);
    const ofPlanned = sound(planned.replicas);
    const worst = Math.min(ofSpare, ofPlanned);
    if (worst >= record.replicas) return false;
    if (ready !== null) {
      if (Math.min(createdCopies(this.#creation, ready), ofPlanned) > ofSpare) {
        this.#replace(record, spare.segment.segment, ready, now);
        return true;
      }
    } else if (ofPlanned > ofSpare) {
      return false;
    }
    if (now < this.#retryPoorAt) return false;
    this.#retryPoorAt = now + this.#context.limits.retryMaxMs * POOR_BACK_OFF;
    const bad = new Set([...silent, ...failingNodes(this.#creation)]);
    const plan = this.fresh(record, silent);
    const isBetter = plan.some(({ replicas }) => sound(replicas, bad) > worst);
    return isBetter && this.#plan(record, planned.segment, plan, now);
  }

  #replace(record: VolumeRecord, segment: SegmentId, promote: SegmentId, now: Monotonic): void {
    const { epoch } = record;
    const { volume } = this.#context.options;
    this.#context.deps.log.info({ volume, segment }, 'Replacing a spare that lacks copies.');
    this.#host.step({ type: 'spare-gone', now });
    // A CREATE after its DELETE would leave a copy that nobody knows of, or be refused for ever.
    stepCreation(this.#creation, { type: 'forget', segment });
    this.#host.propose(
      'replace',
      (found) => replaceSpare(found, { epoch, segment, promote }),
      (at) => this.registered(promote, at),
    );
  }

  /** Sends the CREATEs of what was planned by now. */
  createPlanned(now: Monotonic): void {
    const record = this.#host.record();
    for (const planned of record.planned) {
      if (planned.createEpoch !== record.epoch) continue;
      const known = this.#creation.segments.some((one) => one.planned.segment === planned.segment);
      if (known) continue;
      this.#create(stepCreation(this.#creation, { type: 'planned', planned, now }));
    }
  }

  #create(effects: readonly SendCreate[]): void {
    for (const effect of effects) {
      sendCreate(this.#context, this.#creation, this.#context.options.volume, effect, () =>
        this.#host.maintain(this.#context.now()),
      );
    }
  }
}
