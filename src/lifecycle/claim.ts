/**
 * Whether a volume may be taken over, politely: who has it mounted is not pushed aside as long as
 * it lives. Safety does not depend on any of this: a takeover fences whoever was there.
 *
 * Liveness is judged by what cannot be mistaken: of a mount of this machine by its processes and
 * its socket, of any other by its presence in the metadata store, which ends LEASE_TTL_SECONDS
 * after its process did. Process numbers of another host or container say nothing here.
 */
import { HoldfastError } from '../core/errors.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { MountHost } from '../io/mount-host.js';
import { Attachments, attachedThere } from '../metadata/attachments.js';
import type { PresenceRecord, VolumeRecord } from '../metadata/model.js';
import { findCurrentPresence } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import { placesOf } from './copied-mounts.js';
import { readOwnership } from './mount-files.js';
import type { MountSpec, MountStatus } from './mount-types.js';
import { endUnderUsers, listMounts } from './mounts.js';

/** A mount that is ending on this machine is waited for without being asked to. */
const LOCAL_END_MS = 30_000;
/** A dead process of this machine of which nothing but its presence is left. */
const LOCAL_LEASE_MS = (LEASE_TTL_SECONDS + 3) * 1000;
const POLL_MS = 200;

export interface ClaimDeps {
  readonly host: MountHost;
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly hostname: string;
  readonly onProgress: (text: string) => void;
  /** Gives up waiting. */
  readonly isStopped: () => boolean;
}

/** Who wants the volume: a mount, or something else under a name that no mount has. */
export interface Claimant extends Pick<MountSpec, 'mount' | 'since' | 'waitMs'> {
  /** The machine that mounts it, as attachments call it; null: they are no matter. */
  readonly machine: string | null;
}

/**
 * Resolves when nobody alive has the volume mounted. Rejects with CONFLICT, saying who has, or
 * which machine it is attached to instead; with CLOSED when it was stopped.
 */
export async function awaitTurn(
  deps: ClaimDeps,
  record: VolumeRecord,
  spec: Claimant,
): Promise<void> {
  const since = deps.clock.monotonic();
  for (;;) {
    const obstacle = await findObstacle(deps, record, spec);
    if (obstacle === null) await refuseDetached(deps, record, spec);
    // After the looks, which may take long: who was stopped gave back what it had, and nobody would
    // give back what it takes now.
    if (deps.isStopped()) throw new HoldfastError('CLOSED', 'the mount was given up');
    if (obstacle === null) return;
    const patienceMs = Math.max(spec.waitMs, obstacle.patienceMs);
    if (deps.clock.monotonic() - since >= patienceMs) throw obstacle.fault;
    deps.onProgress(`waiting: ${obstacle.fault.message}`);
    await new Promise<void>((resolve) => deps.clock.after(POLL_MS, resolve));
  }
}

/**
 * Who asked for the mount looked already, but that was before its turn and the wait: meanwhile the
 * volume may have gone to another machine, which is told by nothing else that it is to be here.
 */
async function refuseDetached(
  { store, clock }: ClaimDeps,
  { volume, name }: VolumeRecord,
  { machine }: Claimant,
): Promise<void> {
  if (machine === null) return;
  const attachments = await new Attachments(store, clock).of(volume);
  const [first] = attachments;
  const isOurs = attachments.some((one) => one.machine === machine);
  if (first !== undefined && !isOurs) throw attachedThere(name, first);
}

interface Obstacle {
  readonly fault: HoldfastError;
  /** How long it is worth waiting for, even if nobody asked for that. */
  readonly patienceMs: number;
}

async function findObstacle(
  deps: ClaimDeps,
  record: VolumeRecord,
  spec: Claimant,
): Promise<Obstacle | null> {
  const local = await listMounts(deps);
  const others = local.filter(({ mount }) => mount !== spec.mount);
  const rival = others.find((one) => isRival(deps.host, one, record, spec));
  if (rival !== undefined) {
    const passes = rival.state === 'stopping' || rival.volumeId === null;
    return { fault: mountedHere(deps.host, rival), patienceMs: passes ? LOCAL_END_MS : 0 };
  }
  const presence = await findCurrentPresence(deps.store, record);
  if (presence === null) return null;
  const source = others.find(({ owner }) => owner === presence.owner);
  if (source?.state === 'dead') return null;
  const isHere = presence.host === deps.hostname;
  return { fault: mountedThere(presence, record), patienceMs: isHere ? LOCAL_LEASE_MS : 0 };
}

/**
 * Of two that start at once the earlier one goes on. One that has not yet looked up which volume it
 * wants is judged by the name.
 */
function isRival(
  host: MountHost,
  other: MountStatus,
  record: VolumeRecord,
  spec: Claimant,
): boolean {
  const { volumeId } = other;
  const isSame = volumeId === null ? other.volume === record.name : volumeId === record.volume;
  if (other.state === 'dead' || !isSame) return false;
  if (other.state !== 'starting') return !wasReplaced(host, other, record);
  return other.since < spec.since || (other.since === spec.since && other.mount < spec.mount);
}

/**
 * Somebody else has been the owner since all that it ever claimed: it can neither write nor read.
 * By epochs alone: the record may have been read before this mount took the volume over.
 */
function wasReplaced(host: MountHost, { mount }: MountStatus, { epoch }: VolumeRecord): boolean {
  const claims = readOwnership(host.state, mount)?.claims ?? [];
  return claims.length > 0 && claims.every((claim) => claim.epoch < epoch);
}

/** What to say to who wants what a mount of this machine has. */
export function mountedHere(host: MountHost, found: MountStatus): HoldfastError {
  const { mount, volume, directory, since, live, state, keeperPid } = found;
  if (state === 'unresponsive') {
    const message = `"${volume}" is mounted at ${directory} by a daemon that does not answer`;
    const hint =
      `Its keeper is process ${keeperPid ?? 'gone'}. If the daemon is not to go on, kill it; ` +
      'what was not yet committed is lost then.';
    return new HoldfastError('CONFLICT', message, { hint });
  }
  if (state === 'mounted' && live !== null && placesOf(host, mount).length === 0) {
    const message = `"${volume}" is no longer mounted at ${directory}, but still used there`;
    return new HoldfastError('CONFLICT', message, { hint: endUnderUsers(live.pid) });
  }
  const doing = state === 'starting' ? 'being mounted' : 'mounted';
  const by = live === null ? '' : ` by process ${live.pid}`;
  const message = `"${volume}" is ${doing} at ${directory}${by} since ${since}`;
  const hint = `Unmount it first with "holdfast umount ${directory}".`;
  return new HoldfastError('CONFLICT', message, { hint });
}

function mountedThere(presence: PresenceRecord, { name }: VolumeRecord): HoldfastError {
  const { host, pid, mountPoint, since } = presence;
  const by = `on ${host} at ${mountPoint} by process ${pid} since ${since}`;
  const hint =
    `Unmount it there. If ${host} is dead, that shows within ${LEASE_TTL_SECONDS} s: ` +
    'try again then (holdfast mount waits for it with --wait 15).';
  return new HoldfastError('CONFLICT', `"${name}" is mounted ${by}`, { hint });
}
