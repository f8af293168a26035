/**
 * Which machine may use a volume: attaching, detaching, fencing. A volume moves only when its
 * former owner released it, is known to be gone (its presence ended), or was fenced.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS, MACHINE_MAX_BYTES, ZONE_MAX_BYTES } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import {
  attachedThere,
  findMachine,
  listMachines,
  registerMachine,
  removeMachine,
} from '../metadata/attachments.js';
import {
  type Attachment,
  type MachineRecord,
  METADATA_SCHEMA,
  type PresenceRecord,
  type VolumeRecord,
} from '../metadata/model.js';
import { clearPresence, findCurrentPresence } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import { type Catalog, isHeld, whereOf } from './catalog.js';
import type { FenceOutcome } from './volume-types.js';

/** A machine that died is known to have in LEASE_TTL_SECONDS. */
const DETACH_WAIT_MS = (LEASE_TTL_SECONDS + 2) * 1000;
const FENCE_TIMEOUT_MS = 30_000;
const POLL_MS = 200;

export interface AttachingDeps {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly catalog: Catalog;
  /** See fence.ts: a takeover and a release. */
  readonly shutOut: (record: VolumeRecord, timeoutMs: number) => Promise<VolumeRecord>;
}

export class Attaching {
  readonly #deps: AttachingDeps;

  constructor(deps: AttachingDeps) {
    this.#deps = deps;
  }

  async registerMachine(machine: string, zone: string | null, maxVolumes: number): Promise<void> {
    checkText('machine', machine, MACHINE_MAX_BYTES);
    if (zone !== null) checkText('zone', zone, ZONE_MAX_BYTES);
    const { store, clock } = this.#deps;
    const registeredAt = new Date(clock.wall()).toISOString();
    const limit = maxVolumes === 0 ? {} : { maxVolumes };
    await registerMachine(store, {
      ...{ schema: METADATA_SCHEMA, machine, zone, registeredAt },
      ...limit,
    });
  }

  machines(): Promise<MachineRecord[]> {
    return listMachines(this.#deps.store);
  }

  async forgetMachine(machine: string): Promise<void> {
    const { catalog, store } = this.#deps;
    for (const [volume, attachments] of await catalog.attachments.list()) {
      const found = attachments.find((one) => one.machine === machine);
      if (found === undefined) continue;
      const name = (await catalog.record(volume))?.name ?? volume;
      throw attachedThere(name, found);
    }
    await removeMachine(store, machine);
  }

  async attach(id: string, machine: string, readOnly: boolean): Promise<Attachment> {
    const { catalog, store } = this.#deps;
    const record = await catalog.known(id);
    checkText('machine', machine, MACHINE_MAX_BYTES);
    const known = await findMachine(store, machine);
    if (known === null) {
      const hint = 'Its driver registers it when it starts; see "holdfast machines ls".';
      throw new HoldfastError('NOT_FOUND', `there is no machine "${machine}"`, { hint });
    }
    await this.#checkRoom(record, known);
    const presence = await findCurrentPresence(store, record);
    const isElsewhere = isHeld(record) && presence !== null && presence.host !== machine;
    // Attached here already, it is so still: the mount there is for people to look at.
    if (isElsewhere && !(await this.isAttached(record, machine)))
      throw mountedThere(record, presence);
    return await catalog.attachments.attach(record, { machine, readOnly });
  }

  /** For orchestrators, which count for themselves: two at once may come to one too many. */
  async #checkRoom({ volume, name }: VolumeRecord, known: MachineRecord): Promise<void> {
    const { machine, maxVolumes } = known;
    if (maxVolumes === undefined) return;
    const all = [...(await this.#deps.catalog.attachments.list())];
    const there = all.filter(([, attached]) => attached.some((one) => one.machine === machine));
    if (there.length < maxVolumes || there.some(([one]) => one === volume)) return;
    const message = `"${name}" is one volume too many for ${machine}, which takes ${maxVolumes}`;
    throw new HoldfastError('TOO_LARGE', message, { hint: 'See --max-volumes of its driver.' });
  }

  async isAttached({ volume }: VolumeRecord, machine: string): Promise<boolean> {
    const found = await this.#deps.catalog.attachments.of(volume);
    return found.some((one) => one.machine === machine);
  }

  /** Throws CONFLICT when it is attached, and not to this machine; else its attachment, if any. */
  async checkAttached({ volume, name }: VolumeRecord, machine: string): Promise<Attachment | null> {
    const found = await this.#deps.catalog.attachments.of(volume);
    const ours = found.find((one) => one.machine === machine);
    const [first] = found;
    if (ours === undefined && first !== undefined) throw attachedThere(name, first);
    return ours ?? null;
  }

  async detach(id: string, machine: string, waitMs = DETACH_WAIT_MS): Promise<void> {
    const { catalog, clock, store } = this.#deps;
    const deadline = clock.monotonic() + waitMs;
    for (;;) {
      const record = await catalog.record(id);
      if (record === null) return;
      if (!(await this.isAttached(record, machine))) return;
      if (!isHeld(record) || holder(record) !== machine) break;
      const presence = await findCurrentPresence(store, record);
      if (presence === null || clock.monotonic() >= deadline) {
        await this.#shutOut(record, FENCE_TIMEOUT_MS);
        break;
      }
      await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
    }
    await catalog.attachments.detach(id as VolumeId, machine);
  }

  async fence(
    id: string,
    options: { readonly force?: boolean; readonly timeoutMs?: number },
  ): Promise<FenceOutcome> {
    const { catalog, store } = this.#deps;
    const record = await catalog.known(id);
    const { volume, name, owner } = record;
    const presence = await findCurrentPresence(store, record);
    const mounted = presence === null ? null : whereOf(presence);
    if (!isHeld(record)) {
      await clearPresence(store, record);
      return { volume, name, former: null, mounted: null, epoch: record.epoch };
    }
    if (presence !== null && options.force !== true) throw aliveAndWell(record, presence);
    const after = await this.#shutOut(record, options.timeoutMs ?? FENCE_TIMEOUT_MS);
    return { volume, name, former: owner?.address ?? null, mounted, epoch: after.epoch };
  }

  async #shutOut(record: VolumeRecord, timeoutMs: number): Promise<VolumeRecord> {
    const after = await this.#deps.shutOut(record, timeoutMs);
    await clearPresence(this.#deps.store, after);
    return after;
  }
}

/** The machine of the last owner: its address is MACHINE/PID. */
function holder({ owner }: VolumeRecord): string {
  const address = owner?.address ?? '';
  return address.slice(0, Math.max(0, address.lastIndexOf('/')));
}

function mountedThere({ name }: VolumeRecord, presence: PresenceRecord): HoldfastError {
  const { host, mountPoint, since } = presence;
  const message = `volume "${name}" is mounted at ${mountPoint} on ${host} since ${since}`;
  const hint = `Unmount it there first: holdfast umount ${mountPoint}`;
  return new HoldfastError('CONFLICT', message, { hint });
}

function aliveAndWell({ name }: VolumeRecord, presence: PresenceRecord): HoldfastError {
  const { host, mountPoint, pid, since } = presence;
  const where = `at ${mountPoint} on ${host} by process ${pid} since ${since}`;
  const hint =
    'Unmount it there; or say --force, and that mount fails at once and loses what it had not ' +
    `committed. If ${host} is dead, that shows within ${LEASE_TTL_SECONDS} s.`;
  return new HoldfastError('CONFLICT', `"${name}" is mounted ${where}`, { hint });
}

/** Throws INVALID_ARGUMENT. */
function checkText(what: string, text: string, maxBytes: number): void {
  const bytes = Buffer.byteLength(text, 'utf8');
  if (bytes >= 1 && bytes <= maxBytes) return;
  throw invalid(`the name of a ${what} has ${bytes} bytes`, `1 to ${maxBytes} are allowed.`);
}
