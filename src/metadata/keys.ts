/**
 * Where everything stands in the metadata store. Part of the stored format: docs/FORMATS.md. All
 * keys begin with ROOT, all prefixes end in '/', and ids have one length, so no key is a prefix of
 * another's. Volumes are stored by id; names/ makes names unique and is written with them.
 */
import { type NodeId, parseId, type VolumeId } from '../core/ids.js';

export const ROOT = '/holdfast/v1/';
export const CLUSTER_KEY = `${ROOT}cluster`;
/** There while an import is under way, or was interrupted: then nothing else works on the store. */
export const IMPORT_KEY = `${ROOT}import`;
export const VOLUMES = `${ROOT}volumes/`;
/** The sealed segments of each volume, in chunks: changed with its record. */
export const SEALED = `${ROOT}sealed/`;
export const NAMES = `${ROOT}names/`;
/** A key a volume in the trash, which has no name: written and removed as names are. */
export const TRASH = `${ROOT}trash/`;
export const NODES = `${ROOT}nodes/`;
/** A key a node, bound to its lease: a hint that it lives. */
export const LIVE = `${ROOT}live/`;
/** A key a mounted volume, bound to its owner's lease: a hint where it is mounted. */
export const OWNERS = `${ROOT}owners/`;
/** A key a volume that a machine may use: who may, as the orchestrator said. */
export const ATTACHMENTS = `${ROOT}attachments/`;
/** A key a machine on which volumes can be mounted. */
export const MACHINES = `${ROOT}machines/`;
/** A table of groups for each replica count. */
export const PLACEMENT = `${ROOT}placement/`;
/** A key a volume of which data was given up. */
export const GIVEN_UP = `${ROOT}given-up/`;
export const LEADERS = `${ROOT}leaders/`;
/** A key a node: how far it has verified its copies. */
export const SCRUBS = `${ROOT}scrubs/`;
/** Hexadecimal digits of a chunk's number: keys sort as numbers do. */
const CHUNK_DIGITS = 8;

export function volumeKey(volume: VolumeId): string {
  return VOLUMES + volume;
}

/** Where the chunks of one volume stand, in the order of its log. */
export function chunkPrefix(volume: VolumeId): string {
  return `${SEALED}${volume}/`;
}

export function chunkKey(volume: VolumeId, number: number): string {
  return chunkPrefix(volume) + number.toString(16).padStart(CHUNK_DIGITS, '0');
}

/** Null for a key that no chunk has. */
export function chunkNumber(key: string): number | null {
  const tail = key.slice(-CHUNK_DIGITS);
  return /^[0-9a-f]{8}$/.test(tail) ? Number.parseInt(tail, 16) : null;
}

/** `name` must be a valid volume name, which is a valid piece of a key. */
export function nameKey(name: string): string {
  return NAMES + name;
}

export function trashKey(volume: VolumeId): string {
  return TRASH + volume;
}

export function nodeKey(node: NodeId): string {
  return NODES + node;
}

export function liveKey(node: NodeId): string {
  return LIVE + node;
}

export function givenUpKey(volume: VolumeId): string {
  return GIVEN_UP + volume;
}

export function scrubKey(node: NodeId): string {
  return SCRUBS + node;
}

export function ownerKey(volume: VolumeId): string {
  return OWNERS + volume;
}

export function attachmentKey(volume: VolumeId): string {
  return ATTACHMENTS + volume;
}

/** Names of machines are the orchestrator's, and may hold anything. */
export function machineKey(machine: string): string {
  return MACHINES + encodeURIComponent(machine);
}

export function placementKey(replicas: number): string {
  return `${PLACEMENT}${replicas}`;
}

/** Candidates for `role` compete for this key. */
export function leaderPrefix(role: string): string {
  return `${LEADERS}${role}/`;
}

export function leaderKey(role: string): string {
  return `${leaderPrefix(role)}holder`;
}

/** The part of a key behind its prefix. */
export function keyTail(key: string, prefix: string): string {
  return key.slice(prefix.length);
}

export function nodeOfKey(key: string, prefix: string): NodeId {
  return parseId<NodeId>(keyTail(key, prefix), 'node id in a key');
}
