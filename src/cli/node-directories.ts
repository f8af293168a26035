/**
 * Looks at a node's data directories before anything is touched: which are formatted, for which
 * node and cluster, which are empty, and which are somebody else's.
 */
import { closeSync, openSync, readdirSync, readSync, statfsSync } from 'node:fs';
import {
  isUnfinishedSuperblock,
  readSuperblock,
  SUPERBLOCK_BYTES,
  type Superblock,
} from '../block/superblock.js';
import { HoldfastError, invalid } from '../core/errors.js';
import type { ClusterId, NodeId } from '../core/ids.js';
import { DISK_RESERVE_BYTES } from '../core/limits.js';
import type { Address } from '../io/network.js';
import { LOCK_NAMES } from '../io/node/disk-lock.js';
import type { NodeRecord } from '../metadata/model.js';

export interface DataDirectory {
  readonly path: string;
  /** Null when the directory is empty, or nothing has been formed there yet. */
  readonly superblock: Superblock | null;
}

/** What the formatted ones agree on; null when all are empty. */
export interface DiskIdentity {
  readonly cluster: ClusterId;
  readonly node: NodeId;
}

/** A filesystem's own. Like what our lock leaves, it does not make a directory count as used. */
const LOST_AND_FOUND = 'lost+found';
const SUPERBLOCK = 'superblock';

/**
 * Throws NOT_FOUND, INVALID_ARGUMENT (named twice, no directory), ALREADY_EXISTS (foreign files),
 * MALFORMED or VERSION (superblock). Changes nothing.
 */
export function inspectDirectories(paths: readonly string[]): DataDirectory[] {
  const twice = paths.find((path, at) => paths.indexOf(path) !== at);
  if (twice !== undefined) throw invalid(`data directory ${twice} is named twice`);
  return paths.map((path) => ({ path, superblock: inspectDirectory(path) }));
}

function inspectDirectory(path: string): Superblock | null {
  const names = listDirectory(path);
  const foreign = names.filter((name) => name !== LOST_AND_FOUND && !LOCK_NAMES.test(name));
  if (names.includes(SUPERBLOCK)) return superblockOf(path, foreign.length === 1);
  if (foreign.length === 0) return null;
  const hint = 'Use an empty directory; holdfast deletes nothing that it did not write.';
  const message = `${path} is not empty (${foreign[0]}) and is no holdfast disk`;
  throw new HoldfastError('ALREADY_EXISTS', message, { hint });
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === 'ENOTDIR') throw invalid(`data directory ${path} is not a directory`);
    if (code !== 'ENOENT') throw invalid(`data directory ${path} cannot be read: ${code}`);
    const hint = 'Create it, or mount its disk first.';
    throw new HoldfastError('NOT_FOUND', `data directory ${path} does not exist`, { hint });
  }
}

/** Null when nothing but the beginning of a first format is there: a power cut leaves that. */
function superblockOf(path: string, isAlone: boolean): Superblock | null {
  try {
    const file = openSync(`${path}/${SUPERBLOCK}`, 'r');
    try {
      const bytes = Buffer.alloc(SUPERBLOCK_BYTES + 1);
      if (isAlone && isUnfinishedSuperblock(bytes.subarray(0, readSync(file, bytes)))) return null;
      const read = (into: Buffer, at: number): unknown => readSync(file, into, 0, into.length, at);
      return readSuperblock(read).block;
    } finally {
      closeSync(file);
    }
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) {
      const code = (thrown as NodeJS.ErrnoException).code;
      const hint =
        'To start without it, leave it out of --data-dir: repair makes its copies elsewhere.';
      const message = `${path}: the superblock cannot be read: ${code}`;
      throw new HoldfastError('DISK_FAILED', message, { hint });
    }
    const { code, message, hint } = thrown;
    throw new HoldfastError(code, `${path}: ${message}`, hint === undefined ? {} : { hint });
  }
}

/** Throws WRONG_CLUSTER or WRONG_NODE when the formatted ones do not belong together. */
export function commonIdentity(directories: readonly DataDirectory[]): DiskIdentity | null {
  let first: { readonly path: string; readonly superblock: Superblock } | null = null;
  for (const { path, superblock } of directories) {
    if (superblock === null) continue;
    first ??= { path, superblock };
    const other = first.superblock;
    const pair = `${first.path} and ${path} belong to different`;
    if (superblock.cluster !== other.cluster)
      throw new HoldfastError('WRONG_CLUSTER', `${pair} clusters`);
    if (superblock.node !== other.node) {
      const hint = 'Name only the directories of one node.';
      throw new HoldfastError('WRONG_NODE', `${pair} nodes`, { hint });
    }
  }
  return first === null ? null : { cluster: first.superblock.cluster, node: first.superblock.node };
}

/** Throws WRONG_CLUSTER unless the disks belong to the cluster of the metadata store. */
export function checkCluster(identity: DiskIdentity, stored: ClusterId, store: string): void {
  if (identity.cluster === stored) return;
  const { cluster } = identity;
  const message = `the data directory belongs to cluster ${cluster}, ${store} to ${stored}`;
  const hint = 'Check --metadata and --data-dir.';
  throw new HoldfastError('WRONG_CLUSTER', message, { hint });
}

/** Throws DISK_FULL when an empty directory has no room for its journal and the reserve. */
export function checkRoom(path: string, journalBytes: number): void {
  const { bavail, bsize } = statfsSync(path);
  const needed = journalBytes + DISK_RESERVE_BYTES;
  if (bavail * bsize >= needed) return;
  const mib = (bytes: number): string => `${Math.floor(bytes / 1024 ** 2)} MiB`;
  const message = `${path} has ${mib(bavail * bsize)} left, formatting needs ${mib(needed)}`;
  throw new HoldfastError('DISK_FULL', message, { hint: 'Free space, or give a larger disk.' });
}

/**
 * Before an empty directory is formatted: throws NOT_FOUND where a disk should be instead, as after
 * a start that came before the mount of its disk. Where all are empty the node is known by its
 * `address`, if that lasts; `nodes` are those registered and not removed.
 */
export function checkNotMissing(
  directories: readonly DataDirectory[],
  address: Address | null,
  nodes: readonly NodeRecord[],
): void {
  const node = commonIdentity(directories)?.node ?? null;
  const empty = directories.find(({ superblock }) => superblock === null);
  const record = nodes.find((one) => (node === null ? one.address === address : one.node === node));
  if (empty === undefined || record === undefined) return;
  const found = directories.map(({ superblock }) => superblock?.incarnation);
  const missing = record.disks.filter(({ incarnation }) => !found.includes(incarnation));
  if (missing.length === 0) return;
  const name = record.node.slice(0, 8);
  const lost =
    node === null
      ? `first take the node out with "holdfast node rm ${name} --force"`
      : 'start once without this directory, then with it';
  const whose = node === null ? `node ${name}, last seen at ${address},` : `this node, ${name},`;
  const hint = `Mount the disk there. If it is lost, ${lost}: its copies are made elsewhere.`;
  const message = `${empty.path} is empty, and ${whose} has a disk that is not found`;
  throw new HoldfastError('NOT_FOUND', message, { hint });
}
