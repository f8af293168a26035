/**
 * Random sequences of system calls. A step is plain numbers whose meaning does not depend on other
 * steps, so that any part of a sequence is a sequence: what fast-check shrinks stays valid. Files
 * have few names in few directories, and few handles, so that steps meet.
 */
import fc from 'fast-check';
import type { Call } from '../fixtures/syscalls.js';

/** Weights: how often each kind is made. */
const KINDS = {
  open: 10,
  close: 2,
  pwrite: 12,
  append: 4,
  pread: 6,
  direct: 6,
  truncate: 5,
  fallocate: 8,
  copy: 6,
  mapWrite: 6,
  mapRead: 3,
  mapKeep: 2,
  mapDirty: 5,
  mapLook: 2,
  mkdir: 4,
  rmdir: 2,
  unlink: 5,
  link: 4,
  symlink: 2,
  rename: 8,
  tmpfile: 2,
  chmod: 2,
  xattr: 5,
  look: 4,
  seekEnd: 1,
  fsync: 3,
  tree: 2,
  remount: 1,
  crash: 1,
} as const;

export type Kind = keyof typeof KINDS;

export interface Step {
  readonly kind: Kind;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

const number = fc.nat(0xffff);
const kind = fc.oneof(
  ...Object.entries(KINDS).map(([name, weight]) => ({
    arbitrary: fc.constant(name as Kind),
    weight,
  })),
);

export function sequences(maxLength: number): fc.Arbitrary<Step[]> {
  const step = fc.record<Step>({ kind, a: number, b: number, c: number, d: number });
  return fc.array(step, { maxLength, size: 'max' });
}

const FILES = ['a', 'b', 'c', 'p/a', 'p/b', 'q/a', 'p/r/a'];
const DIRECTORIES = ['p', 'q', 'p/r', 'q/s'];
const PATHS = [...FILES, ...FILES, ...DIRECTORIES];
const HANDLES = ['h0', 'h1', 'h2', 'h3'];
/** Opened with O_DIRECT, for aligned calls alone: local filesystems refuse others. */
const DIRECT = ['d0', 'd1'];
const MAPPINGS = ['m0', 'm1'];
const FLAGS = [
  'O_RDWR|O_CREAT',
  'O_RDWR|O_CREAT',
  'O_RDWR|O_CREAT',
  'O_RDWR',
  'O_RDWR|O_TRUNC',
  'O_RDWR|O_CREAT|O_APPEND',
  'O_RDWR|O_CREAT|O_EXCL',
  'O_RDONLY',
  'O_WRONLY|O_CREAT',
];
/** What each part begins with, so that most calls find something. */
const BEGIN: readonly Call[] = [
  ['mkdir', 'p'],
  ['mkdir', 'q'],
  ['mkdir', 'p/r'],
  ['open', 'h0', 'a', 'O_RDWR|O_CREAT'],
  ['open', 'h1', 'p/a', 'O_RDWR|O_CREAT'],
  ['open', 'h2', 'q/a', 'O_RDWR|O_CREAT|O_APPEND'],
  ['open', 'd0', 'a', 'O_RDWR|O_DIRECT'],
];
/** Edges of pages, of extent chunks and of what one request carries, and between them. */
const OFFSETS = [0, 0, 1, 100, 4095, 4096, 4097, 8192, 12_000, 40_960, 131_071, 1_048_575];
const LENGTHS = [1, 10, 100, 4095, 4096, 4097, 8192, 20_000, 70_000, 300_000];
const FALLOCATE_MODES = [0, 1, 3, 3, 3, 16, 17];

function pick<T>(list: readonly T[], index: number): T {
  return list[index % list.length] as T;
}

function offsetOf(n: number): number {
  return pick(OFFSETS, n) + ((n >>> 8) % 4) * 1_000;
}

/** Multiples of a page. */
function alignedOffset(n: number): number {
  return Math.floor(pick(OFFSETS, n) / 4096) * 4096;
}

function alignedLength(n: number): number {
  return Math.ceil(pick(LENGTHS, n) / 4096) * 4096;
}

/** The system call that a step stands for; `index` makes its data its own. */
export function callOf(step: Step, index: number): Call {
  const { kind, a, b, c, d } = step;
  const path = pick(PATHS, a);
  const other = pick(PATHS, b);
  switch (kind) {
    case 'mkdir':
    case 'rmdir':
      return [kind, pick(d % 4 === 0 ? PATHS : DIRECTORIES, a)];
    case 'open':
      return d % 5 === 0
        ? ['open', pick(DIRECT, b), path, 'O_RDWR|O_CREAT|O_DIRECT']
        : ['open', pick(HANDLES, b), path, pick(FLAGS, c)];
    case 'unlink':
      return ['unlink', path];
    case 'link':
      return ['link', path, other];
    case 'symlink':
      return ['symlink', other, path];
    case 'rename':
      return ['rename', path, other, c % 4 === 3 ? 0 : c % 3];
    case 'tmpfile':
      return c % 2 === 0
        ? ['open', pick(HANDLES, b), '.', 'O_TMPFILE|O_RDWR']
        : ['linkfd', pick(HANDLES, b), path];
    case 'chmod':
      return ['chmod', path, 0o600 + (b % 0o100)];
    case 'xattr':
      return d % 3 === 0
        ? ['removexattr', path, `user.${b % 3}`]
        : ['setxattr', path, `user.${b % 3}`, [index, 1 + (c % 200), 'count'], d % 3];
    case 'look':
      return ['kind', d % 2 === 0 ? path : pick(HANDLES, b)];
    case 'tree':
    case 'remount':
    case 'crash':
      return ['tree'];
    default:
      return dataCall(step, index);
  }
}

function dataCall({ kind, a, b, c, d }: Step, index: number): Call {
  const handle = pick(HANDLES, a);
  const offset = offsetOf(b);
  const length = pick(LENGTHS, c);
  const data = [index, length, 'count'];
  switch (kind) {
    case 'close':
      return ['close', d % 5 === 0 ? pick(DIRECT, a) : handle];
    case 'pwrite':
      return ['pwrite', handle, data, offset];
    case 'append':
      return ['write', handle, data];
    case 'pread':
      return ['pread', handle, length, offset];
    case 'direct':
      return d % 2 === 0
        ? ['direct_write', pick(DIRECT, a), [index, alignedLength(c), 'count'], alignedOffset(b)]
        : ['direct_read', pick(DIRECT, a), alignedLength(c), alignedOffset(b)];
    case 'truncate':
      return d % 2 === 0 ? ['ftruncate', handle, offset] : ['truncate', pick(PATHS, a), offset];
    case 'fallocate':
      return ['fallocate', handle, pick(FALLOCATE_MODES, d), offset, length];
    case 'copy':
      return ['copy', handle, offset, pick(HANDLES, a >>> 8), offsetOf(d), length];
    case 'mapWrite':
      return ['map_write', handle, data, offset];
    case 'mapRead':
      return ['map_read', handle, length, offset];
    case 'mapKeep':
      return ['map_keep', pick(MAPPINGS, b), handle];
    case 'mapDirty':
      return ['map_dirty', pick(MAPPINGS, a), data, offset];
    case 'mapLook':
      return ['map_look', pick(MAPPINGS, a), length, offset];
    case 'seekEnd':
      return ['seek_end', handle, -(c % 3)];
    default:
      return ['fsync', handle];
  }
}

/** The calls between remounts and crashes; each part but the first begins with one of them. */
export interface Part {
  readonly before: 'remount' | 'crash' | null;
  readonly calls: readonly Call[];
}

export function partsOf(steps: readonly Step[]): Part[] {
  const parts: { before: Part['before']; calls: Call[] }[] = [{ before: null, calls: [...BEGIN] }];
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'remount' || step.kind === 'crash') {
      parts.push({ before: step.kind, calls: [...BEGIN] });
    }
    parts.at(-1)?.calls.push(callOf(step, index));
  }
  return parts;
}
