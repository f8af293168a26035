/**
 * Which machines may use a volume, as the orchestrator said, and which machines there are. Safety
 * never depends on it (a takeover fences whoever was there); it keeps two machines from taking a
 * volume from each other again and again, and tells people where a volume belongs.
 *
 * INVARIANT: a volume is attached to one machine at a time.
 * INVARIANT: what is in the trash is attached to none: each compares the other's key.
 */
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import { decodeAttachments, decodeMachine, encodeAttachments, encodeMachine } from './encoding.js';
import { ATTACHMENTS, attachmentKey, MACHINES, machineKey, nameKey } from './keys.js';
import {
  type Attachment,
  type AttachmentRecord,
  type MachineRecord,
  METADATA_SCHEMA,
  type VolumeRecord,
} from './model.js';
import type { Compare, MetadataStore, Operation } from './store.js';
import { absent } from './volumes.js';

const RETRIES = 20;

export class Attachments {
  readonly #store: MetadataStore;
  readonly #clock: Clock;

  constructor(store: MetadataStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async of(volume: VolumeId): Promise<readonly Attachment[]> {
    return (await this.#read(volume)).attachments;
  }

  /** Of all volumes that have any. */
  async list(): Promise<Map<VolumeId, readonly Attachment[]>> {
    const { entries } = await this.#store.range(ATTACHMENTS);
    const records = entries.map(({ value }) => decodeAttachments(value));
    return new Map(records.map(({ volume, attachments }) => [volume, attachments]));
  }

  /**
   * The same again is done. ALREADY_EXISTS: attached there with another `readOnly`; CONFLICT:
   * attached to another machine; NOT_FOUND: the volume is not in use any more.
   */
  async attach(
    { volume, name }: VolumeRecord,
    wanted: Pick<Attachment, 'machine' | 'readOnly'>,
  ): Promise<Attachment> {
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const named = (await this.#store.get(nameKey(name))).entry;
      if (named?.value !== volume) {
        throw new HoldfastError('NOT_FOUND', `volume "${name}" is not in use any more`);
      }
      const { attachments, compare } = await this.#read(volume);
      const [found] = attachments;
      if (found !== undefined) return same(found, wanted, name);
      const one = { ...wanted, since: new Date(this.#clock.wall()).toISOString() };
      const inUse = { key: named.key, modRevision: named.modRevision };
      if (await this.#swap(volume, [compare, inUse], [one])) return one;
    }
    throw restless(volume);
  }

  /** It is not attached there: done. */
  async detach(volume: VolumeId, machine: string): Promise<void> {
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const { attachments, compare } = await this.#read(volume);
      const left = attachments.filter((one) => one.machine !== machine);
      if (left.length === attachments.length) return;
      if (await this.#swap(volume, [compare], left)) return;
    }
    throw restless(volume);
  }

  async #read(
    volume: VolumeId,
  ): Promise<{ readonly attachments: readonly Attachment[]; readonly compare: Compare }> {
    const key = attachmentKey(volume);
    const { entry } = await this.#store.get(key);
    if (entry === null) return { attachments: [], compare: absent(key) };
    const { attachments } = decodeAttachments(entry.value);
    return { attachments, compare: { key, modRevision: entry.modRevision } };
  }

  /** False: somebody was faster, or nobody knows: look again. */
  async #swap(
    volume: VolumeId,
    compare: readonly Compare[],
    attachments: readonly Attachment[],
  ): Promise<boolean> {
    const key = attachmentKey(volume);
    const record: AttachmentRecord = { schema: METADATA_SCHEMA, volume, attachments };
    const operation: Operation =
      attachments.length === 0
        ? { type: 'delete', key }
        : { type: 'put', key, value: encodeAttachments(record) };
    try {
      return (await this.#store.transact(compare, [operation])).committed;
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'UNKNOWN_OUTCOME') return false;
      throw thrown;
    }
  }
}

function same(
  found: Attachment,
  { machine, readOnly }: Pick<Attachment, 'machine' | 'readOnly'>,
  name: string,
): Attachment {
  if (found.machine !== machine) throw attachedThere(name, found);
  if (found.readOnly === readOnly) return found;
  const how = found.readOnly ? 'read-only' : 'for writing';
  const message = `volume "${name}" is attached to ${machine} ${how} already`;
  throw new HoldfastError('ALREADY_EXISTS', message, { hint: 'Detach it first.' });
}

/** CONFLICT, saying where the volume is attached. */
export function attachedThere(name: string, { machine, since }: Attachment): HoldfastError {
  const message = `volume "${name}" is attached to ${machine} since ${since}`;
  const hint = 'Detach it there first; "holdfast volume fence" shuts out a machine that is lost.';
  return new HoldfastError('CONFLICT', message, { hint });
}

function restless(volume: VolumeId): HoldfastError {
  const message = `the attachments of volume ${volume} change all the time`;
  return new HoldfastError('CONFLICT', message, { retryable: true });
}

/** Makes a machine known; idempotent. */
export async function registerMachine(store: MetadataStore, record: MachineRecord): Promise<void> {
  const found = await findMachine(store, record.machine);
  const { zone, maxVolumes } = record;
  if (found !== null && found.zone === zone && found.maxVolumes === maxVolumes) return;
  const key = machineKey(record.machine);
  await store.transact([], [{ type: 'put', key, value: encodeMachine(record) }]);
}

export async function findMachine(
  store: MetadataStore,
  machine: string,
): Promise<MachineRecord | null> {
  const { entry } = await store.get(machineKey(machine));
  return entry === null ? null : decodeMachine(entry.value);
}

/** By name. */
export async function listMachines(store: MetadataStore): Promise<MachineRecord[]> {
  const { entries } = await store.range(MACHINES);
  const found = entries.map(({ value }) => decodeMachine(value));
  return found.sort((a, b) => (a.machine < b.machine ? -1 : 1));
}

export async function removeMachine(store: MetadataStore, machine: string): Promise<void> {
  await store.transact([], [{ type: 'delete', key: machineKey(machine) }]);
}
