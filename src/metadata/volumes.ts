/**
 * Volumes in the metadata store: creating, finding, listing and swapping their records. A volume's
 * record and its name are written in one transaction, so neither exists without the other.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { idFromBytes, isId, parseId, type VolumeId } from '../core/ids.js';
import { epoch, type Revision, revision } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Random } from '../io/random.js';
import { nameKey, VOLUMES, volumeKey } from './keys.js';
import { RANGE_PAGE } from './limits.js';
import {
  METADATA_SCHEMA,
  type VolumeKind,
  type VolumeRecord,
  type VolumeSettings,
} from './model.js';
import {
  checkLabels,
  checkReplication,
  checkVolumeName,
  checkVolumeSize,
  defaultAckQuorum,
  isRawLog,
  RAW_LOG_LABEL,
} from './names.js';
import type { MetadataStore } from './store.js';
import {
  changeOf,
  checkSize,
  readVolume,
  type VersionedHead,
  type VersionedVolume,
  versionedHead,
} from './stored-volume.js';
import { configure, relabel, resize } from './volume-record.js';

export interface NewVolume {
  readonly name: string;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  readonly replicas: number;
  /** Default: the least majority. */
  readonly ackQuorum?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly settings?: VolumeSettings;
}

/** Null takes a label away. */
export type LabelChanges = Readonly<Record<string, string | null>>;

const RETRIES = 20;

export class Volumes {
  readonly #store: MetadataStore;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(store: MetadataStore, clock: Clock, random: Random) {
    this.#store = store;
    this.#clock = clock;
    this.#random = random;
  }

  /** A checked, never owned record. Throws INVALID_ARGUMENT. */
  make(wanted: NewVolume): VolumeRecord {
    const { name, kind, sizeBytes, replicas } = wanted;
    const ackQuorum = wanted.ackQuorum ?? defaultAckQuorum(replicas);
    const labels = wanted.labels ?? {};
    checkVolumeName(name);
    checkVolumeSize(sizeBytes);
    checkReplication(replicas, ackQuorum);
    checkLabels(labels);
    return {
      schema: METADATA_SCHEMA,
      volume: idFromBytes<VolumeId>(this.#random.bytes(16)),
      name,
      kind,
      sizeBytes,
      replicas,
      ackQuorum,
      labels,
      createdAt: new Date(this.#clock.wall()).toISOString(),
      epoch: epoch(0),
      owner: null,
      planned: [],
      open: [],
      sealed: [],
      root: null,
      pendingDelete: [],
      ...(wanted.settings === undefined ? {} : { settings: wanted.settings }),
    };
  }

  /** ALREADY_EXISTS when the name is taken; after UNKNOWN_OUTCOME look whether it is there. */
  async create(wanted: NewVolume): Promise<VersionedVolume> {
    const record = this.make(wanted);
    const { compare, operations, at } = changeOf(null, record);
    const name = nameKey(record.name);
    const result = await this.#store.transact(
      [absent(name), ...compare],
      [...operations, { type: 'put', key: name, value: record.volume }],
    );
    if (!result.committed) {
      throw new HoldfastError('ALREADY_EXISTS', `a volume named "${record.name}" exists`);
    }
    return at(result.revision);
  }

  /** All of it as of one moment; null when there is none. */
  get(volume: VolumeId): Promise<VersionedVolume | null> {
    return readVolume(this.#store, volume);
  }

  /** Without its sealed segments, in one short read; null when there is none. */
  async head(volume: VolumeId): Promise<VersionedHead | null> {
    const { entry } = await this.#store.get(volumeKey(volume));
    return entry === null ? null : versionedHead(volume, entry);
  }

  /** NOT_FOUND when no volume has that name. */
  async byName(name: string): Promise<VersionedVolume> {
    checkVolumeName(name);
    // The name may be given to another volume between the two reads: then look again.
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const { entry } = await this.#store.get(nameKey(name));
      if (entry === null) throw new HoldfastError('NOT_FOUND', `no volume is named "${name}"`);
      if (!isId(entry.value)) {
        throw new HoldfastError('INCONSISTENT', `the name "${name}" points at no volume id`);
      }
      const found = await this.get(parseId<VolumeId>(entry.value, 'volume id'));
      const isThere = found !== null && found.record.trash === undefined;
      if (isThere && found.record.name === name) return found;
    }
    const message = `the name "${name}" and the volume it points at contradict each other`;
    throw new HoldfastError('INCONSISTENT', message);
  }

  /**
   * All volumes in use by name, without their sealed segments. Pages are read one after another:
   * not one moment's view.
   */
  async list(): Promise<VersionedHead[]> {
    const found: VersionedHead[] = [];
    for (let after: string | undefined; ; ) {
      const options = { limit: RANGE_PAGE, ...(after === undefined ? {} : { after }) };
      const page = await this.#store.range(VOLUMES, options);
      for (const entry of page.entries) {
        const volume = parseId<VolumeId>(entry.key.slice(VOLUMES.length), 'volume id in a key');
        const one = versionedHead(volume, entry);
        if (one.record.trash === undefined) found.push(one);
      }
      after = page.entries.at(-1)?.key;
      if (!page.more || after === undefined) break;
    }
    return found.sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /**
   * Swaps in `after` if the volume is unchanged since `before` was read. Null when it has changed;
   * UNKNOWN_OUTCOME: read back and ask `landed`; TOO_LARGE.
   */
  async swap(before: VersionedVolume, after: VolumeRecord): Promise<VersionedVolume | null> {
    const change = changeOf(before, after);
    checkSize(before, change);
    const result = await this.#store.transact(change.compare, change.operations);
    return result.committed ? change.at(result.revision) : null;
  }

  /** Grows a volume; idempotent. INVALID_ARGUMENT for shrinking. */
  grow(volume: VolumeId, sizeBytes: number): Promise<VersionedVolume> {
    checkVolumeSize(sizeBytes);
    return this.#change(volume, (record) => {
      if (record.sizeBytes === sizeBytes) return null;
      if (record.sizeBytes > sizeBytes) {
        const { name, sizeBytes: has } = record;
        const what = `volume "${name}" has ${has} bytes and cannot shrink to ${sizeBytes}`;
        throw invalid(what, 'Volumes only grow; deleted files free their space on the disks.');
      }
      return resize(record, { sizeBytes });
    });
  }

  /** Changes what can be changed at any time; idempotent. Throws INVALID_ARGUMENT. */
  configure(
    volume: VolumeId,
    changes: VolumeSettings,
    labels: LabelChanges = {},
  ): Promise<VersionedVolume> {
    return this.#change(volume, (record) => {
      const { nextAckQuorum: ack } = changes;
      if (ack !== undefined) checkReplication(record.replicas, ack);
      return configure(relabel(record, { labels: labelled(record, labels) }), changes);
    });
  }

  /** Swaps in what `change` makes of a record in use; null: it is so already. */
  async #change(
    volume: VolumeId,
    change: (record: VolumeRecord) => VolumeRecord | null,
  ): Promise<VersionedVolume> {
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const found = await this.get(volume);
      if (found === null || found.record.trash !== undefined) {
        throw new HoldfastError('NOT_FOUND', `no volume ${volume} is in use`);
      }
      const next = change(found.record);
      if (next === null) return found;
      const swapped = await this.swap(found, next);
      if (swapped !== null) return swapped;
    }
    throw new HoldfastError('CONFLICT', `volume ${volume} changes all the time`, {
      retryable: true,
    });
  }
}

/** Throws INVALID_ARGUMENT. */
function labelled(
  { name, labels: before, open, sealed, planned }: VolumeRecord,
  changes: LabelChanges,
): VolumeRecord['labels'] {
  const wanted = Object.entries({ ...before, ...changes });
  const labels = Object.fromEntries(
    wanted.flatMap(([key, value]) => (value === null ? [] : [[key, value]])),
  );
  checkLabels(labels);
  // What is in its log stays what it is: records of a filesystem, or plain ones.
  const isUsed = open.length + sealed.length + planned.length > 0;
  if (isUsed && isRawLog(labels) !== isRawLog(before)) {
    const label = `${RAW_LOG_LABEL.key}=${RAW_LOG_LABEL.value}`;
    throw invalid(`the label ${label} of volume "${name}", which was used, cannot be changed`);
  }
  return labels;
}

/** The comparison for a key that must not exist. */
export function absent(key: string): { readonly key: string; readonly modRevision: Revision } {
  return { key, modRevision: revision(0) };
}
