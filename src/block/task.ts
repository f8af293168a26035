/** What the parts that carry requests out share, and how replies are made. */
import type { Confirmations } from '../core/confirmations.js';
import type { Incarnation, SegmentId, VolumeId } from '../core/ids.js';
import { epoch, offset } from '../core/units.js';
import type { ReplyCallback } from './disk-store-api.js';
import type { Engine } from './engine.js';
import type { Segment } from './replica-state.js';
import type { Reply, StatusName } from './wire/messages.js';
import type { NodeRequests } from './wire/requests.js';

const NOWHERE = offset(0);
const NEVER = epoch(0);

/** Makes replies in the name of a disk's current life. */
export class Replies {
  incarnation = '' as Incarnation;
  /** Sealed copies of which a page could not be read or verified, until somebody takes them. */
  readonly rotten = new Map<SegmentId, VolumeId>();
  readonly counts = { reads: 0, bytesRead: 0, checksumFailures: 0, repairedBytes: 0, waiting: 0 };

  send(
    reply: ReplyCallback,
    status: StatusName,
    state: Segment | null | undefined,
    body: Reply['body'] = null,
  ): void {
    reply({
      status,
      incarnation: this.incarnation,
      durableLength: state?.durableLength ?? NOWHERE,
      maxEpoch: state?.maxEpoch ?? NEVER,
      body,
    });
  }
}

export interface Task {
  readonly engine: Engine;
  readonly replies: Replies;
  readonly confirmations: Confirmations;
  readonly requests: NodeRequests;
  /** Segments of which COPYs wait for their confirmation, and how many. */
  readonly copies: Map<SegmentId, number>;
}
