/** Sizes as people write them. Units are powers of 1024 and are written so: GiB, not GB. */
import { invalid } from './errors.js';

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
  PIB: 1024 ** 5,
};
const SIZE = /^(\d{1,16}(?:\.\d{1,6})?) ?([a-z]*)$/i;
const HINT = 'Write a number and a unit: 64MiB, 10GiB, 1.5TiB.';

/**
 * Bytes of "10GiB", "1.5 TiB", "10Gi", "10G" or "4096". Throws INVALID_ARGUMENT naming `what`; GB
 * and the like are refused, since half the world means powers of 1000 by them.
 */
export function parseSize(text: string, what = 'size'): number {
  const match = SIZE.exec(text.trim());
  if (match === null) throw invalid(`${what} "${text.slice(0, 40)}" is not a size`, HINT);
  const [, number, unit = ''] = match;
  const name = unit.toUpperCase();
  const full = name === '' ? 'B' : /^[KMGTP]I?$/.test(name) ? `${name[0]}IB` : name;
  const scale = UNITS[full];
  if (scale === undefined) {
    throw invalid(`${what} "${text.slice(0, 40)}": unit "${unit}" is not known`, HINT);
  }
  const bytes = Number(number) * scale;
  if (Number.isSafeInteger(bytes)) return bytes;
  throw invalid(`${what} "${text.slice(0, 40)}" is not a whole number of bytes below 8 PiB`, HINT);
}

/** "10 GiB", "1.5 TiB", "512 B". */
export function formatSize(bytes: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let at = 0;
  while (value >= 1024 && at < names.length - 1) {
    value /= 1024;
    at += 1;
  }
  const number = at === 0 || value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
  return `${number} ${names[at]}`;
}
