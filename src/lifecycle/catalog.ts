/**
 * What volumes there are: created, found, listed, grown, changed and removed, idempotently. All of
 * it stands in the metadata store.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import { isId, parseId, type VolumeId } from '../core/ids.js';
import {
  COMMIT_INTERVAL_MAX_MS,
  COMMIT_INTERVAL_MIN_MS,
  VOLUME_MAX_BYTES,
  VOLUME_MIN_BYTES,
} from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Random } from '../io/random.js';
import { Attachments } from '../metadata/attachments.js';
import { LIVE, nodeOfKey } from '../metadata/keys.js';
import type {
  Attachment,
  NodeRecord,
  PresenceRecord,
  VolumeFacts,
  VolumeRecord,
} from '../metadata/model.js';
import { isVolumeName } from '../metadata/names.js';
import { listNodes } from '../metadata/nodes.js';
import { findPresence, listPresences } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import { VolumeTrash } from '../metadata/trash.js';
import { Volumes } from '../metadata/volumes.js';
import type {
  Capacity,
  Condition,
  CreateVolume,
  MountedWhere,
  VolumeInfo,
  VolumePage,
  VolumeSettings,
} from './volume-types.js';

const DEFAULT_REPLICAS = 3;
const DEFAULT_KEEP_MS = 7 * 24 * 3_600_000;
const LIST_MAX = 1_000;

/** What a node tells of itself. */
export interface NodeTold {
  readonly zone: string;
  /** What its disks have room for. */
  readonly freeBytes: number;
  /** What its clock says. */
  readonly wallMs: number;
}

export interface CatalogDeps {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly random: Random;
  /** Asks every node that lives; those that do not answer are left out. */
  readonly ask: () => Promise<readonly NodeTold[]>;
}

/** What volumes are seen against: read once for a whole list. */
interface Surroundings {
  readonly attachments: ReadonlyMap<VolumeId, readonly Attachment[]>;
  readonly presences: ReadonlyMap<VolumeId, PresenceRecord>;
  readonly live: ReadonlySet<string>;
}

export class Catalog {
  readonly #deps: CatalogDeps;
  readonly volumes: Volumes;
  readonly trash: VolumeTrash;
  readonly attachments: Attachments;

  constructor(deps: CatalogDeps) {
    const { store, clock, random } = deps;
    this.#deps = deps;
    this.volumes = new Volumes(store, clock, random);
    this.trash = new VolumeTrash(store, clock, this.volumes);
    this.attachments = new Attachments(store, clock);
  }

  async create(wanted: CreateVolume): Promise<VolumeInfo> {
    checkWanted(wanted);
    const found = await this.#named(wanted.name);
    if (found !== null) return await this.#same(found, wanted);
    const { name, sizeBytes, ackQuorum, commitIntervalMs, fsType } = wanted;
    const { kind = 'filesystem', replicas = DEFAULT_REPLICAS, labels = {} } = wanted;
    const settings = {
      ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
      ...(fsType === undefined ? {} : { fsType }),
    };
    try {
      const { record } = await this.volumes.create({
        ...{ name, kind, sizeBytes, replicas, labels },
        ...(ackQuorum === undefined ? {} : { ackQuorum }),
        ...(Object.keys(settings).length === 0 ? {} : { settings }),
      });
      return await this.info(record);
    } catch (thrown) {
      const code = thrown instanceof HoldfastError ? thrown.code : null;
      if (code !== 'ALREADY_EXISTS' && code !== 'UNKNOWN_OUTCOME') throw thrown;
      const other = await this.#named(name);
      if (other === null) throw thrown;
      return await this.#same(other, wanted);
    }
  }

  async #same(found: VolumeRecord, wanted: CreateVolume): Promise<VolumeInfo> {
    const differs = difference(found, wanted);
    if (differs === null) return await this.info(found);
    const message = `a volume named "${found.name}" exists with ${differs}`;
    const hint = 'Use it as it is, or choose another name.';
    throw new HoldfastError('ALREADY_EXISTS', message, { hint });
  }

  async #named(name: string): Promise<VolumeRecord | null> {
    if (!isVolumeName(name)) return null;
    try {
      return (await this.volumes.byName(name)).record;
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND') return null;
      throw thrown;
    }
  }

  /** Null when there is none in use. */
  async record(id: string): Promise<VolumeRecord | null> {
    if (!isId(id)) return null;
    const found = await this.volumes.get(id as VolumeId);
    return found === null || found.record.trash !== undefined ? null : found.record;
  }

  /** Throws NOT_FOUND. */
  async known(id: string): Promise<VolumeRecord> {
    const record = await this.record(id);
    if (record !== null) return record;
    throw new HoldfastError('NOT_FOUND', `there is no volume "${id.slice(0, 128)}"`, {
      hint: 'See "holdfast volume ls".',
    });
  }

  async get(id: string): Promise<VolumeInfo | null> {
    const record = await this.record(id);
    return record === null ? null : await this.info(record);
  }

  async byName(name: string): Promise<VolumeInfo | null> {
    const record = await this.#named(name);
    return record === null ? null : await this.info(record);
  }

  async info(record: VolumeRecord): Promise<VolumeInfo> {
    const { store } = this.#deps;
    const { volume } = record;
    const [attached, presence, live] = await Promise.all([
      this.attachments.of(volume),
      findPresence(store, volume),
      liveNodes(store),
    ]);
    const attachments = new Map([[volume, attached]]);
    const presences = new Map(presence === null ? [] : [[volume, presence]]);
    return infoOf(record, { attachments, presences, live });
  }

  async list(options: { readonly limit?: number; readonly token?: string } = {}) {
    const { token } = options;
    if (token !== undefined && !isId(token)) throw invalid('the token is of no list of volumes');
    const limit = Math.min(options.limit ?? LIST_MAX, LIST_MAX);
    if (!Number.isSafeInteger(limit) || limit < 1) throw invalid(`a list of ${limit} volumes`);
    const { store } = this.#deps;
    const [all, attachments, presences, live] = await Promise.all([
      this.volumes.list(),
      this.attachments.list(),
      listPresences(store),
      liveNodes(store),
    ]);
    const byId = all.map(({ record }) => record).sort((a, b) => (a.volume < b.volume ? -1 : 1));
    const behind = byId.filter(({ volume }) => token === undefined || volume > token);
    const page = behind.slice(0, limit);
    const around = {
      attachments,
      presences: new Map(presences.map((one) => [one.volume, one])),
      live,
    };
    const next = behind.length > page.length ? (page.at(-1)?.volume ?? null) : null;
    const result: VolumePage = { volumes: page.map((record) => infoOf(record, around)), next };
    return result;
  }

  async remove(
    id: string,
    options: { readonly keepMs?: number | null; readonly force?: boolean } = {},
  ): Promise<void> {
    const record = await this.record(id);
    if (record === null) return;
    const { keepMs = DEFAULT_KEEP_MS, force = false } = options;
    try {
      const told = await this.#deps.ask();
      const wallMs = Math.max(this.#deps.clock.wall(), ...told.map((one) => one.wallMs));
      await this.trash.remove(record.volume, { keepMs, force, wallMs });
    } catch (thrown) {
      // Purged meanwhile.
      if (!(thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND')) throw thrown;
    }
  }

  async expand(id: string, sizeBytes: number): Promise<VolumeInfo> {
    const record = await this.known(id);
    if (record.sizeBytes >= sizeBytes) return await this.info(record);
    return await this.info((await this.volumes.grow(record.volume, sizeBytes)).record);
  }

  async modify(id: string, settings: VolumeSettings): Promise<VolumeInfo> {
    const { volume } = await this.known(id);
    const { ackQuorum, commitIntervalMs, labels } = settings;
    checkCommitInterval(commitIntervalMs);
    const changes = {
      ...(ackQuorum === undefined ? {} : { nextAckQuorum: ackQuorum }),
      ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
    };
    const changed = await this.volumes.configure(volume, changes, labels);
    return await this.info(changed.record);
  }

  /**
   * Each byte stands on `replicas` nodes, so the largest cannot give more than all others together
   * can mirror: what is left is found by taking from the fullest ones last.
   */
  async capacity(options: {
    readonly zones?: readonly string[];
    readonly replicas?: number;
  }): Promise<Capacity> {
    const { zones, replicas = DEFAULT_REPLICAS } = options;
    const spaces = await this.#deps.ask();
    const free = spaces
      .filter(({ zone }) => zones === undefined || zones.includes(zone))
      .map(({ freeBytes }) => freeBytes);
    return {
      availableBytes: mirrored(free, replicas),
      minimumVolumeBytes: VOLUME_MIN_BYTES,
      maximumVolumeBytes: VOLUME_MAX_BYTES,
    };
  }

  async zones(): Promise<string[]> {
    const nodes: NodeRecord[] = await listNodes(this.#deps.store);
    return [...new Set(nodes.map(({ zone }) => zone))].sort();
  }
}

/** How much fits when each byte takes a place on `replicas` of the disks. */
export function mirrored(free: readonly number[], replicas: number): number {
  if (free.length < replicas) return 0;
  let low = 0;
  let high = Math.floor(free.reduce((sum, bytes) => sum + bytes, 0) / replicas);
  // The most for which the disks, none of which holds more than one copy of it, have room.
  while (low < high) {
    const middle = low + Math.ceil((high - low) / 2);
    const room = free.reduce((sum, bytes) => sum + Math.min(bytes, middle), 0);
    if (room >= middle * replicas) low = middle;
    else high = middle - 1;
  }
  return low;
}

function checkWanted({ kind, fsType, sizeBytes, limitBytes, commitIntervalMs }: CreateVolume) {
  checkCommitInterval(commitIntervalMs);
  if (fsType !== undefined && kind !== 'block') {
    const hint = 'Volumes of the kind "filesystem" have their own.';
    throw invalid(`${fsType} is for volumes of the kind "block"`, hint);
  }
  if (limitBytes !== undefined && limitBytes < sizeBytes) {
    throw invalid(`at least ${sizeBytes} and at most ${limitBytes} bytes`);
  }
}

function checkCommitInterval(ms: number | undefined): void {
  if (ms === undefined) return;
  const fits = ms >= COMMIT_INTERVAL_MIN_MS && ms <= COMMIT_INTERVAL_MAX_MS;
  if (Number.isSafeInteger(ms) && fits) return;
  const [least, most] = [COMMIT_INTERVAL_MIN_MS / 1000, COMMIT_INTERVAL_MAX_MS / 1000];
  throw invalid(`a commit interval of ${ms / 1000} s`, `${least} to ${most} s are allowed.`);
}

/** What keeps `found` from being what is wanted, for people; null: nothing. */
function difference(found: VolumeRecord, wanted: CreateVolume): string | null {
  const { sizeBytes, limitBytes = sizeBytes, kind = 'filesystem' } = wanted;
  const { replicas = DEFAULT_REPLICAS, ackQuorum, fsType } = wanted;
  const ack = found.settings?.nextAckQuorum ?? found.ackQuorum;
  if (found.kind !== kind) return `the kind "${found.kind}", not "${kind}"`;
  if (found.sizeBytes < sizeBytes || found.sizeBytes > limitBytes) {
    return `${found.sizeBytes} bytes, not ${sizeBytes}`;
  }
  if (found.replicas !== replicas) return `${found.replicas} replicas, not ${replicas}`;
  if (ackQuorum !== undefined && ack !== ackQuorum)
    return `an ack quorum of ${ack}, not ${ackQuorum}`;
  if (found.settings?.fsType !== fsType) {
    return `the filesystem ${found.settings?.fsType ?? 'unset'}, not ${fsType ?? 'unset'}`;
  }
  return null;
}

async function liveNodes(store: MetadataStore): Promise<Set<string>> {
  const { entries } = await store.range(LIVE);
  return new Set(entries.map(({ key }) => nodeOfKey(key, LIVE)));
}

function infoOf(record: VolumeFacts, around: Surroundings): VolumeInfo {
  const { volume, name, kind, sizeBytes, replicas, ackQuorum, labels, createdAt } = record;
  const { owner, epoch, settings } = record;
  const presence = around.presences.get(volume);
  const mounted = presence !== undefined && presence.epoch >= epoch ? whereOf(presence) : null;
  const held = isHeld(record);
  return {
    ...{ id: parseId<VolumeId>(volume, 'volume id'), name, kind, sizeBytes, replicas, ackQuorum },
    nextAckQuorum: settings?.nextAckQuorum ?? null,
    commitIntervalMs: settings?.commitIntervalMs ?? null,
    fsType: settings?.fsType ?? null,
    ...{ labels, createdAt },
    attachments: around.attachments.get(volume) ?? [],
    mounted,
    held,
    condition: conditionOf(record, around.live, held && mounted === null ? owner?.address : null),
  };
}

export function isHeld({ owner }: VolumeFacts): boolean {
  return owner !== null && !owner.released;
}

export function whereOf({ host, mountPoint, pid, since }: PresenceRecord): MountedWhere {
  return { machine: host, directory: mountPoint, pid, since };
}

/** As the registrations of nodes tell. `lost` is an owner that does not say that it lives. */
function conditionOf(
  { open, replicas, ackQuorum }: VolumeFacts,
  live: ReadonlySet<string>,
  lost: string | null | undefined,
): Condition {
  const up = open.map((one) => one.replicas.filter(({ node }) => live.has(node)).length);
  const least = open.length === 0 ? live.size : Math.min(...up);
  if (least < ackQuorum) {
    const message = `${least} of its ${replicas} nodes are up: it waits for ${ackQuorum}`;
    return { abnormal: true, message };
  }
  if (least < replicas) {
    return { abnormal: true, message: `${least} of its ${replicas} nodes are up: it goes on` };
  }
  if (lost != null) {
    return { abnormal: true, message: `its owner, ${lost}, does not say that it lives` };
  }
  return { abnormal: false, message: 'all of its nodes are up' };
}
