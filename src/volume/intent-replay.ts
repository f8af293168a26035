/**
 * What a dead process had recorded and not brought into the log is recorded again, by its
 * successor. Which that is follows from the records' LSNs: a group is in the log whole or not at
 * all, and the process had given each its LSN when its first operation came. Groups are closed
 * where they had been, so that what changed in place finds its page open.
 */
import { HoldfastError } from '../core/errors.js';
import type { History } from './history.js';
import type { FoundIntents, IntentBatch, IntentEntry } from './intent-format.js';
import { PLACE_PAGES } from './limits.js';
import type { VolumeState } from './state.js';

type WriteEntry = Extract<IntentEntry, { kind: 'write' }>;
type PatchEntry = Extract<IntentEntry, { kind: 'patch' }>;

function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new HoldfastError('INCONSISTENT', `intent log: ${message}`);
}

/**
 * Applies what the log lacks, through a history that goes on where the log ends, and closes the
 * last group. Returns how many operations that were; no batches are left. Throws INCONSISTENT, or
 * MALFORMED when what was written whole cannot be understood.
 */
export function applyIntents(left: FoundIntents, history: History, state: VolumeState): number {
  const next = history.nextLsn;
  let applied = 0;
  let lsn = -1;
  for (const entry of missing(left.batches, next)) {
    if (entry.lsn !== lsn) history.close();
    lsn = entry.lsn;
    applied++;
    if (entry.kind === 'operation') history.perform(entry.operation);
    else if (entry.kind === 'write') applyWrite(entry, history);
    else applyPatch(entry, history, state);
  }
  history.close();
  left.batches.length = 0;
  return applied;
}

/**
 * The entries of records from `next` on. No batch that has some may be missing among them. A busy
 * mount leaves tens of MiB, nearly all of which is in the log: it is not even decoded.
 */
function missing(batches: readonly IntentBatch[], next: number): IntentEntry[] {
  const found: IntentEntry[] = [];
  let former: IntentBatch | null = null;
  for (const [index, batch] of batches.entries()) {
    const end = batches[index + 1]?.after ?? Number.POSITIVE_INFINITY;
    const wanted = end <= next ? [] : batch.entries.filter(({ lsn }) => lsn >= next);
    const follows: boolean = former !== null && batch.sequence === former.sequence + 1;
    check(wanted.length === 0 || follows || batch.after <= next, 'a part of it cannot be read');
    former = batch;
    for (const entry of wanted) found.push(entry);
  }
  return found;
}

function applyWrite({ operation, from, bytes }: WriteEntry, history: History): void {
  const { count } = operation;
  if (count === 0) {
    history.performWrite(operation, 0);
    return;
  }
  const place = history.takePages(count);
  const index = history.pool.indexOf(place);
  const chunk = history.pool.of(place);
  const to = from + bytes.length;
  for (const view of chunk.views(index, count)) view.fill(0);
  let at = 0;
  for (const view of chunk.bytes(index, from, to)) {
    view.set(bytes.subarray(at, at + view.length));
    at += view.length;
  }
  history.performWrite(operation, place, { from, to });
}

function applyPatch(entry: PatchEntry, history: History, state: VolumeState): void {
  const { inode, page, from, bytes } = entry;
  const slot = state.inodes.slotOf(inode);
  check(slot !== 0, `inode ${inode} does not exist`);
  const place = state.extents.place(slot, page);
  check(place < PLACE_PAGES && history.isOpen(place), `page ${page} of ${inode} is not open`);
  history.pool.page(place).set(bytes, from);
  history.patched(inode, page, from, history.pool.page(place).subarray(from, from + bytes.length));
}
