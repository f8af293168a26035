/**
 * What repair knows: sealed segments and their moves as the metadata store has them, what state
 * every disk is in, and which copies are not whole. Read anew now and then, and after each change;
 * nothing here decides, and nothing is written.
 *
 * INVARIANT: a disk is judged gone only after it was seen missing for the whole grace period by
 * this process while it could ask the store, or when its node was removed; never because an answer
 * was missing.
 */
import {
  type InventoryEntry,
  NODE_STATUS,
  type Reply,
  type Request,
} from '../block/wire/messages.js';
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import {
  type Incarnation,
  type NodeId,
  parseId,
  type SegmentId,
  type VolumeId,
} from '../core/ids.js';
import { INVENTORY_PAGE, REQUEST_TIMEOUT_MS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import { keyTail, VOLUMES } from '../metadata/keys.js';
import { RANGE_PAGE } from '../metadata/limits.js';
import type { Replica, SealedSegment, VolumeRecord } from '../metadata/model.js';
import { type NodeWishes, readNodeWishes } from '../metadata/node-states.js';
import {
  listMoves,
  moveOf,
  names,
  readMove,
  type VersionedMove,
} from '../metadata/replica-moves.js';
import { type ClusterSettings, DEFAULT_SETTINGS, readSettings } from '../metadata/settings.js';
import type { MetadataStore } from '../metadata/store.js';
import { readVolume, type VersionedVolume } from '../metadata/stored-volume.js';
import type { DiskState, RepairDisk, RepairSegment } from './repair-view.js';

export interface SurveyParts {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly requests: NodeRequests;
  readonly directory: DirectoryCache;
  /** Nothing is judged gone for so long after this process began to look. */
  readonly quietMs: number;
  /** A sealed segment is left to its owner for so long before its copies are looked at. */
  readonly settleMs: number;
}

/** What nodes say of a segment's copies. */
interface Copies {
  readonly firstSeen: number;
  /** Named by the list, and not whole. */
  incomplete: readonly Replica[];
  /** Of these, those that lack nothing but the SEAL. */
  unsealed: readonly Replica[];
  /** Whole, and not named by the list. */
  unlisted: readonly Replica[];
  /** Named by neither the list nor the move. */
  surplus: readonly Replica[];
}

interface KnownSegment {
  readonly volume: VersionedVolume;
  readonly sealed: SealedSegment;
  readonly copies: Copies;
}

const NONE: readonly Replica[] = [];

export class RepairSurvey {
  readonly #parts: SurveyParts;
  readonly #began: number;
  readonly #volumes = new Map<VolumeId, VersionedVolume>();
  readonly #segments = new Map<SegmentId, KnownSegment>();
  /** Volumes whose records were there when last read, and of no use. */
  readonly #unreadable = new Set<VolumeId>();
  readonly #moves = new Map<SegmentId, VersionedMove>();
  readonly #missingSince = new Map<Incarnation, number>();
  /** What nodes say of their disks: failed, or without room. */
  readonly #failed = new Set<Incarnation>();
  readonly #free = new Map<Incarnation, number>();
  /** Nodes of which was told that they do not know what they were asked. */
  readonly #told = new Set<NodeId>();
  /** Of the longest copy of each open segment, as nodes say. */
  #openLengths: ReadonlyMap<SegmentId, number> = new Map();
  #wishes: NodeWishes = new Map();
  settings: ClusterSettings = DEFAULT_SETTINGS;
  /** When nodes were last asked what they have. */
  askedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: SurveyParts) {
    this.#parts = parts;
    this.#began = parts.clock.monotonic();
  }

  moves(): VersionedMove[] {
    return [...this.#moves.values()];
  }

  /** Copies that nothing names, of segments that are alive. */
  surplus(): { readonly of: VersionedMove; readonly on: Replica }[] {
    return [...this.#segments].flatMap(([segment, { volume, copies }]) =>
      copies.surplus.map((on) => ({ of: this.move(volume.record.volume, segment), on })),
    );
  }

  forgetSurplus({ segment }: VersionedMove, on: Replica): void {
    const copies = this.#segments.get(segment)?.copies;
    if (copies !== undefined) copies.surplus = noted(copies.surplus, on, false);
  }

  *records(): Iterable<VolumeRecord> {
    for (const { record } of this.#volumes.values()) yield record;
  }

  openLength(segment: SegmentId): number {
    return this.#openLengths.get(segment) ?? 0;
  }

  /** For an owner, which needs the time that an outage takes to end as nodes do. */
  get graceMs(): number {
    return Math.max(this.settings.repairGraceMs, this.#parts.quietMs);
  }

  volume(volume: VolumeId): VersionedVolume | null {
    return this.#volumes.get(volume) ?? null;
  }

  sealed(segment: SegmentId): SealedSegment | null {
    return this.#segments.get(segment)?.sealed ?? null;
  }

  /** Whether the segment is known to be no more; false of one whose record cannot be read. */
  isOver(volume: VolumeId, segment: SegmentId): boolean {
    return !this.#unreadable.has(volume) && !this.#segments.has(segment);
  }

  move(volume: VolumeId, segment: SegmentId): VersionedMove {
    return moveOf(this.#moves, volume, segment);
  }

  noteWhole(segment: SegmentId, on: Replica): void {
    const copies = this.#segments.get(segment)?.copies;
    if (copies === undefined) return;
    copies.incomplete = noted(copies.incomplete, on, false);
    copies.unsealed = noted(copies.unsealed, on, false);
  }

  /** Reads everything. Rejects when the store cannot be used; then what is known stays. */
  async read(): Promise<void> {
    const { store } = this.#parts;
    const settings = await readSettings(store);
    const wishes = await readNodeWishes(store);
    const ids = await this.#volumeIds();
    for (const volume of ids) await this.refresh(volume, false);
    for (const volume of [...this.#volumes.keys()]) {
      if (!ids.has(volume)) this.#replace(volume, null);
    }
    for (const volume of this.#unreadable) if (!ids.has(volume)) this.#unreadable.delete(volume);
    const moves = await listMoves(store);
    this.#moves.clear();
    for (const move of moves) this.#moves.set(move.segment, move);
    this.settings = settings;
    this.#wishes = wishes;
    this.#noteMissing();
  }

  async #volumeIds(): Promise<Set<VolumeId>> {
    const ids = new Set<VolumeId>();
    for (let after: string | undefined; ; ) {
      const options = { limit: RANGE_PAGE, ...(after === undefined ? {} : { after }) };
      const page = await this.#parts.store.range(VOLUMES, options);
      for (const { key } of page.entries) ids.add(parseId(keyTail(key, VOLUMES), 'volume id'));
      after = page.entries.at(-1)?.key;
      if (!page.more || after === undefined) return ids;
    }
  }

  /** Reads one volume again, and with `segment` its move; one that is unreadable stays as known. */
  async refresh(volume: VolumeId, segment: SegmentId | false): Promise<void> {
    const { store, log } = this.#parts;
    try {
      const known = this.#volumes.get(volume) ?? null;
      const found = await readVolume(store, volume, known);
      this.#unreadable.delete(volume);
      if (found !== known) this.#replace(volume, found);
      if (segment === false) return;
      const move = await readMove(store, volume, segment);
      if (move.modRevision === 0) this.#moves.delete(segment);
      else this.#moves.set(segment, move);
    } catch (thrown) {
      const isLasting =
        thrown instanceof HoldfastError &&
        ['INCONSISTENT', 'MALFORMED', 'VERSION'].includes(thrown.code);
      if (!isLasting) throw thrown;
      this.#unreadable.add(volume);
      const { code, message } = thrown;
      log.error({ volume, code, error: message }, 'The record of a volume cannot be read.');
    }
  }

  /** Takes `found` for what was known of the volume, and keeps nothing of segments it lacks. */
  #replace(volume: VolumeId, found: VersionedVolume | null): void {
    const before = new Map<SegmentId, Copies>();
    for (const { segment } of this.#volumes.get(volume)?.record.sealed ?? []) {
      const known = this.#segments.get(segment);
      if (known !== undefined) before.set(segment, known.copies);
      this.#segments.delete(segment);
    }
    this.#volumes.delete(volume);
    if (found === null) return;
    this.#volumes.set(volume, found);
    if (found.record.trash?.purging === true) return;
    const firstSeen = this.#parts.clock.monotonic();
    for (const sealed of found.record.sealed) {
      const none = { incomplete: NONE, unsealed: NONE, unlisted: NONE, surplus: NONE };
      const copies = before.get(sealed.segment) ?? { firstSeen, ...none };
      this.#segments.set(sealed.segment, { volume: found, sealed, copies });
    }
  }

  /** Disks that are named and that no node has now: since when. */
  #noteMissing(): void {
    const here = new Set<Incarnation>();
    const { directory, clock } = this.#parts;
    for (const { node, disks } of directory.nodes()) {
      if (!directory.isLive(node)) continue;
      for (const { incarnation } of disks) {
        if (!this.#failed.has(incarnation)) here.add(incarnation);
      }
    }
    for (const incarnation of here) this.#missingSince.delete(incarnation);
    if (!directory.connected) return;
    for (const { incarnation } of this.#named()) {
      if (here.has(incarnation) || this.#missingSince.has(incarnation)) continue;
      this.#missingSince.set(incarnation, clock.monotonic());
    }
  }

  /** Every disk that a node has registered, or that a list or a move names. */
  #named(): Replica[] {
    const named = new Map<Incarnation, Replica>();
    for (const { node, disks } of this.#parts.directory.nodes()) {
      for (const { incarnation } of disks) named.set(incarnation, { node, incarnation });
    }
    const add = (one: Replica): void => {
      if (!named.has(one.incarnation)) named.set(one.incarnation, one);
    };
    for (const { sealed } of this.#segments.values()) for (const one of sealed.replicas) add(one);
    for (const { filling, leaving } of this.#moves.values()) {
      for (const one of leaving) add(one);
      if (filling !== null) add(filling);
    }
    return [...named.values()];
  }

  disks(): RepairDisk[] {
    const { directory } = this.#parts;
    const nodes = new Map(directory.nodes().map((record) => [record.node, record]));
    return this.#named().map((replica) => {
      const { node, incarnation } = replica;
      const record = nodes.get(node);
      const disk = record?.disks.find((one) => one.incarnation === incarnation);
      return {
        node,
        incarnation,
        zone: record?.zone ?? '',
        capacityBytes: disk?.capacityBytes ?? 0,
        freeBytes: this.#free.get(incarnation) ?? null,
        state: this.#state(replica, disk !== undefined),
      };
    });
  }

  #state({ node, incarnation }: Replica, isRegistered: boolean): DiskState {
    const { directory, clock, quietMs } = this.#parts;
    const wish = this.#wishes.get(node);
    if (wish?.removed !== undefined) return 'gone';
    if (isRegistered && directory.isLive(node) && !this.#failed.has(incarnation)) {
      return wish?.drain === undefined ? 'good' : 'leaving';
    }
    if (wish?.maintenance !== undefined || !directory.connected) return 'away';
    const now = clock.monotonic();
    const since = this.#missingSince.get(incarnation);
    const isJudged = since !== undefined && now - since >= this.settings.repairGraceMs;
    return isJudged && now - this.#began >= quietMs ? 'gone' : 'away';
  }

  /**
   * Whether the disk does not come back with what it has: its node was removed, or is registered
   * without it. One whose node is merely down does, and is told to drop it then.
   */
  isLost({ node, incarnation }: Replica, state: DiskState): boolean {
    if (this.#wishes.get(node)?.removed !== undefined) return true;
    const nodes = this.#parts.directory.nodes();
    const isListed = nodes.some(({ disks }) =>
      disks.some((one) => one.incarnation === incarnation),
    );
    return state === 'gone' && !isListed;
  }

  /** When the next disk that is away will be judged; Infinity when none is waited for. */
  nextJudgement(): number {
    const { quietMs, clock } = this.#parts;
    const now = clock.monotonic();
    const times = [...this.#missingSince.values()].map((since) =>
      Math.max(since + this.settings.repairGraceMs, this.#began + quietMs),
    );
    return Math.min(...times.filter((at) => at > now), Number.POSITIVE_INFINITY);
  }

  segments(): RepairSegment[] {
    return [...this.#segments.values()].map((known) => this.#view(known));
  }

  segment(segment: SegmentId): RepairSegment | null {
    const known = this.#segments.get(segment);
    return known === undefined ? null : this.#view(known);
  }

  #view({ volume: { record }, sealed, copies }: KnownSegment): RepairSegment {
    const { volume, replicas: wanted } = record;
    const { segment, end: bytes, replicas } = sealed;
    const { filling, instead, leaving } = this.move(volume, segment);
    const move = { filling, instead, leaving };
    const { unlisted } = copies;
    const incomplete = new Set(copies.incomplete.map(({ incarnation }) => incarnation));
    const unsealed = new Set(copies.unsealed.map(({ incarnation }) => incarnation));
    const found = { incomplete, unsealed, unlisted };
    return { volume, segment, bytes, wanted, replicas, ...found, ...move };
  }

  /** Asks every node that lives what is on its disks, and compares it with what is known here. */
  async takeInventory(): Promise<void> {
    const { directory, clock } = this.#parts;
    const asked = clock.monotonic();
    const open = new Map<SegmentId, number>();
    for (const record of directory.nodes()) {
      if (!directory.isLive(record.node)) continue;
      await this.#askStatus(record.node);
      for (const { incarnation } of record.disks) {
        const listed = await this.#inventory({ node: record.node, incarnation });
        if (listed === null) continue;
        this.#compare({ node: record.node, incarnation }, listed, asked);
        for (const { segment, state, length } of listed.values()) {
          if (state === 'open') open.set(segment, Math.max(open.get(segment) ?? 0, length));
        }
      }
    }
    this.#openLengths = open;
    this.askedAt = asked;
  }

  async #askStatus(node: NodeId): Promise<void> {
    const reply = await this.ask(node, NODE_STATUS);
    if (reply?.body?.type !== 'status') return;
    for (const disk of reply.body.disks) {
      if (disk.state === 'failed') this.#failed.add(disk.incarnation);
      else this.#failed.delete(disk.incarnation);
      this.#free.set(disk.incarnation, disk.state === 'full' ? 0 : disk.freeBytes);
    }
  }

  /** The copies that are there. Null when not all pages could be had. */
  async #inventory({ node, incarnation }: Replica): Promise<Map<SegmentId, InventoryEntry> | null> {
    const found = new Map<SegmentId, InventoryEntry>();
    for (let after: SegmentId | null = null; ; ) {
      const request = { type: 'inventory', incarnation, after, limit: INVENTORY_PAGE } as const;
      const reply: Reply | null = await this.ask(node, request);
      if (reply?.status !== 'OK' || reply.incarnation !== incarnation) return null;
      const { body } = reply;
      if (body?.type !== 'inventory') return null;
      for (const entry of body.entries) {
        if (entry.state === 'open' || entry.state === 'sealed') found.set(entry.segment, entry);
      }
      after = body.entries.at(-1)?.segment ?? null;
      if (!body.more || after === null) return found;
    }
  }

  #compare(on: Replica, listed: ReadonlyMap<SegmentId, InventoryEntry>, asked: number): void {
    const { settleMs } = this.#parts;
    for (const [segment, { volume, sealed, copies }] of this.#segments) {
      if (asked - copies.firstSeen < settleMs) continue;
      const isNamed = names(sealed.replicas, on.incarnation);
      const copy = listed.get(segment);
      const isWhole = copy?.state === 'sealed';
      const isUnsealed = isNamed && !isWhole && hasAllOf(sealed, copy);
      copies.incomplete = noted(copies.incomplete, on, isNamed && !isWhole);
      copies.unsealed = noted(copies.unsealed, on, isUnsealed);
      copies.unlisted = noted(copies.unlisted, on, !isNamed && isWhole);
      const { filling, leaving } = this.move(volume.record.volume, segment);
      const isInMove = names([filling, ...leaving], on.incarnation);
      const isSurplus = listed.has(segment) && !isNamed && !isInMove;
      copies.surplus = noted(copies.surplus, on, isSurplus);
    }
  }

  /**
   * One request to a node; null when it does not answer, or is too old to know it. (A DROP can
   * wait until the node is upgraded: it keeps a copy that nothing counts on.)
   */
  ask(node: NodeId, request: Request, timeoutMs = REQUEST_TIMEOUT_MS): Promise<Reply | null> {
    const { directory, requests, clock } = this.#parts;
    const address = directory.address(node);
    return new Promise((resolve) => {
      if (address === null) return clock.soon(() => resolve(null));
      requests.send({ node, address }, request, timeoutMs, (error, reply) => {
        if (error?.code === 'VERSION') this.#tell(node, error);
        resolve(reply);
      });
    });
  }

  #tell(node: NodeId, { message, hint = '' }: HoldfastError): void {
    if (this.#told.has(node)) return;
    this.#told.add(node);
    this.#parts.log.warn({ node, error: message }, `Repair does without a node's help. ${hint}`);
  }
}

/** Whether a copy is sealed, or lacks nothing but that. */
export function isWhole(sealed: SealedSegment, copy: InventoryEntry | undefined): boolean {
  return copy?.state === 'sealed' || hasAllOf(sealed, copy);
}

/** Whether a copy that is not sealed lacks nothing but that. */
function hasAllOf({ end, crc }: SealedSegment, copy: InventoryEntry | undefined): boolean {
  if (end === 0) return true;
  if (copy === undefined || copy.length < end) return false;
  if (copy.suspectFrom !== null && copy.suspectFrom < end) return false;
  return copy.length > end || copy.crc === crc;
}

function noted(list: readonly Replica[], on: Replica, isSo: boolean): readonly Replica[] {
  if (names(list, on.incarnation) === isSo) return list;
  return isSo ? [...list, on] : list.filter((one) => one.incarnation !== on.incarnation);
}
