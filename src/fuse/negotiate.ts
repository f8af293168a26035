/**
 * What the kernel offers → what we agree on, once per connection. Pure. Each flag says why it is
 * asked for or left out; docs/FUSE.md has the long form.
 */
import type { InitReply } from './encode.js';
import {
  CONGESTION_THRESHOLD,
  MAX_BACKGROUND,
  MAX_PAGES,
  MAX_READAHEAD_BYTES,
  MAX_WRITE_BYTES,
} from './limits.js';
import type { Init } from './operations.js';
import {
  InitFlag,
  InitFlag2,
  PROTOCOL_MAJOR,
  PROTOCOL_MIN_MINOR,
  PROTOCOL_MINOR,
} from './protocol.js';

/**
 * Asked for wherever the kernel has them. Left out on purpose: WRITEBACK_CACHE (a later write could
 * become durable before an earlier one), POSIX_LOCKS and FLOCK_LOCKS (the kernel's own locks are
 * right for a single owner), NO_OPEN_SUPPORT (each open decides whether it is direct),
 * ATOMIC_O_TRUNC (truncation as a SETATTR of its own says whether privileges go), READDIRPLUS_AUTO
 * (who reads a directory to its end before looking at the entries gets a LOOKUP for nearly each).
 */
export const WANTED_FLAGS =
  InitFlag.ASYNC_READ |
  InitFlag.EXPORT_SUPPORT |
  InitFlag.BIG_WRITES |
  InitFlag.DONT_MASK |
  InitFlag.DO_READDIRPLUS |
  InitFlag.ASYNC_DIO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.POSIX_ACL |
  InitFlag.MAX_PAGES |
  InitFlag.HANDLE_KILLPRIV_V2 |
  InitFlag.SETXATTR_EXT |
  InitFlag.INIT_EXT;

/** DIRECT_IO_ALLOW_MMAP: a file opened with O_DIRECT can be mapped shared, as on ext4. */
export const WANTED_FLAGS2 = InitFlag2.DIRECT_IO_ALLOW_MMAP | InitFlag2.HAS_RESEND;

export type Negotiation =
  | { readonly kind: 'agreed'; readonly reply: InitReply }
  /** The kernel speaks a later major version, and asks again in ours when told which it is. */
  | { readonly kind: 'ask-again'; readonly reply: InitReply }
  | { readonly kind: 'too-old'; readonly version: string };

export function negotiate(init: Init): Negotiation {
  const { major, minor } = init;
  if (major < PROTOCOL_MAJOR || (major === PROTOCOL_MAJOR && minor < PROTOCOL_MIN_MINOR)) {
    return { kind: 'too-old', version: `${major}.${minor}` };
  }
  const reply: InitReply = {
    major: PROTOCOL_MAJOR,
    minor: Math.min(minor, PROTOCOL_MINOR),
    // More than was offered: the kernel takes what the mounter has allowed by sysfs, up to this.
    maxReadahead: MAX_READAHEAD_BYTES,
    flags: init.flags & WANTED_FLAGS,
    flags2: (init.flags & InitFlag.INIT_EXT) === 0 ? 0 : init.flags2 & WANTED_FLAGS2,
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite: MAX_WRITE_BYTES,
    maxPages: MAX_PAGES,
  };
  return { kind: major > PROTOCOL_MAJOR ? 'ask-again' : 'agreed', reply };
}
