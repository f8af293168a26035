/**
 * What every request must have before anything is looked up: that it names what it is about, within
 * the standard's limits. Each function returns what it was given, or throws.
 */
import { posix } from 'node:path';
import { CsiError } from './errors.js';
import type { Text } from './messages.js';

const TEXT_MAX_BYTES = 128;
const NODE_ID_MAX_BYTES = 256;
const MAP_MAX_BYTES = 4096;
const PATH_MAX_BYTES = 4096;

export function invalidArgument(message: string): CsiError {
  return new CsiError('INVALID_ARGUMENT', message);
}

export function noVolume(id: string): CsiError {
  return new CsiError('NOT_FOUND', `There is no volume ${id.slice(0, TEXT_MAX_BYTES)}.`);
}

export function requiredName(name: string): string {
  if (name === '') throw missing('name');
  // Some orchestrators make them names of files or of keys: what could not be one is a mistake.
  if (/[\p{Cc}]/u.test(name)) throw invalidArgument('The name has control characters.');
  return bounded('name', name, TEXT_MAX_BYTES);
}

/** Any text: which of them are volumes is found out later. */
export function requiredVolumeId(id: string): string {
  if (id === '') throw missing('volume_id');
  return id;
}

export function requiredNodeId(id: string): string {
  if (id === '') throw missing('node_id');
  return bounded('node_id', id, NODE_ID_MAX_BYTES);
}

/** An absolute path that says what it means. */
export function requiredPath(field: string, path: string): string {
  if (path === '') throw missing(field);
  bounded(field, path, PATH_MAX_BYTES);
  if (!posix.isAbsolute(path)) throw invalidArgument(`${field} "${path}" is not absolute.`);
  if (path.includes('\0')) throw invalidArgument(`${field} has a NUL in it.`);
  const plain = posix.normalize(path).replace(/(.)\/$/, '$1');
  if (path.split('/').includes('..')) throw invalidArgument(`${field} "${path}" has ".." in it.`);
  if (plain === '/') throw invalidArgument(`${field} is the root of the machine.`);
  return plain;
}

export function boundedMap(field: string, map: Text): Text {
  let bytes = 0;
  for (const [key, value] of Object.entries(map)) {
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (bytes <= MAP_MAX_BYTES) return map;
  throw invalidArgument(`${field} has ${bytes} bytes; ${MAP_MAX_BYTES} are allowed.`);
}

function missing(field: string): CsiError {
  return invalidArgument(`${field} is missing.`);
}

function bounded(field: string, text: string, maxBytes: number): string {
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxBytes) return text;
  throw invalidArgument(`${field} has ${bytes} bytes; ${maxBytes} are allowed.`);
}
