/**
 * Who has a volume mounted: a key bound to a lease that the owner's process keeps alive, for people
 * and for judging liveness. It is a hint and never safety: an owner serves whether or not its
 * presence is known, and losing it stops nothing.
 *
 * INVARIANT: the presence of a newer epoch is never replaced by that of an older one.
 */
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { decodePresence, encodePresence } from './encoding.js';
import { OWNERS, ownerKey } from './keys.js';
import { LeaseLoop } from './lease-loop.js';
import type { PresenceRecord, VolumeRecord } from './model.js';
import type { Compare, KeyValue, MetadataStore } from './store.js';
import { absent } from './volumes.js';

export interface PresenceOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Of an owner that serves: `epoch` is the one that it holds. */
  readonly record: PresenceRecord;
  readonly ttlSeconds?: number;
}

export class Presence {
  readonly #options: PresenceOptions;
  readonly #loop: LeaseLoop;
  #published = false;
  /** Said once in an outage. */
  #faultReported = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    const { store, clock, ttlSeconds = LEASE_TTL_SECONDS } = options;
    const work = {
      publish: (loop: LeaseLoop) => this.#publish(loop),
      lost: () => {
        this.#published = false;
      },
      failed: (error: HoldfastError) => this.#failed(error),
    };
    this.#loop = new LeaseLoop({ store, clock, ttlSeconds, work });
  }

  /** Whether others can see it, as far as this process knows. */
  get published(): boolean {
    return this.#published;
  }

  start(): void {
    this.#loop.start();
  }

  /** Takes the key away, if the store can be reached; else its lease runs out. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#published = false;
  }

  async #publish(loop: LeaseLoop): Promise<boolean> {
    const { store, record } = this.#options;
    const key = ownerKey(record.volume);
    const { entry } = await store.get(key);
    const found = entry === null ? null : decodePresence(entry.value);
    const isOurs = found?.owner === record.owner;
    if (!isOurs) this.#published = false;
    if (found !== null && (isOurs ? this.#published : found.epoch > record.epoch)) return true;
    const { id: lease } = await loop.lease();
    const compare: Compare = entry === null ? absent(key) : { key, modRevision: entry.modRevision };
    const put = { type: 'put', key, value: encodePresence(record), lease } as const;
    if (!(await store.transact([compare], [put])).committed) {
      throw new HoldfastError('CONFLICT', `${key} changed meanwhile`, { retryable: true });
    }
    this.#published = true;
    this.#faultReported = false;
    return true;
  }

  #failed({ code, message }: HoldfastError): void {
    if (this.#faultReported) return;
    this.#faultReported = true;
    const { log, record } = this.#options;
    const fields = { volume: record.volume, code, error: message };
    log.warn(fields, 'Others may not see that the volume is mounted here; trying again.');
  }
}

/** Who has the volume mounted, or had it until less than a lease's time ago. */
export async function findPresence(
  store: MetadataStore,
  volume: VolumeId,
): Promise<PresenceRecord | null> {
  const { entry } = await store.get(ownerKey(volume));
  return entry === null ? null : presenceOf(entry);
}

/**
 * As findPresence, of an owner that may still be one: not of one that was fenced since, which
 * goes on telling that it is there until it knows.
 */
export async function findCurrentPresence(
  store: MetadataStore,
  { volume, epoch }: Pick<VolumeRecord, 'volume' | 'epoch'>,
): Promise<PresenceRecord | null> {
  const found = await findPresence(store, volume);
  return found !== null && found.epoch >= epoch ? found : null;
}

/** Takes away what a fenced owner of an older epoch said, if it still stands. */
export async function clearPresence(
  store: MetadataStore,
  { volume, epoch }: Pick<VolumeRecord, 'volume' | 'epoch'>,
): Promise<void> {
  const key = ownerKey(volume);
  const { entry } = await store.get(key);
  if (entry === null || presenceOf(entry).epoch >= epoch) return;
  await store.transact([{ key, modRevision: entry.modRevision }], [{ type: 'delete', key }]);
}

/** Of all volumes, in the order of their ids. */
export async function listPresences(store: MetadataStore): Promise<PresenceRecord[]> {
  const { entries } = await store.range(OWNERS);
  return entries.map(presenceOf);
}

function presenceOf({ key, value }: KeyValue): PresenceRecord {
  const record = decodePresence(value);
  if (ownerKey(record.volume) === key) return record;
  throw new HoldfastError('INCONSISTENT', `${key} holds the presence of ${record.volume}`);
}
