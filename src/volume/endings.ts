/**
 * Ends inodes that have lost their last name and that nobody holds: at once, or for a file of many
 * extents bit by bit, so that nobody waits for it. A bit is a punch like any other, so a crash in
 * between leaves a smaller orphan, which the next mount ends.
 */

import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { CheckpointWriter } from './checkpoint-writer.js';
import type { Inode } from './filesystem-api.js';
import type { History } from './history.js';
import { ENDING_CHUNKS, ENDING_INODES, IMAGE_BATCH_BYTES } from './limits.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';

/** How long bits wait for a checkpoint whose images they would push into memory. */
const BACKLOG_MS = 10;

export interface EndingsDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly checkpoints: CheckpointWriter;
  readonly clock: Clock;
  /** The slot will be another inode's. */
  readonly freed: (slot: number) => void;
}

export class Endings {
  readonly #deps: EndingsDeps;
  /** Taken from the end: the order does not matter. */
  readonly #waiting: Inode[] = [];
  #isScheduled = false;

  constructor(deps: EndingsDeps) {
    this.#deps = deps;
  }

  /** Ends an orphan that nobody holds. */
  end(slot: number): void {
    const { inodes } = this.#deps.state;
    this.#waiting.push(inodes.inodeOf(slot));
    // What waits already is large.
    if (this.#waiting.length > 1) this.#schedule();
    else this.#some();
  }

  /** Ends all orphans: when the volume is mounted afresh, and nobody can hold them. */
  endAll(): void {
    const { state } = this.#deps;
    for (const slot of state.orphans) this.#waiting.push(state.inodes.inodeOf(slot));
    this.#some();
  }

  /** The space of what still waits is needed now. */
  hurry(isEnough: () => boolean): void {
    while (this.#waiting.length > 0 && !isEnough()) this.#bit();
  }

  /** One turn's worth. */
  #some(): void {
    for (let left = ENDING_INODES; left > 0 && this.#waiting.length > 0; left--) {
      if (!this.#bit()) break;
    }
    if (this.#waiting.length > 0) this.#schedule();
    // No reply waits for the intents of these: a FORGET has none, and the kernel sends it once.
    const { intents } = this.#deps.history;
    if (intents?.staged === true) intents.schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const { checkpoints, clock, history } = this.#deps;
    const next = (): void => {
      this.#isScheduled = false;
      if (history.failure === null) this.#some();
    };
    if (checkpoints.backlogBytes > 4 * IMAGE_BATCH_BYTES) clock.after(BACKLOG_MS, next);
    else history.deferred.run(next);
  }

  /** Ends the last one, or a bit of it; false when that was as much as a turn should do. */
  #bit(): boolean {
    const { state, history, clock, freed } = this.#deps;
    const inode = this.#waiting[this.#waiting.length - 1] as Inode;
    const slot = state.inodes.slotOf(inode);
    if (!state.orphans.has(slot)) {
      this.#waiting.pop();
      return true;
    }
    const end = state.extents.pageAfter(slot, ENDING_CHUNKS);
    if (end < 0) {
      this.#waiting.pop();
      history.perform({ type: 'free', inode });
      freed(slot);
      return true;
    }
    const size = state.inodes.size(slot);
    const range = { offset: 0, length: end * PAGE_BYTES, reserve: false };
    history.perform({ type: 'punch', inode, ...range, size, time: timeNow(clock) });
    return false;
  }
}
