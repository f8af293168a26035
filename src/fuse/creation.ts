/**
 * What a new file gets from its directory: group and setgid bit from a setgid directory, and, in
 * place of the umask, the directory's default ACL. The kernel leaves this to us (FUSE_DONT_MASK).
 * Changes are made in an order in which a crash between two of them leaves fewer permissions, never
 * more.
 */
import type { Attributes, Caller, Filesystem, Inode } from '../volume/filesystem-api.js';
import { ACL_ACCESS, ACL_DEFAULT, inheritAcl } from './acl.js';
import { Mode } from './protocol.js';

export interface Wanted {
  readonly parent: Inode;
  /** As the caller asked: with the file type, without the umask. */
  readonly mode: number;
  readonly umask: number;
  readonly caller: Caller;
}

/** Makes a file by `make`, which is told the final mode (but see the header) and owner. */
export function createIn(
  filesystem: Filesystem,
  wanted: Wanted,
  make: (mode: number, owner: Caller) => Attributes,
): Attributes {
  const { parent, caller } = wanted;
  const directory = filesystem.getattr(parent);
  const setgid = (directory.mode & Mode.SETGID) !== 0;
  const owner = setgid ? { uid: caller.uid, gid: directory.gid } : caller;
  const isDirectory = (wanted.mode & Mode.TYPE) === Mode.DIRECTORY;
  const mode = setgid && isDirectory ? wanted.mode | Mode.SETGID : wanted.mode;
  if (!filesystem.listxattr(parent).includes(ACL_DEFAULT)) {
    return make(mode & ~(wanted.umask & 0o777), owner);
  }
  const inherited = filesystem.getxattr(parent, ACL_DEFAULT);
  const { mode: allowed, stored } = inheritAcl(inherited, mode);
  let made = make(stored === null ? allowed : allowed & ~0o070, owner);
  if (isDirectory) filesystem.setxattr(made.inode, ACL_DEFAULT, Buffer.from(inherited), 0);
  if (stored !== null) {
    filesystem.setxattr(made.inode, ACL_ACCESS, stored, 0);
    made = filesystem.setattr(made.inode, { mode: allowed & Mode.PERMISSIONS });
  } else if (isDirectory) {
    made = filesystem.getattr(made.inode);
  }
  return made;
}
