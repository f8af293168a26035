/**
 * READDIR and READDIRPLUS. The filesystem's cookies name an entry for good, so a listing goes on
 * where it was after anything in between: other entries removed, the daemon replaced. `.` and `..`
 * are ours: the kernel's offset is 0 before `.`, 1 before `..`, and the filesystem's cookie plus 2
 * from there on.
 */
import {
  type Attributes,
  type DirectoryEntry,
  type Filesystem,
  FsError,
  type Inode,
} from '../volume/filesystem-api.js';
import { direntBytes, encodeDirent } from './encode.js';
import { MAX_LISTING_BYTES } from './limits.js';
import type { ReadDirectory } from './operations.js';
import { Mode } from './protocol.js';

const OWN_ENTRIES = 2;
const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

/** Writes what fits into `out` from `start` on; returns where it ends. */
export function encodeListing(
  filesystem: Filesystem,
  directory: Inode,
  request: ReadDirectory,
  out: Buffer,
  start: number,
): number {
  const { plus } = request;
  const limit = start + Math.min(request.size, MAX_LISTING_BYTES);
  let at = start;
  const add = (entry: DirectoryEntry, isOwn: boolean): boolean => {
    if (at + direntBytes(entry.name.length, plus) > limit) return false;
    at = encodeDirent(out, at, entry, plus ? attributesOf(entry, isOwn) : undefined);
    return true;
  };
  const attributesOf = (entry: DirectoryEntry, isOwn: boolean): Attributes | null =>
    isOwn ? null : lookupOrNull(filesystem, directory, entry.name);
  for (let own = request.cookie; own < OWN_ENTRIES; own++) {
    const inode = own === 0 ? directory : parentOf(filesystem, directory);
    const name = own === 0 ? DOT : DOT_DOT;
    if (!add({ name, inode, type: Mode.DIRECTORY, cookie: own + 1 }, true)) return at;
  }
  const cookie = Math.max(0, request.cookie - OWN_ENTRIES);
  filesystem.readdir(directory, cookie, ({ name, inode, type, cookie: behind }) =>
    add({ name, inode, type, cookie: behind + OWN_ENTRIES }, false),
  );
  return at;
}

/** Counts as a lookup by the kernel. Null where the name is gone: the kernel will look it up. */
function lookupOrNull(filesystem: Filesystem, parent: Inode, name: Buffer): Attributes | null {
  try {
    return filesystem.lookup(parent, name);
  } catch (thrown) {
    if (thrown instanceof FsError) return null;
    throw thrown;
  }
}

/** For `..`, which the kernel only shows to the application: the reference is given back. */
function parentOf(filesystem: Filesystem, directory: Inode): Inode {
  const parent = lookupOrNull(filesystem, directory, DOT_DOT);
  if (parent === null) return directory;
  filesystem.forget(parent.inode, 1);
  return parent.inode;
}
