/**
 * The storage engine of one disk: answers every request that concerns a segment. One event loop owns
 * all of a disk's state; each event is applied at once, and replies leave when what they state is
 * durable.
 */
import type { HoldfastError } from '../core/errors.js';
import type { ClusterId, Incarnation, NodeId } from '../core/ids.js';
import type { Disk } from '../io/disk.js';
import type { Random } from '../io/random.js';
import type {
  DiskState,
  DiskStats,
  DiskStoreOptions,
  ReplyCallback,
  SegmentInspection,
} from './disk-store-api.js';
import type { Request } from './wire/messages.js';

export class DiskStore {
  constructor(_options: DiskStoreOptions) {}

  /** Writes superblock and journal of an empty disk. ALREADY_EXISTS when it holds one. */
  static format(
    _disk: Disk,
    _identity: {
      readonly cluster: ClusterId;
      readonly node: NodeId;
      readonly journalBytes: number;
    },
    _random: Random,
    _done: (error: HoldfastError | null, incarnation: Incarnation | null) => void,
  ): void {}

  /** The disk's current life; known once open() has called back without an error. */
  get incarnation(): Incarnation {
    return '' as Incarnation;
  }

  get state(): DiskState {
    return 'closed';
  }

  /** Recovers what the disk holds. Requests are refused until `done`. */
  open(_done: (error: HoldfastError | null) => void): void {}

  /** Handles a request; `reply` is called once, perhaps before this call returns. */
  handle(_request: Request, _reply: ReplyCallback): void {}

  inspect(): SegmentInspection[] {
    return [];
  }

  stats(): DiskStats {
    throw new Error('not yet');
  }

  /** Lets what is under way become durable, then closes. Idempotent. */
  stop(_done: () => void): void {}
}
