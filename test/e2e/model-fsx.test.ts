/**
 * One file, and every way to write and read it at random, against the bytes that must be in it:
 * each read is compared to the byte, and so is the whole file after remounts and crashes. Found
 * differences are shrunk (model-search.ts).
 */
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { test } from 'tap';
import { type Call, Syscalls } from '../fixtures/syscalls.js';
import { search, searchFor } from './model-search.js';
import { startTarget, type Target } from './posix-target.js';

const MAX_STEPS = 150;
/** Beyond the first MiB, where a chunk of extents ends. */
const MAX_BYTES = 1_500_000;
const MAX_LENGTH = 200_000;
const PAGE = 4096;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;

const KINDS = [
  ...['write', 'write', 'write', 'mapWrite', 'mapWrite', 'direct', 'direct', 'append'],
  ...['truncate', 'punch', 'punch', 'zero', 'allocate', 'copy', 'copy', 'fromOther'],
  ...['read', 'read', 'mapRead', 'directRead', 'size', 'fsync', 'reopen'],
] as const;
const RARE = ['remount', 'crash'] as const;
type Kind = (typeof KINDS)[number] | (typeof RARE)[number];

interface Step {
  readonly kind: Kind;
  readonly at: number;
  readonly length: number;
  readonly to: number;
}

/** Mostly near the beginning, so that steps meet; half of them at edges of pages. */
const position = fc.oneof(
  { arbitrary: fc.nat(40_000), weight: 3 },
  { arbitrary: fc.nat(10).map((page) => page * PAGE), weight: 3 },
  { arbitrary: fc.nat(MAX_BYTES), weight: 1 },
  { arbitrary: fc.nat(Math.floor(MAX_BYTES / PAGE)).map((page) => page * PAGE), weight: 1 },
);
const extent = fc.oneof(
  { arbitrary: fc.integer({ min: 1, max: 9_000 }), weight: 3 },
  { arbitrary: fc.integer({ min: 1, max: 5 }).map((pages) => pages * PAGE), weight: 3 },
  { arbitrary: fc.integer({ min: 1, max: MAX_LENGTH }), weight: 1 },
);
const kind = fc.oneof(
  { arbitrary: fc.constantFrom<Kind>(...KINDS), weight: 80 },
  { arbitrary: fc.constantFrom<Kind>(...RARE), weight: 1 },
);
const steps = fc.array(fc.record<Step>({ kind, at: position, length: extent, to: position }), {
  maxLength: MAX_STEPS,
  size: 'max',
});

/** As `count` of syscalls.py. */
function counted(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = (seed + i) % 251;
  return bytes;
}

/** As `shown` of syscalls.py. */
function shown(bytes: Buffer): unknown {
  if (bytes.length <= 64) return bytes.toString('latin1');
  return { bytes: bytes.length, crc: crc32(bytes) };
}

const OTHER = counted(7, 300_000);

/** What must be in the file, and the calls that put it there with what they must come to. */
class Expected {
  #bytes = Buffer.alloc(0);
  readonly #aligned: boolean;

  constructor(aligned: boolean) {
    this.#aligned = aligned;
  }

  get whole(): unknown {
    return shown(this.#bytes);
  }

  #grow(size: number): void {
    if (size <= this.#bytes.length) return;
    this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(size - this.#bytes.length)]);
  }

  #put(at: number, bytes: Uint8Array): number {
    this.#grow(at + bytes.length);
    this.#bytes.set(bytes, at);
    return bytes.length;
  }

  #get(at: number, length: number): unknown {
    return shown(this.#bytes.subarray(at, at + length));
  }

  #zero(at: number, length: number): void {
    this.#bytes.subarray(at, at + length).fill(0);
  }

  /** The call that a step stands for, and its value. */
  step({ kind, at, length, to }: Step, index: number): [call: Call, value: unknown] {
    const data = [index, length, 'count'];
    const size = this.#bytes.length;
    switch (kind) {
      case 'write':
        return [['pwrite', 'f', data, at], this.#put(at, counted(index, length))];
      case 'append':
        return [['write', 'end', data], this.#put(size, counted(index, length))];
      case 'mapWrite': {
        const bytes = counted(index, length).subarray(0, Math.max(0, size - at));
        return [['map_write', 'f', data, at], bytes.length === 0 ? 0 : this.#put(at, bytes)];
      }
      case 'truncate':
        this.#bytes = this.#bytes.subarray(0, at);
        this.#grow(at);
        return [['ftruncate', 'f', at], null];
      case 'read':
        return [['pread', 'f', length, at], this.#get(at, length)];
      case 'mapRead':
        return [['map_read', 'f', length, at], this.#get(at, length)];
      case 'size':
        return [['lseek', 'f', 0, 'SEEK_END'], size];
      case 'reopen':
        return [['open', 'f', 'file', 'O_RDWR'], null];
      default:
        return this.#rest({ kind, at, length, to }, index);
    }
  }

  #rest({ kind, at, length, to }: Step, index: number): [call: Call, value: unknown] {
    switch (kind) {
      case 'direct':
      case 'directRead': {
        const from = this.#aligned ? at - (at % PAGE) : at;
        const count = this.#aligned ? Math.ceil(length / PAGE) * PAGE : length;
        if (kind === 'directRead') {
          return [['direct_read', 'direct', count, from], this.#get(from, count)];
        }
        const call: Call = ['direct_write', 'direct', [index, count, 'count'], from];
        return [call, this.#put(from, counted(index, count))];
      }
      case 'punch':
        this.#zero(at, length);
        return [['fallocate', 'f', PUNCH_HOLE | KEEP_SIZE, at, length], null];
      case 'zero': {
        const keeps = to % 2 === 0;
        if (!keeps) this.#grow(at + length);
        this.#zero(at, length);
        return [['fallocate', 'f', ZERO_RANGE | (keeps ? KEEP_SIZE : 0), at, length], null];
      }
      case 'allocate': {
        const keeps = to % 2 === 0;
        if (!keeps) this.#grow(at + length);
        return [['fallocate', 'f', keeps ? KEEP_SIZE : 0, at, length], null];
      }
      case 'copy': {
        const bytes = Buffer.from(this.#bytes.subarray(at, at + length));
        // Overlapping ranges are refused: they are tested elsewhere.
        if (at < to + bytes.length && to < at + bytes.length) return [['fsync', 'f'], null];
        return [['copy', 'f', at, 'f', to, length], bytes.length && this.#put(to, bytes)];
      }
      case 'fromOther': {
        const bytes = OTHER.subarray(at % OTHER.length).subarray(0, length);
        return [['copy', 'o', at % OTHER.length, 'f', to, length], this.#put(to, bytes)];
      }
      default:
        return [['fsync', 'f'], null];
    }
  }
}

class File {
  #target: Target | null = null;
  #syscalls = new Syscalls();
  calls = 0;

  async sequence(sequence: readonly Step[]): Promise<void> {
    this.#target ??= await startTarget();
    const expected = new Expected(!this.#target.isVolume);
    const { directory } = this.#target;
    await this.#syscalls.run([
      ['chdir', directory],
      ['open', 'f', 'file', 'O_RDWR|O_CREAT|O_TRUNC'],
      ['open', 'o', 'other', 'O_RDWR|O_CREAT|O_TRUNC'],
      ['pwrite', 'o', [7, OTHER.length, 'count'], 0],
      ['release'],
    ]);
    try {
      await this.#parts(this.#target, expected, sequence);
    } catch (error) {
      await this.end();
      this.#syscalls = new Syscalls();
      throw error;
    }
  }

  async #parts(target: Target, expected: Expected, sequence: readonly Step[]): Promise<void> {
    let part: [Call, unknown][] = [];
    for (const [index, step] of sequence.entries()) {
      const { kind } = step;
      if (kind !== 'remount' && kind !== 'crash') {
        part.push(expected.step(step, index));
        continue;
      }
      await this.#part(target.directory, expected, [...part, [['fsync', 'f'], null]]);
      await target[kind]();
      part = [];
    }
    await this.#part(target.directory, expected, part);
  }

  async #part(directory: string, expected: Expected, part: [Call, unknown][]): Promise<void> {
    const open: Call[] = [
      ['chdir', directory],
      ['open', 'f', 'file', 'O_RDWR'],
      ['open', 'end', 'file', 'O_RDWR|O_APPEND'],
      ['open', 'direct', 'file', 'O_RDWR|O_DIRECT'],
      ['open', 'o', 'other', 'O_RDONLY'],
    ];
    const last: [Call, unknown] = [['cat', 'file'], expected.whole];
    const all: [Call, unknown][] = [...part, last, [['release'], null]];
    const answers = await this.#syscalls.run([...open, ...all.map(([call]) => call)]);
    this.calls += answers.length;
    for (const [index, [call, value]] of all.entries()) {
      const [found, wanted] = [answers[index + open.length], { v: value }].map((answer) =>
        JSON.stringify(answer),
      );
      if (found === wanted) continue;
      throw new Error(`${JSON.stringify(call)}\nfound ${found}\nwanted ${wanted}`);
    }
  }

  async end(): Promise<unknown> {
    const stats = await this.#target?.stats().catch(() => null);
    await this.#syscalls.end();
    await this.#target?.end();
    this.#target = null;
    return stats;
  }
}

test('a file holds what was written to it', search, async (t) => {
  const file = new File();
  await searchFor(t, steps, (sequence) => file.sequence(sequence));
  const stats = await file.end();
  t.comment(`${file.calls} calls`, stats);
});
