/**
 * Open segments of volumes that nobody owns: their copies are nobody's business, so one that is
 * lost or drained, or could not be placed when they were opened, stays so, and with it the newest
 * data of an unmounted volume has one copy less.
 * The controller takes such a volume over and releases it: that seals them, for repair to see to,
 * and opens fresh ones elsewhere. It does so as well where the owner did not release, but has shown
 * no sign of life for as long as a node may be away: its machine is lost (silences.ts).
 *
 * INVARIANT: nobody who owns a volume and shows it, or comes to own it meanwhile, is disturbed.
 */
import { HoldfastError } from '../core/errors.js';
import { idFromBytes, type OwnerId, type SegmentId, type VolumeId } from '../core/ids.js';
import type { VolumeRecord } from '../metadata/model.js';
import { findPresence, listPresences } from '../metadata/presence.js';
import { readVolume } from '../metadata/stored-volume.js';
import { LogOwner } from './owner.js';
import type { OwnerState } from './owner-api.js';
import type { OwnerDeps } from './owner-types.js';
import { type RepairDisk, stateIn } from './repair-view.js';
import { Silences } from './silences.js';

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

/** What the controller knows of the cluster, as it is when asked. */
export interface IdleView {
  records(): Iterable<VolumeRecord>;
  disks(): readonly RepairDisk[];
  /** When nodes were last asked what they have, in milliseconds on the controller's clock. */
  readonly askedAt: number;
  /** Of the longest copy that was found of an open segment, in bytes. */
  openLength(segment: SegmentId): number;
  /** An owner that shows no sign of life for so long is lost. */
  readonly graceMs: number;
}

interface Tries {
  readonly count: number;
  readonly notBefore: number;
}

const NEVER_TRIED: Tries = { count: 0, notBefore: Number.NEGATIVE_INFINITY };

export class IdleVolumes {
  readonly #deps: OwnerDeps;
  readonly #view: IdleView;
  /** With volumes that need care, and did when they were last looked at. */
  readonly #tries = new Map<VolumeId, Tries>();
  readonly #silences = new Silences();
  #isLooking = false;
  #owner: LogOwner | null = null;
  #stopped = false;

  constructor(deps: OwnerDeps, view: IdleView) {
    this.#deps = deps;
    this.#view = view;
  }

  /** Looks after the volumes that need it, in the background, one after the other. */
  look(): void {
    if (this.#isLooking || this.#stopped) return;
    this.#isLooking = true;
    void this.#lookAfterAll().finally(() => {
      this.#isLooking = false;
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#owner?.stop();
  }

  async #lookAfterAll(): Promise<void> {
    const disks = this.#view.disks();
    const needy = [...this.#view.records()].filter((record) => needsCare(record, disks));
    const volumes = new Set(needy.map(({ volume }) => volume));
    for (const volume of this.#tries.keys()) if (!volumes.has(volume)) this.#tries.delete(volume);
    this.#silences.keepOnly(volumes);
    const held = needy.filter((record) => !isReleased(record));
    if (held.length > 0 && !(await this.#noteSilence(held))) return;
    for (const record of needy) {
      const { notBefore } = this.#tries.get(record.volume) ?? NEVER_TRIED;
      const isDue = notBefore <= this.#deps.clock.monotonic() && this.#mayTake(record);
      if (isDue && !this.#stopped) await this.#renew(record);
    }
  }

  /** False when the metadata store could not be asked. */
  async #noteSilence(held: readonly VolumeRecord[]): Promise<boolean> {
    const view = this.#view;
    const { askedAt } = view;
    try {
      const presences = await listPresences(this.#deps.store);
      const here = new Set(presences.map(({ volume }) => volume));
      for (const record of held) {
        if (here.has(record.volume)) this.#silences.end(record.volume);
        else this.#silences.note(record, (segment) => view.openLength(segment), askedAt);
      }
      return true;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      return false;
    }
  }

  #mayTake(record: VolumeRecord): boolean {
    const silentMs = this.#silences.lengthMs(record.volume);
    return isReleased(record) || (silentMs > 0 && silentMs >= this.#view.graceMs);
  }

  async #renew({ volume, owner: former }: VolumeRecord): Promise<void> {
    const { store, random, clock, log } = this.#deps;
    const id = idFromBytes<OwnerId>(random.bytes(16));
    const owner = new LogOwner(this.#deps, {
      ...{ volume, owner: id, address: ADDRESS, idleOnly: true },
      ...(former !== null && { lost: former.id }),
    });
    this.#owner = owner;
    const timer = clock.after(TIMEOUT_MS, () => owner.stop());
    try {
      // What was read before may be of before the last try.
      const found = await readVolume(store, volume);
      if (found === null || !needsCare(found.record, this.#view.disks())) return;
      if ((await findPresence(store, volume)) !== null || this.#stopped) return;
      await takenAndReleased(owner);
      const sealed = 'open segments were sealed, to be repaired.';
      if (isReleased(found.record)) log.info({ volume }, `An idle volume: its ${sealed}`);
      else
        log.warn({ volume, owner: former?.address }, `A volume whose owner is lost: its ${sealed}`);
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

/** Nobody has it mounted. None had it after an import, a rebuild or a restore. */
function isReleased({ owner }: VolumeRecord): boolean {
  return owner === null || owner.released || owner.address === ADDRESS;
}

/** Whether it lacks copies of what is open that a takeover now would have made. */
export function needsCare(record: VolumeRecord, disks: readonly RepairDisk[]): boolean {
  const { open, trash, ackQuorum, replicas } = record;
  if (trash !== undefined) return false;
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
