/**
 * A storage node's disks behind one door: finds the disk that a request names by its incarnation,
 * and answers status requests. One disk's failure or stall leaves the others alone.
 *
 * INVARIANT: INCARNATION says that the life that was meant is over. A disk that could not be opened
 * is not gone: what is meant for it is answered with DISK, also while it is not known which it is.
 */
import type { HoldfastError } from '../core/errors.js';
import {
  type Incarnation,
  NO_DISK,
  type NodeId,
  type SegmentId,
  type VolumeId,
} from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import type { DiskStore } from './disk-store.js';
import type { DiskStats, ReplyCallback, SegmentInspection } from './disk-store-api.js';
import { type DiskStatus, plainReply, type Reply, type Request } from './wire/messages.js';

export interface StorageNodeOptions {
  readonly node: NodeId;
  readonly zone: string;
  readonly version: string;
  readonly stores: readonly DiskStore[];
  readonly clock: Clock;
}

export interface DiskFailure {
  readonly disk: string;
  readonly error: HoldfastError;
}

export class StorageNode {
  readonly #options: StorageNodeOptions;
  readonly #byIncarnation = new Map<Incarnation, DiskStore>();
  /** Disks that could not be opened, and did not say which they are. */
  #unidentified = 0;

  constructor(options: StorageNodeOptions) {
    this.#options = options;
  }

  /** Opens all disks at once; those that fail are reported, and answer DISK from then on. */
  open(done: (failures: readonly DiskFailure[]) => void): void {
    const { stores } = this.#options;
    const failures: DiskFailure[] = [];
    let waiting = stores.length;
    if (waiting === 0) {
      done(failures);
      return;
    }
    for (const store of stores) {
      store.open((error) => {
        if (error !== null) failures.push({ disk: store.name, error });
        if (store.incarnation === '') this.#unidentified += 1;
        else this.#byIncarnation.set(store.incarnation, store);
        waiting -= 1;
        if (waiting === 0) done(failures);
      });
    }
  }

  /** Handles a request; `reply` is called once, perhaps before this call returns. */
  handle(request: Request, reply: ReplyCallback): void {
    if (request.type === 'status') {
      reply(this.#status(request.incarnation));
      return;
    }
    const store = this.#byIncarnation.get(request.incarnation);
    if (store !== undefined) {
      store.handle(request, reply);
      return;
    }
    if (request.type === 'fence') {
      // A FENCE may still fence what another disk of ours knows; that disk's incarnation in the
      // reply keeps it from counting.
      for (const other of this.#byIncarnation.values()) {
        if (other.knows(request.segment)) {
          other.handle(request, reply);
          return;
        }
      }
    }
    if (this.#unidentified > 0) {
      reply(plainReply('DISK', request.incarnation));
      return;
    }
    const [only] = this.#byIncarnation.keys();
    reply(plainReply('INCARNATION', only ?? NO_DISK));
  }

  #status(asked: Incarnation): Reply {
    const { node, zone, version, clock } = this.#options;
    const wallMs = Math.max(0, Math.round(clock.wall()));
    const disks = [...this.#byIncarnation.values()].map((store): DiskStatus => {
      const { incarnation, state, totalBytes, freeBytes, segments } = store.stats();
      const shown = state === 'ok' || state === 'full' ? state : 'failed';
      return { incarnation, state: shown, totalBytes, freeBytes, segments };
    });
    const incarnation = this.#byIncarnation.has(asked) ? asked : (disks[0]?.incarnation ?? asked);
    const body = { type: 'status', node, zone, version, disks, wallMs } as const;
    return { ...plainReply('OK', incarnation), body };
  }

  /** What is known of the disks that were opened. */
  inspect(): { readonly incarnation: Incarnation; readonly segments: SegmentInspection[] }[] {
    const opened = [...this.#byIncarnation].filter(([, store]) => store.opened);
    return opened.map(([incarnation, store]) => ({ incarnation, segments: store.inspect() }));
  }

  stats(): DiskStats[] {
    return [...this.#byIncarnation.values()].map((store) => store.stats());
  }

  /** Of one disk: DiskStore.takeRotten. */
  takeRotten(incarnation: Incarnation): (readonly [SegmentId, VolumeId])[] {
    return this.#byIncarnation.get(incarnation)?.takeRotten() ?? [];
  }

  /** Stops all disks. */
  stop(done: () => void): void {
    let waiting = this.#options.stores.length;
    if (waiting === 0) {
      done();
      return;
    }
    for (const store of this.#options.stores) {
      store.stop(() => {
        waiting -= 1;
        if (waiting === 0) done();
      });
    }
  }
}
