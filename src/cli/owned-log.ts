/**
 * A volume's log, owned by this process for as long as a command runs: LogOwner with promises.
 * Commands are no hot path; the mount daemon uses LogOwner itself.
 */
import type { BatchEntry } from '../block/wire/batch.js';
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId, type SegmentId } from '../core/ids.js';
import type { Lsn } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { Random } from '../io/random.js';
import { takeOver } from '../lifecycle/take-over.js';
import type { VolumeFacts } from '../metadata/model.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Directory } from '../replication/directory.js';
import { LogOwner } from '../replication/owner.js';
import type { Appended, ReplayedRecord } from '../replication/owner-api.js';
import type { SaidLengths } from '../replication/takeover-rules.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { slowProgress } from './output.js';

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

export interface TakeOptions {
  readonly timeoutMs: number;
  /** What it waits for, for people. */
  readonly onProgress?: (text: string) => void;
  /** What becomes of the owner once it serves. */
  readonly onStopped?: (reason: HoldfastError) => void;
  readonly signal?: AbortSignal;
}

export type OwnedVolume = Pick<VolumeFacts, 'volume' | 'name'>;

const RELEASE_TIMEOUT_MS = 5_000;

export class OwnedLog {
  readonly owner: LogOwner;
  #drain: Promise<void> | null = null;

  private constructor(owner: LogOwner) {
    this.owner = owner;
  }

  /** Takes the volume over and resolves once it serves. Rejects as takeOver (take-over.ts). */
  static async take(
    parts: OwnedLogParts,
    { volume, name }: OwnedVolume,
    { timeoutMs, onProgress = () => {}, onStopped = () => {}, signal }: TakeOptions,
  ): Promise<OwnedLog> {
    const { clock, random, directory, address, acceptLoss } = parts;
    const id = idFromBytes<OwnerId>(random.bytes(16));
    const loss = acceptLoss === undefined ? {} : { acceptLoss };
    const owner = new LogOwner(parts, { volume, owner: id, address, ...loss });
    const on = { onProgress, onStopped, signal };
    await takeOver({ owner, clock, directory, timeoutMs, volume: name, ...on });
    return new OwnedLog(owner);
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

export interface WithLogOptions {
  readonly timeoutMs: number;
  readonly json?: boolean | undefined;
  /** `work` listens to Ctrl-C itself. */
  readonly endsItself?: boolean;
}

/**
 * Takes a volume over for the time of `work`, says what that waits for, and gives the volume back
 * whatever happens: also at Ctrl-C and SIGTERM, which end the process.
 */
export async function withOwnedLog(
  parts: OwnedLogParts,
  volume: OwnedVolume,
  { timeoutMs, json, endsItself = false }: WithLogOptions,
  work: (log: OwnedLog) => Promise<void>,
): Promise<void> {
  const interrupted = untilInterrupted();
  const { signal } = interrupted;
  const stopped = new Promise<never>((_, reject) => {
    const message = 'stopped before it was done';
    signal.addEventListener('abort', () => reject(new HoldfastError('CLOSED', message)));
  });
  stopped.catch(() => {});
  try {
    const onProgress = slowProgress({ json });
    const owned = await OwnedLog.take(parts, volume, { timeoutMs, onProgress, signal });
    if (endsItself) interrupted.forget();
    try {
      await Promise.race([work(owned).then(() => owned.release()), stopped]);
    } catch (thrown) {
      await releaseQuickly(parts.clock, owned);
      throw thrown;
    } finally {
      owned.owner.stop();
    }
  } catch (thrown) {
    if (signal.aborted) process.exit(EXIT_INTERRUPTED);
    throw thrown;
  } finally {
    interrupted.forget();
  }
}

/** So that the next command finds no owner after a mistake in this one. */
async function releaseQuickly(clock: Clock, owned: OwnedLog): Promise<void> {
  await new Promise<void>((resolve) => {
    const late = clock.after(RELEASE_TIMEOUT_MS, resolve);
    const ended = owned.release().catch(() => {});
    void ended.then(() => {
      late.cancel();
      resolve();
    });
  });
}
