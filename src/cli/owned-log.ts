/**
 * A volume's log, owned by this process for as long as a command runs: LogOwner with promises.
 * Commands are no hot path; the mount daemon uses LogOwner itself.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId, type SegmentId, type VolumeId } from '../core/ids.js';
import type { Lsn } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Directory } from '../replication/directory.js';
import { LogOwner } from '../replication/owner.js';
import type { Appended, OwnerState, ReplayedRecord } from '../replication/owner-api.js';
import type { SaidLengths } from '../replication/takeover-rules.js';

export interface OwnedLogParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: MetadataStore;
  readonly requests: NodeRequests;
  readonly directory: Directory;
  readonly log: Log;
  /** Where this process runs, for people. */
  readonly address: string;
  /** As OwnerOptions has it. */
  readonly acceptLoss?: SaidLengths;
}

export class OwnedLog {
  readonly owner: LogOwner;
  #drain: Promise<void> | null = null;

  private constructor(owner: LogOwner) {
    this.owner = owner;
  }

  /**
   * Takes the volume over and resolves once it serves. Rejects with TIMEOUT (retryable) after
   * `timeoutMs`, saying which step did not end; with FENCED when somebody else took it meanwhile.
   */
  static take(
    parts: OwnedLogParts,
    volume: VolumeId,
    timeoutMs: number,
    onState: (state: OwnerState) => void = () => {},
  ): Promise<OwnedLog> {
    const owner = new LogOwner(parts, {
      volume,
      owner: idFromBytes<OwnerId>(parts.random.bytes(16)),
      address: parts.address,
      ...(parts.acceptLoss === undefined ? {} : { acceptLoss: parts.acceptLoss }),
    });
    return new Promise((resolve, reject) => {
      const timer = parts.clock.after(timeoutMs, () => {
        const { state } = owner;
        const step = state.type === 'taking-over' ? ` (step: ${state.step})` : '';
        const message = `the volume could not be taken over within ${timeoutMs / 1000} s${step}`;
        const hint = 'Check with "holdfast status" that enough of its nodes are up.';
        // First, since the end of the owner rejects as well.
        reject(new HoldfastError('TIMEOUT', message, { retryable: true, hint }));
        owner.stop();
      });
      owner.start((state) => {
        onState(state);
        if (state.type === 'serving') {
          timer.cancel();
          resolve(new OwnedLog(owner));
        } else if (state.type === 'stopped') {
          timer.cancel();
          reject(state.reason);
        }
      });
    });
  }

  /** Resolves when there is room for more; awaiting it between appends bounds what is queued. */
  get room(): Promise<void> {
    return this.#drain ?? Promise.resolve();
  }

  append(entry: BatchEntry): Promise<Appended> {
    return new Promise((resolve, reject) => {
      const more = this.owner.append(entry, (error, appended) => {
        if (error !== null) reject(error);
        else resolve(appended as Appended);
      });
      if (more || this.#drain !== null) return;
      this.#drain = new Promise((drained) => {
        this.owner.onDrain(() => {
          this.#drain = null;
          drained();
        });
      });
    });
  }

  readPages(segment: SegmentId, page: number, count: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.owner.readPages(segment, page, count, (error, data) => {
        if (error !== null) reject(error);
        else resolve(data as Uint8Array);
      });
    });
  }

  replay(from: Lsn, onRecord: (record: ReplayedRecord) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.owner.replay(from, onRecord, (error) => {
        if (error !== null) reject(error);
        else resolve();
      });
    });
  }

  /** Gives the volume back in order, so that the next owner need not wait. */
  release(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.owner.release((error) => {
        if (error !== null) reject(error);
        else resolve();
      });
    });
  }
}
