/**
 * The real filesystem of src/volume behind a test mount, on a log in memory that outlives mounts:
 * so a volume can be mounted again, or lose its daemon, within one process. Limits are small, so
 * that checkpoints and cleaning happen all the time while a test works on the mount.
 */
import { assert, present } from '../../src/core/assert.js';
import { KIB, MIB } from '../../src/core/units.js';
import type { Clock, Timer } from '../../src/io/clock.js';
import { nodeClock } from '../../src/io/node/clock.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import { mountVolume } from '../../src/volume/mount.js';
import { FakeLog, FakeOwner } from '../fixtures/fake-owner.js';

/** 2 MiB a segment: several of them even in a short test. */
const SEGMENT_PAGES = 512;
const CHECKPOINT_LIMITS = { recordBytes: 32 * KIB, logBytes: 2 * MIB };
/** How often appended pages are checked for later changes, and then forgotten. */
const CHECK_MS = 500;

/** The real clock of a process that can die: then nothing that it was to call is called. */
class MortalClock implements Clock {
  readonly #timers = new Set<Timer>();
  #dead = false;

  monotonic(): ReturnType<Clock['monotonic']> {
    return nodeClock.monotonic();
  }

  wall(): number {
    return nodeClock.wall();
  }

  timeOfDay(): ReturnType<Clock['timeOfDay']> {
    return nodeClock.timeOfDay();
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = nodeClock.after(delayMs, () => {
      this.#timers.delete(timer);
      callback();
    });
    this.#timers.add(timer);
    return timer;
  }

  soon(callback: () => void): void {
    nodeClock.soon(() => {
      if (!this.#dead) callback();
    });
  }

  kill(): void {
    this.#dead = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }
}

export class VolumeBacking {
  readonly name = 'volume';
  readonly #log = new FakeLog(SEGMENT_PAGES);
  readonly #sizeBytes: number;
  #clock = new MortalClock();
  #owner: FakeOwner | null = null;
  #filesystem: VolumeFilesystem | null = null;
  #checkpoints = 0;

  constructor(sizeBytes = 64 * 1024 * MIB) {
    this.#sizeBytes = sizeBytes;
    setInterval(() => this.#check(), CHECK_MS).unref();
  }

  /** Takes the volume over: whoever had it before is dead. */
  open(): Promise<VolumeFilesystem> {
    const clock = new MortalClock();
    this.#clock = clock;
    const owner = new FakeOwner(this.#log, clock);
    this.#owner = owner;
    const options = { owner, roots: this.#log, clock, sizeBytes: this.#sizeBytes };
    return new Promise((resolve, reject) => {
      mountVolume({ ...options, checkpointLimits: CHECKPOINT_LIMITS }, (error, filesystem) => {
        if (error !== null) return reject(error);
        this.#filesystem = present(filesystem, 'a filesystem');
        this.#countCheckpoints(this.#filesystem);
        resolve(this.#filesystem);
      });
    });
  }

  #countCheckpoints({ checkpoints }: VolumeFilesystem): void {
    const reclaim = checkpoints.onDurable;
    checkpoints.onDurable = (root, dead) => {
      this.#checkpoints++;
      reclaim(root, dead);
    };
  }

  /** What is closed must never change again: replicas may be sent it at any time. */
  #check(): void {
    this.#owner?.assertUnchanged();
    this.#owner?.dropHistory();
  }

  /** The daemon is gone; of what was on its way, the first `survive` records are in the log. */
  crash(survive = 0): void {
    this.#check();
    assert(this.#owner !== null, 'what crashes was open');
    this.#owner.crash(survive);
    this.#clock.kill();
  }

  stats(): Record<string, unknown> {
    const state = this.#filesystem?.state;
    return {
      inodes: state?.inodes.count,
      orphans: state?.orphans.size,
      usedBytes: state?.usedBytes,
      checkpoints: this.#checkpoints,
      deletedSegments: this.#log.deleted.length,
      failure: this.#filesystem?.history.failure?.message ?? null,
    };
  }
}
