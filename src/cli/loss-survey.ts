/**
 * What is left of a volume on the nodes that answer, and what is not: sealed segments of which data
 * has no good copy there, open ones whose end too few replicas tell, and what that means for files.
 * Reads only; what it asks of nodes changes nothing on them, and nobody is shut out.
 */
import type { InventoryEntry } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, SegmentId } from '../core/ids.js';
import { READ_MAX_PAGES } from '../core/limits.js';
import { offset, PAGE_BYTES } from '../core/units.js';
import type {
  NodeRecord,
  OpenSegment,
  Replica,
  SealedSegment,
  VolumeRecord,
} from '../metadata/model.js';
import type { Directory } from '../replication/directory.js';
import { fenceQuorum } from '../replication/quorum.js';
import { SegmentReader } from '../replication/reader.js';
import type { PageSpan } from '../volume/lost-files.js';
import { segmentsOn } from './inventory.js';
import type { Session } from './session.js';

/** A copy that cannot be used, and why. */
export interface MissingCopy {
  readonly node: string;
  readonly why: string;
}

export interface LostSegment {
  readonly sealed: SealedSegment;
  readonly pages: readonly PageSpan[];
  readonly missing: readonly MissingCopy[];
}

export interface OpenState {
  readonly segment: OpenSegment;
  /** Replicas that answered with what they have, if only with nothing. */
  readonly answered: number;
  /** So many of them must have answered for nothing acknowledged to be unknown. */
  readonly needed: number;
  readonly isEnough: boolean;
  /** The longest prefix that is there, and who has it. */
  readonly length: number;
  readonly holders: readonly Replica[];
  readonly missing: readonly MissingCopy[];
}

/** What the disks that answer have of one volume. */
export class Copies {
  readonly #entries = new Map<string, InventoryEntry>();
  readonly #answered = new Set<Incarnation>();
  readonly #silent = new Map<Incarnation, string>();

  static async ask(session: Session, directory: Directory, volume: VolumeRecord): Promise<Copies> {
    const copies = new Copies();
    await Promise.all(directory.nodes().map((node) => copies.#askNode(session, node, volume)));
    return copies;
  }

  async #askNode(session: Session, record: NodeRecord, { volume }: VolumeRecord): Promise<void> {
    const { node, address } = record;
    for (const { incarnation } of record.disks) {
      try {
        for (const entry of await segmentsOn(session.clients, { node, address }, incarnation)) {
          if (entry.volume === volume) this.#entries.set(entry.segment + incarnation, entry);
        }
        this.#answered.add(incarnation);
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        this.#silent.set(incarnation, thrown.message);
      }
    }
  }

  /** Null: it did not answer. */
  entry(segment: SegmentId, { incarnation }: Replica): InventoryEntry | 'none' | null {
    if (!this.#answered.has(incarnation)) return null;
    return this.#entries.get(segment + incarnation) ?? 'none';
  }

  /** Bytes that it certainly has; null: it did not answer. */
  length(segment: SegmentId, replica: Replica): number | null {
    const entry = this.entry(segment, replica);
    if (entry === null) return null;
    if (entry === 'none' || entry.state === 'deleted') return 0;
    return Math.min(entry.length, entry.suspectFrom ?? entry.length);
  }

  missing(segment: SegmentId, replica: Replica): MissingCopy {
    const { node, incarnation } = replica;
    const length = this.length(segment, replica);
    const silent = this.#silent.get(incarnation) ?? 'no node of the cluster has this disk any more';
    const more = this.isSure(segment, replica) ? '' : ', and had more';
    return { node, why: length === null ? silent : `it has ${length} bytes of it${more}` };
  }

  /** Whether it answered, and has all that it ever had. */
  isSure(segment: SegmentId, replica: Replica): boolean {
    const entry = this.entry(segment, replica);
    return entry !== null && (entry === 'none' || entry.suspectFrom === null);
  }
}

/** `segment` with those replicas alone that have it whole. */
export function withGoodCopies(copies: Copies, sealed: SealedSegment): SealedSegment {
  const replicas = sealed.replicas.filter(
    (one) => (copies.length(sealed.segment, one) ?? -1) >= sealed.end,
  );
  return { ...sealed, replicas };
}

/**
 * Sealed segments of which data has no good copy on any node that answers. Those of which all
 * copies are there are not read: what has rotted there costs itself, and `volume check` finds it.
 */
export async function lostSegments(
  session: Session,
  directory: Directory,
  record: VolumeRecord,
  copies: Copies,
  onRead: (bytes: number) => void,
): Promise<LostSegment[]> {
  const { clock, clients: requests } = session;
  const reader = new SegmentReader({ clock, requests, directory });
  const lost: LostSegment[] = [];
  let bytes = 0;
  try {
    for (const sealed of record.sealed) {
      const pages = sealed.end / PAGE_BYTES;
      const good = withGoodCopies(copies, sealed);
      const others = sealed.replicas.filter((one) => !good.replicas.includes(one));
      if (pages === 0 || others.length === 0) continue;
      const missing = others.map((one) => copies.missing(sealed.segment, one));
      const spans =
        good.replicas.length === 0
          ? [{ page: 0, count: pages }]
          : await unreadable(reader, good, (read) => {
              bytes += read;
              onRead(bytes);
            });
      if (spans.length > 0) lost.push({ sealed, pages: spans, missing });
    }
  } finally {
    reader.close();
  }
  return lost;
}

/** Rejects with what reading fails with when a copy that answered does not any more. */
async function unreadable(
  reader: SegmentReader,
  sealed: SealedSegment,
  onRead: (bytes: number) => void,
): Promise<PageSpan[]> {
  const lost: { page: number; count: number }[] = [];
  const isGood = (page: number, count: number): Promise<boolean> =>
    new Promise((resolve, reject) => {
      reader.readPages(sealed, page, count, (error) => {
        if (error === null || error.code === 'DATA_LOST') resolve(error === null);
        else reject(error);
      });
    });
  const look = async (page: number, count: number): Promise<void> => {
    if (await isGood(page, count)) return;
    if (count > 1) {
      const half = count >>> 1;
      await look(page, half);
      await look(page + half, count - half);
      return;
    }
    const last = lost.at(-1);
    if (last !== undefined && last.page + last.count === page) last.count += 1;
    else lost.push({ page, count });
  };
  const pages = sealed.end / PAGE_BYTES;
  for (let page = 0; page < pages; page += READ_MAX_PAGES) {
    const count = Math.min(READ_MAX_PAGES, pages - page);
    await look(page, count);
    onRead(count * PAGE_BYTES);
  }
  return lost;
}

/** How much of each open segment is there, and whether that is certainly all. */
export function openStates({ open, ackQuorum }: VolumeRecord, copies: Copies): OpenState[] {
  return open.map((segment) => {
    const { replicas } = segment;
    const needed = fenceQuorum(replicas.length, ackQuorum);
    const found = replicas.map((one) => copies.length(segment.segment, one));
    const answered = found.filter((length) => length !== null).length;
    const sure = replicas.filter((one) => copies.isSure(segment.segment, one));
    const length = Math.max(0, ...found.map((one) => one ?? 0));
    return {
      ...{ segment, answered, needed, length: offset(length) },
      // Fewer than the ack quorum cannot hold what was decided.
      isEnough: sure.length >= needed && answered >= ackQuorum,
      holders: replicas.filter((_, index) => length > 0 && found[index] === length),
      missing: replicas
        .filter((one) => !sure.includes(one))
        .map((one) => copies.missing(segment.segment, one)),
    };
  });
}
