/**
 * What a mount's dead daemon left to its successor, and whether that may take it. The keeper has
 * waited for the dead one, so nothing of it runs any more.
 *
 * The volume's record says who owned the volume last. Only when that was this mount, the dead
 * daemon or a successor of it that came no further than to the takeover, nobody else can have
 * changed the volume, and what the kernel holds in its caches is still true. Each of them writes
 * down beforehand which epoch it means to have: one epoch has one owner.
 *
 * INVARIANT: a successor gives nothing to the log before its own intents stand in the place of its
 * predecessor's, so whatever the last one left is complete.
 */
import { HoldfastError } from '../core/errors.js';
import type { OwnerId, VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import type { InitReply } from '../fuse/encode.js';
import { InitFlag2 } from '../fuse/protocol.js';
import type { AdoptedConnection } from '../fuse/session.js';
import type { Clock } from '../io/clock.js';
import type { IntentFile } from '../io/intent-file.js';
import type { Log } from '../io/log.js';
import type { StateDirectory } from '../io/mount-host.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { Volumes } from '../metadata/volumes.js';
import { type FoundIntents, type IntentIdentity, readIntents } from '../volume/intent-format.js';
import { IntentLog } from '../volume/intent-log.js';
import { StateFile } from './keeper.js';
import { type Claimed, readInit, readOwnership, readSpec } from './mount-files.js';
import type { MountId } from './mount-types.js';

const RETRY_MS = 500;

/** The seam to a mount's intent log: one file, which successors replace. */
export interface IntentFiles {
  /** Null when there is none. */
  read(): Buffer | null;
  create(): IntentFile;
}

export interface Adoption {
  readonly volume: VolumeId;
  /** What INIT settled. */
  readonly agreed: InitReply;
  /** Any of these may be found as the volume's owner. */
  readonly claims: readonly Claimed[];
  /** Null: everything had been committed. */
  readonly intents: FoundIntents | null;
}

/**
 * What is to be adopted; null when the mount was never served before. Throws INCONSISTENT,
 * MALFORMED or VERSION when it cannot be.
 */
export function readAdoption(
  state: StateDirectory,
  mount: MountId,
  files: IntentFiles,
): Adoption | null {
  const agreed = readInit(state, mount);
  const held = readOwnership(state, mount);
  if (agreed === null || held === null) return null;
  const { volume, claims } = held;
  const none = { volume, agreed, claims, intents: null };
  if (state.read(mount, StateFile.COMMITTED)?.trim() === claims[0]?.owner) return none;
  const file = files.read();
  const intents = file === null ? null : readIntents(file);
  // Where nothing can be changed, there are none.
  if (intents === null && readSpec(state, mount)?.readOnly === true) return none;
  if (intents !== null && areOurs(intents.identity, mount, volume, claims)) {
    return { ...none, intents };
  }
  throw new HoldfastError('INCONSISTENT', `the intent log of mount ${mount} is not there`);
}

function areOurs(
  { mount, volume, owner, epoch: at }: IntentIdentity,
  ourMount: MountId,
  ourVolume: VolumeId,
  claims: readonly Claimed[],
): boolean {
  if (mount !== ourMount || volume !== ourVolume) return false;
  return claims.some((one) => one.owner === owner && one.epoch === at);
}

/** The volume that the mount had. Rejects with FENCED when somebody else has had it since. */
export async function inherit(volumes: Volumes, adoption: Adoption): Promise<VolumeRecord> {
  const found = await volumes.get(adoption.volume);
  if (found === null) {
    throw new HoldfastError('NOT_FOUND', `volume ${adoption.volume} is not there any more`);
  }
  checkHeir(adoption, found.record);
  return found.record;
}

/**
 * The intent log of a daemon that has taken its volume over, with what it took on from another.
 * Throws DISK_FULL or DISK_FAILED.
 */
export function beginIntents(
  parts: {
    readonly intents: IntentFiles;
    readonly adoption: Adoption | null;
    readonly log: Log;
  },
  identity: IntentIdentity,
): IntentLog {
  const file = parts.intents.create();
  try {
    return new IntentLog({
      file,
      identity,
      carried: parts.adoption?.intents?.results ?? [],
      onFault: ({ code, message }) => {
        const fields = { volume: identity.volume, code, error: message };
        parts.log.error(fields, 'Changes are answered only once they are committed.');
      },
    });
  } catch (thrown) {
    file.close();
    throw thrown;
  }
}

/** What the FUSE session has to know of its predecessor. */
export function connectionOf({ agreed, intents }: Adoption): AdoptedConnection {
  return { agreed, results: intents?.results ?? [] };
}

/** Whether the kernel can be asked for what the dead daemon had read and not answered. */
export function canResend({ agreed }: Adoption): boolean {
  return (agreed.flags2 & InitFlag2.HAS_RESEND) !== 0;
}

/** The owner found, which is dead for certain. Throws FENCED when it is none of this mount's. */
export function checkHeir({ claims }: Adoption, record: VolumeRecord): OwnerId {
  const { owner, name } = record;
  const isOurs = claims.some((one) => one.owner === owner?.id && one.epoch === record.epoch);
  if (owner !== null && isOurs) return owner.id;
  const by = owner === null ? 'nobody' : owner.address;
  const message = `"${name}" was taken over meanwhile (epoch ${record.epoch}, ${by})`;
  throw new HoldfastError('FENCED', message);
}

/**
 * What kept a successor from its volume, looked at once more where that was another owner: the
 * claim of a successor that died may have come late, and then the next one goes on from there
 * (retryable). Rejects when nobody can be asked now.
 */
export async function judge(
  volumes: Volumes,
  adoption: Adoption,
  thrown: unknown,
): Promise<unknown> {
  if (!(thrown instanceof HoldfastError) || thrown.code !== 'FENCED') return thrown;
  try {
    await inherit(volumes, adoption);
  } catch (again) {
    if (again instanceof HoldfastError && mayPass(again)) throw again;
    return thrown;
  }
  return new HoldfastError('FENCED', thrown.message, { retryable: true });
}

/** The epoch that a takeover of this record leads to, if nobody comes between. */
export function nextEpoch(record: VolumeRecord): Epoch {
  return epoch(record.epoch + 1);
}

/**
 * What `work` resolves to, once it does: a mount that lives waits for whatever it needs, however
 * long. Rejects with what will not pass.
 */
export async function untilAvailable<T>(
  clock: Clock,
  onWaiting: (text: string) => void,
  work: () => T | Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError) || !mayPass(thrown)) throw thrown;
      onWaiting(waitingFor(thrown.message));
      await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve));
    }
  }
}

export function waitingFor(what: string): string {
  return `waiting: ${what}`;
}

/** A full run directory passes as well: it holds what was answered, so nobody may give that up. */
export function mayPass({ code, retryable }: HoldfastError): boolean {
  return retryable || code === 'UNAVAILABLE' || code === 'TIMEOUT' || code === 'DISK_FULL';
}
