/**
 * A storage node's disks behind one door: finds the disk that a request names by its incarnation, and
 * answers status requests. One disk's failure or stall leaves the others alone.
 */
import type { HoldfastError } from '../core/errors.js';
import type { Incarnation, NodeId } from '../core/ids.js';
import type { DiskStore } from './disk-store.js';
import type { DiskStats, ReplyCallback, SegmentInspection } from './disk-store-api.js';
import type { Request } from './wire/messages.js';

export interface StorageNodeOptions {
  readonly node: NodeId;
  readonly zone: string;
  readonly version: string;
  readonly stores: readonly DiskStore[];
}

export class StorageNode {
  constructor(_options: StorageNodeOptions) {}

  /** Opens all disks; those that fail are left out and reported. */
  open(
    _done: (failures: readonly { readonly disk: string; readonly error: HoldfastError }[]) => void,
  ): void {}

  /** Handles a request; `reply` is called once, perhaps before this call returns. */
  handle(_request: Request, _reply: ReplyCallback): void {}

  inspect(): { readonly incarnation: Incarnation; readonly segments: SegmentInspection[] }[] {
    return [];
  }

  stats(): DiskStats[] {
    return [];
  }

  /** Stops all disks. */
  stop(_done: () => void): void {}
}
