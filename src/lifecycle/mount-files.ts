/**
 * The state directories of the mounts on this machine: what stands in them, checked when read,
 * since another version of this program may have written it.
 */
import { z } from 'zod';
import { isId, type OwnerId, type VolumeId } from '../core/ids.js';
import type { InitReply } from '../fuse/encode.js';
import type { MountHost, ProcessIdentity, StateDirectory } from '../io/mount-host.js';
import { StateFile } from './keeper.js';
import type { MountId, MountSpec } from './mount-types.js';

const spec = z.object({
  version: z.literal(1),
  mount: z.string(),
  volume: z.string(),
  directory: z.string(),
  metadata: z.string(),
  secretFile: z.string().nullable(),
  readOnly: z.boolean(),
  commitIntervalMs: z.number().nullable(),
  flags: z.array(z.string()),
  timeoutMs: z.number(),
  waitMs: z.number(),
  metricsListen: z.string().nullable(),
  foreground: z.boolean(),
  kind: z.enum(['filesystem', 'block']).default('filesystem'),
  machine: z.string().nullable().default(null),
  since: z.string(),
  logFile: z.string(),
});

const identity = z.object({ pid: z.int().min(1), startTicks: z.string() });

const id = z.string().refine(isId);
const claim = z.object({ owner: id, epoch: z.int().min(1) });
const ownership = z.object({ owner: id, volume: id, claims: z.array(claim).default([]) });

const init = z.object({
  major: z.int(),
  minor: z.int(),
  maxReadahead: z.int(),
  flags: z.int(),
  flags2: z.int(),
  maxBackground: z.int(),
  congestionThreshold: z.int(),
  maxWrite: z.int(),
  maxPages: z.int(),
});

/** Null when there is none, or it cannot be understood. */
export function readSpec(state: StateDirectory, mount: MountId): MountSpec | null {
  return readJson(state, mount, StateFile.SPEC, spec);
}

export function readKeeper(state: StateDirectory, mount: MountId): ProcessIdentity | null {
  return readJson(state, mount, StateFile.KEEPER, identity);
}

/** What is mounted, as MAJOR:MINOR; null before it is. */
export function readDevice(state: StateDirectory, mount: MountId): string | null {
  return state.read(mount, StateFile.DEVICE)?.trim() ?? null;
}

/** Kept for an adopter: the kernel says INIT once in a connection's life. */
export function writeInit(state: StateDirectory, mount: MountId, agreed: InitReply): void {
  state.write(mount, StateFile.INIT, JSON.stringify(agreed));
}

/** Which program the keeper starts as the mount's daemon, from the next time on. */
export function writeProgram(
  state: StateDirectory,
  mount: MountId,
  program: readonly string[],
): void {
  state.write(mount, StateFile.PROGRAM, programText(program));
}

/** As the keeper reads it. */
export function programText(program: readonly string[]): string {
  return `${[...program, 'mount-daemon'].join('\n')}\n`;
}

/** A note that only spares others a wait or a look: without room for it, it is left out. */
export function writeNote(state: StateDirectory, mount: MountId, file: string, text: string): void {
  try {
    state.write(mount, file, text);
  } catch {
    // what it says shows in other ways, later
  }
}

/** Null as long as the kernel was not answered. */
export function readInit(state: StateDirectory, mount: MountId): InitReply | null {
  return readJson(state, mount, StateFile.INIT, init);
}

/** An owner, and the epoch that it means to have or has. */
export interface Claimed {
  readonly owner: OwnerId;
  readonly epoch: number;
}

/** Who took which volume over. */
export interface Ownership {
  readonly owner: OwnerId;
  readonly volume: VolumeId;
  /** The mount's, beginning with the one whose intents there are. */
  readonly claims: readonly Claimed[];
}

export function writeOwnership(state: StateDirectory, mount: MountId, held: Ownership): void {
  state.write(mount, StateFile.OWNER, JSON.stringify(held));
}

/** Null before the takeover. */
export function readOwnership(state: StateDirectory, mount: MountId): Ownership | null {
  return readJson(state, mount, StateFile.OWNER, ownership) as Ownership | null;
}

/** Whether the very process that was started then still runs. */
export function isAlive(host: MountHost, process: ProcessIdentity | null): boolean {
  if (process === null) return false;
  return host.identify(process.pid)?.startTicks === process.startTicks;
}

function readJson<T>(
  state: StateDirectory,
  mount: MountId,
  file: string,
  schema: z.ZodType<T>,
): T | null {
  const text = state.read(mount, file);
  if (text === null) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
