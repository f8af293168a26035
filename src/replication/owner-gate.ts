/**
 * Whether a volume may be answered for from memory, as a gate that requests pass one by one (the
 * FUSE session's): open while the read lease runs, which is one comparison a request. While it has
 * lapsed a request waits until the replicas have renewed it, or learns that the volume is lost. A
 * mount that nobody uses sends nothing; the first request after that PINGs.
 */
import type { HoldfastError } from '../core/errors.js';

/** What of LogOwner this needs. */
export interface LeasedOwner {
  readonly leaseHeld: boolean;
  checkLease(done: (error: HoldfastError | null) => void): void;
}

export interface OwnerGate {
  readonly open: boolean;
  /** Calls back when it has opened, or with FENCED, CLOSED or INCONSISTENT: it never will. */
  wait(done: (error: HoldfastError | null) => void): void;
}

export function ownerGate(owner: LeasedOwner): OwnerGate {
  return {
    get open(): boolean {
      return owner.leaseHeld;
    },
    wait: (done) => owner.checkLease(done),
  };
}
