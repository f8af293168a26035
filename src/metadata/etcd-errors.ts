/**
 * What etcd's and gRPC's errors mean to a caller. The one question that must never be answered
 * wrong is whether a transaction may have happened: it has not only when the server itself refused
 * it for a reason that it checks before applying; everything else is unknown.
 */
import { type ServiceError, status } from '@grpc/grpc-js';
import { type ErrorCode, type FaultOptions, HoldfastError } from '../core/errors.js';

/** What to do about a failed call. */
export type Verdict =
  /** Another endpoint, or this one later, may answer. */
  | 'elsewhere'
  /** The token is unknown there (restart, expiry, changed users): authenticate and call again. */
  | 'authenticate'
  /** The server looked at the request and refuses it: nothing happened. */
  | 'refused';

export function verdict(error: ServiceError): Verdict {
  const { code, details } = error;
  if (/invalid auth token|revision of auth store is old/.test(details)) return 'authenticate';
  switch (code) {
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
    case status.INVALID_ARGUMENT:
    case status.NOT_FOUND:
    case status.FAILED_PRECONDITION:
    case status.OUT_OF_RANGE:
    case status.UNIMPLEMENTED:
      return 'refused';
    case status.RESOURCE_EXHAUSTED:
      // gRPC says the same of a reply that is too large for us: then it may have happened.
      return /^etcdserver: /.test(details) ? 'refused' : 'elsewhere';
    default:
      return 'elsewhere';
  }
}

interface Meaning {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly message: string;
  readonly options: FaultOptions;
}

const CREDENTIALS: FaultOptions = {
  hint: 'Check user and password in --metadata (or HOLDFAST_ETCD_PASSWORD).',
};

const MEANINGS: readonly Meaning[] = [
  {
    pattern: /authentication failed/,
    code: 'UNAUTHENTICATED',
    message: 'wrong user or password',
    options: CREDENTIALS,
  },
  {
    pattern: /user name is empty/,
    code: 'UNAUTHENTICATED',
    message: 'etcd requires a user and a password',
    options: CREDENTIALS,
  },
  {
    pattern: /permission denied/,
    code: 'UNAUTHENTICATED',
    message: 'the user may not do this in etcd',
    options: { hint: 'Grant it a role with readwrite permission on the prefix /holdfast/.' },
  },
  {
    pattern: /lease not found/,
    code: 'NOT_FOUND',
    message: 'the lease has expired or was revoked',
    options: {},
  },
  {
    pattern: /revision has been compacted/,
    code: 'CONFLICT',
    message: 'the revision was compacted away',
    options: { retryable: true },
  },
  {
    pattern: /database space exceeded/,
    code: 'DISK_FULL',
    message: "etcd's database is full",
    options: { hint: 'Compact and defragment etcd, then disarm its alarm.' },
  },
  {
    pattern: /too many requests/,
    code: 'BUSY',
    message: 'etcd has too many requests',
    options: { retryable: true },
  },
  {
    pattern: /certificate|self.signed|altnames|CERT_|unable to (get|verify)|ERR_TLS/i,
    code: 'UNAVAILABLE',
    message: 'the TLS certificates do not fit',
    options: { retryable: true, hint: 'Check ca, cert and key in --metadata.' },
  },
];

/** A failed call as a fault; `where` says which store. */
export function faultOf(error: ServiceError, where: string): HoldfastError {
  const details = error.details === '' ? error.message : error.details;
  for (const { pattern, code, message, options } of MEANINGS) {
    if (!pattern.test(details)) continue;
    return new HoldfastError(code, `${where}: ${message} (${brief(details)})`, {
      ...options,
      cause: error,
    });
  }
  const refused = verdict(error) === 'refused';
  const code = refused ? 'INVALID_ARGUMENT' : 'UNAVAILABLE';
  const message = `${where}: ${refused ? 'refused' : 'cannot be reached'} (${brief(details)})`;
  return new HoldfastError(code, message, { retryable: !refused, cause: error });
}

/** gRPC's explanations in one short line. */
function brief(details: string): string {
  const cause = /Last error: (.*?)(?:\. Resolution note:.*)?$/s.exec(details)?.[1] ?? details;
  return cause.replace(/\s+/g, ' ').trim().slice(0, 200);
}
