/**
 * Carries repair, drain and rebalancing out, on the node that leads: COPY, then the change of the
 * list of replicas, then DROP of what was replaced. What is under way stands in the metadata store
 * (replica-moves.ts), so whoever leads next goes on where this one ended, at whatever step.
 *
 * INVARIANT: a disk joins the list of a segment's replicas only after it has answered that
 * segment's COPY; a DROP of a living segment is sent only after as many listed disks as are to have
 * it have shown, in answer to a question of just then, that they do; everything written carries the
 * leader's guard.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import type { NodeId, SegmentId, VolumeId } from '../core/ids.js';
import { COPY_TIMEOUT_MS, LEASE_GRACE_AFTER_OUTAGE_MS } from '../core/limits.js';
import { PAGE_BYTES, pageIndex } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import type { Replica, SealedSegment } from '../metadata/model.js';
import { type MoveOutcome, ReplicaMoves, type VersionedMove } from '../metadata/replica-moves.js';
import type { Compare, MetadataStore } from '../metadata/store.js';
import { copyRequest } from './copy-request.js';
import { IdleVolumes } from './idle-volumes.js';
import { Pace } from './pace.js';
import {
  type Ending,
  ending,
  planRepair,
  type RepairStep,
  type RepairSummary,
} from './repair-plan.js';
import { RepairSurvey } from './repair-survey.js';
import { isReadable, type RepairDisk, type RepairSegment, stateIn } from './repair-view.js';

export interface RepairTimes {
  /** How often everything is read. */
  readonly surveyMs: number;
  /** How often nodes are asked what they have. */
  readonly inventoryMs: number;
  /** How long what failed is left alone. */
  readonly retryMs: number;
  readonly quietMs: number;
  readonly settleMs: number;
}

export const REPAIR_TIMES: RepairTimes = {
  surveyMs: 10_000,
  inventoryMs: 60_000,
  retryMs: 3_000,
  quietMs: LEASE_GRACE_AFTER_OUTAGE_MS,
  settleMs: 30_000,
};

export interface RepairOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: Random;
  readonly requests: NodeRequests;
  readonly directory: DirectoryCache;
  /** What every change compares; null when this process does not lead (any more). */
  readonly guard: () => readonly Compare[] | null;
  readonly times?: Partial<RepairTimes>;
}

/** For metrics and status; what was done counts since this process began to lead. */
export interface RepairNumbers extends RepairSummary {
  readonly running: number;
  readonly runningBytes: number;
  readonly doneCopies: number;
  readonly doneBytes: number;
  readonly failedCopies: number;
  readonly bytesPerSecondMax: number;
  readonly balancing: boolean;
}

/** Copies under way at once, in all and to one node. */
const MAX_COPIES = 6;
const MAX_COPIES_A_NODE = 2;
const MAX_DROPS = 16;
const FINISH_TRIES = 8;
const NOTHING: RepairSummary = {
  degraded: 0,
  endangered: 0,
  unreadable: 0,
  copies: 0,
  bytes: 0,
  leaving: 0,
};

type Copying = Exclude<RepairStep, { type: 'abandon' }>;

export class Repair {
  readonly #options: RepairOptions;
  readonly #times: RepairTimes;
  readonly #survey: RepairSurvey;
  readonly #moves: ReplicaMoves;
  readonly #pace: Pace;
  readonly #idle: IdleVolumes;
  readonly #running = new Map<SegmentId, Copying>();
  readonly #dropping = new Set<string>();
  /** What failed, by segment and by segment and disk: not again before then. */
  readonly #notBefore = new Map<string, number>();
  #timer: Timer | null = null;
  #turning = false;
  #again = false;
  #surveyedAt = Number.NEGATIVE_INFINITY;
  #inventoryAt = Number.NEGATIVE_INFINITY;
  #balancing = false;
  #stopped = false;
  #summary: RepairSummary = NOTHING;
  #done = { copies: 0, bytes: 0, failed: 0 };

  constructor(options: RepairOptions) {
    const { store, clock, log, requests, directory } = options;
    this.#options = options;
    this.#times = { ...REPAIR_TIMES, ...options.times };
    const { quietMs, settleMs } = this.#times;
    const parts = { store, clock, log, requests, directory, quietMs, settleMs };
    this.#survey = new RepairSurvey(parts);
    this.#moves = new ReplicaMoves(store, () => (this.#stopped ? null : options.guard()));
    this.#pace = new Pace(clock);
    this.#idle = new IdleVolumes(options, this.#survey);
  }

  start(): void {
    this.#schedule(0);
  }

  /** Nothing is written afterwards. What nodes were asked goes on, for whoever leads next. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#pace.close();
    this.#idle.stop();
  }

  /** Nodes or their states have changed: looks at once. */
  wake(): void {
    this.#surveyedAt = Number.NEGATIVE_INFINITY;
    this.#schedule(0);
  }

  get numbers(): RepairNumbers {
    let runningBytes = 0;
    for (const { of } of this.#running.values()) runningBytes += of.bytes;
    return {
      ...this.#summary,
      running: this.#running.size,
      runningBytes,
      doneCopies: this.#done.copies,
      doneBytes: this.#done.bytes,
      failedCopies: this.#done.failed,
      bytesPerSecondMax: this.#survey.settings.repairBytesPerSecond,
      balancing: this.#balancing,
    };
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    if (this.#turning) {
      this.#again ||= ms === 0;
      return;
    }
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => void this.#turn());
  }

  async #turn(): Promise<void> {
    this.#turning = true;
    this.#again = false;
    try {
      await this.#look();
      if (!this.#stopped) await this.#act();
    } catch (thrown) {
      this.#report(thrown, 'Repair could not look at the cluster; trying again.');
    }
    this.#turning = false;
    this.#schedule(this.#again ? 0 : this.#pause());
  }

  #pause(): number {
    const now = this.#options.clock.monotonic();
    const next = Math.min(this.#survey.nextJudgement(), this.#surveyedAt + this.#times.surveyMs);
    const isWaiting = this.#running.size > 0 || this.#notBefore.size > 0;
    const most = isWaiting ? this.#times.retryMs : this.#times.surveyMs;
    return Math.min(most, Math.max(1, next - now));
  }

  async #look(): Promise<void> {
    const now = this.#options.clock.monotonic();
    if (now < this.#surveyedAt + this.#times.surveyMs && now < this.#survey.nextJudgement()) return;
    await this.#survey.read();
    this.#surveyedAt = now;
    if (this.#stopped || now < this.#inventoryAt + this.#times.inventoryMs) return;
    this.#inventoryAt = now;
    await this.#survey.takeInventory();
  }

  async #act(): Promise<void> {
    const now = this.#options.clock.monotonic();
    for (const [key, at] of this.#notBefore) if (at <= now) this.#notBefore.delete(key);
    const disks = this.#survey.disks();
    this.#idle.look();
    this.#pace.setRate(this.#survey.settings.repairBytesPerSecond);
    for (const move of this.#survey.moves()) await this.#clear(move, disks);
    const surplus = this.#survey.surplus().slice(0, MAX_DROPS);
    for (const { of, on } of surplus) await this.#note(of, on);
    const segments = this.#survey.segments();
    const busy = new Set(this.#running.keys());
    for (const { segment } of segments) if (this.#notBefore.has(segment)) busy.add(segment);
    const load = new Map<NodeId, number>();
    for (const { to } of this.#running.values()) load.set(to.node, (load.get(to.node) ?? 0) + 1);
    const maxSteps = Math.max(0, MAX_COPIES - this.#running.size);
    const bounds = { maxSteps, maxPerNode: MAX_COPIES_A_NODE, balancing: this.#balancing };
    const balance = this.#survey.settings.balance;
    const plan = planRepair({ disks, segments, busy, load, ...bounds, balance });
    this.#summary = plan.summary;
    this.#balancing = plan.balancing;
    for (const step of plan.steps) {
      if (this.#stopped) return;
      if (step.type === 'abandon') await this.#abandon(step.of);
      else void this.#copy(step);
    }
  }

  /** Has copies removed that were replaced, and the rest of moves of segments that are no more. */
  async #clear(move: VersionedMove, disks: readonly RepairDisk[]): Promise<void> {
    if (this.#running.has(move.segment)) return;
    const isAlive = !this.#survey.isOver(move.volume, move.segment);
    const left = isAlive || move.filling === null ? move.leaving : [...move.leaving, move.filling];
    for (const replica of left) {
      const state = stateIn(disks, replica);
      if (state === 'good' || state === 'leaving') this.#drop(move, replica);
      else if (this.#survey.isLost(replica, state)) {
        await this.#settled(move, this.#moves.forget(move, replica));
      }
    }
  }

  /** Names what nothing has named so far, before the segment may be deleted: then none could. */
  async #note(move: VersionedMove, on: Replica): Promise<void> {
    const { volume, segment } = move;
    if (this.#running.has(segment)) return;
    this.#survey.forgetSurplus(move, on);
    const known = this.#survey.volume(volume);
    if (known !== null) await this.#settled(move, this.#moves.note(known, move, on));
  }

  #drop(move: VersionedMove, on: Replica): void {
    const key = move.segment + on.incarnation;
    if (this.#dropping.size >= MAX_DROPS || this.#dropping.has(key)) return;
    if (this.#notBefore.has(key) || this.#running.has(move.segment)) return;
    this.#dropping.add(key);
    void this.#dropped(move, on).then(
      (isDone) => {
        if (!isDone) this.#later(key);
        this.#dropping.delete(key);
      },
      (thrown) => {
        this.#later(key);
        this.#dropping.delete(key);
        this.#report(thrown, 'A copy that was replaced is kept for now; trying again.');
      },
    );
  }

  /** False when the copy must stay for now, or the disk did not say that it is gone. */
  async #dropped(move: VersionedMove, on: Replica): Promise<boolean> {
    const { volume, segment } = move;
    const { incarnation } = on;
    if (!(await this.#isSpare(volume, segment)) || this.#stopped) return false;
    const request = { type: 'drop', incarnation, segment, volume } as const;
    const reply = await this.#survey.ask(on.node, request);
    if (reply?.status !== 'OK' || reply.incarnation !== incarnation) return false;
    if (!this.#stopped && !this.#running.has(segment)) {
      await this.#settled(move, this.#moves.forget(this.#survey.move(volume, segment), on));
    }
    return true;
  }

  /**
   * Whether a copy that the segment's list does not name can be spared: the segment is no more, or
   * as many listed disks as are to have it do have it, asked now. That a node confirms a DROP says
   * only that nothing counts on that copy, not that those which count are there.
   */
  async #isSpare(volume: VolumeId, segment: SegmentId): Promise<boolean> {
    await this.#survey.refresh(volume, segment);
    const sealed = this.#survey.sealed(segment);
    const of = this.#survey.segment(segment);
    if (sealed === null || of === null) return this.#survey.isOver(volume, segment);
    const disks = this.#survey.disks();
    const known = of.replicas.filter((one) => isReadable(of, one, stateIn(disks, one)));
    const needed = Math.min(of.wanted, of.replicas.length);
    if (known.length < needed) return false;
    const found = await Promise.all(known.map((one) => this.#holds(volume, sealed, one)));
    return found.filter((holds) => holds).length >= needed;
  }

  /** Whether the disk's copy is durably sealed as it should be, and its last page can be read. */
  async #holds(volume: VolumeId, sealed: SealedSegment, on: Replica): Promise<boolean> {
    const { segment, end, crc } = sealed;
    const { node, incarnation } = on;
    const page = pageIndex(Math.max(0, end / PAGE_BYTES - 1));
    const seal = { type: 'seal', incarnation, segment, volume, end, crc } as const;
    const read = { type: 'read', incarnation, segment, page, count: 1 } as const;
    const asked = end === 0 ? [seal] : [seal, read];
    const replies = await Promise.all(asked.map((one) => this.#survey.ask(node, one)));
    return replies.every((reply) => reply?.status === 'OK' && reply.incarnation === incarnation);
  }

  /** After a change of a move, whatever came of it: reads what is there now. */
  async #settled({ volume, segment }: VersionedMove, change: Promise<MoveOutcome>): Promise<void> {
    try {
      await change;
      await this.#survey.refresh(volume, segment);
    } catch (thrown) {
      this.#later(segment);
      this.#report(thrown, 'A move could not be noted; trying again.');
    }
    this.#schedule(0);
  }

  async #abandon({ volume, segment }: RepairSegment): Promise<void> {
    const move = this.#survey.move(volume, segment);
    await this.#settled(move, this.#moves.abandon(move));
  }

  /** One copy from the mark that it is being made to the list that names it. */
  async #copy(step: Copying): Promise<void> {
    const { of, to } = step;
    const { segment } = of;
    this.#running.set(segment, step);
    try {
      if (step.type === 'fill' && !(await this.#begun(step))) {
        this.#later(segment);
        return;
      }
      await this.#pace.take(of.bytes);
      if (this.#stopped) return;
      const status = await this.#fetch(of, to);
      if (this.#stopped) return;
      if (status !== 'OK') {
        await this.#failed(step, status);
        return;
      }
      this.#done.copies += 1;
      this.#done.bytes += of.bytes;
      this.#survey.noteWhole(segment, to);
      if (step.type === 'fill') await this.#finish(step);
    } catch (thrown) {
      this.#later(segment);
      this.#report(thrown, 'A copy could not be made; trying again.');
    } finally {
      this.#running.delete(segment);
      this.#schedule(0);
    }
  }

  /** Whether the store names `to` as the disk that is to get the copy. */
  async #begun({ of, to, instead }: Copying & { type: 'fill' }): Promise<boolean> {
    const { volume, segment } = of;
    const move = this.#survey.move(volume, segment);
    if (move.filling?.incarnation === to.incarnation) return true;
    const known = this.#survey.volume(volume);
    if (known === null) return false;
    const outcome = await this.#moves.begin(known, move, to, instead);
    await this.#survey.refresh(volume, segment);
    return outcome === 'done';
  }

  async #fetch(of: RepairSegment, to: Replica): Promise<string> {
    const { volume, segment } = of;
    const sealed = this.#survey.sealed(segment);
    if (sealed === null) return 'gone';
    const { directory } = this.#options;
    const disks = this.#survey.disks();
    const { incarnation } = to;
    const addressOf = (node: NodeId): string | null => directory.address(node);
    const request = copyRequest(volume, sealed, incarnation, addressOf, (one) =>
      isReadable(of, one, stateIn(disks, one)),
    );
    const reply = await this.#survey.ask(to.node, request, COPY_TIMEOUT_MS);
    if (reply === null) return 'no answer';
    return reply.incarnation === incarnation ? reply.status : 'INCARNATION';
  }

  async #failed({ type, of, to }: Copying, status: string): Promise<void> {
    const { volume, segment } = of;
    const fields = { volume, segment, node: to.node, status };
    this.#options.log.warn(fields, 'A copy was not made; trying again.');
    this.#done.failed += 1;
    this.#later(segment);
    await this.#survey.refresh(volume, segment);
    // These do not pass by waiting: another disk may do.
    const isHopeless = ['FULL', 'DISK', 'SUSPECT', 'REFUSED', 'INCARNATION'].includes(status);
    if (type !== 'fill' || !isHopeless) return;
    const move = this.#survey.move(volume, segment);
    if (move.filling?.incarnation === to.incarnation) await this.#moves.abandon(move);
    await this.#survey.refresh(volume, segment);
  }

  /** The copy is complete: it joins the list, and takes the place of what counts least by then. */
  async #finish({ of, to }: Copying & { type: 'fill' }): Promise<void> {
    const { volume, segment } = of;
    for (let tries = 0; tries < FINISH_TRIES && !this.#stopped; tries++) {
      await this.#survey.refresh(volume, segment);
      const known = this.#survey.volume(volume);
      const now = this.#survey.segment(segment);
      const move = this.#survey.move(volume, segment);
      // Done, or taken back, or the segment is no more.
      if (known === null || now === null) return;
      if (move.filling?.incarnation !== to.incarnation) return;
      const disks = this.#survey.disks();
      const isThere = stateIn(disks, to) === 'good';
      const end: Ending = isThere
        ? ending(now, (one) => stateIn(disks, one), to, move.instead)
        : { type: 'abandon' };
      const outcome = await (end.type === 'finish'
        ? this.#moves.finish(known, move, end.drop)
        : this.#moves.abandon(move));
      if (outcome === 'done') {
        await this.#survey.refresh(volume, segment);
        if (end.type === 'abandon') return;
        const fields = { volume, segment, to: to.node, from: end.drop?.node ?? null };
        this.#options.log.info(fields, 'A segment has another copy.');
        return;
      }
    }
    this.#later(segment);
  }

  #later(key: string): void {
    const { clock } = this.#options;
    this.#notBefore.set(key, clock.monotonic() + this.#times.retryMs);
  }

  #report(thrown: unknown, message: string): void {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    if (this.#stopped) return;
    this.#options.log.warn({ code: thrown.code, error: thrown.message }, message);
  }
}
