/**
 * POSIX access control lists as the kernel carries them in `system.posix_acl_access` and
 * `system.posix_acl_default`. With FUSE_POSIX_ACL the kernel checks permissions by them, and leaves
 * to us what acl(5) says of their relation to the mode bits: which bits an access ACL stands for,
 * what chmod does to it, and what a new file inherits from its directory. Pure functions.
 */
import { FsError } from '../volume/filesystem-api.js';

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_DEFAULT = 'system.posix_acl_default';

/** Tags of entries, in the order in which a list has them. */
const Tag = { OWNER: 0x01, USER: 0x02, GROUP_OWNER: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 };
const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

/** Throws EINVAL for what is not an ACL: the kernel has checked what users pass. */
function parseAcl(value: Buffer): AclEntry[] {
  const rest = value.length - HEADER_BYTES;
  if (rest < 0 || rest % ENTRY_BYTES !== 0 || value.readUInt32LE(0) !== VERSION) {
    throw new FsError('EINVAL', 'not a POSIX ACL');
  }
  const entries: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < value.length; at += ENTRY_BYTES) {
    const tag = value.readUInt16LE(at);
    const permissions = value.readUInt16LE(at + 2);
    if (permissions > 7) throw new FsError('EINVAL', `ACL permissions ${permissions}`);
    entries.push({ tag, permissions, id: value.readUInt32LE(at + 4) });
  }
  for (const tag of [Tag.OWNER, Tag.GROUP_OWNER, Tag.OTHER]) {
    if (!entries.some((entry) => entry.tag === tag)) throw new FsError('EINVAL', 'incomplete ACL');
  }
  return entries;
}

function formatAcl(entries: readonly AclEntry[]): Buffer {
  const value = Buffer.alloc(HEADER_BYTES + entries.length * ENTRY_BYTES);
  value.writeUInt32LE(VERSION, 0);
  for (const [index, entry] of entries.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    value.writeUInt16LE(entry.tag, at);
    value.writeUInt16LE(entry.permissions, at + 2);
    value.writeUInt32LE(entry.id, at + 4);
  }
  return value;
}

/** The nine permission bits that a list stands for: the mask, if any, is what group shows. */
function permissionBits(entries: readonly AclEntry[]): number {
  const of = (tag: number): number | undefined =>
    entries.find((entry) => entry.tag === tag)?.permissions;
  const group = of(Tag.MASK) ?? of(Tag.GROUP_OWNER) ?? 0;
  return ((of(Tag.OWNER) ?? 0) << 6) | (group << 3) | (of(Tag.OTHER) ?? 0);
}

function isMinimal(entries: readonly AclEntry[]): boolean {
  return entries.every((entry) => [Tag.OWNER, Tag.GROUP_OWNER, Tag.OTHER].includes(entry.tag));
}

export interface AppliedAcl {
  /** st_mode with the bits that the list stands for. */
  readonly mode: number;
  /** What to store, or null when the mode bits say it all. */
  readonly stored: Buffer | null;
}

/** What setting an access ACL does to a file. */
export function applyAccessAcl(value: Buffer, mode: number): AppliedAcl {
  const entries = parseAcl(value);
  const applied = (mode & ~0o777) | permissionBits(entries);
  return { mode: applied, stored: isMinimal(entries) ? null : Buffer.from(value) };
}

/** An access ACL after chmod: owner, mask (without one, the owning group) and other follow. */
export function chmodAcl(value: Buffer, mode: number): Buffer {
  const entries = parseAcl(value);
  const group = entries.some((entry) => entry.tag === Tag.MASK) ? Tag.MASK : Tag.GROUP_OWNER;
  return formatAcl(
    entries.map((entry) => {
      if (entry.tag === Tag.OWNER) return { ...entry, permissions: (mode >> 6) & 7 };
      if (entry.tag === group) return { ...entry, permissions: (mode >> 3) & 7 };
      if (entry.tag === Tag.OTHER) return { ...entry, permissions: mode & 7 };
      return entry;
    }),
  );
}

/**
 * What a new file inherits from its directory's default ACL, in place of the umask: the list with
 * owner, mask (or owning group) and other cut down to the mode that was asked for.
 */
export function inheritAcl(value: Buffer, mode: number): AppliedAcl {
  const inherited = parseAcl(value);
  const group = inherited.some((entry) => entry.tag === Tag.MASK) ? Tag.MASK : Tag.GROUP_OWNER;
  const entries = inherited.map((entry) => {
    if (entry.tag === Tag.OWNER) return cut(entry, mode >> 6);
    if (entry.tag === group) return cut(entry, mode >> 3);
    if (entry.tag === Tag.OTHER) return cut(entry, mode);
    return entry;
  });
  const applied = (mode & ~0o777) | permissionBits(entries);
  return { mode: applied, stored: isMinimal(entries) ? null : formatAcl(entries) };
}

function cut(entry: AclEntry, bits: number): AclEntry {
  return { ...entry, permissions: entry.permissions & bits & 7 };
}
