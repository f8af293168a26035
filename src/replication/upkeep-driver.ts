/**
 * Drives upkeep.ts: SEAL, COPY and DELETE requests for what the volume record says, off the write
 * path.
 */
import type { Request } from '../block/wire/messages.js';
import { present } from '../core/assert.js';
import type { NodeId, SegmentId } from '../core/ids.js';
import type { Monotonic, Revision } from '../core/units.js';
import type { SealedSegment, VolumeRecord } from '../metadata/model.js';
import { type VersionedVolume, withinOneSwap } from '../metadata/stored-volume.js';
import { clearDeleted } from '../metadata/volume-record.js';
import { copyRequest } from './copy-request.js';
import type { OwnerContext } from './owner-context.js';
import { answersFor } from './quorum.js';
import {
  forgetDeleted,
  type Job,
  type JobKind,
  newUpkeep,
  stepUpkeep,
  type UpkeepEvent,
  type UpkeepState,
  upkeepDeadline,
  waitsForTheDown,
} from './upkeep.js';

export interface Clearing {
  change(record: VolumeRecord, at: VersionedVolume): VolumeRecord;
  landed(): void;
}

export class Upkeep {
  readonly #context: OwnerContext;
  readonly #state: UpkeepState;
  readonly #onDeleted: () => void;
  /** Sealed segments that were handed to the core. */
  readonly #adopted = new Map<SegmentId, SealedSegment>();

  constructor(context: OwnerContext, onDeleted: () => void) {
    this.#context = context;
    this.#onDeleted = onDeleted;
    this.#state = newUpkeep(context.limits.retryMinMs);
    context.watch({
      deadline: () => upkeepDeadline(this.#state),
      tick: (now) => this.#step({ type: 'tick', now }),
    });
  }

  /** Takes up what a landed record has sealed or listed for deletion. */
  adopt(record: VolumeRecord, revision: Revision, now: Monotonic): void {
    for (const sealed of record.sealed) {
      const isKnown = this.#adopted.has(sealed.segment);
      this.#adopted.set(sealed.segment, sealed);
      if (!isKnown) this.#step({ type: 'sealed', sealed, now });
    }
    for (const segment of record.pendingDelete) {
      this.#adopted.delete(segment.segment);
      if (this.#state.deleting.has(segment.segment)) continue;
      this.#step({ type: 'delete', segment, revision, now });
    }
  }

  /** Segments whose replicas have all answered a DELETE or are gone. */
  deleted(): SegmentId[] {
    return [...this.#state.deleted];
  }

  /** Whether all that is left to do is on nodes that are down, as `isLive` tells. */
  waitsForTheDown(isLive: (node: NodeId) => boolean): boolean {
    return waitsForTheDown(this.#state, isLive);
  }

  /**
   * The swap that takes what was deleted out of the record, or as much of it as one can; null when
   * there is nothing.
   */
  clearing(record: VolumeRecord): Clearing | null {
    const deleted = this.deleted();
    if (deleted.length === 0) return null;
    const listed = new Set(record.pendingDelete.map((one) => one.segment));
    const segments = deleted.filter((segment) => listed.has(segment));
    if (segments.length === 0) return null;
    let cleared: readonly SegmentId[] = [];
    return {
      change: (found, at) => {
        cleared = withinOneSwap(at, segments);
        return clearDeleted(found, { segments: cleared });
      },
      landed: () => this.forget(cleared),
    };
  }

  /** The record lists them no more. */
  forget(segments: readonly SegmentId[]): void {
    for (const segment of segments) forgetDeleted(this.#state, segment);
  }

  #step(event: UpkeepEvent): void {
    const effects = stepUpkeep(this.#state, event);
    let deleted = false;
    for (const effect of effects) {
      if (effect.type === 'send') this.#send(effect.job, effect.kind);
      else deleted = true;
    }
    this.#context.wake(upkeepDeadline(this.#state), event.now);
    if (deleted) this.#onDeleted();
  }

  #send(job: Job, kind: JobKind): void {
    const to = present(job.segment.replicas[job.replica], 'a replica of the segment');
    this.#context.send(to, this.#request(job, kind), (reply) => {
      // A disk that answers is there, whatever a directory that lags behind knows of it.
      const silent = reply === null || !answersFor(to, reply);
      const gone = (silent && this.#context.isGone(to.incarnation)) || this.#isElsewhere(job);
      this.#step({ type: 'answer', job, reply, gone, now: this.#context.now() });
    });
  }

  /** Repair has given this replica up: what it lacks is nobody's business any more. */
  #isElsewhere({ kind, segment: { segment, replicas }, replica }: Job): boolean {
    const now = this.#adopted.get(segment)?.replicas;
    if (kind === 'delete' || now === undefined) return false;
    return !now.some(({ incarnation }) => incarnation === replicas[replica]?.incarnation);
  }

  #request(job: Job, kind: JobKind): Request {
    const to = present(job.segment.replicas[job.replica], 'a replica of the segment');
    const { incarnation } = to;
    const { segment } = job.segment;
    const { volume } = this.#context.options;
    if (kind === 'delete') {
      return { type: 'delete', incarnation, segment, volume, revision: job.revision };
    }
    const sealed = present(job.sealed, 'a sealed segment');
    const { end, crc } = sealed;
    if (kind === 'seal') return { type: 'seal', incarnation, segment, volume, end, crc };
    const { directory } = this.#context.deps;
    return copyRequest(volume, sealed, incarnation, (node) => directory.address(node));
  }
}
