/**
 * What each disk has said about each segment, in each of its lives: it must never take back a
 * durable length (11), an epoch (6) or a segment; after R valid fences no quorum may grow beyond
 * them (7); nothing is acknowledged after a failed flush (11); and only what pendingDelete lists is
 * deleted (13).
 */
import type { SegmentInspection } from '../../../src/block/disk-store-api.js';
import type { Reply, Request } from '../../../src/block/wire/messages.js';
import type { Incarnation, SegmentId } from '../../../src/core/ids.js';
import { must, short } from '../violation.js';

export interface SegmentClaim {
  /** The longest prefix said to be durable. */
  durable: number;
  /** The longest prefix acknowledged to an APPEND. */
  appended: number;
  maxEpoch: number;
  created: boolean;
  sealedEnd: number | null;
  deleted: boolean;
}

export interface FenceReply {
  readonly length: number;
  readonly suspectFrom: number | null;
}

interface DiskGhost {
  readonly claims: Map<SegmentId, SegmentClaim>;
  /** Permanent damage was done to it: lengths may shrink if it says that they are suspect. */
  damaged: boolean;
  /** A flush failed in this life of its program. */
  flushFailed: boolean;
}

export interface PlacedSegment {
  readonly replicas: readonly Incarnation[];
  readonly ackQuorum: number;
}

/** What the replica checks need to know of the records. */
export interface Placements {
  placed(segment: SegmentId): PlacedSegment | null;
  deletable(segment: SegmentId): boolean;
  located(segment: SegmentId): readonly Incarnation[];
  sealedAt(segment: SegmentId): { readonly end: number; readonly crc: number } | null;
}

export class ReplicaGhosts {
  readonly #placements: Placements;
  readonly #disks = new Map<Incarnation, DiskGhost>();
  /** Segment → epoch → disk → its first valid answer to a FENCE. */
  readonly #fences = new Map<SegmentId, Map<number, Map<Incarnation, FenceReply>>>();

  constructor(placements: Placements) {
    this.#placements = placements;
  }

  #disk(incarnation: Incarnation): DiskGhost {
    let disk = this.#disks.get(incarnation);
    if (disk === undefined) {
      disk = { claims: new Map(), damaged: false, flushFailed: false };
      this.#disks.set(incarnation, disk);
    }
    return disk;
  }

  #claim(disk: DiskGhost, segment: SegmentId): SegmentClaim {
    let claim = disk.claims.get(segment);
    if (claim === undefined) {
      claim = {
        durable: 0,
        appended: 0,
        maxEpoch: 0,
        created: false,
        sealedEnd: null,
        deleted: false,
      };
      disk.claims.set(segment, claim);
    }
    return claim;
  }

  claim(incarnation: Incarnation, segment: SegmentId): SegmentClaim | null {
    return this.#disks.get(incarnation)?.claims.get(segment) ?? null;
  }

  fences(segment: SegmentId, epoch: number): ReadonlyMap<Incarnation, FenceReply> {
    return this.#fences.get(segment)?.get(epoch) ?? new Map();
  }

  damaged(incarnation: Incarnation): void {
    this.#disk(incarnation).damaged = true;
  }

  isDamaged(incarnation: Incarnation): boolean {
    return this.#disk(incarnation).damaged;
  }

  flushFailed(incarnation: Incarnation): void {
    this.#disk(incarnation).flushFailed = true;
  }

  /** A node's disk hands out a reply. */
  replied(request: Request, reply: Reply): void {
    if (!('segment' in request) || request.type === 'read') return;
    const disk = this.#disk(reply.incarnation);
    const claim = this.#claim(disk, request.segment);
    const what = (): string => {
      return `${request.type} ${short(request.segment)} on disk ${short(reply.incarnation)}`;
    };
    this.#checkEpoch(disk, claim, request, reply, what);
    if (reply.status !== 'OK' && reply.status !== 'GAP') return;
    must(reply.status !== 'OK' || !disk.flushFailed, 11, () => {
      return `${what()} is acknowledged after a failed flush`;
    });
    if (request.type === 'delete') {
      if (reply.status === 'OK') this.#deleted(claim, request.segment, what);
      return;
    }
    if (request.type === 'drop') {
      if (reply.status === 'OK') this.#dropped(claim, request, what);
      return;
    }
    if (request.type === 'seal' || request.type === 'copy') {
      if (reply.status === 'OK') this.#sealed(claim, request, what);
      return;
    }
    this.#checkLength(disk, claim, request.segment, reply, what);
    if (request.type === 'fence' && reply.status === 'OK') this.#fenced(request, reply, claim);
    if (request.type === 'create' && reply.status === 'OK') claim.created = true;
    if (request.type === 'append' && reply.status === 'OK') {
      claim.appended = Math.max(claim.appended, reply.durableLength);
      this.#checkFenced(request.segment, request.epoch);
    }
  }

  #checkEpoch(
    disk: DiskGhost,
    claim: SegmentClaim,
    request: Request,
    reply: Reply,
    what: () => string,
  ): void {
    if (reply.status === 'UNKNOWN' || reply.status === 'INCARNATION') return;
    if (reply.status === 'OK' && (request.type === 'append' || request.type === 'ping')) {
      must(request.epoch >= claim.maxEpoch, 6, () => {
        return `${what()} of epoch ${request.epoch} after a fence at ${claim.maxEpoch}`;
      });
    }
    if (reply.maxEpoch === 0) return;
    must(reply.maxEpoch >= claim.maxEpoch || claim.deleted || disk.damaged, 6, () => {
      return `${what()}: maxEpoch fell from ${claim.maxEpoch} to ${reply.maxEpoch}`;
    });
    // An epoch counts from when it was promised: fenced at it, or told as a fact.
    if (request.type === 'fence' && reply.status === 'OK') {
      claim.maxEpoch = Math.max(claim.maxEpoch, request.epoch);
    }
  }

  #checkLength(
    disk: DiskGhost,
    claim: SegmentClaim,
    segment: SegmentId,
    reply: Reply,
    what: () => string,
  ): void {
    const { body, durableLength } = reply;
    const suspect = body?.type === 'fence' ? body.suspectFrom : null;
    // A SEAL cuts before it is answered; the record must say so by then.
    const cut = this.#placements.sealedAt(segment)?.end ?? Number.POSITIVE_INFINITY;
    const floor = Math.min(claim.sealedEnd ?? claim.durable, cut);
    if (durableLength < floor && !(disk.damaged && suspect !== null)) {
      must(false, 11, () => `${what()}: durable length fell from ${floor} to ${durableLength}`);
    }
    if (suspect === null) claim.durable = Math.max(claim.durable, durableLength);
  }

  #fenced(request: Request & { type: 'fence' }, reply: Reply, claim: SegmentClaim): void {
    if (request.incarnation !== reply.incarnation || reply.body?.type !== 'fence') return;
    const { segment, epoch } = request;
    const epochs = this.#fences.get(segment) ?? new Map<number, Map<Incarnation, FenceReply>>();
    this.#fences.set(segment, epochs);
    const replies = epochs.get(epoch) ?? new Map<Incarnation, FenceReply>();
    epochs.set(epoch, replies);
    claim.maxEpoch = Math.max(claim.maxEpoch, epoch);
    if (replies.has(reply.incarnation)) return;
    const { suspectFrom } = reply.body;
    replies.set(reply.incarnation, { length: reply.durableLength, suspectFrom });
  }

  /** Invariant 7: after R valid fences, no quorum acknowledges more than the longest of them. */
  #checkFenced(segment: SegmentId, appendEpoch: number): void {
    const placed = this.#placements.placed(segment);
    const epochs = this.#fences.get(segment);
    if (placed === null || epochs === undefined) return;
    const needed = placed.replicas.length - placed.ackQuorum + 1;
    for (const [epoch, replies] of epochs) {
      if (epoch <= appendEpoch) continue;
      const valid = [...replies].filter(
        ([disk, reply]) => reply.suspectFrom === null && placed.replicas.includes(disk),
      );
      if (valid.length < needed) continue;
      const longest = Math.max(...valid.map(([, reply]) => reply.length));
      const beyond = placed.replicas.filter((disk) => {
        return (this.claim(disk, segment)?.appended ?? 0) > longest;
      });
      must(beyond.length < placed.ackQuorum, 7, () => {
        return `${short(segment)} grows beyond ${longest} on a quorum after its fence at ${epoch}`;
      });
    }
  }

  #deleted(claim: SegmentClaim, segment: SegmentId, what: () => string): void {
    must(this.#placements.deletable(segment), 13, () => {
      return `${what()}: the segment is not in pendingDelete`;
    });
    claim.deleted = true;
  }

  /** Invariant 18: no copy that the record names is removed, nor one before those are whole. */
  #dropped(
    claim: SegmentClaim,
    { segment, incarnation }: Request & { type: 'drop' },
    what: () => string,
  ): void {
    const listed = this.#placements.located(segment);
    const isOver = this.#placements.deletable(segment);
    must(!listed.includes(incarnation) || isOver, 18, () => {
      return `${what()}: the record names this copy`;
    });
    const end = this.#placements.sealedAt(segment)?.end ?? 0;
    const lacking = listed.find((disk) => (this.claim(disk, segment)?.durable ?? 0) < end);
    must(lacking === undefined || isOver, 18, () => {
      return `${what()}: disk ${short(lacking ?? '')}, which is listed, is not whole`;
    });
    claim.deleted = true;
    claim.durable = 0;
    claim.sealedEnd = null;
    claim.created = false;
  }

  #sealed(
    claim: SegmentClaim,
    request: Request & { type: 'seal' | 'copy' },
    what: () => string,
  ): void {
    const seal = this.#placements.sealedAt(request.segment);
    must(seal !== null && seal.end === request.end && seal.crc === request.crc, 5, () => {
      return `${what()} at ${request.end}, which the record does not say`;
    });
    claim.deleted = false;
    claim.sealedEnd = request.end;
    claim.durable = request.end;
  }

  /** A disk's program has started again and found this. */
  reopened(incarnation: Incarnation, found: readonly SegmentInspection[]): void {
    const disk = this.#disk(incarnation);
    disk.flushFailed = false;
    const bySegment = new Map(found.map((one) => [one.segment, one]));
    for (const [segment, claim] of disk.claims) {
      const now = bySegment.get(segment);
      const what = (): string => `${short(segment)} on disk ${short(incarnation)} after a restart`;
      if (claim.deleted || now?.deleted === true) continue;
      if (claim.durable === 0 && claim.maxEpoch === 0 && !claim.created) continue;
      if (now === undefined) {
        // A damaged disk may forget even that it knew a segment; whatever it then says of it is
        // checked.
        must(disk.damaged, 11, () => `${what()}: gone, though it had said ${claim.durable} bytes`);
        continue;
      }
      // A suspect replica promises and acknowledges nothing, so a fence that it lost cannot be
      // missed.
      const harmless = now.suspectFrom !== null || now.sealedEnd !== null;
      must(now.maxEpoch >= claim.maxEpoch || (disk.damaged && harmless), 6, () => {
        return `${what()}: maxEpoch ${now.maxEpoch}, had been ${claim.maxEpoch}`;
      });
      const cut = this.#placements.sealedAt(segment)?.end ?? Number.POSITIVE_INFINITY;
      const floor = Math.min(claim.sealedEnd ?? claim.durable, cut);
      const excused = disk.damaged && now.suspectFrom !== null;
      must(now.durableLength >= floor || excused, 11, () => {
        return `${what()}: ${now.durableLength} bytes, had acknowledged ${floor}`;
      });
    }
  }
}
