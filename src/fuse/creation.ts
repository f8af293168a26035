/**
 * What a new file gets from its directory: group and setgid bit from a setgid directory, and, in
 * place of the umask, the directory's default ACL. The kernel leaves this to us (FUSE_DONT_MASK).
 * Changes are made in an order in which a crash between two of them leaves fewer permissions, never
 * more.
 */
import type { Attributes, Caller, Filesystem, Inode } from '../volume/filesystem-api.js';
import { ACL_ACCESS, ACL_DEFAULT, inheritAcl } from './acl.js';
import { ERRNO, errnoOf } from './errno.js';
import { Mode } from './protocol.js';

export interface Wanted {
  readonly parent: Inode;
  /** In memory of its own; null for a file without a name. */
  readonly name: Buffer | null;
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
  const made = make(stored === null ? allowed : allowed & ~0o070, owner);
  const { inode } = made;
  try {
    if (isDirectory) filesystem.setxattr(inode, ACL_DEFAULT, Buffer.from(inherited), 0);
    if (stored === null) return isDirectory ? filesystem.getattr(inode) : made;
    filesystem.setxattr(inode, ACL_ACCESS, stored, 0);
    return filesystem.setattr(inode, { mode: allowed & Mode.PERMISSIONS });
  } catch (thrown) {
    if (errnoOf(thrown) === ERRNO.ENOSPC) unmake(filesystem, wanted, inode);
    throw thrown;
  }
}

/**
 * The volume had room for the file and not for its ACL. The call fails, and the kernel goes on to
 * say that there is no such name.
 */
function unmake(filesystem: Filesystem, { parent, name, mode }: Wanted, inode: Inode): void {
  if (name !== null) {
    if ((mode & Mode.TYPE) === Mode.DIRECTORY) filesystem.rmdir(parent, name);
    else filesystem.unlink(parent, name);
  }
  filesystem.forget(inode, 1);
}
