/**
 * Volumes out of use: removed by `volume rm`, kept for a while, then restored or purged. Every step
 * is a transaction on the volume's record that also compares what it relies on (the name, that
 * nobody has the volume mounted), and does nothing when it was done before: whoever dies between
 * two steps is continued by whoever comes next.
 *
 * INVARIANT: a record goes only when it lists no segment any more, so none is forgotten on a disk.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { parseId, type SegmentId, type VolumeId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import { attachedThere } from './attachments.js';
import { decodeAttachments } from './encoding.js';
import {
  attachmentKey,
  givenUpKey,
  keyTail,
  nameKey,
  ownerKey,
  TRASH,
  trashKey,
  volumeKey,
} from './keys.js';
import type { VolumeRecord } from './model.js';
import { checkVolumeName } from './names.js';
import { findPresence } from './presence.js';
import type { Compare, MetadataStore, Operation } from './store.js';
import {
  changeOf,
  checkSize,
  type VersionedHead,
  type VersionedVolume,
  withinOneSwap,
} from './stored-volume.js';
import { beginPurge, clearDeleted, moveToTrash, restoreFromTrash } from './volume-record.js';
import { absent, type Volumes } from './volumes.js';

const RETRIES = 20;
/** For people who look into the store; the record decides. */
export const FOREVER = 'forever';
/** Fewer digits of an id are too easily another volume's. */
const ID_PREFIX = /^[0-9a-f]{8,32}$/;

export interface Removal {
  /** How long it is kept; null: until somebody purges it. */
  readonly keepMs: number | null;
  /** Also when its last owner did not release it. */
  readonly force: boolean;
  /**
   * What time it is, where more clocks than our own were asked: the latest of them, as by one that
   * is behind its time could be over at once.
   */
  readonly wallMs?: number;
}

/** What must hold for a purge to begin. */
export interface PurgeRule {
  /** What a leader adds to its comparisons. */
  readonly guard?: readonly Compare[];
  /** Only what has expired by then: the volume may have come back since it was looked at. */
  readonly wallMs?: number;
}

interface Change {
  readonly record: VolumeRecord;
  readonly compare?: readonly Compare[];
  readonly operations?: readonly Operation[];
}

export class VolumeTrash {
  readonly #store: MetadataStore;
  readonly #clock: Clock;
  readonly #volumes: Volumes;

  constructor(store: MetadataStore, clock: Clock, volumes: Volumes) {
    this.#store = store;
    this.#clock = clock;
    this.#volumes = volumes;
  }

  /** What was removed last comes first. */
  async list(): Promise<VersionedHead[]> {
    const { entries } = await this.#store.range(TRASH);
    const found = await Promise.all(
      entries.map(({ key }) => this.#volumes.head(parseId(keyTail(key, TRASH), 'volume id'))),
    );
    const all = found.filter((one) => one !== null).filter(({ record }) => 'trash' in record);
    return all.sort((a, b) => (removedAt(a) < removedAt(b) ? 1 : -1));
  }

  /**
   * The one of this name, or whose id begins so. NOT_FOUND; INVALID_ARGUMENT when there are
   * several.
   */
  async find(word: string): Promise<VersionedHead> {
    const all = await this.list();
    const byId = ID_PREFIX.test(word)
      ? all.filter(({ record }) => record.volume.startsWith(word))
      : [];
    const found = byId.length > 0 ? byId : all.filter(({ record }) => record.name === word);
    const [only, second] = found;
    if (only === undefined) {
      const hint = 'See "holdfast volume ls --trash".';
      throw new HoldfastError('NOT_FOUND', `no volume "${word}" is in the trash`, { hint });
    }
    if (second === undefined) return only;
    const ids = found.map(({ record }) => record.volume.slice(0, 12)).join(', ');
    throw invalid(`${found.length} volumes "${word}" are in the trash`, `Name one by id: ${ids}.`);
  }

  /**
   * Takes the volume out of use and frees its name. CONFLICT when somebody has it mounted, when it
   * is attached to a machine, or (without `force`) when its last owner did not release it.
   */
  remove(volume: VolumeId, { keepMs, force, wallMs }: Removal): Promise<VersionedVolume> {
    return this.#change(volume, async ({ record }) => {
      if (record.trash !== undefined) return null;
      const name = await this.#store.get(nameKey(record.name));
      if (name.entry?.value !== volume) throw contradicted(record);
      await this.refuseMounted(record);
      await this.#refuseAttached(record);
      if (!force) refuseUnreleased(record);
      const now = wallMs ?? this.#clock.wall();
      const at = (ms: number): string => new Date(ms).toISOString();
      const keptUntil = keepMs === null ? null : at(now + keepMs);
      return {
        record: moveToTrash(record, { removedAt: at(now), keptUntil }),
        compare: [
          { key: name.entry.key, modRevision: name.entry.modRevision },
          absent(ownerKey(volume)),
          absent(attachmentKey(volume)),
        ],
        operations: [
          { type: 'delete', key: name.entry.key },
          { type: 'put', key: trashKey(volume), value: keptUntil ?? FOREVER },
        ],
      };
    });
  }

  /** Throws CONFLICT saying who has it. */
  async refuseMounted({ volume, name }: Pick<VolumeRecord, 'volume' | 'name'>): Promise<void> {
    const presence = await findPresence(this.#store, volume);
    if (presence === null) return;
    const { host, pid, mountPoint } = presence;
    const message = `volume "${name}" is mounted at ${mountPoint} on ${host} (pid ${pid})`;
    const hint = `Unmount it there first: holdfast umount ${mountPoint}`;
    throw new HoldfastError('CONFLICT', message, { hint });
  }

  async #refuseAttached({ volume, name }: VolumeRecord): Promise<void> {
    const { entry } = await this.#store.get(attachmentKey(volume));
    const [first] = entry === null ? [] : decodeAttachments(entry.value).attachments;
    if (first !== undefined) throw attachedThere(name, first);
  }

  /** ALREADY_EXISTS when the name is taken; CONFLICT when its purge has begun. */
  restore(volume: VolumeId, name: string): Promise<VersionedVolume> {
    checkVolumeName(name);
    return this.#change(volume, async ({ record }) => {
      if (record.trash === undefined) {
        if (record.name === name) return null;
        throw new HoldfastError('NOT_FOUND', `volume "${record.name}" is not in the trash`);
      }
      if (record.trash.purging) {
        const message = `volume "${record.name}" is being purged: nothing of it comes back`;
        throw new HoldfastError('CONFLICT', message);
      }
      if ((await this.#store.get(nameKey(name))).entry !== null) {
        const hint = 'Restore this one under another name: --as NAME.';
        throw new HoldfastError('ALREADY_EXISTS', `a volume named "${name}" exists`, { hint });
      }
      return {
        record: restoreFromTrash(record, { name }),
        compare: [absent(nameKey(name))],
        operations: [
          { type: 'put', key: nameKey(name), value: volume },
          { type: 'delete', key: trashKey(volume) },
        ],
      };
    });
  }

  /**
   * Lists everything for deletion: nothing comes back from here. CONFLICT for volumes that are not
   * in the trash, or whose time is not over.
   */
  beginPurge(volume: VolumeId, { guard = [], wallMs }: PurgeRule = {}): Promise<VersionedVolume> {
    return this.#change(volume, async ({ record }) => {
      if (record.trash === undefined) {
        throw new HoldfastError('CONFLICT', `volume "${record.name}" is not in the trash any more`);
      }
      if (record.trash.purging) return null;
      if (wallMs !== undefined && !isExpired(record, wallMs)) {
        const message = `volume "${record.name}" was restored and removed again meanwhile`;
        throw new HoldfastError('CONFLICT', message);
      }
      const compare = [absent(ownerKey(volume)), ...guard];
      await this.refuseMounted(record);
      return { record: beginPurge(record), compare };
    });
  }

  /**
   * Takes segments out of the record of which all replicas have answered a DELETE or are gone: as
   * many of them as one swap can, the caller looks which. `known`: the record as last seen.
   */
  clear(
    volume: VolumeId,
    deleted: readonly SegmentId[],
    known?: VersionedVolume,
  ): Promise<VersionedVolume> {
    const decide = async (at: VersionedVolume): Promise<Change | null> => {
      const listed = new Set(at.record.pendingDelete.map(({ segment }) => segment));
      const segments = withinOneSwap(
        at,
        deleted.filter((segment) => listed.has(segment)),
      );
      return segments.length === 0 ? null : { record: clearDeleted(at.record, { segments }) };
    };
    return this.#change(volume, decide, known);
  }

  /** The end: removes the record of a purged volume. CONFLICT while it lists a segment. */
  async forget(volume: VolumeId): Promise<void> {
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const found = await this.#volumes.get(volume);
      if (found === null) return;
      const { trash, pendingDelete, name } = found.record;
      if (trash?.purging !== true || pendingDelete.length > 0) {
        throw new HoldfastError('CONFLICT', `volume "${name}" is not purged yet`);
      }
      const key = volumeKey(volume);
      const compare = [{ key, modRevision: found.modRevision }];
      const keys = [key, trashKey(volume), givenUpKey(volume)];
      const gone = keys.map((one) => ({ type: 'delete', key: one }) as const);
      if ((await this.#transact(compare, gone)) !== null) return;
    }
    throw restless(volume);
  }

  /**
   * Makes the change that `decide` derives from the record as it stands, and derives it again when
   * the record changed meanwhile or it is not known whether the change happened. Null: it did.
   */
  async #change(
    volume: VolumeId,
    decide: (found: VersionedVolume) => Promise<Change | null>,
    known: VersionedVolume | null = null,
  ): Promise<VersionedVolume> {
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const seen = attempt === 0 ? known : null;
      const found = seen ?? (await this.#volumes.get(volume));
      if (found === null) throw new HoldfastError('NOT_FOUND', `there is no volume ${volume}`);
      const change = await decide(found);
      if (change === null) return found;
      const { record, compare = [], operations = [] } = change;
      const swap = changeOf(found, record);
      checkSize(found, swap);
      const revision = await this.#transact(
        [...swap.compare, ...compare],
        [...swap.operations, ...operations],
      );
      if (revision !== null) return swap.at(revision);
    }
    throw restless(volume);
  }

  /** Null: not done, or not known. */
  async #transact(
    compare: readonly Compare[],
    operations: readonly Operation[],
  ): Promise<VersionedVolume['modRevision'] | null> {
    try {
      const { committed, revision } = await this.#store.transact(compare, operations);
      return committed ? revision : null;
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'UNKNOWN_OUTCOME') return null;
      throw thrown;
    }
  }
}

/** Whether the volume may be purged at `wallMs`, or its purge was begun before. */
export function isExpired({ trash }: Pick<VolumeRecord, 'trash'>, wallMs: number): boolean {
  if (trash === undefined) return false;
  return trash.purging || (trash.keptUntil !== null && Date.parse(trash.keptUntil) <= wallMs);
}

function removedAt({ record }: VersionedHead): string {
  return record.trash?.removedAt ?? '';
}

function contradicted({ name, volume }: VolumeRecord): HoldfastError {
  return new HoldfastError('INCONSISTENT', `the name "${name}" does not point at ${volume}`);
}

/** The presence key is only a hint: whoever is cut off from the store may still be writing. */
function refuseUnreleased({ name, owner }: VolumeRecord): void {
  if (owner === null || owner.released) return;
  const message = `volume "${name}" was not released by its owner, ${owner.address}`;
  const hint = 'If that process is gone for good: --force. Else unmount it there.';
  throw new HoldfastError('CONFLICT', message, { hint });
}

function restless(volume: VolumeId): HoldfastError {
  const message = `the record of volume ${volume} changes all the time`;
  return new HoldfastError('CONFLICT', message, { retryable: true });
}
