/**
 * Faults as the standard's status codes, mapped here and nowhere else. What only the protocol
 * knows of (a range that cannot be met, a token of no list) is thrown as CsiError.
 */
import { type ErrorCode, HoldfastError } from '../core/errors.js';

/** The codes of gRPC that this driver answers with. */
export const StatusCode = {
  OK: 0,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
} as const;
export type StatusName = keyof typeof StatusCode;

export class CsiError extends Error {
  readonly status: StatusName;

  constructor(status: StatusName, message: string) {
    super(message);
    this.name = 'CsiError';
    this.status = status;
  }
}

/**
 * An orchestrator goes on retrying whatever it is told; ABORTED, DEADLINE_EXCEEDED and UNAVAILABLE
 * also tell it that the call may still have an effect, so that it undoes before it gives up.
 */
const STATUS: Readonly<Record<ErrorCode, StatusName>> = {
  INVALID_ARGUMENT: 'INVALID_ARGUMENT',
  MALFORMED: 'INTERNAL',
  VERSION: 'FAILED_PRECONDITION',
  NOT_FOUND: 'NOT_FOUND',
  ALREADY_EXISTS: 'ALREADY_EXISTS',
  WRONG_CLUSTER: 'FAILED_PRECONDITION',
  WRONG_NODE: 'FAILED_PRECONDITION',
  // Not the caller of this driver, but the driver at the nodes.
  UNAUTHENTICATED: 'FAILED_PRECONDITION',
  FENCED: 'FAILED_PRECONDITION',
  CONFLICT: 'FAILED_PRECONDITION',
  UNKNOWN_OUTCOME: 'ABORTED',
  UNAVAILABLE: 'UNAVAILABLE',
  TIMEOUT: 'DEADLINE_EXCEEDED',
  BUSY: 'FAILED_PRECONDITION',
  TOO_LARGE: 'RESOURCE_EXHAUSTED',
  DISK_FULL: 'RESOURCE_EXHAUSTED',
  DISK_READ_ONLY: 'INTERNAL',
  DISK_FAILED: 'INTERNAL',
  DISK_IN_USE: 'INTERNAL',
  DATA_LOST: 'DATA_LOSS',
  INCONSISTENT: 'INTERNAL',
  ADDRESS_IN_USE: 'INTERNAL',
  CLOSED: 'UNAVAILABLE',
};

export interface CallStatus {
  readonly status: StatusName;
  /** One sentence that says what happened, and where there is something to do, one for that. */
  readonly message: string;
}

export function statusOf(thrown: unknown): CallStatus {
  if (thrown instanceof CsiError) return { status: thrown.status, message: thrown.message };
  if (!(thrown instanceof HoldfastError)) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return { status: 'INTERNAL', message: sentence(message) };
  }
  const { code, retryable, message, hint } = thrown;
  // Somebody else is at work on it: that passes. In use without end: that does not.
  const isPassing = retryable && (code === 'BUSY' || code === 'CONFLICT');
  const text = hint === undefined ? sentence(message) : `${sentence(message)} ${hint}`;
  return { status: isPassing ? 'ABORTED' : STATUS[code], message: text };
}

function sentence(message: string): string {
  const text = message.replace(/\s*\n\s*/g, ' ');
  const first = text.slice(0, 1).toUpperCase();
  return /[.!?]$/.test(text) ? first + text.slice(1) : `${first}${text.slice(1)}.`;
}
