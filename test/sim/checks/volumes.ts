/**
 * The volume records' history and what owners acknowledged: the log is one chain that only grows
 * (1, 2, 5), seals cover every acknowledgement (5) and are held by a quorum (4), nothing is
 * acknowledged outside of the record or through a frozen segment (8), records move by the rules
 * (9), moves of replicas take no good copy away (18), and each takeover's decision rests on R valid
 * fence replies (10).
 */
import type { Incarnation, SegmentId, VolumeId } from '../../../src/core/ids.js';
import type { PlannedSegment, SealedSegment, VolumeRecord } from '../../../src/metadata/model.js';
import { must, short, Violation } from '../violation.js';
import type { PlacedSegment, Placements, ReplicaGhosts } from './replicas.js';
import type { SegmentGhosts } from './segments.js';

type Place = 'planned' | 'open' | 'sealed' | 'pendingDelete' | 'gone';
const LADDER: readonly Place[] = ['planned', 'open', 'sealed', 'pendingDelete', 'gone'];

interface KnownSegment {
  readonly volume: VolumeId;
  shape: string;
  readonly placed: PlacedSegment;
  /** Where its copies are by now: repair may move those of sealed segments. */
  replicas: readonly Incarnation[];
  place: Place;
  seal: SealedSegment | null;
}

interface VolumeGhost {
  record: VolumeRecord | null;
  /** LSN → CRC-32 of the record, of everything sealed. */
  readonly final: number[];
  /** Segments whose records are in `final`: those before a new one may be deleted. */
  readonly sealed: Set<SegmentId>;
  /** LSN → CRC-32 of the record, of everything acknowledged. */
  readonly acked: (number | undefined)[];
  /** Epoch → true time of its first acknowledgement. */
  readonly firstAck: Map<number, number>;
}

export class VolumeGhosts implements Placements {
  readonly #segments: SegmentGhosts;
  #replicas: ReplicaGhosts | null = null;
  readonly #volumes = new Map<VolumeId, VolumeGhost>();
  readonly #known = new Map<SegmentId, KnownSegment>();

  constructor(segments: SegmentGhosts) {
    this.#segments = segments;
  }

  /** The two kinds of ghosts look at each other. */
  connect(replicas: ReplicaGhosts): void {
    this.#replicas = replicas;
  }

  placed(segment: SegmentId): PlacedSegment | null {
    return this.#known.get(segment)?.placed ?? null;
  }

  /** Where the record says that its copies are. */
  located(segment: SegmentId): readonly Incarnation[] {
    return this.#known.get(segment)?.replicas ?? [];
  }

  deletable(segment: SegmentId): boolean {
    const place = this.#known.get(segment)?.place;
    return place === 'pendingDelete' || place === 'gone';
  }

  /** Deleted, and not even listed for deletion any more. */
  isGone(segment: SegmentId): boolean {
    return this.#known.get(segment)?.place === 'gone';
  }

  sealedAt(segment: SegmentId): { readonly end: number; readonly crc: number } | null {
    return this.#known.get(segment)?.seal ?? null;
  }

  record(volume: VolumeId): VolumeRecord | null {
    return this.#volume(volume).record;
  }

  ackedCount(volume: VolumeId): number {
    return this.#volume(volume).acked.length;
  }

  #volume(id: VolumeId): VolumeGhost {
    let ghost = this.#volumes.get(id);
    if (ghost === undefined) {
      ghost = { record: null, final: [], sealed: new Set(), acked: [], firstAck: new Map() };
      this.#volumes.set(id, ghost);
    }
    return ghost;
  }

  /** A swap of a volume record has been applied. */
  changed(record: VolumeRecord): void {
    const ghost = this.#volume(record.volume);
    const before = ghost.record;
    const what = `volume ${short(record.volume)}`;
    must(record.open.length <= 2, 9, () => `${what} has ${record.open.length} open segments`);
    must(before === null || record.epoch >= before.epoch, 6, () => `${what}: the epoch falls`);
    ghost.record = record;
    const seen = new Set<SegmentId>();
    for (const place of ['planned', 'open', 'sealed', 'pendingDelete'] as const) {
      for (const segment of record[place]) {
        must(!seen.has(segment.segment), 9, () => `${short(segment.segment)} stands twice`);
        seen.add(segment.segment);
        this.#moved(record, segment, place);
      }
    }
    for (const [segment, known] of this.#known) {
      if (known.volume !== record.volume || seen.has(segment) || known.place === 'gone') continue;
      must(known.place === 'pendingDelete', 9, () => {
        return `${short(segment)} vanishes from ${known.place}`;
      });
      known.place = 'gone';
    }
    this.#extendLog(ghost, record);
    if (before !== null) this.#checkDecision(before, record);
  }

  /** Its replicas were changed beside the owners: from now on these are the ones. */
  moved(segment: PlannedSegment): void {
    const known = this.#known.get(segment.segment);
    if (known !== undefined) known.shape = shapeOf(segment);
  }

  #moved(record: VolumeRecord, segment: PlannedSegment, place: Place): void {
    const { replicas } = segment;
    const shape = shapeOf(segment);
    const known = this.#known.get(segment.segment);
    const name = short(segment.segment);
    if (known === undefined) {
      must(place === 'planned', 9, () => `${name} appears as ${place}`);
      this.#known.set(segment.segment, {
        volume: record.volume,
        shape,
        replicas: replicas.map((replica) => replica.incarnation),
        placed: {
          replicas: replicas.map((replica) => replica.incarnation),
          ackQuorum: record.ackQuorum,
        },
        place,
        seal: null,
      });
      return;
    }
    must(known.volume === record.volume, 9, () => `${name} is of two volumes`);
    if (known.shape !== shape) {
      must(known.place === 'sealed', 9, () => `the replicas of ${name} change`);
      this.#relocated(record, known, segment);
      known.shape = shape;
    }
    must(LADDER.indexOf(place) >= LADDER.indexOf(known.place), 9, () => {
      return `${name} goes from ${known.place} back to ${place}`;
    });
    if (place === 'pendingDelete' && known.place !== 'pendingDelete') {
      const acked = this.#segments.get(segment.segment)?.ackedEnd ?? 0;
      must(known.place === 'sealed' || acked === 0, 1, () => {
        return `${name} is given up with acknowledged bytes up to ${acked}`;
      });
    }
    if (place === 'sealed') this.#sealing(record, known, segment as SealedSegment);
    known.place = place;
  }

  /** Invariant 18: whatever repair does, no segment has fewer good copies because of it. */
  #relocated(record: VolumeRecord, known: KnownSegment, segment: PlannedSegment): void {
    const name = short(segment.segment);
    const isGood = (disk: Incarnation): boolean => {
      const claim = this.#replicas?.claim(disk, segment.segment);
      return claim?.sealedEnd === known.seal?.end && claim?.deleted === false;
    };
    const now = segment.replicas.map((replica) => replica.incarnation);
    for (const disk of now) {
      must(known.replicas.includes(disk) || isGood(disk), 18, () => {
        return `${name} is said to be on ${short(disk)}, which has no whole copy`;
      });
    }
    const before = known.replicas.filter(isGood).length;
    const after = now.filter(isGood).length;
    must(after >= Math.min(before, record.replicas), 18, () => {
      return `${name} goes from ${before} good copies to ${after}`;
    });
    known.replicas = now;
  }

  #sealing(record: VolumeRecord, known: KnownSegment, sealed: SealedSegment): void {
    const name = short(sealed.segment);
    const { end, endLsn, crc } = sealed;
    if (known.seal !== null) {
      const { seal } = known;
      must(seal.end === end && seal.endLsn === endLsn && seal.crc === crc, 5, () => {
        return `the end of ${name} changes from ${seal.end} to ${end}`;
      });
      return;
    }
    known.seal = sealed;
    const acked = this.#segments.get(sealed.segment)?.ackedEnd ?? 0;
    must(end >= acked, 5, () => `${name} is sealed at ${end}, acknowledged up to ${acked}`);
    const holders = known.placed.replicas.filter((disk) => {
      return (this.#replicas?.claim(disk, sealed.segment)?.durable ?? 0) >= end;
    });
    must(holders.length >= record.ackQuorum, 4, () => {
      return `${name} is sealed at ${end}, which ${holders.length} replicas hold`;
    });
  }

  /** Newly sealed segments continue the log where it ended, with what was acknowledged. */
  #extendLog(ghost: VolumeGhost, record: VolumeRecord): void {
    for (const [index, sealed] of record.sealed.entries()) {
      if (ghost.sealed.has(sealed.segment)) continue;
      ghost.sealed.add(sealed.segment);
      this.#append(ghost, sealed, record.sealed[index - 1]);
    }
    // Whatever is acknowledged must be below the end, or in a segment that is still open.
    for (let lsn = ghost.final.length; lsn < ghost.acked.length; lsn++) {
      if (ghost.acked[lsn] === undefined) continue;
      const inOpen = record.open.some((open) => {
        return this.#segments.holding(open.segment, lsn) !== null;
      });
      must(
        inOpen,
        1,
        () => `acknowledged LSN ${lsn} is lost: the log ends at ${ghost.final.length}`,
      );
    }
  }

  #append(ghost: VolumeGhost, sealed: SealedSegment, before: SealedSegment | undefined): void {
    const name = short(sealed.segment);
    if (sealed.end === 0) {
      must(sealed.crc === 0, 5, () => `empty ${name} has a crc`);
      must(sealed.endLsn === (before?.endLsn ?? 0), 1, () => `empty ${name} moves the LSN`);
      return;
    }
    const segment = this.#segments.get(sealed.segment);
    const last = this.#segments.endingAt(sealed.segment, sealed.end);
    if (segment === null || last === null) {
      throw new Violation(2, `${name} is sealed at ${sealed.end}, where no batch ends`);
    }
    must(last.crc === sealed.crc, 2, () => `${name} is sealed with another crc`);
    must(last.firstLsn + last.records.length === sealed.endLsn, 2, () => {
      return `${name} ends with LSN ${last.firstLsn + last.records.length}, not ${sealed.endLsn}`;
    });
    const { previous } = segment.header;
    must(
      before === undefined
        ? previous === null
        : previous?.segment === before.segment &&
            previous.end === before.end &&
            previous.endLsn === before.endLsn,
      2,
      () => `${name} does not continue the segment before it`,
    );
    const start = before?.endLsn ?? 0;
    must(segment.batches[0]?.firstLsn === start, 1, () => {
      return `${name} begins with LSN ${segment.batches[0]?.firstLsn}, the log ends at ${start}`;
    });
    for (const batch of segment.batches) {
      if (batch.end > sealed.end) break;
      for (const [index, crc] of batch.records.entries()) {
        this.#final(ghost, batch.firstLsn + index, crc);
      }
    }
  }

  #final(ghost: VolumeGhost, lsn: number, crc: number): void {
    const known = ghost.final[lsn];
    must(known === undefined || known === crc, 2, () => `LSN ${lsn} of the log changes`);
    must(lsn <= ghost.final.length, 1, () => `the log has no LSN ${ghost.final.length}`);
    ghost.final[lsn] = crc;
    const acked = ghost.acked[lsn];
    must(acked === undefined || acked === crc, 1, () => {
      return `acknowledged LSN ${lsn} has other bytes in the log`;
    });
  }

  /**
   * A takeover's last swap: R valid replies must carry what it decided for each old open segment.
   */
  #checkDecision(before: VolumeRecord, after: VolumeRecord): void {
    const old = before.open.filter((open) => open.createEpoch < after.epoch);
    const kept = old.filter((open) => !after.open.some((one) => one.segment === open.segment));
    if (kept.length === 0 || after.epoch !== before.epoch) return;
    let last = true;
    for (const open of kept.reverse()) {
      const needed = open.replicas.length - after.ackQuorum + 1;
      const end = this.#known.get(open.segment)?.seal?.end ?? null;
      this.#checkFences(open, after.epoch, needed, last ? (end ?? 0) : null);
      if (end !== null) last = false;
    }
  }

  #checkFences(open: PlannedSegment, epoch: number, needed: number, end: number | null): void {
    const replies = this.#replicas?.fences(open.segment, epoch) ?? new Map();
    const listed = new Set<Incarnation>(open.replicas.map((replica) => replica.incarnation));
    const valid = [...replies].filter(
      ([disk, reply]) => listed.has(disk) && reply.suspectFrom === null,
    );
    const name = short(open.segment);
    must(valid.length >= needed, 10, () => {
      return `the end of ${name} is decided on ${valid.length} valid fences, ${needed} are needed`;
    });
    if (end === null) return;
    // The end is the maximum of at least R of them, so at least R are no longer than it.
    const within = valid.filter(([, reply]) => reply.length <= end);
    must(within.length >= needed, 10, () => {
      const lengths = valid.map(([, reply]) => reply.length).join(', ');
      return `the end of ${name} is decided as ${end}, the valid fences say ${lengths}`;
    });
  }

  /** An owner has acknowledged a record. */
  acknowledged(ack: {
    readonly volume: VolumeId;
    readonly epoch: number;
    readonly lsn: number;
    readonly crc: number;
    readonly segment: SegmentId;
    readonly now: number;
  }): void {
    const { volume, lsn, crc, segment } = ack;
    const ghost = this.#volume(volume);
    const known = this.#known.get(segment);
    const name = `LSN ${lsn} in ${short(segment)}`;
    must(known?.place === 'open' || known?.place === 'sealed', 8, () => {
      return `${name} is acknowledged in a segment that is ${known?.place ?? 'not registered'}`;
    });
    const batch = this.#segments.holding(segment, lsn);
    const content = this.#segments.get(segment);
    if (batch === null || content === null || known === undefined) {
      throw new Violation(1, `${name} is acknowledged and was never sent there`);
    }
    must(batch.records[lsn - batch.firstLsn] === crc, 1, () => `${name} has other bytes`);
    must(content.frozenAt === null || batch.end <= content.frozenAt, 8, () => {
      return `${name} is acknowledged through a segment frozen at ${content.frozenAt}`;
    });
    must(known.seal === null || batch.end <= known.seal.end, 5, () => {
      return `${name} is acknowledged above the sealed end ${known.seal?.end}`;
    });
    // An owner that was paused hears of what it was answered after repair may have dropped a copy.
    const holders = known.placed.replicas.filter((disk) => {
      const claim = this.#replicas?.claim(disk, segment);
      const said = claim?.deleted === true ? claim.appended : claim?.durable;
      return (said ?? 0) >= batch.end;
    });
    must(holders.length >= known.placed.ackQuorum, 11, () => {
      return `${name} is acknowledged, and ${holders.length} replicas have said it is durable`;
    });
    const final = ghost.final[lsn];
    must(final === undefined || final === crc, 1, () => `${name} is not what the log holds`);
    must(ghost.acked[lsn] === undefined, 1, () => `${name} is acknowledged twice`);
    must(lsn === 0 || lsn <= Math.max(ghost.acked.length, ghost.final.length), 1, () => {
      return `${name} is acknowledged before LSN ${ghost.acked.length}`;
    });
    ghost.acked[lsn] = crc;
    content.ackedEnd = Math.max(content.ackedEnd, batch.end);
    if (!ghost.firstAck.has(ack.epoch)) ghost.firstAck.set(ack.epoch, ack.now);
  }

  /** Invariant 12: no newer owner had acknowledged anything when this read began. */
  read(read: { readonly volume: VolumeId; readonly epoch: number; readonly began: number }): void {
    for (const [epoch, first] of this.#volume(read.volume).firstAck) {
      must(epoch <= read.epoch || first >= read.began, 12, () => {
        return (
          `epoch ${read.epoch} served a read that began at ${read.began.toFixed(1)}, after ` +
          `epoch ${epoch} had acknowledged at ${first.toFixed(1)}`
        );
      });
    }
  }

  /** Invariants 14 and 15: a replay gives exactly the log. */
  replayed(volume: VolumeId, lsn: number, expected: number, crc: number): void {
    const ghost = this.#volume(volume);
    must(lsn === expected, 14, () => `replay gives LSN ${lsn}, ${expected} is next`);
    const final = ghost.final[lsn];
    const acked = ghost.acked[lsn];
    must(final === undefined || final === crc, 14, () => `replay gives other bytes for LSN ${lsn}`);
    must(acked === undefined || acked === crc, 15, () => `replay lost acknowledged LSN ${lsn}`);
  }

  replayEnded(next: number, ackedBefore: number): void {
    must(next >= ackedBefore, 15, () => {
      return `replay ends at LSN ${next}, ${ackedBefore} had been acknowledged`;
    });
  }
}

function shapeOf({ group, createEpoch, replicas }: PlannedSegment): string {
  return JSON.stringify([group, createEpoch, replicas]);
}
