/**
 * All checkers behind one door: what the world observes goes in, a Violation comes out. They know
 * only what was said and swapped, never why, so that no bug of the product can hide in its own
 * opinion of itself.
 */
import type { SegmentInspection } from '../../src/block/disk-store-api.js';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import { crc32 } from '../../src/core/checksum.js';
import type { Incarnation, VolumeId } from '../../src/core/ids.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import type { Appended, ReplayedRecord } from '../../src/replication/owner-api.js';
import { ReplicaGhosts } from './checks/replicas.js';
import { SegmentGhosts } from './checks/segments.js';
import { VolumeGhosts } from './checks/volumes.js';
import { Violation } from './violation.js';

export class Checkers {
  readonly segments = new SegmentGhosts();
  readonly volumes = new VolumeGhosts(this.segments);
  readonly replicas = new ReplicaGhosts(this.volumes);
  /** The first violation; product code may catch what is thrown through it. */
  violation: Violation | null = null;

  constructor() {
    this.volumes.connect(this.replicas);
  }

  #check(check: () => void): void {
    try {
      check();
    } catch (thrown) {
      if (thrown instanceof Violation) this.violation ??= thrown;
      throw thrown;
    }
  }

  fail(violation: Violation): never {
    this.violation ??= violation;
    throw violation;
  }

  /** An owner hands a request to the network. */
  sent(request: Request): void {
    this.#check(() => {
      if (request.type === 'append') this.segments.sent(request.batch[0] as Uint8Array);
      if (request.type === 'recover') {
        this.segments.recovered(request.segment, request.offset, request.bytes);
      }
    });
  }

  /** A node hands out a reply. */
  replied(request: Request, reply: Reply): void {
    this.#check(() => this.replicas.replied(request, reply));
  }

  reopened(incarnation: Incarnation, found: readonly SegmentInspection[]): void {
    this.#check(() => this.replicas.reopened(incarnation, found));
  }

  changed(record: VolumeRecord): void {
    this.#check(() => this.volumes.changed(record));
  }

  acknowledged(
    volume: VolumeId,
    epoch: number,
    crc: number,
    appended: Appended,
    now: number,
  ): void {
    const { lsn, segment } = appended;
    this.#check(() => this.volumes.acknowledged({ volume, epoch, lsn, crc, segment, now }));
  }

  read(volume: VolumeId, epoch: number, began: number): void {
    this.#check(() => this.volumes.read({ volume, epoch, began }));
  }

  replayed(volume: VolumeId, expected: number, replayed: ReplayedRecord): void {
    this.#check(() => {
      this.volumes.replayed(volume, replayed.lsn, expected, crc32(replayed.record));
    });
  }

  replayEnded(next: number, ackedBefore: number): void {
    this.#check(() => this.volumes.replayEnded(next, ackedBefore));
  }
}
