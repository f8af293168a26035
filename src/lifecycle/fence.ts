/**
 * Shutting an owner out for good: a takeover, which fences it at the nodes, followed by a release,
 * so that the next mount need not wait for anybody. Nothing of the volume is lost but what the
 * former owner had not committed.
 */
import { present } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId } from '../core/ids.js';
import type { VolumeRecord } from '../metadata/model.js';
import { LogOwner } from '../replication/owner.js';
import type { OwnerDeps } from '../replication/owner-types.js';
import { takeOver } from './take-over.js';

export interface ShutOutOptions {
  /** Where this process runs, for people. */
  readonly address: string;
  readonly timeoutMs: number;
  readonly onProgress?: (text: string) => void;
}

/**
 * Resolves with the record under the new epoch, released. Rejects with TIMEOUT (which step did not
 * end), FENCED (somebody else took it meanwhile: whoever was there is out as well), NOT_FOUND.
 */
export async function shutOut(
  deps: OwnerDeps,
  { volume, name }: VolumeRecord,
  { address, timeoutMs, onProgress = () => {} }: ShutOutOptions,
): Promise<VolumeRecord> {
  const { random, clock, directory } = deps;
  const id = idFromBytes<OwnerId>(random.bytes(16));
  const owner = new LogOwner(deps, { volume, owner: id, address });
  try {
    const onStopped = (): void => {};
    await takeOver({ owner, clock, directory, timeoutMs, volume: name, onProgress, onStopped });
    await new Promise<void>((resolve, reject) => {
      // Fenced it is already; the next mount then waits for a lease of ours that is over at once.
      const timer = clock.after(timeoutMs, () => reject(unreleased(name)));
      owner.release((error) => {
        timer.cancel();
        if (error === null) resolve();
        else reject(error);
      });
    });
    return present(owner.record, 'an owner that served has a record');
  } finally {
    owner.stop();
  }
}

function unreleased(name: string): HoldfastError {
  const message = `"${name}" is fenced, but the metadata store did not take the release`;
  return new HoldfastError('TIMEOUT', message, { retryable: true, hint: 'Try again.' });
}
