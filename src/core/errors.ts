/**
 * Faults as typed errors. A fault is something the world did (a disk failed, a peer is old, a name
 * is taken); it carries a stable `code` and whether the same call may succeed later. Bugs are not
 * faults: they assert (assert.ts) and stop the process. Codes are mapped to errno, gRPC, HTTP and
 * exit codes at the edges only.
 */

/** Stable codes. Scripts and the edges depend on them: never rename one. */
export const ErrorCode = {
  INVALID_ARGUMENT: 'INVALID_ARGUMENT',
  /** Bytes that do not follow their format (wrong magic, bad checksum, impossible length). */
  MALFORMED: 'MALFORMED',
  /** The format or protocol version is one this program does not speak. */
  VERSION: 'VERSION',
  NOT_FOUND: 'NOT_FOUND',
  ALREADY_EXISTS: 'ALREADY_EXISTS',
  /** The peer, disk or store belongs to another cluster or node. */
  WRONG_CLUSTER: 'WRONG_CLUSTER',
  WRONG_NODE: 'WRONG_NODE',
  /** The peer does not know the cluster's secret, or we do not. */
  UNAUTHENTICATED: 'UNAUTHENTICATED',
  /** A newer owner exists; this one has stopped for good. */
  FENCED: 'FENCED',
  /** Compare-and-swap found another value. */
  CONFLICT: 'CONFLICT',
  /** It may or may not have happened; read back before deciding. */
  UNKNOWN_OUTCOME: 'UNKNOWN_OUTCOME',
  UNAVAILABLE: 'UNAVAILABLE',
  TIMEOUT: 'TIMEOUT',
  /** Work was refused because a queue is at its limit. */
  BUSY: 'BUSY',
  /**
   * More than the metadata store takes under one key or in one transaction, or than a machine takes
   * of volumes.
   */
  TOO_LARGE: 'TOO_LARGE',
  DISK_FULL: 'DISK_FULL',
  DISK_READ_ONLY: 'DISK_READ_ONLY',
  DISK_FAILED: 'DISK_FAILED',
  DISK_IN_USE: 'DISK_IN_USE',
  /** No good copy of the bytes is left. */
  DATA_LOST: 'DATA_LOST',
  /** Stored state contradicts itself; stopped rather than guessed. */
  INCONSISTENT: 'INCONSISTENT',
  ADDRESS_IN_USE: 'ADDRESS_IN_USE',
  CLOSED: 'CLOSED',
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export interface FaultOptions {
  /** May the same call succeed later without anybody changing it? Default false. */
  readonly retryable?: boolean;
  /** What a person should do next, as one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** A fault: what happened, to what, and (hint) what to do next. */
export class HoldfastError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: FaultOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'HoldfastError';
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.hint = options.hint;
  }
}

export function invalid(message: string, hint?: string): HoldfastError {
  return new HoldfastError('INVALID_ARGUMENT', message, hint === undefined ? {} : { hint });
}

export function malformed(message: string): HoldfastError {
  return new HoldfastError('MALFORMED', message);
}

/** Anything thrown, as a fault; a non-fault keeps its message under `code`. */
export function asFault(thrown: unknown, code: ErrorCode): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new HoldfastError(code, message, { cause: thrown });
}
