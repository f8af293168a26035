/**
 * Decides when space in the log is won back, which also happens on a volume that nobody writes to:
 * when the cleaner moves, when a checkpoint is taken because segments are dead, and that these are
 * deleted. A cycle is: move out of victims, checkpoint, delete. While the volume is in use its cost
 * is bounded by what is written; when it is quiet cycles go on until enough of the log lives, or
 * until one has won nothing; then there is neither timer nor I/O until something is written again.
 */
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { CheckpointWriter } from './checkpoint-writer.js';
import type { Cleaner, SegmentLoad } from './cleaner.js';
import type { History } from './history.js';
import {
  CLEAN_QUIET_BYTES_PER_S,
  CLEAN_STEADY_BYTES_PER_S,
  RECLAIM_DEAD_BYTES,
  RECLAIM_INTERVAL_MS,
  RECLAIM_QUIET_BYTES,
  RECLAIM_REST_BYTES,
} from './limits.js';
import type { RootStore } from './root-store.js';
import type { VolumeState } from './state.js';

/** How long a move waits before it asks again whether it may go on. */
const PACE_MS = 10;

export interface ReclaimerDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly checkpoints: CheckpointWriter;
  readonly roots: RootStore;
  readonly clock: Clock;
  /** Of which `pace` below is the dependency of the same name. */
  readonly cleaner: Cleaner;
}

export interface ReclaimLimits {
  readonly intervalMs?: number;
  readonly deadBytes?: number;
  readonly quietBytes?: number;
  readonly restBytes?: number;
}

/** What one cycle is measured against. */
interface CycleStart {
  readonly written: number;
  readonly deleted: number;
}

/**
 * How many bytes may be moved for each byte written: the less of the log lives the more, so that it
 * comes to rest. With victims that are half dead one for one is just enough.
 */
function moveRatio(utilisation: number): number {
  if (utilisation >= 0.6) return 1.5;
  return utilisation >= 0.5 ? 3 : 8;
}

/** Part of the log that lives; dead segments, which cost nothing to win back, left out. */
function utilisation(loads: readonly SegmentLoad[]): number {
  let pages = 0;
  let live = 0;
  for (const one of loads) {
    if (one.live === 0) continue;
    pages += one.pages;
    live += Math.min(one.live, one.pages);
  }
  return pages === 0 ? 1 : live / pages;
}

/** Lets moves go on as fast as the volume is written, or at a fixed rate when it is quiet. */
export class Pace {
  readonly #clock: Clock;
  readonly #userBytes: () => number;
  #isQuiet = false;
  #ratio = 1;
  #user = 0;
  #at = 0;
  #allowedBytes = 0;

  constructor(clock: Clock, userBytes: () => number) {
    this.#clock = clock;
    this.#userBytes = userBytes;
  }

  /** Begins a round, or follows the volume's mood. */
  set(isQuiet: boolean, ratio: number): void {
    this.#settle();
    this.#isQuiet = isQuiet;
    this.#ratio = ratio;
  }

  #settle(): void {
    const now = this.#clock.monotonic();
    const user = this.#userBytes();
    const rate = this.#isQuiet ? CLEAN_QUIET_BYTES_PER_S : CLEAN_STEADY_BYTES_PER_S;
    this.#allowedBytes += ((now - this.#at) / 1000) * rate;
    this.#allowedBytes += (user - this.#user) * this.#ratio;
    // What was not used is not saved up.
    this.#allowedBytes = Math.min(this.#allowedBytes, rate);
    this.#at = now;
    this.#user = user;
  }

  readonly wait = (pages: number, go: () => void): void => {
    this.#settle();
    if (this.#allowedBytes <= 0) {
      this.#clock.after(PACE_MS, () => this.wait(pages, go));
      return;
    }
    this.#allowedBytes -= pages * PAGE_BYTES;
    this.#clock.soon(go);
  };
}

export class Reclaimer {
  readonly #deps: ReclaimerDeps;
  readonly #pace: Pace;
  readonly #limits: Required<ReclaimLimits>;
  /** Nothing durable reaches these; not yet deleted. */
  readonly #deletable = new Set<SegmentId>();
  #deleting = false;
  #cleaning = false;
  /** Victims were moved out of, and no checkpoint has seen that yet. */
  #isCheckpointDue = false;
  #timer: Timer | null = null;
  #stopped = false;
  #isQuiet = false;
  #lastUser = 0;
  #deletedPages = 0;
  #cycle: CycleStart | null = null;
  /** The last cycle won nothing: no other before so much more was written. */
  #restUntil = 0;

  constructor(deps: ReclaimerDeps, pace: Pace, limits: ReclaimLimits = {}) {
    this.#deps = deps;
    this.#pace = pace;
    this.#limits = {
      intervalMs: limits.intervalMs ?? RECLAIM_INTERVAL_MS,
      deadBytes: limits.deadBytes ?? RECLAIM_DEAD_BYTES,
      quietBytes: limits.quietBytes ?? RECLAIM_QUIET_BYTES,
      restBytes: limits.restBytes ?? RECLAIM_REST_BYTES,
    };
    deps.history.onLogged.push(() => this.#arm());
    deps.checkpoints.onDurable = (_root, dead) => this.#durable(dead);
  }

  /** What was left over by the former mount is looked at, too. */
  start(): void {
    this.#arm();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Whether a cycle is under way. */
  get isBusy(): boolean {
    return this.#cleaning || this.#deleting || this.#isCheckpointDue;
  }

  #arm(): void {
    if (this.#timer !== null || this.#stopped || this.#deps.history.failure !== null) return;
    this.#timer = this.#deps.clock.after(this.#limits.intervalMs, () => {
      this.#timer = null;
      this.#tick();
    });
  }

  /** Bytes logged for users: not the cleaner's. */
  #userBytes(): number {
    return userBytes(this.#deps.history, this.#deps.cleaner);
  }

  #tick(): void {
    const user = this.#userBytes();
    this.#isQuiet = user - this.#lastUser <= this.#limits.quietBytes;
    const isIdle = user === this.#lastUser;
    this.#lastUser = user;
    this.#deleteAll();
    this.#consider();
    // While something goes on; else the next record arms it.
    if (!isIdle || this.isBusy || this.#deletable.size > 0) this.#arm();
  }

  #durable(dead: readonly SegmentId[]): void {
    for (const segment of dead) this.#deletable.add(segment);
    this.#deleteAll();
    this.#deps.history.deferred.run(() => this.#consider());
  }

  #deleteAll(): void {
    const { roots, state } = this.#deps;
    if (this.#deletable.size === 0 || this.#deleting || this.#stopped) return;
    this.#deleting = true;
    const dead = [...this.#deletable];
    const pages = new Map(roots.sealed().map((one) => [one.segment, one.pages]));
    roots.deleteSegments(dead, (error) => {
      this.#deleting = false;
      // Without the metadata store: again at the next tick.
      if (error !== null) return;
      for (const segment of dead) {
        this.#deletable.delete(segment);
        this.#deletedPages += pages.get(segment) ?? 0;
        state.segments.release(segment);
      }
      this.#consider();
    });
  }

  /** Takes the next step, if there is one to take. */
  #consider(): void {
    const { checkpoints, history, cleaner } = this.#deps;
    if (this.#stopped || history.failure !== null) return;
    if (this.#cleaning) {
      this.#pace.set(this.#isQuiet, moveRatio(utilisation(this.#loads())));
      return;
    }
    if (this.#deleting || checkpoints.isRunning) return;
    const loads = this.#loads();
    if (this.#isCheckpointDue || this.#isDeadWorthIt(loads)) {
      this.#checkpoint();
      return;
    }
    this.#endCycle();
    if (this.#userBytes() < this.#restUntil || cleaner.victims(loads).length === 0) return;
    this.#clean(utilisation(loads));
  }

  #loads(): SegmentLoad[] {
    return this.#deps.cleaner.loads().filter(({ segment }) => !this.#deletable.has(segment));
  }

  #isDeadWorthIt(loads: readonly SegmentLoad[]): boolean {
    let pages = 0;
    let dead = 0;
    for (const one of loads) {
      pages += one.pages;
      if (one.live === 0) dead += one.pages;
    }
    if (this.#isQuiet) return dead > 0;
    return dead * PAGE_BYTES >= Math.max(this.#limits.deadBytes, (pages * PAGE_BYTES) / 8);
  }

  #checkpoint(): void {
    this.#isCheckpointDue = true;
    this.#deps.checkpoints.begin((error) => {
      // A refused swap: again at the next tick.
      if (error !== null) this.#arm();
      else this.#isCheckpointDue = false;
    });
  }

  /** A cycle that has won no more than it wrote will not win more when it is repeated. */
  #endCycle(): void {
    const start = this.#cycle;
    this.#cycle = null;
    if (start === null) return;
    const won = this.#deletedPages - start.deleted;
    if (won <= this.#written() - start.written) {
      this.#restUntil = this.#userBytes() + this.#limits.restBytes;
    }
  }

  /** Pages that cycles have written. */
  #written(): number {
    return this.#deps.cleaner.movedPages + this.#deps.checkpoints.writtenPages;
  }

  #clean(live: number): void {
    const { cleaner } = this.#deps;
    this.#cycle = { written: this.#written(), deleted: this.#deletedPages };
    this.#cleaning = true;
    this.#pace.set(this.#isQuiet, moveRatio(live));
    cleaner.clean((error: HoldfastError | null) => {
      this.#cleaning = false;
      if (error !== null) return;
      this.#isCheckpointDue = true;
      this.#consider();
    });
  }
}

/** Bytes logged for users: not the cleaner's. */
export function userBytes(history: History, cleaner: Cleaner): number {
  return history.logged.bytes - cleaner.movedPages * PAGE_BYTES;
}
