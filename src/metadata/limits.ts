/**
 * Bounds of every metadata store, so that what one accepts all accept. They stay below etcd's
 * defaults (128 operations and 1.5 MiB a request), and are checked before anything is sent.
 */
import { invalid } from '../core/errors.js';
import { KIB, MIB } from '../core/units.js';
import type { Compare, Operation } from './store.js';

export const KEY_MAX_BYTES = 1 * KIB;
export const TRANSACTION_MAX_OPERATIONS = 100;
/** Keys and values of one transaction. */
export const TRANSACTION_MAX_BYTES = 1 * MIB;
/** As Linux bounds a path. */
export const MOUNT_POINT_MAX_BYTES = 4 * KIB;
/** Machines that may use one volume. */
export const ATTACHMENTS_MAX = 1_000;
/** A page of a range over a whole prefix. */
export const RANGE_PAGE = 1_000;

const KEY = /^\/[\x21-\x7e]*$/;

export function checkKey(key: string): void {
  if (!KEY.test(key) || key.length > KEY_MAX_BYTES) {
    throw invalid(`metadata key "${key.slice(0, 80)}" is not an ASCII path`);
  }
}

/** A prefix must end in '/', so that /a/2/ never finds what is under /a/20/. */
export function checkPrefix(prefix: string): void {
  checkKey(prefix);
  if (!prefix.endsWith('/')) throw invalid(`metadata prefix "${prefix}" must end in "/"`);
}

/** Throws INVALID_ARGUMENT for what some store would refuse. */
export function checkTransaction(
  compare: readonly Compare[],
  operations: readonly Operation[],
): void {
  const count = Math.max(compare.length, operations.length);
  if (count > TRANSACTION_MAX_OPERATIONS) {
    throw invalid(`a transaction of ${count}, at most ${TRANSACTION_MAX_OPERATIONS} are allowed`);
  }
  for (const one of compare) checkKey(one.key);
  const keys = new Set<string>();
  for (const operation of operations) {
    checkKey(operation.key);
    if (keys.has(operation.key)) throw invalid(`"${operation.key}" stands twice in a transaction`);
    keys.add(operation.key);
  }
  const bytes = transactionBytes(operations);
  if (bytes > TRANSACTION_MAX_BYTES) {
    throw invalid(`a transaction of ${bytes} bytes, at most ${TRANSACTION_MAX_BYTES} are allowed`);
  }
}

/** What the operations count against TRANSACTION_MAX_BYTES. */
export function transactionBytes(operations: readonly Operation[]): number {
  let bytes = 0;
  for (const operation of operations) {
    bytes += operation.key.length;
    if (operation.type === 'put') bytes += Buffer.byteLength(operation.value, 'utf8');
  }
  return bytes;
}

/** The first key behind all keys that begin with `prefix`. */
export function prefixEnd(prefix: string): string {
  checkPrefix(prefix);
  return `${prefix.slice(0, -1)}0`; // '0' is the character after '/'
}
