/**
 * SEAL, DELETE and DROP: what may be done only when a linearizable read of the metadata store says
 * so. Nothing is touched before the answer, and the segment's state is looked at again after it.
 */
import { asFault, HoldfastError } from '../core/errors.js';
import type { SegmentOffset } from '../core/units.js';
import type { DiskFile } from '../io/disk.js';
import { walkChain } from './chain.js';
import type { ReplyCallback } from './disk-store-api.js';
import { newSegment, type Segment } from './replica-state.js';
import { decide, recentCrc } from './segment-table.js';
import type { Task } from './task.js';
import type { DeleteRequest, DropRequest, SealRequest, StatusName } from './wire/messages.js';

const REMOVE_RETRY_MS = 20;
/** Programs that know older formats only would take what a DROP leaves for a deletion. */
const FORMAT_WITH_DROP = 2;

/** Seals a replica that holds [0, end); one that is shorter is no copy and answers GAP. */
export function confirmSeal(
  task: Task,
  state: Segment,
  request: SealRequest,
  reply: ReplyCallback,
): void {
  const { engine, replies, confirmations } = task;
  const { volume, segment, end, crc } = request;
  const finish = (status: StatusName): void => {
    if (!state.sealed) state.frozen = false;
    replies.send(reply, status, state);
  };
  if (state.sealed) {
    engine.barrier(state, (failure) => replies.send(reply, failure ?? 'OK', state));
    return;
  }
  confirmations.sealed(volume, segment, end, crc, (answer) => {
    if (engine.state === 'failed') return replies.send(reply, 'DISK', state);
    if (answer !== 'confirmed') return replies.send(reply, 'UNCONFIRMED', state);
    const verdict = decide(state, request);
    if (verdict.act === 'answer') return replies.send(reply, verdict.status, state);
    if (state.sealed) return replies.send(reply, 'OK', state);
    if (state.frozen) return replies.send(reply, 'BUSY', state);
    state.frozen = true;
    engine.barrier(state, (failure) => {
      if (failure !== null) return finish(failure);
      if (state.durableLength < end) return finish('GAP');
      chainCrc(task, state, end, (found) => {
        if (found instanceof HoldfastError) {
          if (found.code !== 'DISK_FULL') engine.fail(found);
          return finish(found.code === 'DISK_FULL' ? 'FULL' : 'DISK');
        }
        if (engine.state === 'failed') return finish('DISK');
        if (state.deleted) return finish('DELETED');
        if (found === crc) return seal(task, state, end, crc, finish);
        const fields = { segment, end, expected: crc, found };
        engine.log.error(fields, 'the chain at a sealed end is not the one that was sealed');
        finish(found === null ? 'DISK' : 'SUSPECT');
      });
    });
  });
}

/**
 * The chain's crc at `end`; null when there is no batch boundary that can be read; a fault when
 * what the journal has of the segment cannot be written to its file now.
 */
function chainCrc(
  task: Task,
  state: Segment,
  end: SegmentOffset,
  done: (crc: number | HoldfastError | null) => void,
): void {
  const known = recentCrc(state, end);
  if (known !== null) {
    done(known ?? null);
    return;
  }
  const file = task.engine.files.get(state.id);
  let data: DiskFile;
  try {
    file.drain();
    data = file.data();
  } catch (error) {
    done(asFault(error, 'DISK_FAILED'));
    return;
  }
  file.pin(1);
  const { id: segment, volume, createEpoch: epoch } = state;
  const from = 0 as SegmentOffset;
  walkChain({ file: data, segment, volume, epoch, from, crc: 0, until: end }, (found) => {
    file.pin(-1);
    done(found.end === end ? found.crc : null);
  });
}

/** Freezes a segment at its end. The journaled SEAL is the truth; the file is cut afterwards. */
export function seal(
  task: Task,
  state: Segment,
  end: SegmentOffset,
  crc: number,
  finish: (status: StatusName) => void,
): void {
  const { engine } = task;
  state.sealed = true;
  state.suspect = false;
  state.durableLength = end;
  state.durableCrc = crc;
  state.acceptedLength = end;
  state.acceptedCrc = crc;
  state.recentEnds.length = 0;
  state.recentCrcs.length = 0;
  engine.mark(state, { type: 'seal', segment: state.id, end, crc }, (failure) => {
    if (failure !== null) return finish(failure);
    state.durable.sealed = true;
    state.frozen = false;
    try {
      engine.files.get(state.id).truncate(end);
    } catch (error) {
      // Bytes beyond the end are never read; the next start cuts the file.
      if (!(error instanceof HoldfastError)) throw error;
      engine.log.warn({ segment: state.id, error: error.message }, 'a sealed file was not cut');
    }
    finish('OK');
  });
}

/** Makes the segment a tombstone, since the volume has given it up. */
export function confirmDelete(task: Task, request: DeleteRequest, reply: ReplyCallback): void {
  const { engine, replies, confirmations } = task;
  const { volume, segment, revision } = request;
  const known = engine.segments.get(segment);
  if (known?.deleted && !known.dropped) {
    removedBefore(task, known, reply);
    return;
  }
  confirmations.deletable(volume, segment, revision, (answer) => {
    const state = engine.segments.get(segment) ?? newSegment(segment, volume);
    if (engine.state === 'failed') return replies.send(reply, 'DISK', state);
    if (answer !== 'confirmed') return replies.send(reply, 'UNCONFIRMED', state);
    engine.segments.set(segment, state);
    if (state.deleted && !state.dropped) removedBefore(task, state, reply);
    else remove(task, state, 'delete', reply);
  });
}

/**
 * Removes this disk's copy, since nothing counts on it. What stays refuses late requests as a
 * tombstone does, but is no evidence that the segment was deleted: inventories do not list it. From
 * its arrival until its answer no COPY begins: whoever names this disk again later does so for a
 * copy that is made anew.
 */
export function confirmDrop(task: Task, request: DropRequest, reply: ReplyCallback): void {
  const { engine, replies, confirmations, copies } = task;
  const { volume, segment, incarnation } = request;
  const state = engine.segments.get(segment);
  if (state === undefined || state.frozen || state.dropping) {
    // A COPY that waits for its confirmation makes the segment known, after an OK that denied it.
    const isUnknown = state === undefined && !copies.has(segment);
    replies.send(reply, isUnknown ? 'OK' : 'BUSY', state);
    return;
  }
  if (state.deleted) {
    removedBefore(task, state, reply);
    return;
  }
  state.dropping = true;
  engine.format.raise(FORMAT_WITH_DROP, (error) => {
    if (error !== null) engine.fail(error);
    confirmations.droppable(volume, segment, incarnation, (answer) => {
      state.dropping = false;
      if (engine.state === 'failed') return replies.send(reply, 'DISK', state);
      if (state.deleted) return removedBefore(task, state, reply);
      if (answer !== 'confirmed') return replies.send(reply, 'UNCONFIRMED', state);
      if (state.frozen) return replies.send(reply, 'BUSY', state);
      remove(task, state, 'drop', reply);
    });
  });
}

function removedBefore({ engine, replies }: Task, state: Segment, reply: ReplyCallback): void {
  state.removals += 1;
  engine.barrier(state, (failure) => replies.send(reply, failure ?? 'OK', state));
}

function remove(task: Task, state: Segment, type: 'delete' | 'drop', reply: ReplyCallback): void {
  const { engine, replies } = task;
  const { id: segment, volume } = state;
  state.deleted = true;
  state.dropped = type === 'drop';
  state.removing = true;
  state.removals += 1;
  engine.mark(state, { type, segment, volume }, (failure) => {
    if (failure !== null) return replies.send(reply, failure, state);
    state.durable.deleted = true;
    state.durableLength = 0 as SegmentOffset;
    state.durableCrc = 0;
    state.acceptedLength = state.durableLength;
    state.acceptedCrc = 0;
    state.suspect = false;
    removeFiles(task, state);
    replies.send(reply, 'OK', state);
  });
}

/** Unlinks once nobody reads any more. A failure is repeated by the next start. */
function removeFiles(task: Task, state: Segment): void {
  const { engine } = task;
  if (engine.state === 'failed' || engine.state === 'closed') return;
  const file = engine.files.get(state.id);
  file.forget(0);
  if (!file.idle) {
    engine.clock.after(REMOVE_RETRY_MS, () => removeFiles(task, state));
    return;
  }
  try {
    file.remove();
    engine.files.forget(state.id);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    engine.log.warn({ segment: state.id, error: error.message }, 'a deleted file is still there');
  }
  state.removing = false;
}
