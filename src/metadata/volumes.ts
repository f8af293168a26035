/**
 * Volumes in the metadata store: creating, finding, listing and swapping their records. A volume's
 * record and its name are written in one transaction, so neither exists without the other.
 */
import { assert } from '../core/assert.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { idFromBytes, isId, parseId, type VolumeId } from '../core/ids.js';
import { epoch, type Revision, revision } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { Random } from '../io/random.js';
import { decodeVolume, encodeVolume } from './encoding.js';
import { nameKey, VOLUMES, volumeKey } from './keys.js';
import { RANGE_PAGE } from './limits.js';
import { METADATA_SCHEMA, type VolumeKind, type VolumeRecord } from './model.js';
import {
  checkReplication,
  checkVolumeName,
  checkVolumeSize,
  defaultAckQuorum,
  LABELS_MAX,
} from './names.js';
import type { MetadataStore } from './store.js';
import { resize } from './volume-record.js';

/** A record as it stood at a revision; swaps compare that revision. */
export interface VersionedVolume {
  readonly record: VolumeRecord;
  readonly modRevision: Revision;
}

export interface NewVolume {
  readonly name: string;
  readonly kind: VolumeKind;
  readonly sizeBytes: number;
  readonly replicas: number;
  /** Default: the least majority. */
  readonly ackQuorum?: number;
  readonly labels?: Readonly<Record<string, string>>;
}

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
    if (Object.keys(labels).length > LABELS_MAX) {
      throw invalid(`${Object.keys(labels).length} labels, at most ${LABELS_MAX} are allowed`);
    }
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
    };
  }

  /** ALREADY_EXISTS when the name is taken; after UNKNOWN_OUTCOME look whether it is there. */
  async create(wanted: NewVolume): Promise<VersionedVolume> {
    const record = this.make(wanted);
    const key = volumeKey(record.volume);
    const result = await this.#store.transact(
      [absent(nameKey(record.name)), absent(key)],
      [
        { type: 'put', key, value: encodeVolume(record) },
        { type: 'put', key: nameKey(record.name), value: record.volume },
      ],
    );
    if (!result.committed) {
      throw new HoldfastError('ALREADY_EXISTS', `a volume named "${record.name}" exists`);
    }
    return { record, modRevision: result.revision };
  }

  /** Null when there is none. */
  async get(volume: VolumeId): Promise<VersionedVolume | null> {
    const { entry } = await this.#store.get(volumeKey(volume));
    return entry === null ? null : versioned(volume, entry);
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

  /** All volumes in use by name. Pages are read one after another: not one moment's view. */
  async list(): Promise<VersionedVolume[]> {
    const found: VersionedVolume[] = [];
    for (let after: string | undefined; ; ) {
      const options = { limit: RANGE_PAGE, ...(after === undefined ? {} : { after }) };
      const page = await this.#store.range(VOLUMES, options);
      for (const entry of page.entries) {
        const volume = parseId<VolumeId>(entry.key.slice(VOLUMES.length), 'volume id in a key');
        const one = versioned(volume, entry);
        if (one.record.trash === undefined) found.push(one);
      }
      after = page.entries.at(-1)?.key;
      if (!page.more || after === undefined) break;
    }
    return found.sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /**
   * Swaps in `after` if the record is unchanged since `modRevision`. Null when it has changed;
   * UNKNOWN_OUTCOME: read back and ask `landed`.
   */
  async swap(after: VolumeRecord, modRevision: Revision): Promise<VersionedVolume | null> {
    const key = volumeKey(after.volume);
    const value = encodeVolume(after);
    const result = await this.#store.transact(
      [{ key, modRevision }],
      [{ type: 'put', key, value }],
    );
    return result.committed ? { record: after, modRevision: result.revision } : null;
  }

  /** Grows a volume; idempotent. INVALID_ARGUMENT for shrinking. */
  async grow(volume: VolumeId, sizeBytes: number): Promise<VersionedVolume> {
    checkVolumeSize(sizeBytes);
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      const found = await this.get(volume);
      if (found === null || found.record.trash !== undefined) {
        throw new HoldfastError('NOT_FOUND', `no volume ${volume} is in use`);
      }
      if (found.record.sizeBytes === sizeBytes) return found;
      if (found.record.sizeBytes > sizeBytes) {
        const { name, sizeBytes: has } = found.record;
        const what = `volume "${name}" has ${has} bytes and cannot shrink to ${sizeBytes}`;
        throw invalid(what, 'Volumes only grow; deleted files free their space on the disks.');
      }
      const swapped = await this.swap(resize(found.record, { sizeBytes }), found.modRevision);
      if (swapped !== null) return swapped;
    }
    throw new HoldfastError('CONFLICT', `volume ${volume} changes all the time`, {
      retryable: true,
    });
  }
}

function versioned(
  volume: VolumeId,
  entry: { readonly value: string; readonly modRevision: Revision },
): VersionedVolume {
  const record = decodeVolume(entry.value);
  if (record.volume !== volume) {
    throw new HoldfastError('INCONSISTENT', `volume ${record.volume} stands under ${volume}`);
  }
  assert(entry.modRevision > 0, 'what exists has a revision');
  return { record, modRevision: entry.modRevision };
}

/** The comparison for a key that must not exist. */
export function absent(key: string): { readonly key: string; readonly modRevision: Revision } {
  return { key, modRevision: revision(0) };
}
