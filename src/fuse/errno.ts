/**
 * Faults → errno, at the edge to the kernel and nowhere else. The numbers are Linux's own, as the
 * protocol demands on every machine.
 */
import { type ErrorCode, HoldfastError } from '../core/errors.js';
import { type Errno, FsError } from '../volume/filesystem-api.js';

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ENODATA: 61,
  EPROTO: 71,
  ENOTSUP: 95,
  ESTALE: 116,
  EDQUOT: 122,
} as const satisfies Record<Errno | 'EINTR' | 'ENOSYS' | 'ENOTTY' | 'EPROTO', number>;

/**
 * Faults that have a better errno than EIO. A fenced owner answers EIO too: no application knows
 * what else to do about it.
 */
const FAULTS: Partial<Record<ErrorCode, number>> = {
  DISK_FULL: ERRNO.ENOSPC,
  DISK_READ_ONLY: ERRNO.EROFS,
  INVALID_ARGUMENT: ERRNO.EINVAL,
  NOT_FOUND: ERRNO.ENOENT,
  ALREADY_EXISTS: ERRNO.EEXIST,
};

/** The errno of a fault, or undefined for what is no fault but a bug. */
export function errnoOf(thrown: unknown): number | undefined {
  if (thrown instanceof FsError) return ERRNO[thrown.errno];
  if (thrown instanceof HoldfastError) return FAULTS[thrown.code] ?? ERRNO.EIO;
  return undefined;
}
