/**
 * What the processes of one machine say to each other about an embedded metadata store: lines of
 * JSON over a unix socket. The server greets with the protocol's version; each request has a number
 * that its reply repeats; a watch's number comes back with its snapshot and its events.
 */
import { malformed } from '../core/errors.js';
import { MIB } from '../core/units.js';
import type { Compare, KeyValue, LeaseId, Operation, WatchEvent } from './store.js';

export const PROTOCOL = 1;
/** A line: a snapshot of everything may be large, nothing is larger. */
export const LINE_MAX_BYTES = 256 * MIB;
/** A client that takes nothing while this much waits for it is cut off, and begins again. */
export const CLIENT_MAX_QUEUED_BYTES = 64 * MIB;

export type RequestBody =
  | { readonly type: 'get'; readonly key: string }
  | {
      readonly type: 'range';
      readonly prefix: string;
      readonly limit?: number;
      readonly after?: string;
      /** Servers that do not know it answer with the values as well. */
      readonly keysOnly?: boolean;
    }
  | {
      readonly type: 'transact';
      readonly compare: readonly Compare[];
      readonly operations: readonly Operation[];
    }
  | { readonly type: 'grant'; readonly ttlSeconds: number }
  | { readonly type: 'keepAlive'; readonly lease: LeaseId }
  | { readonly type: 'revoke'; readonly lease: LeaseId }
  | { readonly type: 'watch'; readonly prefix: string }
  | { readonly type: 'unwatch'; readonly watch: number };

export interface Request {
  readonly id: number;
  readonly body: RequestBody;
}

export type ServerMessage =
  | { readonly type: 'hello'; readonly protocol: number }
  | { readonly type: 'reply'; readonly id: number; readonly value: unknown }
  | {
      readonly type: 'error';
      readonly id: number;
      readonly code: string;
      readonly message: string;
    }
  | {
      readonly type: 'snapshot';
      readonly id: number;
      readonly entries: readonly KeyValue[];
      readonly revision: number;
    }
  | {
      readonly type: 'events';
      readonly id: number;
      readonly events: readonly WatchEvent[];
      readonly revision: number;
    };

export function encodeLine(message: Request | ServerMessage): string {
  return `${JSON.stringify(message)}\n`;
}

/** Cuts a stream of bytes into parsed lines. Throws MALFORMED. */
export class LineReader {
  #parts: Buffer[] = [];
  #length = 0;

  push(data: Buffer): unknown[] {
    const messages: unknown[] = [];
    let from = 0;
    for (let at = data.indexOf(10); at !== -1; at = data.indexOf(10, from)) {
      this.#parts.push(data.subarray(from, at));
      messages.push(parse(Buffer.concat(this.#parts).toString('utf8')));
      this.#parts = [];
      this.#length = 0;
      from = at + 1;
    }
    const rest = data.subarray(from);
    this.#length += rest.length;
    if (this.#length > LINE_MAX_BYTES) throw malformed('embedded metadata: a line is too long');
    if (rest.length > 0) this.#parts.push(rest);
    return messages;
  }
}

function parse(line: string): unknown {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Reported below.
  }
  throw malformed('embedded metadata: a line is not a message');
}
