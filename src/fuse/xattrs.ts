/**
 * Extended attributes, with what ACLs mean beyond being attributes: setting an access ACL sets the
 * mode bits, chmod changes the ACL, and an ACL that says no more than the mode bits is not kept.
 * Everything else, `security.capability` too, is stored as it comes.
 */
import { type Attributes, type Filesystem, FsError, type Inode } from '../volume/filesystem-api.js';
import { ACL_ACCESS, ACL_DEFAULT, applyAccessAcl, chmodAcl } from './acl.js';
import type { SetXattr } from './operations.js';
import { Mode } from './protocol.js';

export const CAPABILITY = 'security.capability';
/** Only privileged processes may know of them; the kernel leaves leaving them out to us. */
const TRUSTED = 'trusted.';
const NAMESPACES = ['user.', 'security.', TRUSTED];

export function has(filesystem: Filesystem, inode: Inode, name: string): boolean {
  return filesystem.listxattr(inode).includes(name);
}

/** Names that Linux gives no meaning would be lost by every other filesystem. */
function requireKnown(name: string): void {
  if (name === ACL_ACCESS || name === ACL_DEFAULT) return;
  if (NAMESPACES.some((prefix) => name.startsWith(prefix))) return;
  throw new FsError('ENOTSUP', 'an attribute of no known namespace');
}

export function setXattr(filesystem: Filesystem, inode: Inode, request: SetXattr): void {
  const { name, flags, killSgid } = request;
  requireKnown(name);
  if (NAMESPACES.includes(name)) throw new FsError('EINVAL', 'an attribute without a name');
  if (name !== ACL_ACCESS) {
    filesystem.setxattr(inode, name, Buffer.from(request.value), flags);
    return;
  }
  const before = filesystem.getattr(inode);
  const { mode, stored } = applyAccessAcl(request.value, before.mode);
  const allowed = killSgid ? mode & ~Mode.SETGID : mode;
  if (stored !== null) filesystem.setxattr(inode, name, stored, flags);
  else if (has(filesystem, inode, name)) filesystem.removexattr(inode, name);
  if (allowed !== before.mode) filesystem.setattr(inode, { mode: allowed & Mode.PERMISSIONS });
}

/** Removing an ACL that is not there is no error: the mode bits were all there was. */
export function removeXattr(filesystem: Filesystem, inode: Inode, name: string): void {
  const isAcl = name === ACL_ACCESS || name === ACL_DEFAULT;
  requireKnown(name);
  if (isAcl && !has(filesystem, inode, name)) return;
  filesystem.removexattr(inode, name);
}

/** Brings the access ACL, if there is one, in line with a mode that chmod is about to set. */
export function followChmod(filesystem: Filesystem, inode: Inode, mode: number): void {
  if (!has(filesystem, inode, ACL_ACCESS)) return;
  const acl = chmodAcl(filesystem.getxattr(inode, ACL_ACCESS), mode);
  filesystem.setxattr(inode, ACL_ACCESS, acl, 0);
}

/** Whether a write by somebody without CAP_FSETID has privileges to take from this file. */
export function hasPrivileges(filesystem: Filesystem, attributes: Attributes): boolean {
  if ((attributes.mode & (Mode.SETUID | Mode.SETGID)) !== 0) return true;
  return has(filesystem, attributes.inode, CAPABILITY);
}

/** Writing takes capabilities, also from root; the kernel does that but for what is O_DIRECT. */
export function dropCapability(filesystem: Filesystem, inode: Inode): void {
  if (has(filesystem, inode, CAPABILITY)) filesystem.removexattr(inode, CAPABILITY);
}

/** The reply to LISTXATTR: each name that the caller may know, and a NUL. */
export function listXattrs(filesystem: Filesystem, inode: Inode, uid: number): Buffer {
  const all = filesystem.listxattr(inode);
  const names = uid === 0 ? all : all.filter((name) => !name.startsWith(TRUSTED));
  return Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
}
