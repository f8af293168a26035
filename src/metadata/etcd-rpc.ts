/**
 * The few remote procedures of etcd's v3 API that Holdfast uses, as a wire-compatible subset of its
 * protocol buffers (field numbers as in etcd's rpc.proto and kv.proto; unknown fields are skipped),
 * held as a descriptor in code so that no .proto file has to be shipped and found.
 *
 * Why not etcd3 1.1.2: its connection pool retries every call up to three times on "recoverable"
 * errors, transactions among them, so that a compare-and-swap whose reply was lost is sent again
 * and answered "not committed"; its leases renew themselves and judge their age by the wall clock;
 * calls have no deadline of their own. Here six unary calls and two streams are all there is, and
 * each of these is ours to decide.
 */
import type { MethodDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/** 64-bit integers travel as decimal text, so that lease ids keep all their digits. */
export type Int64 = string;

export interface RpcHeader {
  readonly revision: Int64;
}
export interface RpcKeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: Int64;
}
export interface RangeRequest {
  readonly key: Buffer;
  readonly range_end?: Buffer;
  readonly limit?: number;
  /** 0: the newest, read linearizably. */
  readonly revision?: Int64;
  readonly keys_only?: boolean;
}
export interface RangeResponse {
  readonly header: RpcHeader;
  readonly kvs: readonly RpcKeyValue[];
  readonly more: boolean;
}
export interface RpcCompare {
  /** Equal. */
  readonly result: 0;
  /** The key's mod revision. */
  readonly target: 2;
  readonly key: Buffer;
  readonly mod_revision: Int64;
}
export type RequestOp =
  | { readonly request_put: { key: Buffer; value: Buffer; lease: Int64 } }
  | { readonly request_delete_range: { key: Buffer } };
export interface TxnRequest {
  readonly compare: readonly RpcCompare[];
  readonly success: readonly RequestOp[];
}
export interface TxnResponse {
  readonly header: RpcHeader;
  readonly succeeded: boolean;
}
export interface WatchRequest {
  readonly create_request: { key: Buffer; range_end: Buffer; start_revision: Int64 };
}
export interface RpcEvent {
  /** 0: put, 1: delete. */
  readonly type: number;
  readonly kv: RpcKeyValue;
}
export interface WatchResponse {
  readonly header: RpcHeader;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compact_revision: Int64;
  readonly cancel_reason: string;
  readonly events: readonly RpcEvent[];
}
export interface LeaseGrantResponse {
  readonly ID: Int64;
  readonly TTL: Int64;
  readonly error: string;
}
export interface LeaseKeepAliveResponse {
  /** 0 when the lease is gone. */
  readonly TTL: Int64;
}

/** What one member says of itself. */
export interface StatusResponse {
  readonly version: string;
  readonly dbSize: Int64;
  /** 0 when it knows none. */
  readonly leader: Int64;
  /** Alarms among them, such as "memberID:… alarm:NOSPACE". */
  readonly errors: readonly string[];
  /** 0 from members that do not tell (before 3.6). */
  readonly dbSizeQuota: Int64;
}

const field = (type: string, id: number) => ({ type, id });
const list = (type: string, id: number) => ({ rule: 'repeated' as const, type, id });
const method = (requestType: string, responseType: string, stream = false) => ({
  requestType,
  responseType,
  requestStream: stream,
  responseStream: stream,
});

const KV_MESSAGES = {
  ResponseHeader: { fields: { revision: field('int64', 3) } },
  KeyValue: {
    fields: { key: field('bytes', 1), mod_revision: field('int64', 3), value: field('bytes', 5) },
  },
  RangeRequest: {
    fields: {
      key: field('bytes', 1),
      range_end: field('bytes', 2),
      limit: field('int64', 3),
      revision: field('int64', 4),
      keys_only: field('bool', 8),
    },
  },
  RangeResponse: {
    fields: {
      header: field('ResponseHeader', 1),
      kvs: list('KeyValue', 2),
      more: field('bool', 3),
    },
  },
  PutRequest: {
    fields: { key: field('bytes', 1), value: field('bytes', 2), lease: field('int64', 3) },
  },
  DeleteRangeRequest: { fields: { key: field('bytes', 1) } },
  RequestOp: {
    oneofs: { request: { oneof: ['request_put', 'request_delete_range'] } },
    fields: {
      request_put: field('PutRequest', 2),
      request_delete_range: field('DeleteRangeRequest', 3),
    },
  },
  Compare: {
    oneofs: { target_union: { oneof: ['mod_revision'] } },
    fields: {
      result: field('int32', 1),
      target: field('int32', 2),
      key: field('bytes', 3),
      mod_revision: field('int64', 6),
    },
  },
  TxnRequest: { fields: { compare: list('Compare', 1), success: list('RequestOp', 2) } },
  TxnResponse: { fields: { header: field('ResponseHeader', 1), succeeded: field('bool', 2) } },
};

const OTHER_MESSAGES = {
  WatchRequest: {
    oneofs: { request_union: { oneof: ['create_request'] } },
    fields: { create_request: field('WatchCreateRequest', 1) },
  },
  WatchCreateRequest: {
    fields: {
      key: field('bytes', 1),
      range_end: field('bytes', 2),
      start_revision: field('int64', 3),
    },
  },
  Event: { fields: { type: field('int32', 1), kv: field('KeyValue', 2) } },
  WatchResponse: {
    fields: {
      header: field('ResponseHeader', 1),
      created: field('bool', 3),
      canceled: field('bool', 4),
      compact_revision: field('int64', 5),
      cancel_reason: field('string', 6),
      events: list('Event', 11),
    },
  },
  LeaseGrantRequest: { fields: { TTL: field('int64', 1), ID: field('int64', 2) } },
  LeaseGrantResponse: {
    fields: { ID: field('int64', 2), TTL: field('int64', 3), error: field('string', 4) },
  },
  LeaseRevokeRequest: { fields: { ID: field('int64', 1) } },
  LeaseRevokeResponse: { fields: {} },
  LeaseKeepAliveRequest: { fields: { ID: field('int64', 1) } },
  LeaseKeepAliveResponse: { fields: { ID: field('int64', 2), TTL: field('int64', 3) } },
  StatusRequest: { fields: {} },
  StatusResponse: {
    fields: {
      version: field('string', 2),
      dbSize: field('int64', 3),
      leader: field('uint64', 4),
      errors: list('string', 8),
      dbSizeQuota: field('int64', 12),
    },
  },
  AuthenticateRequest: { fields: { name: field('string', 1), password: field('string', 2) } },
  AuthenticateResponse: { fields: { token: field('string', 2) } },
};

const SERVICES = {
  KV: {
    methods: {
      Range: method('RangeRequest', 'RangeResponse'),
      Txn: method('TxnRequest', 'TxnResponse'),
    },
  },
  Watch: { methods: { Watch: method('WatchRequest', 'WatchResponse', true) } },
  Lease: {
    methods: {
      LeaseGrant: method('LeaseGrantRequest', 'LeaseGrantResponse'),
      LeaseRevoke: method('LeaseRevokeRequest', 'LeaseRevokeResponse'),
      LeaseKeepAlive: method('LeaseKeepAliveRequest', 'LeaseKeepAliveResponse', true),
    },
  },
  Maintenance: { methods: { Status: method('StatusRequest', 'StatusResponse') } },
  Auth: { methods: { Authenticate: method('AuthenticateRequest', 'AuthenticateResponse') } },
};

const DESCRIPTOR = {
  nested: { etcdserverpb: { nested: { ...KV_MESSAGES, ...OTHER_MESSAGES, ...SERVICES } } },
};

const definition = fromJSON(DESCRIPTOR as unknown as Parameters<typeof fromJSON>[0], {
  keepCase: true,
  longs: String,
  enums: Number,
  defaults: true,
  arrays: true,
  oneofs: true,
});

/** An rpc: its path and how its messages become bytes. */
export type Rpc<Request, Response> = MethodDefinition<Request, Response>;

function rpc<Request, Response>(service: string, name: string): Rpc<Request, Response> {
  const found = definition[`etcdserverpb.${service}`] as unknown as Record<string, unknown>;
  return found[name] as Rpc<Request, Response>;
}

export const RPC = {
  range: rpc<RangeRequest, RangeResponse>('KV', 'Range'),
  txn: rpc<TxnRequest, TxnResponse>('KV', 'Txn'),
  watch: rpc<WatchRequest, WatchResponse>('Watch', 'Watch'),
  leaseGrant: rpc<{ TTL: number }, LeaseGrantResponse>('Lease', 'LeaseGrant'),
  leaseRevoke: rpc<{ ID: Int64 }, unknown>('Lease', 'LeaseRevoke'),
  leaseKeepAlive: rpc<{ ID: Int64 }, LeaseKeepAliveResponse>('Lease', 'LeaseKeepAlive'),
  status: rpc<object, StatusResponse>('Maintenance', 'Status'),
  authenticate: rpc<{ name: string; password: string }, { token: string }>('Auth', 'Authenticate'),
};
