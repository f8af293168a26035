/**
 * Open segments of volumes that nobody owns: their copies are nobody's business, so one that is
 * lost or drained, or could not be placed when they were opened, stays so, and with it the newest
 * data of an unmounted volume has one copy less.
 * The controller takes such a volume over and releases it: that seals them, for repair to see to,
 * and opens fresh ones elsewhere.
 *
 * INVARIANT: nobody who owns a volume, or comes to own it meanwhile, is disturbed.
 */
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId, type VolumeId } from '../core/ids.js';
import type { VolumeRecord } from '../metadata/model.js';
import { findPresence } from '../metadata/presence.js';
import { readVolume } from '../metadata/stored-volume.js';
import { LogOwner } from './owner.js';
import type { OwnerState } from './owner-api.js';
import type { OwnerDeps } from './owner-types.js';
import { type RepairDisk, stateIn } from './repair-view.js';

/** A takeover that cannot end now is given up, and tried again later. */
const TIMEOUT_MS = 60_000;
/**
 * From the end of one try with a volume to the next: doubled by each that has not helped. The first
 * may only have met an owner on its way out, whose presence ends right after the release.
 */
const AGAIN_MIN_MS = 10_000;
const AGAIN_MAX_MS = 300_000;
/** What the record says of who owns the volume meanwhile. */
const ADDRESS = 'controller';

interface Tries {
  readonly count: number;
  readonly notBefore: number;
}

const NEVER_TRIED: Tries = { count: 0, notBefore: Number.NEGATIVE_INFINITY };

export class IdleVolumes {
  readonly #deps: OwnerDeps;
  /** With volumes that need care, and did when they were last looked at. */
  readonly #tries = new Map<VolumeId, Tries>();
  #owner: LogOwner | null = null;
  #stopped = false;

  constructor(deps: OwnerDeps) {
    this.#deps = deps;
  }

  /** Looks after the first volume that needs it, in the background, one at a time. */
  look(records: Iterable<VolumeRecord>, disks: readonly RepairDisk[]): void {
    if (this.#owner !== null || this.#stopped) return;
    const now = this.#deps.clock.monotonic();
    for (const record of records) {
      const { volume } = record;
      if (!needsCare(record, disks)) this.#tries.delete(volume);
      else if ((this.#tries.get(volume) ?? NEVER_TRIED).notBefore <= now) {
        void this.#renew(volume, disks);
        return;
      }
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#owner?.stop();
  }

  async #renew(volume: VolumeId, disks: readonly RepairDisk[]): Promise<void> {
    const { store, random, clock, log } = this.#deps;
    const id = idFromBytes<OwnerId>(random.bytes(16));
    const owner = new LogOwner(this.#deps, {
      ...{ volume, owner: id, address: ADDRESS, idleOnly: true },
    });
    this.#owner = owner;
    const timer = clock.after(TIMEOUT_MS, () => owner.stop());
    try {
      // What was read before may be of before the last try.
      const found = await readVolume(store, volume);
      if (found === null || !needsCare(found.record, disks)) return;
      if ((await findPresence(store, volume)) !== null || this.#stopped) return;
      await takenAndReleased(owner);
      log.info({ volume }, 'The open segments of an idle volume were sealed, to be repaired.');
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const { code, message } = thrown;
      log.info({ volume, code, error: message }, 'An idle volume is left as it is, for now.');
    } finally {
      timer.cancel();
      owner.stop();
      this.#owner = null;
      const { count } = this.#tries.get(volume) ?? NEVER_TRIED;
      const waitMs = Math.min(AGAIN_MAX_MS, AGAIN_MIN_MS * 2 ** count);
      this.#tries.set(volume, { count: count + 1, notBefore: clock.monotonic() + waitMs });
    }
  }
}

function takenAndReleased(owner: LogOwner): Promise<void> {
  return new Promise((resolve, reject) => {
    let isReleasing = false;
    owner.start((state: OwnerState) => {
      if (state.type === 'stopped' && !isReleasing) reject(state.reason);
      if (state.type !== 'serving' || isReleasing) return;
      isReleasing = true;
      owner.release((error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  });
}

/** Whether it lacks copies of what is open that a takeover now would have made. */
export function needsCare(record: VolumeRecord, disks: readonly RepairDisk[]): boolean {
  const { owner, open, trash, ackQuorum, replicas } = record;
  // None after an import, a rebuild or a restore.
  const isIdle = owner === null || owner.released || owner.address === ADDRESS;
  if (trash !== undefined || !isIdle) return false;
  const states = open.map((one) => one.replicas.map((replica) => stateIn(disks, replica)));
  const isHurt = states.some((of) => of.some((state) => state === 'gone' || state === 'leaving'));
  if (open.length === 0) return false;
  const fewest = Math.min(...open.map((one) => one.replicas.length));
  const isThin = fewest < replicas && fewest < takers(disks);
  // Otherwise it could not be taken over now.
  const answers = Math.max(ackQuorum, replicas - ackQuorum + 1);
  const there = (of: readonly string[]): number =>
    of.filter((state) => state === 'good' || state === 'leaving').length;
  return (isHurt || isThin) && states.every((of) => there(of) >= answers);
}

/** Nodes that may be given copies. */
function takers(disks: readonly RepairDisk[]): number {
  return new Set(disks.filter(({ state }) => state === 'good').map(({ node }) => node)).size;
}
