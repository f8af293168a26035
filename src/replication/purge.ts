/**
 * Purges a volume that is in the trash: lists everything for deletion in one swap, sends DELETE to
 * every replica until it has answered or its disk is gone for good, and then removes the record.
 * Each step may be the last of a process: whoever purges the volume next goes on where it stands,
 * and several at once do no harm. A replica that does not answer keeps the record, and so the list.
 */
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type NodeId, type OwnerId, type VolumeId } from '../core/ids.js';
import type { PurgeRule, VolumeTrash } from '../metadata/trash.js';
import { OwnerContext } from './owner-context.js';
import { DEFAULT_OWNER_LIMITS, type OwnerDeps } from './owner-types.js';
import { Upkeep } from './upkeep-driver.js';

/** Segments that are worth a swap of their own; fewer wait this long for others. */
const CLEAR_SEGMENTS = 256;
const CLEAR_DELAY_MS = 200;

export interface PurgeParts extends OwnerDeps {
  readonly trash: VolumeTrash;
}

export interface PurgeOptions extends PurgeRule {
  /** How long to wait for replicas; what is missing then is for the next purge. */
  readonly timeoutMs: number;
  /** Told after each step: how many segments are left. */
  readonly onProgress?: (left: number) => void;
}

export type PurgeOutcome =
  | { readonly type: 'purged' }
  /** Nothing of it comes back, but some segments are still on disks of these nodes. */
  | { readonly type: 'waiting'; readonly segments: number; readonly nodes: readonly NodeId[] };

/**
 * Rejects with CONFLICT when the volume is mounted or not in the trash, UNAVAILABLE etc. when the
 * metadata store cannot be used. Idempotent: NOT_FOUND means that it was purged before.
 */
export async function purgeVolume(
  parts: PurgeParts,
  volume: VolumeId,
  options: PurgeOptions,
): Promise<PurgeOutcome> {
  const { trash, clock, random } = parts;
  let at = await trash.beginPurge(volume, options);
  const owner = idFromBytes<OwnerId>(random.bytes(16));
  const context = new OwnerContext(
    parts,
    { volume, owner, address: 'purge' },
    DEFAULT_OWNER_LIMITS,
  );
  let wake = (): void => {};
  const upkeep = new Upkeep(context, () => {
    const done = upkeep.deleted().length;
    if (done >= CLEAR_SEGMENTS || done === at.record.pendingDelete.length) wake();
  });
  const deadline = clock.monotonic() + options.timeoutMs;
  try {
    upkeep.adopt(at.record, at.modRevision, context.now());
    for (;;) {
      const done = upkeep.deleted();
      if (done.length > 0) {
        at = await trash.clear(volume, done, at);
        const left = new Set(at.record.pendingDelete.map(({ segment }) => segment));
        upkeep.forget(done.filter((segment) => !left.has(segment)));
        options.onProgress?.(at.record.pendingDelete.length);
      }
      const { pendingDelete } = at.record;
      if (pendingDelete.length === 0) break;
      const left = deadline - clock.monotonic();
      const isLive = (node: NodeId): boolean => parts.directory.isLive(node);
      // Who waited for a machine that is off would keep all other volumes from being purged.
      if (left <= 0 || upkeep.waitsForTheDown(isLive)) {
        const nodes = pendingDelete.flatMap(({ replicas }) => replicas.map(({ node }) => node));
        const silent = [...new Set(nodes)].filter((node) => !isLive(node));
        return { type: 'waiting', segments: pendingDelete.length, nodes: silent };
      }
      await new Promise<void>((resolve) => {
        const timer = clock.after(Math.min(left, CLEAR_DELAY_MS), resolve);
        wake = () => {
          timer.cancel();
          resolve();
        };
      });
    }
  } catch (thrown) {
    // Another purge was faster with the rest.
    if (!(thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND')) throw thrown;
    return { type: 'purged' };
  } finally {
    context.close();
  }
  await trash.forget(volume);
  return { type: 'purged' };
}
