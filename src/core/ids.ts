/**
 * Branded identifiers. Every id is 128 random bits, written as 32 lower-case hex digits in memory,
 * in JSON and in messages to people, and as 16 raw bytes in binary formats. Brands keep a volume's
 * id from being passed where a segment's is meant; at run time they are plain strings, so they work
 * as Map keys.
 */
import { invalid } from './errors.js';

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The cluster: the nodes and volumes under one metadata store. */
export type ClusterId = Brand<string, 'ClusterId'>;
/** A storage node, kept in its disks' superblocks. */
export type NodeId = Brand<string, 'NodeId'>;
/**
 * One disk's current life. A disk whose data was lost or replaced takes a new one before it serves.
 */
export type Incarnation = Brand<string, 'Incarnation'>;
export type VolumeId = Brand<string, 'VolumeId'>;
/** A segment of one volume's log; never reused. */
export type SegmentId = Brand<string, 'SegmentId'>;
/** One attempt of one process to own a volume. */
export type OwnerId = Brand<string, 'OwnerId'>;

type AnyId = ClusterId | NodeId | Incarnation | VolumeId | SegmentId | OwnerId;

/** Bytes an id takes in binary formats. */
export const ID_BYTES = 16;
const ID_TEXT = /^[0-9a-f]{32}$/;

export function isId(text: string): boolean {
  return ID_TEXT.test(text);
}

/** No disk has this one. */
export const NO_DISK = '0'.repeat(ID_BYTES * 2) as Incarnation;

/** Checks that `text` is an id. Throws INVALID_ARGUMENT naming `what` otherwise. */
export function parseId<T extends AnyId>(text: string, what: string): T {
  if (!ID_TEXT.test(text))
    throw invalid(`${what} must be 32 hex digits, got "${text.slice(0, 64)}"`);
  return text as T;
}

/** Makes an id of 16 bytes from a cryptographic (or, in the simulator, seeded) source. */
export function idFromBytes<T extends AnyId>(bytes: Uint8Array): T {
  return Buffer.from(bytes.buffer, bytes.byteOffset, ID_BYTES).toString('hex') as T;
}
